//! Every kind of readiness, and the real `sd_notify` protocol.

use std::process::Command;

use keepwell_e2e::{Guardian, free_port, sys, wait_until};

/// `slow` is not ready before `gate` opens it, and `after` starts only then.
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
    let port = free_port();
    let ready = format!("{{ http = 'http://127.0.0.1:{port}/ready', period = '200ms', timeout = '1m' }}");
    gated(&ready, &format!("CHILD http {port} --gate gate"), |g| g.write("gate", ""));
}

#[test]
fn by_tcp() {
    let port = free_port();
    let ready = format!("{{ tcp = '127.0.0.1:{port}', period = '200ms', timeout = '1m' }}");
    gated(&ready, "CHILD hang", |_| {
        // Somebody who listens; who it is a check cannot tell.
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
    });
}

#[test]
fn by_unix_socket() {
    gated("{ unix = 'here.sock', period = '200ms', timeout = '1m' }", "CHILD hang", |g| {
        sys::listen_unix(&g.path("here.sock"));
    });
}

#[test]
fn by_exec() {
    gated("{ exec = ['test', '-e', 'gate'], period = '200ms', timeout = '1m' }", "CHILD hang", |g| {
        g.write("gate", "")
    });
}

#[test]
fn by_file() {
    gated("{ file = 'gate', period = '200ms', timeout = '1m' }", "CHILD hang", |g| g.write("gate", ""));
}

#[test]
fn a_file_of_an_earlier_run_makes_nobody_ready() {
    let mut g = Guardian::new(
        "[services.slow]\ncommand = 'CHILD hang'\nready = { file = 'gate', period = '200ms', timeout = '1m' }\n",
    );
    g.write("gate", "of an earlier run");
    // The time of a file is that of the kernel's last tick.
    std::thread::sleep(std::time::Duration::from_millis(50));
    g.start(&[]);
    wait_until("a look at it", || {
        g.info().is_some() && g.cli(&["explain", "slow"]).all().contains("from before this start")
    });
    assert_eq!(g.service("slow").state, "starting");
    g.write("gate", "of this one");
    g.wait_state("slow", &["ready"]);
    g.end();
}

#[test]
fn by_a_line_of_output() {
    let script = "sh -c \"echo starting; while ! test -e gate; do sleep 0.05; done; echo listening on :80; sleep 1000\"";
    gated("{ log = '^listening on .*:\\d+', timeout = '1m' }", script, |g| g.write("gate", ""));
}

#[test]
fn by_delay() {
    // Nobody can hold this gate shut, so it is slow to open.
    gated("{ delay = '3s' }", "CHILD hang", |_| {});
}

#[test]
fn by_notify() {
    gated("'notify'", "CHILD notify READY=1 --gate gate", |g| g.write("gate", ""));
}

#[test]
fn one_that_is_never_ready_is_told_ended_and_tried_again() {
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD hang'\n\
         ready = { file = 'never', period = '200ms', timeout = '600ms' }\nrestart = { delay = '100ms' }\n",
    );
    g.wait_for("a second try", |all| all[0].restarts >= 1);
    g.cli(&["explain", "a"]).good().says(&["never"]);
    g.wait_events("the last answer to be told", |all| all.iter().any(|e| e.text.contains("does not exist")));
    g.end();
}

#[test]
fn a_probe_that_hangs_delays_nobody_else() {
    let (silent, port) = (free_port(), free_port());
    let held = std::net::TcpListener::bind(("127.0.0.1", silent)).unwrap();
    let g = Guardian::up(&format!(
        r#"
        [services.hung]
        command = "CHILD hang"
        ready = {{ http = "http://127.0.0.1:{silent}/", timeout = "1h" }}
        [services.stuck]
        command = "CHILD hang"
        ready = {{ exec = "CHILD ignore-term", timeout = "1h" }}
        [services.good]
        command = "CHILD http {port}"
        ready = {{ http = "http://127.0.0.1:{port}/", period = "200ms" }}
        "#
    ));
    g.wait_state("good", &["ready"]);
    assert_eq!(
        (g.service("hung").state.as_str(), g.service("stuck").state.as_str()),
        ("starting", "starting")
    );
    drop(held);
    g.end();
}

