//! What anchor and daemon say to each other. `docs/anchor-protocol.md` is this file in prose.
//!
//! A stream of frames over a Unix stream socket (on Windows a pipe): `length: u32 le` (of what follows), `kind: u16 le`,
//! `handles: u16 le` (how many descriptors travel with it), body (postcard). Descriptors are sent with the frame's first
//! byte, at most [`MAX_HANDLES`] a frame. A frame of unknown kind is skipped, its handles closed; bodies of a kind never
//! change, a new need is a new kind. So either side may be one version ahead.
//!
//! The daemon writes requests, the anchor reports. Reports that must not be lost carry a `seq`; the anchor keeps them until
//! the daemon has acknowledged them, and gives what is not acknowledged to the next daemon.

use keepwell_os::{Members, ProcessStatus, SpawnRequest};
use serde::{Deserialize, Serialize};

/// Told in both hellos; nobody refuses a higher one. From 2 on an anchor answers [`Request::Measure`].
pub const VERSION: u32 = 2;
/// Linux allows 253 descriptors a message (`SCM_MAX_FD`); 100 keeps a batch small.
pub const MAX_HANDLES: usize = 100;
/// The largest frame: a spawn with the largest environment that Linux takes (2 MiB) and room.
pub const MAX_FRAME: usize = 4 << 20;

/// Daemon → anchor.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// First of all.
    Hello(Hello),
    /// Holds what one service instance keeps across its runs. Handles, in this order: `tree` (cgroup directory) if
    /// `tree`; read and write end of the output pipe; read and write end of the error pipe if `separate`.
    OpenSlot(OpenSlot),
    /// Lets go of it; its processes are gone.
    CloseSlot(u32),
    /// Start a process in a slot. Answered by `Spawned` or `SpawnFailed`, and later `Exited`.
    Spawn(Spawn),
    /// Send a signal to a live run; to a run that is over: nothing.
    Signal(Signal),
    /// Main run: kill all of its tree, again and again until it is empty; then `TreeEmpty`. Other runs: their group.
    Kill(u64),
    /// Freeze or thaw a slot's tree.
    Freeze(Freeze),
    /// Keep this for the next daemon, under this key, instead of what was there.
    Put(Put),
    /// Keep it no longer.
    Delete(Vec<u8>),
    /// Keep this handle for the next daemon, under this key (an endpoint, the configuration, the state folder's lock).
    Keep(Vec<u8>),
    /// Keep it no longer.
    Drop(Vec<u8>),
    /// All reports up to this one are taken in, and what follows from them is put.
    Ack(u64),
    /// The daemon is up: it answers its API. Text for `sd_notify` STATUS.
    Up(String),
    /// The anchor ends with this code, after this text on stderr. Nothing runs any more (or all is ended first).
    Finish(Finish),
    /// What to do with full pipes while there is no daemon, and how soon a silent daemon counts as hanging.
    WhenGone(WhenGone),
    /// A main run's program named another process of its tree as the one to signal (`MAINPID=`). From then on that one's
    /// end is the run's end.
    MainPid(MainPid),
    /// What is in these slots' trees? Asked where only the anchor can look into them; `Measured` answers.
    Measure(Measure),
    /// How far the start or the stop of everything has come, for the service manager. Sent when it differs from the last.
    Progress(Progress),
}

/// Anchor → daemon.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// First of all. Then `Value`s, `Kept`s, `Slot`s, `Run`s, unacknowledged reports, `Synced`.
    Welcome(Welcome),
    /// What was put.
    Value(Put),
    /// What was kept; one handle.
    Kept(Vec<u8>),
    /// A slot; handles as in `OpenSlot`.
    Slot(OpenSlot),
    /// A live run.
    Run(Run),
    /// That was all; news follows.
    Synced,
    /// A process runs; its program was loaded.
    Spawned(Spawned),
    /// It could not be started.
    SpawnFailed(SpawnFailed),
    /// It ended.
    Exited(Exited),
    /// A main run's tree is empty, after an `Exited` that said it was not.
    TreeEmpty(TreeEmpty),
    /// The terminal, systemd or the SCM wants keepwell to stop. `urgent`: the second time; the anchor is killing all.
    StopRequested(StopRequested),
    /// Output that the anchor took from a full pipe while there was no daemon; it precedes what is in the pipe.
    Drained(Drained),
    /// Asks for an `Ack` of this number; a daemon that does not answer hangs.
    Ping(u64),
    /// A signal that was asked for could not be sent, or nobody was there to get it.
    SignalFailed(SignalFailed),
    /// The answer to `Measure`. It is not kept for the next daemon, which has not asked.
    Measured(Measured),
    /// The service manager asks for something else than a stop.
    Asked(Asked),
}

