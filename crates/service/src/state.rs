//! The states of a service, and what may be said in each: a checkpoint exists in a pending state only, an exit at the end
//! only, and what is accepted while it runs only.

use std::fmt;
use std::ops::{BitOr, RangeInclusive};
use std::process::{ExitCode, Termination};
use std::time::Duration;

use crate::control::UserCode;
use crate::error::code;

/// Where a service is (`SERVICE_STATUS.dwCurrentState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It does not run.
    Stopped,
    /// It is on its way to run; it takes no controls.
    StartPending,
    /// It is on its way to stop; it takes no controls.
    StopPending,
    /// It runs.
    Running,
    /// It is on its way from `Paused` to `Running`.
    ContinuePending,
    /// It is on its way from `Running` to `Paused`.
    PausePending,
    /// It is there and does nothing.
    Paused,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [State; 7] = [
        State::Stopped,
        State::StartPending,
        State::StopPending,
        State::Running,
        State::ContinuePending,
        State::PausePending,
        State::Paused,
    ];

    /// Whether the service is on its way somewhere, and so has a checkpoint.
    #[must_use]
    pub fn is_pending(self) -> bool {
        match self {
            State::StartPending | State::StopPending | State::ContinuePending | State::PausePending => true,
            State::Stopped | State::Running | State::Paused => false,
        }
    }

    /// Whether a service that is in this state may be in `next` after it; a pending state may follow itself, by progress.
    #[must_use]
    pub fn may_become(self, next: State) -> bool {
        match self {
            State::Stopped => false,
            State::StopPending => matches!(next, State::StopPending | State::Stopped),
            State::StartPending => {
                matches!(next, State::StartPending | State::Running | State::StopPending | State::Stopped)
            }
            State::Running => matches!(
                next,
                State::Running | State::PausePending | State::Paused | State::StopPending | State::Stopped
            ),
            State::PausePending => matches!(
                next,
                State::PausePending | State::Paused | State::Running | State::StopPending | State::Stopped
            ),
            State::Paused => matches!(
                next,
                State::Paused | State::ContinuePending | State::Running | State::StopPending | State::Stopped
            ),
            State::ContinuePending => matches!(
                next,
                State::ContinuePending | State::Running | State::Paused | State::StopPending | State::Stopped
            ),
        }
    }

    /// `SERVICE_STOPPED` = 1 to `SERVICE_PAUSED` = 7.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            State::Stopped => 1,
            State::StartPending => 2,
            State::StopPending => 3,
            State::Running => 4,
            State::ContinuePending => 5,
            State::PausePending => 6,
            State::Paused => 7,
        }
    }

    /// The state with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<State> {
        State::ALL.into_iter().find(|state| state.number() == number)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Stopped => "stopped",
            State::StartPending => "starting",
            State::StopPending => "stopping",
            State::Running => "running",
            State::ContinuePending => "continuing",
            State::PausePending => "pausing",
            State::Paused => "paused",
        })
    }
}

/// How far a pending state has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Grows with each step that was really made; the manager takes one that stands still for a hang.
    pub checkpoint: u32,
    /// When the next step is to be expected.
    pub wait_hint: Duration,
}

/// What a service has told its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It starts, and takes no controls.
    StartPending(Pending),
    /// It runs, and accepts these.
    Running(Accept),
    /// It is about to pause, and accepts these meanwhile.
    PausePending(Pending, Accept),
    /// It pauses, and accepts these.
    Paused(Accept),
    /// It is about to run again, and accepts these meanwhile.
    ContinuePending(Pending, Accept),
    /// It stops, and takes no controls.
    StopPending(Pending),
    /// It has ended.
    Stopped(Exit),
}

impl Status {
    /// The state without what belongs to it.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Status::StartPending(_) => State::StartPending,
            Status::Running(_) => State::Running,
            Status::PausePending(..) => State::PausePending,
            Status::Paused(_) => State::Paused,
            Status::ContinuePending(..) => State::ContinuePending,
            Status::StopPending(_) => State::StopPending,
            Status::Stopped(_) => State::Stopped,
        }
    }

    /// The checkpoint and its wait hint, in a pending state.
    #[must_use]
    pub fn pending(&self) -> Option<Pending> {
        match self {
            Status::StartPending(pending)
            | Status::PausePending(pending, _)
            | Status::ContinuePending(pending, _)
            | Status::StopPending(pending) => Some(*pending),
            Status::Running(_) | Status::Paused(_) | Status::Stopped(_) => None,
        }
    }

    /// The controls that are accepted now.
    #[must_use]
    pub fn accepted(&self) -> Accept {
        match self {
            Status::Running(accept)
            | Status::Paused(accept)
            | Status::PausePending(_, accept)
            | Status::ContinuePending(_, accept) => *accept,
            Status::StartPending(_) | Status::StopPending(_) | Status::Stopped(_) => Accept::NOTHING,
        }
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Status::Stopped(exit) => Some(*exit),
            Status::StartPending(_)
            | Status::Running(_)
            | Status::PausePending(..)
            | Status::Paused(_)
            | Status::ContinuePending(..)
            | Status::StopPending(_) => None,
        }
    }
}

