//! An open service.
#![expect(unsafe_code, reason = "calls of the SCM")]

use std::thread;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    ERROR_DEPENDENT_SERVICES_RUNNING, ERROR_INVALID_SERVICE_CONTROL, ERROR_SERVICE_CANNOT_ACCEPT_CTRL,
    ERROR_SERVICE_REQUEST_TIMEOUT,
};
use windows_sys::Win32::System::Services::{
    ControlService, DeleteService, ENUM_SERVICE_STATUSW, EnumDependentServicesW, QueryServiceStatusEx,
    SC_STATUS_PROCESS_INFO, SERVICE_ACTIVE, SERVICE_CONTROL_CONTINUE, SERVICE_CONTROL_INTERROGATE,
    SERVICE_CONTROL_PARAMCHANGE, SERVICE_CONTROL_PAUSE, SERVICE_CONTROL_STOP, SERVICE_STATE_ALL,
    SERVICE_STATUS, SERVICE_STATUS_PROCESS, StartServiceW,
};

use super::sys::{Handle, failed, grown, last_error, text, wide};
use super::watch;
use crate::error::Error;
use crate::manager::status::{SPECIFIC, Status};
use crate::state::State;

/// How soon a control is tried again that the service does not take yet.
const AGAIN: Duration = Duration::from_millis(100);

/// An open service.
#[derive(Debug)]
pub struct Service {
    name: String,
    handle: Handle,
}

/// What a service can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Stop.
    Stop,
    /// Pause.
    Pause,
    /// Go on.
    Continue,
    /// Say how you are.
    Interrogate,
    /// Read the configuration again.
    ParamChange,
    /// One of the service's own, 128 to 255.
    User(u8),
}

