//! The call that runs a service, whoever has started the process.

use std::ffi::OsString;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::dispatch::{Started, dispatch_on, panic_text};
use crate::error::Error;
use crate::failure::Failure;
use crate::inbox::Inbox;
use crate::runtime::Runtime;
use crate::scm::Manager;
use crate::stages::Starting;
use crate::state::Exit;
use crate::status::StatusHandle;
use crate::system;

/// A service: what is to be done from its start to its end. Closures of this shape are services too.
pub trait Service: Send + 'static {
    /// Starts, runs and stops. It is called once, and when it returns the service has stopped: leave nothing behind that
    /// must not be cut off.
    ///
    /// # Errors
    /// A failure's number is what the manager is told; its words go where the host has a place for them.
    fn run(self, starting: Starting) -> Result<(), Failure>;
}

impl<F> Service for F
where
    F: FnOnce(Starting) -> Result<(), Failure> + Send + 'static,
{
    fn run(self, starting: Starting) -> Result<(), Failure> {
        self(starting)
    }
}

/// Who has started the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The service control manager of Windows.
    Scm,
    /// systemd, or another init system or guardian that has given a socket for notifications.
    Systemd,
    /// A person, or something that takes no interest.
    Terminal,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Host::Scm => "the service control manager",
            Host::Systemd => "the init system",
            Host::Terminal => "a terminal",
        })
    }
}

/// Runs a service under the service control manager, systemd or a terminal, whichever has started this process.
///
/// Call it at the very beginning of `main`, before any IO, and return what it returns. A failure's words go to the error
/// output, and to systemd's status.
///
/// On Windows the answer of the manager decides what the process is (1063: not a service), on others `NOTIFY_SOCKET`. In a
/// terminal Ctrl+C stops the service, and a second one ends the process.
pub fn run(name: &str, service: impl Service) -> ExitCode {
    match Runner::new(name).run(service) {
        Ok(exit) => ExitCode::from(exit.process_code()),
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// [`run`], with what can be said about it.
#[derive(Clone, Debug)]
pub struct Runner {
    name: String,
    stop_within: Duration,
}

impl Runner {
    /// For the service of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Runner {
        Runner { name: name.into(), stop_within: Duration::from_secs(30) }
    }

    /// How long a stop may take: the deadline of the stop token; 30 s where nothing is said. A shutdown of the system may
    /// leave less, and then the deadline is that.
    #[must_use]
    pub fn stop_within(self, time: Duration) -> Runner {
        Runner { stop_within: time, ..self }
    }

    /// Runs it, and says how it has ended. On Windows, under the manager, the process may be gone before this returns.
    ///
    /// # Errors
    /// When the process has run a service before, or the system refuses a step.
    pub fn run(self, service: impl Service) -> Result<Exit, Error> {
        let service = Arc::new(Mutex::new(Some(service)));
        match self.run_under(&system::Manager, service.clone()) {
            Err(Error::NotAService) => {}
            ended => return ended,
        }
        let service = service.lock().unwrap_or_else(PoisonError::into_inner).take();
        service.map_or(Err(Error::AlreadyRan), |service| self.run_outside(service))
    }

    /// Under a manager. The service stays where it is when this process is none.
    pub(crate) fn run_under(
        &self,
        manager: &dyn Manager,
        service: Arc<Mutex<Option<impl Service>>>,
    ) -> Result<Exit, Error> {
        let inbox = Arc::new(Inbox::default());
        let (posts, stop_within) = (inbox.clone(), self.stop_within);
        let main = move |started: Started| {
            let service = service.lock().unwrap_or_else(PoisonError::into_inner).take();
            let runtime = Runtime::new(Host::Scm, started.status, inbox, stop_within);
            let taker = runtime.clone();
            let took = thread::Builder::new().name("controls".to_owned()).spawn(move || taker.take_all());
            let exit = match (service, took) {
                (Some(service), Ok(_ends_with_the_service)) => {
                    serve(&runtime, service, started.name, started.arguments)
                }
                // Without this thread the service could not be stopped.
                (_, Err(error)) => {
                    Exit::Win32(error.raw_os_error().map_or(crate::error::code::PANICKED, i32::cast_unsigned))
                }
                (None, Ok(_)) => Exit::Success,
            };
            runtime.ended(exit);
            exit
        };
        dispatch_on(manager, &self.name, Box::new(move |control| posts.post(control)), main)
    }

    /// Under systemd, or in a terminal; on this thread.
    fn run_outside(self, service: impl Service) -> Result<Exit, Error> {
        let (host, link) = system::outside();
        let inbox = Arc::new(Inbox::default());
        let runtime = Runtime::new(host, StatusHandle::new(link), inbox, self.stop_within);
        let deliver = runtime.clone();
        system::listen(Box::new(move |incoming| deliver.deliver(incoming)), host)?;
        let exit = serve(&runtime, service, OsString::from(self.name), Vec::new());
        runtime.ended(exit);
        Ok(exit)
    }
}

/// The service's own function, and what its end means.
fn serve(runtime: &Arc<Runtime>, service: impl Service, name: OsString, arguments: Vec<OsString>) -> Exit {
    let shown = name.to_string_lossy().into_owned();
    let starting = Starting { runtime: runtime.clone(), name, arguments };
    match catch_unwind(AssertUnwindSafe(|| service.run(starting))) {
        Ok(Ok(())) => Exit::Success,
        Ok(Err(failure)) => {
            runtime.complain(&format!("{shown}: {failure}"));
            failure.exit()
        }
        Err(panic) => {
            runtime.complain(&format!("{shown}: panicked: {}", panic_text(panic.as_ref())));
            Exit::PANIC
        }
    }
}
