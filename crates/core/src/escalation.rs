//! What is tried, one after the other, while a service goes on failing in one incident.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Human;

/// One step of the ladder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rung {
    /// What is done when it has failed.
    pub then: Then,
    /// So many failures long; then the next step comes. The last one stays.
    pub times: u32,
}

/// See [`Rung::then`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Then {
    /// It is restarted by its policy, as without a ladder. All of the following but `Stop` go on with that.
    Restart,
    /// What depends on it and runs is stopped, and starts again when it is back.
    RestartDependents,
    /// A program runs before the next attempt.
    Run {
        /// After this it is killed.
        timeout: Duration,
    },
    /// Its fallback runs until the incident is over.
    FailOver,
    /// No further attempt, and somebody is to be woken.
    Stop,
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Then::Restart => f.write_str("restart"),
            Then::RestartDependents => f.write_str("restart with dependents"),
            Then::Run { timeout } => write!(f, "run a command of at most {}", Human(*timeout)),
            Then::FailOver => f.write_str("fail over to the standby"),
            Then::Stop => f.write_str("stop and page"),
        }
    }
}
