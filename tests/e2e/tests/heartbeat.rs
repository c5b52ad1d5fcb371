//! Heartbeats of real programs, through the client in Python.

use std::process::{Command, Stdio};

use keepwell_e2e::{Guardian, free_port, sys, wait_until};
use keepwell_sdk::wire::{Heartbeat, Status};

/// Where the package is.
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/python");

/// A guardian of services that are Python programs, with the client at hand as `guardian`. `None`: there is no Python here.
fn guardian(services: &[(&str, &str, &str)]) -> Option<Guardian> {
    guardian_with("", services)
}

/// The same with more of a configuration before the services.
fn guardian_with(head: &str, services: &[(&str, &str, &str)]) -> Option<Guardian> {
    let found = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("python3 is missing: not tried");
        return None;
    }
    let mut config =
        format!("{head}\n[defaults]\nrestart = {{ delay = '100ms' }}\nenv = {{ PYTHONPATH = '{CLIENT}' }}\n");
    for (name, keys, _) in services {
        config.push_str(&format!("[services.{name}]\ncommand = 'python3 {name}.py'\n{keys}\n"));
    }
    let mut g = Guardian::new(&config);
    for (name, _, program) in services {
        let head = "import os, time, keepwell_heartbeat\nguardian = keepwell_heartbeat.from_env()\n";
        g.write(&format!("{name}.py"), &format!("{head}{program}"));
    }
    g.start(&["--quiet"]);
    g.wait_answering();
    Some(g)
}

fn beat_of(s: &Status) -> Heartbeat {
    s.heartbeat.clone().unwrap_or_default()
}

#[test]
fn a_program_that_stops_beating_is_restarted_and_one_that_beats_is_not() {
    let hangs = "for _ in range(3): guardian.beat()\ntime.sleep(3600)";
    let beats = "while True:\n  guardian.beat()\n  time.sleep(guardian_period)";
    let beats = format!("guardian_period = int(os.environ['KEEPWELL_HEARTBEAT_PERIOD_MS']) / 1000\n{beats}");
    let Some(g) = guardian(&[
        ("hangs", "live = [{ heartbeat = true, period = '100ms', lost_after = '1s' }]", hangs),
        ("beats", "live = { heartbeat = true, period = '100ms', lost_after = '30s' }", &beats),
        ("mute", "live = { heartbeat = true, lost_after = '1s' }", "time.sleep(3600)"),
    ]) else {
        return;
    };
    let first =
        g.wait_for("a beat", |all| all.iter().any(|s| s.name == "beats" && beat_of(s).last.is_some()));
    let first = first.iter().find(|s| s.name == "beats").map(beat_of);
    for name in ["hangs", "mute"] {
        g.wait_for(&format!("{name} restarted"), |all| all.iter().any(|s| s.name == name && s.restarts >= 2));
    }
    let events = g.events();
    for name in ["hangs", "mute"] {
        let lost = events.iter().find(|e| e.kind == "heartbeat_lost" && e.service.as_deref() == Some(name));
        assert_eq!(lost.map(|e| e.text.as_str()), Some(format!("{name} sent no heartbeat for 1 s").as_str()));
    }
    let beats = g.service("beats");
    assert_eq!((beats.restarts, beats.state.as_str()), (0, "running"));
    assert!(Some(beat_of(&beats)) > first, "{beats:?}");
    assert_eq!(beat_of(&beats).errors, 0);
    g.end();
}

#[test]
fn what_a_program_says_is_shown() {
    let program = "
guardian.report('warming up', {'queue.length': 3, 'load': 0.5})
while not os.path.exists('gate'):
  time.sleep(0.02)
guardian.ready()
guardian.report('serving', {'queue.length': 1})
time.sleep(3600)";
    let keys = "ready = { notify = true, timeout = '1m' }\nlive = { heartbeat = true, lost_after = '1m' }";
    let Some(g) = guardian(&[("web", keys, program)]) else { return };
    let warming = |s: &Status| s.status_text.as_deref() == Some("warming up");
    let all = g.wait_for("its words", |all| all.iter().any(warming));
    assert_eq!(all[0].state, "starting");
    assert_eq!((all[0].metrics["queue.length"], all[0].metrics["load"]), (3.0, 0.5));
    g.write("gate", "");
    g.wait_state("web", &["ready"]);
    let serving = |s: &Status| s.status_text.as_deref() == Some("serving");
    let all = g.wait_for("its words", |all| all.iter().any(serving));
    assert_eq!((all[0].metrics["queue.length"], all[0].metrics["load"]), (1.0, 0.5));
    assert_eq!(beat_of(&all[0]).lost_after_ms, 60_000);
    g.cli(&["status"]).good().says(&["serving"]);
    g.cli(&["explain", "web"]).good().says(&[
        "heartbeat",
        "ago; it is restarted after 60 s without",
        "metrics",
        "load=0.5 queue.length=1",
    ]);
    g.end();
}

