//! Programs that use too much, and what their guards do.

use keepwell_wine::{Guardian, needs_wine};

#[test]
fn a_program_that_leaks_is_told_of_looked_into_and_restarted() {
    needs_wine!();
    let mut g = Guardian::new(
        "[services.leaky]\ncommand = 'CHILD leak 400000000 --every 20'\nstop = []\n\
         guards = [{ when = 'memory > 100MB', then = 'restart' }]\n\
         [services.looked]\ncommand = 'CHILD leak 200000000'\nstop = []\n\
         guards = [{ when = 'memory > 100MB', exec = ['CHILD', 'touch', 'looked'] }]\n\
         [services.open]\ncommand = 'CHILD hang'\nstop = []\n\
         guards = [{ when = 'memory > 1MB' }, { when = 'handles > 16000' }, { when = 'threads > 500' }, { when = 'processes > 20' }, { when = 'cpu > 5000%' },\n\
         { when = 'io > 500MB/s' }, { when = 'disk > 1KB', folder = '.' }]\n",
    );
    g.start(&[]);
    g.wait_answering();
    g.wait_for("the guards", |all| {
        let restarted = all.iter().any(|s| s.name == "leaky" && s.restarts > 0);
        let told = all
            .iter()
            .any(|s| s.name == "open" && s.warnings.iter().any(|w| w.starts_with("memory > 1000 KB: now ")));
        restarted && told
    });
    g.wait_for("its command", |_| g.path("looked").exists());
    assert_eq!(g.service("open").restarts, 0);
    for text in [
        "descriptors > 16000 is told: now ",
        "threads > 500 is told: now ",
        "processes > 20 is told: now ",
        "cpu > 5000 % is told: now ",
        "io > 500 MB/s is told: now ",
        "disk of . > 1 KB is told: now ",
        // Of every service that is measured.
        "gdi_objects > 8000 is told: now 0",
        "user_objects > 8000 is told: now 0",
    ] {
        g.wait_for(text, |_| g.cli(&["explain", "open"]).all().contains(text));
    }
    g.end();
}
