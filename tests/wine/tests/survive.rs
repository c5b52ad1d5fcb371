//! Whatever dies of keepwell itself, no process, no exit and no line is lost or doubled.

use std::time::Duration;

use keepwell_wine::{Guardian, Load, Prefix, Service, needs_wine};

/// How often the daemon is killed: 200 times unless `KEEPWELL_KILLS` says otherwise. Each takes some 0.4 s.
fn kills() -> u32 {
    std::env::var("KEEPWELL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

const IDLE: &str = "[services.idle]\ncommand = 'CHILD hang'\n";

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_killed_daemon_costs_nothing() {
    needs_wine!();
    let mut g = Guardian::new(&Load::config());
    let load = Load::in_folder(&g.path(""), &g.state("logs"));
    g.start(&["--quiet"]);
    g.wait_answering();
    load.wait_begun();
    load.kill_daemons(kills(), g.prefix(), || g.info(), || g.daemon());
    load.wait_going_on();
    g.cli(&["down"]).good();
    assert_eq!(g.wait_exit(), 0, "{}", g.traces());
    g.assert_nothing_left(Duration::ZERO);
    assert_none(&load.faults());

    // No exit status was lost: what each process left with is what the store tells of it.
    g.write("keepwell.toml", IDLE);
    g.start(&["--quiet"]);
    g.wait_answering();
    assert_none(&load.faults_of_exits(&g.events()));
    g.end();
}

#[test]
fn a_killed_daemon_of_a_service_costs_nothing_and_the_manager_never_notices() {
    needs_wine!();
    let prefix = Prefix::new();
    let mut service = Service::installed(&prefix, "shop", &Load::config());
    let load = Load::in_folder(service.folder(), &service.folder().join("logs"));
    service.start();
    service.reach();
    load.wait_begun();
    let process = service.anchor();
    load.kill_daemons(kills(), &prefix, || service.info(), || service.daemon());
    load.wait_going_on();
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    assert_eq!(service.anchor(), process);
    let end = service.stop();
    assert_eq!((end.exit, end.own_exit), (0, 0), "{}", service.traces());
    prefix.assert_nothing_left(Duration::ZERO);
    assert_none(&load.faults());

    service.write("keepwell.toml", IDLE);
    service.start();
    service.pid("idle");
    assert_none(&load.faults_of_exits(&service.events()));
    service.stop();
}
