//! The state machine of all services. Inputs in, effects and events out; see the crate's page.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{By, Command, CommandError, Plan};
use crate::effect::{Effect, Hold};
use crate::event::{Event, EventKind, ExitClass, ExitStatus, SpawnError, State};
use crate::graph::Graph;
use crate::guard::Usage;
use crate::host::HostEvent;
use crate::id::{ProbeId, RunId, ServiceId};
use crate::service::Service;
use crate::service::heal::Trial;
use crate::spec::{ServiceSpec, Specs};
use crate::strain::{HostLoad, Strain};
use crate::time::{Mono, Now, Wall};

pub use crate::service::ServiceSnapshot;

/// What the world tells the core. None of these can fail; what names a run that is over is dropped.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The process of `Effect::Spawn` runs (its program was loaded).
    Spawned {
        /// Which.
        run: RunId,
        /// Its pid.
        pid: u32,
    },
    /// It could not be started.
    SpawnFailed {
        /// Which.
        run: RunId,
        /// Why.
        error: SpawnError,
    },
    /// The process ended.
    Exited {
        /// Which.
        run: RunId,
        /// How.
        status: ExitStatus,
        /// No process of the tree is left. If not, `TreeEmpty` follows some day. Always true for hooks.
        tree_empty: bool,
    },
    /// The last process of a main run's tree is gone.
    TreeEmpty {
        /// Which.
        run: RunId,
    },
    /// A signal of `Effect::Signal` could not be sent, or nobody was there to get it. Signals that are not told of were.
    SignalFailed {
        /// Which run was to get it.
        run: RunId,
        /// By number.
        signal: i32,
        /// In plain words: `it has no window`.
        reason: String,
    },
    /// An answer to `Effect::AskToStop`.
    AskedToStop {
        /// The main run that was to stop.
        run: RunId,
        /// As in the effect.
        step: u32,
        /// Why it was not asked, or refused, in plain words: `answered 403 Forbidden`.
        outcome: Result<(), String>,
    },
    /// An answer to `Effect::TakeEvidence`.
    EvidenceTaken {
        /// The main run.
        run: RunId,
        /// The name of the evidence, or why there is none, in plain words.
        outcome: Result<String, String>,
    },
    /// An answer to `Effect::Probe`.
    Probe {
        /// Which attempt.
        probe: ProbeId,
        /// The answer.
        outcome: Outcome,
    },
    /// The program said that it is ready, or its ready line came.
    Ready {
        /// Which.
        run: RunId,
    },
    /// `STOPPING=1`: it is on its way down by itself; its exit will follow.
    Stopping {
        /// Which.
        run: RunId,
    },
    /// `WATCHDOG=1`: a life sign.
    Alive {
        /// Which.
        run: RunId,
    },
    /// A heartbeat came.
    Beat {
        /// Of which run.
        run: RunId,
    },
    /// `WATCHDOG=trigger`: the program itself says that it is broken.
    WatchdogTriggered {
        /// Which.
        run: RunId,
    },
    /// What the tree of a run uses.
    Usage {
        /// Which.
        run: RunId,
        /// So much.
        usage: Box<Usage>,
    },
    /// `EXTEND_TIMEOUT_USEC`: the start or stop in progress may take until `by` from now.
    ExtendTimeout {
        /// Which.
        run: RunId,
        /// From now.
        by: Duration,
    },
    /// `WATCHDOG_USEC`: the program sets its own watchdog interval.
    SetWatchdog {
        /// Which.
        run: RunId,
        /// New interval.
        interval: Duration,
    },
    /// A process that an earlier daemon started still runs. Comes after `restore`, before any `Exited` that was missed.
    Adopted {
        /// Which.
        run: RunId,
        /// Its pid.
        pid: u32,
    },
    /// All `Adopted` and all missed exits were told: what the snapshot says was running and nobody named is lost.
    AdoptionDone,
    /// A watched program file was made or replaced.
    ProgramChanged(ServiceId),
    /// Something happened to the host.
    Host(HostEvent),
    /// The answer to `Effect::LookAtHost`.
    HostLoad(HostLoad),
}

/// The answer of a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It works.
    Pass,
    /// It does not, and why, in words.
    Fail(String),
    /// Cannot be said; never counts against the service.
    Unknown(String),
}

