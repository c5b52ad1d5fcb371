//! Programs with every bad habit. None harms a service beside it, and none outlives its stop.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::time::{Duration, Instant};

use keepwell_e2e::{Guardian, wait_until};

/// Ticks every 20 ms; see `Bystander::unharmed`.
const BYSTANDER: &str = "[services.bystander]\ncommand = 'CHILD tick ticks'\n";

struct Bystander {
    pid: Option<u32>,
}

/// A hostile service beside one that ticks.
fn beside(hostile: &str) -> (Guardian, Bystander) {
    let g = Guardian::up(&format!("{BYSTANDER}[services.bad]\n{hostile}\n"));
    g.wait_file("ticks", " 3\n");
    let pid = Some(g.pid("bystander"));
    (g, Bystander { pid })
}

impl Bystander {
    /// It runs, was never restarted, ticks on, and all that it wrote is in its log, in order and once.
    #[track_caller]
    fn unharmed(&self, g: &Guardian) {
        let now = g.service("bystander");
        assert_eq!((now.pid, now.restarts), (self.pid, 0), "{now:?}");
        let seen = g.read("ticks").lines().count();
        wait_until("the bystander to tick on", || g.read("ticks").lines().count() >= seen + 5);
        wait_until("its log to follow", || g.log("bystander").lines().count() >= seen + 5);
        for (n, line) in g.log("bystander").lines().enumerate() {
            assert_eq!(line, format!("tick {n}"));
        }
    }
}

/// Stops the hostile service and fails unless nothing of it is left.
#[track_caller]
fn stops_whole(g: &Guardian, within: Duration) {
    let start = Instant::now();
    g.cli(&["stop", "bad"]).good();
    assert!(start.elapsed() < within, "the stop took {:?}", start.elapsed());
    let left = g.services_running();
    assert_eq!(left.len(), 1, "besides the bystander: {left:?}");
}

#[test]
fn one_that_ignores_term_is_killed_when_its_time_is_over() {
    let (g, by) = beside("command = 'CHILD ignore-term'\nstop = [{ signal = 'TERM', wait = '500ms' }]");
    g.wait_log("bad", "nothing moves me");
    let start = Instant::now();
    stops_whole(&g, Duration::from_secs(10));
    assert!(start.elapsed() >= Duration::from_millis(500), "it had {:?}", start.elapsed());
    by.unharmed(&g);
    g.end();
}

#[test]
fn grandchildren_in_sessions_of_their_own_do_not_escape() {
    let (g, by) = beside("command = 'CHILD double-fork left'\nstop = [{ signal = 'TERM', wait = '300ms' }]");
    let left = g.wait_file("left", "\n");
    let pid: u32 = left.trim().parse().unwrap();
    assert!(g.services_running().iter().any(|(p, _)| *p == pid));
    stops_whole(&g, Duration::from_secs(10));
    by.unharmed(&g);
    g.end();
}

/// The same where no cgroup may be written: by descent and by mark.
#[test]
fn nor_do_they_without_a_cgroup() {
    let stop = "stop = [{ signal = 'TERM', wait = '300ms' }]";
    let mut g =
        Guardian::unprivileged(&format!("[services.bad]\ncommand = 'CHILD double-fork left'\n{stop}\n"));
    g.start(&[]);
    g.wait_answering();
    let pid: u32 = g.wait_file("left", "\n").trim().parse().unwrap();
    assert!(g.services_running().iter().any(|(p, _)| *p == pid));
    g.cli(&["stop", "bad"]).good();
    assert_eq!(g.services_running(), [], "held by {}", g.service("bad").containment);
    g.end();
}

/// The stop is done when the tree is empty, and whoever is asked to end gets the time for it.
#[test]
fn a_stop_waits_for_the_whole_tree() {
    let script = "CHILD trap-term 0 --after 600 & wait; sleep 1000";
    let (g, by) = beside(&format!(
        "shell = true\ncommand = '{script}'\nstop = [{{ signal = 'TERM', to = 'tree', wait = '20s' }}]"
    ));
    g.wait_log("bad", "waiting for TERM");
    let start = Instant::now();
    stops_whole(&g, Duration::from_secs(15));
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    assert!(g.log("bad").contains("bye"));
    by.unharmed(&g);
    g.end();
}

#[test]
fn a_grandchild_that_holds_the_pipe_holds_nothing_up() {
    let (g, by) = beside("command = 'CHILD hold-pipe left'\nrestart = { delay = '50ms', limit = 'off' }");
    g.wait_for("restarts", |all| all.iter().any(|s| s.name == "bad" && s.restarts >= 5));
    let exits = g.service("bad").exits;
    assert!(exits.iter().all(|e| e.code == Some(0)), "{exits:?}");
    stops_whole(&g, Duration::from_secs(15));
    by.unharmed(&g);
    g.end();
}

