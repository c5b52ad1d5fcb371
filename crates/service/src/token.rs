//! The wish that the service end, and until when. It can be asked, waited for by a thread, and awaited by any executor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::wakers::Wakers;

/// Why the service is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The manager was told to stop it: `sc stop`, services.msc, `systemctl stop` (SIGTERM).
    Stop,
    /// The system shuts down.
    Shutdown,
    /// The system will shut down, and waits for this service first.
    Preshutdown,
    /// Ctrl+C or Ctrl+Break in a terminal.
    Interrupt,
    /// The terminal was closed, or its user logged off.
    Hangup,
    /// The program itself: [`crate::Handle::stop`].
    Own,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Stop => "stopped by the manager",
            Cause::Shutdown => "the system shuts down",
            Cause::Preshutdown => "the system is about to shut down",
            Cause::Interrupt => "interrupted",
            Cause::Hangup => "the terminal was closed",
            Cause::Own => "stopped by itself",
        })
    }
}

/// The service is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub cause: Cause,
    /// When all must be over. The manager ends the process some time after it, or takes it to hang.
    pub deadline: Instant,
}

impl Stop {
    /// The time that is left.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Tells every part of a program that the service is to end. Clones are the same token; give one to each task.
///
/// ```
/// # use std::time::Duration;
/// fn work(stop: keepwell_service::StopToken) {
///     while !stop.is_stopping() {
///         // … a piece of work …
///         stop.wait_for(Duration::from_millis(50)); // and a break that ends early
/// #       break;
///     }
/// }
/// # work(keepwell_service::StopToken::new());
/// ```
///
/// It is a future too, of any executor: `token.await`, or `select!` on it beside the work.
pub struct StopToken {
    shared: Arc<Shared>,
    /// Whose waker is whose.
    number: u64,
}

struct Shared {
    inside: Mutex<Inside>,
    changed: Condvar,
    numbers: AtomicU64,
}

#[derive(Default)]
struct Inside {
    stop: Option<Stop>,
    /// At most one for each clone that was polled.
    wakers: Wakers,
}

impl StopToken {
    /// One that nothing stops but [`StopToken::stop`]; the service's own comes from its [`crate::Starting`].
    #[must_use]
    pub fn new() -> StopToken {
        let inside = Mutex::new(Inside::default());
        let shared = Shared { inside, changed: Condvar::new(), numbers: AtomicU64::new(1) };
        StopToken { shared: Arc::new(shared), number: 0 }
    }

    /// Whether the service is to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.get().is_some()
    }

    /// Why, and until when.
    #[must_use]
    pub fn get(&self) -> Option<Stop> {
        self.inside().stop
    }

    /// Waits until it is to end.
    #[must_use]
    pub fn wait(&self) -> Stop {
        let mut inside = self.inside();
        loop {
            if let Some(stop) = inside.stop {
                return stop;
            }
            inside = self.shared.changed.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until it is to end, and for this time at most.
    pub fn wait_for(&self, time: Duration) -> Option<Stop> {
        let inside = self.inside();
        let waited = self.shared.changed.wait_timeout_while(inside, time, |inside| inside.stop.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.stop
    }

    /// Ends it. The first cause stays; a deadline can only come nearer. Says whether this was the first time.
    pub fn stop(&self, stop: Stop) -> bool {
        let (first, wakers) = {
            let mut inside = self.inside();
            let first = inside.stop.is_none();
            let known = inside.stop.get_or_insert(stop);
            known.deadline = known.deadline.min(stop.deadline);
            (first, inside.wakers.take())
        };
        self.shared.changed.notify_all();
        // Outside of the lock: what a waker does is its executor's business.
        wakers.wake();
        first
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.shared.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for StopToken {
    fn default() -> StopToken {
        StopToken::new()
    }
}

impl Clone for StopToken {
    fn clone(&self) -> StopToken {
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        StopToken { shared: self.shared.clone(), number }
    }
}

impl Drop for StopToken {
    fn drop(&mut self) {
        let number = self.number;
        self.inside().wakers.forget(number);
    }
}

impl Future for StopToken {
    type Output = Stop;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Stop> {
        let number = self.number;
        let mut inside = self.inside();
        if let Some(stop) = inside.stop {
            return Poll::Ready(stop);
        }
        inside.wakers.keep(number, context);
        Poll::Pending
    }
}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopToken").field(&self.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};
    use std::thread;

    use super::*;

    fn in_a_minute(cause: Cause) -> Stop {
        Stop { cause, deadline: Instant::now() + Duration::from_secs(60) }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_thread_that_waits_is_woken() {
        let token = StopToken::new();
        let waiting = token.clone();
        let thread = thread::spawn(move || waiting.wait());
        assert_eq!(token.wait_for(Duration::from_millis(1)), None);
        let stop = in_a_minute(Cause::Stop);
        assert!(token.stop(stop));
        assert_eq!(thread.join().unwrap(), stop);
        assert_eq!(token.wait_for(Duration::from_secs(60)), Some(stop));
    }

    #[test]
    fn every_clone_that_was_polled_is_woken_once_and_none_that_is_gone() {
        let token = StopToken::new();
        let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::new(Count::default())).collect();
        let mut clones: Vec<StopToken> = counts.iter().map(|_| token.clone()).collect();
        for _twice in 0..2 {
            for (clone, count) in clones.iter_mut().zip(&counts) {
                let waker = Waker::from(count.clone());
                assert!(Pin::new(clone).poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        drop(clones.pop());
        let stop = in_a_minute(Cause::Interrupt);
        token.stop(stop);
        let woken: Vec<usize> = counts.iter().map(|count| count.0.load(Ordering::SeqCst)).collect();
        assert_eq!(woken, [1, 1, 0]);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut clones[0]).poll(&mut context), Poll::Ready(stop));
    }

    #[test]
    fn the_first_cause_stays_and_the_nearest_deadline_holds() {
        let token = StopToken::new();
        let stop = in_a_minute(Cause::Stop);
        token.stop(stop);
        let sooner = stop.deadline.checked_sub(Duration::from_secs(55)).unwrap();
        assert!(!token.stop(Stop { cause: Cause::Shutdown, deadline: sooner }));
        assert_eq!(token.get(), Some(Stop { cause: Cause::Stop, deadline: sooner }));
        token.stop(stop);
        assert_eq!(token.get().unwrap().deadline, sooner);
    }
}
