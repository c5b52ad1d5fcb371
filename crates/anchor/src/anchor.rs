//! The anchor's loop: one thread that waits for the host and the daemon, and does what they say.

use std::io;
use std::time::Duration;

use keepwell_core::Mono;
use keepwell_os::Handle;
use keepwell_os::host::{Host, HostEvent};

use crate::accept::Listeners;
use crate::codec::CodecError;
use crate::daemon::{Daemon, Life};
use crate::drain::Drain;
use crate::holdings::{Holdings, Slot};
use crate::manager::{Managed, Manager};
use crate::options::Options;
use crate::protocol::Request;
use crate::reports::Reports;
use crate::stop::{Farewell, Stop};

/// Tokens in the host's waiter.
pub(crate) const CHANNEL: u64 = 1;
pub(crate) const WORDS: u64 = 2;
/// After so many requests there is room to give back: a start of some hundred services.
const BURST: usize = 1000;
/// Without a request for this long a burst is over.
const CALM: Duration = Duration::from_secs(2);

/// See the crate. All its state; one thread's.
#[derive(Debug)]
pub struct Anchor<H: Host> {
    pub(crate) host: H,
    pub(crate) options: Options,
    pub(crate) program: Handle,
    pub(crate) daemon: Daemon,
    /// A daemon was up, once.
    pub(crate) was_up: bool,
    pub(crate) view: Option<u32>,
    pub(crate) held: Holdings,
    pub(crate) reports: Reports,
    pub(crate) drain: Drain,
    pub(crate) listeners: Listeners,
    pub(crate) stop: Stop,
    pub(crate) farewell: Farewell,
    pub(crate) managed: Managed,
    /// Requests since room was last given back.
    heard: usize,
    /// When a burst of them is over.
    calm_at: Option<Mono>,
}

impl<H: Host> Anchor<H> {
    /// Holds nothing yet. `program`: what daemon and view are started from.
    pub fn new(host: H, program: Handle, mut options: Options) -> Anchor<H> {
        let mut held = Holdings::default();
        held.kept.extend(std::mem::take(&mut options.keep));
        Anchor {
            host,
            options,
            program,
            daemon: Daemon::default(),
            was_up: false,
            view: None,
            held,
            reports: Reports::default(),
            drain: Drain::new(),
            listeners: Listeners::default(),
            stop: Stop::No,
            farewell: Farewell::default(),
            managed: Managed::default(),
            heard: 0,
            calm_at: None,
        }
    }

    /// Under a service manager that asks and wants to be told.
    #[must_use]
    pub fn under(mut self, manager: Box<dyn Manager>) -> Anchor<H> {
        self.managed = Managed::by(Some(manager));
        self
    }

    /// Runs until the end, and says the exit code.
    pub fn run(&mut self) -> i32 {
        self.greet_manager();
        let mut events = Vec::new();
        loop {
            let deadline = match self.turn() {
                Ok(deadline) => deadline,
                Err(code) => return code,
            };
            if let Err(e) = self.host.wait(deadline, &mut events) {
                // Without waiting it would spin, and it cannot go on in any other way; its children end with it.
                self.host.say(&format!("keepwell: the anchor cannot wait: {e}\n"));
                return 1;
            }
            for event in events.drain(..) {
                self.take(event);
            }
        }
    }

    /// Everything that time or the last events ask for. Returns when to be woken next, or the exit code.
    fn turn(&mut self) -> Result<Option<Mono>, i32> {
        let now = self.host.now();
        let ends = self.stop_further(now)?;
        let kills = self.kill_again(now);
        let drains = self.drain_when_due(now);
        // Before the look at the daemon: what is sent is what it owes an answer to.
        let sends = self.send(now);
        let daemon = self.tend_daemon(now);
        let knocks = self.look_at_listeners(now);
        let calm = self.give_back_when_calm(now);
        let pulse = self.pulse(now);
        Ok([ends, kills, drains, sends, daemon, knocks, calm, pulse].into_iter().flatten().min())
    }

    fn give_back_when_calm(&mut self, now: Mono) -> Option<Mono> {
        if self.heard < BURST {
            return None;
        }
        let at = *self.calm_at.get_or_insert(now + CALM);
        if now < at {
            return Some(at);
        }
        (self.heard, self.calm_at) = (0, None);
        self.host.give_back();
        None
    }

