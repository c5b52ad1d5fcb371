//! What a service finds where no service control manager has started it.

use std::time::Duration;

use crate::error::Error;
use crate::inbox::Incoming;
use crate::scm::{Link, RawStatus};
use crate::state::StartReason;
use crate::token::Cause;

/// Takes what the terminal or the init system wants, on a thread that may work.
pub(crate) type Deliver = Box<dyn Fn(Incoming) + Send + Sync>;

/// A terminal: nobody wants to know.
pub(crate) struct Quiet;

impl Link for Quiet {
    fn report(&self, _status: RawStatus) -> Result<(), Error> {
        Ok(())
    }

    fn tell(&self, _text: &str) {}

    fn beat(&self) {}

    fn beat_interval(&self) -> Option<Duration> {
        None
    }

    fn reloading(&self) {}

    fn start_reason(&self) -> Option<StartReason> {
        None
    }

    fn time_to_end(&self, _cause: Cause) -> Option<Duration> {
        None
    }

    fn raw_handle(&self) -> Option<usize> {
        None
    }
}
