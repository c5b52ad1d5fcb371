//! The commands of an operator, and the contracts of `--json` and of exit codes.

use std::time::Duration;

use keepwell_e2e::{Guardian, sys, wait_until};

const TWO: &str = "[services.a]\ncommand = 'CHILD hang'\n[services.b]\ncommand = 'CHILD hang'\n";

#[test]
fn status_and_info_keep_their_contract() {
    let g = Guardian::up(TWO);
    g.wait_state("a", &["running"]);
    let all = g.cli(&["status", "--json"]).good().json();
    let a = &all.as_array().unwrap()[0];
    for name in ["name", "instance", "state", "reason", "pid", "restarts", "since", "next_attempt"] {
        assert!(a.get(name).is_some(), "`{name}` is not in {a}");
    }
    assert_eq!((a["name"].as_str(), a["instance"].as_u64()), (Some("a"), Some(1)));
    assert!(sys::exists(u32::try_from(a["pid"].as_u64().unwrap()).unwrap()));
    assert!(a["since"].as_str().unwrap().contains('T') && a["next_attempt"].is_null(), "{a}");

    let info = g.cli(&["info", "--json"]).good().json();
    assert_eq!(info["anchor_pid"], g.anchor());
    let daemon = u32::try_from(info["daemon_pid"].as_u64().unwrap()).unwrap();
    assert!(sys::exists(daemon) && daemon != g.anchor());
    for name in ["version", "state_dir", "socket"] {
        assert!(!info[name].as_str().unwrap().is_empty(), "{name} in {info}");
    }
    let table = g.cli(&["status"]).good();
    assert!(table.out.contains("SERVICE") && table.out.lines().count() >= 3, "{}", table.out);
    assert_eq!(g.cli(&["status", "b", "--json"]).good().json().as_array().unwrap().len(), 1);
    g.end();
}

#[test]
fn check_is_for_monitoring() {
    let g = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n[services.b]\ncommand = 'CHILD hang'\n");
    g.wait_for("both running", |all| all.iter().all(|s| s.state == "running"));
    let good = g.cli(&["status", "--check"]).good();
    assert_eq!(good.out.lines().count(), 1, "{}", good.out);
    g.write("keepwell.toml", &format!("{TWO}[services.c]\ncommand = 'CHILD exit 1'\n"));
    g.cli(&["reload"]);
    g.wait_state("c", &["backing_off", "crash_looping"]);
    let bad = g.cli(&["status", "--check"]).with_code(1);
    assert_eq!(bad.out.lines().count(), 1, "{}", bad.out);
    bad.says(&["c"]);
    g.cli(&["status", "--check", "a"]).good();
    g.end();
}

#[test]
fn stop_start_and_restart_do_what_they_say_and_wait_for_it() {
    let g = Guardian::up(TWO);
    let first = g.wait_state("a", &["running"]).pid.unwrap();
    let other = g.wait_state("b", &["running"]).pid;
    g.cli(&["restart", "a"]).good();
    let second = g.service("a").pid.unwrap();
    assert_ne!(first, second);
    assert!(!sys::exists(first));

    g.cli(&["stop", "a"]).good();
    assert!(!sys::exists(second));
    let a = g.service("a");
    assert_eq!((a.state.as_str(), a.desired_up), ("stopped", false));
    g.cli(&["explain", "a"]).good().says(&["stopped"]);

    g.cli(&["start", "a"]).good();
    let a = g.service("a");
    assert!(a.pid.is_some() && a.desired_up && a.restarts == 0, "{a:?}");
    assert_eq!(g.service("b").pid, other);
    g.cli(&["stop", "--no-wait", "a", "b"]).good();
    g.wait_for("both stopped", |all| all.iter().all(|s| s.state == "stopped"));
    // What operators hold down keeps the guardian up.
    assert!(g.status().is_some());
    g.cli(&["start", "a", "b"]).good();
    g.end();
}

