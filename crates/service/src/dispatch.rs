//! The lower entry: a handler that is called with each control, a main function, and what was started. Whoever has an event
//! loop of his own, such as a guardian, takes this one; services take [`crate::run`].

use std::any::Any;
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::control::{Answer, Control};
use crate::error::Error;
use crate::scm::{Handler, Main, Manager};
use crate::state::Exit;
use crate::status::StatusHandle;
use crate::system;

/// What the service control manager has started.
#[derive(Debug)]
pub struct Started {
    /// The name under which the service is installed.
    pub name: OsString,
    /// The arguments that it was started with (`sc start NAME …`, `TriggerStarted`), without the name. Those of the
    /// installed command line are in [`std::env::args_os`].
    pub arguments: Vec<OsString>,
    /// The way to tell its state. The manager takes it to be starting; say something else within 2 s.
    pub status: StatusHandle,
}

/// Runs a service under the service control manager, and returns when it has ended.
///
/// Call it in the first milliseconds of the process, before any IO: the manager waits 30 s for it, also while the disks are
/// busy at boot. Everywhere but in a process that the manager has started it returns [`Error::NotAService`] at once, without
/// having called anything.
///
/// `handler` is called with each control, on a thread of the manager's. It must return at once, since until then the manager
/// gives no control to any service: post what has come to a channel, and say [`Answer::Taken`]. Before `main` runs nothing is
/// given to it. `main` runs on another such thread; when it returns, or panics (1064), the crate reports the end, once.
///
/// ```
/// use std::sync::mpsc;
/// use keepwell_service::{Accept, Answer, Error, Exit, dispatch};
///
/// let (sender, controls) = mpsc::sync_channel(64);
/// let handler = move |control| match sender.try_send(control) {
///     Ok(()) => Answer::Taken,
///     Err(_) => Answer::Refused(keepwell_service::code::BUSY),
/// };
/// let ended = dispatch("example", handler, move |service| {
///     let _ = service.status.running(Accept::STOP);
///     let _stop = controls.recv();
///     Exit::Success
/// });
/// assert!(matches!(ended, Err(Error::NotAService)), "a terminal has started this");
/// ```
///
/// # Errors
/// [`Error::NotAService`]; [`Error::AlreadyRan`]; what the system refuses.
pub fn dispatch(
    name: &str,
    handler: impl Fn(Control) -> Answer + Send + Sync + 'static,
    main: impl FnOnce(Started) -> Exit + Send + 'static,
) -> Result<Exit, Error> {
    dispatch_on(&system::Manager, name, Box::new(handler), main)
}

/// The same under any manager.
pub(crate) fn dispatch_on(
    manager: &dyn Manager,
    name: &str,
    handler: Handler,
    main: impl FnOnce(Started) -> Exit + Send + 'static,
) -> Result<Exit, Error> {
    let ended = Arc::new(Mutex::new(Exit::default()));
    let end = ended.clone();
    let installed = OsString::from(name);
    let run: Main = Box::new(move |arguments, link| {
        let status = StatusHandle::new(link);
        let mut arguments = arguments.into_iter();
        let name = arguments.next().filter(|name| !name.is_empty()).unwrap_or(installed);
        let started = Started { name, arguments: arguments.collect(), status: status.clone() };
        let exit = match catch_unwind(AssertUnwindSafe(|| main(started))) {
            Ok(exit) => exit,
            Err(_told_by_the_panic_hook) => Exit::PANIC,
        };
        *end.lock().unwrap_or_else(PoisonError::into_inner) = exit;
        // A manager that does not listen will see the process end.
        let _ = status.stopped(exit);
    });
    manager.dispatch(name, handler, run)?;
    let exit = *ended.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(exit)
}

/// The words of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}
