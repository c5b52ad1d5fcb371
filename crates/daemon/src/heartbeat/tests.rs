//! The hub on real endpoints, with the test in the engine's place.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use keepwell_os::local::{self, Access};
use keepwell_os::wait::Waiter;
use keepwell_sdk::heartbeat::{Client, Command, Decoder, Delivery, Refused, Report, encode};

use super::pulse::SPACING;
use super::*;
use crate::message::Message;
use crate::probe::tests::{Background, background};

const PATIENCE: Duration = Duration::from_secs(30);
const RUN: RunId = RunId(7);

struct World {
    hub: HeartbeatHub,
    inbox: Receiver<Message>,
    path: PathBuf,
    _runtime: Background,
    _waiter: Waiter,
    _dir: tempfile::TempDir,
}

/// A hub that listens for `web`, whose main run is `run`.
fn world(run: Option<RunId>, allowed: Allowed) -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.sock");
    let endpoint = Endpoint::bind(&path, Access::Everyone).unwrap();
    let runtime = background();
    let (sender, inbox) = sync_channel(1024);
    let waiter = Waiter::new().unwrap();
    let engine = EngineHandle::new(sender, waiter.waker());
    let mut hub = HeartbeatHub::new(runtime.handle.clone(), engine);
    hub.add(1, ServiceId::new("web", 1), Door::Own(endpoint, allowed), run).unwrap();
    World { hub, inbox, path, _runtime: runtime, _waiter: waiter, _dir: dir }
}

fn heard(run: Option<RunId>) -> World {
    world(run, Box::new(|_| true))
}

impl World {
    fn client(&self) -> Client {
        let address = local::address(&self.path).unwrap();
        Client::new(keepwell_sdk::heartbeat::Endpoint::of(address), None).timeout(PATIENCE)
    }

    fn raw(&self) -> impl Read + Write + use<'_> {
        local::connect_blocking(&self.path).unwrap()
    }

    /// What the engine is told next; it settles whatever it is asked to.
    fn next(&self) -> String {
        shown(self.inbox.recv_timeout(PATIENCE).unwrap())
    }

    fn pulse(&self) -> Pulse {
        self.hub.pulse(1).unwrap()
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Pulse) -> bool) {
        let begin = Instant::now();
        while !is_so(&self.pulse()) {
            assert!(begin.elapsed() < PATIENCE, "{what}: {:?}", self.pulse());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn shown(message: Message) -> String {
    match message {
        Message::Input(input) => format!("{input:?}"),
        Message::StatusText { run, text } => format!("{run}: status {text:?}"),
        Message::Told { text, .. } => format!("told: {text}"),
        Message::Settled { reply } => {
            reply.send(()).unwrap();
            "settled".into()
        }
        Message::MainPid { .. }
        | Message::Command { .. }
        | Message::Services { .. }
        | Message::Explain { .. }
        | Message::Figures { .. }
        | Message::Standing { .. }
        | Message::Receivers { .. }
        | Message::Delivered { .. }
        | Message::Health { .. }
        | Message::Incidents { .. }
        | Message::Info { .. }
        | Message::ReadyAt { .. }
        | Message::Reload { .. }
        | Message::LogSlots { .. }
        | Message::ReloadRead(_)
        | Message::Usage(_)
        | Message::Log(_)
        | Message::Committed { .. } => "something else".into(),
    }
}

/// The next answer, as its command and its payload; `None`: hung up.
fn answer(stream: &mut impl Read) -> Option<(u8, String)> {
    let mut decoder = Decoder::default();
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return Some((frame.command, String::from_utf8_lossy(&frame.payload).into_owned()));
        }
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1..) => decoder.push(&byte),
            Ok(0) | Err(_) => return None,
        }
    }
}

fn frame(command: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(command, payload, &mut bytes);
    bytes
}

