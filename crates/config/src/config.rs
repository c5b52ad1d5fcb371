//! The validated configuration: what `load` gives. Decisions are in `keepwell_core::spec`; here is what the shell needs to
//! carry them out. Texts with `${…}` stay as written until `ServiceConfig::resolve`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::Specs;
use keepwell_core::guard::SAMPLED_EVERY;
use keepwell_core::spec::System;

pub use crate::element::affinity::Affinity;
pub use crate::element::cpu::CpuShare;
pub use crate::element::env::EnvValue;
pub use crate::element::identity::Account;
pub use crate::element::limits::Bound;

use crate::diagnostic::Diagnostic;
use crate::http::{GrpcAsk, HttpExpect, HttpRequest, LineRule};
use crate::notify::NotifyConfig;
use crate::read::At;

/// Where a configuration is used. Relative paths and `{ from = "NAME" }` are looked up here.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// Folder of the configuration file, absolute.
    pub base: PathBuf,
    /// State folder, absolute.
    pub state_dir: PathBuf,
    /// The guardian's own environment.
    pub env: BTreeMap<String, String>,
    /// What kind of host it is: what some keys mean, and which have no meaning.
    pub system: System,
}

/// The environment holds secrets.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("base", &self.base)
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}

/// A whole configuration that was accepted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// What the core decides by.
    pub specs: Specs,
    /// What the shell needs, by service; the same names as in `specs`.
    pub services: BTreeMap<Arc<str>, Arc<ServiceConfig>>,
    /// The guardian itself.
    pub guardian: GuardianConfig,
    /// How much is looked at before what failed is ended.
    pub evidence: Evidence,
    /// What is probably not meant as it is written.
    pub warnings: Vec<Diagnostic>,
}

/// `evidence` of `[healing]`; for how long is in `Specs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// Lines of output.
    pub lines: usize,
    /// Bytes of what is known of one run.
    pub size: usize,
    /// Of so many runs it is kept.
    pub keep: usize,
    /// So many bytes in all.
    pub keep_bytes: u64,
    /// The stacks of all threads, by a debugger.
    pub stacks: bool,
    /// A dump of the main process's memory.
    pub dump: bool,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { lines: 100, size: 256 << 10, keep: 20, keep_bytes: 64 << 20, stacks: false, dump: false }
    }
}

/// `[keepwell]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardianConfig {
    /// Groups whose members may control.
    pub operators: Box<[Box<str>]>,
    /// Groups whose members may look.
    pub readers: Box<[Box<str>]>,
    /// At most this many services are starting at the same time; also in `Specs`.
    pub max_parallel_starts: Option<u32>,
    /// What the anchor does with full pipes while there is no daemon.
    pub when_daemon_gone: WhenDaemonGone,
    /// keepwell's own log.
    pub log_level: LogLevel,
    /// A daemon that is silent for this long is replaced.
    pub hang_after: Duration,
    /// Where it tells others how it is: on this host alone.
    pub http: Option<SocketAddr>,
    /// Where heartbeats over TCP go: a loopback address.
    pub heartbeat: Option<SocketAddr>,
    /// What keepwell itself may cost.
    pub profile: Profile,
    /// From one sample of what services use to the next; also in `Specs`.
    pub sample_every: Duration,
    /// Who is told by message.
    pub notify: Box<[NotifyConfig]>,
}

impl Default for GuardianConfig {
    fn default() -> Self {
        Self {
            operators: Box::default(),
            readers: Box::default(),
            max_parallel_starts: None,
            when_daemon_gone: WhenDaemonGone::Drain,
            log_level: LogLevel::Info,
            hang_after: Duration::from_secs(10),
            http: None,
            heartbeat: None,
            notify: Box::default(),
            profile: Profile::Standard,
            sample_every: Profile::Standard.sample_every(),
        }
    }
}

/// See [`GuardianConfig::profile`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// As much as is worth it on most hosts.
    Standard,
    /// Less, later.
    LowOverhead,
}

