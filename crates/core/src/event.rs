//! What happened. Past tense; facts that subscribers (journal, log, console, metrics) read and never answer.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::command::By;
use crate::effect::Role;
use crate::escalation;
use crate::guard::Then;
use crate::id::{RunId, ServiceId};
use crate::incident::ClosedIncident;
use crate::spec::Purpose;
use crate::time::{Now, Wall};
use serde::{Deserialize, Serialize};

/// One fact.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// When.
    pub at: Now,
    /// Whom it concerns; `None`: the guardian itself.
    pub service: Option<ServiceId>,
    /// Which run of it.
    pub run: Option<RunId>,
    /// The incident that it belongs to.
    pub incident: Option<u64>,
    /// What.
    pub kind: EventKind,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal {
        /// POSIX number.
        signal: i32,
        /// A core was written.
        core_dumped: bool,
        /// The kernel killed it because memory ran out.
        out_of_memory: bool,
    },
    /// It ended while nobody could see how (both processes of keepwell were gone).
    Unknown,
}

/// Why a process could not be started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpawnError {
    /// What kind, for decisions.
    pub kind: SpawnErrorKind,
    /// In words that name the thing: `program not found: /opt/x`.
    pub text: String,
}

/// See [`SpawnError::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SpawnErrorKind {
    /// The program, its interpreter, its folder or its user is not there, or may not be run: no quick retry helps.
    Permanent,
    /// The host is out of something (processes, memory, descriptors): worth a normal retry.
    Transient,
}

/// Classes of exits, after the service's `exit_codes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ExitClass {
    /// Ended well.
    Success,
    /// Ended badly, worth another try.
    Retry,
    /// Waits for a new configuration or program file.
    ConfigError,
    /// Gives up at once.
    Fatal,
}

