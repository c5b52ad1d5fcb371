//! Dependencies gate starts; what a loss does to those that run.

use keepwell_e2e::{Guardian, sys};

const CHAIN: &str = r#"
[defaults]
restart = { delay = "1h", max_delay = "1h", jitter = "0%" }
[services.db]
command = "CHILD hang"
ready = { delay = "10ms" }
[services.api]
command = "CHILD hang"
depends_on = { db = "ready" }
[services.bound]
command = "CHILD hang"
depends_on = { db = { condition = "ready", bind = true } }
[services.alone]
command = "CHILD hang"
"#;

fn all_up(g: &Guardian) {
    g.wait_for("all up", |all| all.iter().all(|s| s.pid.is_some() && s.state != "starting"));
}

#[test]
fn a_dependent_of_one_that_died_runs_on_degraded() {
    let g = Guardian::up(CHAIN);
    all_up(&g);
    let (db, api, bound) = (g.pid("db"), g.service("api").pid, g.service("bound").pid);
    assert!(sys::kill(db, sys::SIGKILL));
    // After a long time in health it would be restarted at once; after so short a one it waits an hour.
    g.wait_state("db", &["backing_off", "crash_looping"]);
    let degraded = g.wait_state("api", &["degraded"]);
    assert_eq!(degraded.pid, api, "a dependent was touched");
    assert!(
        degraded.reason.contains("db") || degraded.blockers.iter().any(|b| b.service == "db"),
        "{degraded:?}"
    );
    g.cli(&["explain", "api"]).good().says(&["db"]);
    g.wait_for("bound is down with it", |all| all.iter().any(|s| s.name == "bound" && s.pid.is_none()));
    assert!(bound.is_some() && g.service("alone").state == "running");

    g.cli(&["start", "db"]).good();
    g.wait_state("api", &["running"]);
    g.wait_state("bound", &["running"]);
    assert_eq!(g.service("api").pid, api);
    g.end();
}

#[test]
fn a_stop_names_its_dependents_and_takes_only_the_bound_ones() {
    let g = Guardian::up(CHAIN);
    all_up(&g);
    let api = g.service("api").pid;
    g.cli(&["stop", "db"]).good().says(&["api"]);
    g.wait_state("bound", &["stopped", "waiting"]);
    assert_eq!(g.service("api").pid, api);
    g.cli(&["start", "db"]).good();
    g.wait_state("bound", &["running"]);

    g.cli(&["stop", "--with-dependents", "db"]).good();
    g.wait_for("all of them down", |all| all.iter().all(|s| (s.name == "alone") == s.pid.is_some()));
    g.cli(&["start", "db"]).good();
    all_up(&g);
    g.end();
}

#[test]
fn conditions_and_those_that_are_not_required() {
    let g = Guardian::up(
        r#"
        [services.migrate]
        kind = "oneshot"
        command = "CHILD exit 0 --after 300"
        [services.broken]
        kind = "oneshot"
        command = "CHILD exit 1"
        [services.off]
        command = "CHILD hang"
        enabled = false
        [services.app]
        command = "CHILD hang"
        depends_on = { migrate = "completed", off = { condition = "started", required = false } }
        [services.never]
        command = "CHILD hang"
        depends_on = { broken = "completed" }
        "#,
    );
    g.wait_state("app", &["running", "degraded"]);
    let told = g.wait_events("the start to be told", |all| {
        all.iter().any(|e| e.kind == "started" && e.service.as_deref() == Some("app"))
    });
    let order: Vec<_> = told.into_iter().filter(|e| e.kind == "started").filter_map(|e| e.service).collect();
    let at = |name: &str| order.iter().position(|s| s == name);
    assert!(at("migrate") < at("app"), "{order:?}");
    let never = g.wait_state("never", &["waiting"]);
    assert!(never.pid.is_none());
    g.cli(&["explain", "never"]).good().says(&["broken"]);
    g.cli(&["start", "--ignore-dependencies", "never"]).good();
    assert!(g.service("never").pid.is_some());
    g.end();
}

#[test]
fn a_stampede_is_bounded() {
    let mut config = String::from("[keepwell]\nmax_parallel_starts = 2\n");
    for n in 0..10 {
        config.push_str(&format!("[services.s{n}]\ncommand = 'CHILD hang'\nready = {{ delay = '200ms' }}\n"));
    }
    let g = Guardian::up(&config);
    let mut most = 0;
    g.wait_for("all ready", |all| {
        most = most.max(all.iter().filter(|s| s.state == "starting").count());
        all.iter().all(|s| s.state == "ready")
    });
    assert!(most <= 2, "{most} were starting at once");
    g.end();
}
