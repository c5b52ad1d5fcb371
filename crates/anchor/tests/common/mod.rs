//! A daemon as a test plays it, and an anchor on a host that is not there.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use keepwell_anchor::link::Link;
use keepwell_anchor::protocol::*;
use keepwell_anchor::{Anchor, Manager, Options, RunningWhen, Timing};
use keepwell_core::Mono;
use keepwell_os::fake::{FakeHost, World};
use keepwell_os::ipc::{AsHandle, Channel};
use keepwell_os::{SpawnRequest, pipe};

/// One daemon as a test plays it.
pub(crate) struct Daemon {
    pub(crate) link: Link,
    pub(crate) pid: u32,
}

impl Daemon {
    /// The helper that the anchor started last, if it is a daemon.
    pub(crate) fn born(world: &mut World) -> Option<Daemon> {
        let helper = world.helpers.pop_front()?;
        let channel = Channel::from_handle(helper.channel?).unwrap();
        Some(Daemon { link: Link::new(channel), pid: helper.pid })
    }

    pub(crate) fn say(&mut self, request: &Request) {
        self.link.send(request, &[]);
        self.link.flush();
    }

    pub(crate) fn hello(&mut self) {
        self.say(&Request::Hello(Hello { version: VERSION, pid: self.pid }));
    }

    pub(crate) fn open_slot(&mut self, slot: u32) {
        let (read, write) = pipe::pipe().unwrap();
        let open =
            OpenSlot { slot, name: format!("s{slot}"), tree: false, separate: false, drain_limit: 1000 };
        self.link.send(&Request::OpenSlot(open), &[read.as_handle(), write.as_handle()]);
    }

    pub(crate) fn spawn(&mut self, run: u64, slot: u32, role: u8, program: &str) {
        let program = program.as_bytes().to_vec();
        let request = SpawnRequest { program, argv: vec![b"x".to_vec()], ..SpawnRequest::default() };
        self.say(&Request::Spawn(Spawn { run, slot, role, request }));
    }

    pub(crate) fn hear(&mut self) -> Vec<Report> {
        self.link.recv().unwrap().into_iter().map(|(r, _)| r).collect()
    }
}

pub(crate) fn seq(report: &Report) -> Option<u64> {
    match report {
        Report::Spawned(r) => Some(r.seq),
        Report::SpawnFailed(r) => Some(r.seq),
        Report::Exited(r) => Some(r.seq),
        Report::TreeEmpty(r) => Some(r.seq),
        Report::StopRequested(r) => Some(r.seq),
        Report::Drained(r) => Some(r.seq),
        Report::SignalFailed(r) => Some(r.seq),
        Report::Ping(seq) => Some(*seq),
        Report::Asked(r) => Some(r.seq),
        _ => None,
    }
}

pub(crate) fn options() -> Options {
    Options {
        guardian: "fake".into(),
        program: None,
        daemon: vec!["keepwell".into(), "daemon".into()],
        view: None,
        options: Vec::new(),
        release: "1".into(),
        keep: Vec::new(),
        running_when: RunningWhen::Up,
        timing: Timing::default(),
    }
}

/// Runs an anchor in a world where `script` happens; the exit code, and what was said.
pub(crate) fn run(script: impl FnMut(&mut World) -> bool + 'static) -> (i32, String, Duration) {
    run_with(options(), None, script)
}

/// The same with options of its own, under a service manager.
pub(crate) fn run_with(
    options: Options,
    manager: Option<Box<dyn Manager>>,
    script: impl FnMut(&mut World) -> bool + 'static,
) -> (i32, String, Duration) {
    let program = std::fs::File::open("/dev/null").unwrap().into();
    let said = Rc::new(RefCell::new((String::new(), Mono(0))));
    let heard = Rc::clone(&said);
    let mut script = script;
    let host = FakeHost::new(Box::new(move |world: &mut World| {
        let done = script(world);
        *heard.borrow_mut() = (world.said.clone(), world.now);
        done
    }))
    .unwrap();
    let mut anchor = Anchor::new(host, program, options);
    if let Some(manager) = manager {
        anchor = anchor.under(manager);
    }
    let code = anchor.run();
    drop(anchor);
    let (said, now) = said.borrow().clone();
    (code, said, now.since(Mono(1_000_000_000)))
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