#[test]
fn an_empty_heartbeat_without_any_handshake_is_answered_and_told() {
    let w = heard(Some(RUN));
    let mut stream = w.raw();
    stream.write_all(&[0x4D, 0x53, 1, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x4D, 0x53, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(w.next(), "Beat { run: RunId(7) }");
    assert!(w.pulse().last.is_some());
}

#[test]
fn many_beats_are_told_as_few_and_the_last_of_them_is_told() {
    let w = heard(Some(RUN));
    let mut client = w.client();
    let begin = Instant::now();
    for _ in 0..50 {
        assert_eq!(client.beat(), Ok(Delivery::Delivered));
    }
    let mut told = 0;
    while let Ok(message) = w.inbox.recv_timeout(Duration::from_millis(500)) {
        assert_eq!(shown(message), "Beat { run: RunId(7) }");
        told += 1;
    }
    // The first is told at once; what comes soon after it, later and together.
    let most = 2 + begin.elapsed().as_millis() / SPACING.as_millis();
    assert!((2..=most).contains(&told), "{told} were told, at most {most} should be");
}

#[test]
fn words_reach_the_engine_before_they_are_answered() {
    let w = heard(Some(RUN));
    let mut client = w.client();
    std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            let report = Report { status: Some("well".into()), ..Report::default() };
            [
                client.ready(),
                client.extend_timeout(Duration::from_secs(90)),
                client.report(report),
                client.stopping(),
            ]
        });
        assert_eq!(w.next(), "Ready { run: RunId(7) }");
        assert_eq!(w.next(), "settled");
        assert_eq!(w.next(), "ExtendTimeout { run: RunId(7), by: 90s }");
        assert_eq!(w.next(), "settled");
        assert_eq!(w.next(), "run 7: status \"well\"");
        assert_eq!(w.next(), "Beat { run: RunId(7) }");
        assert_eq!(w.next(), "Stopping { run: RunId(7) }");
        assert_eq!(w.next(), "settled");
        assert!(client.join().unwrap().iter().all(|d| *d == Ok(Delivery::Delivered)));
    });
}

#[test]
fn a_double_is_answered_and_dropped() {
    let w = heard(Some(RUN));
    let mut stream = w.raw();
    let mut say = |payload: &str| {
        stream.write_all(&frame(2, payload.as_bytes())).unwrap();
        assert_eq!(answer(&mut stream), Some((0x82, payload.to_owned())));
    };
    say("from=a\nseq=2\nstatus=two\nn=2");
    say("from=a\nseq=2\nstatus=again\nn=3");
    say("from=a\nseq=1\nstatus=one\nn=1");
    assert_eq!(w.pulse().metrics["n"], 2.0);
    say("from=b\nseq=1\nstatus=other\nn=4");
    say("status=nobody's");
    assert_eq!(w.pulse().metrics["n"], 4.0);
    let told: Vec<String> = w.inbox.try_iter().map(shown).filter(|m| m.contains("status")).collect();
    assert_eq!(told, ["run 7: status \"two\"", "run 7: status \"other\"", "run 7: status \"nobody's\""]);
}

#[test]
fn what_is_no_frame_is_counted_answered_and_ends_the_connection() {
    let w = heard(Some(RUN));
    let mut wrong = frame(2, b"status=well");
    wrong[12] ^= 1;
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "magic"),
        (vec![0x4D, 0x53, 1, 1, 0, 1, 0], "length"),
        (wrong, "checksum"),
    ];
    for (number, (bytes, word)) in cases.into_iter().enumerate() {
        let mut stream = w.raw();
        stream.write_all(&[frame(1, &[]), bytes].concat()).unwrap();
        assert_eq!(answer(&mut stream), Some((0x81, String::new())));
        let (command, text) = answer(&mut stream).unwrap();
        assert_eq!((command, text.split(':').next()), (0xFF, Some(word)));
        assert_eq!(answer(&mut stream), None, "{word}");
        assert_eq!(w.pulse().errors, number as u64 + 1);
    }
    let told: Vec<String> = w.inbox.try_iter().map(shown).filter(|m| m.starts_with("told")).collect();
    assert_eq!(told, ["told: a heartbeat was refused: magic: a frame begins with 4D 53, not with 47 45"]);
}

