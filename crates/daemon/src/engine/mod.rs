//! The engine: the one thread that owns the `Supervisor` and turns its effects into requests to the anchor.
//!
//! It waits for the anchor's reports, for messages of the other threads and for the supervisor's next deadline; nothing
//! else wakes it. It never decides: whatever is a matter of policy is asked of the core.

mod act;
mod answer;
mod beats;
mod boot;
mod checks;
mod describe;
mod evidence;
mod figures;
mod guards;
mod managed;
mod notices;
mod outbox;
pub mod reload;
mod slots;
mod spawn;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use keepwell_anchor::link::Link;
use keepwell_anchor::protocol::{Finish, Put, Report, Request};
use keepwell_config::{Config, Context, ServiceConfig};
use keepwell_core::event::{EventKind, Level};
use keepwell_core::supervisor::Snapshot;
use keepwell_core::{Event, Input, Mono, Now, ProbeId, Role, RunId, ServiceId, Supervisor};
use keepwell_os::tree::TreeRoot;
use keepwell_os::wait::{Waiter, Wake};
use keepwell_os::watch::FileWatch;
use keepwell_sdk::wire;
use tokio::sync::broadcast;

use crate::convert;
use crate::event_log;
use crate::evidence::Witness;
use crate::figures::Tally;
use crate::heartbeat::HeartbeatHub;
use crate::log::LogHub;
use crate::message::{EngineHandle, Message, Reply};
use crate::meter::{Meter, Question};
use crate::notify::NotifyHub;
use crate::options::Options;
use crate::probe::Prober;
use crate::store::Store;

pub use boot::{BootError, Booted, Parts, boot};
use slots::Slots;

/// Messages taken in one turn, so that a flood of questions cannot keep the anchor's reports waiting.
const MESSAGES_A_TURN: usize = 256;
/// A view is there some milliseconds after its daemon, and on a busy host, where to make a process takes long, a second; one
/// that is not has died, or its terminal is held.
const VIEW: Duration = Duration::from_secs(3);
/// After so many events free memory is given back: often enough after a start of a thousand services, and a thousandth of
/// what the events themselves cost.
const BURST: usize = 1000;
/// Without an event for this long a burst is over: those who asked about it have their answers, too.
const CALM: Duration = Duration::from_secs(2);
/// A disk that takes longer for the last output keeps nobody from leaving.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Token of the anchor's channel in the waiter.
const ANCHOR: u64 = 1;
/// Token of the watch on program files.
const PROGRAMS: u64 = 2;

/// A live process of ours.
struct LiveRun {
    service: ServiceId,
    role: Role,
    pid: u32,
    /// When its start was asked for.
    began: Now,
    status_text: Option<String>,
}

/// An exec probe under way: a process whose end is the probe's answer.
struct ExecProbe {
    probe: ProbeId,
    deadline: Mono,
    killed: bool,
    /// It may answer that it cannot tell.
    may_not_know: bool,
}

