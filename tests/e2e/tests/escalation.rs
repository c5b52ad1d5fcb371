//! What is tried while a service goes on failing, and the standby that runs meanwhile.

use keepwell_e2e::{Guardian, wait_until};

/// Fails until the repair was made, which comes third.
const LADDER: &str = "[services.db]
command = ['/bin/sh', '-c', 'test -e repaired || exit 3; exec sleep 1000']
restart = { delay = '50ms', limit = 'off' }
escalation = ['restart', 'restart_dependents', { exec = ['/bin/sh', '-c', 'touch repaired'] }, 'stop']
[services.api]
command = ['sleep', '1000']
depends_on = { db = 'started' }
";

#[test]
fn the_ladder_is_climbed_until_something_helps() {
    let g = Guardian::up(LADDER);
    g.wait_events("the repair", |all| all.iter().any(|e| e.role.as_deref() == Some("escalation")));
    g.wait_state("db", &["running"]);
    wait_until("its attempt to last", || g.service("db").restarts >= 3 && g.path("repaired").exists());
    let events = g.events();
    let steps: Vec<&str> = events.iter().filter(|e| e.kind == "escalated").map(|e| e.text.as_str()).collect();
    assert_eq!(
        steps,
        [
            "db goes on failing: step 2 of 4 of its escalation: restart with dependents",
            "db goes on failing: step 3 of 4 of its escalation: run a command of at most 30 s",
        ]
    );
    assert!(!events.iter().any(|e| e.kind == "paged"));
    g.cli(&["explain", "db"]).good().says(&["escalation", "step 3 of 4", "stop and page"]);
    g.cli(&["incidents", "1"]).good().says(&["restart with dependents", "ran the command of its ladder"]);
    g.end();
}

#[test]
fn the_end_of_the_ladder_stops_and_pages_and_a_start_begins_anew() {
    let g = Guardian::up(
        "[services.db]\ncommand = ['false']\nrestart = { delay = '50ms', limit = 'off' }\nescalation = ['restart', 'stop']\n[services.other]\ncommand = ['sleep', '1000']\n",
    );
    g.wait_state("db", &["gave_up"]);
    let events = g.wait_events("the page", |all| all.iter().any(|e| e.kind == "paged"));
    let paged = events.iter().find(|e| e.kind == "paged").unwrap();
    assert_eq!(paged.level, "error");
    assert!(paged.text.starts_with("db needs somebody: its escalation has come to its end: exit code 1"));
    g.cli(&["start", "db"]);
    g.wait_events("it again", |all| all.iter().filter(|e| e.kind == "paged").count() == 2);
    g.end();
}

#[test]
fn a_standby_runs_while_its_service_is_down() {
    let g = Guardian::up(
        "[services.web]\ncommand = ['/bin/sh', '-c', 'test -e fixed || exit 1; exec sleep 1000']\nrestart = { delay = '200ms', max_delay = '200ms', reset_after = '2s', limit = 'off' }\nfallback = 'sorry'\n[services.sorry]\ncommand = ['sleep', '1000']\nenabled = false\n",
    );
    let standby = g.wait_state("sorry", &["running"]);
    assert_eq!(standby.reason, "stands in for web");
    g.cli(&["explain", "web"]).good().says(&["standby", "sorry runs until it has been well for 2 s"]);
    g.write("fixed", "");
    g.wait_state("web", &["running"]);
    g.wait_state("sorry", &["stopped"]);
    let events = g.events();
    let told = |kind: &str| events.iter().filter(|e| e.kind == kind).count();
    assert_eq!((told("standby_started"), told("standby_stopped")), (1, 1));
    g.cli(&["incidents", "1"]).good().says(&["stands in for web, which is down"]);
    g.end();
}