impl Service {
    pub(super) fn new(name: String, handle: Handle) -> Self {
        Self { name, handle }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The name by which it was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is.
    ///
    /// # Errors
    /// When the SCM does not say.
    pub fn status(&self) -> Result<Status, Error> {
        let mut status = SERVICE_STATUS_PROCESS::default();
        let (size, mut needed) = (size_of_val(&status) as u32, 0);
        // SAFETY: `status` has the size that is said.
        let answer = unsafe {
            let into = (&raw mut status).cast();
            QueryServiceStatusEx(self.handle.raw(), SC_STATUS_PROCESS_INFO, into, size, &raw mut needed)
        };
        if answer == 0 {
            return Err(failed(&self.name, "look at", last_error()));
        }
        Ok(status_of(&status))
    }

    /// Asks the SCM to start it, and does not wait.
    ///
    /// # Errors
    /// When it cannot be started, or runs already.
    pub fn begin_start(&self, arguments: &[String]) -> Result<(), Error> {
        let wide: Vec<Vec<u16>> = arguments.iter().map(|a| wide(a)).collect();
        let pointers: Vec<*const u16> = wide.iter().map(|a| a.as_ptr()).collect();
        // SAFETY: as many texts as are said, each with a zero at its end.
        let answer = unsafe { StartServiceW(self.handle.raw(), pointers.len() as u32, pointers.as_ptr()) };
        if answer == 0 {
            return Err(failed(&self.name, "start", last_error()));
        }
        Ok(())
    }

    /// Starts it and waits until it runs.
    ///
    /// # Errors
    /// Also when it stops instead, or does not run after `timeout`.
    pub fn start(&self, arguments: &[String], timeout: Duration) -> Result<Status, Error> {
        self.begin_start(arguments)?;
        self.wait_for(State::Running, timeout)
    }

    /// Tells it something, and does not wait for what comes of it.
    ///
    /// # Errors
    /// When it does not run, or does not take this now.
    pub fn control(&self, control: Control) -> Result<(), Error> {
        let number = match control {
            Control::Stop => SERVICE_CONTROL_STOP,
            Control::Pause => SERVICE_CONTROL_PAUSE,
            Control::Continue => SERVICE_CONTROL_CONTINUE,
            Control::Interrogate => SERVICE_CONTROL_INTERROGATE,
            Control::ParamChange => SERVICE_CONTROL_PARAMCHANGE,
            Control::User(number) => u32::from(number),
        };
        let mut status = SERVICE_STATUS::default();
        // SAFETY: `status` is filled by the call.
        if unsafe { ControlService(self.handle.raw(), number, &raw mut status) } != 0 {
            return Ok(());
        }
        match last_error() {
            ERROR_SERVICE_CANNOT_ACCEPT_CTRL | ERROR_INVALID_SERVICE_CONTROL => {
                Err(Error::NotNow { name: self.name.clone(), state: self.status()?.state })
            }
            ERROR_DEPENDENT_SERVICES_RUNNING => {
                let dependents = self.dependents(true).unwrap_or_default();
                Err(Error::Needed { name: self.name.clone(), dependents })
            }
            number => Err(failed(&self.name, "tell", number)),
        }
    }

    /// Stops it and waits until it has. One that does not run is no error; one that is on its way up is told as soon as it
    /// can be.
    ///
    /// # Errors
    /// Also when others need it, or it still runs after `timeout`.
    pub fn stop(&self, timeout: Duration) -> Result<Status, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.control(Control::Stop) {
                Ok(()) | Err(Error::NotNow { state: State::StopPending | State::Stopped, .. }) => break,
                Err(Error::DoesNotRun(_)) => break,
                // Nobody answered for 30 s; it may have heard.
                Err(error) if error.code() == Some(ERROR_SERVICE_REQUEST_TIMEOUT) => break,
                Err(Error::NotNow { state, .. }) if state.is_pending() && Instant::now() < deadline => {
                    thread::sleep(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
        self.wait_for(State::Stopped, deadline.saturating_duration_since(Instant::now()))
    }

    /// Waits until it is in this state.
    ///
    /// # Errors
    /// When it stops instead, or is not so after `timeout`.
    pub fn wait_for(&self, wanted: State, timeout: Duration) -> Result<Status, Error> {
        let deadline = Instant::now() + timeout;
        let mut watch = watch::Watch::new(&self.handle);
        loop {
            watch.arm();
            let status = self.status()?;
            if status.state == wanted {
                return Ok(status);
            }
            if status.state == State::Stopped && wanted != State::Stopped {
                let why = status.why().unwrap_or_else(|| "it ended by itself, with success".to_owned());
                return Err(Error::Ended { name: self.name.clone(), wanted, why });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut { name: self.name.clone(), state: status.state, after: timeout });
            }
            watch.wait(left);
        }
    }

    /// The services that depend on it: those that run, or all.
    ///
    /// # Errors
    /// When the SCM does not say.
    pub fn dependents(&self, running: bool) -> Result<Vec<String>, Error> {
        let which = if running { SERVICE_ACTIVE } else { SERVICE_STATE_ALL };
        let mut count = 0;
        let buffer = grown(|buffer, size, needed| {
            // SAFETY: the buffer has the size that is said.
            unsafe {
                EnumDependentServicesW(self.handle.raw(), which, buffer.cast(), size, needed, &raw mut count)
            }
        });
        let buffer = buffer.map_err(|n| failed(&self.name, "look at", n))?;
        let first = buffer.as_ptr().cast::<ENUM_SERVICE_STATUSW>();
        // SAFETY: the call has filled so many, and their texts are in the buffer.
        Ok((0..count as usize).map(|i| unsafe { text((*first.add(i)).lpServiceName) }).collect())
    }

    /// Marks it for deletion: it goes when it has stopped and nobody holds it open any more.
    ///
    /// # Errors
    /// When that was done before, or may not be done.
    pub fn delete(&self) -> Result<(), Error> {
        // SAFETY: an open handle.
        match unsafe { DeleteService(self.handle.raw()) } {
            0 => Err(failed(&self.name, "delete", last_error())),
            _ => Ok(()),
        }
    }
}

pub(super) fn status_of(status: &SERVICE_STATUS_PROCESS) -> Status {
    let state = State::from_number(status.dwCurrentState).unwrap_or(State::Stopped);
    let specific = status.dwWin32ExitCode == SPECIFIC;
    Status {
        state,
        pid: Some(status.dwProcessId).filter(|pid| *pid != 0),
        exit_code: status.dwWin32ExitCode,
        own_exit_code: specific.then_some(status.dwServiceSpecificExitCode),
        checkpoint: status.dwCheckPoint,
        wait_hint: Duration::from_millis(u64::from(status.dwWaitHint)),
        accepts: status.dwControlsAccepted,
    }
}
