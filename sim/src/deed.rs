//! What comes from outside: operators, fate, and whoever chooses how programs behave.

use std::time::Duration;

use keepwell_core::{By, Command, HostEvent, Mono, Role, ServiceId, Specs};

use crate::program::Behaviour;

/// Chooses how the next process behaves.
pub trait Director {
    /// Called once for each process that is asked for.
    fn behaviour(&mut self, service: &ServiceId, role: Role, at: Mono) -> Behaviour;

    /// Whether evidence is lost, late or not to be had now and then.
    fn troubles_evidence(&self) -> bool {
        false
    }
}

/// Something from outside.
#[derive(Clone, PartialEq, Debug)]
pub enum Deed {
    /// An operator asks.
    Command(By, Command),
    /// An operator edits the file and reloads.
    Reload(Specs),
    /// In its next turn the daemon dies after so many of its messages, and is reborn after this long.
    DaemonDies {
        /// How many messages of its turn are sent.
        after: usize,
        /// How long there is none.
        away: Duration,
    },
    /// Anchor, daemon and all processes die; `up` is run again.
    AnchorDies,
    /// The wall clock jumps by so many milliseconds.
    ClockStep(i64),
    /// The host sleeps.
    Suspend(Duration),
    /// Commits fail, or no longer.
    DiskFull(bool),
    /// What services wait for before their start is gone, or there again.
    OutsideGone(bool),
    /// The host sleeps, wakes, or has another session.
    Host(HostEvent),
    /// The host has too little of something from now on, and says so; or enough again.
    Starved(bool),
    /// What the checks of all services look at fails, whatever is restarted; or no longer.
    ChecksFail(bool),
    /// A program file is replaced.
    ProgramChanges(ServiceId),
    /// The next report comes so much later.
    LateReports(Duration),
    /// The next report comes once more, later.
    DoubledReport(Duration),
    /// The next two reports change places.
    SwappedReports,
    /// A process says something of its own.
    Says(ServiceId, Saying),
    /// Stops reading the script: the runner takes over.
    Pause,
}

/// What a process says by sd_notify, besides READY and life signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saying {
    /// `WATCHDOG=trigger`.
    Broken,
    /// `EXTEND_TIMEOUT_USEC`.
    Extend(Duration),
    /// `WATCHDOG_USEC`.
    Watchdog(Duration),
}