/// What the store knows from before: the operators' will.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Persisted {
    /// Up or down, by whom, when.
    pub desired: BTreeMap<ServiceId, (bool, By, Wall)>,
    /// Over the file's `enabled`.
    pub enabled: BTreeMap<String, bool>,
    /// Paused services.
    pub holds: BTreeMap<ServiceId, Hold>,
    /// Over the file's `instances`.
    pub scaled: BTreeMap<String, u16>,
    /// The number of the last incident.
    pub incidents: u64,
}

/// One exit, as `explain` tells it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExitRecord {
    /// When it ended.
    pub at: Wall,
    /// How; `Err`: it could not be started.
    pub outcome: Result<ExitStatus, SpawnError>,
    /// What that means.
    pub class: ExitClass,
    /// How long it had run.
    pub ran_for: Duration,
    /// Whether it had been ready.
    pub was_ready: bool,
    /// Whether keepwell was stopping it.
    pub expected: bool,
}

/// The last time that a run was led down the ladder, as `explain` tells it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StopRecord {
    /// When nothing of its tree was left; while that is not so, when the last step was taken.
    pub at: Wall,
    /// In the order in which they were taken; the kill is the last.
    pub steps: Vec<StepRecord>,
}

/// One step of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    /// `SIGTERM to the main process`.
    pub action: String,
    /// What became of it.
    pub outcome: StepOutcome,
    /// How long it had.
    pub took: Duration,
}

/// See [`StepRecord::outcome`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StepOutcome {
    /// It was the last: nothing of the tree was left.
    Worked,
    /// The next one followed.
    NotEnough,
    /// It reached nobody, or was refused; why, in plain words.
    Failed(String),
}

/// Why something will happen by itself, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DeadlineReason {
    /// The next attempt of a service that backs off or crash-loops, or the next of many starts.
    Restart,
    /// A readiness check is due.
    Probe,
    /// What the service waits for is looked at.
    Look,
    /// It has waited long enough.
    WaitEnds,
    /// The time to become ready ends.
    ReadyTimeout,
    /// The service counts as up, or as ready, from then on.
    Up,
    /// It will have been healthy long enough to start counting anew.
    ResetCount,
    /// The next step of the stop ladder.
    StopStep,
    /// A hook's time ends.
    HookTimeout,
    /// A life sign is due.
    Watchdog,
    /// Without a heartbeat until then the run has failed.
    Heartbeat,
    /// A paused service is stopped.
    HoldEnds,
    /// A kill is repeated.
    KillAgain,
    /// The open incident is over unless something fails before.
    IncidentEnds,
}

/// All that can be said of one instance.
#[derive(Clone, PartialEq, Debug)]
pub struct ServiceStatus {
    /// Which.
    pub id: ServiceId,
    /// The contract's word.
    pub state: State,
    /// Why it is in that state, in plain words, lower case, no full stop: `exit 3 after 1.2 s`.
    pub reason: String,
    /// In this state since.
    pub since: Wall,
    /// The live main run.
    pub run: Option<RunId>,
    /// Its pid.
    pub pid: Option<u32>,
    /// Restarts since the last operator's start or the start of the guardian, whichever is later.
    pub restarts: u32,
    /// The attempt in a row that `next` would be, or that runs now.
    pub attempt: u32,
    /// What happens next by itself.
    pub next: Option<(Wall, DeadlineReason)>,
    /// The next start attempt, if one is set.
    pub next_attempt: Option<Wall>,
    /// Operators want it up.
    pub desired_up: bool,
    /// Started by `up`.
    pub enabled: bool,
    /// Held, and how.
    pub hold: Option<Hold>,
    /// Who last asked for what, when: `stop`.
    pub last_command: Option<(By, String, Wall)>,
    /// The last five exits, newest last.
    pub exits: Vec<ExitRecord>,
    /// What it waits for, or misses while degraded, each in words: `db is starting`.
    pub blockers: Vec<(ServiceId, String)>,
    /// Guards that have tripped and leaks that are foreseen, each in words.
    pub warnings: Vec<String>,
}

/// `keepwell explain`, as structure; the words of each line are decided here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explanation {
    /// One sentence with a full stop.
    pub headline: String,
    /// Labelled lines: `next`, `last exit`, `waits for`, `stopped by` …
    pub facts: Vec<(String, String)>,
    /// What can be done: a phrase and the command.
    pub try_next: Vec<(String, String)>,
}

