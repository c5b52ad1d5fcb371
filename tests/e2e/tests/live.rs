//! Checks that go on: startup, readiness that is lost and found, liveness, and the budgets.

use std::fs;

use keepwell_e2e::{Guardian, free_port, sys, wait_until};

fn told(g: &Guardian, kind: &str) -> bool {
    g.events().iter().any(|e| e.kind == kind)
}

#[test]
fn one_that_answers_no_more_is_ended_and_started_again() {
    let port = free_port();
    let g = Guardian::up(&format!(
        "[services.web]\ncommand = 'CHILD http {port}'\n\
         ready = {{ http = 'http://127.0.0.1:{port}/', period = '200ms' }}\n\
         live = {{ http = 'http://127.0.0.1:{port}/live?key=secret', period = '100ms', timeout = '300ms', failure_threshold = 2 }}\n\
         restart = {{ delay = '100ms' }}\nstop = []\n"
    ));
    g.wait_state("web", &["ready"]);
    let first = g.pid("web");
    // It is there, and does nothing.
    assert!(sys::kill(first, 19));
    g.wait_for("another run", |all| all[0].state == "ready" && all[0].pid.is_some_and(|pid| pid != first));
    let events = g.events();
    let failed = events.iter().find(|e| e.kind == "probe_failed").expect("it was told");
    let words = format!("its live check (http 127.0.0.1:{port}/live) failed 2 times in a row");
    assert!(failed.text.contains(&words), "{}", failed.text);
    assert!(!events.iter().any(|e| e.text.contains("secret")));
    // The new run is first checked somewhere within a period.
    wait_until("a pass", || g.cli(&["explain", "web"]).all().contains("/live: passes"));
    g.cli(&["explain", "web"]).good().says(&[
        "its live check failed 2 times in a row",
        "live check",
        "passes",
    ]);

    // The next daemon goes on with it.
    let daemon = g.daemon();
    assert!(sys::kill(daemon, 9));
    wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    let second = g.pid("web");
    assert!(sys::kill(second, 19));
    g.wait_for("a third run", |all| all[0].pid.is_some_and(|pid| pid != second) && all[0].state == "ready");
    g.end();
}

#[test]
fn a_command_may_say_that_it_cannot_tell() {
    let g = Guardian::new(
        "[services.a]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms' }\nstop = []\n\
         live = { exec = ['sh', '-c', 'exit $$(cat verdict)'], period = '50ms', failure_threshold = 1 }\n",
    );
    let mut g = g;
    g.write("verdict", "2");
    g.start(&[]);
    g.wait_state("a", &["running"]);
    wait_until("the check to be made", || {
        g.cli(&["explain", "a"]).all().contains("could not be made: the check cannot tell")
    });
    g.write("verdict", "0");
    wait_until("a pass", || g.cli(&["explain", "a"]).all().contains("exec sh: passes"));
    assert_eq!(g.service("a").restarts, 0);
    g.write("verdict", "3");
    g.wait_for("a restart", |all| all[0].restarts >= 1);
    g.wait_events("why", |all| {
        all.iter().any(|e| e.kind == "probe_failed" && e.text.contains("exit code 3"))
    });
    g.end();
}

#[test]
fn lost_readiness_degrades_and_restarts_nobody() {
    let mut g = Guardian::new(
        "[services.db]\ncommand = 'CHILD hang'\n\
         ready = { exec = ['test', '-e', 'gate'], period = '50ms', success_threshold = 2, failure_threshold = 2 }\n\
         [services.api]\ncommand = 'CHILD hang'\ndepends_on = ['db']\n",
    );
    g.write("gate", "");
    g.start(&[]);
    g.wait_state("db", &["ready"]);
    g.wait_state("api", &["running"]);
    fs::remove_file(g.path("gate")).unwrap();
    g.wait_state("db", &["degraded"]);
    let api = g.wait_state("api", &["degraded"]);
    assert_eq!(api.reason, "db is not ready any more");
    g.cli(&["explain", "db"]).good().says(&["not ready any more", "ready check"]);
    g.write("gate", "");
    g.wait_state("db", &["ready"]);
    g.wait_state("api", &["running"]);
    assert!(told(&g, "probe_recovered"));
    assert_eq!((g.service("db").restarts, g.service("api").restarts), (0, 0));
    g.end();
}

