//! What the core knows of a service: only what decisions need. Commands, environments, users, limits and log files are
//! the shell's; of them the core sees `fingerprint` alone. Made by `keepwell-config`, which has validated it: names in
//! `depends_on` exist, there is no cycle, `instances >= 1`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::escalation::Rung;
use crate::guard::{Figure, Guard, SAMPLED_EVERY};

/// The whole validated configuration, as far as decisions go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Specs {
    /// By service name.
    pub services: BTreeMap<Arc<str>, ServiceSpec>,
    /// At most this many services are in `starting` at once; `None` is no bound.
    pub max_parallel_starts: Option<u32>,
    /// How much may be ended because of a probe.
    pub healing: Healing,
    /// From one sample of what a service uses to the next.
    pub sample_every: Duration,
}

impl Default for Specs {
    fn default() -> Self {
        Self {
            services: BTreeMap::new(),
            max_parallel_starts: None,
            healing: Healing::default(),
            sample_every: SAMPLED_EVERY,
        }
    }
}

/// Bounds on the ending of what lives, so that a cause that many share does not make keepwell the outage. A service's own
/// `restart.limit` is one more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Healing {
    /// Over all services; `None`: without bound.
    pub limit: Option<Limit>,
    /// Over the services of a group, by its name.
    pub groups: BTreeMap<Arc<str>, Limit>,
    /// What failed and lives is looked at before it is ended, so long at most; `None`: it is not.
    pub evidence: Option<Duration>,
}

/// Enough for services that fail by themselves, and few where all fail by one cause.
pub const HEALING_LIMIT: Limit = Limit { max: 10, window: Duration::from_secs(600) };

impl Default for Healing {
    fn default() -> Self {
        Self { limit: Some(HEALING_LIMIT), groups: BTreeMap::new(), evidence: None }
    }
}

/// One service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Runs for ever, or to an end.
    pub kind: Kind,
    /// `false`: not started by `up` or at boot; `start` still starts it.
    pub enabled: bool,
    /// How many instances, at least 1.
    pub instances: u16,
    /// What must be so before it starts.
    pub depends_on: Vec<Dependency>,
    /// What must be there before it starts, and is none of ours.
    pub wait_for: Option<WaitFor>,
    /// When it counts as up.
    pub ready: Readiness,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// The ladder; the kill of the whole tree always follows the last step.
    pub stop: Vec<StopStep>,
    /// So long after the first step, or the hook before it, the kill comes, wherever the ladder is.
    pub stop_timeout: Option<Duration>,
    /// Programs around its life.
    pub hooks: Hooks,
    /// Without a life sign for this long after it was ready, the run is ended and restarted (`WATCHDOG=1`).
    pub watchdog: Option<Duration>,
    /// Checks that go on while it lives, in the order of the shell's list of them.
    pub probes: Vec<Probe>,
    /// The groups of [`Healing::groups`] that it belongs to.
    pub healing: Vec<Arc<str>>,
    /// Without a heartbeat for this long, from when it is ready or, without a check, from its start, the run is ended and
    /// restarted.
    pub heartbeat: Option<Duration>,
    /// Rules on what its tree uses.
    pub guards: Vec<Guard>,
    /// Limits that the system holds it to, of which it is told when it will reach them.
    pub ceilings: Vec<(Figure, u64)>,
    /// Likewise of what its guards look at.
    pub foresee: bool,
    /// What is tried while it goes on failing; empty: its restart policy alone.
    pub escalation: Vec<Rung>,
    /// The service that runs while this one is down; where the ladder fails over, from that step on.
    pub fallback: Option<Arc<str>>,
    /// Differs when anything that only a restart can apply has changed (command, environment, user, limits …).
    pub fingerprint: u64,
}

/// See [`ServiceSpec::kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// Meant to run until stopped.
    Service,
    /// Meant to end; `completed` when it ended well. Runs once an `up`.
    Oneshot,
}

/// A start condition on another service. All instances of `on` must meet it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dependency {
    /// The service waited for.
    pub on: Arc<str>,
    /// What it must have reached.
    pub condition: Condition,
    /// `false`: if `on` is not coming by itself (stopped, disabled, gave up, crash-looping), start without it.
    pub required: bool,
    /// Stops and restarts with `on`.
    pub bind: bool,
}

/// See [`Dependency::condition`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Condition {
    /// Its process was started.
    Started,
    /// It is ready; without a readiness check: alive for [`UP_AFTER`].
    Ready,
    /// It is a oneshot and ended well.
    Completed,
}

