//! Heartbeats through a pipe and over TCP.

use std::fs;

use keepwell_wine::{Guardian, free_port, needs_wine};

/// One that beats is left alone, also while its daemon is replaced; one that falls silent is started anew.
fn beats_then_silence(head: &str, way: &str) {
    let mut g = Guardian::new(&format!(
        "{head}[services.a]\ncommand = 'CHILD beat'\nrestart = {{ delay = '100ms' }}\nstop = []\n\
         live = {{ heartbeat = {way}, period = '50ms', lost_after = '10s' }}\n"
    ));
    g.start(&[]);
    g.wait_answering();
    let beaten = |s: &keepwell_sdk::wire::Status| s.heartbeat.as_ref().and_then(|h| h.last.clone());
    let all = g.wait_for("a beat", |all| beaten(&all[0]).is_some());
    let (first, pid) = (beaten(&all[0]), g.pid("a"));
    let daemon = g.daemon().expect("it runs");
    daemon.kill();
    g.wait_for("another daemon", |_| g.daemon().is_some_and(|d| d != daemon));
    let all = g.wait_for("a later beat", |all| beaten(&all[0]) > first);
    assert_eq!((all[0].restarts, g.pid("a")), (0, pid), "{all:?}");
    g.write("mute", "");
    g.wait_for("a restart", |all| all[0].restarts > 0);
    fs::remove_file(g.path("mute")).expect("it was written");
    g.wait_for("beats again", |all| beaten(&all[0]).is_some());
    assert!(g.events().iter().any(|e| e.kind == "heartbeat_lost"));
    g.end();
}

#[test]
fn through_a_pipe() {
    needs_wine!();
    beats_then_silence("", "true");
}

#[test]
fn over_tcp() {
    needs_wine!();
    beats_then_silence(&format!("[keepwell]\nheartbeat = '127.0.0.1:{}'\n", free_port()), "'tcp'");
}