#[test]
fn the_user_that_is_heard_is_the_one_that_the_service_runs_as_now() {
    if !sys::is_root() {
        eprintln!("skipped: only root can play two users");
        return;
    }
    let config = |user: &str| {
        format!(
            "[services.a]\ncommand = 'CHILD print-env'\n{user}ready = {{ notify = true, timeout = '1h' }}\n"
        )
    };
    let g = Guardian::up(&config(""));
    let log = g.wait_log("a", "end of environment");
    let address = log.lines().find_map(|l| l.strip_prefix("NOTIFY_SOCKET=")).unwrap().to_owned();
    g.write("keepwell.toml", &config("user = 'nobody'\n"));
    let before = g.service("a").pid;
    g.cli(&["reload", "--no-wait"]).good();
    wait_until("the next run", || g.service("a").pid.is_some_and(|pid| Some(pid) != before));
    let mut helper = Command::new(keepwell_e2e::testchild());
    helper.args(["notify", "READY=1"]).env("NOTIFY_SOCKET", &address);
    sys::run_as(&mut helper, sys::NOBODY);
    let mut helper = helper.spawn().unwrap();
    g.wait_state("a", &["ready"]);
    helper.kill().unwrap();
    helper.wait().unwrap();
    g.end();
}

#[test]
fn strangers_are_not_heard() {
    if !sys::is_root() {
        eprintln!("skipped: only root can play two users");
        return;
    }
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD print-env'\nready = { notify = true, timeout = '1h' }\n",
    );
    let log = g.wait_log("a", "end of environment");
    let address = log.lines().find_map(|l| l.strip_prefix("NOTIFY_SOCKET=")).unwrap().to_owned();
    let mut stranger = Command::new(keepwell_e2e::testchild());
    stranger.args(["notify", "READY=1"]).env("NOTIFY_SOCKET", &address);
    sys::run_as(&mut stranger, sys::NOBODY);
    let mut stranger = stranger.spawn().unwrap();
    wait_until("it to be told", || {
        g.events().iter().any(|e| e.text.contains("ignored") && e.level == "warn")
    });
    assert_eq!(g.service("a").state, "starting");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    // The administrator may.
    sys::send_datagram(&address, b"READY=1").unwrap();
    g.wait_state("a", &["ready"]);
    g.end();
}

#[test]
fn the_rest_of_the_protocol() {
    let g = Guardian::up(
        r#"
        [defaults]
        restart = { delay = "100ms" }
        [services.words]
        command = ["CHILD", "notify", 'STATUS=one\nREADY=1', 'STATUS=two\nX_UNKNOWN=1']
        ready = "notify"
        [services.watched]
        command = "CHILD notify READY=1"
        ready = { notify = true, watchdog = "700ms" }
        [services.broken]
        command = "CHILD notify READY=1 WATCHDOG=trigger"
        ready = "notify"
        [services.patient]
        command = ["CHILD", "notify", "EXTEND_TIMEOUT_USEC=60000000"]
        ready = { notify = true, timeout = "500ms" }
        [services.hasty]
        command = "CHILD hang"
        ready = { notify = true, timeout = "500ms" }
        "#,
    );
    g.wait_for("the status", |all| {
        all.iter().any(|s| s.name == "words" && s.status_text.as_deref() == Some("two"))
    });
    for name in ["watched", "broken", "hasty"] {
        g.wait_for(&format!("{name} restarted"), |all| all.iter().any(|s| s.name == name && s.restarts >= 2));
    }
    let patient = g.service("patient");
    assert_eq!((patient.state.as_str(), patient.restarts), ("starting", 0));
    assert_eq!(g.service("words").restarts, 0);
    g.end();
}

/// What is said while there is no daemon waits in the socket, which the anchor holds.
#[test]
fn nothing_is_lost_while_the_daemon_is_replaced() {
    let mut config = String::new();
    for n in 0..20 {
        config.push_str(&format!(
            "[services.s{n}]\nready = {{ notify = true, timeout = '5m' }}\nshell = true\n\
             command = 'while ! test -e gate; do sleep 0.02; done; exec CHILD notify READY=1 --after {}'\n",
            n * 25
        ));
    }
    let g = Guardian::up(&config);
    g.wait_for("all started", |all| all.iter().all(|s| s.pid.is_some()));
    g.write("gate", "");
    for _ in 0..5 {
        let daemon = g.daemon();
        sys::kill(daemon, sys::SIGKILL);
        wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    }
    let all = g.wait_for("all ready", |all| all.iter().all(|s| s.state == "ready"));
    assert!(all.iter().all(|s| s.restarts == 0), "{all:?}");
    g.end();
}
