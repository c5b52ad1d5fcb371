//! Holding and surviving: whatever dies of keepwell itself, no process, no exit and no line is lost or doubled.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use keepwell_e2e::{DEADLINE, Guardian, sys, wait_some, wait_until};

/// How often the daemon is killed: 200 times unless `KEEPWELL_KILLS` says otherwise.
fn kills() -> u32 {
    std::env::var("KEEPWELL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

/// Services that write, exit with ever other codes, and are restarted at once.
fn load(services: usize) -> String {
    let mut config = String::from(
        "[defaults]\nrestart = { delay = '0s', limit = 'off' }\nlog = { rotate = { size = '1GB' } }\n",
    );
    for n in 0..services {
        config.push_str(&format!("[services.w{n}]\ncommand = 'CHILD work w{n}'\n"));
    }
    config
}

fn with_load(services: usize) -> Guardian {
    let mut g = Guardian::new(&load(services));
    for n in 0..services {
        std::fs::create_dir(g.path(&format!("w{n}"))).unwrap();
    }
    g.start(&["--quiet"]);
    g.wait_answering();
    wait_until("every service to have run twice", || (0..services).all(|n| begins(&g, n) >= 2));
    g
}

fn begins(g: &Guardian, n: usize) -> usize {
    g.read(&format!("w{n}/runs")).lines().filter(|l| l.starts_with("begin")).count()
}

/// Kills the daemon and waits until another answers.
fn replace_daemon(g: &Guardian) -> u32 {
    let before = g.daemon();
    sys::kill(before, sys::SIGKILL);
    wait_some("another daemon", || g.info().map(|i| i.daemon_pid).filter(|pid| *pid != before))
}

#[test]
fn a_killed_daemon_costs_nothing() {
    const SERVICES: usize = 50;
    let mut g = with_load(SERVICES);
    // Most kills hit a daemon that works, some one in the middle of its boot; the anchor backs off from those.
    let anchor = g.anchor();
    for n in 0..kills() {
        if n % 8 != 0 {
            wait_until("an answer", || g.info().is_some());
        }
        let daemon = wait_some("a daemon", || daemon_of(anchor));
        std::thread::sleep(Duration::from_millis(u64::from(n * 37 % 40)));
        sys::kill(daemon, sys::SIGKILL);
        wait_until("its end", || daemon_of(anchor) != Some(daemon));
    }
    wait_until("an answer", || g.info().is_some());
    let before: Vec<_> = (0..SERVICES).map(|n| begins(&g, n)).collect();
    wait_until("every service to go on", || (0..SERVICES).all(|n| begins(&g, n) >= before[n] + 2));
    let rebirths = g.info().unwrap().rebirths;
    assert!(rebirths >= kills() / 2, "only {rebirths} daemons");

    g.interrupt();
    assert_eq!(g.wait_exit(), 0, "{}", g.traces());
    g.assert_nothing_left(Duration::ZERO);
    let mut faults = Vec::new();
    for n in 0..SERVICES {
        faults.extend(faults_of_runs(&g, n));
        faults.extend(faults_of_lines(&g, n));
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));

    // No exit status was lost: what each process left with is what the store tells of it.
    let mut g = g;
    g.write("keepwell.toml", "[services.idle]\ncommand = 'CHILD hang'\n");
    g.start(&["--quiet"]);
    g.wait_answering();
    let faults = faults_of_events(&g, SERVICES);
    let runs: usize = (0..SERVICES).map(|n| begins(&g, n)).sum();
    eprintln!("{} kills, {rebirths} daemons, {runs} runs, {} events", kills(), g.events().len());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    g.end();
}

/// The anchor's child that is `keepwell internal daemon`.
fn daemon_of(anchor: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{anchor}/task/{anchor}/children")).ok()?;
    children.split_whitespace().filter_map(|p| p.parse().ok()).find(|pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = command.split(|b| *b == 0).collect();
        words.get(1..3).is_some_and(|w| w == [b"internal".as_slice(), b"daemon"])
    })
}

