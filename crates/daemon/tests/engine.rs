//! The engine between a fake anchor and the real core: what it asks for, in which order, and what a successor goes on from.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keepwell_anchor::codec::{self, Decoder};
use keepwell_anchor::link::Link;
use keepwell_anchor::protocol::{
    Asked, Exited, Finish, OpenSlot, Put, Report, Request, Run, Spawn, Spawned, StopRequested, Welcome,
};
use keepwell_core::spec::{StopAction, To};
use keepwell_daemon::engine::{self, BootError, Booted, Ended, Parts};
use keepwell_daemon::options::Options;
use keepwell_os::ipc::Channel;
use keepwell_os::{AsHandle, BorrowedHandle, Handle, ProcessStatus, SYSTEM};
use tokio::sync::broadcast;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the anchor side of a test holds: the channel, and what would outlive a daemon.
struct Anchor {
    channel: Channel,
    decoder: Decoder,
    got: VecDeque<(Request, VecDeque<Handle>)>,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    kept: BTreeMap<Vec<u8>, Handle>,
    slots: BTreeMap<u32, (OpenSlot, Vec<Handle>)>,
    seq: u64,
    /// Requests of the daemon in the order of their coming, by name.
    order: Vec<&'static str>,
}

impl Anchor {
    fn new(channel: Channel) -> Self {
        Self {
            channel,
            decoder: Decoder::default(),
            got: VecDeque::new(),
            values: BTreeMap::new(),
            kept: BTreeMap::new(),
            slots: BTreeMap::new(),
            seq: 0,
            order: Vec::new(),
        }
    }

    fn say(&mut self, report: &Report, handles: &[BorrowedHandle<'_>]) {
        let mut bytes = Vec::new();
        codec::encode(report, handles.len(), &mut bytes);
        let mut sent = 0;
        while sent < bytes.len() {
            match self.channel.send(&bytes[sent..], if sent == 0 { handles } else { &[] }) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => thread::yield_now(),
                Err(e) => panic!("the daemon's end is gone: {e}"),
            }
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Everything that an anchor tells a daemon first.
    fn welcome(&mut self, options: &Options, runs: &[Run], missed: &[Report]) {
        let welcome = Welcome {
            version: 1,
            pid: std::process::id(),
            rebirths: u32::from(!self.values.is_empty()),
            guardian: guardian(options),
            options: options.encode(),
            ..Welcome::default()
        };
        self.say(&Report::Welcome(welcome), &[]);
        for (key, value) in self.values.clone() {
            self.say(&Report::Value(Put { key, value }), &[]);
        }
        for (key, handle) in std::mem::take(&mut self.kept) {
            self.say(&Report::Kept(key.clone()), &[handle.as_handle()]);
            self.kept.insert(key, handle);
        }
        for (number, (open, handles)) in std::mem::take(&mut self.slots) {
            let borrowed: Vec<_> = handles.iter().map(AsHandle::as_handle).collect();
            self.say(&Report::Slot(open.clone()), &borrowed);
            self.slots.insert(number, (open, handles));
        }
        for run in runs {
            self.say(&Report::Run(run.clone()), &[]);
        }
        for report in missed {
            self.say(report, &[]);
        }
        self.say(&Report::Synced, &[]);
    }

    /// The next request that is not about keeping things; those are kept, as an anchor does.
    fn request(&mut self) -> Request {
        let until = Instant::now() + PATIENCE;
        loop {
            while let Some((request, handles)) = self.got.pop_front() {
                self.order.push(name(&request));
                match request {
                    Request::Put(p) => drop(self.values.insert(p.key, p.value)),
                    Request::Delete(key) => drop(self.values.remove(&key)),
                    Request::Keep(key) => {
                        self.kept.extend(handles.into_iter().map(|h| (key.clone(), h)));
                    }
                    Request::OpenSlot(open) => {
                        self.slots.insert(open.slot, (open, handles.into_iter().collect()));
                    }
                    Request::Hello(_) | Request::Ack(_) | Request::Up(_) | Request::WhenGone(_) => {}
                    other => return other,
                }
            }
            assert!(Instant::now() < until, "the engine asked for nothing more; so far: {:?}", self.order);
            match self.channel.recv(&mut self.decoder.bytes, &mut self.decoder.handles) {
                Ok(_) | Err(_) => thread::sleep(Duration::from_millis(1)),
            }
            let mut whole = Vec::new();
            self.decoder.take(&mut whole).unwrap();
            self.got.extend(whole);
        }
    }

    fn spawn(&mut self) -> Spawn {
        match self.request() {
            Request::Spawn(s) => s,
            other => panic!("a spawn was expected, not {other:?}"),
        }
    }

    fn started(&mut self, spawn: &Spawn, pid: u32) {
        let seq = self.next_seq();
        self.say(&Report::Spawned(Spawned { seq, run: spawn.run, pid }), &[]);
    }

    fn exited(&mut self, spawn: &Spawn, code: i32) {
        let report = self.exit(spawn, code);
        self.say(&report, &[]);
    }

    fn exit(&mut self, spawn: &Spawn, code: i32) -> Report {
        let seq = self.next_seq();
        let status = ProcessStatus { code: Some(code), ..ProcessStatus::default() };
        Report::Exited(Exited { seq, run: spawn.run, status, at: 0, tree_empty: true })
    }

    fn stop(&mut self) {
        let seq = self.next_seq();
        self.say(&Report::StopRequested(StopRequested { seq, why: "SIGTERM".into(), urgent: false }), &[]);
    }
}

/// Of one test alone: guardians of one name share their control groups.
fn guardian(options: &Options) -> String {
    let folder = options.base.file_name().unwrap().to_string_lossy().into_owned();
    format!("test-{}", folder.trim_start_matches('.'))
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello(_) => "hello",
        Request::OpenSlot(_) => "open slot",
        Request::CloseSlot(_) => "close slot",
        Request::Spawn(_) => "spawn",
        Request::Signal(_) => "signal",
        Request::Kill(_) => "kill",
        Request::Freeze(_) => "freeze",
        Request::Put(_) => "put",
        Request::Delete(_) => "delete",
        Request::Keep(_) => "keep",
        Request::Drop(_) => "drop",
        Request::Ack(_) => "ack",
        Request::Up(_) => "up",
        Request::Finish(_) => "finish",
        Request::WhenGone(_) => "when gone",
        Request::MainPid(_) => "main pid",
        Request::Measure(_) => "measure",
        Request::Progress(_) => "progress",
    }
}

fn options(dir: &Path, config: &str) -> Options {
    let file = dir.join("keepwell.toml");
    fs::write(&file, config).unwrap();
    let state_dir = dir.join(".keepwell");
    fs::create_dir_all(state_dir.join("notify")).unwrap();
    Options { config: Some(file), base: dir.into(), state_dir, scope: "project".into(), ..Options::default() }
}

/// Runs an engine on a thread of its own, as a daemon would.
fn daemon(channel: Channel) -> JoinHandle<Result<Ended, BootError>> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (events, _) = broadcast::channel(64);
        let parts = Parts { link: Link::new(channel), events, runtime: runtime.handle().clone() };
        let Booted { engine, .. } = engine::boot(parts)?;
        Ok(engine.run())
    })
}

