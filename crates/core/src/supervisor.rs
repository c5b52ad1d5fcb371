//! The state machine of all services. Inputs in, effects and events out; see the crate's page.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{By, Command, CommandError, Plan};
use crate::effect::{Effect, Hold};
use crate::event::{Event, ExitClass, ExitStatus, SpawnError, State};
use crate::id::{ProbeId, RunId, ServiceId};
use crate::spec::Specs;
use crate::time::{Mono, Now, Wall};

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
    /// `WATCHDOG=trigger`: the program itself says that it is broken.
    WatchdogTriggered {
        /// Which.
        run: RunId,
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

/// Why something will happen by itself, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DeadlineReason {
    /// The next attempt of a service that backs off or crash-loops.
    Restart,
    /// A readiness check is due.
    Probe,
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
    /// A paused service is stopped.
    HoldEnds,
    /// A kill is repeated.
    KillAgain,
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
pub struct Supervisor {
    _todo: (),
}

/// A piece of what a new daemon needs to go on, kept with the anchor. Changes since the last poll only.
#[derive(Clone, PartialEq, Debug)]
pub enum Snapshot {
    /// The guardian's own: next run number, jitter's state, whether it is shutting down …
    Guardian(GuardianSnapshot),
    /// One instance's.
    Service(ServiceId, ServiceSnapshot),
    /// An instance is no more.
    Removed(ServiceId),
}

/// See [`Snapshot::Guardian`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct GuardianSnapshot {}

/// See [`Snapshot::Service`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceSnapshot {}

/// See [`Supervisor::nothing_left`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// A oneshot failed, or a service gave up.
    pub failed: bool,
}

#[expect(unused_variables, reason = "the interface, before its inside")]
impl Supervisor {
    /// A fresh guardian. Services that are enabled and not held down by an operator want to be up at once; read the
    /// effects. `seed` feeds the jitter. `persisted` is the operators' will from before.
    #[must_use]
    pub fn new(specs: Specs, persisted: Persisted, seed: u64, now: Now) -> Self {
        unimplemented!()
    }
    /// A guardian reborn from what its predecessor left. Feed `Adopted`, missed exits and `AdoptionDone` next.
    #[must_use]
    pub fn restore(
        specs: Specs,
        guardian: GuardianSnapshot,
        services: BTreeMap<ServiceId, ServiceSnapshot>,
        now: Now,
    ) -> Self {
        unimplemented!()
    }
    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        unimplemented!()
    }
    /// Takes an operator's command, whole or not at all.
    ///
    /// # Errors
    /// When it names what is not there or asks what cannot be; nothing was changed.
    pub fn command(&mut self, now: Now, by: &By, command: &Command) -> Result<Plan, CommandError> {
        unimplemented!()
    }
    /// What `reload` would do.
    #[must_use]
    pub fn plan_reload(&self, specs: &Specs) -> ReloadPlan {
        unimplemented!()
    }
    /// Takes on a new configuration: the same plan, done.
    pub fn reload(&mut self, now: Now, specs: Specs) -> ReloadPlan {
        unimplemented!()
    }
    /// Does all that is due at `now`.
    pub fn handle_timeout(&mut self, now: Now) {
        unimplemented!()
    }
    /// When `handle_timeout` must be called next, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Mono, DeadlineReason)> {
        unimplemented!()
    }
    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        unimplemented!()
    }
    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }
    /// The next changed piece to leave with the anchor, before the effects of the same turn are sent.
    pub fn poll_snapshot(&mut self) -> Option<Snapshot> {
        unimplemented!()
    }
    /// Every instance, in the order of names.
    #[must_use]
    pub fn status(&self, now: Now) -> Vec<ServiceStatus> {
        unimplemented!()
    }
    /// The instances that `name` (`web` or `web@2`) means.
    ///
    /// # Errors
    /// When there is none.
    pub fn resolve(&self, name: &str) -> Result<Vec<ServiceId>, CommandError> {
        unimplemented!()
    }
    /// Why this instance is as it is.
    #[must_use]
    pub fn explain(&self, now: Now, id: &ServiceId) -> Option<Explanation> {
        unimplemented!()
    }
    /// The specification in force for a service.
    #[must_use]
    pub fn specs(&self) -> &Specs {
        unimplemented!()
    }
    /// `Some` when nothing runs and nothing will ever start by itself, so that `up` may end; services that an operator
    /// stopped or holds keep the guardian up. After `Shutdown`: when everything is down.
    #[must_use]
    pub fn nothing_left(&self) -> Option<Finished> {
        unimplemented!()
    }
    /// Panics, in tests and simulation only, when an invariant of ARCHITECTURE.md does not hold.
    pub fn check_invariants(&self) {
        unimplemented!()
    }
    /// Names by which operators know the services.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        unimplemented!()
    }
}
