//! The story of an incident, from the first failure to stable health.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use keepwell_e2e::{DEADLINE, Guardian, sys, wait_some, wait_until};
use keepwell_sdk::wire::{Incident, Incidents};

fn incidents(g: &Guardian, args: &[&str]) -> Incidents {
    let answer = g.cli(&[&["incidents", "--json"], args].concat()).good();
    serde_json::from_str(&answer.out).unwrap()
}

fn only(g: &Guardian, service: &str) -> Option<Incident> {
    let mut all = incidents(g, &[service]).incidents;
    assert!(all.len() <= 1, "{all:?}");
    all.pop()
}

/// Fails until a file is there, and then runs.
const FLAKY: &str = "[services.flaky]
command = ['/bin/sh', '-c', 'test -e fixed || { echo out of luck; exit 3; }; exec sleep 1000']
restart = { delay = '100ms', limit = 'off', reset_after = '2s' }
[services.steady]
command = ['sleep', '1000']
";

#[test]
fn an_incident_runs_from_the_first_failure_to_stable_health() {
    let g = Guardian::up(FLAKY);
    let open = wait_some("some failures", || only(&g, "flaky").filter(|i| i.failures >= 3));
    assert_eq!((open.state.as_str(), open.id), ("open", 1));
    assert!(open.cause.starts_with("exit code 3 after "), "{open:?}");
    g.cli(&["explain", "flaky"]).good().says(&["incident", "keepwell incidents 1"]);
    g.cli(&["incidents"]).good().says(&["flaky", "1 is open: keepwell incidents 1"]);

    // It survives the daemon, and so does its number.
    let before = g.daemon();
    sys::kill(before, sys::SIGKILL);
    wait_some("another daemon", || g.info().map(|i| i.daemon_pid).filter(|pid| *pid != before));
    let after = wait_some("it again", || only(&g, "flaky"));
    assert_eq!((after.id, after.began.as_str()), (1, open.began.as_str()));
    assert!(after.failures >= open.failures, "{after:?}");

    g.write("fixed", "");
    let over = wait_some("its end", || only(&g, "flaky").filter(|i| i.state == "recovered"));
    assert_eq!(over.id, 1);
    assert!(over.restarts >= 3 && over.failures == over.restarts, "{over:?}");
    let found = incidents(&g, &["1"]);
    let story = &found.incidents[0].timeline;
    assert_eq!(story.first().map(|e| e.kind.as_str()), Some("exited"));
    assert_eq!(story.last().map(|e| e.kind.as_str()), Some("incident_closed"));
    assert!(story.iter().all(|e| e.incident == Some(1) && e.service.as_deref() == Some("flaky")));
    assert_eq!(found.services[0].mttr_ms, Some(over.duration_ms));
    assert_eq!(found.services[0].mtbf_ms, None);
    g.cli(&["incidents", "1"]).good().says(&["Incident 1: flaky was well again after", "restarted ("]);

    // Another failure is another incident, and then there is a time between the two.
    sys::kill(g.pid("flaky"), sys::SIGKILL);
    wait_until("a second one", || {
        let found = incidents(&g, &["flaky"]);
        found.incidents.len() == 2 && found.services[0].mtbf_ms.is_some()
    });
    let events = g.events();
    assert!(!events.iter().any(|e| e.service.as_deref() == Some("steady") && e.incident.is_some()));
    g.cli(&["incidents", "77"]).with_code(2).says(&["no incident 77 is known"]);
    g.end();
}

#[test]
fn incidents_outlive_keepwell_and_keep_their_numbers() {
    let mut g = Guardian::up(FLAKY);
    wait_some("a failure", || only(&g, "flaky"));
    g.interrupt();
    assert_eq!(g.wait_exit(), 0, "{}", g.traces());
    g.start(&[]);
    g.wait_answering();
    let two = wait_some("a second one", || {
        let found = incidents(&g, &["flaky"]).incidents;
        (found.len() == 2).then_some(found)
    });
    assert_eq!((two[1].id, two[1].state.as_str()), (1, "guardian_stopped"));
    assert_eq!((two[0].id, two[0].state.as_str()), (2, "open"));

    // Whatever was open when all of keepwell died was not seen to end.
    sys::kill(g.anchor(), sys::SIGKILL);
    g.wait_exit();
    g.assert_nothing_left(DEADLINE);
    g.start(&[]);
    g.wait_answering();
    let three = wait_some("a third one", || {
        let found = incidents(&g, &["flaky"]).incidents;
        (found.len() == 3).then_some(found)
    });
    assert_eq!((three[1].id, three[1].state.as_str()), (2, "unseen"));
    g.end();
}