#[test]
fn one_that_closes_its_output_runs_on() {
    let (g, by) = beside("command = 'CHILD close-stdout'");
    g.wait_log("bad", "last line");
    by.unharmed(&g);
    let bad = g.service("bad");
    assert_eq!((bad.state.as_str(), bad.restarts), ("running", 0));
    stops_whole(&g, Duration::from_secs(15));
    g.end();
}

#[test]
fn a_gigabyte_without_a_newline_is_kept_in_bounds() {
    let bytes: u64 = if std::env::var_os("KEEPWELL_E2E_FULL").is_some() { 1 << 30 } else { 256 << 20 };
    let (g, by) = beside(&format!(
        "command = 'CHILD no-newline {bytes}'\nlog = {{ rotate = {{ size = '16MB', keep = 2 }} }}"
    ));
    let sum = || -> u64 {
        let logs = std::fs::read_dir(g.state("logs")).unwrap().flatten();
        logs.filter(|e| e.file_name().to_string_lossy().starts_with("bad.log"))
            .filter_map(|e| e.metadata().ok())
            .map(|m| m.len())
            .sum()
    };
    let mut most = 0;
    wait_until("all to be written", || {
        most = most.max(sum());
        asleep(&g)
    });
    assert!(most <= 3 * 17_000_000, "{most} bytes of logs");
    let daemon = memory_kb(g.daemon());
    assert!(daemon < 64 << 10, "the daemon holds {daemon} kB");
    by.unharmed(&g);
    stops_whole(&g, Duration::from_secs(15));
    g.end();
}

/// Whether the hostile program waits in pause(2): it has written all.
fn asleep(g: &Guardian) -> bool {
    let Some(pid) = g.service("bad").pid else { return false };
    std::fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|w| w.contains("pause"))
        || std::fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|s| s.starts_with("34 "))
}

fn memory_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn bytes_that_are_no_text_are_kept_as_they_are() {
    let (g, by) = beside("command = 'CHILD invalid-utf8'");
    g.wait_log("bad", "after\n");
    let kept = std::fs::read(g.state("logs/bad.log")).unwrap();
    assert_eq!(kept, b"before\n\xff\xfe\xfd\nhalf \xc3\n\xed\xa0\x80 surrogate\nafter\n");
    let shown = g.cli(&["logs", "bad"]).good().out;
    assert!(shown.contains("before") && shown.contains("after"), "{shown}");
    g.cli(&["logs", "--json", "bad"]).good();
    by.unharmed(&g);
    g.end();
}

#[test]
fn a_fork_bomb_stays_within_its_limit_and_is_ended_whole() {
    let (g, by) = beside(
        "command = 'CHILD fork-bomb'\nlimits = { tasks = 60 }\nstop = [{ signal = 'TERM', wait = '200ms' }]",
    );
    let bad = g.wait_state("bad", &["running", "ready", "backing_off", "crash_looping"]);
    let by_group = bad.limits.iter().any(|l| l.contains("tasks") && l.contains("cgroup"));
    if by_group {
        g.wait_log("bad", "fork:");
        let running = g.services_running().len();
        assert!(running <= 61, "{running} processes");
    } else {
        // `setrlimit` does not hold root; the bomb has an end of its own.
        eprintln!("not held by a cgroup here: {:?}", bad.limits);
        g.wait_log("bad", "boom");
    }
    by.unharmed(&g);
    stops_whole(&g, Duration::from_secs(30));
    by.unharmed(&g);
    g.end();
}

#[test]
fn one_that_takes_too_much_memory_is_named_as_such() {
    let (g, by) = beside("command = 'CHILD leak 400000000'\nlimits = { memory = '64MB' }\nrestart = 'never'");
    let bad = g.wait_for("its end", |all| {
        all.iter().any(|s| s.name == "bad" && s.pid.is_none() && !s.exits.is_empty())
    });
    let bad = bad.iter().find(|s| s.name == "bad").unwrap();
    if bad.limits.iter().any(|l| l.contains("memory") && l.contains("cgroup")) {
        g.cli(&["explain", "bad"]).good().says(&["memory"]);
    }
    by.unharmed(&g);
    g.end();
}

#[test]
fn a_flooding_service_starves_nobody() {
    let (g, by) =
        beside("command = 'CHILD flood 1000000000000'\nlog = { rotate = { size = '1MB', keep = 1 } }");
    wait_until("a flood", || g.log("bad").len() > 100_000);
    by.unharmed(&g);
    let start = Instant::now();
    g.cli(&["restart", "bystander"]).good();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    stops_whole(&g, Duration::from_secs(15));
    g.end();
}
