//! `up` and its ends: order, Ctrl+C, detach, down, exit codes, the view.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use keepwell_e2e::{DEADLINE, Guardian, sys, wait_some, wait_until};

/// A database that is ready when its file is there, and two layers above it.
const LAYERS: &str = r#"
[services.db]
command = "CHILD record db.ready"
ready = { file = "db.ready", period = "200ms" }

[services.api]
command = "CHILD hang"
depends_on = { db = "ready" }
ready = { delay = "10ms" }

[services.web]
command = "CHILD hang"
depends_on = { api = "ready" }
"#;

fn positions(guardian: &Guardian, kind: &str) -> Vec<String> {
    guardian.events().into_iter().filter(|e| e.kind == kind).filter_map(|e| e.service).collect()
}

#[test]
fn services_start_in_the_order_of_dependencies_and_stop_in_reverse() {
    let mut g = Guardian::up(LAYERS);
    g.wait_for("all up", |all| all.iter().all(|s| ["ready", "running"].contains(&s.state.as_str())));
    wait_until("three starts to be told", || positions(&g, "started").len() >= 3);
    assert_eq!(positions(&g, "started"), ["db", "api", "web"]);
    g.interrupt();
    assert_eq!(g.wait_exit(), 0);
    g.assert_nothing_left(Duration::ZERO);
    // The order of the stop is in the store, which the next daemon reads.
    g.start(&[]);
    g.wait_answering();
    let mut exits = positions(&g, "exited");
    exits.truncate(3);
    assert_eq!(exits, ["web", "api", "db"]);
    g.end();
}

#[test]
fn a_second_interrupt_ends_all_at_once() {
    let mut g = Guardian::up(
        r#"
        [services.stubborn]
        command = "CHILD ignore-term"
        stop = [{ signal = "TERM", wait = "10m" }]
        "#,
    );
    g.wait_log("stubborn", "nothing moves me");
    g.cli(&["up"]).with_code(1).says(&["runs already", "keepwell status"]);
    g.interrupt();
    g.wait_state("stubborn", &["stopping"]);
    g.cli(&["up"]).with_code(1).says(&["is still stopping", "keepwell down"]);
    let start = Instant::now();
    g.interrupt();
    g.wait_exit();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    g.assert_nothing_left(Duration::from_secs(2));
}

#[test]
fn hangup_and_terminate_are_ordered_stops_too() {
    for signal in [sys::SIGTERM, sys::SIGHUP] {
        let mut g = Guardian::up("[services.a]\ncommand = 'CHILD trap-term 0'\n");
        g.wait_log("a", "waiting for TERM");
        assert!(sys::kill(g.anchor(), signal));
        assert_eq!(g.wait_exit(), 0);
        assert!(g.log("a").contains("bye"), "it was not asked to stop");
        g.assert_nothing_left(Duration::ZERO);
    }
}

#[test]
fn a_terminal_stop_is_ignored() {
    let g = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n");
    let before = g.anchor();
    assert!(sys::kill(before, sys::SIGTSTP));
    // A stopped anchor would carry out nothing.
    g.cli(&["restart", "a"]).good();
    g.end();
}

#[test]
fn detach_gives_the_terminal_back_when_all_is_ready_and_down_ends_it() {
    let g = Guardian::new(LAYERS);
    g.cli(&["up", "--detach"]).good();
    let all = g.status().expect("it answers");
    assert!(all.iter().all(|s| ["ready", "running"].contains(&s.state.as_str())), "{all:?}");
    g.cli(&["down"]).good();
    g.assert_nothing_left(Duration::ZERO);
    g.cli(&["status"]).with_code(3);
    // What is wanted has not changed.
    g.cli(&["up", "--detach"]).good();
    assert!(g.status().expect("it answers").iter().all(|s| s.desired_up));
    g.cli(&["down"]).good();
}

#[test]
fn detach_names_what_is_not_ready_and_leaves_it_running() {
    let g = Guardian::new(
        r#"
        [services.good]
        command = "CHILD hang"
        [services.never]
        command = "CHILD hang"
        ready = { file = "never", timeout = "1h" }
        "#,
    );
    let answer = g.cli(&["up", "--detach", "--timeout", "2s"]).with_code(4);
    answer.says(&["never"]);
    assert_eq!(g.service("good").state, "running");
    g.cli(&["down"]).good();
    g.assert_nothing_left(Duration::ZERO);

    let g = Guardian::new(
        "[services.broken]\ncommand = 'CHILD exit 1'\nrestart = 'never'\n[services.good]\ncommand = 'CHILD hang'\n",
    );
    g.cli(&["up", "--detach"]).with_code(1).says(&["broken"]);
    assert_eq!(g.service("good").state, "running");
    g.cli(&["down"]).good();
    g.assert_nothing_left(Duration::ZERO);
}