/// What a new configuration will do to each instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReloadPlan {
    /// Only what changes, in the order of names.
    pub changes: Vec<(ServiceId, ReloadAction)>,
    /// How many instances are not touched.
    pub untouched: u32,
}

/// See [`ReloadPlan`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReloadAction {
    /// New, and will be started.
    New,
    /// New, but disabled: not started.
    NewDisabled,
    /// Stops and starts again with the new settings.
    Restart,
    /// Takes the new settings on while it runs.
    Live,
    /// Gone from the file: stops.
    Remove,
}

/// The whole machine. One owner mutates it; nobody copies it.
#[derive(Debug)]
pub struct Supervisor {
    pub(crate) specs: Specs,
    /// Stands in where a specification is missing, which no validated configuration brings about.
    pub(crate) no_spec: ServiceSpec,
    pub(crate) guardian: GuardianSnapshot,
    /// The next run's or probe's number; below `guardian.lease`.
    pub(crate) next_id: u64,
    /// Slots, some vacant; `index` says which are whose.
    pub(crate) services: Vec<Service>,
    pub(crate) vacant: Vec<usize>,
    pub(crate) index: BTreeMap<ServiceId, usize>,
    pub(crate) graph: Graph,
    /// Runs that are not over.
    pub(crate) runs: BTreeMap<RunId, usize>,
    /// Attempts of probes that are under way.
    pub(crate) probes: BTreeMap<ProbeId, usize>,
    /// The host or this daemon slept until just before: until then no failed probe counts.
    pub(crate) blind_until: Mono,
    /// What the host has said of itself.
    pub(crate) strain: Strain,
    /// The earliest deadline of each service that has one.
    pub(crate) timers: BTreeSet<(Mono, usize)>,
    /// Services whose surroundings changed: in this turn, or in one that had started enough already.
    pub(crate) queue: VecDeque<usize>,
    /// Services that were changed in this turn.
    pub(crate) touched: Vec<usize>,
    /// Services that `max_parallel_starts` holds back, in the order of their coming.
    pub(crate) parked: BTreeSet<(u64, usize)>,
    pub(crate) park_ticket: u64,
    pub(crate) census: Census,
    pub(crate) effects: VecDeque<Effect>,
    /// Starts among the effects since all of them were last taken.
    pub(crate) starts: usize,
    pub(crate) events: VecDeque<Event>,
    /// Changed pieces that were not polled yet.
    pub(crate) dirty: VecDeque<usize>,
    pub(crate) removed: VecDeque<ServiceId>,
    pub(crate) guardian_dirty: bool,
    /// Nothing was polled yet, so the guardian's piece comes last: it says that all others are there.
    pub(crate) unborn: bool,
    /// Between `restore` and `AdoptionDone`: what was told of old runs so far. Nothing is started meanwhile.
    pub(crate) adoption: Option<Adoption>,
}

/// What was told of old runs so far.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Adoption {
    /// The runs of the snapshot that are not over.
    pub(crate) known: BTreeSet<RunId>,
    pub(crate) named: BTreeSet<RunId>,
    pub(crate) alive: u32,
    pub(crate) exits: u32,
}

/// How many instances are in which condition, over all services.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Census {
    pub(crate) starting: usize,
    pub(crate) active: usize,
    pub(crate) kept: usize,
    pub(crate) failed: usize,
}

/// A piece of what a new daemon needs to go on, kept with the anchor. Changes since the last poll only.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large kind, and none is kept")]
pub enum Snapshot {
    /// The guardian's own: next run number, jitter's state, whether it is shutting down …
    Guardian(GuardianSnapshot),
    /// One instance's.
    Service(ServiceId, ServiceSnapshot),
    /// An instance is no more.
    Removed(ServiceId),
}

/// See [`Snapshot::Guardian`]. Where it is missing, no effect was ever sent: begin with `new`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct GuardianSnapshot {
    /// Feeds the jitter.
    pub(crate) seed: u64,
    /// Numbers of runs below this one may have been used.
    pub(crate) lease: u64,
    pub(crate) shutting_down: bool,
    /// Over the file's `enabled`.
    pub(crate) enabled: BTreeMap<String, bool>,
    /// Over the file's `instances`.
    pub(crate) scaled: BTreeMap<String, u16>,
    /// When living runs were ended because of a probe, by budget, oldest first; the host's has no name.
    pub(crate) healed: BTreeMap<Arc<str>, VecDeque<Mono>>,
    /// Budgets that were spent and are not open again.
    pub(crate) trials: BTreeMap<Arc<str>, Trial>,
    /// The number of the last incident.
    pub(crate) incidents: u64,
}

