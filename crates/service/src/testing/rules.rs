//! The rules of the manager for what a service reports, by the numbers that it gives. They are checked apart from the code
//! that keeps to them.
//!
//! Sources: `SetServiceStatus`, `SERVICE_STATUS`, `HandlerEx` and "Service State Transitions" in Microsoft's documentation.

use crate::error::code;
use crate::scm::RawStatus;
use crate::state::{Accept, Exit, Pending, State, Status};
use std::time::Duration;

/// What a report is, after the one before; or which rule it breaks.
pub(super) fn check(before: &Status, report: &RawStatus) -> Result<Status, String> {
    let Some(state) = State::from_number(report.state) else {
        return Err(format!("there is no state {}", report.state));
    };
    let from = before.state();
    if from == State::Stopped {
        return Err(format!("it reported {state} after it had reported that it has stopped"));
    }
    if !from.may_become(state) {
        return Err(format!("it went from {from} to {state}"));
    }
    let accepted = Accept::from_bits(report.accepted);
    let takes_controls = !matches!(state, State::StartPending | State::StopPending | State::Stopped);
    if !takes_controls && accepted != Accept::NOTHING {
        return Err(format!("it accepts {accepted:?} while it is {state}"));
    }
    if state != State::Stopped && (report.win32_exit, report.specific_exit) != (0, 0) {
        return Err(format!("it has an exit code while it is {state}"));
    }
    if state.is_pending() {
        if report.wait_hint_ms == 0 {
            return Err(format!("it is {state} and says not when the next step is to be expected"));
        }
        let last = before.pending().filter(|_| from == state);
        if last.is_some_and(|last| report.checkpoint <= last.checkpoint) {
            return Err(format!("it is {state}, and its checkpoint did not move"));
        }
    } else if (report.checkpoint, report.wait_hint_ms) != (0, 0) {
        return Err(format!("it has a checkpoint or a wait hint while it is {state}"));
    }
    let pending = Pending {
        checkpoint: report.checkpoint,
        wait_hint: Duration::from_millis(u64::from(report.wait_hint_ms)),
    };
    Ok(match state {
        State::StartPending => Status::StartPending(pending),
        State::StopPending => Status::StopPending(pending),
        State::Running => Status::Running(accepted),
        State::ContinuePending => Status::ContinuePending(pending, accepted),
        State::PausePending => Status::PausePending(pending, accepted),
        State::Paused => Status::Paused(accepted),
        State::Stopped => Status::Stopped(exit(report)?),
    })
}

fn exit(report: &RawStatus) -> Result<Exit, String> {
    match (report.win32_exit, report.specific_exit) {
        (0, 0) => Ok(Exit::Success),
        (code::SPECIFIC, 0) => Err("it ended with 1066 and no number of its own".to_owned()),
        (code::SPECIFIC, number) => Ok(Exit::Specific(number)),
        (number, 0) => Ok(Exit::Win32(number)),
        (_, number) => Err(format!("it ended with its own number {number} but not with 1066")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTING: Status =
        Status::StartPending(Pending { checkpoint: 1, wait_hint: Duration::from_secs(2) });
    const RUNNING: Status = Status::Running(Accept::STOP);
    const STOPPED: Status = Status::Stopped(Exit::Success);

    fn raw(state: State) -> RawStatus {
        let pending = u32::from(state.is_pending());
        RawStatus {
            state: state.number(),
            accepted: 0,
            win32_exit: 0,
            specific_exit: 0,
            checkpoint: pending * 2,
            wait_hint_ms: pending * 1000,
        }
    }

    #[test]
    fn what_keeps_to_the_rules_is_understood() {
        assert_eq!(check(&STARTING, &RawStatus { accepted: 1, ..raw(State::Running) }), Ok(RUNNING));
        let failed = RawStatus { win32_exit: 1066, specific_exit: 7, ..raw(State::Stopped) };
        assert_eq!(check(&RUNNING, &failed), Ok(Status::Stopped(Exit::Specific(7))));
        assert!(check(&STARTING, &raw(State::StartPending)).is_ok());
    }

    #[test]
    fn each_broken_rule_is_named() {
        let broken = [
            (STOPPED, raw(State::Stopped), "it reported stopped after it had reported that it has stopped"),
            (RUNNING, raw(State::StartPending), "it went from running to starting"),
            (
                STARTING,
                RawStatus { accepted: 1, ..raw(State::StartPending) },
                "it accepts STOP while it is starting",
            ),
            (
                STARTING,
                RawStatus { checkpoint: 1, ..raw(State::StartPending) },
                "it is starting, and its checkpoint did not move",
            ),
            (
                STARTING,
                RawStatus { wait_hint_ms: 0, ..raw(State::StartPending) },
                "it is starting and says not when the next step is to be expected",
            ),
            (
                STARTING,
                RawStatus { checkpoint: 3, ..raw(State::Running) },
                "it has a checkpoint or a wait hint while it is running",
            ),
            (
                STARTING,
                RawStatus { win32_exit: 5, ..raw(State::Running) },
                "it has an exit code while it is running",
            ),
            (
                RUNNING,
                RawStatus { win32_exit: 1066, ..raw(State::Stopped) },
                "it ended with 1066 and no number of its own",
            ),
            (
                RUNNING,
                RawStatus { specific_exit: 3, ..raw(State::Stopped) },
                "it ended with its own number 3 but not with 1066",
            ),
            (RUNNING, RawStatus { state: 9, ..raw(State::Stopped) }, "there is no state 9"),
        ];
        for (before, report, words) in broken {
            assert_eq!(check(&before, &report), Err(words.to_owned()));
        }
    }
}