macro_rules! bodies { ($($(#[$m:meta])* $name:ident { $($(#[$fm:meta])* $f:ident : $t:ty),* $(,)? })*) => { $(
    $(#[$m])* #[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
    pub struct $name { $($(#[$fm])* pub $f: $t),* }
)* } }

bodies! {
    /// See [`Request::Hello`].
    Hello { /// [`VERSION`].
        version: u32, /// The daemon's own.
        pid: u32 }
    /// See [`Request::OpenSlot`] and [`Report::Slot`].
    OpenSlot { /// Chosen by the daemon.
        slot: u32, /// The instance, for messages: `web@2`.
        name: String, /// A cgroup directory travels along.
        tree: bool, /// The errors have a pipe of their own.
        separate: bool, /// When the anchor drains: the most it holds for this slot, in bytes.
        drain_limit: u32 }
    /// See [`Request::Spawn`].
    Spawn { /// The run's number.
        run: u64, /// Where it belongs.
        slot: u32, /// Opaque to the anchor but for: 0 is the main process, which owns the tree.
        role: u8, /// What to start.
        request: SpawnRequest }
    /// See [`Request::Signal`].
    Signal { /// Which.
        run: u64, /// POSIX number, or one of `keepwell_core::spec` beyond them.
        signal: i32, /// 0 main, 1 group, 2 tree.
        to: u8 }
    /// See [`Request::Freeze`].
    Freeze { /// Whose tree.
        slot: u32, /// On or off.
        on: bool }
    /// See [`Request::Put`].
    Put { /// Chosen by the daemon.
        key: Vec<u8>, /// Opaque.
        value: Vec<u8> }
    /// See [`Request::Finish`].
    Finish { /// The anchor's exit code.
        code: i32, /// For stderr, whole lines; may be empty.
        text: String }
    /// See [`Request::WhenGone`].
    WhenGone { /// Drain full pipes into memory; else let writers block.
        drain: bool, /// A daemon that leaves a report unanswered for so many milliseconds hangs; 0: the anchor's own measure.
        hang_after_ms: u32 }
    /// See [`Request::MainPid`].
    MainPid {
        /// Which main run.
        run: u64,
        /// A process of its tree.
        pid: u32
    }
    /// See [`Request::Measure`].
    Measure { /// Comes back with the answer.
        question: u64, /// Whose trees.
        slots: Vec<u32> }
    /// See [`Report::Measured`].
    Measured { /// As it was asked.
        question: u64, /// One for each slot, in the order of the question. None at all: the answer is larger than a frame.
        trees: Vec<Members> }
    /// See [`Request::Progress`].
    Progress { /// Everything is to go down; else to come up.
        stopping: bool, /// Instances that are not there yet, without those that have failed.
        left: u32, /// Instances that crash-loop or gave up.
        failed: u32, /// The last of the deadlines under way, nanoseconds since boot; 0: none.
        until: u64 }
    /// See [`Report::Asked`].
    Asked { /// For `Ack`.
        seq: u64, /// One of the constants.
        what: u8, /// The news.
        text: String }
    /// See [`Report::Welcome`].
    Welcome { /// [`VERSION`].
        version: u32, /// The anchor's own.
        pid: u32, /// How many daemons there were before this one.
        rebirths: u32,
        /// Version of the anchor's program.
        release: String, /// `KEEPWELL_RUN`'s first half: this guardian's mark.
        guardian: String, /// What the command line gave the anchor for its daemons; opaque.
        options: Vec<u8>, /// Which mechanisms the host offers, for `info`: `spawn: clone3 + cgroup`.
        mechanisms: Vec<String> }
    /// See [`Report::Run`].
    Run { /// Its number.
        run: u64, /// Its slot.
        slot: u32, /// As in `Spawn`.
        role: u8, /// 0 when its main process is gone but its tree is not empty.
        pid: u32, /// When it was started, nanoseconds since boot.
        started: u64 }
    /// See [`Report::Spawned`].
    Spawned { /// For `Ack`.
        seq: u64, /// Which.
        run: u64, /// Its pid.
        pid: u32 }
    /// See [`Report::SpawnFailed`].
    SpawnFailed { /// For `Ack`.
        seq: u64, /// Which.
        run: u64, /// The step: `exec`, `chdir`, `setuid` …
        step: String, /// `errno`, or Windows' error.
        errno: i32 }
    /// See [`Report::Exited`].
    Exited { /// For `Ack`.
        seq: u64, /// Which.
        run: u64, /// How.
        status: ProcessStatus, /// When, nanoseconds since boot.
        at: u64, /// Nothing of its tree is left.
        tree_empty: bool }
    /// See [`Report::TreeEmpty`].
    TreeEmpty { /// For `Ack`.
        seq: u64, /// Which main run.
        run: u64 }
    /// See [`Report::StopRequested`].
    StopRequested { /// For `Ack`.
        seq: u64, /// `SIGINT`, `SIGTERM`, `service control manager` …
        why: String, /// Not the first time.
        urgent: bool }
    /// See [`Report::SignalFailed`].
    SignalFailed { /// For `Ack`.
        seq: u64, /// Who was to get it.
        run: u64, /// As in `Signal`.
        signal: i32, /// In plain words: `it has no window`.
        reason: String }
    /// See [`Report::Drained`].
    Drained { /// For `Ack`.
        seq: u64, /// Whose.
        slot: u32, /// 0 output, 1 errors.
        stream: u8, /// What was saved.
        bytes: Vec<u8>, /// Bytes that came after these and found no room.
        dropped: u64 }
}

impl Asked {
    /// Restart nothing until told to go on.
    pub const PAUSE: u8 = 1;
    /// Go on.
    pub const CONTINUE: u8 = 2;
    /// Read the configuration again.
    pub const RELOAD: u8 = 3;
    /// Something happened to the host: a `keepwell_core::HostEvent` as it is displayed, `suspend` or `lock 2`.
    pub const NEWS: u8 = 4;
}