/// The controls that a service wants (`SERVICE_STATUS.dwControlsAccepted`, and which user-defined ones): a set, put together
/// with `|`. What is not in it never arrives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    bits: u32,
    /// Bit n is the user-defined control 128 + n.
    user: u128,
}

impl Accept {
    /// No control at all, and so no stop either.
    pub const NOTHING: Accept = Accept::of(0);
    /// To be stopped.
    pub const STOP: Accept = Accept::of(0x1);
    /// To be paused and continued.
    pub const PAUSE_CONTINUE: Accept = Accept::of(0x2);
    /// To be told that the system shuts down: there are some 5 to 20 s left. With `PRESHUTDOWN` this one does not come.
    pub const SHUTDOWN: Accept = Accept::of(0x4);
    /// To be told that its parameters have changed: a reload.
    pub const PARAM_CHANGE: Accept = Accept::of(0x8);
    /// Changes of network bindings.
    pub const NET_BIND_CHANGE: Accept = Accept::of(0x10);
    /// Changes of the hardware profile (docking, for one).
    pub const HARDWARE_PROFILE_CHANGE: Accept = Accept::of(0x20);
    /// Changes of power: battery, suspend, resume.
    pub const POWER_EVENT: Accept = Accept::of(0x40);
    /// Log on, log off, lock, unlock, connect and disconnect of sessions.
    pub const SESSION_CHANGE: Accept = Accept::of(0x80);
    /// To be told before the shutdown begins, with a time limit that the installation sets; the system waits for it.
    pub const PRESHUTDOWN: Accept = Accept::of(0x100);
    /// To be told that the system's time was set.
    pub const TIME_CHANGE: Accept = Accept::of(0x200);
    /// To be told of its trigger's events also while it runs.
    pub const TRIGGER_EVENT: Accept = Accept::of(0x400);
    /// To be told that a user logged off; of services for a user.
    pub const USER_LOGOFF: Accept = Accept::of(0x800);
    /// To be told that this process' session is low on resources.
    pub const LOW_RESOURCES: Accept = Accept::of(0x2000);
    /// To be told that the system is low on resources.
    pub const SYSTEM_LOW_RESOURCES: Accept = Accept::of(0x4000);
    /// `STOP` and `SHUTDOWN`, which most services want and no more.
    pub const STOP_AND_SHUTDOWN: Accept = Accept::of(0x5);

    const fn of(bits: u32) -> Accept {
        Accept { bits, user: 0 }
    }

    /// One user-defined control. Any local user may send those, so let none of them do harm, or give the service a security
    /// descriptor.
    #[must_use]
    pub const fn user(code: UserCode) -> Accept {
        Accept { bits: 0, user: 1 << (code.number() - UserCode::FIRST) }
    }

    /// All user-defined controls.
    pub const ANY_USER: Accept = Accept { bits: 0, user: u128::MAX };

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn contains(self, other: Accept) -> bool {
        self.bits & other.bits == other.bits && self.user & other.user == other.user
    }

    /// What both have.
    #[must_use]
    pub const fn and(self, other: Accept) -> Accept {
        Accept { bits: self.bits & other.bits, user: self.user & other.user }
    }

    /// As `SERVICE_STATUS` has it; it knows nothing of user-defined controls.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// From `SERVICE_STATUS`.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Accept {
        Accept::of(bits)
    }

    /// What may still come while the service is about to pause or to continue: the end, and nothing else.
    pub(crate) const fn on_the_way(self) -> Accept {
        self.and(Accept::of(Accept::STOP.bits | Accept::SHUTDOWN.bits | Accept::PRESHUTDOWN.bits))
    }
}

impl BitOr for Accept {
    type Output = Accept;

    fn bitor(self, other: Accept) -> Accept {
        Accept { bits: self.bits | other.bits, user: self.user | other.user }
    }
}

impl Default for Accept {
    fn default() -> Accept {
        Accept::STOP_AND_SHUTDOWN
    }
}

impl fmt::Debug for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Accept, &str); 14] = [
            (Accept::STOP, "STOP"),
            (Accept::PAUSE_CONTINUE, "PAUSE_CONTINUE"),
            (Accept::SHUTDOWN, "SHUTDOWN"),
            (Accept::PARAM_CHANGE, "PARAM_CHANGE"),
            (Accept::NET_BIND_CHANGE, "NET_BIND_CHANGE"),
            (Accept::HARDWARE_PROFILE_CHANGE, "HARDWARE_PROFILE_CHANGE"),
            (Accept::POWER_EVENT, "POWER_EVENT"),
            (Accept::SESSION_CHANGE, "SESSION_CHANGE"),
            (Accept::PRESHUTDOWN, "PRESHUTDOWN"),
            (Accept::TIME_CHANGE, "TIME_CHANGE"),
            (Accept::TRIGGER_EVENT, "TRIGGER_EVENT"),
            (Accept::USER_LOGOFF, "USER_LOGOFF"),
            (Accept::LOW_RESOURCES, "LOW_RESOURCES"),
            (Accept::SYSTEM_LOW_RESOURCES, "SYSTEM_LOW_RESOURCES"),
        ];
        let mut words: Vec<String> =
            NAMES.iter().filter(|(one, _)| self.contains(*one)).map(|(_, name)| (*name).to_owned()).collect();
        let known = NAMES.iter().fold(0, |bits, (one, _)| bits | one.bits);
        if self.bits & !known != 0 {
            words.push(format!("{:#x}", self.bits & !known));
        }
        match self.user {
            0 => {}
            u128::MAX => words.push("ANY_USER".to_owned()),
            some => {
                let codes = UserCode::ALL.filter(|code| some >> (code - UserCode::FIRST) & 1 == 1);
                words.extend(codes.map(|code| format!("USER({code})")));
            }
        }
        if words.is_empty() {
            words.push("NOTHING".to_owned());
        }
        f.write_str(&words.join(" | "))
    }
}