/// See the module.
pub struct Engine {
    link: Link,
    waiter: Waiter,
    inbox: Receiver<Message>,
    handle: EngineHandle,
    supervisor: Supervisor,
    /// Without its `specs`: the supervisor has them.
    config: Config,
    /// The settings of what runs, where a reload has taken them out of force before it was ended.
    retired: BTreeMap<ServiceId, Arc<ServiceConfig>>,
    context: Context,
    options: Options,
    /// When the configuration in force was accepted, for `info`.
    accepted: keepwell_core::Wall,
    /// `KEEPWELL_RUN`'s first half.
    guardian: String,
    welcome: keepwell_anchor::protocol::Welcome,
    started: keepwell_core::Wall,
    slots: Slots,
    /// Tells other threads whether a process belongs to a tree.
    trees: Arc<TreeRoot>,
    /// Reads what services use, for those who ask.
    meter: Meter,
    /// Takes evidence of what is about to be ended because it failed.
    witness: Witness,
    /// Questions for the meter that wait for what the anchor says of trees that only it can look into.
    measuring: BTreeMap<u64, Question>,
    next_question: u64,
    sampling: guards::Sampling,
    runs: BTreeMap<RunId, LiveRun>,
    exec_probes: BTreeMap<RunId, ExecProbe>,
    /// Made with the first watch: most programs are there.
    file_watch: Option<FileWatch>,
    /// Whose program each watch is on.
    watches: BTreeMap<u64, ServiceId>,
    next_watch: u64,
    store: Store,
    log: LogHub,
    prober: Prober,
    checks: checks::Checks,
    notify: NotifyHub,
    ears: BTreeMap<ServiceId, notices::Ear>,
    heartbeats: HeartbeatHub,
    courier: crate::courier::Courier,
    /// Who is told by message, by name.
    receivers: BTreeMap<String, outbox::Receiver>,
    /// What an earlier daemon still had to tell, by receiver.
    left_outboxes: BTreeMap<String, keepwell_core::notify::Outbox>,
    /// While somebody may ask for it.
    tally: Option<Box<Tally>>,
    /// Where the server of figures is to be.
    served_at: tokio::sync::watch::Sender<Option<std::net::SocketAddr>>,
    beat_ears: BTreeMap<ServiceId, beats::BeatEar>,
    events: broadcast::Sender<Arc<wire::Event>>,
    next_seq: u64,
    /// The anchor keeps the events from this one on.
    kept_from: u64,
    /// Events of this turn.
    untold: Vec<Arc<wire::Event>>,
    /// Of these, what belongs into the event log of Windows.
    unreported: Vec<(event_log::Kind, Arc<wire::Event>)>,
    event_log: event_log::EventLog,
    /// Events since free memory was last given back.
    since_trim: usize,
    /// When a burst is over.
    calm_at: Option<Mono>,
    /// Highest report taken in and not yet acknowledged.
    unacknowledged: Option<u64>,
    /// Commands whose records are being written: what to answer then.
    tickets: BTreeMap<u64, (Reply<wire::CommandReply>, wire::CommandReply)>,
    next_ticket: u64,
    /// To be answered when this turn is left with the anchor.
    settled: Vec<tokio::sync::oneshot::Sender<()>>,
    /// Records of the command in hand.
    records: Vec<keepwell_core::Record>,
    /// What the shell itself found out while it carried out effects.
    findings: Vec<Input>,
    /// How the single program of `keepwell run` last ended, as a shell tells it.
    single_exit: Option<i32>,
    /// Handles that must stay open as long as the daemon lives: the lock of the state folder.
    keepsakes: Vec<keepwell_os::Handle>,
    /// Who may use the API.
    access: crate::api::Access,
    /// Those who follow events.
    audience: crate::api::Audience,
    /// Until then the end waits for a view that is only just being started.
    last_call: Option<Mono>,
    /// Until then the end waits for the answers of those who are told by message.
    last_attempts: Option<Mono>,
    /// What the service manager was told last.
    progress: keepwell_anchor::protocol::Progress,
    stopping: bool,
    finished: bool,
}

/// Why the engine's loop ended.
pub enum Ended {
    /// All is down and the anchor was told to end.
    Finished,
    /// The anchor is gone: every tree was ended.
    AnchorGone,
    /// The engine cannot go on; the anchor starts another daemon.
    Broken,
}

impl Engine {
    /// Runs until everything is down or the anchor is gone.
    pub fn run(mut self) -> Ended {
        self.set_sampling(keepwell_os::clock::now());
        self.turn_end(keepwell_os::clock::now());
        let mut wakes = Vec::new();
        while !self.finished {
            if let Err(e) = self.waiter.wait(self.deadline(), &mut wakes) {
                // Not waiting would spin; a new daemon may fare better.
                tracing::error!("the engine cannot wait: {e}");
                return Ended::Broken;
            }
            let now = keepwell_os::clock::now();
            for wake in wakes.drain(..) {
                match wake {
                    Wake::Ready { token: ANCHOR, .. } => {
                        if !self.take_reports(now) {
                            self.end_all_trees();
                            return Ended::AnchorGone;
                        }
                    }
                    Wake::Ready { .. } => self.programs_changed(),
                    Wake::ClockStepped => {
                        self.tell(now, None, Level::Warn, "the system clock was set".into());
                    }
                    Wake::Called | Wake::Deadline => {}
                }
            }
            self.take_messages(now);
            self.expire_exec_probes(now);
            self.sample(now);
            self.turn_end(now);
        }
        Ended::Finished
    }

