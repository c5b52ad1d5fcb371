//! Servers that behave badly and programs that are there and do not work, each with the whole story that an operator sees: what is
//! told, what is kept, what is done.
//!
//! The servers run on Linux; keepwell asks them from inside Wine.

use std::fs;

use keepwell_e2e::servers::{self, Server};
use keepwell_wine::{Guardian, free_port, needs_wine, read_lossy, wait_some};

/// What was seen of the first run that was ended for its health.
fn evidence(g: &Guardian) -> String {
    let taken = |e: &keepwell_sdk::wire::Event| e.kind == "evidence_taken";
    let all = g.wait_events("evidence", |all| all.iter().any(taken));
    let name = all.into_iter().find(taken).and_then(|e| e.evidence).expect("it has a name");
    read_lossy(&g.state(&name.replace('\\', "/")))
}

/// From the moment that `a` is made ill until it is well again and its incident over.
fn healed(
    g: Guardian,
    kind: &str,
    words: &str,
    evidence_says: &[&str],
    sicken: impl FnOnce(),
    cure: impl FnOnce(),
) {
    let first = g.pid("a");
    sicken();
    g.wait_events(words, |all| all.iter().any(|e| e.kind == kind && e.text.contains(words)));
    let seen = evidence(&g);
    for part in [format!("== process {first}").as_str(), words].iter().chain(evidence_says) {
        assert!(seen.contains(*part), "`{part}` is not in:\n{seen}");
    }
    cure();
    let all = g.wait_for("another run that is well", |all| {
        ["running", "ready"].contains(&all[0].state.as_str()) && all[0].pid.is_some_and(|pid| pid != first)
    });
    assert!(all[0].restarts >= 1, "{all:?}");
    let told = wait_some("the end of its incident", || {
        let told = g.cli(&["incidents", "1"]);
        told.all().contains("was well again after").then_some(told)
    });
    told.says(&[words, "evidence"]);
    g.end();
}

/// A program whose health is asked of a server, which falls ill.
fn server(server: &Server, more: &str, words: &str) {
    let port = server.port;
    let mut g = Guardian::new(&format!(
        "[healing]\nevidence = {{ timeout = '1m' }}\n\
         [services.a]\ncommand = 'CHILD hang'\nrestart = {{ delay = '100ms', reset_after = '1s' }}\nstop = []\n\
         live = {{ http = 'http://127.0.0.1:{port}/', period = '300ms', timeout = '2s', failure_threshold = 2{more} }}\n"
    ));
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_for("a pass", |_| g.cli(&["explain", "a"]).all().contains("passes"));
    let words = words.replace("SERVER", &format!("127.0.0.1:{port}"));
    healed(
        g,
        "probe_failed",
        &words,
        &["its live check failed"],
        || server.falls_ill(),
        || server.recovers(),
    );
}

#[test]
fn a_server_that_takes_connections_and_never_answers() {
    needs_wine!();
    server(&Server::new(servers::silent), "", "no answer from SERVER within 2 s");
}

#[test]
fn a_server_that_stops_in_the_middle_of_an_answer() {
    needs_wine!();
    server(&Server::new(servers::half_open), "", "no answer from SERVER within 2 s");
}

#[test]
fn a_server_that_is_slower_than_it_may_be() {
    needs_wine!();
    server(&Server::new(servers::slow), "", "no answer from SERVER within 2 s");
}

#[test]
fn a_server_that_resets_its_connections() {
    needs_wine!();
    // Wine takes a reset for a plain end.
    server(&Server::new(servers::resetting), "", "SERVER closed the connection without an answer");
}

#[test]
fn a_server_that_redirects_is_asked_no_further() {
    needs_wine!();
    let other = Server::new(servers::silent);
    server(&Server::new(servers::redirecting(other.port)), ", status = '200-299'", "answered 302 Found");
    assert_eq!(other.asked(), 0);
}

#[test]
fn a_server_whose_answer_has_no_end() {
    needs_wine!();
    server(&Server::new(servers::endless), ", body = 'needle'", "without `needle`");
}

/// A program that is well until the file `sick` is there.
fn program(config: &str) -> Guardian {
    let mut g = Guardian::new(&format!(
        "[keepwell]\nsample_every = '200ms'\n[healing]\nevidence = {{ timeout = '1m' }}\n\
         [services.a]\n{config}restart = {{ delay = '100ms', reset_after = '1s' }}\nstop = []\n"
    ));
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_state("a", &["running", "ready"]);
    g
}

/// Its threads are stopped, as SIGSTOP does: it is there, its port takes connections, and it does nothing.
#[test]
fn a_program_that_hangs() {
    needs_wine!();
    let port = free_port();
    let g = program(&format!(
        "command = 'CHILD http {port}'\nready = {{ http = 'http://127.0.0.1:{port}/', period = '300ms' }}\n\
         live = {{ http = 'http://127.0.0.1:{port}/', period = '300ms', timeout = '2s', failure_threshold = 2 }}\n"
    ));
    let pid = g.pid("a").to_string();
    let mut suspend = g.prefix().child(&["suspend", &pid]);
    let sicken = || assert!(suspend.status().expect("wine can be started").success());
    let words = format!("failed 2 times in a row: no answer from 127.0.0.1:{port} within 2 s");
    healed(g, "probe_failed", &words, &["its live check failed", "threads: "], sicken, || {});
}

fn by_guard(config: &str, words: &str, evidence: &[&str]) {
    let g = program(config);
    let (sicken, cure) = gate(&g);
    healed(g, "guard_tripped", words, evidence, sicken, cure);
}

/// What makes it ill, and well.
fn gate(g: &Guardian) -> (impl FnOnce() + use<>, impl FnOnce() + use<>) {
    let file = g.path("sick");
    let same = file.clone();
    (move || fs::write(file, "").expect("own folder"), move || fs::remove_file(same).expect("it was written"))
}

#[test]
fn a_program_that_leaks() {
    needs_wine!();
    by_guard(
        "command = 'CHILD leak 400000000 --every 10 --gate sick'\nguards = { when = 'memory > 100MB', then = 'restart' }\n",
        "memory > 100 MB",
        &["its guard tripped: memory > 100 MB", "working set: "],
    );
}

#[test]
fn a_program_that_spins() {
    needs_wine!();
    by_guard(
        "command = 'CHILD spin --gate sick'\nguards = { when = 'cpu > 15% for 1s', then = 'restart' }\n",
        "cpu > 15 % for 1 s",
        &["its guard tripped: cpu > 15 %", "spinning", "processor time: "],
    );
}

/// Wine counts no handles, so no guard sees them there: the program's own words end it.
#[test]
fn a_program_that_fills_its_handles() {
    needs_wine!();
    let config = "command = 'CHILD fill-handles 400 --gate sick'\n\
                  live = { no_log = 'holding [0-9]+ handles', within = '1h', period = '300ms', failure_threshold = 1 }\n\
                  guards = { when = 'handles > 300', then = 'restart' }\n";
    let (g, words) = (program(config), "a line matched `holding [0-9]+ handles`");
    let (sicken, cure) = gate(&g);
    healed(g, "probe_failed", words, &["holding 400 handles", "handles: "], sicken, cure);
}