/// Never two at once, every begin has its end.
fn faults_of_runs(g: &Guardian, n: usize) -> Vec<String> {
    let (mut running, mut faults) = (None::<String>, Vec::new());
    for line in g.read(&format!("w{n}/runs")).lines() {
        let words: Vec<_> = line.split(' ').collect();
        let fits = match (words[0], &running) {
            ("begin", None) => true,
            ("end", Some(pid)) => pid == words[1],
            _ => false,
        };
        if !fits {
            faults.push(format!("w{n}: `{line}` while {running:?} ran"));
        }
        running = (words[0] == "begin").then(|| words[1].to_owned());
    }
    if let Some(pid) = running {
        faults.push(format!("w{n}: process {pid} never ended by itself"));
    }
    faults
}

/// Every line once, in order, whole.
fn faults_of_lines(g: &Guardian, n: usize) -> Vec<String> {
    let written: usize = g.read(&format!("w{n}/next")).parse().unwrap_or(0);
    let log = g.log(&format!("w{n}"));
    let mut faults = Vec::new();
    for (i, line) in log.lines().enumerate() {
        if !line.starts_with(&format!("line {i} of run ")) || !line.ends_with(&format!(" of w{n}")) {
            faults.push(format!("w{n}: line {i} of the log is `{line}`"));
            break;
        }
    }
    let kept = log.lines().count();
    if kept != written {
        faults.push(format!("w{n}: {written} lines were written, {kept} are kept"));
    }
    faults
}

/// The exits that are told are those that happened, each once and with its code.
fn faults_of_events(g: &Guardian, services: usize) -> Vec<String> {
    let events = g.events();
    let mut told: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    for event in &events {
        if !numbers.insert(event.seq) {
            return vec![format!("event {} is there twice", event.seq)];
        }
        if let (Some(service), Some(exit)) = (&event.service, &event.exit) {
            // The stop at the end may meet a process that has not come to its first line.
            if exit.expected && exit.signal == Some(sys::SIGTERM) {
                continue;
            }
            told.entry(service.clone()).or_default().push(exit.code.unwrap_or(-1));
        }
    }
    let oldest = events.first().map_or(0, |e| e.seq);
    let mut faults = Vec::new();
    for n in 0..services {
        let happened: Vec<i32> = g
            .read(&format!("w{n}/runs"))
            .lines()
            .filter(|l| l.starts_with("end"))
            .filter_map(|l| l.rsplit(' ').next()?.parse().ok())
            .collect();
        let told = told.remove(&format!("w{n}")).unwrap_or_default();
        // The store keeps the last events only; what it keeps must be the end of what happened.
        let whole = oldest <= 1 && told != happened;
        if whole || !happened.ends_with(&told) || told.is_empty() {
            let last = |v: &[i32]| v[v.len().saturating_sub(8)..].to_vec();
            faults.push(format!(
                "w{n}: {} exits happened (… {:?}), {} are told (… {:?})",
                happened.len(),
                last(&happened),
                told.len(),
                last(&told)
            ));
        }
    }
    faults
}

#[test]
fn a_killed_anchor_leaves_nothing_and_the_next_start_restores_what_was_wanted() {
    let config = "[services.a]\ncommand = 'CHILD double-fork left'\n[services.b]\ncommand = 'CHILD ignore-term'\n\
                  [services.c]\ncommand = 'CHILD hang'\n";
    let mut g = Guardian::up(config);
    g.wait_for("all up", |all| all.iter().all(|s| s.pid.is_some()));
    g.wait_file("left", "\n");
    g.cli(&["stop", "c"]).good();
    assert!(sys::kill(g.anchor(), sys::SIGKILL));
    g.forget();
    g.assert_nothing_left(Duration::from_secs(2));
    g.start(&[]);
    g.wait_answering();
    g.wait_for("what was wanted", |all| all.iter().all(|s| s.pid.is_some() == (s.name != "c")));
    assert_eq!(g.services_running().len(), 3);
    g.end();
}

