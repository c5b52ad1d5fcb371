//! What this crate asks of a service control manager, as numbers, the way Windows has them: behind it stand the real one and
//! [`crate::testing::Scm`]. It knows nothing of services.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use crate::control::{Answer, Control};
use crate::error::{Error, code};
use crate::state::{Exit, StartReason, Status};
use crate::token::Cause;

/// Called by the manager, one control at a time, on a thread of its own.
pub(crate) type Handler = Box<dyn Fn(Control) -> Answer + Send + Sync>;

/// Called by the manager once, on a thread of its own; the service has ended when it has reported so.
pub(crate) type Main = Box<dyn FnOnce(Vec<OsString>, Arc<dyn Link>) + Send>;

/// A manager.
pub(crate) trait Manager {
    /// Has `main` run, and returns when the service has ended.
    fn dispatch(&self, name: &str, handler: Handler, main: Main) -> Result<(), Error>;
}

/// What a running service says to its manager, and asks of it.
pub(crate) trait Link: Send + Sync {
    /// `SetServiceStatus`.
    fn report(&self, status: RawStatus) -> Result<(), Error>;

    /// Words for people, where the manager has a place for them.
    fn tell(&self, text: &str);

    /// The service lives: a watchdog's beat, where there is one.
    fn beat(&self);

    /// How often a beat is due.
    fn beat_interval(&self) -> Option<Duration>;

    /// A reload has begun; the next `report` of the present state ends it.
    fn reloading(&self);

    /// Why the service was started.
    fn start_reason(&self) -> Option<StartReason>;

    /// How long the manager waits at most for an end that has this cause.
    fn time_to_end(&self, cause: Cause) -> Option<Duration>;

    /// `SERVICE_STATUS_HANDLE`, where there is one.
    fn raw_handle(&self) -> Option<usize>;
}

/// `SERVICE_STATUS`, but for the type of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawStatus {
    pub(crate) state: u32,
    pub(crate) accepted: u32,
    pub(crate) win32_exit: u32,
    pub(crate) specific_exit: u32,
    pub(crate) checkpoint: u32,
    pub(crate) wait_hint_ms: u32,
}

impl From<&Status> for RawStatus {
    fn from(status: &Status) -> RawStatus {
        let (win32_exit, specific_exit) = match status.exit() {
            None | Some(Exit::Success) => (0, 0),
            Some(Exit::Win32(number)) => (number, 0),
            // With 1066 beside a zero the manager would show a failure without a number.
            Some(Exit::Specific(0)) => (0, 0),
            Some(Exit::Specific(number)) => (code::SPECIFIC, number),
        };
        let pending = status.pending();
        RawStatus {
            state: status.state().number(),
            accepted: status.accepted().bits(),
            win32_exit,
            specific_exit,
            checkpoint: pending.map_or(0, |pending| pending.checkpoint),
            wait_hint_ms: pending
                .map_or(0, |pending| u32::try_from(pending.wait_hint.as_millis()).unwrap_or(u32::MAX)),
        }
    }
}