/// Works until its file is gone, and then only looks as if it did.
const SICK: &str = "[services.sick]
command = ['/bin/sh', '-c', 'echo I am at work; exec sleep 1000']
env = { PASSWORD = 'hunter2' }
live = { exec = ['/bin/sh', '-c', 'test -e fine || { echo no; exit 1; }'], period = '100ms' }
restart = { delay = '100ms', reset_after = '1s' }
";

#[test]
fn what_is_ended_for_its_health_is_looked_at_before() {
    let mut g = Guardian::new(SICK);
    g.write("fine", "");
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_log("sick", "I am at work");
    g.wait_state("sick", &["running"]);
    let pid = g.pid("sick");
    std::fs::remove_file(g.path("fine")).unwrap();
    let events = g.wait_events("evidence", |all| all.iter().any(|e| e.kind == "evidence_taken"));
    let taken = events.iter().find(|e| e.kind == "evidence_taken").unwrap();
    let file = taken.evidence.clone().unwrap_or_else(|| panic!("{taken:?}"));
    // Before the first step of the way down.
    let step = events.iter().find(|e| e.kind == "stop_step_taken").map(|e| e.seq);
    assert!(step.is_none_or(|step| step > taken.seq), "{events:?}");
    g.write("fine", "");

    let text = std::fs::read_to_string(g.state(&file)).unwrap();
    let process = format!("== process {pid}");
    for part in
        ["sick, run ", "its live check failed", "live check", "== last output", "I am at work", &process]
    {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    for part in ["State: ", "threads: 1", "open files: "] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(sys::mode(&g.state(&file)).unwrap() & 0o777, 0o600, "{file}");
    let over = wait_some("its end", || only(&g, "sick").filter(|i| i.state == "recovered"));
    assert_eq!(over.evidence, std::slice::from_ref(&file));
    assert_eq!(over.budget_used, 1);
    g.cli(&["incidents", "1"]).good().says(&[&file, "ended because it failed"]);

    // What an operator stops is not looked at.
    g.cli(&["stop", "sick"]).good();
    assert_eq!(g.events().iter().filter(|e| e.kind == "evidence_taken").count(), 1);
    g.end();
}

#[test]
fn nothing_is_looked_at_where_nobody_wants_it() {
    let mut g = Guardian::new(&format!("[healing]\nevidence = 'off'\n{SICK}"));
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_for("a restart", |all| all.iter().any(|s| s.restarts >= 1));
    assert!(!g.events().iter().any(|e| e.kind == "evidence_taken"));
    assert!(!g.state("evidence").exists());
    g.end();
}

/// One that waits for ever, as gdb does for a process that sleeps in the kernel, and what it has started.
#[test]
fn a_debugger_that_hangs_is_ended_with_all_that_it_started() {
    let mut g = Guardian::new(&format!(
        "[healing]\nevidence = {{ timeout = '3s', dump = true, stacks = true }}\n{SICK}"
    ));
    std::fs::create_dir(g.path("bin")).unwrap();
    for tool in ["bin/gdb", "bin/gcore"] {
        g.write(tool, "#!/bin/sh\nsleep 1000 &\necho $! >> \"${0%/*}/../tools\"\nwait\n");
        sys::set_mode(&g.path(tool), 0o755).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    g.set_env("PATH", &format!("{}:{path}", g.path("bin").display()));
    g.write("fine", "");
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_state("sick", &["running"]);
    let first = g.pid("sick");
    std::fs::remove_file(g.path("fine")).unwrap();
    g.wait_for("another run", |all| all.iter().any(|s| s.pid.is_some_and(|pid| pid != first)));
    g.write("fine", "");
    let stem = g.state("evidence").join("1-sick-run1.txt");
    let text =
        wait_some("what was seen", || std::fs::read_to_string(&stem).ok().filter(|t| t.contains("== dump")));
    assert!(text.contains(&format!("== stacks of process {first}\nnone: gdb took longer than ")), "{text}");
    let started = g.read("tools");
    assert!(!started.is_empty());
    wait_until("their end", || started.lines().all(|pid| !sys::exists(pid.parse().unwrap())));
    g.end();
}