impl Profile {
    /// The configuration's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Standard => "standard",
            Profile::LowOverhead => "low-overhead",
        }
    }

    /// From one sample to the next, if nothing else is written.
    #[must_use]
    pub fn sample_every(self) -> Duration {
        match self {
            Profile::Standard => SAMPLED_EVERY,
            Profile::LowOverhead => Duration::from_secs(15),
        }
    }

    /// What is dear to measure, folders and PSS, is measured no more often.
    #[must_use]
    pub fn dear_every(self) -> Duration {
        match self {
            Profile::Standard => Duration::from_secs(60),
            Profile::LowOverhead => Duration::from_secs(300),
        }
    }
}

/// How a program beats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// Where to.
    pub by: BeatBy,
    /// How often.
    pub period: Duration,
}

/// See [`Beat::by`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BeatBy {
    /// A socket or a pipe of its own.
    Own,
    /// The guardian's address for all, with a token.
    Tcp(SocketAddr),
}

/// See [`GuardianConfig::when_daemon_gone`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenDaemonGone {
    /// Into bounded memory.
    Drain,
    /// Writers wait.
    Block,
}

/// See [`GuardianConfig::log_level`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Wake someone now.
    Error,
    /// Wake someone tomorrow.
    Warn,
    /// What happened.
    Info,
    /// Why.
    Debug,
    /// Each step.
    Trace,
}

impl LogLevel {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// What the shell needs of one service. Texts may hold `${…}`; [`ServiceConfig::resolve`] fills them in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceConfig {
    /// Its name.
    pub name: Arc<str>,
    /// What it is, for people.
    pub description: Option<Box<str>>,
    /// Words to find it by.
    pub tags: Box<[Box<str>]>,
    /// The program.
    pub command: Command,
    /// Folder, relative to `Context::base`; `None`: that folder itself.
    pub cwd: Option<Box<str>>,
    /// Its own variables.
    pub env: Env,
    /// File of `NAME=value` lines, relative to `Context::base`.
    pub env_file: Option<Box<str>>,
    /// Inherit PATH, HOME, USER and LANG only.
    pub clear_env: bool,
    /// Another user.
    pub user: Option<Account>,
    /// Another group.
    pub group: Option<Account>,
    /// Mask of new files' permission bits.
    pub umask: Option<u32>,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// Numbers of the processors that it may run on.
    pub affinity: Option<Affinity>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// What it may use.
    pub limits: Limits,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// By number, sorted; `Some` drops all others.
    pub capabilities: Option<Box<[u8]>>,
    /// What must be there before its start. Times are in the spec.
    pub wait_for: Option<Box<Wait>>,
    /// How readiness is seen. Times are in the spec.
    pub ready: Ready,
    /// The checks that go on, as in the spec, where the times are.
    pub probes: Box<[Ready]>,
    /// How it is to beat; `None`: it need not. When it counts as lost is in the spec.
    pub heartbeat: Option<Beat>,
    /// Programs around its life. Times are in the spec.
    pub hooks: Option<Box<HookCommands>>,
    /// The requests and commands of its stop ladder. Order, times and signals are in the spec.
    pub stop: Box<[StopAsk]>,
    /// The commands of its guards, in the order of the spec's.
    pub guards: Box<[Option<Command>]>,
    /// The folders that its guards look at, as they are written.
    pub folders: Box<[Arc<str>]>,
    /// The commands of its escalation ladder, in the order of the spec's steps.
    pub escalation: Box<[Option<Command>]>,
    /// Where its output goes.
    pub log: LogConfig,
    /// For findings that only the host can make.
    pub(crate) places: Places,
}

/// Where the file says what the host may not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Places {
    pub(crate) command: At,
    pub(crate) cwd: At,
    pub(crate) env_file: At,
    /// `user`, else `group`.
    pub(crate) account: At,
    /// `hooks`, else `guards`, else `escalation`, else `wait_for`.
    pub(crate) hooks: At,
    pub(crate) ready: At,
    pub(crate) stop: At,
    /// `live`, else `startup`.
    pub(crate) probes: At,
}

/// A program and its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Split already; at least one word.
    Words(Box<[Box<str>]>),
    /// For `/bin/sh -c`, on Windows `cmd.exe /c`.
    Shell(Box<str>),
    /// The whole line, given to the program as it is; on Windows only.
    Raw(Box<str>),
}

/// A service's own variables, sorted by name. Services that add nothing to `[defaults]` share one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Env(pub(crate) Arc<[(Arc<str>, EnvValue)]>);