    fn take_messages(&mut self, now: Now) {
        for _ in 0..MESSAGES_A_TURN {
            let Ok(message) = self.inbox.try_recv() else { return };
            self.handle.taken();
            self.answer(now, message);
        }
        // There may be more; the next turn comes at once, after a look at the anchor.
        self.waiter.waker().wake();
    }

    fn deadline(&self) -> Option<Mono> {
        let probe = self.exec_probes.values().filter(|p| !p.killed).map(|p| p.deadline).min();
        let core = self.supervisor.next_deadline().map(|(at, _)| at);
        let end = self.last_attempts;
        let own = [probe, core, self.next_notice(), self.last_call, end, self.calm_at, self.sampling.at];
        own.into_iter().flatten().min()
    }

    fn programs_changed(&mut self) {
        let changed = self.file_watch.as_mut().map(FileWatch::changed);
        for token in changed.and_then(Result::ok).unwrap_or_default() {
            if let Some(id) = self.watches.get(&token) {
                self.findings.push(Input::ProgramChanged(id.clone()));
            }
        }
    }

    /// False when the anchor has closed its end.
    fn take_reports(&mut self, now: Now) -> bool {
        let Ok(reports) = self.link.recv() else { return false };
        let open = !self.link.is_closed();
        for (report, handles) in reports {
            drop(handles);
            self.take_report(now, report);
        }
        open
    }

    fn take_report(&mut self, now: Now, report: Report) {
        match report {
            Report::Spawned(r) => {
                self.seen(r.seq);
                if let Some(live) = self.runs.get_mut(&RunId(r.run)) {
                    live.pid = r.pid;
                    if live.role == Role::Main {
                        self.slots.set_main_pid(&live.service, Some(r.pid));
                        let id = live.service.clone();
                        self.set_speaker(&id, RunId(r.run), r.pid);
                    }
                }
                self.supervisor.handle(now, Input::Spawned { run: RunId(r.run), pid: r.pid });
                self.notify.spawned(RunId(r.run));
            }
            Report::SpawnFailed(r) => {
                self.seen(r.seq);
                self.spawn_failed(now, &r);
            }
            Report::Exited(r) => {
                self.seen(r.seq);
                self.exited(now, &r);
            }
            Report::TreeEmpty(r) => {
                self.seen(r.seq);
                self.run_ended(RunId(r.run));
                self.supervisor.handle(now, Input::TreeEmpty { run: RunId(r.run) });
            }
            Report::SignalFailed(r) => {
                self.seen(r.seq);
                let (run, signal, reason) = (RunId(r.run), r.signal, r.reason);
                self.supervisor.handle(now, Input::SignalFailed { run, signal, reason });
            }
            Report::StopRequested(r) => {
                self.seen(r.seq);
                self.stop_requested(now, &r.why);
            }
            Report::Asked(r) => {
                self.seen(r.seq);
                self.asked(now, r);
            }
            Report::Drained(r) => {
                self.seen(r.seq);
                self.log.prepend(r.slot, r.stream, r.bytes, r.dropped);
            }
            Report::Ping(seq) => self.seen(seq),
            Report::Measured(measured) => self.measured(measured),
            // The boot has read these; a second time they say nothing new.
            Report::Welcome(_)
            | Report::Value(_)
            | Report::Kept(_)
            | Report::Slot(_)
            | Report::Run(_)
            | Report::Synced => {}
        }
    }

