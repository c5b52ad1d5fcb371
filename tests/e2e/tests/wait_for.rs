//! What is none of ours must be there before a start.

use std::net::TcpListener;

use keepwell_e2e::{Guardian, free_port, wait_until};

#[test]
fn a_start_waits_for_a_port_and_a_file() {
    let port = free_port();
    let g = Guardian::up(&format!(
        "[services.web]\ncommand = 'CHILD hang'\nwait_for = ['tcp://127.0.0.1:{port}', 'file:gate', 'mount:/proc']\n\
         [services.other]\ncommand = 'CHILD hang'\n\
         [services.after]\ncommand = 'CHILD hang'\ndepends_on = ['web']\n"
    ));
    g.wait_state("other", &["running"]);
    g.wait_state("web", &["waiting"]);
    let refused = format!("tcp 127.0.0.1:{port}: connection refused by 127.0.0.1:{port}");
    wait_until("the first look", || g.cli(&["explain", "web"]).all().contains(&refused));
    g.cli(&["explain", "web"]).good().says(&[
        "web waits for tcp",
        "file gate: ",
        "the start has failed in",
        "it is looked for again in",
    ]);
    assert!(!g.cli(&["explain", "web"]).all().contains("mount"), "what is there is not named");
    g.cli(&["status"]).says(&["waits for tcp"]);
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    wait_until("the port to be seen", || !g.cli(&["explain", "web"]).all().contains("tcp"));
    g.wait_state("web", &["waiting"]);
    g.write("gate", "");
    g.wait_state("web", &["running"]);
    g.wait_state("after", &["running"]);
    g.end();
}

#[test]
fn what_does_not_come_fails_the_start_or_is_done_without() {
    let g = Guardian::up(
        "[defaults]\nrestart = { delay = '100ms' }\nwait_for = { on = 'file:gate', timeout = '2s' }\n\
         [services.fails]\ncommand = 'CHILD hang'\n\
         [services.starts]\ncommand = 'CHILD hang'\nwait_for = { after = 'start_anyway' }\n\
         [services.asks]\ncommand = 'CHILD hang'\nwait_for = { run = ['sh', '-c', 'test -e holiday'] }\n",
    );
    g.wait_state("starts", &["running"]);
    let failed = |name: &str| {
        g.events().iter().any(|e| {
            e.kind == "state_changed" && e.service.as_deref() == Some(name) && e.text.contains("backing off")
        })
    };
    wait_until("failed starts", || failed("fails") && failed("asks"));
    let events = g.events();
    let said = |text: &str| events.iter().any(|e| e.text.contains(text));
    assert!(
        said("starts all the same: what it waits for was not there within 2 s: file gate: "),
        "{events:#?}"
    );
    assert!(said("its fallback command failed: exit code 1"), "{events:#?}");
    g.write("holiday", "");
    g.wait_state("asks", &["running"]);
    g.write("gate", "");
    g.wait_state("fails", &["running"]);
    g.end();
}

#[test]
fn a_new_daemon_waits_on_and_a_reload_ends_a_wait() {
    let g = Guardian::up("[services.web]\ncommand = 'CHILD hang'\nwait_for = 'file:gate'\n");
    g.wait_state("web", &["waiting"]);
    let daemon = g.daemon();
    keepwell_e2e::sys::kill(daemon, 9);
    wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    wait_until("the wait", || g.cli(&["explain", "web"]).all().contains("web waits for file gate: "));
    g.cli(&["stop", "web"]).good();
    g.wait_state("web", &["stopped"]);
    g.cli(&["start", "web", "--no-wait"]);
    g.wait_state("web", &["waiting"]);
    let config = std::fs::read_to_string(g.path("keepwell.toml")).expect("it was written");
    g.write("keepwell.toml", &config.replace("wait_for = 'file:gate'\n", ""));
    g.cli(&["reload"]).good();
    g.wait_state("web", &["running"]);
    g.end();
}
