//! Programs that use too much, and what their guards do.

use keepwell_e2e::Guardian;

#[test]
fn a_program_that_leaks_is_told_of_looked_into_and_restarted() {
    let g = Guardian::up(
        "[services.leaky]\ncommand = 'CHILD leak 400000000 --every 20'\n\
         guards = [{ when = 'memory > 60MB', then = 'restart' }]\n\
         [services.looked]\ncommand = 'CHILD leak 100000000'\n\
         guards = [{ when = 'memory > 60MB', exec = ['sh', '-c', 'echo looked > looked; echo done >> looked'] }]\n\
         [services.open]\ncommand = 'CHILD hang'\n\
         guards = { when = 'descriptors > 1' }\n\
         [services.modest]\ncommand = 'CHILD hang'\n\
         guards = [{ when = 'memory > 800MB', then = 'restart' }, { when = 'threads > 100' }, { when = 'cpu > 5000%' }]\n",
    );
    let events = g.wait_events("three guards", |all| {
        let tripped =
            |name: &str| all.iter().any(|e| e.kind == "guard_tripped" && e.service.as_deref() == Some(name));
        tripped("leaky") && tripped("looked") && tripped("open")
    });
    assert!(!events.iter().any(|e| e.kind == "guard_tripped" && e.service.as_deref() == Some("modest")));
    g.wait_file("looked", "done");
    g.wait_for("leaky again", |all| {
        all.iter().any(|s| s.name == "leaky" && s.restarts > 0 && s.state == "running")
    });
    g.cli(&["explain", "open"]).good().says(&["descriptors > 1 is told: now ", ", tripped"]);
    let open = g.service("open");
    assert_eq!((open.state.as_str(), open.restarts), ("running", 0));
    assert!(open.warnings.iter().any(|w| w.starts_with("descriptors > 1: now ")), "{open:?}");
    g.cli(&["explain", "modest"]).good().says(&[
        "memory > 800 MB restarts it: now ",
        "cpu > 5000 %",
        "threads > 100 is told: now 1",
    ]);
    let leaky =
        g.events().into_iter().find(|e| e.service.as_deref() == Some("leaky") && e.kind == "guard_tripped");
    let text = leaky.map(|e| e.text).unwrap_or_default();
    assert!(
        text.starts_with("leaky is over its guard memory > 60 MB: ") && text.ends_with("; it is restarted"),
        "{text}"
    );
    g.end();
}

#[test]
fn a_guard_of_a_reload_counts_without_a_restart() {
    let g = Guardian::up("[services.web]\ncommand = 'CHILD hang'\n");
    let pid = g.wait_state("web", &["running"]).pid;
    g.write(
        "keepwell.toml",
        "[services.web]\ncommand = 'CHILD hang'\nguards = { when = 'processes > 20' }\n",
    );
    g.cli(&["reload"]).good();
    g.wait_for("a look at it", |_| {
        g.cli(&["explain", "web"]).all().contains("processes > 20 is told: now 1")
    });
    assert_eq!(g.service("web").pid, pid);
    g.end();
}
