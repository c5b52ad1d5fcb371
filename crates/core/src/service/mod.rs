//! One instance: what is known of it, and the parts of its life. The types here hold; `start`, `health`, `stop` and
//! `restart` beside them decide.

mod escalate;
mod evidence;
mod guards;
pub(crate) mod heal;
mod health;
mod hold;
mod incident;
mod ladder;
mod news;
mod outside;
mod probes;
pub(crate) mod restart;
mod start;
mod stop;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::By;
use crate::effect::{Hold, Role};
use crate::event::{ExitClass, State};
use crate::guard::Watches;
use crate::host::HostEvent;
use crate::id::{ProbeId, RunId, ServiceId};
use crate::incident::Incident;
use crate::spec::{Purpose, ServiceSpec};
use crate::supervisor::{DeadlineReason, ExitRecord, StopRecord};
use crate::time::{Mono, Wall};

use restart::Tracker;

/// Exits that `explain` tells.
pub(crate) const EXITS_KEPT: usize = 5;
/// A tree that is not empty this long after its kill is killed again, and that is told.
pub(crate) const KILL_AGAIN: Duration = Duration::from_secs(10);

/// All that a new daemon needs to go on with one instance; while a daemon lives, it is the instance's state itself, so
/// nothing can be forgotten in it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServiceSnapshot {
    pub(crate) phase: Phase,
    /// Operators (or the file, at first) want it up.
    pub(crate) desired: bool,
    /// The operator who stopped it, until somebody starts it.
    pub(crate) stopped_by: Option<By>,
    pub(crate) hold: Option<Hold>,
    /// When the hold ends in a stop.
    pub(crate) hold_until: Option<Mono>,
    /// The tree of the present run was frozen at some time, so it is thawed before it is stopped.
    pub(crate) frozen: bool,
    /// Started by an operator who did not want to wait for its dependencies.
    pub(crate) ignore_dependencies: bool,
    /// What it requires and misses while it runs or waits for its next attempt.
    pub(crate) lost: Option<Arc<str>>,
    /// The instance goes away once nothing of it runs.
    pub(crate) removed: bool,
    /// Added beside living instances and not up yet: dependents do not miss it.
    pub(crate) newcomer: bool,
    /// A process of this attempt has run, so `post_stop` has something to clean up after.
    pub(crate) touched: bool,
    /// The tree was told empty before the exit of its main process.
    pub(crate) tree_gone: bool,
    /// The fingerprint of the settings that the last attempt was made with.
    pub(crate) program: u64,
    /// A watch on its program file is set.
    pub(crate) watching: bool,
    pub(crate) tracker: Tracker,
    pub(crate) restarts: u32,
    pub(crate) origin: Origin,
    pub(crate) hook: Option<HookRun>,
    /// For what is outside, before a start. A new daemon waits anew.
    #[serde(skip)]
    pub(crate) wait: Option<Box<outside::Wait>>,
    /// What happened to the host and its hooks have not heard of yet; the first may be what its hook hears of now.
    pub(crate) news: Vec<HostEvent>,
    pub(crate) exits: Vec<ExitRecord>,
    /// The last way down the ladder.
    pub(crate) last_stop: Option<Box<StopRecord>>,
    /// Why keepwell itself ended the last run, where it failed.
    pub(crate) failure: Option<Box<str>>,
    pub(crate) last_command: Option<(By, String, Wall)>,
    /// It runs because this service is down.
    pub(crate) stands_in: Option<Arc<str>>,
    /// Open since its first failure.
    pub(crate) incident: Option<Box<Incident>>,
    /// The last state that was told.
    pub(crate) shown: State,
    pub(crate) since: Wall,
    /// The settings that the present run was started with, where a reload has changed them.
    pub(crate) spec: Option<Box<ServiceSpec>>,
}

