//! What a service manager answers when it does not do what was asked.

use std::io;
use std::time::Duration;

use super::definition::Invalid;
use crate::state::State;

/// Each names the service and says what is so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// The caller may not do this.
    #[error("{0}: access is denied")]
    Denied(String),
    /// This host has no such service manager.
    #[error("{0}")]
    NoManager(String),
    /// The system said no.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// A tool of the system said no.
    #[error("{doing}: {said}")]
    Refused {
        /// What was tried.
        doing: String,
        /// Its words.
        said: String,
    },
}

fn needed(dependents: &[String]) -> String {
    match dependents {
        [] => "a service that runs depends".to_owned(),
        [one] => format!("{one} depends"),
        more => format!("{} depend", more.join(", ")),
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
        let late =
            Error::TimedOut { name: "db".into(), state: State::StopPending, after: Duration::from_secs(30) };
        assert_eq!(late.to_string(), "the service `db` is still stopping after 30 s");
    }
}
