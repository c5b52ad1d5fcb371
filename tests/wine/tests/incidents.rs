//! Incidents and the evidence of what is ended for its health.

use std::fs;

use keepwell_wine::{Guardian, needs_wine};

#[test]
fn what_is_ended_for_its_health_is_looked_at_and_its_incident_told() {
    needs_wine!();
    let mut g = Guardian::new(
        "[healing]\nevidence = { timeout = '1m', dump = true }\n\
         [services.a]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms', reset_after = '1s' }\nstop = []\n\
         live = { exec = ['CHILD', 'exists', 'gate'], period = '500ms', timeout = '30s', failure_threshold = 2 }\n",
    );
    g.write("gate", "");
    g.start(&[]);
    g.wait_answering();
    g.wait_state("a", &["running"]);
    g.wait_for("a pass", |_| g.cli(&["explain", "a"]).all().contains("passes"));
    let first = g.pid("a");
    fs::remove_file(g.path("gate")).expect("it was written");
    g.wait_for("another run", |all| all[0].restarts >= 1);
    g.write("gate", "");
    g.wait_for("the end of its incident", |_| g.cli(&["incidents"]).all().contains("recovered"));
    g.cli(&["incidents", "1"]).good().says(&["ended because it failed", "evidence"]);

    let folder = g.path(".keepwell/evidence");
    let files = fs::read_dir(folder).expect("it was taken").map(|e| e.expect("it is there").path());
    let text = files.filter(|f| f.extension().is_some_and(|e| e == "txt")).min().expect("one at least");
    let text = fs::read_to_string(text).expect("it is ours");
    let process = format!("== process {first}");
    for part in
        ["its live check failed", process.as_str(), "working set: ", "handles: ", "threads: ", "== dump"]
    {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    g.end();
}