impl UserCode {
    const ALL: RangeInclusive<u8> = UserCode::FIRST..=UserCode::LAST;
}

/// How a service has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exit {
    /// As it should.
    #[default]
    Success,
    /// With an error of the system's numbering (`dwWin32ExitCode`).
    Win32(u32),
    /// With a number of the service's own: error 1066 and `dwServiceSpecificExitCode`.
    Specific(u32),
}

impl Exit {
    /// What a panic ends with: 1064, `ERROR_EXCEPTION_IN_SERVICE`.
    pub const PANIC: Exit = Exit::Win32(code::PANICKED);

    /// Whether it ended as it should; zero is no error, whatever its kind.
    #[must_use]
    pub fn is_success(self) -> bool {
        match self {
            Exit::Success => true,
            Exit::Win32(number) | Exit::Specific(number) => number == 0,
        }
    }

    /// The exit code of the process, outside of the service control manager: the number itself where it is one of 0 to 255,
    /// as they are on Linux, otherwise 1.
    #[must_use]
    pub fn process_code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Win32(number) | Exit::Specific(number) => u8::try_from(number).unwrap_or(1),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Success => f.write_str("success"),
            Exit::Win32(number) => write!(f, "error {number}"),
            Exit::Specific(number) => write!(f, "exit code {number}"),
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.process_code())
    }
}

/// Why the manager has started the service (`SERVICE_START_REASON`); a set, since more than one reason may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartReason(u32);

impl StartReason {
    /// Somebody asked for it.
    pub const DEMAND: StartReason = StartReason(1);
    /// The system has come up.
    pub const AUTO: StartReason = StartReason(2);
    /// One of its triggers.
    pub const TRIGGER: StartReason = StartReason(4);
    /// The manager's own recovery, after a failure.
    pub const RESTART_ON_FAILURE: StartReason = StartReason(8);
    /// The system came up a while ago.
    pub const DELAYED_AUTO: StartReason = StartReason(16);

    /// By the system's number.
    #[must_use]
    pub const fn from_bits(bits: u32) -> StartReason {
        StartReason(bits)
    }

    /// Whether this reason is among them.
    #[must_use]
    pub const fn contains(self, other: StartReason) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_stops_or_has_stopped_never_runs_again() {
        for next in State::ALL {
            assert!(!State::Stopped.may_become(next), "{next}");
            let is_end = matches!(next, State::StopPending | State::Stopped);
            assert_eq!(State::StopPending.may_become(next), is_end, "{next}");
            assert!(next == State::Stopped || next.may_become(State::Stopped), "from {next}");
        }
    }

    #[test]
    fn a_service_that_has_started_never_starts_again() {
        for state in State::ALL {
            assert_eq!(state.may_become(State::StartPending), state == State::StartPending, "{state}");
        }
    }

    #[test]
    fn what_is_accepted_reads_as_it_is_written() {
        let seven = UserCode::new(207).unwrap();
        let some = Accept::STOP | Accept::TIME_CHANGE | Accept::user(seven);
        assert_eq!(format!("{some:?}"), "STOP | TIME_CHANGE | USER(207)");
        assert_eq!(format!("{:?}", Accept::ANY_USER), "ANY_USER");
        assert_eq!(format!("{:?}", Accept::NOTHING), "NOTHING");
        assert_eq!(format!("{:?}", Accept::from_bits(0x8001)), "STOP | 0x8000");
        assert!(some.contains(Accept::user(seven)) && !some.contains(Accept::ANY_USER));
        assert!(!some.contains(Accept::STOP_AND_SHUTDOWN));
        assert_eq!((some | Accept::PAUSE_CONTINUE).on_the_way(), Accept::STOP);
    }

    #[test]
    fn a_number_too_large_for_an_exit_code_is_still_a_failure() {
        assert_eq!(Exit::Specific(256).process_code(), 1);
        assert_eq!(Exit::Specific(42).process_code(), 42);
        assert_eq!(Exit::PANIC.process_code(), 1);
        assert!(Exit::Win32(0).is_success() && !Exit::PANIC.is_success());
    }
}