#[test]
fn signals_reach_whom_they_are_for_and_change_nothing_else() {
    let g = Guardian::up(
        "[services.a]\ncommand = 'trap \"echo got HUP\" HUP; echo armed; while :; do sleep 0.05; done'\nshell = true\n",
    );
    g.wait_log("a", "armed");
    g.wait_for("a's process is known", |all| all[0].pid.is_some());
    let pid = g.service("a").pid;
    g.cli(&["signal", "HUP", "a"]).good().says(&["a: SIGHUP sent"]);
    g.wait_log("a", "got HUP");
    assert_eq!(g.service("a").pid, pid);
    assert_ne!(g.cli(&["signal", "NOSUCH", "a"]).code, 0);
    // An end by an operator's signal is an end like any other.
    g.cli(&["signal", "9", "a"]).good();
    g.wait_for("a restarted", |all| all[0].restarts == 1 && all[0].pid.is_some() && all[0].pid != pid);
    g.end();
}

#[test]
fn a_paused_service_is_left_alone_until_it_is_resumed() {
    let mut g = Guardian::up("[services.a]\ncommand = 'CHILD tick ticks'\nrestart = { delay = '0s' }\n");
    g.wait_file("ticks", " 3\n");
    let pid = g.pid("a");
    g.cli(&["pause", "a"]).good().says(&["a: paused"]);
    assert!(sys::kill(pid, sys::SIGKILL));
    g.wait_for("a is down and held", |all| all[0].pid.is_none() && all[0].state == "paused");
    // Over a restart of keepwell too.
    g.interrupt();
    g.wait_exit();
    g.start(&[]);
    g.wait_answering();
    let a = g.service("a");
    assert!(a.pid.is_none() && a.hold.is_some(), "{a:?}");
    g.cli(&["resume", "a"]).good();
    g.wait_for("a runs again", |all| all[0].pid.is_some());

    g.cli(&["pause", "--freeze", "a"]).good();
    wait_until("the ticks to stop", || {
        let before = g.read("ticks").len();
        std::thread::sleep(Duration::from_millis(200));
        g.read("ticks").len() == before
    });
    let before = g.read("ticks").len();
    g.cli(&["resume", "a"]).good();
    wait_until("the ticks to go on", || g.read("ticks").len() > before);
    g.end();
}

#[test]
fn enabled_and_scaled_are_kept() {
    let mut g = Guardian::up(&format!("{TWO}[services.off]\ncommand = 'CHILD hang'\nenabled = false\n"));
    g.wait_state("b", &["running"]);
    assert_eq!(g.service("off").state, "stopped");
    let pid = Some(g.pid("a"));
    g.cli(&["scale", "a=3"]).good();
    g.wait_for("three instances", |all| all.iter().filter(|s| s.name == "a" && s.pid.is_some()).count() == 3);
    assert_eq!(g.service("a").pid, pid, "the first instance was touched");
    g.cli(&["enable", "off"]).good();
    g.cli(&["disable", "b"]).good();
    assert!(g.service("b").pid.is_some(), "disabling stops nothing");
    g.interrupt();
    g.wait_exit();
    g.start(&[]);
    g.wait_answering();
    g.wait_for("the same as before", |all| {
        let up = |name: &str| all.iter().filter(|s| s.name == name && s.pid.is_some()).count();
        up("a") == 3 && up("off") == 1
    });
    assert!(g.service("b").pid.is_none());
    g.cli(&["scale", "a=1"]).good();
    g.wait_for("one instance", |all| all.iter().filter(|s| s.name == "a" && s.pid.is_some()).count() == 1);
    g.end();
}

#[test]
fn instances_know_their_number() {
    let g =
        Guardian::up("[services.w]\ncommand = 'CHILD say number-${instance}-of-${service}'\ninstances = 2\n");
    g.wait_log("w", "number-1-of-w");
    g.wait_log("w@2", "number-2-of-w");
    g.cli(&["restart", "w@2"]).good();
    g.wait_for("only the second restarted", |all| all.len() == 2 && all.iter().all(|s| s.pid.is_some()));
    g.end();
}

