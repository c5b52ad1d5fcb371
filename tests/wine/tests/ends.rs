//! Ends of services and of keepwell itself: exit codes, trees, the steps of a stop.

use std::time::{Duration, Instant};

use keepwell_wine::{Guardian, needs_wine, wait_some, wait_until};

#[test]
fn a_crash_is_restarted_and_explained() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD exit 3 --after 50'\nrestart = { delay = '300ms', jitter = '0%' }\n",
    );
    g.wait_for("two restarts", |all| all[0].restarts >= 2);
    let exits = g.service("a").exits;
    assert!(exits.iter().all(|e| e.code == Some(3) && !e.expected), "{exits:?}");
    g.cli(&["explain", "a"]).good().says(&["exit code 3"]);
    let all = g.wait_events("two restarts among the events", |all| {
        all.iter().filter(|e| e.kind == "started").count() >= 3
    });
    let seqs: Vec<_> = all.iter().map(|e| e.seq).collect();
    assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "events have gaps: {seqs:?}");
    g.end();
}

#[test]
fn exit_codes_have_classes() {
    needs_wine!();
    let g = Guardian::up(
        r#"
        [defaults]
        restart = { delay = "10ms" }
        [services.config]
        command = "CHILD exit 78"
        [services.fatal]
        command = "CHILD exit 4"
        restart = { exit_codes = { fatal = [4] } }
        [services.done]
        command = "CHILD exit 5"
        restart = { policy = "on-failure", exit_codes = { success = [0, 5] } }
        [services.stays]
        command = "CHILD hang"
        "#,
    );
    g.wait_state("done", &["completed"]);
    g.wait_state("fatal", &["gave_up"]);
    let all = g.wait_for("the end of config", |all| {
        all.iter().any(|s| s.name == "config" && s.pid.is_none() && !s.exits.is_empty())
    });
    let config = all.iter().find(|s| s.name == "config").expect("it is configured");
    assert_eq!((config.restarts, g.service("fatal").restarts), (0, 0));
    g.end();
}

#[test]
fn a_crash_in_the_program_itself_is_named() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD crash'\nrestart = 'never'\n[services.b]\ncommand = 'CHILD hang'\n",
    );
    let all = g.wait_for("the crash", |all| all.iter().any(|s| s.name == "a" && !s.exits.is_empty()));
    let a = all.iter().find(|s| s.name == "a").expect("it is configured");
    // STATUS_ACCESS_VIOLATION.
    assert_eq!(a.exits[0].code.map(i32::cast_unsigned), Some(0xC000_0005), "{:?}", a.exits);
    g.end();
}

#[test]
fn too_many_crashes_are_a_loop_that_is_told_and_ended_by_a_start() {
    needs_wine!();
    let g = Guardian::up(
        r#"
        [services.loops]
        command = "CHILD exit 1"
        restart = { delay = "10ms", max_delay = "1h", jitter = "0%", limit = { max = 3, window = "60s" } }
        [services.quits]
        command = "CHILD exit 1"
        restart = { delay = "10ms", limit = { max = 2, window = "60s" }, on_crash_loop = "give_up" }
        "#,
    );
    assert!(g.wait_state("loops", &["crash_looping"]).next_attempt.is_some());
    g.cli(&["explain", "loops"]).good().says(&["keepwell start loops"]);
    assert!(g.wait_state("quits", &["gave_up"]).next_attempt.is_none());
    g.cli(&["start", "--no-wait", "quits"]).good();
    wait_until("it to be tried again", || {
        g.events().iter().filter(|e| e.kind == "started" && e.service.as_deref() == Some("quits")).count()
            >= 4
    });
    g.end();
}

#[test]
fn grandchildren_are_contained_and_gone_after_a_stop() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD grandchildren left'\n[services.b]\ncommand = 'CHILD hang'\n",
    );
    wait_until("both grandchildren", || g.read("left").lines().count() >= 2);
    // The main process, the one between, the last; and b.
    assert_eq!(g.prefix().children().len(), 4);
    g.cli(&["stop", "a"]).good();
    let left = g.prefix().children();
    assert!(left.len() == 1 && left[0].command.contains("hang"), "{left:#?}");
    g.end();
}

#[test]
fn what_a_main_process_leaves_behind_is_ended_before_the_next_start() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD grandchildren left --exit 1'\nrestart = { delay = '100ms', limit = 'off' }\n",
    );
    g.wait_for("three restarts", |all| all[0].restarts >= 3);
    g.cli(&["stop", "a"]).good();
    assert_eq!(g.prefix().children(), []);
    g.end();
}

#[test]
fn ctrl_c_is_the_first_step_of_a_stop() {
    needs_wine!();
    let g = Guardian::up("[services.a]\ncommand = 'CHILD trap-ctrl 0 --after 100'\n");
    g.wait_log("a", "waiting for Ctrl");
    g.cli(&["stop", "a"]).good();
    g.wait_log("a", "bye");
    assert_eq!(g.service("a").exits.last().and_then(|e| e.code), Some(0));
    g.end();
}

#[test]
fn who_ignores_ctrl_c_is_terminated() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD ignore-ctrl'\nstop = [{ signal = 'TERM', wait = '500ms' }]\n",
    );
    g.wait_log("a", "nothing moves me");
    let start = Instant::now();
    g.cli(&["stop", "a"]).good();
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(g.prefix().children(), []);
    g.end();
}

#[test]
fn a_killed_anchor_leaves_nothing_and_the_next_start_restores_what_was_wanted() {
    needs_wine!();
    let mut g = Guardian::up(
        "[services.a]\ncommand = 'CHILD grandchildren left'\n[services.b]\ncommand = 'CHILD ignore-ctrl'\n\
         [services.c]\ncommand = 'CHILD hang'\n",
    );
    g.wait_for("all up", |all| all.iter().all(|s| s.pid.is_some()));
    wait_until("both grandchildren", || g.read("left").lines().count() >= 2);
    g.cli(&["stop", "c"]).good();
    g.anchor().kill();
    g.forget();
    g.assert_nothing_left(Duration::from_secs(10));
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_for("what was wanted", |all| all.iter().all(|s| s.pid.is_some() == (s.name != "c")));
    g.end();
}

#[test]
fn an_anchor_that_is_terminated_takes_its_tree_with_it() {
    needs_wine!();
    let mut g = Guardian::up("[services.a]\ncommand = 'CHILD grandchildren left'\n");
    wait_until("both grandchildren", || g.read("left").lines().count() >= 2);
    let anchor = g.info().expect("it answers").anchor_pid.to_string();
    assert_eq!(wait_some("the end", || g.prefix().child(&["kill", &anchor]).status().ok()).code(), Some(0));
    g.forget();
    g.assert_nothing_left(Duration::from_secs(10));
}
