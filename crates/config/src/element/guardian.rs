//! `[keepwell]`: the guardian itself.

use super::duration::Span;
use super::loopback::Loopback;
use super::notify::RawReceivers;
use super::scalar::{Int, Texts, choice};
use crate::config::{LogLevel, Profile, WhenDaemonGone};
use crate::read::{plain_table, table};

choice! { WhenGoneWord = WhenDaemonGone {
    "drain" => WhenDaemonGone::Drain,
    "block" => WhenDaemonGone::Block,
} }

choice! { LogLevelWord = LogLevel {
    "error" => LogLevel::Error,
    "warn" => LogLevel::Warn,
    "info" => LogLevel::Info,
    "debug" => LogLevel::Debug,
    "trace" => LogLevel::Trace,
} }

choice! { ProfileWord = Profile {
    "standard" => Profile::Standard,
    "low-overhead" => Profile::LowOverhead,
} }

table! {
    /// The guardian itself.
    RawGuardian {
        /// Groups whose members may control services, besides the guardian's own user and root.
        operators: Texts = "none", live;
        /// Groups whose members may look.
        readers: Texts = "none", live;
        /// At most this many services are starting at the same time.
        max_parallel_starts: Int<1, 1_000_000> = "no bound", live;
        /// When the deciding process is gone and a service's output pipe is full: `"drain"` it into bounded memory, or let the writer `"block"`.
        when_daemon_gone: WhenGoneWord = "`\"drain\"`", live;
        /// How much keepwell writes into its own log: `"error"`, `"warn"`, `"info"`, `"debug"`, `"trace"`.
        log_level: LogLevelWord = "`\"info\"`", live;
        /// A deciding process that is silent for this long is replaced; services run on.
        hang_after: Span = "`\"10s\"`", live;
        /// Where `/health`, `/ready/SERVICE` and `/metrics` are served: an address of this host alone.
        http: Loopback = "not served", live;
        /// Where services with `live = [{ heartbeat = "tcp" }]` send their heartbeats: a loopback address and a port.
        heartbeat: Loopback = "off", live;
        /// What keepwell itself may cost: with `"low-overhead"` it looks at what services use every 15 s, at folders and PSS every 5 min, and has fewer threads.
        profile: ProfileWord = "`\"standard\"`", live;
        /// How often it is looked at what services with `guards` or limits use.
        sample_every: Span = "`\"5s\"`; `\"15s\"` with `profile = \"low-overhead\"`", live;
        /// Who is told by message when something is wrong.
        notify: RawReceivers = "nobody", live;
    }
}
plain_table!(
    RawGuardian,
    "a table",
    "[keepwell] with operators, readers, max_parallel_starts, when_daemon_gone, log_level, hang_after, http, heartbeat, profile, sample_every, notify"
);