/// Where an instance stands.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Nothing runs and nothing is wanted.
    #[default]
    Stopped,
    /// Ended well, for good.
    Completed,
    /// Ended badly, for good.
    GaveUp(GaveUp),
    /// Wanted; starts when nothing holds it back.
    Waiting,
    /// Wanted; starts at a time.
    BackingOff {
        until: Mono,
    },
    /// Wanted; over its limit; tried at a time.
    CrashLooping {
        until: Mono,
    },
    /// `pre_start` runs (it stands in `hook`).
    PreStart,
    /// The main process was asked for.
    Spawning {
        run: RunId,
        asked: Mono,
        /// It said that it is ready before its start was confirmed.
        ready: bool,
    },
    Alive(Alive),
    Ending(Ending),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum GaveUp {
    /// The policy does not restart after such an end.
    Policy,
    /// The exit code says that no try helps.
    Fatal,
    /// The exit code says that the configuration is wrong; a change of it, or of the program, is awaited.
    ConfigError,
    /// Over its limit, and the policy says to give up then.
    CrashLoop,
    /// Its escalation ladder ends so.
    Escalated,
}

/// A living main process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Alive {
    pub(crate) run: RunId,
    pub(crate) pid: u32,
    pub(crate) started: Mono,
    /// It has a readiness check.
    pub(crate) checked: bool,
    /// Ready, or without a check counted as up, since.
    pub(crate) up: Option<Mono>,
    pub(crate) check: Check,
    /// The interval, and when it ends unless a life sign comes.
    pub(crate) watchdog: Option<(Duration, Mono)>,
    /// The same for heartbeats.
    pub(crate) heartbeat: Option<(Duration, Mono)>,
    /// Its heartbeats stopped, and no budget allowed to end it.
    pub(crate) silent: bool,
    /// It said that it is stopping; it is stopped after this.
    pub(crate) leaving: Option<Mono>,
    /// It said that it is ready before its startup check had passed.
    pub(crate) said_ready: bool,
    /// The checks that go on, as in `ServiceSpec::probes`.
    pub(crate) probes: Vec<Probed>,
    /// It was ill by its probes last, not by what it depends on.
    pub(crate) mended: bool,
}

/// A check that goes on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Probed {
    pub(crate) purpose: Purpose,
    /// When the next attempt is due; `None` while it is not made.
    pub(crate) next: Option<Mono>,
    /// The attempt under way, and when its answer counts as lost.
    pub(crate) in_flight: Option<(ProbeId, Mono)>,
    /// In a row.
    pub(crate) passes: u32,
    /// In a row.
    pub(crate) failures: u32,
    /// It has failed as often as its threshold says: since when, and how in words.
    pub(crate) ill: Option<(Mono, String)>,
    /// It has passed as often as its threshold says, once at least.
    pub(crate) passed: bool,
    /// What the last attempt said.
    pub(crate) last: LastAnswer,
}

/// A readiness check under way.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Check {
    /// The run has failed if it is not ready by then.
    pub(crate) deadline: Option<Mono>,
    /// Its time is over, and the last answer said nothing: the next one that does decides.
    pub(crate) overtime: bool,
    /// When the next attempt is due (a probe), or when it counts as ready (a delay).
    pub(crate) next: Option<Mono>,
    /// The attempt under way, and when its answer counts as lost.
    pub(crate) in_flight: Option<(ProbeId, Mono)>,
    /// What the last attempt said.
    pub(crate) last: LastAnswer,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum LastAnswer {
    #[default]
    None,
    Passed,
    Failed(String),
    Unknown(String),
}

/// On its way down.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) cause: Cause,
    /// The main run, while its process or its tree may still live.
    pub(crate) main: Option<MainRun>,
    pub(crate) stage: Stage,
    /// How healthy the run was.
    pub(crate) healthy: bool,
    pub(crate) rested: bool,
    /// Start again at once, whatever the cause was.
    pub(crate) again: bool,
    /// When the kill comes, wherever the ladder is then.
    pub(crate) kill_at: Option<Mono>,
    /// When the present step was taken.
    pub(crate) step_at: Mono,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct MainRun {
    pub(crate) run: RunId,
    pub(crate) pid: u32,
    pub(crate) started: Mono,
    pub(crate) was_ready: bool,
    /// The main process has ended; its tree may not be empty yet.
    pub(crate) exited: bool,
}

