//! Programs that use too much, and what their guards do.

use keepwell_e2e::Guardian;
use keepwell_sdk::wire::Event;

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

#[test]
fn a_leak_is_foreseen_and_told_with_its_time() {
    // Sampled two hundred times as often as usual, so that half an hour is nine seconds.
    let g = Guardian::up(
        "[keepwell]\nsample_every = '25ms'\n\
         [services.limited]\ncommand = 'CHILD leak 360000000 --every 50'\nlimits = { memory = '400MB' }\n\
         [services.guarded]\ncommand = 'CHILD leak 360000000 --every 50'\nguards = { when = 'memory > 400MB' }\n\
         [services.unforeseen]\ncommand = 'CHILD leak 360000000 --every 50'\nlimits = { memory = '400MB' }\n\
         foresee = false\n\
         [services.steady]\ncommand = 'CHILD hang'\nlimits = { memory = '400MB', nofile = 256 }\n",
    );
    let foreseen = |name: &str| {
        let of = |e: &Event| e.kind == "leak_foreseen" && e.service.as_deref() == Some(name);
        g.events().into_iter().find(of).map(|e| e.text)
    };
    g.wait_for("what leaks to be seen", |_| foreseen("limited").is_some() && foreseen("guarded").is_some());
    let text = foreseen("limited").unwrap_or_default();
    assert!(
        text.starts_with("limited: memory reaches its limit in about ") && text.contains(" (95 %: "),
        "{text}"
    );
    let text = foreseen("guarded").unwrap_or_default();
    assert!(
        text.starts_with("guarded: memory reaches 400 MB in about ") && text.contains(" (95 %: "),
        "{text}"
    );
    assert_eq!((foreseen("unforeseen"), foreseen("steady")), (None, None));
    g.cli(&["explain", "limited"]).good().says(&["memory 400 MB: now "]);
    g.cli(&["explain", "steady"])
        .good()
        .says(&["memory 400 MB: now ", "descriptors of one process 256: now "]);
    g.end();
}

#[test]
fn every_figure_is_measured_and_a_folder_that_grows_is_told_of() {
    let g = Guardian::up(
        "[keepwell]\nsample_every = '200ms'\n\
         [services.web]\ncommand = 'CHILD hang'\nguards = [\n\
         { when = 'disk > 1MB', folder = 'data' }, { when = 'pss > 1GB' }, { when = 'io > 500MB/s' },\n\
         { when = 'cpu > 5000%' }, { when = 'threads > 500' }, { when = 'processes > 50' } ]\n",
    );
    g.wait_state("web", &["running"]);
    std::fs::create_dir(g.path("data")).expect("the folder can be made");
    g.write("data/file", &"x".repeat(3_000_000));
    g.wait_for("the folder to be told of", |all| {
        all[0].warnings.iter().any(|w| w.starts_with("disk of data > 1000 KB: now 3"))
    });
    for said in ["pss > 1000 MB", "io > 500 MB/s", "cpu > 5000 %", "threads > 500", "processes > 50"] {
        let line = format!("{said} is told: now ");
        g.wait_for(&line, |_| g.cli(&["explain", "web"]).all().contains(&line));
    }
    g.end();
}

#[test]
fn with_low_overhead_no_thread_waits_for_the_next_sample() {
    let g = Guardian::up(
        "[keepwell]\nprofile = 'low-overhead'\n[services.web]\ncommand = 'CHILD hang'\nguards = { when = 'disk > 1KB', folder = '.' }\n",
    );
    g.wait_for("the folder to be told of", |all| !all[0].warnings.is_empty());
    let pid = g.daemon();
    let waits = || {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the daemon runs");
        let names = tasks.flatten().filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok());
        names.into_iter().any(|name| ["meter", "folders"].contains(&name.trim()))
    };
    g.wait_for("the thread to go", |_| !waits());
    g.end();
}
