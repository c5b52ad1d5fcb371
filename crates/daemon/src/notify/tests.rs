//! The hub on real sockets, with the test in the engine's place.

use std::ffi::OsString;
use std::sync::mpsc::{Receiver, sync_channel};

use keepwell_core::event::Level;
use keepwell_os::AsHandle;
use keepwell_os::local::Peer;
use keepwell_os::notify::notify_at;
use keepwell_os::wait::Waiter;

use super::*;
use crate::probe::tests::{Background, background};

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(10);
const RUN: RunId = RunId(7);

struct World {
    hub: NotifyHub,
    inbox: Receiver<Message>,
    socket: NotifySocket,
    address: OsString,
    _runtime: Background,
    _waiter: Waiter,
    _dir: tempfile::TempDir,
}

/// A hub that listens for `web`, whose main run is `run`; `socket` is what the anchor would hold.
fn world(run: Option<RunId>) -> World {
    let dir = tempfile::tempdir().unwrap();
    let socket = NotifySocket::bind(&dir.path().join("web.sock")).unwrap();
    let runtime = background();
    let (sender, inbox) = sync_channel(64);
    let waiter = Waiter::new().unwrap();
    let engine = EngineHandle::new(sender, waiter.waker());
    let mut hub = NotifyHub::new(runtime.handle.clone(), engine);
    hub.add(1, ServiceId::new("web", 1), copy(&socket), allowed(), run).unwrap();
    let address = socket.address().unwrap();
    World { hub, inbox, socket, address, _runtime: runtime, _waiter: waiter, _dir: dir }
}

fn copy(socket: &NotifySocket) -> NotifySocket {
    NotifySocket::from_handle(socket.as_handle().try_clone_to_owned().unwrap()).unwrap()
}

fn allowed() -> Allowed {
    let own = std::process::id();
    Allowed { is_user: Box::new(|uid| uid == 4_000_000), in_tree: Box::new(move |pid| pid == own) }
}

impl World {
    fn say(&self, text: &str) {
        notify_at(&self.address, text).unwrap();
    }

    fn next(&self) -> Message {
        self.inbox.recv_timeout(LONG).unwrap()
    }

    fn next_settled(&self) -> oneshot::Sender<()> {
        let message = self.next();
        let text = shown(&message);
        let Message::Settled { reply } = message else {
            panic!("expected the question whether all is settled: {text}")
        };
        reply
    }

    /// Waits until the queue is empty: the hub has taken everything away.
    fn wait_empty(&self) {
        let deadline = std::time::Instant::now() + LONG;
        while self.socket.peek().is_ok() {
            assert!(std::time::Instant::now() < deadline, "the datagram is still there");
            std::thread::yield_now();
        }
    }
}