/// Why a run ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// By itself.
    Exit(ExitClass),
    /// keepwell ends it because it failed, in words.
    Failed(String),
    /// It could not be started. The error stands in the last exit.
    NotSpawned { permanent: bool },
    /// An operator.
    Stop,
    /// An operator who wants it to come back.
    Restart,
    /// Its settings changed.
    Reload,
    /// What it is bound to went down.
    Bound(Arc<str>),
    /// What it stands in for is up again.
    MainBack(Arc<str>),
    /// The guardian goes down.
    Shutdown,
    /// The instance is no longer in the configuration.
    Removed,
}

/// How far down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Its start is not confirmed yet; the answer decides.
    AwaitSpawn,
    /// It is looked at; the way down begins at `until` at the latest.
    Evidence { until: Mono },
    /// Its dependents go first.
    AfterDependents,
    /// `pre_stop` runs (it stands in `hook`).
    PreStop,
    /// A step of the ladder, from 0, when the next one is due, and how far its request or command is.
    Step { index: usize, until: Mono, asked: Asked },
    /// Killed at `since`; killed again at `again`.
    Killed { since: Mono, again: Mono },
    /// No main process; what is left are hooks.
    Hooks,
    /// `post_stop` runs, or has run.
    PostStop,
    /// The command of its escalation ladder runs, or its step was taken.
    Escalating,
}

/// How far the request or the command of a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// The command starts when what runs in its place has ended.
    Owed,
    /// Not over.
    Open,
    /// Over and well; a signal always is.
    Done,
}

/// A hook that runs, or the command of a step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct HookRun {
    pub(crate) run: RunId,
    pub(crate) role: Role,
    /// Known once its start is confirmed.
    pub(crate) pid: Option<u32>,
    pub(crate) started: Mono,
    /// When its time ends; once killed, when it is killed again.
    pub(crate) until: Mono,
    pub(crate) ended_by: HookEnd,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum HookEnd {
    /// Nobody.
    Itself,
    /// Its time was over.
    Timeout,
    /// It was no longer wanted.
    Cancelled,
}

/// What led to the present attempt, for `explain`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// The guardian came up.
    #[default]
    Boot,
    /// An operator's command, in words: `restarted by anna`.
    Operator(String),
    /// The restart policy, after the last exit.
    Policy,
    /// This came back.
    Back(Arc<str>),
    /// It is bound to this.
    Bound(Arc<str>),
    /// It stands in for this.
    StandsIn(Arc<str>),
    /// A new configuration.
    Reload,
    /// The program file changed.
    Program,
    /// The hold ended.
    Resumed,
}

impl Default for ServiceSnapshot {
    fn default() -> Self {
        Self {
            phase: Phase::Stopped,
            desired: false,
            stopped_by: None,
            hold: None,
            hold_until: None,
            frozen: false,
            ignore_dependencies: false,
            lost: None,
            removed: false,
            newcomer: false,
            touched: false,
            tree_gone: false,
            program: 0,
            watching: false,
            tracker: Tracker::default(),
            restarts: 0,
            origin: Origin::Boot,
            hook: None,
            wait: None,
            news: Vec::new(),
            exits: Vec::new(),
            last_stop: None,
            failure: None,
            last_command: None,
            stands_in: None,
            incident: None,
            shown: State::Stopped,
            since: Wall::default(),
            spec: None,
        }
    }
}

