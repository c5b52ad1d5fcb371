//! How a service says that it has failed: with words for people and a number for the manager.

use std::error::Error as StdError;
use std::fmt;

use crate::state::Exit;

/// Why a service, or a phase of its shutdown, has failed. Every error becomes one by `?`, with exit code 1 of the service's
/// own; [`Failure::with`] gives it another.
pub struct Failure {
    exit: Exit,
    text: String,
}

impl Failure {
    /// In words, with exit code 1 of the service's own.
    pub fn new(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::Specific(1), text: text.into() }
    }

    /// The same with this exit.
    #[must_use]
    pub fn with(self, exit: Exit) -> Failure {
        Failure { exit, ..self }
    }

    /// What the manager is told.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// With all causes, which the first error's own text leaves out.
impl<E: StdError> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Failure::new(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.exit)
    }
}