#[test]
fn what_cannot_be_read_is_counted_and_answered_and_the_connection_goes_on() {
    let w = heard(Some(RUN));
    let mut stream = w.raw();
    for (command, payload, word) in
        [(0x42, "", "command"), (2, "load=high", "payload"), (0x13, "90", "payload")]
    {
        stream.write_all(&frame(command, payload.as_bytes())).unwrap();
        let (command, text) = answer(&mut stream).unwrap();
        assert_eq!((command, text.split(':').next()), (0xFF, Some(word)));
    }
    assert_eq!(w.pulse().errors, 3);
    stream.write_all(&frame(Command::Hello as u8, b"any")).unwrap();
    assert_eq!(answer(&mut stream), Some((0x90, "any".into())));
    let mut client = w.client();
    assert!(matches!(
        client.report(Report { from: Some("x".repeat(65)), ..Report::default() }),
        Err(Refused::Report(_))
    ));
}

#[test]
fn a_frame_may_come_in_pieces_and_the_longest_goes_through() {
    let w = heard(Some(RUN));
    let mut stream = w.raw();
    for byte in frame(1, b"slow") {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(answer(&mut stream), Some((0x81, "slow".into())));
    let long = "x".repeat(64 << 10);
    stream.write_all(&frame(1, long.as_bytes())).unwrap();
    assert_eq!(answer(&mut stream), Some((0x81, long)));
}

#[test]
fn a_run_that_is_over_is_hung_up_on_and_the_next_begins_anew() {
    let w = heard(Some(RUN));
    let mut stream = w.raw();
    stream.write_all(&frame(2, b"n=1\nseq=5")).unwrap();
    assert!(answer(&mut stream).is_some());
    w.hub.ended(RUN);
    assert_eq!(w.hub.pulse(1), None);
    assert_eq!(answer(&mut stream), None);
    assert_eq!(answer(&mut w.raw()), None, "between two runs nobody is heard");
    w.hub.started(1, RunId(8));
    let mut client = w.client();
    let begin = Instant::now();
    while client.beat() != Ok(Delivery::Delivered) {
        assert!(begin.elapsed() < PATIENCE);
    }
    assert!(w.pulse().metrics.is_empty());
    assert_eq!(w.inbox.try_iter().map(shown).last().as_deref(), Some("Beat { run: RunId(8) }"));
}

#[test]
fn strangers_are_counted_and_hung_up_on() {
    let w = world(Some(RUN), Box::new(|_| false));
    assert_eq!(answer(&mut w.raw()), None);
    w.wait("it is counted", |pulse| pulse.errors == 1);
    assert!(w.next().starts_with("told: a heartbeat was refused: process "));
    assert_eq!(w.pulse().last, None);
}

#[test]
fn too_many_connections_are_refused_and_the_others_served() {
    let w = heard(Some(RUN));
    let mut open: Vec<_> = (0..MAX_CONNECTIONS).map(|_| w.raw()).collect();
    for stream in &mut open {
        stream.write_all(&frame(1, &[])).unwrap();
        assert!(answer(stream).is_some());
    }
    assert_eq!(answer(&mut w.raw()), None);
    w.wait("it is counted", |pulse| pulse.errors == 1);
    open[0].write_all(&frame(1, &[])).unwrap();
    assert!(answer(&mut open[0]).is_some());
    drop(open.pop());
    let mut client = w.client();
    let begin = Instant::now();
    while client.beat() != Ok(Delivery::Delivered) {
        assert!(begin.elapsed() < PATIENCE);
    }
}

#[test]
fn a_flood_waits_and_all_of_it_is_answered() {
    let w = heard(Some(RUN));
    let mut stream = w.raw();
    let flood: Vec<u8> = (0..300).flat_map(|_| frame(1, &[])).collect();
    let begin = Instant::now();
    stream.write_all(&flood).unwrap();
    let mut answers = vec![0; flood.len()];
    stream.read_exact(&mut answers).unwrap();
    // The last piece is read only when the time for those before it has passed; answers come before the wait.
    stream.write_all(&frame(1, &[])).unwrap();
    assert!(answer(&mut stream).is_some());
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
}

/// A hub with a free port, which hears `web` by the token `secret`.
fn over_tcp() -> (World, SocketAddr) {
    let mut w = heard(None);
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    w.hub.set_port(Some(address));
    w.hub.add(1, ServiceId::new("web", 1), Door::Tcp("secret".into()), Some(RUN)).unwrap();
    (w, address)
}

fn tcp_client(address: SocketAddr, token: &str) -> Client {
    let endpoint = keepwell_sdk::heartbeat::Endpoint::of(address.to_string().into());
    Client::new(endpoint, Some(token.to_owned())).timeout(PATIENCE)
}

/// Once the port is open, which happens on another thread.
fn tcp(address: SocketAddr) -> std::net::TcpStream {
    let begin = Instant::now();
    loop {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(e) => assert!(begin.elapsed() < PATIENCE, "{e}"),
        }
    }
}