    fn take(&mut self, event: HostEvent) {
        match event {
            HostEvent::Exited { pid, status, .. } if self.daemon.is(pid) => self.daemon_ended(status),
            HostEvent::Exited { pid, .. } if self.view == Some(pid) => self.view = None,
            HostEvent::Exited { pid, status, at } => self.exited(pid, status, at),
            HostEvent::Loaded { pid, outcome } => self.loaded(pid, outcome),
            HostEvent::Gone { pid } => self.gone(pid),
            HostEvent::SignalFailed { pid, signal, reason } => self.signal_failed(pid, signal, reason),
            HostEvent::TreeChanged { slot } => self.tree_changed(slot),
            HostEvent::Stop { signal } => self.signalled(signal),
            HostEvent::Called => self.heed_manager(),
            HostEvent::Ready { token: CHANNEL, readable, .. } => {
                if readable {
                    self.hear_channel();
                }
            }
            HostEvent::Ready { token: WORDS, .. } => self.hear_words(),
            HostEvent::Ready { token, .. } => {
                let _ = self.drain_pipe(token) || self.knocked(token);
            }
        }
    }

    /// Reads and does all that the daemon has asked for.
    pub(crate) fn hear_channel(&mut self) {
        let mut requests = Vec::new();
        let over = loop {
            let Some(Life { channel: Some(channel), decoder, .. }) = self.daemon.life() else { return };
            let read = channel.recv(&mut decoder.bytes, &mut decoder.handles);
            let decoded = decoder.take(&mut requests);
            if !requests.is_empty() {
                self.heard += requests.len();
                self.calm_at = None;
            }
            for (request, handles) in requests.drain(..) {
                self.obey(request, handles);
            }
            match (read, decoded) {
                (_, Err(e)) => break Some(e),
                (Ok(0), Ok(())) => break None,
                (Ok(_), Ok(())) => {}
                (Err(e), Ok(())) if e.kind() == io::ErrorKind::WouldBlock => return,
                (Err(_), Ok(())) => break Some(CodecError::HandlesMissing),
            }
        };
        if let Some(why) = over {
            self.host.say(&format!("keepwell: the daemon spoke nonsense: {why}; ending it\n"));
        }
        // A daemon that cannot be heard any more is none.
        self.close_channel();
        if !self.stop.needs_no_daemon() {
            self.end_daemon();
        }
    }

    fn obey(&mut self, request: Request, mut handles: std::collections::VecDeque<Handle>) {
        match request {
            Request::Hello(_) => {
                self.output_taken();
                let now = self.host.now();
                if let Some(life) = self.daemon.life() {
                    life.answered(now, true);
                    life.out.open();
                }
            }
            Request::OpenSlot(open) => {
                let number = open.slot;
                if let Some(slot) = Slot::new(open, handles) {
                    self.held.slots.entry(number).or_insert(slot);
                }
            }
            Request::CloseSlot(number) => self.close_slot(number),
            Request::Spawn(spawn) => self.spawn(spawn),
            Request::Signal(signal) => self.signal(&signal),
            Request::Kill(run) => self.kill(run),
            Request::Freeze(freeze) => self.freeze(&freeze),
            Request::Put(put) => drop(self.held.values.insert(put.key, put.value)),
            Request::Delete(key) => drop(self.held.values.remove(&key)),
            Request::Keep(key) => {
                if let Some(handle) = handles.pop_front() {
                    self.listen_no_more(&key);
                    self.held.kept.insert(key.clone(), handle);
                    self.listen_on(&key);
                }
            }
            Request::Drop(key) => {
                self.listen_no_more(&key);
                self.held.kept.remove(&key);
            }
            Request::Ack(seq) => {
                self.reports.acknowledge(seq);
                self.manager_awaited(seq);
                let now = self.host.now();
                if let Some(life) = self.daemon.life() {
                    let all = seq >= life.out.sent();
                    life.answered(now, all);
                }
            }
            Request::Up(text) => self.daemon_up(&text),
            Request::Finish(finish) => self.finish(finish),
            Request::WhenGone(when) => {
                self.drain.wanted = when.drain;
                if when.hang_after_ms > 0 {
                    self.options.timing.hang = Duration::from_millis(when.hang_after_ms.into());
                }
            }
            Request::MainPid(named) => self.main_pid(&named),
            Request::Measure(measure) => self.measure(measure),
            Request::Progress(progress) => self.progress(progress),
        }
    }

    /// Nothing runs in it any more, or what does is ended.
    fn close_slot(&mut self, number: u32) {
        self.drain_no_more(number);
        let runs = self.held.runs.iter().filter(|(_, r)| r.slot == number).map(|(run, _)| *run);
        for run in runs.collect::<Vec<_>>() {
            self.kill(run);
            self.held.remove_run(run);
        }
        if let Some(slot) = self.held.slots.remove(&number) {
            self.host.forget(slot.place());
        }
    }
}