#[test]
fn both_killed_in_one_instant_leave_nothing_to_the_next_start() {
    for unprivileged in [false, true] {
        let config =
            "[services.a]\ncommand = 'CHILD double-fork left'\n[services.b]\ncommand = 'CHILD record runs'\n";
        let mut g = if unprivileged { Guardian::unprivileged(config) } else { Guardian::new(config) };
        g.start(&[]);
        g.wait_answering();
        g.wait_for("all up", |all| all.iter().all(|s| s.pid.is_some()));
        g.wait_file("left", "\n");
        let (anchor, daemon) = (g.anchor(), g.daemon());
        // Stopped first, so that neither has an instant without the other.
        for signal in [sys::SIGSTOP, sys::SIGKILL] {
            sys::kill(daemon, signal);
            sys::kill(anchor, signal);
        }
        g.forget();
        let old: Vec<u32> = g.processes().iter().map(|(pid, _)| *pid).collect();
        g.start(&[]);
        g.wait_answering();
        g.wait_for("all up again", |all| all.iter().all(|s| s.pid.is_some_and(|p| !old.contains(&p))));
        let still = || -> Vec<_> { g.processes().into_iter().filter(|(pid, _)| old.contains(pid)).collect() };
        let services: Vec<_> = still().into_iter().filter(|(_, c)| !c.contains(" internal view ")).collect();
        assert_eq!(services, [], "of the guardian before");
        // What showed the one before does not go on with its successor.
        wait_until("its view has ended", || still().is_empty());
        g.end();
    }
}

#[test]
fn who_follows_a_guardian_does_not_go_on_with_the_next() {
    let mut g = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n");
    g.pid("a");
    let seen = std::fs::File::create(g.path("seen")).unwrap();
    let mut follower = g.command(&["events", "-f"]).stdout(seen).spawn().unwrap();
    wait_until("it is there", || !g.read("seen").is_empty());
    g.cli(&["restart", "a"]).good();
    wait_until("it follows", || g.read("seen").matches("started, pid").count() == 2);
    // It sleeps over the change of guardians, and finds the same socket.
    sys::kill(follower.id(), sys::SIGSTOP);
    let (anchor, daemon) = (g.anchor(), g.daemon());
    let old: Vec<u32> = g.processes().iter().map(|(pid, _)| *pid).collect();
    for signal in [sys::SIGSTOP, sys::SIGKILL] {
        sys::kill(daemon, signal);
        sys::kill(anchor, signal);
    }
    g.forget();
    g.start(&[]);
    g.wait_answering();
    sys::kill(follower.id(), sys::SIGCONT);
    wait_until("the follower has ended", || follower.try_wait().unwrap().is_some());
    assert!(follower.wait().unwrap().success());
    wait_until("the view has ended too", || g.processes().iter().all(|(pid, _)| !old.contains(pid)));
    g.end();
}

/// The folder of a guardian's control groups, made to look an hour old; `None`: it has none.
fn old_group(g: &Guardian) -> Option<std::path::PathBuf> {
    let mechanisms = g.info()?.mechanisms;
    let folder = mechanisms.iter().find_map(|m| m.strip_prefix("trees: cgroup v2, "))?;
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(folder).unwrap().set_modified(hour_ago).unwrap();
    Some(folder.into())
}

#[test]
fn empty_control_groups_of_the_dead_are_removed_by_any_start() {
    let mut dead = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n");
    let alive = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n");
    alive.pid("a");
    alive.cli(&["stop", "a"]).good();
    dead.pid("a");
    let (Some(left), Some(kept)) = (old_group(&dead), old_group(&alive)) else {
        eprintln!("skipped: no control group may be made here");
        return;
    };
    let (anchor, daemon) = (dead.anchor(), dead.daemon());
    for signal in [sys::SIGSTOP, sys::SIGKILL] {
        sys::kill(daemon, signal);
        sys::kill(anchor, signal);
    }
    dead.forget();
    dead.assert_nothing_left(Duration::from_secs(10));
    // The living one has no daemon for a moment, and nothing runs in its groups.
    sys::kill(alive.daemon(), sys::SIGKILL);
    let other = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n");
    assert!(!left.exists(), "{} is still there", left.display());
    assert!(kept.join("a").exists(), "{} is gone", kept.display());
    other.end();
    alive.wait_for("an answer", |_| true);
    alive.cli(&["start", "a"]).good();
    alive.end();
}