/// Of a program that is there.
fn two() -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "[services.db]\ncommand = ['{0}']\nready = {{ delay = '0s' }}\n\
         restart = {{ delay = '0s', limit = 'off' }}\n\
         [services.web]\ncommand = ['{0}']\ndepends_on = ['db']\n",
        program.display()
    )
}

/// What a stop sends first.
fn first_signal() -> i32 {
    match SYSTEM.default_stop(To::Main)[0].action {
        StopAction::Signal(signal) => signal,
        StopAction::Http(_) | StopAction::Command(_) => panic!("a default ladder begins with a signal"),
    }
}

#[test]
fn services_start_in_order_restart_and_stop_in_reverse() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), &two());
    let (ours, theirs) = Channel::pair().unwrap();
    let engine = daemon(theirs);
    let mut anchor = Anchor::new(ours);
    anchor.welcome(&options, &[], &[]);

    let db = anchor.spawn();
    assert_eq!(anchor.slots[&db.slot].0.name, "db");
    let mark = db.request.env.iter().any(|e| e.starts_with(b"KEEPWELL_RUN=test-"));
    assert!(mark, "the mark must stand in the environment");
    // What a reborn daemon needs is told before what is asked for.
    let put = anchor.order.iter().position(|n| *n == "put").unwrap();
    assert!(put < anchor.order.iter().position(|n| *n == "spawn").unwrap());

    anchor.started(&db, 4001);
    let web = anchor.spawn();
    assert_eq!(anchor.slots[&web.slot].0.name, "web");
    anchor.started(&web, 4002);

    anchor.exited(&db, 1);
    let again = anchor.spawn();
    assert_eq!((again.slot, again.run > web.run), (db.slot, true));
    anchor.started(&again, 4003);

    anchor.stop();
    for expected in [&web, &again] {
        match anchor.request() {
            Request::Signal(s) => assert_eq!((s.run, s.signal), (expected.run, first_signal())),
            other => panic!("a signal was expected, not {other:?}"),
        }
        anchor.exited(expected, 0);
    }
    assert!(matches!(anchor.request(), Request::Finish(Finish { code: 0, .. })));
    assert!(matches!(engine.join().unwrap(), Ok(Ended::Finished)));
}

