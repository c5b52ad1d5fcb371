//! The examples do what their pages say.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::fs;
use std::path::Path;

use keepwell_e2e::{Guardian, free_port};

/// The example's configuration with ports of its own, its programs beside it. None where there is no Python.
fn up(name: &str, ports: &[&str]) -> Option<Guardian> {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3 here");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let folder = root.join("examples").join(name);
    let clients = root.join("clients/python");
    let mut config = fs::read_to_string(folder.join("keepwell.toml")).unwrap();
    for port in ports {
        assert!(config.contains(port), "{port} is no longer in {name}");
        config = config.replace(port, &free_port().to_string());
    }
    config = config.replace("../../clients/python", clients.to_str().unwrap());
    let mut g = Guardian::new(&config);
    for file in fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        let program = file.file_name().into_string().unwrap();
        if program.ends_with(".py") {
            g.write(&program, &fs::read_to_string(file.path()).unwrap());
        }
    }
    g.start(&[]);
    g.wait_answering();
    Some(g)
}

#[test]
fn the_quickstart_comes_up() {
    let Some(g) = up("quickstart", &["8642"]) else { return };
    g.wait_for("all of the shop", |all| {
        let is = |id: &str, state: &str| all.iter().any(|s| s.id() == id && s.state == state);
        is("migrate", "completed") && is("web", "ready") && is("worker", "running") && is("flaky", "ready")
    });
    g.cli(&["explain", "flaky"]).good().says(&["exit code 3"]);
    g.end();
}

#[test]
fn each_illness_of_the_example_is_found_and_healed() {
    let Some(g) = up("healing", &["8643", "9750"]) else { return };
    g.wait_events("an illness of each, and another start after it", |all| {
        let at = |kind: &str, service: &str| {
            all.iter().position(|e| e.kind == kind && e.service.as_deref() == Some(service))
        };
        let healed = |kind: &str, service: &str| {
            let Some(ill) = at(kind, service) else { return false };
            all[ill..].iter().any(|e| e.kind == "started" && e.service.as_deref() == Some(service))
        };
        healed("probe_failed", "web")
            && healed("heartbeat_lost", "worker")
            && healed("guard_tripped", "leaky")
            && healed("exited", "prices")
            && at("standby_started", "prices-of-yesterday").is_some()
            && at("ready", "prices").is_some()
    });
    g.cli(&["incidents"]).good().says(&["web", "worker", "leaky", "prices"]);
    g.end();
}
