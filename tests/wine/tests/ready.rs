//! Every kind of readiness that Windows has.

use keepwell_wine::{Guardian, free_port, needs_wine};

/// `slow` is not ready before `open` lets it, and `after` starts only then.
fn gated(ready: &str, command: &str, open: impl FnOnce(&Guardian)) {
    let g = Guardian::up(&format!(
        "[services.slow]\ncommand = '{command}'\nready = {ready}\n\
         [services.after]\ncommand = 'CHILD hang'\ndepends_on = {{ slow = 'ready' }}\n"
    ));
    let all = g.wait_for("slow started", |all| all.iter().any(|s| s.name == "slow" && s.pid.is_some()));
    let of = |name: &str| all.iter().find(|s| s.name == name).expect("it is configured");
    let (slow, after) = (of("slow"), of("after"));
    assert_eq!((slow.state.as_str(), after.state.as_str()), ("starting", "waiting"));
    assert!(after.blockers.iter().any(|b| b.service == "slow"), "{after:?}");
    open(&g);
    g.wait_state("slow", &["ready"]);
    g.wait_state("after", &["running"]);
    assert_eq!(g.service("slow").restarts, 0);
    g.end();
}

#[test]
fn by_http() {
    needs_wine!();
    let port = free_port();
    let ready = format!("{{ http = 'http://127.0.0.1:{port}/ready', period = '200ms', timeout = '1m' }}");
    gated(&ready, &format!("CHILD http {port} --gate gate"), |g| g.write("gate", ""));
}

#[test]
fn by_tcp() {
    needs_wine!();
    let port = free_port();
    let ready = format!("{{ tcp = '127.0.0.1:{port}', period = '200ms', timeout = '1m' }}");
    gated(&ready, "CHILD hang", |_| {
        // Somebody who listens; who it is a check cannot tell.
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        std::thread::spawn(move || listener.incoming().for_each(drop));
    });
}

#[test]
fn by_exec() {
    needs_wine!();
    gated("{ exec = ['CHILD', 'exists', 'gate'], period = '500ms', timeout = '1m' }", "CHILD hang", |g| {
        g.write("gate", "");
    });
}

#[test]
fn by_file() {
    needs_wine!();
    gated("{ file = 'gate', period = '200ms', timeout = '1m' }", "CHILD hang", |g| g.write("gate", ""));
}

#[test]
fn by_a_line_of_output() {
    needs_wine!();
    let command = "CHILD late-line gate \"listening on :80\"";
    gated("{ log = '^listening on .*:\\d+', timeout = '1m' }", command, |g| g.write("gate", ""));
}