#[test]
fn up_ends_by_itself_when_nothing_is_left_to_guard() {
    let mut g = Guardian::new("[services.a]\nkind = 'oneshot'\ncommand = 'CHILD exit 0'\n");
    g.start(&[]);
    assert_eq!(g.wait_exit(), 0);
    g.assert_nothing_left(Duration::ZERO);

    let mut g = Guardian::new(
        "[services.a]\nkind = 'oneshot'\ncommand = 'CHILD exit 0'\n[services.b]\nkind = 'oneshot'\ncommand = 'CHILD exit 7'\n",
    );
    g.start(&[]);
    assert_eq!(g.wait_exit(), 1);
    assert!(g.read("up.out").contains('b'), "{}", g.traces());
    g.assert_nothing_left(Duration::ZERO);
}

#[test]
fn detach_names_what_failed_when_nothing_is_left_to_guard() {
    let g = Guardian::new(
        r#"
        [services.good]
        kind = "oneshot"
        command = "CHILD exit 0"
        [services.bad]
        kind = "oneshot"
        command = "CHILD exit 7"
        [services.worse]
        kind = "oneshot"
        command = "sleep 0.3; exit 8"
        shell = true
        "#,
    );
    let answer = g.cli(&["up", "--detach"]).with_code(1);
    let errors = answer.err.split("error:").nth(1).expect("an error").to_owned();
    assert!(errors.contains("bad") && errors.contains("exit code 7"), "{errors}");
    assert!(errors.contains("worse") && errors.contains("exit code 8"), "{errors}");
    assert!(!errors.contains("good") && errors.contains("logs"), "{errors}");
    g.cli(&["status"]).with_code(3);
    g.assert_nothing_left(Duration::ZERO);

    let g = Guardian::new("[services.bad]\nkind = 'oneshot'\ncommand = 'CHILD exit 7'\n");
    let answer = g.cli(&["up", "--detach", "--quiet"]).with_code(1);
    assert!(answer.err.contains("bad") && answer.err.contains("exit code 7"), "{}", answer.err);
}

#[test]
fn a_second_guardian_on_the_same_folder_is_refused_with_the_pid_of_the_first() {
    let mut g = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n");
    let pid = g.wait_state("a", &["running"]).pid;
    let answer = g.cli(&["up"]);
    assert_ne!(answer.code, 0);
    answer.says(&[&g.anchor().to_string()]);
    assert_eq!(g.service("a").pid, pid);
    assert!(!g.has_ended());
    g.end();
}

#[test]
fn what_was_stopped_stays_stopped_until_it_is_started_or_all_is() {
    let mut g = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n[services.b]\ncommand = 'CHILD hang'\n");
    g.cli(&["stop", "a"]).good();
    g.interrupt();
    g.wait_exit();

    g.start(&[]);
    g.wait_answering();
    g.wait_state("b", &["running"]);
    let a = g.service("a");
    assert_eq!((a.state.as_str(), a.pid, a.desired_up), ("stopped", None, false));
    g.wait_file("up.out", "a");
    g.interrupt();
    g.wait_exit();

    g.start(&["--all"]);
    g.wait_answering();
    g.wait_state("a", &["running"]);
    g.interrupt();
    g.wait_exit();

    g.start(&[]);
    g.wait_answering();
    g.wait_state("a", &["running"]);
    g.end();
}

#[test]
fn the_view_may_lose_its_pipe() {
    let g = Guardian::new("[services.a]\ncommand = 'CHILD tick ticks'\n");
    let mut up = g.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    wait_some("output of the service", || lines.next()?.ok().filter(|l| l.contains("tick 3")));
    // As `| head` does it.
    drop(lines);
    let seen = g.read("ticks").lines().count();
    wait_until("many more ticks", || g.read("ticks").lines().count() > seen + 50);
    assert_eq!(g.service("a").restarts, 0);
    assert!(sys::kill(up.id(), sys::SIGINT));
    assert_eq!(wait_some("the end", || up.try_wait().unwrap()).code(), Some(0));
    g.assert_nothing_left(Duration::ZERO);
}

#[test]
fn the_view_may_be_stopped_or_killed() {
    let g = Guardian::up("[services.a]\ncommand = 'CHILD tick ticks'\n");
    // By its words: a service that has not loaded its program yet looks like keepwell too.
    let view = wait_some("the view", || {
        let mut all = g.processes().into_iter();
        all.find(|(_, command)| command.contains(" internal view ")).map(|(pid, _)| pid)
    });
    for signal in [sys::SIGSTOP, sys::SIGKILL] {
        assert!(sys::kill(view, signal));
        let seen = g.read("ticks").lines().count();
        wait_until("more ticks", || g.read("ticks").lines().count() > seen + 20);
    }
    g.end();
}

