//! Work that comes now and then and may take its time, done in order by a thread that is there only while there is some: a
//! quiet guardian has no thread, and no stack, for what it does not do. It never keeps anybody waiting who brings work.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The thread stays for this long without work: a burst needs one thread, and a quiet guardian none.
const LINGER: Duration = Duration::from_secs(5);
/// None of the work is deep.
const STACK: usize = 256 << 10;

/// Where work of one kind is brought. Work that waits is done also when this is gone.
pub(crate) struct Errands<T>(Arc<Shared<T>>);

struct Shared<T> {
    name: &'static str,
    capacity: usize,
    linger: Duration,
    state: Mutex<State<T>>,
    given: Condvar,
    done: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    /// There is a thread, or there is one soon.
    staffed: bool,
    /// It has something in hand.
    busy: bool,
    /// How it is done; the thread has it while there is one.
    work: Option<Box<dyn FnMut(T) + Send>>,
}

impl<T: Send + 'static> Errands<T> {
    /// `name` is the thread's; beyond `capacity` nothing is taken.
    pub(crate) fn new(name: &'static str, capacity: usize, work: impl FnMut(T) + Send + 'static) -> Self {
        Self::lingering(LINGER, name, capacity, work)
    }

    fn lingering(
        linger: Duration,
        name: &'static str,
        capacity: usize,
        work: impl FnMut(T) + Send + 'static,
    ) -> Self {
        let state =
            State { waiting: VecDeque::new(), staffed: false, busy: false, work: Some(Box::new(work)) };
        let (state, given, done) = (Mutex::new(state), Condvar::new(), Condvar::new());
        Self(Arc::new(Shared { name, capacity, linger, state, given, done }))
    }

    /// Has it done. Never waits.
    ///
    /// # Errors
    /// Gives it back when too much waits already, or there can be no thread.
    pub(crate) fn give(&self, item: T) -> Result<(), T> {
        let mut state = self.0.lock();
        if state.waiting.len() >= self.0.capacity {
            return Err(item);
        }
        if !state.staffed {
            let shared = Arc::clone(&self.0);
            let thread = thread::Builder::new().name(self.0.name.into()).stack_size(STACK);
            if thread.spawn(move || shared.run()).is_err() {
                return Err(item);
            }
            state.staffed = true;
        }
        state.waiting.push_back(item);
        self.0.given.notify_one();
        Ok(())
    }

    /// Waits until all is done, so long at most.
    pub(crate) fn settle(&self, patience: Duration) {
        let unsettled = |s: &mut State<T>| s.busy || !s.waiting.is_empty();
        drop(self.0.done.wait_timeout_while(self.0.lock(), patience, unsettled));
    }
}

impl<T> Shared<T> {
    fn run(&self) {
        let mut state = self.lock();
        let Some(mut work) = state.work.take() else { return };
        loop {
            let waited = self.given.wait_timeout_while(state, self.linger, |s| s.waiting.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let Some(item) = state.waiting.pop_front() else { break };
            state.busy = true;
            drop(state);
            work(item);
            state = self.lock();
            state.busy = false;
            self.done.notify_all();
        }
        // Also the room that a burst has needed.
        state.waiting = VecDeque::new();
        state.work = Some(work);
        state.staffed = false;
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::ThreadId;

    /// Errands of numbers, and who did which.
    fn errands(linger: Duration) -> (Errands<u32>, Receiver<(u32, ThreadId)>) {
        let (sender, did) = channel();
        let work = move |n| sender.send((n, thread::current().id())).unwrap();
        (Errands::lingering(linger, "test", 100, work), did)
    }

    #[test]
    fn all_is_done_in_order_by_one_thread() {
        let (errands, did) = errands(LINGER);
        (0..100).for_each(|n| errands.give(n).unwrap());
        let all: Vec<_> = did.iter().take(100).collect();
        assert!(all.iter().map(|(n, _)| *n).eq(0..100));
        assert!(all.iter().all(|(_, by)| *by == all[0].1));
    }

    #[test]
    fn the_thread_goes_when_there_is_nothing_to_do_and_comes_with_the_next_work() {
        let (errands, did) = errands(Duration::ZERO);
        errands.give(1).unwrap();
        let (_, first) = did.recv().unwrap();
        while errands.0.lock().staffed {
            thread::yield_now();
        }
        errands.give(2).unwrap();
        let (n, second) = did.recv().unwrap();
        assert_eq!(n, 2);
        assert_ne!(first, second);
    }

    #[test]
    fn what_finds_no_room_comes_back_and_what_waits_is_done_without_the_giver() {
        let (started, entered) = channel();
        let (open, gate) = channel::<()>();
        let (sender, did) = channel();
        let errands = Errands::new("test", 1, move |n| {
            started.send(()).unwrap();
            let _ = gate.recv();
            sender.send(n).unwrap();
        });
        errands.give(1).unwrap();
        entered.recv().unwrap();
        errands.give(2).unwrap();
        assert_eq!(errands.give(3), Err(3));
        drop((errands, open));
        assert_eq!(did.iter().take(2).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn who_settles_waits_for_what_is_in_hand_and_not_for_ever() {
        let (open, gate) = channel::<()>();
        let (sender, did) = channel();
        let errands = Errands::new("test", 9, move |n| {
            let _ = gate.recv();
            sender.send(n).unwrap();
        });
        errands.settle(Duration::MAX);
        errands.give(1).unwrap();
        errands.settle(Duration::from_millis(1));
        assert!(did.try_recv().is_err());
        drop(open);
        errands.settle(Duration::MAX);
        assert_eq!(did.try_recv(), Ok(1));
    }
}