impl Env {
    /// The names and their values as written. Values are secrets.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &EnvValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&EnvValue> {
        self.0.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok().map(|i| &self.0[i].1)
    }
}

/// What a service may use; `None` is no limit of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Open descriptors of a process.
    pub nofile: Option<u64>,
    /// Core file.
    pub core: Option<Bound>,
    /// Bytes of memory of the tree.
    pub memory: Option<u64>,
    /// Processor time of the tree.
    pub cpu: Option<CpuShare>,
    /// Processes and threads of the tree.
    pub tasks: Option<u64>,
}

/// How a service's readiness is seen. Texts may hold `${…}`, but for the pattern.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ready {
    /// It is not.
    None,
    /// A time after the start.
    Delay(Duration),
    /// A request is answered well.
    Http(Box<(HttpRequest, HttpExpect)>),
    /// `host:port` accepts.
    Tcp(Box<str>),
    /// A Unix socket accepts.
    Unix(Box<str>),
    /// A named pipe accepts.
    Pipe(Box<str>),
    /// A health service of gRPC says so.
    Grpc(Box<GrpcAsk>),
    /// A line of output has come in time, or has not. Only a check that goes on is of this kind.
    Line {
        /// It was compiled once, so it does.
        pattern: Box<str>,
        /// When.
        rule: LineRule,
    },
    /// A program exits with 0.
    Exec(Command),
    /// A line of output matches this regular expression.
    Log {
        /// It was compiled once, so it does.
        pattern: Box<str>,
    },
    /// A file exists.
    File(Box<str>),
    /// A file was written lately. Only a check that goes on is of this kind.
    Fresh {
        /// Its path.
        path: Box<str>,
        /// How old it may be.
        within: Duration,
    },
    /// `READY=1`.
    Notify,
}

/// What a service waits for before its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wait {
    /// All of these, in the order of the spec's names.
    pub on: Box<[Outside]>,
    /// The command that decides when they do not come.
    pub run: Option<Command>,
}

/// Something outside that a service waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outside {
    /// It answers, or is a file that exists.
    Answer(Ready),
    /// A file system is mounted on this folder.
    Mount(Box<str>),
    /// A service of the system runs.
    Service(Box<str>),
}

impl Ready {
    /// A line that must have come at some time since the start.
    pub(crate) fn is_line_once(&self) -> bool {
        matches!(self, Ready::Line { rule: LineRule::Once, .. })
    }
}

/// Programs around a service's life.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HookCommands {
    /// See `keepwell_core::spec::Hooks`.
    pub pre_start: Option<Command>,
    /// See there.
    pub post_start: Option<Command>,
    /// See there.
    pub pre_stop: Option<Command>,
    /// See there.
    pub post_stop: Option<Command>,
    /// See there.
    pub on_suspend: Option<Command>,
    /// See there.
    pub on_resume: Option<Command>,
    /// See there.
    pub on_power_change: Option<Command>,
    /// See there.
    pub on_session: Option<Command>,
}

/// A step of the stop ladder that is no signal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StopAsk {
    /// `keepwell_core::spec::Asking::id`.
    pub id: u64,
    /// What is done.
    pub how: StopHow,
}

/// See [`StopAsk::how`]. Texts may hold `${…}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StopHow {
    /// A request.
    Http(Box<HttpRequest>),
    /// A program.
    Command(Command),
}

/// Of an HTTP request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Method {
    /// Asks only, by its meaning; some programs stop on it all the same.
    #[default]
    Get,
    /// Does something.
    Post,
    /// Sets a state.
    Put,
    /// Takes something away.
    Delete,
    /// Asks for the head of the answer alone.
    Head,
}

impl Method {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Head => "HEAD",
        }
    }
}

/// Where a service's output goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// Relative to `Context::base`; `None`: `logs/NAME.log` in the state folder.
    pub file: Option<Box<str>>,
    /// Errors apart; `None`: merged.
    pub stderr_file: Option<Box<str>>,
    /// When a new file is begun.
    pub rotate: Rotate,
}

/// When a new log file is begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotate {
    /// Bytes.
    pub size: u64,
    /// Full files kept beside the current one.
    pub keep: u32,
}

impl Default for Rotate {
    fn default() -> Self {
        Self { size: 100_000_000, keep: 7 }
    }
}