impl ServiceSnapshot {
    /// The live main run and its pid, where a process of it is known.
    pub(crate) fn main(&self) -> Option<(RunId, u32)> {
        match &self.phase {
            Phase::Alive(a) => Some((a.run, a.pid)),
            Phase::Ending(Ending { main: Some(m), stage, .. })
                if !m.exited && *stage != Stage::AwaitSpawn =>
            {
                Some((m.run, m.pid))
            }
            Phase::Ending(_)
            | Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. } => None,
        }
    }

    /// The main run that is not over, whether or not its process is known yet.
    pub(crate) fn main_run(&self) -> Option<RunId> {
        match &self.phase {
            Phase::Spawning { run, .. } => Some(*run),
            Phase::Alive(a) => Some(a.run),
            Phase::Ending(e) => e.main.map(|m| m.run),
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart => None,
        }
    }

    /// Something runs, or was asked to.
    pub(crate) fn has_process(&self) -> bool {
        match &self.phase {
            Phase::PreStart | Phase::Spawning { .. } | Phase::Alive(_) | Phase::Ending(_) => true,
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. } => false,
        }
    }

    /// The contract's word for where it stands.
    pub(crate) fn state(&self, oneshot: bool) -> State {
        let held = self.hold.is_some() && self.desired;
        match &self.phase {
            Phase::Stopped => State::Stopped,
            Phase::Completed => State::Completed,
            Phase::GaveUp(_) => State::GaveUp,
            Phase::Ending(_) => State::Stopping,
            Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
                if held =>
            {
                State::Paused
            }
            Phase::Waiting => State::Waiting,
            Phase::BackingOff { .. } => State::BackingOff,
            Phase::CrashLooping { .. } => State::CrashLooping,
            Phase::PreStart | Phase::Spawning { .. } => State::Starting,
            Phase::Alive(a) => match a {
                Alive { leaving: Some(_), .. } => State::Stopping,
                Alive { up: None, checked: true, .. } => State::Starting,
                Alive { up: Some(_), .. } if (self.lost.is_some() && !oneshot) || a.ill().is_some() => {
                    State::Degraded
                }
                Alive { up: Some(_), checked: true, .. } => State::Ready,
                Alive { checked: false, .. } => State::Running,
            },
        }
    }

    /// The earliest thing that is due by itself.
    pub(crate) fn next_deadline(&self, reset_after: Duration) -> Option<(Mono, DeadlineReason)> {
        self.next_due(reset_after, true)
    }

    /// The same for people, to whom the next attempt of a check that goes on is no news while all is well.
    pub(crate) fn next_told(&self, reset_after: Duration) -> Option<(Mono, DeadlineReason)> {
        self.next_due(reset_after, false)
    }

    fn next_due(&self, reset_after: Duration, routine: bool) -> Option<(Mono, DeadlineReason)> {
        let mut next: Option<(Mono, DeadlineReason)> = None;
        let mut add = |at: Option<Mono>, why: DeadlineReason| {
            if let Some(at) = at
                && next.is_none_or(|(n, _)| at < n)
            {
                next = Some((at, why));
            }
        };
        let held = self.hold.is_some();
        if let Some(hook) = &self.hook {
            let why = match hook.ended_by {
                HookEnd::Itself => DeadlineReason::HookTimeout,
                HookEnd::Timeout | HookEnd::Cancelled => DeadlineReason::KillAgain,
            };
            add(Some(hook.until), why);
        }
        add(self.hold_until, DeadlineReason::HoldEnds);
        match &self.phase {
            Phase::BackingOff { until } | Phase::CrashLooping { until } if !held => {
                add(Some(*until), DeadlineReason::Restart);
            }
            Phase::Alive(a) => {
                self.deadlines_alive(a, (held, routine), reset_after, &mut add);
                add(self.incident_ends(reset_after), DeadlineReason::IncidentEnds);
            }
            Phase::Ending(e) => match e.stage {
                Stage::Step { until, .. } => {
                    add(Some(until), DeadlineReason::StopStep);
                    add(e.kill_at, DeadlineReason::StopStep);
                }
                Stage::Evidence { until } => add(Some(until), DeadlineReason::StopStep),
                Stage::PreStop => add(e.kill_at, DeadlineReason::StopStep),
                Stage::Killed { again, .. } => add(Some(again), DeadlineReason::KillAgain),
                Stage::AwaitSpawn
                | Stage::AfterDependents
                | Stage::Hooks
                | Stage::PostStop
                | Stage::Escalating => {}
            },
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. } => {}
            Phase::Waiting => {
                // People are told what is missing.
                if let Some(wait) = self.wait.as_deref().filter(|_| !held && routine) {
                    add(wait.due(), DeadlineReason::Look);
                    add(wait.deadline, DeadlineReason::WaitEnds);
                }
            }
        }
        next
    }

    fn deadlines_alive(
        &self,
        a: &Alive,
        (held, routine): (bool, bool),
        reset_after: Duration,
        add: &mut impl FnMut(Option<Mono>, DeadlineReason),
    ) {
        let frozen = self.hold.as_ref().is_some_and(|h| h.freeze);
        if a.up.is_none() && !frozen {
            // Checks go on while it is held, so that it is known to be ready; only a failure has no consequence then.
            let next = if a.check.in_flight.is_some() { None } else { a.check.next };
            let why = match (a.checked, a.check.deadline) {
                (true, Some(_)) => DeadlineReason::Probe,
                (true, None) | (false, _) => DeadlineReason::Up,
            };
            add(next, why);
            add(a.check.in_flight.map(|(_, lost)| lost), DeadlineReason::Probe);
        }
        let news = a.up.is_none() || a.ill().is_some();
        if (routine || news) && !frozen && a.leaving.is_none() {
            add(a.probes.iter().filter_map(Probed::due).min(), DeadlineReason::Probe);
        }
        if held {
            return;
        }
        if a.up.is_none() {
            add(a.check.deadline, DeadlineReason::ReadyTimeout);
        }
        add(a.watchdog.map(|(_, at)| at), DeadlineReason::Watchdog);
        add(a.heartbeat.map(|(_, at)| at), DeadlineReason::Heartbeat);
        add(a.leaving, DeadlineReason::StopStep);
        if !self.tracker.is_fresh() && a.ill().is_none() {
            add(a.healthy_since().map(|at| at + reset_after), DeadlineReason::ResetCount);
        }
    }
}

