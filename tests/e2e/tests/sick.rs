//! Programs that are there and do not work, or use too much: each with the whole story that an operator sees.

use std::fs;

use keepwell_e2e::{Guardian, free_port, sys};

/// A program that is well until the file `sick` is there, and started anew when it is not. `cause`: what is told of it.
fn healed(config: &str, kind: &str, cause: &str, evidence: &[&str], sicken: impl FnOnce(&Guardian)) {
    let g = Guardian::up(&format!(
        "[keepwell]\nsample_every = '200ms'\n[services.a]\n{config}\
         restart = {{ delay = '100ms', reset_after = '1s' }}\nstop = []\n"
    ));
    g.wait_state("a", &["running", "ready"]);
    let first = g.pid("a");
    sicken(&g);
    let of = |e: &keepwell_sdk::wire::Event| e.kind == kind && e.text.contains(cause);
    g.wait_events(cause, |all| all.iter().any(of));
    let seen = g.evidence();
    for part in [format!("== process {first}").as_str(), cause].iter().chain(evidence) {
        assert!(seen.contains(*part), "`{part}` is not in:\n{seen}");
    }
    if let Err(e) = fs::remove_file(g.path("sick")) {
        assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{e}");
    }
    let all = g.wait_for("another run that is well", |all| {
        ["running", "ready"].contains(&all[0].state.as_str()) && all[0].pid.is_some_and(|pid| pid != first)
    });
    assert!(all[0].restarts >= 1, "{all:?}");
    g.recovered().says(&[cause, "evidence"]);
    g.end();
}

/// SIGSTOP: it is there, its port takes connections, and it does nothing.
#[test]
fn one_that_hangs() {
    let port = free_port();
    let config = format!(
        "command = 'CHILD http {port}'\nready = {{ http = 'http://127.0.0.1:{port}/', period = '200ms' }}\n\
         live = {{ http = 'http://127.0.0.1:{port}/', period = '100ms', timeout = '1s', failure_threshold = 2 }}\n"
    );
    let cause = format!("failed 2 times in a row: no answer from 127.0.0.1:{port} within 1 s");
    healed(&config, "probe_failed", &cause, &["State: T (stopped)"], |g| {
        assert!(sys::kill(g.pid("a"), sys::SIGSTOP));
    });
}

#[test]
fn one_that_leaks() {
    let config = "command = 'CHILD leak 300000000 --every 10 --gate sick'\n\
                  guards = { when = 'memory > 60MB', then = 'restart' }\n";
    let evidence = ["its guard tripped: memory > 60 MB", "VmRSS: "];
    healed(config, "guard_tripped", "memory > 60 MB", &evidence, |g| g.write("sick", ""));
}

#[test]
fn one_that_spins() {
    let config =
        "command = 'CHILD spin --gate sick'\nguards = { when = 'cpu > 10% for 1s', then = 'restart' }\n";
    let evidence = ["its guard tripped: cpu > 10 % for 1 s", "spinning", "threads: 1"];
    healed(config, "guard_tripped", "cpu > 10 % for 1 s", &evidence, |g| g.write("sick", ""));
}

#[test]
fn one_that_fills_its_descriptors() {
    let config = "command = 'CHILD fill-descriptors --gate sick'\nlimits = { nofile = 256 }\n\
                  guards = { when = 'descriptors > 200', then = 'restart' }\n";
    let evidence =
        ["its guard tripped: descriptors > 200", "no descriptor after ", "open files: 256", "/dev/null"];
    healed(config, "guard_tripped", "descriptors > 200", &evidence, |g| g.write("sick", ""));
}