/// See [`Supervisor::nothing_left`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// A oneshot failed, or a service gave up.
    pub failed: bool,
}

/// Room for events that is kept from turn to turn.
const EVENTS_ROOM: usize = 64;

impl Supervisor {
    /// A fresh guardian. Services that are enabled and not held down by an operator want to be up at once; read the
    /// effects. `seed` feeds the jitter. `persisted` is the operators' will from before.
    #[must_use]
    pub fn new(specs: Specs, persisted: Persisted, seed: u64, now: Now) -> Self {
        let Persisted { desired, enabled, holds, scaled, incidents } = persisted;
        let (healed, trials) = (BTreeMap::new(), BTreeMap::new());
        let shutting_down = false;
        let guardian =
            GuardianSnapshot { seed, lease: 1, shutting_down, enabled, scaled, healed, trials, incidents };
        let mut this = Self::empty(specs, guardian);
        this.unborn = true;
        this.tell(now, None, None, EventKind::GuardianStarted);
        for id in this.wanted_instances() {
            let i = this.add_instance(&id, now);
            this.apply_persisted(i, desired.get(&id), holds.get(&id), now);
        }
        this.begin(now);
        this
    }

    /// A guardian reborn from what its predecessor left. Feed `Adopted`, missed exits and `AdoptionDone` next; nothing
    /// is due before that.
    #[must_use]
    pub fn restore(
        specs: Specs,
        guardian: GuardianSnapshot,
        services: BTreeMap<ServiceId, ServiceSnapshot>,
        now: Now,
    ) -> Self {
        let mut this = Self::empty(specs, guardian);
        this.next_id = this.guardian.lease.max(1);
        this.take_up(services, now);
        this
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.note_named(&input);
        match input {
            Input::Spawned { run, pid } => self.on_spawned(now, run, pid),
            Input::SpawnFailed { run, error } => self.on_spawn_failed(now, run, error),
            Input::Exited { run, status, tree_empty } => self.on_exited(now, run, status, tree_empty),
            Input::TreeEmpty { run } => self.on_tree_empty(now, run),
            Input::SignalFailed { run, signal, reason } => self.on_signal_failed(now, run, signal, reason),
            Input::AskedToStop { run, step, outcome } => self.on_asked_to_stop(now, run, step, outcome),
            Input::EvidenceTaken { run, outcome } => self.on_evidence_taken(now, run, outcome),
            Input::Probe { probe, outcome } => self.on_probe(now, probe, outcome),
            Input::Ready { run } => self.on_ready(now, run),
            Input::Stopping { run } => self.on_stopping(now, run),
            Input::Alive { run } => self.on_alive(now, run),
            Input::Beat { run } => self.on_beat(now, run),
            Input::WatchdogTriggered { run } => self.on_watchdog_triggered(now, run),
            Input::Usage { run, usage } => self.on_usage(now, run, &usage),
            Input::ExtendTimeout { run, by } => self.on_extend_timeout(now, run, by),
            Input::SetWatchdog { run, interval } => self.on_set_watchdog(now, run, interval),
            Input::Adopted { run, pid } => self.on_adopted(now, run, pid),
            Input::AdoptionDone => self.on_adoption_done(now),
            Input::ProgramChanged(id) => self.on_program_changed(now, &id),
            Input::Host(event) => self.on_host(now, event),
            Input::HostLoad(load) => self.on_host_load(now, load),
        }
        self.settle(now);
    }

    /// Takes an operator's command, whole or not at all.
    ///
    /// # Errors
    /// When it names what is not there or asks what cannot be; nothing was changed.
    pub fn command(&mut self, now: Now, by: &By, command: &Command) -> Result<Plan, CommandError> {
        let plan = self.obey(now, by, command)?;
        self.settle(now);
        Ok(plan)
    }

    /// What `reload` would do.
    #[must_use]
    pub fn plan_reload(&self, specs: &Specs) -> ReloadPlan {
        self.reload_plan(specs)
    }

