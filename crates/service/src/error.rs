//! What can go wrong between a program and the manager of its services.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use crate::manager::Invalid;
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
    /// The definition is wrong; nothing was asked of the system.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is none of this name.
    #[error("there is no service `{0}` on this host")]
    NoSuchService(String),
    /// Another of this name is there, and was to be made.
    #[error("there is a service `{0}` already")]
    Exists(String),
    /// It is deleted, and goes when it has stopped and nobody holds it open any more.
    #[error("the service `{0}` is being deleted; a window that shows services may hold it")]
    BeingDeleted(String),
    /// It runs already.
    #[error("the service `{0}` runs already")]
    RunsAlready(String),
    /// It does not run.
    #[error("the service `{0}` does not run")]
    DoesNotRun(String),
    /// It takes no such control now.
    #[error("the service `{name}` is {state} and cannot be told that now")]
    NotNow {
        /// The service.
        name: String,
        /// How it is.
        state: State,
    },
    /// Others need it.
    #[error("the service `{name}` cannot be stopped: {} on it", needed(.dependents))]
    Needed {
        /// The service.
        name: String,
        /// Who runs and depends on it.
        dependents: Vec<String>,
    },
    /// It is disabled.
    #[error("the service `{0}` is disabled, or something it depends on is")]
    Disabled(String),
    /// It stopped instead of coming up.
    #[error("the service `{name}` stopped while it was to be {wanted}: {why}")]
    Ended {
        /// The service.
        name: String,
        /// What it was to be.
        wanted: State,
        /// Its exit code in words.
        why: String,
    },
    /// It was not so in time.
    #[error("the service `{name}` is still {state} after {} s", .after.as_secs_f64().round())]
    TimedOut {
        /// The service.
        name: String,
        /// How it is.
        state: State,
        /// How long it was waited for.
        after: Duration,
    },
    /// The caller may not do this; as it follows "could not".
    #[error("could not {0}: access is denied")]
    Denied(String),
    /// This host has no such service manager.
    #[error("{0}")]
    NoManager(String),
    /// A tool of the system refused, or keepwell did where it is not its own to do.
    #[error("{doing}: {said}")]
    Refused {
        /// What was tried.
        doing: String,
        /// Why not, in words.
        said: String,
    },
    /// The system refused a step.
    #[error("could not {step}: {}", told(.source))]
    System {
        /// What was to be done, as it follows "could not": `open the service "web"`.
        step: Cow<'static, str>,
        /// Why not. The number in it is of Win32 on Windows and in [`crate::testing`], of `errno(3)` elsewhere.
        source: io::Error,
    },
}

impl Error {
    /// A refused step by the system's number.
    pub fn system(step: impl Into<Cow<'static, str>>, code: u32) -> Error {
        Error::System { step: step.into(), source: io::Error::from_raw_os_error(code.cast_signed()) }
    }

    /// A refused step by what the system said: [`Error::Denied`] where the caller may not.
    pub(crate) fn of(step: impl Into<Cow<'static, str>>, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied(step.into().into_owned()),
            _ => Error::System { step: step.into(), source },
        }
    }

    /// The system's number, where the system has refused something.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        match self {
            Error::NotAService => Some(code::NOT_A_SERVICE),
            Error::AlreadyRan => Some(code::ALREADY_RUNNING),
            Error::System { source, .. } => source.raw_os_error().map(i32::cast_unsigned),
            Error::Transition { .. }
            | Error::NoEventLog
            | Error::Invalid(_)
            | Error::NoSuchService(_)
            | Error::Exists(_)
            | Error::BeingDeleted(_)
            | Error::RunsAlready(_)
            | Error::DoesNotRun(_)
            | Error::NotNow { .. }
            | Error::Needed { .. }
            | Error::Disabled(_)
            | Error::Ended { .. }
            | Error::TimedOut { .. }
            | Error::Denied(_)
            | Error::NoManager(_)
            | Error::Refused { .. } => None,
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

/// Its words, and its number where it has one.
fn told(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(number) => format!("{} (error {number})", words(number.cast_unsigned())),
        None => source.to_string(),
    }
}

fn needed(dependents: &[String]) -> String {
    match dependents {
        [] => "a service that runs depends".to_owned(),
        [one] => format!("{one} depends"),
        more => format!("{} depend", more.join(", ")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_read_as_sentences() {
        let dependents = vec!["a".to_owned(), "b".to_owned()];
        let needed = Error::Needed { name: "db".into(), dependents };
        assert_eq!(needed.to_string(), "the service `db` cannot be stopped: a, b depend on it");
        let denied = Error::of("read the file x", io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.to_string(), "could not read the file x: access is denied");
        let refused = Error::system("stop it", code::NOT_NOW);
        assert!(refused.to_string().starts_with("could not stop it: the service cannot take a control"));
        assert_eq!(refused.code(), Some(code::NOT_NOW));
        let late =
            Error::TimedOut { name: "db".into(), state: State::StopPending, after: Duration::from_secs(30) };
        assert_eq!(late.to_string(), "the service `db` is still stopping after 30 s");
    }
}
