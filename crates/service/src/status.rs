//! Tells the manager where the service is, and keeps to the manager's rules: checkpoints grow, nothing is accepted on the way
//! up or down, nothing follows `Stopped`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::scm::{Link, RawStatus};
use crate::state::{Accept, Exit, Pending, StartReason, State, Status};

/// A service's way to tell its state, usable from every thread.
///
/// Each call that names a pending state is one step of progress: it moves the checkpoint. So call it when something was really
/// done, and never by a clock. `Stopped` is reported by the crate, once, when the service's main function has returned.
#[derive(Clone)]
pub struct StatusHandle(Arc<Inner>);

struct Inner {
    link: Arc<dyn Link>,
    /// Held while the manager is told, so that it hears of states in their order.
    now: Mutex<Status>,
}

impl StatusHandle {
    /// The manager itself takes a service that it starts to be here: no step made, and 2 s until the first.
    pub(crate) fn new(link: Arc<dyn Link>) -> StatusHandle {
        let first = Status::StartPending(Pending { checkpoint: 0, wait_hint: Duration::from_secs(2) });
        StatusHandle(Arc::new(Inner { link, now: Mutex::new(first) }))
    }

    /// What was told last.
    #[must_use]
    pub fn status(&self) -> Status {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state that was told last.
    #[must_use]
    pub fn state(&self) -> State {
        self.status().state()
    }

    /// The service starts, has made a step, and will have made the next within `wait_hint`.
    ///
    /// # Errors
    /// When it has started, or the manager does not listen.
    pub fn starting(&self, wait_hint: Duration) -> Result<(), Error> {
        self.step(State::StartPending, wait_hint, Status::StartPending)
    }

    /// The service runs.
    ///
    /// # Errors
    /// When it stops, or the manager does not listen.
    pub fn running(&self, accept: Accept) -> Result<(), Error> {
        self.become_(State::Running, |_| Status::Running(accept))
    }

    /// The service is about to pause, and will have made the next step within `wait_hint`; of `accept`, what ends it may
    /// come meanwhile.
    ///
    /// # Errors
    /// When it does not run, or the manager does not listen.
    pub fn pausing(&self, wait_hint: Duration, accept: Accept) -> Result<(), Error> {
        self.step(State::PausePending, wait_hint, |pending| {
            Status::PausePending(pending, accept.on_the_way())
        })
    }

    /// The service pauses.
    ///
    /// # Errors
    /// When it stops, or the manager does not listen.
    pub fn paused(&self, accept: Accept) -> Result<(), Error> {
        self.become_(State::Paused, |_| Status::Paused(accept))
    }

    /// The service is about to run again, and will have made the next step within `wait_hint`; of `accept`, what ends it
    /// may come meanwhile.
    ///
    /// # Errors
    /// When it does not pause, or the manager does not listen.
    pub fn continuing(&self, wait_hint: Duration, accept: Accept) -> Result<(), Error> {
        self.step(State::ContinuePending, wait_hint, |pending| {
            Status::ContinuePending(pending, accept.on_the_way())
        })
    }

    /// The service stops, has made a step, and will have made the next within `wait_hint`.
    ///
    /// # Errors
    /// When it has stopped, or the manager does not listen.
    pub fn stopping(&self, wait_hint: Duration) -> Result<(), Error> {
        self.step(State::StopPending, wait_hint, Status::StopPending)
    }

    /// The system's handle (`SERVICE_STATUS_HANDLE`), as it is wanted by `RegisterPowerSettingNotification` and
    /// `RegisterDeviceNotification`; `None` where no service control manager is.
    #[must_use]
    pub fn raw_handle(&self) -> Option<usize> {
        self.0.link.raw_handle()
    }

    /// Why the service was started, where the manager says it.
    #[must_use]
    pub fn start_reason(&self) -> Option<StartReason> {
        self.0.link.start_reason()
    }

    /// The service has ended. Nothing may be done afterwards that matters: the process may be gone at any moment.
    pub(crate) fn stopped(&self, exit: Exit) -> Result<(), Error> {
        self.become_(State::Stopped, |_| Status::Stopped(exit))
    }

    pub(crate) fn link(&self) -> &dyn Link {
        self.0.link.as_ref()
    }

    /// Tells the present state again: a reload that has ended.
    pub(crate) fn again(&self) -> Result<(), Error> {
        let now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        match *now {
            Status::Running(_) | Status::Paused(_) => self.0.link.report(RawStatus::from(&*now)),
            // Told again, a pending state would claim progress.
            Status::StartPending(_)
            | Status::PausePending(..)
            | Status::ContinuePending(..)
            | Status::StopPending(_)
            | Status::Stopped(_) => Ok(()),
        }
    }

    fn step(
        &self,
        to: State,
        wait_hint: Duration,
        make: impl FnOnce(Pending) -> Status,
    ) -> Result<(), Error> {
        self.become_(to, |before| {
            let last =
                before.pending().filter(|_| before.state() == to).map_or(0, |pending| pending.checkpoint);
            make(Pending { checkpoint: last.saturating_add(1), wait_hint })
        })
    }

    fn become_(&self, to: State, make: impl FnOnce(&Status) -> Status) -> Result<(), Error> {
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        let from = now.state();
        if !from.may_become(to) {
            return Err(Error::Transition { from, to });
        }
        *now = make(&now);
        self.0.link.report(RawStatus::from(&*now))
    }
}

impl std::fmt::Debug for StatusHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StatusHandle").field(&self.status()).finish()
    }
}