    /// What a run wrote ends here, before the core may start what comes next.
    pub(crate) fn run_ended(&self, run: RunId) {
        let service = self.supervisor.service_of(run);
        if let Some(slot) = service.and_then(|id| self.slots.number(id)) {
            self.log.run_ended(slot, run);
        }
    }

    fn seen(&mut self, seq: u64) {
        self.unacknowledged = Some(self.unacknowledged.map_or(seq, |s| s.max(seq)));
    }

    fn stop_requested(&mut self, now: Now, why: &str) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let by = keepwell_core::By(why.to_owned());
        // Shutting down twice is no error worth telling.
        let _ = self.supervisor.command(now, &by, &keepwell_core::Command::Shutdown);
    }

    /// Carries out what this turn decided: first what a reborn daemon must know, then the effects, then the
    /// acknowledgement, all in one write; the telling comes after the doing.
    fn turn_end(&mut self, now: Now) {
        self.supervisor.handle_timeout(now);
        loop {
            while let Some(piece) = self.supervisor.poll_snapshot() {
                self.put_snapshot(piece);
            }
            while let Some(effect) = self.supervisor.poll_effect() {
                self.act(now, effect);
            }
            if self.findings.is_empty() {
                break;
            }
            for input in std::mem::take(&mut self.findings) {
                self.take_answer(now, input);
            }
        }
        while let Some(event) = self.supervisor.poll_event() {
            self.publish(&event);
        }
        self.run_outboxes(now);
        self.tell_progress();
        if let Some(seq) = self.unacknowledged.take() {
            self.link.send(&Request::Ack(seq), &[]);
        }
        self.link.flush();
        for reply in self.settled.drain(..) {
            // An asker that went away has nothing to let go of.
            let _ = reply.send(());
        }
        self.commit_loose_records();
        self.tell_subscribers(now);
        self.give_memory_back(now);
        self.finish_if_done(now);
    }

    fn put_snapshot(&mut self, piece: Snapshot) {
        let request = match piece {
            Snapshot::Guardian(g) => put(b"guardian".to_vec(), &g),
            Snapshot::Service(id, s) => put(service_key(&id), &s),
            Snapshot::Removed(id) => {
                self.close_slot(&id);
                self.retired.remove(&id);
                self.checks.forget(&id);
                Request::Delete(service_key(&id))
            }
        };
        self.link.send(&request, &[]);
    }

    fn finish_if_done(&mut self, now: Now) {
        let Some(done) = self.supervisor.nothing_left() else {
            self.last_call = None;
            self.go_on_telling();
            return;
        };
        if self.options.view && !self.audience.has_come() {
            let end = *self.last_call.get_or_insert(now.mono + VIEW);
            if now.mono < end {
                return;
            }
        }
        if !self.last_attempts_are_over(now) {
            return;
        }
        let own = i32::from(done.failed && !self.stopping);
        // A service manager shows the code of the one program that it is there for; a stop that it asked for is no failure.
        let lone = self.options.managed && own != 0 && self.supervisor.names().len() == 1;
        let code = self.single_exit.filter(|_| self.options.single || lone).unwrap_or(own);
        self.run_outboxes(now);
        self.tell_subscribers(now);
        self.store.shutdown();
        self.slots.close_all(&self.log);
        if !self.log.settle(LAST_WORDS) {
            tracing::error!("the last output could not be written in time; it is lost");
        }
        self.event_log.settle(LAST_WORDS);
        self.link.send(&Request::Finish(Finish { code, text: String::new() }), &[]);
        self.link.flush();
        self.finished = true;
    }

    /// Numbers an event and leaves it with the anchor until the store has it, so that a daemon that dies loses none.
    fn publish(&mut self, event: &Event) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let line = Arc::new(convert::event(event, seq));
        if let Some(tally) = &mut self.tally {
            tally.told(event, &line);
        }
        self.notice(event, &line);
        // Plain data of ours always serialises.
        let value = serde_json::to_vec(&*line).unwrap_or_default();
        self.link.send(&Request::Put(Put { key: event_key(seq), value }), &[]);
        if let Some(kind) = event_log::kind(&event.kind) {
            self.unreported.push((kind, Arc::clone(&line)));
        }
        self.untold.push(line);
    }

    /// What a burst needed goes back to the host when it is over.
    fn give_memory_back(&mut self, now: Now) {
        if self.calm_at.is_some_and(|at| now.mono >= at) {
            (self.since_trim, self.calm_at) = (0, None);
            keepwell_os::memory::give_back();
        }
    }

    /// The telling comes after the doing: journal, keepwell's log, followers.
    fn tell_subscribers(&mut self, now: Now) {
        self.since_trim += self.untold.len();
        if self.since_trim >= BURST && !self.untold.is_empty() {
            self.calm_at = Some(now.mono + CALM);
        }
        for line in std::mem::take(&mut self.untold) {
            trace_event(&line);
            self.store.append(Arc::clone(&line));
            // Nobody listening is no error.
            let _ = self.events.send(line);
        }
        for (kind, line) in std::mem::take(&mut self.unreported) {
            self.event_log.tell(kind, &line);
        }
        let stored = self.store.stored_seq();
        while self.kept_from <= stored {
            self.link.send(&Request::Delete(event_key(self.kept_from)), &[]);
            self.kept_from += 1;
        }
    }

    /// Tells a fact of the shell's own.
    fn emit(&mut self, now: Now, service: Option<ServiceId>, kind: EventKind) {
        self.publish(&Event { at: now, service, run: None, incident: None, kind });
    }

    /// An instance is no more: nothing of it runs.
    fn close_slot(&mut self, id: &ServiceId) {
        let Some(slot) = self.slots.remove(id) else { return };
        self.unwatch_program(id);
        self.drop_notify(id, slot);
        self.drop_beats(id, slot);
        self.log.close(slot);
        self.link.send(&Request::CloseSlot(slot), &[]);
    }

    /// The live main run of an instance.
    fn main_run(&self, id: &ServiceId) -> Option<RunId> {
        self.runs.iter().find(|(_, r)| r.role == Role::Main && r.service == *id).map(|(run, _)| *run)
    }

    fn tell(&mut self, now: Now, service: Option<ServiceId>, level: Level, text: String) {
        self.emit(now, service, EventKind::Told { level, text });
    }

    /// The anchor is gone; its direct children die with it, and this ends the rest of every tree.
    fn end_all_trees(&mut self) {
        tracing::error!("the anchor is gone; ending every tree");
        self.slots.end_all_trees();
        self.store.shutdown();
    }
}