/// Without the right to fork the anchor cannot start a daemon, and nobody else is hindered.
#[test]
fn a_daemon_that_cannot_start_leaves_every_service_running_and_writing() {
    let mut g = Guardian::unprivileged("[services.a]\ncommand = 'CHILD tick ticks --every 1'\n");
    g.start(&[]);
    g.wait_answering();
    g.wait_file("ticks", " 5\n");
    let (a, daemon, anchor) = (Some(g.pid("a")), g.daemon(), g.anchor());
    if !limit(anchor, "--nproc=0:") {
        return;
    }
    sys::kill(daemon, sys::SIGKILL);
    wait_until("nobody to answer", || g.info().is_none());
    // A pipe of 64 KiB holds some 6,000 of these lines; a writer that were blocked would stop there.
    let seen = g.read("ticks").lines().count();
    wait_until("ticks without a daemon", || g.read("ticks").lines().count() > seen + 8000);
    assert!(g.read("up.err").contains("daemon"), "nothing was told:\n{}", g.traces());
    assert!(g.info().is_none() && daemon_of(anchor).is_none());
    assert!(limit(anchor, "--nproc=4096:"));
    wait_until("an answer", || g.info().is_some());
    assert_eq!((g.service("a").pid, g.service("a").restarts), (a, 0));
    wait_until("all ticks in the log", || g.log("a").lines().count() > seen + 8000);
    for (n, line) in g.log("a").lines().enumerate() {
        assert_eq!(line, format!("tick {n}"));
    }
    g.end();
}

/// The other choice: nothing is dropped, so a writer waits as soon as its pipe is full.
#[test]
fn without_a_daemon_a_writer_waits_where_that_is_wanted() {
    let mut g = Guardian::unprivileged(
        "[keepwell]\nwhen_daemon_gone = 'block'\n[services.a]\ncommand = 'CHILD tick ticks --every 0'\n",
    );
    g.start(&[]);
    g.wait_answering();
    g.wait_file("ticks", " 5\n");
    let (a, daemon, anchor) = (g.pid("a"), g.daemon(), g.anchor());
    if !limit(anchor, "--nproc=0:") {
        return;
    }
    sys::kill(daemon, sys::SIGKILL);
    wait_until("nobody to answer", || g.info().is_none());
    let written = || g.read("ticks").lines().count();
    let stands_still = |time| {
        let before = written();
        std::thread::sleep(time);
        written() == before
    };
    wait_until("the pipe to be full", || stands_still(Duration::from_secs(1)));
    // After 10 s the other choice would have begun to read.
    assert!(stands_still(Duration::from_secs(12)), "somebody took what it wrote");
    let blocked_at = written();
    assert!(limit(anchor, "--nproc=4096:"));
    wait_until("an answer", || g.info().is_some());
    assert_eq!((g.pid("a"), g.service("a").restarts), (a, 0));
    wait_until("it to write on", || written() > blocked_at + 1000);
    wait_until("all of it in the log", || g.log("a").lines().count() > blocked_at);
    g.cli(&["stop", "a"]).good();
    for (n, line) in g.log("a").lines().enumerate() {
        assert_eq!(line, format!("tick {n}"));
    }
    g.end();
}

/// Sets a limit of a running process, as prlimit(1) does; false where that is not to be had.
fn limit(pid: u32, what: &str) -> bool {
    let done = Command::new("prlimit").arg(format!("--pid={pid}")).arg(what).status();
    let good = done.is_ok_and(|s| s.success());
    if !good {
        eprintln!("skipped: prlimit is not there, or may not set {what}");
    }
    good
}