/// See [`ServiceSpec::wait_for`]. The shell knows how to look at it (`Effect::Look`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitFor {
    /// How people know what is waited for, without secrets: `tcp db:5432`.
    pub names: Vec<String>,
    /// For so long; `None`: for ever.
    pub timeout: Option<Duration>,
    /// And after that.
    pub then: AfterWait,
}

/// See [`WaitFor::then`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AfterWait {
    /// The start has failed.
    Fail,
    /// It is started without.
    StartAnyway,
    /// A command decides: when it ends well the service is started, else the start has failed.
    Run {
        /// After which it is ended, and has failed.
        timeout: Duration,
    },
}

/// A service without a readiness check counts as up when it has been alive this long.
pub const UP_AFTER: Duration = Duration::from_secs(1);

/// When a service counts as ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Readiness {
    /// No check: state `running`; up after [`UP_AFTER`].
    None,
    /// Ready this long after the start.
    Delay(Duration),
    /// The shell tries when told (`Effect::Probe`): http, tcp, unix socket, exec, file.
    Probe {
        /// From the start of one attempt to the start of the next; attempts never overlap.
        period: Duration,
        /// Not ready this long after the start: the run has failed.
        timeout: Duration,
    },
    /// The shell hears of it (`Input::Ready`): sd_notify, a log line.
    Signalled {
        /// Not ready this long after the start: the run has failed.
        timeout: Duration,
    },
}

/// A check that goes on. The shell tries it when told (`Effect::Probe`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// What follows from its answers.
    pub purpose: Purpose,
    /// How people know it, without secrets: `http 127.0.0.1:8080/health`.
    pub name: String,
    /// From the start of one attempt to the start of the next; attempts never overlap.
    pub period: Duration,
    /// An attempt that takes longer has failed.
    pub timeout: Duration,
    /// No attempt so long after the start of the process.
    pub initial_delay: Duration,
    /// So many passes in a row make it well.
    pub success_threshold: u32,
    /// So many failures in a row make it ill.
    pub failure_threshold: u32,
}

/// See [`Probe::purpose`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// Until it has passed, no other check is made, and the service is not ready; when it is ill, the run has failed.
    Startup,
    /// Tried from readiness on; while it is ill the service is not ready, and goes on.
    Ready,
    /// When it is ill, the run is ended and restarted, as far as the budgets allow. Failures before the service is up are
    /// not counted.
    Live,
}

impl Purpose {
    /// The configuration's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Startup => "startup",
            Purpose::Ready => "ready",
            Purpose::Live => "live",
        }
    }
}

/// See ARCHITECTURE.md, "Restart policy", for the rules these numbers feed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// Which ends are followed by a restart.
    pub policy: Policy,
    /// Delay of the first restart in a row; zero: always at once.
    pub delay: Duration,
    /// The doubling stops here.
    pub max_delay: Duration,
    /// Percent by which a delay is moved, either way, chosen once a restart. 0 to 100.
    pub jitter: u8,
    /// The count resets after this long in health.
    pub reset_after: Duration,
    /// `None`: without bound.
    pub limit: Option<Limit>,
    /// What to do beyond the limit.
    pub on_crash_loop: OnCrashLoop,
    /// What exit codes mean.
    pub exit_codes: ExitCodes,
}

/// See [`RestartPolicy::policy`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Policy {
    /// After any end.
    Always,
    /// After an end that was no success.
    OnFailure,
    /// After none.
    Never,
}

/// More than `max` restarts in a sliding `window` is a crash loop; so are `max` attempts in a row none of which became
/// healthy, whatever their spacing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limit {
    /// Restarts.
    pub max: u32,
    /// Sliding.
    pub window: Duration,
}

/// See [`RestartPolicy::on_crash_loop`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OnCrashLoop {
    /// Told loudly, and tried again at `max_delay`, growing to [`CRASH_LOOP_MAX_DELAY`].
    Retry,
    /// Told loudly, and left alone until an operator or a new configuration.
    GiveUp,
}

/// The slowest trial of a crash-looping service.
pub const CRASH_LOOP_MAX_DELAY: Duration = Duration::from_secs(300);

/// Exit codes by class; what is in none of them is `retry`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExitCodes {
    /// Ended well.
    pub success: Vec<i32>,
    /// Ended badly, worth another try.
    pub retry: Vec<i32>,
    /// No try helps until the configuration or the program file changes.
    pub config_error: Vec<i32>,
    /// No try helps; gives up at once.
    pub fatal: Vec<i32>,
}

