//! Systems without a service control manager: systemd, by `sd_notify(3)`, or a terminal; signals for both.

pub(crate) mod eventlog;
mod notify;
mod signals;

use std::sync::Arc;

pub(crate) use self::signals::listen;
use crate::error::Error;
use crate::outside::Quiet;
use crate::runner::Host;
use crate::scm::{Handler, Link, Main, Manager as Scm};

/// There is none.
pub(crate) struct Manager;

impl Scm for Manager {
    fn dispatch(&self, _name: &str, _handler: Handler, _main: Main) -> Result<(), Error> {
        Err(Error::NotAService)
    }
}

/// Who has started this process. That a socket for notifications is named decides; an inherited variable of systemd's says
/// nothing.
pub(crate) fn outside() -> (Host, Arc<dyn Link>) {
    match notify::Socket::from_env() {
        Some(socket) => (Host::Systemd, Arc::new(socket)),
        None => (Host::Terminal, Arc::new(Quiet)),
    }
}
