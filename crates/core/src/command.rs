//! What operators ask. A command is answered with the accepted plan or refused with a reason; it never half happens.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::id::ServiceId;
use crate::spec::To;
use serde::{Deserialize, Serialize};

/// Who asked, as told to other people ("stopped by anna at 14:01").
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct By(pub String);

impl By {
    /// The same operator, who stopped something together with `service`. It is said in words, so that it outlives
    /// everything that the words outlive.
    #[must_use]
    pub fn with(&self, service: &str) -> By {
        By(alloc::format!("{}{WITH}{service}", self.0))
    }

    /// The service together with which something was stopped.
    #[must_use]
    pub fn stopped_with(&self) -> Option<&str> {
        self.0.rsplit_once(WITH).map(|(_, service)| service)
    }
}

const WITH: &str = ", with ";

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request. `services` are names (`web`: all its instances) or instances (`web@2`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Want it up; resets restart counts; also brings back what was stopped with it; never refused for backoff.
    Start {
        /// Names.
        services: Vec<String>,
        /// Start even though what it depends on is not up.
        ignore_dependencies: bool,
    },
    /// Want it down. Running dependents are named; only bound ones stop with it unless `with_dependents`.
    Stop {
        /// Names.
        services: Vec<String>,
        /// All dependents too, in reverse order.
        with_dependents: bool,
    },
    /// Stop, then start; desired state becomes up.
    Restart {
        /// Names.
        services: Vec<String>,
    },
    /// Send a signal; changes no desired state.
    Signal {
        /// Names.
        services: Vec<String>,
        /// POSIX number.
        signal: i32,
        /// Who gets it.
        to: To,
    },
    /// Hold: no restarts until resumed.
    Pause {
        /// Names.
        services: Vec<String>,
        /// Freeze the tree too.
        freeze: bool,
        /// Stop it if it is still held after this long.
        stop_after: Option<Duration>,
    },
    /// End the hold.
    Resume {
        /// Names.
        services: Vec<String>,
    },
    /// Started by `up` and at boot from now on; starts nothing now.
    Enable {
        /// Names.
        services: Vec<String>,
    },
    /// Not started by `up` or at boot from now on; stops nothing now.
    Disable {
        /// Names.
        services: Vec<String>,
    },
    /// Change the number of instances; leaves the others alone.
    Scale {
        /// Name.
        service: String,
        /// New number, from 1.
        instances: u16,
    },
    /// Stop everything in reverse order of dependencies, leaving desired states alone; then there is nothing left.
    Shutdown,
}

/// What an accepted command will do, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Each service instance touched, and how.
    pub actions: Vec<(ServiceId, PlannedAction)>,
    /// What the operator should know ("worker depends on db and runs on").
    pub notes: Vec<String>,
}

/// What will be done to one instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlannedAction {
    /// Will be started (now, or when what it waits for is there).
    Start,
    /// Will be stopped.
    Stop,
    /// Will be stopped and started.
    Restart,
    /// Gets a signal.
    Signal,
    /// Is held.
    Pause,
    /// Is let go on.
    Resume,
    /// A setting changes; the process is not touched.
    Update,
    /// Is as asked already.
    Nothing,
}

/// Why a command was refused; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// No such service; the nearest name if one is near.
    UnknownService {
        /// As given.
        name: String,
        /// All names there are.
        known: Vec<String>,
    },
    /// It has no process to signal or freeze.
    NotRunning(ServiceId),
    /// keepwell is on its way down and takes no more commands that start things.
    ShuttingDown,
    /// A number out of range, in words.
    Invalid(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::UnknownService { name, .. } => write!(f, "there is no service `{name}`"),
            CommandError::NotRunning(id) => write!(f, "{id} has no running process"),
            CommandError::ShuttingDown => f.write_str("keepwell is shutting down"),
            CommandError::Invalid(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for CommandError {}
