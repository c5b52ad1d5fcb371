//! What can go wrong between a program and the manager of its services.

use std::borrow::Cow;

use crate::state::State;

/// What a call of this crate failed with. What the system answered is kept as its number: [`Error::code`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody but the service control manager can start what was asked for, and it has not started this process. On
    /// Windows this is its own answer, error 1063; systems without it always give it.
    #[error("this process was not started by the service control manager (error 1063)")]
    NotAService,
    /// A process runs one service, once.
    #[error("this process has run its service already; start a new one (error 1056)")]
    AlreadyRan,
    /// A state that cannot follow the one before: nothing comes after `Stopped`, only `Stopped` after `StopPending`.
    #[error("a service that is {from} cannot become {to}")]
    Transition {
        /// What it is.
        from: State,
        /// What it was told to become.
        to: State,
    },
    /// Only Windows has one.
    #[error("this system has no event log")]
    NoEventLog,
    /// The system refused a step.
    #[error("could not {step}: {} (error {code})", words(*.code))]
    System {
        /// What was to be done, as it follows "could not": `open the service "web"`.
        step: Cow<'static, str>,
        /// The system's number: of Win32 on Windows and in [`crate::testing`], of `errno(3)` elsewhere.
        code: u32,
    },
}

impl Error {
    /// A refused step by the system's number.
    pub fn system(step: impl Into<Cow<'static, str>>, code: u32) -> Error {
        Error::System { step: step.into(), code }
    }

    /// The system's number, where the system has refused something.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Error::NotAService => Some(code::NOT_A_SERVICE),
            Error::AlreadyRan => Some(code::ALREADY_RUNNING),
            Error::System { code, .. } => Some(*code),
            Error::Transition { .. } | Error::NoEventLog => None,
        }
    }
}

/// The numbers of Win32 that this crate gives or understands.
pub mod code {
    /// `NO_ERROR`.
    pub const NONE: u32 = 0;
    /// `ERROR_CALL_NOT_IMPLEMENTED`: the handler's answer to a control that it does not know.
    pub const NOT_IMPLEMENTED: u32 = 120;
    /// `ERROR_BUSY`: the handler's answer when more has come than the service has taken.
    pub const BUSY: u32 = 170;
    /// `ERROR_INVALID_SERVICE_CONTROL`: the service does not accept it.
    pub const NOT_ACCEPTED: u32 = 1052;
    /// `ERROR_SERVICE_REQUEST_TIMEOUT`: no answer within 30 s.
    pub const NO_ANSWER: u32 = 1053;
    /// `ERROR_SERVICE_ALREADY_RUNNING`.
    pub const ALREADY_RUNNING: u32 = 1056;
    /// `ERROR_SERVICE_CANNOT_ACCEPT_CTRL`: not in the state that it is in.
    pub const NOT_NOW: u32 = 1061;
    /// `ERROR_SERVICE_NOT_ACTIVE`: it has not been started.
    pub const NOT_ACTIVE: u32 = 1062;
    /// `ERROR_FAILED_SERVICE_CONTROLLER_CONNECT`: the process was not started by the service control manager.
    pub const NOT_A_SERVICE: u32 = 1063;
    /// `ERROR_EXCEPTION_IN_SERVICE`: what a panic is to the manager.
    pub const PANICKED: u32 = 1064;
    /// `ERROR_SERVICE_SPECIFIC_ERROR`: the number is the service's own.
    pub const SPECIFIC: u32 = 1066;
    /// `ERROR_SHUTDOWN_IN_PROGRESS`: asks the manager to give a trigger event again later.
    pub const STOPPING: u32 = 1115;
}

/// The system's words for its number.
fn words(number: u32) -> Cow<'static, str> {
    Cow::Borrowed(match number {
        code::NOT_IMPLEMENTED => "the service does not know this control",
        code::BUSY => "the service has not taken what was sent before",
        code::NOT_ACCEPTED => "the service does not accept this control",
        code::NO_ANSWER => "the service did not answer in time",
        code::ALREADY_RUNNING => "it is running already",
        code::NOT_NOW => "the service cannot take a control in its present state",
        code::NOT_ACTIVE => "the service is not running",
        code::NOT_A_SERVICE => "the service control manager has not started this process",
        code::PANICKED => "the service panicked",
        code::SPECIFIC => "the service gave a number of its own",
        code::STOPPING => "the service is stopping",
        other => return Cow::Owned(system_words(other)),
    })
}

fn system_words(number: u32) -> String {
    let text = std::io::Error::from_raw_os_error(number.cast_signed()).to_string();
    // The standard library adds the number, which stands beside these words already.
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