#[test]
fn over_tcp_the_token_says_whose_the_connection_is() {
    let (w, address) = over_tcp();
    drop(tcp(address));
    let mut client = tcp_client(address, "secret");
    assert_eq!(client.beat(), Ok(Delivery::Delivered));
    assert_eq!(w.next(), "Beat { run: RunId(7) }");
    let report = Report { status: Some("well".into()), ..Report::default() };
    assert_eq!(client.report(report), Ok(Delivery::Delivered));
    assert_eq!(w.next(), "run 7: status \"well\"");

    // What follows the hello in the same breath is heard, too.
    let mut stream = tcp(address);
    stream.write_all(&[frame(0x10, b"secret"), frame(2, b"n=5"), vec![0x4D]].concat()).unwrap();
    assert_eq!(answer(&mut stream), Some((0x90, "secret".into())));
    assert_eq!(answer(&mut stream), Some((0x82, "n=5".into())));
    assert_eq!(w.pulse().metrics["n"], 5.0);
    stream.write_all(b"X").unwrap();
    assert_eq!(answer(&mut stream).map(|(command, _)| command), Some(0xFF));
    assert_eq!(answer(&mut stream), None);
    assert_eq!((w.pulse().errors, w.hub.strangers_refused()), (1, 0));
}

#[test]
fn over_tcp_nobody_is_heard_without_the_token() {
    let (w, address) = over_tcp();
    let cases = [
        (frame(1, &[]), "hello"),
        (frame(0x10, b"Secret"), "token"),
        (frame(0x10, b""), "token"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "magic"),
        (vec![0x4D, 0x53, 0x10, 1, 0, 1, 0], "length"),
    ];
    for (number, (bytes, word)) in cases.into_iter().enumerate() {
        let mut stream = tcp(address);
        stream.write_all(&bytes).unwrap();
        let (command, text) = answer(&mut stream).unwrap();
        assert_eq!((command, text.split(':').next()), (0xFF, Some(word)));
        assert!(!text.contains("ecret"), "{text}");
        assert_eq!(answer(&mut stream), None, "{word}");
        assert_eq!(w.hub.strangers_refused(), number as u64 + 1);
    }
    assert_eq!(
        w.inbox.try_iter().map(shown).collect::<Vec<_>>(),
        ["told: a heartbeat over TCP was refused: hello: the first command is 0x10, not 0x01"]
    );
    assert_eq!(w.pulse(), Pulse::default());
}

#[test]
fn over_tcp_a_service_that_is_gone_is_hung_up_on() {
    let (mut w, address) = over_tcp();
    let mut stream = tcp(address);
    stream.write_all(&frame(0x10, b"secret")).unwrap();
    assert!(answer(&mut stream).is_some());
    w.hub.remove(1);
    assert_eq!(answer(&mut stream), None);
    let mut stream = tcp(address);
    stream.write_all(&frame(0x10, b"secret")).unwrap();
    assert_eq!(answer(&mut stream).map(|(command, _)| command), Some(0xFF));
    w.hub.set_port(None);
    let begin = Instant::now();
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(begin.elapsed() < PATIENCE);
    }
}

#[test]
fn a_port_that_is_taken_is_told_of_and_tried_again() {
    let mut w = heard(None);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    w.hub.set_port(Some(address));
    let told = w.next();
    assert!(told.starts_with(&format!("told: heartbeats cannot be heard on {address}: ")), "{told}");
    drop(taken);
    assert_eq!(w.next(), format!("told: {address} is free: heartbeats are heard there"));
}
