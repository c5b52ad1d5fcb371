//! All that is measured and counted, for monitoring: gathered by the engine and the meter, written as a page for Prometheus.
//! Nothing is counted while nobody may ask.

mod families;
mod page;
mod tally;

use std::collections::BTreeMap;

use keepwell_core::event::State;
use keepwell_core::seen::Budget;
use keepwell_core::{ServiceId, Wall};
use keepwell_os::Usage;

pub use families::{FAMILIES, Family, Kind};
pub use page::{Form, page};
pub use tally::{Probe, Tally};

/// Everything at one moment.
#[derive(Clone, Default)]
pub struct Figures {
    /// One an instance.
    pub services: Vec<ServiceFigures>,
    /// What was counted since somebody might ask.
    pub tally: Tally,
    /// The budgets of restarts of what lives.
    pub budgets: Vec<Budget>,
    /// Who is told by message.
    pub receivers: Vec<ReceiverFigures>,
    /// keepwell itself.
    pub own: OwnFigures,
}

/// One instance.
#[derive(Clone)]
pub struct ServiceFigures {
    /// Which.
    pub id: ServiceId,
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Wall,
    /// It can be used.
    pub usable: bool,
    /// Operators want it up.
    pub wanted: bool,
    /// When its main process was started, if it runs.
    pub started: Option<Wall>,
    /// Since the last operator's start.
    pub restarts: u32,
    /// Seconds since its last heartbeat, or since its start, if it owes any and runs.
    pub beat_age: Option<f64>,
    /// Frames and connections of this run that were refused.
    pub beat_errors: Option<u64>,
    /// Numbers of its own.
    pub reported: BTreeMap<String, f64>,
    /// An incident is open.
    pub incident: bool,
    /// What its guards see.
    pub guards: Vec<GuardFigures>,
    /// Bytes of output.
    pub log_bytes: Option<u64>,
    /// What its tree uses; filled in by the meter.
    pub usage: Usage,
}

/// One guard of an instance.
#[derive(Clone)]
pub struct GuardFigures {
    /// In words.
    pub rule: String,
    /// It has tripped.
    pub tripped: bool,
    /// When its bound is reached, if that is foreseen.
    pub reached: Option<Wall>,
}

/// One receiver of messages.
#[derive(Clone, Default)]
pub struct ReceiverFigures {
    /// Its name.
    pub name: String,
    /// Notices that are not delivered yet.
    pub waiting: usize,
    /// Attempts that it took, that are made again, and that it refused for good.
    pub attempts: [u64; 3],
    /// Notices that it will never get.
    pub lost: u64,
}

/// keepwell itself.
#[derive(Clone, Default)]
pub struct OwnFigures {
    /// This daemon's.
    pub version: String,
    /// The anchor's.
    pub anchor_version: String,
    /// Of the guardian.
    pub started: Wall,
    /// When the configuration in force was taken on.
    pub accepted: Wall,
    /// Daemons that this one's anchor had before it.
    pub rebirths: u32,
    /// The other process.
    pub anchor_pid: u32,
    /// Messages that wait for the engine, and how many found no room.
    pub traffic: (usize, u64),
    /// Events that are not on the disk yet.
    pub store_waiting: u64,
    /// Events that never will be.
    pub store_lost: u64,
    /// Bytes of output that no file got.
    pub log_lost: u64,
    /// `daemon` and `anchor`; filled in by the meter.
    pub processes: [(&'static str, Usage); 2],
    /// Requests that were answered, by route and status; filled in by the server.
    pub requests: BTreeMap<(&'static str, u16), u64>,
}

/// Whether keepwell itself works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    /// It goes down.
    pub stopping: bool,
    /// Instances.
    pub services: usize,
    /// Instances that can be used.
    pub usable: usize,
}

#[cfg(test)]
mod tests;