fn shown(message: &Message) -> String {
    match message {
        Message::Input(input) => format!("{input:?}"),
        Message::StatusText { run, text } => format!("{run}: status {text:?}"),
        Message::MainPid { run, pid } => format!("{run}: main process {pid}"),
        Message::Told { level: Level::Warn, text, .. } => format!("told: {text}"),
        Message::Settled { .. } => "settled?".into(),
        Message::Told { .. }
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

#[test]
fn a_word_is_taken_away_only_when_the_engine_has_settled_it() {
    let w = world(Some(RUN));
    w.say("READY=1\nSTATUS=well");
    assert_eq!(shown(&w.next()), "run 7: status \"well\"");
    assert_eq!(shown(&w.next()), "Ready { run: RunId(7) }");
    let reply = w.next_settled();
    assert!(w.socket.peek().is_ok());
    reply.send(()).unwrap();
    w.wait_empty();
    w.say("STOPPING=1");
    assert_eq!(shown(&w.next()), "Stopping { run: RunId(7) }");
}

#[test]
fn a_daemon_that_dies_in_between_leaves_the_word_to_the_next() {
    let w = world(Some(RUN));
    w.say("READY=1");
    assert_eq!(shown(&w.next()), "Ready { run: RunId(7) }");
    drop(w.next_settled());
    // The same socket, held by the anchor, under the next daemon.
    let (sender, inbox) = sync_channel(64);
    let waiter = Waiter::new().unwrap();
    let mut next = NotifyHub::new(w.hub.runtime.clone(), EngineHandle::new(sender, waiter.waker()));
    next.add(1, ServiceId::new("web", 1), copy(&w.socket), allowed(), Some(RUN)).unwrap();
    assert_eq!(shown(&inbox.recv_timeout(LONG).unwrap()), "Ready { run: RunId(7) }");
}

#[test]
fn what_an_earlier_run_said_is_never_taken_for_the_next_ones() {
    let w = world(Some(RUN));
    w.say("READY=1");
    assert_eq!(shown(&w.next()), "Ready { run: RunId(7) }");
    let reply = w.next_settled();
    // The run ends before the engine comes to it, and more of its words wait.
    w.say("WATCHDOG=1");
    w.hub.ended(RUN);
    w.say("STATUS=last words");
    w.hub.started(1, RunId(8));
    // What comes now is the new run's, although the listener still holds the old word in its hands.
    w.say("STATUS=first words");
    reply.send(()).unwrap();
    assert!(w.inbox.recv_timeout(SHORT).is_err(), "its process is not known yet");
    w.hub.spawned(RunId(8));
    assert_eq!(shown(&w.next()), "run 8: status \"first words\"");
    w.next_settled().send(()).unwrap();
    w.wait_empty();
    assert!(w.inbox.try_recv().is_err());
}

#[test]
fn between_runs_nobody_is_heard() {
    let w = world(None);
    w.say("READY=1");
    w.wait_empty();
    w.hub.started(1, RUN);
    w.hub.spawned(RUN);
    w.say("READY=1");
    assert_eq!(shown(&w.next()), "Ready { run: RunId(7) }");
    w.next_settled().send(()).unwrap();
    w.hub.ended(RunId(6));
    w.say("STOPPING=1");
    assert_eq!(shown(&w.next()), "Stopping { run: RunId(7) }");
    w.next_settled().send(()).unwrap();
    w.hub.ended(RUN);
    w.say("READY=1");
    w.wait_empty();
    assert!(w.inbox.try_recv().is_err());
}

#[test]
fn what_cannot_be_read_is_told_once_a_run() {
    let mut w = world(Some(RUN));
    w.say(&"x".repeat(5000));
    assert_eq!(
        shown(&w.next()),
        "told: a notification was ignored: it is longer than 4096 bytes or has no sender"
    );
    w.next_settled().send(()).unwrap();
    w.say(&"x".repeat(5000));
    w.say("READY=1\0STATUS=x");
    w.say("");
    w.say("X_OTHER=1");
    w.say("READY=1");
    assert_eq!(shown(&w.next()), "Ready { run: RunId(7) }");
    w.next_settled().send(()).unwrap();
    assert_eq!(w.hub.ears[&1].shared.turn().memory.ignored(), 3);
    w.hub.started(1, RunId(8));
    w.hub.spawned(RUN);
    w.hub.spawned(RunId(8));
    w.say("READY=1\0STATUS=x");
    assert_eq!(shown(&w.next()), "told: a notification was ignored: there is a zero byte in it");
    w.next_settled().send(()).unwrap();
    w.hub.remove(1);
    w.say("READY=1");
    assert!(w.inbox.recv_timeout(SHORT).is_err());
}

#[test]
fn who_is_heard() {
    let w = world(Some(RUN));
    let shared = &w.hub.ears[&1].shared;
    let own = std::process::id();
    let from = |pid, uid| {
        let mut sender = Peer::stranger();
        (sender.pid, sender.uid) = (pid, uid);
        let notification = Some(Notification { bytes: b"READY=1".to_vec(), sender, handles: Vec::new() });
        let told = shared.judge(&Heard { notification, run: Some(RUN), turn: 0 });
        told.iter().map(shown).collect::<Vec<_>>()
    };
    let heard = ["Ready { run: RunId(7) }"];
    // Of the tree, whoever it runs as; of the service's user, even when the process is gone; the administrator.
    assert_eq!(from(own, 1234), heard);
    assert_eq!(from(999_999_999, 4_000_000), heard);
    assert_eq!(from(1, 0), heard);
    let told = from(1, 1234);
    assert!(told.len() == 1 && told[0].contains("process 1, user 1234, was ignored"), "{told:?}");
    assert!(from(1, 1234).is_empty() && from(2, 1).is_empty());
    assert_eq!(shared.turn().memory.ignored(), 3);
}

#[test]
fn words_become_messages() {
    let id = ServiceId::new("web", 1);
    let mut memory = Memory::default();
    let mut tell = |text: &str| {
        let said = parse::parse(text.as_bytes()).unwrap();
        memory.messages(&id, RUN, said, &|pid| pid == 4711).iter().map(shown).collect::<Vec<_>>().join("; ")
    };
    let table = [
        ("READY=1", "Ready { run: RunId(7) }"),
        ("STOPPING=1\nSTATUS=bye", "run 7: status \"bye\"; Stopping { run: RunId(7) }"),
        ("STATUS=bye", ""),
        ("WATCHDOG=1", "Alive { run: RunId(7) }"),
        ("WATCHDOG=trigger", "WatchdogTriggered { run: RunId(7) }"),
        ("WATCHDOG_USEC=1500000", "SetWatchdog { run: RunId(7), interval: 1.5s }"),
        ("EXTEND_TIMEOUT_USEC=2000000", "ExtendTimeout { run: RunId(7), by: 2s }"),
        ("READY=1\nMAINPID=4711", "run 7: main process 4711; Ready { run: RunId(7) }"),
        (
            "MAINPID=4712",
            "told: it names process 4712 as its main process, which is not of its tree: ignored",
        ),
        ("MAINPID=4713", ""),
        ("ERRNO=2", "told: it reports error 2: no such file or directory"),
        ("ERRNO=2", ""),
        ("ERRNO=0", ""),
        // A reload without words gets ours, until it is over.
        ("RELOADING=1\nMONOTONIC_USEC=1", "run 7: status \"reloading\""),
        ("READY=1", "run 7: status \"\"; Ready { run: RunId(7) }"),
        ("READY=1", "Ready { run: RunId(7) }"),
        ("RELOADING=1\nSTATUS=rereading", "run 7: status \"rereading\""),
        ("READY=1", "Ready { run: RunId(7) }"),
        ("BARRIER=1", ""),
    ];
    for (said, told) in table {
        assert_eq!(tell(said), told, "{said:?}");
    }
}

#[test]
fn a_flood_is_slowed_down_after_a_burst() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut pace = Pace::new();
        let start = Instant::now();
        for _ in 0..BURST {
            pace.keep().await;
        }
        let burst = start.elapsed();
        for _ in 0..20 {
            pace.keep().await;
        }
        assert!(start.elapsed() - burst >= EACH * 10, "{:?} after {burst:?}", start.elapsed());
    });
}
