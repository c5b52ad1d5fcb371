//! Between the manager's handler, which must return at once, and the thread that acts on what has come.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::control::{Answer, Control};
use crate::error::code;
use crate::state::Accept;
use crate::token::Cause;

/// What has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A control of the manager, or what stands for one.
    Control(Control),
    /// The service is to end.
    End(Cause),
}

/// What may wait to be taken. A service that leaves so much lying does not take anything any more, and the manager's caller is
/// told that it is busy; the end always finds its place.
const MOST: usize = 256;

#[derive(Default)]
pub(crate) struct Inbox {
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    incoming: VecDeque<Incoming>,
    /// What has come and was not yet taken by the service, here or in its queue.
    untaken: usize,
    accept: Accept,
    ending: bool,
    closed: bool,
}

impl Inbox {
    /// The control handler: takes what came, and answers; nothing else.
    pub(crate) fn post(&self, control: Control) -> Answer {
        let mut inside = self.inside();
        let end = control.is_end();
        if inside.ending && !end {
            // The manager gives a trigger's event again after this answer.
            let again = control == Control::Trigger;
            return Answer::Refused(if again { code::STOPPING } else { code::NOT_NOW });
        }
        if !end && !inside.accept.contains(control.needs()) {
            return Answer::Unknown;
        }
        if !end && inside.untaken >= MOST {
            return Answer::Refused(code::BUSY);
        }
        inside.ending |= end;
        inside.untaken += usize::from(!end);
        inside.incoming.push_back(Incoming::Control(control));
        drop(inside);
        self.changed.notify_one();
        Answer::Taken
    }

    /// What the service wants from now on.
    pub(crate) fn accept(&self, accept: Accept) {
        self.inside().accept = accept;
    }

    pub(crate) fn accepted(&self) -> Accept {
        self.inside().accept
    }

    /// One that had come was taken, or dropped.
    pub(crate) fn taken(&self) {
        let mut inside = self.inside();
        inside.untaken = inside.untaken.saturating_sub(1);
    }

    /// Waits for the next; `None` after the end.
    pub(crate) fn next(&self) -> Option<Incoming> {
        let inside = self.inside();
        let waited = self.changed.wait_while(inside, |inside| inside.incoming.is_empty() && !inside.closed);
        let mut inside = waited.unwrap_or_else(PoisonError::into_inner);
        inside.incoming.pop_front()
    }

    /// The service has ended: its thread may go.
    pub(crate) fn close(&self) {
        self.inside().closed = true;
        self.changed.notify_all();
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_accepted_is_taken_and_a_stop_always() {
        let inbox = Inbox::default();
        inbox.accept(Accept::STOP | Accept::TRIGGER_EVENT);
        assert_eq!(inbox.post(Control::Pause), Answer::Unknown);
        assert_eq!(inbox.post(Control::Trigger), Answer::Taken);
        assert_eq!(inbox.post(Control::Stop), Answer::Taken);
        assert_eq!(inbox.post(Control::Trigger), Answer::Refused(code::STOPPING));
        assert_eq!(inbox.next(), Some(Incoming::Control(Control::Trigger)));
        assert_eq!(inbox.next(), Some(Incoming::Control(Control::Stop)));
        inbox.close();
        assert_eq!(inbox.next(), None);
    }

    #[test]
    fn a_service_that_takes_nothing_is_busy_and_can_still_be_stopped() {
        let inbox = Inbox::default();
        inbox.accept(Accept::PARAM_CHANGE);
        for _ in 0..MOST {
            assert_eq!(inbox.post(Control::ParamChange), Answer::Taken);
        }
        assert_eq!(inbox.post(Control::ParamChange), Answer::Refused(code::BUSY));
        inbox.taken();
        assert_eq!(inbox.post(Control::ParamChange), Answer::Taken);
        assert_eq!(inbox.post(Control::Stop), Answer::Taken);
    }
}
