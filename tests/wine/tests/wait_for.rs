//! What is none of ours must be there before a start.

use std::net::TcpListener;

use keepwell_wine::{Guardian, free_port, needs_wine};

#[test]
fn a_start_waits_for_a_port_a_file_a_drive_and_a_service() {
    needs_wine!();
    let port = free_port();
    let mut g = Guardian::new(&format!(
        "[services.a]\ncommand = 'CHILD hang'\n\
         wait_for = ['tcp://127.0.0.1:{port}', 'file:gate', 'mount:C:\\', 'service:PlugPlay']\n\
         [services.b]\ncommand = 'CHILD hang'\n\
         wait_for = {{ on = ['mount:C:\\windows', 'service:no such service'], timeout = '1s', after = 'start_anyway' }}\n"
    ));
    g.start(&[]);
    g.wait_answering();
    let explained = || g.cli(&["explain", "a"]).all();
    g.wait_for("the first look", |_| explained().contains("connection refused"));
    let first = explained();
    assert!(first.contains("file gate: ") && !first.contains("mount"), "{first}");
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    g.wait_for("the port to be seen", |_| !explained().contains("tcp"));
    g.write("gate", "");
    g.wait_state("a", &["running"]);
    g.wait_state("b", &["running"]);
    let events = g.events();
    let told = events.iter().find(|e| e.text.contains("starts all the same")).map(|e| e.text.as_str());
    let told = told.expect("it was told");
    for words in ["mount C:\\windows: nothing is mounted there", "service no such service: "] {
        assert!(told.contains(words), "{told}");
    }
    g.end();
}
