//! Servers that behave badly and programs that are there and do not work, each with the whole story that an operator sees: what is
//! told, what is kept, what is done.
//!
//! The servers run on Linux; keepwell asks them from inside Wine.

use std::fs;

use keepwell_e2e::servers::{self, Server};
use keepwell_sdk::wire::{Event, Status};
use keepwell_wine::{Guardian, free_port, needs_wine, read_lossy, wait_some};

/// One that is made ill, and what an operator then sees of it.
struct Case {
    /// The service.
    name: &'static str,
    /// Its section.
    config: String,
    /// The event that says so.
    kind: &'static str,
    /// The cause, in the event, the incident and the evidence.
    words: String,
    /// What else is in the evidence.
    evidence: &'static [&'static str],
}

/// From the moment that all are made ill until all are well again and their incidents over: in one Windows, since each takes seconds
/// to make.
fn healed(cases: &[Case], sicken: impl FnOnce(&Guardian), cure: impl FnOnce(&Guardian)) {
    let mut config =
        "[keepwell]\nsample_every = '200ms'\n[healing]\nevidence = { timeout = '1m', keep = 1000 }\n\
                      limit = { max = 1000, window = '1h' }\n\
                      [defaults]\nrestart = { delay = '1s', reset_after = '1s', limit = 'off' }\nstop = []\n"
            .to_owned();
    for Case { name, config: own, .. } in cases {
        config += &format!("[services.{name}]\n{own}");
    }
    let mut g = Guardian::new(&config);
    g.start(&["--quiet"]);
    g.wait_answering();
    let well = |s: &Status| ["running", "ready"].contains(&s.state.as_str()) && s.pid.is_some();
    g.wait_for("all to be well", |all| all.iter().all(well));
    let first: Vec<u32> = cases.iter().map(|case| g.pid(case.name)).collect();
    sicken(&g);
    for (Case { name, kind, words, evidence, .. }, first) in cases.iter().zip(&first) {
        let of = |e: &Event| e.service.as_deref() == Some(*name);
        g.wait_events(&format!("{name}: {words}"), |all| {
            all.iter().any(|e| of(e) && e.kind == *kind && e.text.contains(words))
        });
        let taken = |e: &Event| of(e) && e.kind == "evidence_taken";
        let all = g.wait_events("its evidence", |all| all.iter().any(taken));
        let file = all.into_iter().find(taken).and_then(|e| e.evidence).expect("it has a name");
        let seen = read_lossy(&g.state(&file.replace('\\', "/")));
        for part in [format!("== process {first}").as_str(), words].iter().chain(*evidence) {
            assert!(seen.contains(*part), "`{part}` is not in:\n{seen}");
        }
    }
    cure(&g);
    for (Case { name, words, .. }, first) in cases.iter().zip(&first) {
        g.wait_for(&format!("another run of {name} that is well"), |all| {
            all.iter().any(|s| s.name == *name && well(s) && s.pid != Some(*first) && s.restarts >= 1)
        });
        let told = wait_some(&format!("the end of the incident of {name}"), || {
            let told = g.cli(&["incidents", name]);
            told.all().contains("recovered").then_some(told)
        });
        told.says(&[words]);
    }
    g.end();
}

#[test]
fn servers_that_behave_badly() {
    needs_wine!();
    let other = Server::new(servers::silent);
    let late = "no answer from SERVER within 2 s";
    let all = [
        ("silent", Server::new(servers::silent), "", late),
        ("half-open", Server::new(servers::half_open), "", late),
        ("slow", Server::new(servers::slow), "", late),
        // Wine takes a reset for a plain end.
        ("resetting", Server::new(servers::resetting), "", "SERVER closed the connection without an answer"),
        (
            "redirecting",
            Server::new(servers::redirecting(other.port)),
            ", status = '200-299'",
            "answered 302 Found",
        ),
        ("endless", Server::new(servers::endless), ", body = 'needle'", "without `needle`"),
    ];
    let cases: Vec<Case> = all
        .iter()
        .map(|(name, server, more, words)| Case {
            name,
            config: format!(
                "command = 'CHILD hang'\nlive = {{ http = 'http://127.0.0.1:{}/', period = '300ms', \
                 timeout = '2s', failure_threshold = 2{more} }}\n",
                server.port
            ),
            kind: "probe_failed",
            words: words.replace("SERVER", &format!("127.0.0.1:{}", server.port)),
            evidence: &["its live check failed"],
        })
        .collect();
    let passed = |g: &Guardian| {
        for (name, ..) in &all {
            g.wait_for("a pass", |_| g.cli(&["explain", name]).all().contains("passes"));
        }
        all.iter().for_each(|(_, server, ..)| server.falls_ill());
    };
    healed(&cases, passed, |_| all.iter().for_each(|(_, server, ..)| server.recovers()));
    assert_eq!(other.asked(), 0);
}

#[test]
fn programs_that_hang_leak_spin_and_fill_their_handles() {
    needs_wine!();
    let port = free_port();
    let guarded = |command: &str, rule: &str| {
        format!("command = 'CHILD {command} --gate sick'\nguards = {{ when = '{rule}', then = 'restart' }}\n")
    };
    let cases = [
        Case {
            name: "hangs",
            config: format!(
                "command = 'CHILD http {port}'\nready = {{ http = 'http://127.0.0.1:{port}/', period = '300ms' }}\n\
                 live = {{ http = 'http://127.0.0.1:{port}/', period = '300ms', timeout = '2s', failure_threshold = 2 }}\n"
            ),
            kind: "probe_failed",
            words: format!("no answer from 127.0.0.1:{port} within 2 s"),
            evidence: &["its live check failed", "threads: "],
        },
        Case {
            name: "leaks",
            config: guarded("leak 400000000 --every 10", "memory > 100MB"),
            kind: "guard_tripped",
            words: "memory > 100 MB".into(),
            evidence: &["its guard tripped: memory > 100 MB", "working set: "],
        },
        Case {
            name: "spins",
            config: guarded("spin", "cpu > 15% for 1s"),
            kind: "guard_tripped",
            words: "cpu > 15 % for 1 s".into(),
            evidence: &["its guard tripped: cpu > 15 %", "spinning", "processor time: "],
        },
        // Wine counts no handles, so no guard sees them there: the program's own words end it.
        Case {
            name: "fills",
            config: guarded("fill-handles 400", "handles > 300")
                + "live = { no_log = 'holding [0-9]+ handles', within = '1h', period = '300ms', failure_threshold = 1 }\n",
            kind: "probe_failed",
            words: "a line matched `holding [0-9]+ handles`".into(),
            evidence: &["holding 400 handles", "handles: "],
        },
    ];
    let sicken = |g: &Guardian| {
        // Its threads are stopped, as SIGSTOP does: it is there, its port takes connections, and it does nothing.
        let mut suspend = g.prefix().child(&["suspend", &g.pid("hangs").to_string()]);
        assert!(suspend.status().expect("wine can be started").success());
        g.write("sick", "");
    };
    healed(&cases, sicken, |g| fs::remove_file(g.path("sick")).expect("it was written"));
}