/// The key under which the anchor keeps an instance's state.
fn service_key(id: &ServiceId) -> Vec<u8> {
    format!("service/{}/{}", id.instance, id.name).into_bytes()
}

/// The key under which the anchor keeps an event that the store may not have yet.
fn event_key(seq: u64) -> Vec<u8> {
    format!("event/{seq:020}").into_bytes()
}

/// The reverse of `service_key`.
fn key_service(key: &[u8]) -> Option<ServiceId> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix("service/")?;
    let (instance, name) = rest.split_once('/')?;
    Some(ServiceId::new(name, instance.parse().ok()?))
}

fn put<T: serde::Serialize>(key: Vec<u8>, value: &T) -> Request {
    // Plain data of ours always serialises; an empty value reads as "nothing was left", which is safe.
    Request::Put(Put { key, value: postcard::to_allocvec(value).unwrap_or_default() })
}

fn trace_event(e: &wire::Event) {
    let service = e.service.as_deref().unwrap_or("");
    match e.level.as_str() {
        "error" => tracing::error!(service, run = e.run, kind = %e.kind, "{}", e.text),
        "warn" => tracing::warn!(service, run = e.run, kind = %e.kind, "{}", e.text),
        _ => tracing::info!(service, run = e.run, kind = %e.kind, "{}", e.text),
    }
}