/// One step of the way down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StopStep {
    /// What is done.
    pub action: StopAction,
    /// To whom, where it is a signal.
    pub to: To,
    /// How long to wait for the tree to be empty before the next step.
    pub wait: Duration,
}

/// See [`StopStep::action`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StopAction {
    /// A signal by number: POSIX's, or one of those below; `to` says who gets it.
    Signal(i32),
    /// An HTTP request (`Effect::AskToStop`).
    Http(Asking),
    /// A program beside the service (`Effect::RunToStop`).
    Command(Asking),
}

/// What the shell does in a step; what exactly, only its configuration knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asking {
    /// By this the shell finds it. Another request or command has another number.
    pub id: u64,
    /// For people, without anything secret: `HTTP POST http://127.0.0.1:8080/stop`.
    pub words: Box<str>,
}

/// What a host without signals has in their place, by numbers beyond those of POSIX. Ctrl+C at the console.
pub const CTRL_C: i32 = 100;
/// Ctrl+Break at the console.
pub const CTRL_BREAK: i32 = 101;
/// A request to close, to each window.
pub const CLOSE: i32 = 102;

/// The kind of host that a configuration is read for: it decides what a ladder is when none is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum System {
    /// Signals.
    #[default]
    Unix,
    /// Consoles, windows and jobs.
    Windows,
}

impl System {
    /// The ladder of a service that has none of its own. `to`: who is meant by a signal.
    #[must_use]
    pub fn default_stop(self, to: To) -> Vec<StopStep> {
        let step = |signal, to, seconds| StopStep {
            action: StopAction::Signal(signal),
            to,
            wait: Duration::from_secs(seconds),
        };
        match self {
            System::Unix => vec![step(15, to, 10)],
            System::Windows => vec![step(CTRL_C, to, 10), step(CLOSE, To::Tree, 5)],
        }
    }
}

/// Who gets a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum To {
    /// The main process.
    Main,
    /// The main process's process group.
    Group,
    /// Every process of the tree.
    Tree,
}

/// Programs around a service's life. Each runs with the service's own environment and identity.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Hooks {
    /// Before the main process; a failure fails the start unless `may_fail`.
    pub pre_start: Option<Hook>,
    /// Once it is ready (or running, without a check); a failure is told and, unless `may_fail`, stops the run.
    pub post_start: Option<Hook>,
    /// Before the first step of the ladder, while the service still runs.
    pub pre_stop: Option<Hook>,
    /// When the tree is empty, after a stop and after an exit alike.
    pub post_stop: Option<Hook>,
    /// While the service is up: the host goes to sleep. A failure of this and the next three is told.
    pub on_suspend: Option<Hook>,
    /// The host has woken up.
    pub on_resume: Option<Hook>,
    /// The host's power supply or charge has changed.
    pub on_power_change: Option<Hook>,
    /// A user's session has changed.
    pub on_session: Option<Hook>,
}

/// One hook.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hook {
    /// After this it is killed and counts as failed.
    pub timeout: Duration,
    /// A failure is told and changes nothing.
    pub may_fail: bool,
}

impl Default for RestartPolicy {
    /// design: always, 1 s doubling to 60 s, ±25 %, reset after 60 s, 5 in 60 s, retried for ever, 78 waits.
    fn default() -> Self {
        Self {
            policy: Policy::Always,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            jitter: 25,
            reset_after: Duration::from_secs(60),
            limit: Some(Limit { max: 5, window: Duration::from_secs(60) }),
            on_crash_loop: OnCrashLoop::Retry,
            exit_codes: ExitCodes::default(),
        }
    }
}

impl Default for ExitCodes {
    /// 0 is success; 78 (`EX_CONFIG`, sysexits.h) is a configuration error.
    fn default() -> Self {
        Self { success: vec![0], retry: vec![], config_error: vec![78], fatal: vec![] }
    }
}

impl ServiceSpec {
    /// Whether anything is looked at that has to be measured.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        !self.guards.is_empty() || !self.ceilings.is_empty()
    }
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            kind: Kind::Service,
            enabled: true,
            instances: 1,
            wait_for: None,
            depends_on: vec![],
            ready: Readiness::None,
            restart: RestartPolicy::default(),
            stop: System::Unix.default_stop(To::Main),
            stop_timeout: None,
            hooks: Hooks::default(),
            watchdog: None,
            probes: vec![],
            healing: vec![],
            heartbeat: None,
            guards: vec![],
            ceilings: vec![],
            foresee: true,
            escalation: vec![],
            fallback: None,
            fingerprint: 0,
        }
    }
}
