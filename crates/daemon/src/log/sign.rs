//! When a line that a check looks for came last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keepwell_core::Mono;

/// Written by the log path, read by a check.
#[derive(Debug)]
pub struct Sign {
    began: Mono,
    /// Nanoseconds from `began` on, and 1; 0: it never came.
    last: AtomicU64,
}

impl Sign {
    /// It is looked for from now on.
    #[must_use]
    pub fn new(now: Mono) -> Sign {
        Sign { began: now, last: AtomicU64::new(0) }
    }

    pub(super) fn came(&self, now: Mono) {
        let since = u64::try_from(now.since(self.began).as_nanos()).unwrap_or(u64::MAX - 1);
        self.last.store(since + 1, Ordering::Relaxed);
    }

    /// How long ago it came; `None`: never.
    #[must_use]
    pub fn age(&self, now: Mono) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.watched(now).saturating_sub(Duration::from_nanos(last)))
    }

    /// For how long it has been looked for.
    #[must_use]
    pub fn watched(&self, now: Mono) -> Duration {
        now.since(self.began)
    }
}
