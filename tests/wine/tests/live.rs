//! Checks that go on.

use std::fs;

use keepwell_wine::{Guardian, free_port, needs_wine};

/// Answers fail for want of a file, by every kind of check; the program is started anew as often as the budget allows.
fn ended_once(live: &str, command: &str) {
    let mut g = Guardian::new(&format!(
        "[healing]\nlimit = {{ max = 1, window = '1h' }}\n\
         [services.a]\ncommand = '{command}'\nrestart = {{ delay = '100ms' }}\nstop = []\nlive = {live}\n"
    ));
    g.write("gate", "");
    g.start(&[]);
    g.wait_answering();
    g.wait_state("a", &["running"]);
    g.wait_for("a pass", |_| g.cli(&["explain", "a"]).all().contains("passes"));
    let first = g.pid("a");
    fs::remove_file(g.path("gate")).expect("it was written");
    let all = g.wait_for("the budget to be spent", |all| all[0].state == "degraded");
    assert_eq!(all[0].restarts, 1, "{all:?}");
    assert_ne!(g.pid("a"), first);
    g.cli(&["explain", "a"]).good().says(&["left running", "the budget of this host (1 in 60 min) is spent"]);
    g.write("gate", "");
    g.wait_state("a", &["running"]);
    g.end();
}

#[test]
fn by_exec() {
    needs_wine!();
    ended_once(
        "{ exec = ['CHILD', 'exists', 'gate'], period = '500ms', timeout = '30s', failure_threshold = 2 }",
        "CHILD hang",
    );
}

#[test]
fn by_http() {
    needs_wine!();
    let port = free_port();
    let live = format!(
        "{{ http = 'http://127.0.0.1:{port}/ready', period = '200ms', timeout = '10s', failure_threshold = 2 }}"
    );
    ended_once(&live, &format!("CHILD http {port} --gate gate"));
}

#[test]
fn lost_readiness_degrades_and_restarts_nobody() {
    needs_wine!();
    let mut g = Guardian::new(
        "[services.db]\ncommand = 'CHILD hang'\n\
         ready = { exec = ['CHILD', 'exists', 'gate'], period = '500ms', timeout = '30s', failure_threshold = 1 }\n\
         [services.api]\ncommand = 'CHILD hang'\ndepends_on = ['db']\n",
    );
    g.write("gate", "");
    g.start(&[]);
    g.wait_answering();
    g.wait_state("db", &["ready"]);
    g.wait_state("api", &["running"]);
    fs::remove_file(g.path("gate")).expect("it was written");
    g.wait_state("db", &["degraded"]);
    g.wait_state("api", &["degraded"]);
    g.write("gate", "");
    g.wait_state("db", &["ready"]);
    g.wait_state("api", &["running"]);
    assert_eq!((g.service("db").restarts, g.service("api").restarts), (0, 0));
    g.end();
}

/// The pipe is one that keepwell itself listens on: that for the heartbeats of another service.
#[test]
fn a_named_pipe_that_takes_connections_is_ready() {
    needs_wine!();
    let a = "[services.a]\ncommand = 'CHILD print-env'\nlive = { heartbeat = true, lost_after = '1h' }\n";
    let mut g = Guardian::new(a);
    g.start(&[]);
    g.wait_answering();
    g.wait_state("a", &["running"]);
    let log = g.wait_log("a", "KEEPWELL_HEARTBEAT_PERIOD_MS=");
    let pipe = log.lines().find_map(|line| line.strip_prefix("KEEPWELL_HEARTBEAT=")).expect("it has one");
    let config = fs::read_to_string(g.path("keepwell.toml")).expect("it was written");
    let pipe = pipe.trim();
    let b =
        format!("[services.b]\ncommand = 'CHILD hang'\nready = {{ pipe = '{pipe}', period = '200ms' }}\n");
    g.write("keepwell.toml", &format!("{config}\n{b}"));
    g.cli(&["reload"]).good();
    g.wait_state("b", &["ready"]);
    g.end();
}