#[test]
fn a_daemon_that_hangs_is_replaced_and_one_that_only_slept_goes_on() {
    let mut g = Guardian::new(
        "[keepwell]\nhang_after = '2s'\n[services.a]\ncommand = 'CHILD tick ticks'\nrestart = { delay = '0s' }\n",
    );
    g.start(&[]);
    g.wait_answering();
    g.wait_file("ticks", " 5\n");
    let (a, daemon) = (g.pid("a"), g.daemon());
    assert!(sys::kill(daemon, sys::SIGSTOP));
    std::thread::sleep(Duration::from_millis(500));
    assert!(sys::kill(daemon, sys::SIGCONT));
    wait_until("an answer", || g.info().is_some());
    assert_eq!((g.daemon(), g.service("a").pid), (daemon, Some(a)));

    assert!(sys::kill(daemon, sys::SIGSTOP));
    // It ends while nobody looks; the next daemon is told.
    assert!(sys::kill(a, sys::SIGKILL));
    wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    let again = g.wait_for("a again", |all| all[0].pid.is_some_and(|p| p != a));
    assert_eq!(again[0].exits.last().and_then(|e| e.signal), Some(9));
    g.end();
}

#[test]
fn no_room_for_logs_blocks_nobody_and_is_told() {
    let mut g = Guardian::new(
        "[services.full]\ncommand = 'CHILD flood 40000000'\nlog = { file = 'small/full.log' }\n\
         [services.a]\ncommand = 'CHILD tick ticks'\n",
    );
    if !g.small_disk("small", "6m") {
        return;
    }
    std::fs::write(g.path("small/filler"), vec![0; 4 << 20]).unwrap();
    g.start(&["--quiet"]);
    g.wait_answering();
    wait_until("the full disk to be told", || {
        g.events().iter().any(|e| e.level != "info" && e.service.as_deref() == Some("full"))
    });
    // A writer that were blocked would never come to its pause.
    let pid = g.pid("full");
    wait_until("it to have written all", || {
        std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|s| s.starts_with("34 "))
    });
    let seen = g.read("ticks").lines().count();
    wait_until("the other to tick on", || g.log("a").lines().count() > seen + 10);
    assert_eq!(g.service("full").restarts, 0);
    // Room again: it is written again, and told how much is missing.
    g.cli(&["stop", "full"]).good();
    std::fs::remove_file(g.path("small/filler")).unwrap();
    g.write(
        "keepwell.toml",
        "[services.full]\ncommand = 'CHILD tick ticks2'\nlog = { file = 'small/full.log' }\n\
         [services.a]\ncommand = 'CHILD tick ticks'\n",
    );
    g.cli(&["reload"]).good();
    g.cli(&["start", "full"]).good();
    g.wait_file("small/full.log", "tick ");
    g.wait_file("small/full.log", "dropped");
    g.wait_events("the loss to be told", |all| all.iter().any(|e| e.text.contains("dropped")));
    g.end();
}

#[test]
fn no_room_for_the_state_stops_nothing() {
    let mut g = Guardian::new(
        "[services.a]\ncommand = 'CHILD exit 1 --after 50'\nrestart = { delay = '50ms', max_delay = '50ms', limit = 'off' }\n",
    );
    if !g.small_disk(".keepwell", "1m") {
        return;
    }
    g.start(&["--quiet"]);
    g.wait_answering();
    let filler = g.path(".keepwell/filler");
    let _ =
        Command::new("dd").arg("if=/dev/zero").arg(format!("of={}", filler.display())).arg("bs=4k").output();
    let before = g.service("a").restarts;
    g.wait_for("restarts with a full disk", |all| all[0].restarts >= before + 20);
    // A command is done, and says that it will not be remembered.
    let answer = g.cli(&["stop", "a"]);
    assert_eq!(g.service("a").pid, None, "{}", answer.all());
    std::fs::remove_file(&filler).unwrap();
    g.cli(&["start", "a"]);
    let before = g.service("a").restarts;
    g.wait_for("restarts again", |all| all[0].restarts >= before + 5);
    g.end();
}

