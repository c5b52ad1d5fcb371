//! Ends, restarts, crash loops, and what `explain` says of them.

use keepwell_e2e::{Guardian, sys, wait_until};

#[test]
fn a_crash_is_restarted_and_explained() {
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD exit 3 --after 50'\nrestart = { delay = '300ms', jitter = '0%' }\n",
    );
    g.wait_for("two restarts", |all| all[0].restarts >= 2);
    let exits = g.service("a").exits;
    // It runs for 50 ms; keepwell's own clock starts when it hears of the start.
    assert!(exits.iter().all(|e| e.code == Some(3) && e.ran_for_ms >= 20 && !e.expected), "{exits:?}");
    g.cli(&["explain", "a"]).good().says(&["3"]);
    let all = g.wait_events("two restarts among the events", |all| {
        all.iter().filter(|e| e.kind == "started").count() >= 3
    });
    let seqs: Vec<_> = all.iter().map(|e| e.seq).collect();
    assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "events have gaps: {seqs:?}");
    for kind in ["started", "exited", "restart_scheduled", "state_changed"] {
        assert!(all.iter().any(|e| e.kind == kind), "no `{kind}` among the events");
    }
    g.end();
}

#[test]
fn every_end_has_its_meaning() {
    let g = Guardian::up(
        r#"
        [defaults]
        restart = "never"
        [services.killed]
        command = "CHILD crash-by 9"
        [services.segfault]
        command = "CHILD crash-by 11"
        [services.missing]
        command = "/no/such/program"
        [services.forbidden]
        command = "/etc/passwd"
        [services.folder]
        command = "CHILD hang"
        cwd = "no-such-folder"
        [services.good]
        command = "CHILD exit 0"
        [services.stays]
        command = "CHILD hang"
        "#,
    );
    g.wait_for("all have ended", |all| {
        all.iter().filter(|s| s.name != "stays").all(|s| s.pid.is_none() && !s.exits.is_empty())
    });
    g.cli(&["explain", "killed"]).good().says(&["SIGKILL"]);
    g.cli(&["explain", "segfault"]).good().says(&["SIGSEGV"]);
    g.cli(&["explain", "missing"]).good().says(&["not found", "/no/such/program"]);
    g.cli(&["explain", "forbidden"]).good().says(&["permission denied", "/etc/passwd"]);
    g.cli(&["explain", "folder"]).good().says(&["no-such-folder"]);
    assert_eq!(g.service("good").state, "completed");
    g.end();
}

#[test]
fn too_many_crashes_are_a_loop_that_is_told_and_ended_by_a_start() {
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
    let looping = g.wait_state("loops", &["crash_looping"]);
    assert!(looping.next_attempt.is_some(), "{looping:?}");
    g.cli(&["explain", "loops"]).good().says(&["keepwell start loops"]);
    let gave_up = g.wait_state("quits", &["gave_up"]);
    assert!(gave_up.next_attempt.is_none(), "{gave_up:?}");
    // Never refused, and the count begins anew.
    g.cli(&["start", "--no-wait", "quits"]).good();
    wait_until("it to be tried again", || {
        g.events().iter().filter(|e| e.kind == "started" && e.service.as_deref() == Some("quits")).count()
            >= 4
    });
    g.end();
}

#[test]
fn exit_codes_have_classes() {
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
        [services.failing]
        command = "CHILD exit 6"
        restart = { policy = "on-failure", limit = "off" }
        [services.stays]
        command = "CHILD hang"
        "#,
    );
    g.wait_state("done", &["completed"]);
    g.wait_state("fatal", &["gave_up"]);
    g.wait_for("failing restarted", |all| all.iter().any(|s| s.name == "failing" && s.restarts >= 3));
    let all = g.wait_for("the end of config", |all| {
        all.iter().any(|s| s.name == "config" && s.pid.is_none() && !s.exits.is_empty())
    });
    let config = all.iter().find(|s| s.name == "config").unwrap();
    assert_eq!((config.restarts, config.pid), (0, None), "{config:?}");
    assert_eq!(g.service("fatal").restarts, 0);
    g.end();
}

