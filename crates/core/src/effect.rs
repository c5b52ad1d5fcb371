//! What the core wants done. Imperative; never blocks; each names its run. Whatever is slow comes back as an `Input`.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::command::By;
use crate::host::HostEvent;
use crate::id::{ProbeId, RunId, ServiceId};
use crate::spec::To;
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write a record to the store. For operators' commands the shell answers the operator when it is written.
    Commit(Record),
    /// Start a process: `Input::Spawned` or `Input::SpawnFailed` follows, and after `Spawned` one `Input::Exited`.
    Spawn {
        /// Its name from now on.
        run: RunId,
        /// Whose.
        service: ServiceId,
        /// Main process or a hook.
        role: Role,
    },
    /// Send a signal of the stop ladder, or an operator's.
    Signal {
        /// To a process of this run.
        run: RunId,
        /// POSIX number.
        signal: i32,
        /// Who of it.
        to: To,
    },
    /// Send the HTTP request of a step of the stop ladder. `Input::AskedToStop` follows; where no answer comes in time, none
    /// does.
    AskToStop {
        /// The main run.
        run: RunId,
        /// Of which service.
        service: ServiceId,
        /// Comes back with the answer.
        step: u32,
        /// See `Asking::id`.
        id: u64,
        /// The step's own time.
        timeout: Duration,
    },
    /// Start the command of a step of the stop ladder. What follows is as after a `Spawn` with `Role::Stop`.
    RunToStop {
        /// Its name from now on.
        run: RunId,
        /// Whose.
        service: ServiceId,
        /// See `Asking::id`.
        id: u64,
    },
    /// Start the hook that hears of this. What follows is as after a `Spawn` with its role.
    RunOnEvent {
        /// Its name from now on.
        run: RunId,
        /// Whose.
        service: ServiceId,
        /// What the hook is told.
        event: HostEvent,
    },
    /// Look at what is about to be ended because it failed. `Input::EvidenceTaken` follows; where none does in time, it is
    /// ended without.
    TakeEvidence {
        /// The main run.
        run: RunId,
        /// Of which service.
        service: ServiceId,
        /// The incident that it belongs to.
        incident: Option<u64>,
        /// Why it is ended, and what its checks said, a line each.
        notes: Vec<String>,
        /// So long it is waited for.
        timeout: Duration,
    },
    /// For a main run: kill every process of the service's tree; `Input::TreeEmpty` follows when none is left. For a
    /// hook: kill its process group.
    Kill {
        /// Whose tree.
        run: RunId,
    },
    /// Stop the tree's processes from being scheduled.
    Freeze {
        /// The main run.
        run: RunId,
    },
    /// Let them go on.
    Thaw {
        /// The main run.
        run: RunId,
    },
    /// Try a check once; `Input::Probe` with the same id follows within `timeout`.
    Probe {
        /// Comes back with the answer.
        probe: ProbeId,
        /// Which check of the service: the one that makes it ready, or that of this number in `ServiceSpec::probes`.
        listed: Option<usize>,
        /// Which run is asked.
        run: RunId,
        /// Of which service.
        service: ServiceId,
        /// An attempt that takes longer has failed.
        timeout: Duration,
    },
    /// Look once at all that the service waits for before its start; `Input::Probe` with the same id follows within `timeout`,
    /// and names what is missing.
    Look {
        /// Comes back with the answer.
        probe: ProbeId,
        /// Which service waits.
        service: ServiceId,
        /// What has not answered by then is missing.
        timeout: Duration,
    },
    /// Something has failed: say what the host is short of. `Input::HostLoad` follows.
    LookAtHost,
    /// Watch the service's program file; `Input::ProgramChanged` when it is made or replaced.
    WatchProgram(ServiceId),
    /// No longer.
    UnwatchProgram(ServiceId),
}

/// What a process is to its service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Role {
    /// The guarded program.
    Main,
    /// When what it waits for has not come.
    WaitFor,
    /// Before it.
    PreStart,
    /// When it is up.
    PostStart,
    /// Before it is stopped.
    PreStop,
    /// When it is gone.
    PostStop,
    /// The command of a step of its stop ladder.
    Stop,
    /// When the host goes to sleep.
    OnSuspend,
    /// When it has woken up.
    OnResume,
    /// When its power supply changes.
    OnPowerChange,
    /// When a user's session changes.
    OnSession,
    /// Because the guard of this number, from 0, tripped.
    Guard(u8),
    /// The command of this step of the escalation ladder, from 0.
    Escalation(u8),
}

/// What must outlive the daemon, the anchor and the host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// An operator wants this service up or down from now on.
    Desired {
        /// Which instance.
        service: ServiceId,
        /// Up or down.
        up: bool,
        /// Who.
        by: By,
        /// When.
        at: Wall,
    },
    /// An operator's `enable` or `disable`, over the file's `enabled`.
    Enabled {
        /// Service name.
        service: String,
        /// The new value.
        enabled: bool,
    },
    /// Held by an operator (`Some`) or resumed (`None`).
    Paused {
        /// Which instance.
        service: ServiceId,
        /// How it is held.
        hold: Option<Hold>,
    },
    /// `scale`, over the file's `instances`.
    Scaled {
        /// Service name.
        service: String,
        /// How many.
        instances: u16,
    },
}

/// How a paused service is held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// The tree is frozen, not just left without restarts.
    pub freeze: bool,
    /// Wall time after which it is stopped.
    pub stop_at: Option<Wall>,
    /// Who.
    pub by: By,
}
