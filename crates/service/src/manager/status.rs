//! How a service is, in the words of the SCM, which systemd's fit into.

use std::time::Duration;

use crate::state::State;

/// What the service manager knows of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// See [`State`].
    pub state: State,
    /// Its process, while it has one.
    pub pid: Option<u32>,
    /// Why it is stopped; 0 is well. On Windows an error of the system; on Linux the exit code, or 128 + the signal.
    pub exit_code: u32,
    /// On Windows, the service's own exit code, with 1066 (`ERROR_SERVICE_SPECIFIC_ERROR`) as `exit_code`.
    pub own_exit_code: Option<u32>,
    /// On Windows, how far a pending state is; it grows.
    pub checkpoint: u32,
    /// On Windows, how long the next step of a pending state may take.
    pub wait_hint: Duration,
    /// On Windows, the controls that it takes now (`SERVICE_ACCEPT_…`).
    pub accepts: u32,
}

/// `ERROR_SERVICE_SPECIFIC_ERROR`.
#[cfg(windows)]
pub(crate) const SPECIFIC: u32 = 1066;
/// `ERROR_PROCESS_ABORTED`.
const ABORTED: u32 = 1067;
/// `ERROR_SERVICE_NEVER_STARTED`.
const NEVER_STARTED: u32 = 1077;

impl Status {
    /// In a state, with nothing else known.
    #[must_use]
    pub fn of(state: State) -> Self {
        let wait_hint = Duration::ZERO;
        Self { state, pid: None, exit_code: 0, own_exit_code: None, checkpoint: 0, wait_hint, accepts: 0 }
    }

    /// Why it is stopped, if it ended badly.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match (self.exit_code, self.own_exit_code) {
            (0 | NEVER_STARTED, _) => None,
            (_, Some(own)) => Some(format!("it ended with code {own}")),
            (ABORTED, None) => Some("its process ended without a word (1067)".to_owned()),
            (code, None) => Some(format!("it ended with error {code}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_a_reason_unless_it_was_good() {
        let why = |exit_code, own_exit_code| {
            Status { exit_code, own_exit_code, ..Status::of(State::Stopped) }.why()
        };
        assert_eq!(why(0, None), None);
        assert_eq!(why(NEVER_STARTED, None), None);
        assert_eq!(why(1066, Some(3)).unwrap(), "it ended with code 3");
        assert!(why(ABORTED, None).unwrap().contains("1067"));
        assert_eq!(why(5, None).unwrap(), "it ended with error 5");
    }
}
