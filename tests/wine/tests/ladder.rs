//! Steps of a stop that are no signals: requests and commands, and all that may go wrong with them.

use keepwell_sdk::wire::Event;
use keepwell_wine::{Guardian, free_port, needs_wine, wait_until};

/// Longer than any test: a step that is waited for to its end fails the test.
const LONG: &str = "1h";

/// Stops a service and gives what was told of it until it was down.
fn stop(g: &Guardian, service: &str) -> Vec<String> {
    g.cli(&["stop", service]).good();
    let of = |e: &&Event| e.service.as_deref() == Some(service);
    let down = |all: &[Event]| all.iter().rfind(of).is_some_and(|e| e.state.as_deref() == Some("stopped"));
    let events = g.wait_events("the end", down);
    events.iter().filter(of).map(|e| e.text.clone()).collect()
}

fn has(lines: &[String], text: &str) {
    assert!(lines.iter().any(|l| l.contains(text)), "`{text}` is not in {lines:#?}");
}

fn has_not(lines: &[String], text: &str) {
    assert!(!lines.iter().any(|l| l.contains(text)), "`{text}` is in {lines:#?}");
}

#[test]
fn a_request_or_a_command_ends_a_program_and_no_secret_of_it_is_told() {
    needs_wine!();
    let port = free_port();
    let ready = |port: u16| format!("ready = {{ tcp = '127.0.0.1:{port}', period = '200ms' }}");
    let g = Guardian::up(&format!(
        "[services.asked]\ncommand = 'CHILD http {port}'\n{}\nenv = {{ TOKEN = 's3cret' }}\n\
         stop = [{{ http = 'http://127.0.0.1:{port}/quit?token=${{TOKEN}}', wait = '{LONG}' }}, {{ signal = 'KILL', wait = '{LONG}' }}]\n\
         [services.told]\ncommand = 'CHILD until gate 7'\nenv = {{ TOKEN = 's3cret' }}\n\
         stop = [{{ command = ['CHILD', 'touch', 'gate', '${{TOKEN}}'], wait = '{LONG}' }}, {{ signal = 'KILL', wait = '{LONG}' }}]\n",
        ready(port),
    ));
    g.wait_state("asked", &["ready"]);
    let lines = stop(&g, "asked");
    has(&lines, &format!("stop step 1: HTTP POST http://127.0.0.1:{port}/quit"));
    has(&lines, "exit code 7");
    has_not(&lines, "stop step 2");
    has_not(&lines, "token");
    g.wait_log("asked", "POST /quit?token=s3cret");
    g.cli(&["explain", "asked"]).good().says(&["/quit: worked"]);

    let lines = stop(&g, "told");
    has(&lines, "stop step 1: command ");
    has(&lines, "exit code 7");
    has_not(&lines, "stop step 2");
    has_not(&lines, "s3cret");
    g.cli(&["explain", "told"]).good().says(&["command ", ": worked"]);
    g.end();
}

#[test]
fn what_fails_or_hangs_gives_way_to_the_next_step() {
    needs_wine!();
    let (port, closed) = (free_port(), free_port());
    let cases = [
        (
            "refused",
            format!("http = 'http://127.0.0.1:{closed}/quit', wait = '{LONG}'"),
            "connection refused by",
        ),
        (
            "bad",
            format!("http = 'http://127.0.0.1:{port}/no', wait = '{LONG}'"),
            "answered 500 Internal Server Error",
        ),
        ("silent", format!("http = 'http://127.0.0.1:{port}/hang', wait = '500ms'"), "no answer within"),
        ("missing", format!("command = ['no-such-program'], wait = '{LONG}'"), "no-such-program"),
        ("code", format!("command = ['CHILD', 'exit', '3'], wait = '{LONG}'"), "exit code 3"),
        (
            "hangs",
            "command = ['CHILD', 'grandchildren', 'left'], wait = '3s'".to_owned(),
            "did not end within",
        ),
    ];
    let mut config = format!(
        "[services.server]\ncommand = 'CHILD http {port}'\nready = {{ tcp = '127.0.0.1:{port}', period = '200ms' }}\n"
    );
    for (name, step, _) in &cases {
        config += &format!(
            "[services.{name}]\ncommand = 'CHILD hang'\nstop = [{{ {step} }}, {{ signal = 'KILL', wait = '{LONG}' }}]\n"
        );
    }
    let g = Guardian::up(&config);
    g.wait_state("server", &["ready"]);
    for (name, _, reason) in &cases {
        let lines = stop(&g, name);
        has(&lines, "stop step 1 failed");
        has(&lines, reason);
        has(&lines, "stop step 2: SIGKILL to the main process");
    }
    // What the command that was ended had left behind went with the tree.
    wait_until("the server alone to be left", || g.prefix().children().len() == 1);
    g.end();
}