    /// Takes on a new configuration: the same plan, done.
    pub fn reload(&mut self, now: Now, specs: Specs) -> ReloadPlan {
        let plan = self.take_on(now, specs);
        self.settle(now);
        plan
    }

    /// Does all that is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.adoption.is_some() {
            return;
        }
        if !self.queue.is_empty() {
            self.settle(now);
        }
        // Each turn moves a deadline on. The bound only keeps a mistake in that from hanging the guardian: what is
        // left is done at the next call.
        for _ in 0..1000 + 8 * self.services.len() {
            let Some((at, i)) = self.timers.first().copied() else { return };
            if at > now.mono {
                return;
            }
            self.due(i, now);
            self.settle(now);
        }
    }

    /// When `handle_timeout` must be called next, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Mono, DeadlineReason)> {
        if self.adoption.is_some() {
            return None;
        }
        if !self.queue.is_empty() {
            return Some((Mono(0), DeadlineReason::Restart));
        }
        let (at, i) = self.timers.first()?;
        let (_, why) = self.services[*i].s.next_deadline(self.spec(*i).restart.reset_after)?;
        Some((*at, why))
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        let next = self.effects.pop_front();
        if next.is_none() {
            self.starts = 0;
        }
        next
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        let next = self.events.pop_front();
        if next.is_none() {
            // A start of a thousand services has thousands, and the next turn a handful.
            self.events.shrink_to(EVENTS_ROOM);
        }
        next
    }

    /// The next changed piece to leave with the anchor, before the effects of the same turn are sent. Where a
    /// predecessor left no guardian's piece, it sent no effect either: begin with `new` then, not with `restore`.
    pub fn poll_snapshot(&mut self) -> Option<Snapshot> {
        if self.guardian_dirty && !self.unborn {
            self.guardian_dirty = false;
            return Some(Snapshot::Guardian(self.guardian.clone()));
        }
        if let Some(id) = self.removed.pop_front() {
            return Some(Snapshot::Removed(id));
        }
        while let Some(i) = self.dirty.pop_front() {
            let service = &mut self.services[i];
            if core::mem::take(&mut service.dirty) && !service.vacant {
                return Some(Snapshot::Service(service.id.clone(), service.s.clone()));
            }
        }
        if core::mem::take(&mut self.unborn) {
            self.guardian_dirty = false;
            return Some(Snapshot::Guardian(self.guardian.clone()));
        }
        None
    }

    /// Every instance, in the order of names.
    #[must_use]
    pub fn status(&self, now: Now) -> Vec<ServiceStatus> {
        self.index.values().map(|i| self.status_of(*i, now)).collect()
    }

    /// The instances that `name` (`web` or `web@2`) means.
    ///
    /// # Errors
    /// When there is none.
    pub fn resolve(&self, name: &str) -> Result<Vec<ServiceId>, CommandError> {
        let found = self.find(name)?;
        Ok(found.into_iter().map(|i| self.services[i].id.clone()).collect())
    }

    /// Why this instance is as it is.
    #[must_use]
    pub fn explain(&self, now: Now, id: &ServiceId) -> Option<Explanation> {
        self.index.get(id).map(|i| self.explain_one(*i, now))
    }

    /// The specification in force for a service.
    #[must_use]
    pub fn specs(&self) -> &Specs {
        &self.specs
    }

    /// Whose run this is, as long as something of it is left.
    #[must_use]
    pub fn service_of(&self, run: RunId) -> Option<&ServiceId> {
        self.runs.get(&run).map(|i| &self.services[*i].id)
    }

    /// `Some` when nothing runs and nothing will ever start by itself, so that `up` may end; services that an operator
    /// stopped or holds keep the guardian up. After `Shutdown`: when everything is down.
    #[must_use]
    pub fn nothing_left(&self) -> Option<Finished> {
        let stays = !self.guardian.shutting_down && self.census.kept > 0;
        if self.census.active > 0 || stays || self.adoption.is_some() {
            return None;
        }
        Some(Finished { failed: self.census.failed > 0 })
    }

    /// Panics, in tests and simulation only, when an invariant of ARCHITECTURE.md does not hold.
    pub fn check_invariants(&self) {
        self.check();
    }

    /// Names by which operators know the services.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self.index.keys().map(|id| Arc::clone(&id.name)).collect();
        names.dedup();
        names
    }
}