#[test]
fn rubbish_is_refused_and_harms_nobody() {
    let program = "
import socket
def say(data):
  with socket.socket(socket.AF_UNIX) as s:
    s.connect(os.environ['KEEPWELL_HEARTBEAT'])
    s.sendall(data)
    answer = b''
    while piece := s.recv(4096):
      answer += piece
    return keepwell_heartbeat.decode(answer)
for data in [b'GET / HTTP/1.1\\r\\n\\r\\n', b'MS\\x01\\xff\\xff\\xff\\xff', b'MS\\x01\\0\\0\\0\\0\\1\\0\\0\\0']:
  command, text, _ = say(data)
  print(hex(command), text.decode(), flush=True)
print(guardian.beat(), flush=True)
time.sleep(3600)";
    let Some(g) = guardian(&[("web", "live = { heartbeat = true, lost_after = '5m' }", program)]) else {
        return;
    };
    let log = g.wait_log("web", "True");
    let words: Vec<&str> =
        log.lines().filter_map(|line| line.strip_prefix("0xff ")?.split(':').next()).collect();
    assert_eq!(words, ["magic", "length", "checksum"], "{log}");
    assert_eq!(beat_of(&g.service("web")).errors, 3);
    let told = g.events().into_iter().filter(|e| e.text.contains("a heartbeat was refused")).count();
    assert_eq!(told, 1, "it is told once a run");
    g.end();
}

/// Its clients wait while the daemon is replaced, since the anchor holds the endpoint; what they could not deliver comes later.
#[test]
fn beats_and_reports_outlive_the_daemon() {
    let program = "
n = 0
while True:
  guardian.beat()
  n += 1
  guardian.report(str(n), {'n': n, 'forgotten': guardian.forgotten})
  time.sleep(0.01)";
    let Some(g) = guardian(&[("web", "live = { heartbeat = true, lost_after = '1m' }", program)]) else {
        return;
    };
    let count =
        |g: &Guardian| g.status().and_then(|all| all[0].metrics.get("n").copied()).unwrap_or_default();
    for _ in 0..3 {
        wait_until("reports", || count(&g) > 0.0);
        let before = count(&g);
        let daemon = g.daemon();
        sys::kill(daemon, sys::SIGKILL);
        wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
        wait_until("later reports", || count(&g) > before);
    }
    let web = g.service("web");
    assert_eq!((web.restarts, web.metrics["forgotten"]), (0, 0.0), "{web:?}");
    assert!(beat_of(&web).last.is_some());
    g.end();
}

/// The port is the daemon's own, and the tokens outlive it.
#[test]
fn over_tcp_by_a_token_that_nobody_else_sees() {
    let program = "
import socket
where = os.environ['KEEPWELL_HEARTBEAT']
if 'KEEPWELL_TOKEN' not in os.environ:
  print('a socket of its own', guardian.beat(), flush=True)
  time.sleep(3600)
host, port = where.rsplit(':', 1)
def say(data):
  with socket.create_connection((host, int(port))) as s:
    s.sendall(data)
    answer = b''
    while piece := s.recv(4096):
      answer += piece
    return keepwell_heartbeat.decode(answer)
while not guardian.beat():
  time.sleep(0.05)
for data in [keepwell_heartbeat.encode(1, b''), keepwell_heartbeat.encode(0x10, b'guess')]:
  command, text, _ = say(data)
  print(hex(command), text.decode(), flush=True)
print('at', where, flush=True)
n = 0
while True:
  n += 1
  guardian.beat()
  guardian.report(None, {'n': n})
  time.sleep(0.02)";
    let port = free_port();
    let head = format!("[keepwell]\nheartbeat = '127.0.0.1:{port}'\n");
    let keys = "live = { heartbeat = 'tcp', lost_after = '1m' }";
    let Some(g) = guardian_with(&head, &[("web", keys, program), ("other", keys, program)]) else { return };
    let log = g.wait_log("web", &format!("at 127.0.0.1:{port}"));
    assert!(log.contains("0xff hello: ") && log.contains("0xff token: "), "{log}");
    g.wait_log("other", "at ");
    assert_eq!(g.info().map(|i| i.heartbeats_refused), Some(4));
    let tokens = ["web", "other"].map(|name| {
        let environ = std::fs::read(format!("/proc/{}/environ", g.pid(name))).expect("it runs");
        let environ = String::from_utf8_lossy(&environ).into_owned();
        let token = environ.split('\0').find_map(|line| line.strip_prefix("KEEPWELL_TOKEN="));
        token.expect("it has one").to_owned()
    });
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(tokens[0].len(), 32);

    let count = |g: &Guardian| g.service("web").metrics.get("n").copied().unwrap_or_default();
    wait_until("reports", || count(&g) > 0.0);
    let before = count(&g);
    let daemon = g.daemon();
    sys::kill(daemon, sys::SIGKILL);
    wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    wait_until("later reports", || count(&g) > before);
    for name in ["web", "other"] {
        let s = g.service(name);
        assert_eq!((s.restarts, beat_of(&s).errors), (0, 0), "{s:?}");
    }
    let said = [
        format!("{:?}", g.events()),
        g.cli(&["explain", "web"]).all(),
        g.cli(&["status", "--json"]).all(),
        g.cli(&["events"]).all(),
        std::fs::read_to_string(g.path(".keepwell/keepwell.log")).expect("its own log"),
    ];
    assert!(tokens.iter().all(|token| said.iter().all(|text| !text.contains(token.as_str()))));

    // A service that changes to a socket of its own does so with a restart.
    let config = std::fs::read_to_string(g.path("keepwell.toml")).expect("it was written");
    g.write("keepwell.toml", &config.replacen("'tcp'", "true", 1));
    g.cli(&["reload"]).good();
    g.wait_log("web", "a socket of its own True");
    g.end();
}