#[test]
fn a_reload_touches_only_what_changed() {
    let g = Guardian::up(TWO);
    g.wait_for("both running", |all| all.iter().all(|s| s.state == "running"));
    let (a, b) = (g.service("a").pid, g.service("b").pid);
    let changed = "[services.a]\ncommand = 'CHILD ignore-term'\nstop = [{ signal = 'TERM', wait = '100ms' }]\n\
                   [services.b]\ncommand = 'CHILD hang'\nrestart = { max_delay = '2m' }\n[services.c]\ncommand = 'CHILD hang'\n";
    g.write("keepwell.toml", changed);
    g.cli(&["reload", "--dry-run"]).good().says(&["a", "restart", "b", "live", "c", "new"]);
    assert_eq!(g.service("a").pid, a);
    assert_eq!(g.status().unwrap().len(), 2);
    g.cli(&["reload"]).good();
    g.wait_for("all three running", |all| all.len() == 3 && all.iter().all(|s| s.pid.is_some()));
    assert_ne!(g.service("a").pid, a);
    assert_eq!(g.service("b").pid, b);

    g.write("keepwell.toml", "[services.b]\ncommand = 'CHILD hang'\nrestart = { max_delay = '2m' }\n");
    g.cli(&["reload"]).good();
    g.wait_for("only b", |all| all.len() == 1);
    assert_eq!(g.service("b").pid, b);
    wait_until("nothing of the others left", || g.services_running().len() == 1);
    g.end();
}

#[test]
fn exit_codes_and_where_it_looked() {
    let g = Guardian::new(TWO);
    let nobody = g.cli(&["status"]).with_code(3);
    nobody.says(&[".keepwell"]);
    g.cli(&["stop", "a"]).with_code(3);
    g.cli(&["no-such-command"]).with_code(2);
    g.cli(&["status", "--no-such-option"]).with_code(2);
    g.cli(&["check"]).good();
    g.cli(&["--help"]).good().says(&["up", "explain", "Exit codes"]);
    g.cli(&["completions", "bash"]).good();
    assert!(g.cli(&["schema"]).good().out.contains("services"));

    let mut g = g;
    g.start(&[]);
    g.wait_answering();
    let unknown = g.cli(&["stop", "c"]);
    assert_ne!(unknown.code, 0);
    unknown.says(&["`c`"]);
    let status = g.cli(&["status", "nobody"]);
    assert_ne!(status.code, 0);
    // From a folder below, and by the socket's path.
    let socket = g.state("keepwell.sock");
    g.cli(&["status", "--socket", socket.to_str().unwrap()]).good();
    std::fs::create_dir(g.path("below")).unwrap();
    let done = g.command(&["status"]).current_dir(g.path("below")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    g.end();
}

#[test]
fn init_writes_a_file_that_is_right_and_never_over_another() {
    let g = Guardian::new("");
    std::fs::remove_file(g.path("keepwell.toml")).unwrap();
    g.cli(&["init"]).good();
    g.cli(&["check"]).good();
    let text = g.read("keepwell.toml");
    assert!(text.contains('#') && text.contains("[services."), "{text}");
    assert_ne!(g.cli(&["init"]).code, 0);
    assert_eq!(g.read("keepwell.toml"), text);
}

#[test]
fn others_may_not_look_or_control() {
    if !sys::is_root() {
        eprintln!("skipped: only root can play two users");
        return;
    }
    let g = Guardian::up(TWO);
    g.wait_state("a", &["running"]);
    let pid = g.service("a").pid;
    for args in [&["status"][..], &["stop", "a"]] {
        let mut command = g.command(args);
        sys::run_as(&mut command, sys::NOBODY);
        let done = command.output().unwrap();
        assert!(!done.status.success(), "a stranger was let in: {args:?}");
    }
    assert_eq!(g.service("a").pid, pid);
    g.end();
}

#[test]
fn two_files_are_one_configuration() {
    let g = Guardian::new("[services.a]\ncommand = 'CHILD hang'\n");
    std::fs::create_dir(g.path("keepwell.d")).unwrap();
    g.write("keepwell.d/b.toml", "[services.b]\ncommand = 'CHILD hang'\n");
    g.cli(&["up", "--detach"]).good();
    assert_eq!(g.status().unwrap().iter().map(|s| s.name.clone()).collect::<Vec<_>>(), ["a", "b"]);
    g.cli(&["down"]).good();
    g.write("keepwell.d/c.toml", "[services.b]\ncommand = 'CHILD hang'\n");
    g.cli(&["check"]).with_code(2).says(&["b.toml", "c.toml"]);
}