#[test]
fn a_missing_program_is_started_as_soon_as_it_is_there() {
    let g = Guardian::up("[services.a]\ncommand = './late'\nrestart = { delay = '1h', max_delay = '1h' }\n");
    g.wait_for("a failed start", |all| !all[0].exits.is_empty() && all[0].pid.is_none());
    g.write("late.new", "#!/bin/sh\nexec CHILD hang\n");
    sys::set_mode(&g.path("late.new"), 0o755).unwrap();
    std::fs::rename(g.path("late.new"), g.path("late")).unwrap();
    g.wait_state("a", &["running"]);
    g.end();
}

#[test]
fn delay_zero_and_no_limit_restart_at_once_for_ever() {
    let g =
        Guardian::up("[services.a]\ncommand = 'CHILD exit 1'\nrestart = { delay = '0s', limit = 'off' }\n");
    g.wait_for("a hundred restarts", |all| all[0].restarts >= 100);
    assert!(!["crash_looping", "gave_up"].contains(&g.service("a").state.as_str()));
    g.end();
}

#[test]
fn a_oneshot_runs_once_an_up() {
    let mut g = Guardian::up(
        "[services.once]\nkind = 'oneshot'\ncommand = 'CHILD exit 0'\n[services.stays]\ncommand = 'CHILD hang'\n",
    );
    let runs = |g: &Guardian| {
        g.events().iter().filter(|e| e.kind == "started" && e.service.as_deref() == Some("once")).count()
    };
    g.wait_state("once", &["completed"]);
    let before = g.daemon();
    assert!(sys::kill(before, sys::SIGKILL));
    wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != before));
    assert_eq!((g.service("once").state.as_str(), runs(&g)), ("completed", 1));
    g.interrupt();
    g.wait_exit();
    g.start(&[]);
    g.wait_answering();
    g.wait_state("once", &["completed"]);
    wait_until("the second run to be told", || runs(&g) >= 2);
    assert_eq!(runs(&g), 2);
    g.end();
}

#[test]
fn hooks_run_around_a_life() {
    let g = Guardian::up(
        r#"
        [services.a]
        command = "echo main >> story; exec CHILD record up"
        shell = true
        ready = { file = "up", period = "200ms" }
        [services.a.hooks]
        pre_start = ["sh", "-c", "echo pre_start >> story"]
        post_start = ["sh", "-c", "echo post_start >> story"]
        pre_stop = ["sh", "-c", "echo pre_stop >> story"]
        post_stop = ["sh", "-c", "echo post_stop >> story"]
        [services.blocked]
        command = "CHILD hang"
        hooks = { pre_start = "CHILD exit 9" }
        restart = "never"
        "#,
    );
    g.wait_file("story", "post_start");
    g.wait_for("blocked not started", |all| {
        all.iter().any(|s| s.name == "blocked" && s.pid.is_none() && s.state != "starting")
    });
    g.cli(&["stop", "a"]).good();
    let story = g.read("story");
    assert_eq!(
        story.lines().collect::<Vec<_>>(),
        ["pre_start", "main", "post_start", "pre_stop", "post_stop"]
    );
    g.end();
}

#[test]
fn what_a_main_process_leaves_behind_is_ended_before_the_next_start() {
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD double-fork left --exit 1'\nrestart = { delay = '200ms', jitter = '0%', limit = 'off' }\n",
    );
    g.wait_for("three restarts", |all| all[0].restarts >= 3);
    let left: Vec<u32> = g.read("left").lines().map(|l| l.parse().unwrap()).collect();
    let running: Vec<u32> = g.services_running().iter().map(|(pid, _)| *pid).collect();
    let alive = left.iter().filter(|p| running.contains(p)).count();
    assert!(alive <= 1, "grandchildren of {alive} runs live at once: {left:?} {running:?}");
    g.cli(&["stop", "a"]).good();
    assert_eq!(g.services_running(), []);
    assert!(g.service("a").restarts >= 3);
    g.end();
}
