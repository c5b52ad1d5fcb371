//! Waits for what is to become so.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// A level that is not reached by then is a failure. Long, since many tests share few processors and Wine is slow to make
/// a process.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// From one look to the next.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Waits until there is something.
#[track_caller]
pub fn wait_some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_some_within(what, DEADLINE, look)
}

/// The same with a deadline of its own.
#[track_caller]
pub fn wait_some_within<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < within, "waited {within:?} for {what}");
        sleep(LOOK);
    }
}

/// Waits until this is so.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    wait_some(what, || so().then_some(()));
}
