//! Checks against servers that behave badly, lines of output, and a host that is starved.

use std::fs;

use keepwell_e2e::servers::{self, Server};
use keepwell_e2e::{Guardian, wait_until};

/// A program whose health is asked of this server. It is ended when that fails.
fn guarded(server: &Server, more: &str) -> Guardian {
    let port = server.port;
    let g = Guardian::up(&format!(
        "[services.a]\ncommand = 'CHILD hang'\nrestart = {{ delay = '100ms', reset_after = '1s' }}\nstop = []\n\
         live = {{ http = 'http://127.0.0.1:{port}/', period = '100ms', timeout = '1s', failure_threshold = 2{more} }}\n"
    ));
    g.wait_for("a pass", |_| g.cli(&["explain", "a"]).all().contains("passes"));
    g
}

/// The whole story of a server that falls ill and recovers: what is told, what is kept, what is done.
fn heals(server: &Server, g: Guardian, words: &str) {
    heals_with(server, g, words, |_| {});
}

/// `look`: what is looked at when it is found out.
fn heals_with(server: &Server, g: Guardian, words: &str, look: impl FnOnce(&Guardian)) {
    let first = g.pid("a");
    server.falls_ill();
    let told = g.wait_events("the end", |all| all.iter().any(|e| e.kind == "probe_failed"));
    let failed = told.iter().find(|e| e.kind == "probe_failed").expect("it was told");
    assert!(failed.text.contains(words), "{}", failed.text);
    look(&g);
    let evidence = g.evidence();
    for part in ["its live check failed", words, &format!("== process {first}")] {
        assert!(evidence.contains(part), "`{part}` is not in:\n{evidence}");
    }
    server.recovers();
    g.wait_for("another run", |all| {
        all[0].restarts >= 1 && all[0].state == "running" && all[0].pid.is_some_and(|pid| pid != first)
    });
    g.recovered().says(&[words, "evidence"]);
    g.end();
}

fn passes(g: Guardian, server: &Server) {
    server.falls_ill();
    let before = server.asked();
    wait_until("ten more attempts", || server.asked() >= before + 10);
    g.cli(&["explain", "a"]).good().says(&["passes"]);
    assert_eq!(g.service("a").restarts, 0);
    g.end();
}

#[test]
fn one_that_takes_connections_and_never_answers() {
    let server = Server::new(servers::silent);
    heals(&server, guarded(&server, ""), &format!("no answer from 127.0.0.1:{} within 1 s", server.port));
}

#[test]
fn one_that_stops_in_the_middle_of_an_answer() {
    let server = Server::new(servers::half_open);
    heals(&server, guarded(&server, ""), &format!("no answer from 127.0.0.1:{} within 1 s", server.port));
}

#[test]
fn one_that_is_slower_than_it_may_be() {
    let server = Server::new(servers::slow);
    heals(&server, guarded(&server, ""), &format!("no answer from 127.0.0.1:{} within 1 s", server.port));
}

#[test]
fn one_that_resets_its_connections() {
    let server = Server::new(servers::resetting);
    heals(&server, guarded(&server, ""), &format!("connection reset by 127.0.0.1:{}", server.port));
}

#[test]
fn one_that_redirects_is_asked_no_further_and_passes_unless_its_status_is_asked_for() {
    let other = Server::new(servers::silent);
    let server = Server::new(servers::redirecting(other.port));
    passes(guarded(&server, ""), &server);
    server.recovers();
    heals(&server, guarded(&server, ", status = '200-299'"), "answered 302 Found");
    assert_eq!(other.asked(), 0);
}

#[test]
fn one_whose_answer_has_no_end_costs_no_memory() {
    let server = Server::new(servers::endless);
    passes(guarded(&server, ""), &server);
    server.recovers();
    let g = guarded(&server, ", body = 'needle'");
    heals_with(&server, g, "without `needle`", |g| {
        let resident = fs::read_to_string(format!("/proc/{}/statm", g.daemon())).unwrap();
        let pages: u64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(pages * 4096 < 256 << 20, "{pages} pages");
    });
}

#[test]
fn lines_of_output_start_a_service_and_end_it() {
    let mut g = Guardian::new(
        "[services.a]\ncommand = ['sh', 'run.sh']\nrestart = { delay = '100ms' }\nstop = []\n\
         startup = { log = '^listening on [0-9]+$', period = '100ms' }\n\
         live = { no_log = 'out of memory', within = '1h', period = '100ms', failure_threshold = 1 }\n",
    );
    g.write(
        "run.sh",
        "echo listening soon; while ! [ -e gate ]; do sleep 0.05; done; echo listening on 80\n\
         while ! [ -e full ]; do sleep 0.05; done; rm full; echo out of memory; exec sleep 1000\n",
    );
    g.start(&[]);
    g.wait_for("a look that found nothing", |all| all[0].state == "starting" && all[0].pid.is_some());
    g.write("gate", "");
    g.wait_state("a", &["ready"]);
    let first = g.pid("a");
    g.write("full", "");
    g.wait_events("why", |all| {
        all.iter().any(|e| e.kind == "probe_failed" && e.text.contains("a line matched `out of memory`"))
    });
    g.wait_for("another run", |all| all[0].pid.is_some_and(|pid| pid != first));
    g.end();
}

#[test]
fn while_the_host_is_starved_nothing_is_ended_for_its_health() {
    let mut g = Guardian::new(
        "[services.a]\ncommand = 'CHILD hang'\nrestart = { delay = '100ms' }\nstop = []\n\
         live = { exec = ['test', '-e', 'well'], period = '100ms', failure_threshold = 2 }\n",
    );
    let root = g.path("host");
    fs::create_dir_all(root.join("proc/pressure")).unwrap();
    let memory = |text: &str| {
        // Whoever reads meanwhile sees one or the other.
        fs::write(root.join("next"), text).unwrap();
        fs::rename(root.join("next"), root.join("proc/pressure/memory")).unwrap();
    };
    memory(
        "some avg10=70.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=43.21 avg60=0.00 avg300=0.00 total=0\n",
    );
    g.set_env("KEEPWELL_STRAIN_ROOT", &root.display().to_string());
    g.start(&[]);
    g.wait_state("a", &["running"]);
    let first = g.pid("a");
    g.wait_events("the shortage", |all| {
        all.iter().any(|e| e.text.contains("the host is short of memory: everything stood still for 43 %"))
    });
    wait_until("the check to say so", || {
        g.cli(&["explain", "a"]).all().contains("while the host is short of memory")
    });
    assert_eq!((g.pid("a"), g.service("a").restarts), (first, 0));
    assert!(!g.events().iter().any(|e| e.kind == "probe_failed"));
    memory(
        "some avg10=1.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    );
    g.wait_for("the restart, now that it can be seen", |all| all[0].restarts >= 1);
    g.end();
}