impl Probed {
    /// When something is due of it: an attempt, or the answer of one counts as lost.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.in_flight.map_or(self.next, |(_, lost)| Some(lost))
    }
}

impl Alive {
    /// The first of its checks that is ill once it was up, in words.
    pub(crate) fn ill(&self) -> Option<&str> {
        self.probes.iter().find_map(|p| p.ill.as_ref()).map(|(_, words)| words.as_str())
    }

    /// Its readiness was lost.
    pub(crate) fn unready(&self) -> bool {
        self.probes.iter().any(|p| p.purpose == Purpose::Ready && p.ill.is_some())
    }

    /// Whatever signs of life it owes, the time for them begins anew.
    pub(crate) fn renew_signs(&mut self, now: Mono) {
        for (interval, at) in [&mut self.watchdog, &mut self.heartbeat].into_iter().flatten() {
            *at = now + *interval;
        }
    }

    /// From when its health counts: from ready on; without a check, from the start.
    fn healthy_since(&self) -> Option<Mono> {
        if self.checked { self.up } else { Some(self.started) }
    }

    /// How healthy it has been until now, or until a check found it ill.
    pub(crate) fn spell(&self, now: Mono, reset_after: Duration) -> restart::Spell {
        let ill = self.probes.iter().filter_map(|p| p.ill.as_ref()).map(|(at, _)| *at).min();
        let until = ill.unwrap_or(now);
        let rested = self.healthy_since().is_some_and(|at| until.since(at) >= reset_after);
        restart::Spell { healthy: rested || (self.checked && self.up.is_some()), rested }
    }
}

/// One instance in memory: its state, and what is derived from it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) id: ServiceId,
    pub(crate) group: usize,
    pub(crate) s: ServiceSnapshot,
    pub(crate) facet: Facet,
    /// Its rules, and what they have seen of this run. A new daemon begins anew.
    pub(crate) watches: Option<Box<Watches>>,
    /// Its entry in the timer queue.
    pub(crate) timer: Option<Mono>,
    /// Its entry in the queue for `max_parallel_starts`.
    pub(crate) parked: Option<u64>,
    pub(crate) dirty: bool,
    pub(crate) queued: bool,
    /// The slot is free.
    pub(crate) vacant: bool,
}

/// What others see of an instance, so that they are told only when it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Facet {
    /// Conditions on its service are asked of it.
    pub(crate) counted: bool,
    /// Its process was started.
    pub(crate) started: bool,
    /// It is up.
    pub(crate) up: bool,
    /// It is up, and no check has taken its readiness away.
    pub(crate) well: bool,
    /// It is a oneshot that ended well.
    pub(crate) completed: bool,
    /// It is not coming by itself.
    pub(crate) absent: bool,
    /// What it depends on must wait for its end before it is stopped too.
    pub(crate) stopping: bool,
    /// It counts against `max_parallel_starts`.
    pub(crate) starting: bool,
    /// Something runs, or will start by itself at a time.
    pub(crate) active: bool,
    /// An operator stopped or holds it, or it waits for its program to change: the guardian stays.
    pub(crate) kept: bool,
    /// It gave up.
    pub(crate) failed: bool,
}
