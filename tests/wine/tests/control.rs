//! The commands of an operator.

use std::time::Duration;

use keepwell_wine::{Guardian, needs_wine, wait_until};

const TWO: &str = "[services.a]\ncommand = 'CHILD hang'\n[services.b]\ncommand = 'CHILD hang'\n";

#[test]
fn stop_start_and_restart_do_what_they_say_and_wait_for_it() {
    needs_wine!();
    let g = Guardian::up(TWO);
    let (first, other) = (g.pid("a"), g.pid("b"));
    g.cli(&["restart", "a"]).good();
    assert_ne!(g.pid("a"), first);
    g.cli(&["stop", "a"]).good();
    assert_eq!(g.prefix().children().len(), 1);
    let a = g.service("a");
    assert_eq!((a.state.as_str(), a.desired_up), ("stopped", false));
    g.cli(&["explain", "a"]).good().says(&["stopped"]);
    g.cli(&["start", "a"]).good();
    assert!(g.service("a").pid.is_some());
    assert_eq!(g.pid("b"), other);
    g.cli(&["stop", "nobody"]).says(&["`nobody`"]);
    g.end();
}

#[test]
fn a_paused_service_is_left_alone_until_it_is_resumed() {
    needs_wine!();
    let g = Guardian::up("[services.a]\ncommand = 'CHILD tick ticks'\nrestart = { delay = '0s' }\n");
    g.wait_file("ticks", " 3\n");
    let pid = g.pid("a").to_string();
    g.cli(&["pause", "a"]).good().says(&["a: paused"]);
    assert!(g.prefix().child(&["kill", &pid]).status().is_ok_and(|s| s.success()));
    g.wait_for("a is down and held", |all| all[0].pid.is_none() && all[0].state == "paused");
    g.cli(&["resume", "a"]).good();
    g.wait_for("a runs again", |all| all[0].pid.is_some());
    g.end();
}

#[test]
fn a_frozen_service_stands_still_until_it_is_resumed() {
    needs_wine!();
    let g = Guardian::up("[services.a]\ncommand = 'CHILD tick ticks'\n");
    g.wait_file("ticks", " 3\n");
    let pid = g.pid("a");
    g.cli(&["pause", "--freeze", "a"]).good();
    wait_until("the ticks to stop", || {
        let before = g.read("ticks").len();
        std::thread::sleep(Duration::from_millis(300));
        g.read("ticks").len() == before
    });
    let before = g.read("ticks").len();
    g.cli(&["resume", "a"]).good();
    wait_until("the ticks to go on", || g.read("ticks").len() > before);
    assert_eq!(g.pid("a"), pid);
    g.end();
}

#[test]
fn a_reload_touches_only_what_changed() {
    needs_wine!();
    let g = Guardian::up(TWO);
    g.wait_for("both running", |all| all.iter().all(|s| s.state == "running"));
    let (a, b) = (g.pid("a"), g.pid("b"));
    g.write(
        "keepwell.toml",
        "[services.a]\ncommand = 'CHILD say changed'\n[services.b]\ncommand = 'CHILD hang'\n\
         restart = { max_delay = '2m' }\n[services.c]\ncommand = 'CHILD hang'\n",
    );
    g.cli(&["reload", "--dry-run"]).good().says(&["a", "restart", "b", "live", "c", "new"]);
    assert_eq!(g.pid("a"), a);
    g.cli(&["reload"]).good();
    g.wait_for("all three running", |all| all.len() == 3 && all.iter().all(|s| s.pid.is_some()));
    assert_ne!(g.pid("a"), a);
    assert_eq!(g.pid("b"), b);
    // A file that is wrong changes nothing.
    g.write("keepwell.toml", "[services.b]\ncomand = 'CHILD hang'\n");
    g.cli(&["reload"]).with_code(2).says(&["comand", "did you mean"]);
    assert_eq!(g.pid("b"), b);
    g.end();
}

#[test]
fn status_and_info_keep_their_contract() {
    needs_wine!();
    let g = Guardian::up(TWO);
    g.wait_state("a", &["running"]);
    let all = g.cli(&["status", "--json"]).good().json();
    let a = &all.as_array().expect("a list")[0];
    for name in ["name", "instance", "state", "reason", "pid", "restarts", "since", "next_attempt"] {
        assert!(a.get(name).is_some(), "`{name}` is not in {a}");
    }
    let info = g.cli(&["info", "--json"]).good().json();
    assert_ne!(info["anchor_pid"], info["daemon_pid"]);
    assert!(info["state_dir"].as_str().is_some_and(|d| d.contains(".keepwell")), "{info}");
    g.cli(&["check"]).good();
    g.cli(&["no-such-command"]).with_code(2);
    g.end();
}
