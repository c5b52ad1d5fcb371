//! Who waits without a thread: at most one waker for each future.

use std::task::{Context, Waker};

#[derive(Debug, Default)]
pub(crate) struct Wakers(Vec<(u64, Waker)>);

impl Wakers {
    /// The future with this number is to be woken, and by its latest waker.
    pub(crate) fn keep(&mut self, number: u64, context: &Context<'_>) {
        match self.0.iter_mut().find(|(whose, _)| *whose == number) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => self.0.push((number, context.waker().clone())),
        }
    }

    /// The future with this number is gone.
    pub(crate) fn forget(&mut self, number: u64) {
        self.0.retain(|(whose, _)| *whose != number);
    }

    /// All of them, to be woken when no lock is held: what a waker does is its executor's business.
    #[must_use]
    pub(crate) fn take(&mut self) -> Wakers {
        std::mem::take(self)
    }

    pub(crate) fn wake(self) {
        for (_, waker) in self.0 {
            waker.wake();
        }
    }
}