/// The kinds of facts. `ServiceChanged` tells every change of state; the others tell why.
#[derive(Clone, PartialEq, Debug)]
pub enum EventKind {
    /// A service's state changed.
    StateChanged {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// In plain words: `exit 3 after 1.2 s`.
        reason: String,
    },
    /// A process was started.
    Started {
        /// Its pid.
        pid: u32,
        /// Main or hook.
        role: Role,
    },
    /// A process could not be started.
    SpawnFailed(SpawnError, Role),
    /// A process of ours ended.
    Exited {
        /// How.
        status: ExitStatus,
        /// What that means for this service.
        class: ExitClass,
        /// Main or hook.
        role: Role,
        /// How long it ran.
        ran_for: Duration,
        /// Whether it had been ready.
        was_ready: bool,
        /// Whether keepwell was stopping it.
        expected: bool,
    },
    /// It is ready.
    Ready {
        /// Since its start.
        after: Duration,
    },
    /// It did not become ready in time.
    ReadyTimedOut {
        /// The time it had.
        timeout: Duration,
        /// What the last attempt said.
        last: String,
    },
    /// The tree uses more than a rule allows.
    GuardTripped {
        /// `memory > 800 MB for 2 min`.
        rule: String,
        /// What it was: `812 MB`.
        value: String,
        /// What follows.
        then: Then,
    },
    /// It is well below the rule's bound again.
    GuardCleared {
        /// As in `GuardTripped`.
        rule: String,
        /// What it is.
        value: String,
    },
    /// What the tree uses will reach the bound of a rule.
    LeakForeseen {
        /// `memory reaches 800 MB in about 34 min (95 %: 25–50)`.
        text: String,
    },
    /// It no longer looks so.
    LeakOver {
        /// `memory no longer grows to 800 MB`.
        text: String,
    },
    /// What the tree uses has jumped to a new level.
    UsageStepped {
        /// `memory rose at once from 310 MB to 520 MB`.
        text: String,
    },
    /// No life sign in time.
    WatchdogExpired {
        /// The time it had.
        timeout: Duration,
    },
    /// A check that goes on failed as often in a row as its threshold says. What follows is told by what follows.
    ProbeFailed {
        /// Which kind.
        purpose: Purpose,
        /// Which one: `http 127.0.0.1:8080/health`.
        probe: String,
        /// So often in a row.
        failures: u32,
        /// What the last attempt said.
        last: String,
    },
    /// It passes again.
    ProbeRecovered {
        /// Which kind.
        purpose: Purpose,
        /// Which one.
        probe: String,
        /// After so long.
        after: Duration,
    },
    /// A service that should be ended and restarted is left as it is, since a budget of such restarts is spent.
    HealingHeld {
        /// Whose budget: `the budget of this host (10 in 10 min)`.
        budget: String,
    },
    /// No heartbeat in time.
    HeartbeatLost {
        /// The time it had.
        after: Duration,
    },
    /// A restart was decided.
    RestartScheduled {
        /// Which attempt in a row.
        attempt: u32,
        /// When.
        at: Wall,
        /// From now.
        delay: Duration,
    },
    /// Too many restarts.
    CrashLooped {
        /// The evidence in words: `6 starts in 60 s; its policy allows 5`.
        evidence: String,
    },
    /// No further attempt by itself.
    GaveUp {
        /// In plain words.
        reason: String,
    },
    /// A step of the stop ladder was taken.
    StopStepTaken {
        /// From 1; the kill is the last.
        step: u32,
        /// `SIGTERM to the main process`.
        action: String,
    },
    /// A step of the stop ladder reached nobody or was refused, so the next one follows at once; or its request or command
    /// was not over when its time was.
    StopStepFailed {
        /// As in `StopStepTaken`.
        step: u32,
        /// In plain words: `it has no window`.
        reason: String,
    },
    /// What was left of a tree after its main process had ended by itself is being ended.
    LeftoversKilled,
    /// A tree would not die; the kill is repeated.
    StopStuck {
        /// How long since the kill.
        waited: Duration,
    },
    /// A hook failed.
    HookFailed {
        /// Which.
        role: Role,
        /// In plain words.
        reason: String,
    },
    /// What it depends on went away (`Some`) or came back (`None`).
    DependencyChanged {
        /// The cause in words: `db is backing off`.
        lost: Option<String>,
    },
    /// An operator's command was accepted.
    Commanded {
        /// Who.
        by: By,
        /// What: `stop`, `pause --freeze`.
        what: String,
    },
    /// A new configuration was taken on.
    ConfigApplied {
        /// One line a change.
        changes: Vec<String>,
    },
    /// A new configuration was refused; what ran runs on.
    ConfigRejected {
        /// The diagnostics.
        text: String,
    },
    /// A daemon took over what an earlier one had left with the anchor.
    Adopted {
        /// Running processes found.
        runs: u32,
        /// Exits that happened meanwhile.
        missed_exits: u32,
    },
    /// A service began to fail: what happens to it from now on belongs to this incident.
    IncidentOpened {
        /// Its number.
        id: u64,
        /// The first failure: `exit code 3 after 1.2 s`.
        cause: String,
    },
    /// What was about to be ended because it failed was looked at.
    EvidenceTaken {
        /// The name of the evidence, or why there is none, in plain words.
        outcome: Result<String, String>,
    },
    /// A service goes on failing, so the next step of its ladder is taken.
    Escalated {
        /// From 1.
        step: usize,
        /// Of so many.
        of: usize,
        /// What is done.
        then: escalation::Then,
    },
    /// The ladder has come to its end: somebody is to be woken.
    Paged {
        /// In plain words.
        reason: String,
    },
    /// A standby is started, since the service that it stands in for is down.
    StandbyStarted {
        /// Which.
        main: String,
    },
    /// The service that it stands in for is up again, or no longer wanted.
    StandbyStopped {
        /// Which.
        main: String,
    },
    /// An incident is over.
    IncidentClosed(Box<ClosedIncident>),
    /// The guardian came up.
    GuardianStarted,
    /// The guardian goes down.
    GuardianStopping {
        /// In plain words.
        reason: String,
    },
    /// The shell tells something of its own (a failed write, a full disk, a clock step).
    Told {
        /// How much it matters.
        level: Level,
        /// In plain words.
        text: String,
    },
}

/// WARN is worth waking someone for tomorrow, ERROR now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Level {
    /// Good to know.
    Info,
    /// Tomorrow.
    Warn,
    /// Now.
    Error,
}

/// The state of one instance, as everybody sees it. These names are a contract.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum State {
    /// Not wanted, and nothing runs.
    Stopped,
    /// Wanted; held back by a dependency or by `max_parallel_starts`.
    Waiting,
    /// Being started; not ready yet.
    Starting,
    /// Runs; has no readiness check (or is a oneshot).
    Running,
    /// Runs and is ready.
    Ready,
    /// Runs, and something it depends on is gone.
    Degraded,
    /// Held by an operator.
    Paused,
    /// On its way down.
    Stopping,
    /// Waits for its next attempt.
    BackingOff,
    /// Over its limit; tried slowly.
    CrashLooping,
    /// No further attempt by itself.
    GaveUp,
    /// Ended well and is not to be restarted.
    Completed,
}

impl State {
    /// All there are.
    pub const ALL: [State; 12] = [
        State::Stopped,
        State::Waiting,
        State::Starting,
        State::Running,
        State::Ready,
        State::Degraded,
        State::Paused,
        State::Stopping,
        State::BackingOff,
        State::CrashLooping,
        State::GaveUp,
        State::Completed,
    ];

    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Waiting => "waiting",
            State::Starting => "starting",
            State::Running => "running",
            State::Ready => "ready",
            State::Degraded => "degraded",
            State::Paused => "paused",
            State::Stopping => "stopping",
            State::BackingOff => "backing_off",
            State::CrashLooping => "crash_looping",
            State::GaveUp => "gave_up",
            State::Completed => "completed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