#[test]
fn nothing_else_is_checked_before_it_has_started_up() {
    let g = Guardian::up(
        "[services.slow]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms' }\nstop = []\n\
         startup = { exec = ['test', '-e', 'gate'], period = '50ms', failure_threshold = 10000 }\n\
         live = { exec = ['false'], period = '50ms', failure_threshold = 1 }\n",
    );
    wait_until("some attempts", || {
        let text = g.cli(&["explain", "slow"]).all();
        text.contains("times in a row, 10000 make it ill") && text.contains("waits for the startup check")
    });
    let slow = g.service("slow");
    assert_eq!((slow.state.as_str(), slow.restarts), ("starting", 0));
    g.write("gate", "");
    g.wait_for("the live check to end it", |all| all[0].restarts >= 1);
    g.end();
}

#[test]
fn a_start_that_takes_too_long_has_failed() {
    let g = Guardian::up(
        "[services.slow]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms' }\nstop = []\n\
         startup = { exec = ['false'], period = '50ms', failure_threshold = 3 }\n",
    );
    g.wait_for("another attempt", |all| all[0].restarts >= 1);
    g.wait_events("why", |all| {
        all.iter().any(|e| {
            e.text.contains("its startup check failed 3 times in a row: the check ended with exit code 1")
        })
    });
    g.end();
}

#[test]
fn what_a_budget_does_not_cover_runs_on_and_is_told() {
    let mut g = Guardian::new(
        "[healing]\nlimit = { max = 1, window = '1h' }\n\
         [defaults]\nlive = { exec = ['test', '-e', 'well'], period = '50ms', failure_threshold = 1 }\n\
         restart = { delay = '100ms' }\nstop = []\n\
         [services.a]\ncommand = 'CHILD hang'\n[services.b]\ncommand = 'CHILD hang'\n",
    );
    g.write("well", "");
    g.start(&[]);
    g.wait_for("both", |all| all.len() == 2 && all.iter().all(|s| s.state == "running"));
    fs::remove_file(g.path("well")).unwrap();
    let all = g.wait_for("both to be ill", |all| all.iter().all(|s| s.state == "degraded"));
    assert_eq!(all.iter().map(|s| s.restarts).sum::<u32>(), 1, "{all:?}");
    assert!(told(&g, "healing_held"));
    g.cli(&["explain", "a"]).good().says(&["left running", "the budget of this host (1 in 60 min) is spent"]);
    g.write("well", "");
    g.wait_for("both to be well", |all| all.iter().all(|s| s.state == "running"));
    g.end();
}

#[test]
fn a_file_that_is_not_written_any_more_says_that_it_hangs() {
    let mut g = Guardian::new(
        "[services.a]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms' }\nstop = []\n\
         live = { file = 'beat', within = '2s', period = '100ms', failure_threshold = 1 }\n",
    );
    g.write("beat", "");
    g.start(&[]);
    g.wait_for("a restart", |all| all[0].restarts >= 1);
    g.wait_events("why", |all| {
        all.iter().any(|e| e.kind == "probe_failed" && e.text.contains("was last written"))
    });
    g.end();
}

#[test]
fn new_checks_count_from_the_reload_on() {
    let g = Guardian::up("[services.a]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms' }\nstop = []\n");
    g.wait_state("a", &["running"]);
    let pid = g.pid("a");
    g.write(
        "keepwell.toml",
        "[services.a]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms' }\nstop = []\n\
         live = { exec = ['test', '-e', 'well'], period = '50ms', failure_threshold = 1 }\n",
    );
    g.write("well", "");
    g.cli(&["reload"]).good().says(&["live"]);
    wait_until("a pass", || g.cli(&["explain", "a"]).all().contains("passes"));
    assert_eq!(g.pid("a"), pid);
    fs::remove_file(g.path("well")).unwrap();
    g.wait_for("a restart", |all| all[0].restarts >= 1);
    g.end();
}
