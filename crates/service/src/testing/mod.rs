//! A service control manager in memory. A service's tests run under it on any system, with all that Windows can send, and it
//! holds the service to the manager's rules.
//!
//! ```
//! use keepwell_service::{Accept, Event, Exit, Failure, Starting, State};
//! use keepwell_service::testing::Scm;
//!
//! fn service(starting: Starting) -> Result<(), Failure> {
//!     let running = starting.running(Accept::STOP);
//!     while !matches!(running.next(), Event::Stop(_)) {}
//!     Ok(())
//! }
//!
//! let started = Scm::new().start("example", &["verbose"], service);
//! started.wait_for(State::Running);
//! started.stop().unwrap();
//! assert_eq!(started.wait(), Exit::Success);
//! ```

mod instance;
mod rules;

use std::ffi::OsString;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub use self::instance::Instance;
use self::instance::{Process, World};
use crate::control::{Answer, Control};
use crate::dispatch::{Started, dispatch_on};
use crate::runner::{Runner, Service};
use crate::state::{Exit, StartReason};

/// A service control manager in memory. Each service that it starts is a world of its own.
#[derive(Clone, Debug)]
pub struct Scm {
    handler_limit: Duration,
    patience: Duration,
    wait_limit: Duration,
    start_reason: Option<StartReason>,
    time_to_end: Option<Duration>,
}

impl Scm {
    /// As patient as the real one.
    #[must_use]
    pub fn new() -> Scm {
        Scm {
            handler_limit: Duration::from_secs(30),
            patience: Duration::from_secs(80),
            wait_limit: Duration::from_secs(10),
            start_reason: None,
            time_to_end: None,
        }
    }

    /// How long a control handler may take: 30 s on Windows. A test of a handler that hangs sets less.
    #[must_use]
    pub fn handler_limit(self, limit: Duration) -> Scm {
        Scm { handler_limit: limit, ..self }
    }

    /// How long after its wait hint a pending service that tells nothing is taken to hang: 80 s on Windows.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Scm {
        Scm { patience, ..self }
    }

    /// How long [`Instance::wait_for`] and [`Instance::wait`] wait before they fail: 10 s where nothing is said.
    #[must_use]
    pub fn wait_limit(self, limit: Duration) -> Scm {
        Scm { wait_limit: limit, ..self }
    }

    /// What the service is told of why it was started.
    #[must_use]
    pub fn start_reason(self, reason: StartReason) -> Scm {
        Scm { start_reason: Some(reason), ..self }
    }

    /// How long a shutdown of the system waits for the service.
    #[must_use]
    pub fn time_to_end(self, time: Duration) -> Scm {
        Scm { time_to_end: Some(time), ..self }
    }

    /// Starts a service that is installed under `name`, with start arguments.
    pub fn start(&self, name: &str, arguments: &[&str], service: impl Service) -> Instance {
        self.start_runner(Runner::new(name), name, arguments, service)
    }

    /// The same for a service with settings of its own.
    pub fn start_runner(
        &self,
        runner: Runner,
        name: &str,
        arguments: &[&str],
        service: impl Service,
    ) -> Instance {
        let (world, process) = self.process(name, arguments);
        let service = Arc::new(Mutex::new(Some(service)));
        let thread = thread::spawn(move || runner.run_under(&process, service));
        Instance::new(world, thread)
    }

    /// Starts a program that uses [`crate::dispatch()`].
    pub fn dispatch(
        &self,
        name: &str,
        arguments: &[&str],
        handler: impl Fn(Control) -> Answer + Send + Sync + 'static,
        main: impl FnOnce(Started) -> Exit + Send + 'static,
    ) -> Instance {
        let (world, process) = self.process(name, arguments);
        let name = name.to_owned();
        let thread = thread::spawn(move || dispatch_on(&process, &name, Box::new(handler), main));
        Instance::new(world, thread)
    }

    fn process(&self, name: &str, arguments: &[&str]) -> (Arc<World>, Process) {
        let world = Arc::new(World::new(self.clone()));
        let arguments = std::iter::once(name).chain(arguments.iter().copied()).map(OsString::from).collect();
        (world.clone(), Process { world, arguments })
    }
}

impl Default for Scm {
    fn default() -> Scm {
        Scm::new()
    }
}
