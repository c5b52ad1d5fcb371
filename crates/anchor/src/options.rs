//! What the command line gives the anchor.

use std::ffi::OsString;
use std::time::Duration;

use keepwell_os::Handle;

use crate::manager::RunningWhen;

/// How to hold, and whom to start.
#[derive(Debug)]
pub struct Options {
    /// The guardian's mark: the first half of `KEEPWELL_RUN`.
    pub guardian: String,
    /// The program of daemon and view, opened; `None`: this process's own. It is opened once, so that a daemon of the same
    /// make comes back even when the file was replaced meanwhile.
    pub program: Option<Handle>,
    /// The daemon's arguments, with its name first.
    pub daemon: Vec<OsString>,
    /// The same for the view, if there is to be one.
    pub view: Option<Vec<OsString>>,
    /// For [`crate::protocol::Welcome::options`].
    pub options: Vec<u8>,
    /// The version of this program.
    pub release: String,
    /// What the first daemon finds as kept already: the state folder's lock.
    pub keep: Vec<(Vec<u8>, Handle)>,
    /// When a service manager is told that it runs.
    pub running_when: RunningWhen,
    /// How long everything may take.
    pub timing: Timing,
}

/// Times that a test shortens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// A daemon that leaves a report unanswered for this long hangs.
    pub hang: Duration,
    /// Before the second start of a daemon; it doubles with each one that did not come up.
    pub backoff: Duration,
    /// What it grows to.
    pub max_backoff: Duration,
    /// Without a daemon for this long, full pipes are drained.
    pub drain_after: Duration,
    /// In a stop without a daemon: from the TERM to the kill.
    pub stop: Duration,
    /// At the end: for the daemon and the view to go by themselves.
    pub farewell: Duration,
    /// At the end: for trees that were killed to be gone.
    pub grave: Duration,
    /// The service manager takes an anchor that was silent for this long for one that hangs.
    pub watchdog: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            hang: Duration::from_secs(10),
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            drain_after: Duration::from_secs(10),
            stop: Duration::from_secs(10),
            farewell: Duration::from_secs(1),
            grave: Duration::from_secs(10),
            watchdog: None,
        }
    }
}
