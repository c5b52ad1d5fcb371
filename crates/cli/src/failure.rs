//! How a command ends badly: an exit code, what went wrong, and what to do about it.

use std::fmt;
use std::io;

pub(crate) use keepwell_os::in_words as io_words;
use keepwell_sdk::exit;
use keepwell_sdk::wire::Problem;

/// The result of a command's parts.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Printed on stderr by `main`; nothing else prints errors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// See `keepwell_sdk::exit`.
    pub(crate) code: i32,
    /// Names the thing, the place and the cause. Empty: all has been said already.
    pub(crate) text: String,
    /// The next step.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self { code: exit::FAILED, text: text.into(), hint: None }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: exit::USAGE, text: text.into(), hint: None }
    }

    pub(crate) fn not_running(text: impl Into<String>) -> Self {
        Self { code: exit::NOT_RUNNING, text: text.into(), hint: None }
    }

    pub(crate) fn timed_out(text: impl Into<String>) -> Self {
        Self { code: exit::TIMED_OUT, text: text.into(), hint: None }
    }

    /// Ends with this code and says no more.
    pub(crate) fn silent(code: i32) -> Self {
        Self { code, text: String::new(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What the guardian refused, with the exit code that fits the refusal.
    pub(crate) fn refused(problem: &Problem) -> Self {
        let code = match problem.code.as_str() {
            "unknown_service" | "unknown_incident" | "invalid" | "config" => exit::USAGE,
            _ => exit::FAILED,
        };
        Self { code, text: problem.message.clone(), hint: problem.hint.clone() }
    }

    /// Writing to stdout failed. A reader that went away (`| head`) has seen enough, which is no failure.
    pub(crate) fn writing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(exit::DONE),
            _ => Self::failed(format!("the output cannot be written: {}", io_words(error))),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(Failure::writing(&pipe), Failure::silent(exit::DONE));
        assert_eq!(Failure::writing(&io::Error::other("disk full")).code, exit::FAILED);
    }

    #[test]
    fn refusals_of_wrong_use_are_usage() {
        let problem = |code: &str| Problem { code: code.into(), message: "m".into(), hint: None };
        assert_eq!(Failure::refused(&problem("unknown_service")).code, exit::USAGE);
        assert_eq!(Failure::refused(&problem("forbidden")).code, exit::FAILED);
    }
}