#[test]
fn a_reborn_daemon_goes_on_and_starts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), &two());
    let (ours, theirs) = Channel::pair().unwrap();
    let _first = daemon(theirs);
    let mut anchor = Anchor::new(ours);
    anchor.welcome(&options, &[], &[]);
    let db = anchor.spawn();
    anchor.started(&db, 4001);
    let web = anchor.spawn();

    // The first daemon is cut off here: the anchor has what it put, and one exit that it never saw.
    let (ours, theirs) = Channel::pair().unwrap();
    let silent = std::mem::replace(&mut anchor.channel, ours);
    let second = daemon(theirs);
    let live = Run { run: db.run, slot: db.slot, role: 0, pid: 4001, started: 1 };
    // A half-edited file must change nothing.
    fs::write(dir.path().join("keepwell.toml"), "[services.").unwrap();
    anchor.order.clear();
    let missed = anchor.exit(&web, 3);
    anchor.welcome(&options, &[live], &[missed]);
    anchor.stop();
    match anchor.request() {
        Request::Signal(s) => assert_eq!((s.run, s.signal), (db.run, first_signal())),
        other => panic!(
            "only db is left to be stopped, not {other:?}; {}",
            fs::read_to_string(options.state_dir.join("keepwell.log")).unwrap_or_default()
        ),
    }
    assert!(!anchor.order.contains(&"spawn"), "nothing may start twice: {:?}", anchor.order);
    anchor.exited(&db, 0);
    assert!(matches!(anchor.request(), Request::Finish(_)));
    assert!(matches!(second.join().unwrap(), Ok(Ended::Finished)));
    drop(silent);
}

#[test]
fn a_wrong_configuration_ends_the_anchor_with_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), "[services.web]\ncommand = []\n");
    let (ours, theirs) = Channel::pair().unwrap();
    let engine = daemon(theirs);
    let mut anchor = Anchor::new(ours);
    anchor.welcome(&options, &[], &[]);
    match anchor.request() {
        Request::Finish(f) => {
            assert_eq!(f.code, 2);
            assert!(f.text.contains("keepwell.toml:2"), "{}", f.text);
        }
        other => panic!("a refusal was expected, not {other:?}"),
    }
    assert!(matches!(engine.join().unwrap(), Err(BootError::Refused)));
}

#[test]
fn the_engine_ends_when_the_anchor_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), &two());
    let (ours, theirs) = Channel::pair().unwrap();
    let engine = daemon(theirs);
    let mut anchor = Anchor::new(ours);
    anchor.welcome(&options, &[], &[]);
    anchor.spawn();
    drop(anchor);
    assert!(matches!(engine.join().unwrap(), Ok(Ended::AnchorGone)));
}

#[test]
fn what_happens_to_the_host_reaches_the_hooks_with_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // Any program that this host has.
    let program = std::env::current_exe().unwrap().display().to_string();
    let config = format!(
        "[services.web]\ncommand = ['{program}']\n\
         hooks = {{ on_resume = ['{program}'], on_session = ['{program}', '${{service}}'] }}\n"
    );
    let options = options(dir.path(), &config);
    let (ours, theirs) = Channel::pair().unwrap();
    let engine = daemon(theirs);
    let mut anchor = Anchor::new(ours);
    anchor.welcome(&options, &[], &[]);
    let web = anchor.spawn();
    anchor.started(&web, 4001);
    let news = |anchor: &mut Anchor, text: &str| {
        let (seq, what) = (anchor.next_seq(), Asked::NEWS);
        anchor.say(&Report::Asked(Asked { seq, what, text: text.to_owned() }), &[]);
    };
    let told = |spawn: &Spawn, name: &str| {
        let all = spawn.request.env.iter().map(|e| String::from_utf8_lossy(e).into_owned());
        all.filter_map(|e| Some(e.strip_prefix(name)?.strip_prefix('=')?.to_owned())).collect::<Vec<_>>()
    };
    // The second waits for the first; nobody listens to the third, and a later anchor's is no obstacle.
    for text in ["resume", "lock 3", "power_change", "the moon is full"] {
        news(&mut anchor, text);
    }
    let resume = anchor.spawn();
    assert_eq!(told(&resume, "KEEPWELL_EVENT"), ["resume"]);
    assert!(told(&resume, "KEEPWELL_SESSION").is_empty());
    assert_eq!(resume.slot, web.slot);
    anchor.started(&resume, 4002);
    anchor.exited(&resume, 0);
    let session = anchor.spawn();
    assert_eq!(session.request.argv, [program.into_bytes(), b"web".to_vec()]);
    assert_eq!(
        (told(&session, "KEEPWELL_EVENT"), told(&session, "KEEPWELL_SESSION")),
        (vec!["lock".into()], vec!["3".into()])
    );
    assert_eq!(told(&web, "KEEPWELL_EVENT"), Vec::<String>::new());
    anchor.started(&session, 4003);
    anchor.exited(&session, 0);

    anchor.stop();
    assert!(matches!(anchor.request(), Request::Signal(_)));
    anchor.exited(&web, 0);
    assert!(matches!(anchor.request(), Request::Finish(Finish { code: 0, .. })));
    assert!(matches!(engine.join().unwrap(), Ok(Ended::Finished)));
}