#[test]
fn a_start_beyond_the_limit_of_open_files_says_so_and_the_others_run_on() {
    let mut g = Guardian::new("[services.a]\ncommand = 'CHILD tick ticks'\n");
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_file("ticks", " 3\n");
    let a = Some(g.pid("a"));
    let daemon = g.daemon();
    let most = open_files(daemon).max(open_files(g.anchor())) + 6;
    if ![daemon, g.anchor()].iter().all(|pid| limit(*pid, &format!("--nofile={most}:"))) {
        return;
    }
    let mut config = String::from(
        "[services.a]\ncommand = 'CHILD tick ticks'\n[defaults]\nrestart = { delay = '100ms', max_delay = '200ms', limit = 'off' }\n",
    );
    for n in 0..30 {
        config.push_str(&format!("[services.x{n}]\ncommand = 'CHILD hang'\n"));
    }
    g.write("keepwell.toml", &config);
    g.cli(&["reload", "--no-wait"]);
    wait_until("it to be told", || {
        g.read(".keepwell/keepwell.log").to_lowercase().contains("too many open files")
            || g.read("up.err").to_lowercase().contains("too many open files")
    });
    let seen = g.read("ticks").lines().count();
    wait_until("the other to tick on", || g.read("ticks").lines().count() > seen + 10);
    for pid in [daemon_of(g.anchor()).unwrap_or(daemon), g.anchor()] {
        assert!(limit(pid, "--nofile=4096:"));
    }
    g.wait_for("all up when there is room", |all| all.iter().all(|s| s.pid.is_some()));
    assert_eq!(g.service("a").pid, a);
    g.end();
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The clock of the whole host cannot be moved by a test, and Linux's time namespaces leave CLOCK_REALTIME alone, so this
/// runs only where somebody allows it: `KEEPWELL_E2E_CLOCK=1`, as root.
#[test]
fn the_clock_may_jump() {
    if std::env::var_os("KEEPWELL_E2E_CLOCK").is_none() || !sys::is_root() {
        eprintln!("skipped: it would set this host's clock; KEEPWELL_E2E_CLOCK=1 allows it");
        return;
    }
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD exit 1 --after 100'\nrestart = { delay = '500ms', max_delay = '500ms', jitter = '0%', limit = 'off' }\n",
    );
    for step in ["+1 hour", "-2 hours", "+1 hour"] {
        let before = g.service("a").restarts;
        assert!(Command::new("date").arg("-s").arg(step).output().unwrap().status.success());
        let start = Instant::now();
        g.wait_for("the next restarts", |all| all[0].restarts >= before + 2);
        assert!(start.elapsed() < DEADLINE / 2, "after {step}: {:?}", start.elapsed());
    }
    wait_until("it to be told", || g.events().iter().any(|e| e.text.contains("clock")));
    g.end();
}

#[test]
fn a_lost_socket_file_is_no_end() {
    // Somebody cleans up too much: the anchor holds the endpoint, so a command fails and services run on.
    let g = Guardian::up("[services.a]\ncommand = 'CHILD tick ticks'\n");
    g.wait_file("ticks", " 3\n");
    std::fs::remove_file(g.state("keepwell.sock")).unwrap();
    let seen = g.read("ticks").lines().count();
    wait_until("the ticks to go on", || g.read("ticks").lines().count() > seen + 10);
    g.end();
}

#[test]
fn many_daemons_in_a_row_hold_few_descriptors() {
    let g = Guardian::up("[services.a]\ncommand = 'CHILD tick ticks'\n");
    replace_daemon(&g);
    let (anchor, daemon) = (open_files(g.anchor()), open_files(g.daemon()));
    // Many more than what a daemon that has just answered may still be about to open.
    for _ in 0..20 {
        replace_daemon(&g);
    }
    let few = |pid: u32, before: usize| {
        wait_some("no more open files than before", || (open_files(pid) <= before + 8).then_some(()));
    };
    few(g.anchor(), anchor);
    few(g.daemon(), daemon);
    g.end();
}