#[test]
fn up_prints_changes_and_output_plain_or_as_json() {
    let mut g = Guardian::up("[services.a]\ncommand = 'CHILD say hello'\n");
    let text = g.wait_file("up.out", "hello");
    assert!(text.lines().any(|l| l.contains('a') && l.contains("hello")), "{text}");
    assert!(!text.contains('\u{1b}'), "escape sequences in a file:\n{text}");
    g.interrupt();
    g.wait_exit();

    std::fs::remove_file(g.path("up.out")).unwrap();
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_state("a", &["running"]);
    g.interrupt();
    g.wait_exit();
    assert!(!g.read("up.out").contains("hello"), "{}", g.read("up.out"));

    std::fs::remove_file(g.path("up.out")).unwrap();
    g.start(&["--json"]);
    g.wait_answering();
    g.wait_file("up.out", "\"running\"");
    for line in g.read("up.out").lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    g.end();
}

#[test]
fn run_guards_one_program_and_ends_with_its_code() {
    let g = Guardian::new("");
    let child = keepwell_e2e::testchild().display().to_string();
    g.cli(&["run", "--", &child, "exit", "7"]).with_code(7);
    g.cli(&["run", "--", &child, "crash-by", "9"]).with_code(128 + 9);
    g.cli(&["run", "--", &child, "exit", "0"]).good();
    let missing = g.cli(&["run", "--", "/no/such/program"]);
    assert_ne!(missing.code, 0);
    missing.says(&["/no/such/program"]);

    // Restarted until it ends well.
    let script = "echo x >> tries; test $(wc -l < tries) -ge 3";
    g.cli(&["run", "--restart", "on-failure", "--", "/bin/sh", "-c", script]).good();
    assert_eq!(g.read("tries").lines().count(), 3);

    let mut held =
        g.command(&["run", "--", &child, "trap-term", "3"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(held.stdout.take().unwrap()).lines();
    wait_some("its output", || lines.next()?.ok().filter(|l| l.contains("waiting for TERM")));
    assert!(sys::kill(held.id(), sys::SIGINT));
    let code = wait_some("the end", || held.try_wait().unwrap()).code();
    assert!(matches!(code, Some(0 | 3)), "{code:?}");
    g.assert_nothing_left(Duration::from_secs(2));
}

#[test]
fn an_unprivileged_user_has_it_too() {
    let mut g = Guardian::unprivileged(LAYERS);
    g.start(&[]);
    g.wait_answering();
    g.wait_for("all up", |all| all.iter().all(|s| ["ready", "running"].contains(&s.state.as_str())));
    if sys::is_root() {
        assert_eq!(sys::owner(&g.state("keepwell.db")).unwrap(), sys::NOBODY);
    }
    assert_eq!(sys::mode(&g.state("keepwell.db")).unwrap() & 0o077, 0, "others may read the store");
    assert_eq!(sys::mode(&g.state("logs")).unwrap() & 0o077, 0, "others may read the logs");
    g.end();
}

#[test]
fn children_get_only_what_is_meant_for_them() {
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD print-fds'\nenv = { COLOUR = 'blue ${service} $$5 $HOME' }\n",
    );
    let log = g.wait_log("a", "end of descriptors");
    let fds: Vec<_> = log.lines().filter(|l| l.starts_with("fd ")).collect();
    // /proc/self/fd itself is the fourth while it is read.
    let known = |l: &&&str| ["fd 0 /dev/null", "fd 1 pipe:", "fd 2 pipe:"].iter().any(|k| l.starts_with(k));
    let other: Vec<_> = fds.iter().filter(|l| !known(l) && !l.contains("/proc/")).collect();
    assert!(other.is_empty() && fds.iter().filter(|l| known(l)).count() == 3, "{log}");
    let pid = g.pid("a");
    let anchor = g.anchor();
    assert!(log.contains(&format!("pid {pid} ppid {anchor} pgid {pid} session {pid}")), "{log}");
    // 1000 is SIGPIPE, which the helper's own runtime ignores.
    assert!(log.contains("SigBlk: 0000000000000000") && log.contains("SigIgn: 0000000000001000"), "{log}");
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let vars: Vec<_> = environ.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
    assert!(vars.iter().any(|v| v == "COLOUR=blue a $5 $HOME"), "{vars:?}");
    assert!(vars.iter().any(|v| v.starts_with("KEEPWELL_RUN=")), "{vars:?}");
    g.end();
}

#[test]
fn both_ends_of_time_are_kept() {
    // A stop waits for the tree, and no longer than the ladder says.
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD ignore-term'\nstop = [{ signal = 'TERM', wait = '300ms' }]\n",
    );
    g.wait_log("a", "nothing moves me");
    let start = Instant::now();
    g.cli(&["stop", "a"]).good();
    assert!(
        start.elapsed() >= Duration::from_millis(300) && start.elapsed() < DEADLINE / 3,
        "{:?}",
        start.elapsed()
    );
    assert!(g.services_running().is_empty());
    g.end();
}
