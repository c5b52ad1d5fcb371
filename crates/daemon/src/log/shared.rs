//! What the log path's thread shares with those that read logs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use keepwell_os::wait::Waker;
use keepwell_os::{AsHandle, Handle, pipe};
use tokio::sync::Notify;

use super::LogSpec;
use super::hub::Ask;
use super::index::Record;
use super::marks::Marks;

/// Locks; a thread that panicked under it left plain values.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Questions that may wait for the thread. Opening, changing and closing must not be lost and are as many as there are
/// services; flushes and watches come with every run, and beyond this many are dropped: a flush then fails at once.
const WAITING: usize = 1 << 14;

/// The queue to the thread.
#[derive(Default)]
pub(super) struct Inbox {
    asks: Mutex<VecDeque<Ask>>,
    closed: AtomicBool,
}

impl Inbox {
    pub(super) fn take(&self) -> VecDeque<Ask> {
        std::mem::take(&mut *lock(&self.asks))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// One for all handles of a hub; the last closes it.
pub(super) struct Door {
    slots: Mutex<BTreeMap<u32, Arc<SlotShared>>>,
    inbox: Arc<Inbox>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    pub(super) lost: Arc<AtomicU64>,
}

impl Door {
    pub(super) fn new(inbox: Arc<Inbox>, waker: Waker, thread: JoinHandle<()>, lost: Arc<AtomicU64>) -> Door {
        Door { slots: Mutex::default(), inbox, waker, thread: Some(thread), lost }
    }

    pub(super) fn ask(&self, ask: Ask) {
        let mut asks = lock(&self.inbox.asks);
        if asks.len() >= WAITING && ask.may_be_dropped() {
            return;
        }
        // Whoever found it empty has woken the thread, which takes all at once.
        let first = asks.is_empty();
        asks.push_back(ask);
        drop(asks);
        if first {
            self.waker.wake();
        }
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<SlotShared>>> {
        lock(&self.slots)
    }

    pub(super) fn slot(&self, slot: u32) -> Option<Arc<SlotShared>> {
        self.slots().get(&slot).cloned()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.inbox.closed.store(true, Ordering::Release);
        self.waker.wake();
        // The thread itself may hold the last handle, through the receiver of its news.
        if let Some(thread) = self.thread.take().filter(|t| t.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// One slot.
pub(super) struct SlotShared {
    pub(super) shown: String,
    /// Output, errors.
    pub(super) sources: [Option<SourceShared>; 2],
    /// Output (or both), errors.
    pub(super) sinks: Mutex<Vec<Arc<SinkShared>>>,
    pub(super) closed: AtomicBool,
    followed: AtomicBool,
    followers: Mutex<Vec<(Weak<Follower>, usize)>>,
}

/// One who reads on as the files grow.
#[derive(Default)]
pub(super) struct Follower {
    pub(super) notify: Notify,
    /// Which of its slots have news.
    news: Mutex<BTreeSet<usize>>,
}

impl Follower {
    pub(super) fn take_news(&self) -> BTreeSet<usize> {
        std::mem::take(&mut *lock(&self.news))
    }
}

impl SlotShared {
    pub(super) fn new(
        slot: u32,
        shown: String,
        spec: &LogSpec,
        out: Handle,
        err: Option<Handle>,
    ) -> SlotShared {
        let files = spec.files(err.is_some());
        let source = |stream, pipe| SourceShared::new(slot * 2 + stream, pipe);
        SlotShared {
            shown,
            sources: [Some(source(0, out)), err.map(|err| source(1, err))],
            sinks: Mutex::new(files.into_iter().map(|f| Arc::new(SinkShared::new(f, spec.keep))).collect()),
            closed: AtomicBool::new(false),
            followed: AtomicBool::new(false),
            followers: Mutex::default(),
        }
    }

    /// How much has been written into each pipe so far.
    pub(super) fn written(&self) -> [u64; 2] {
        self.sources.each_ref().map(|s| s.as_ref().map_or(0, SourceShared::written))
    }

    /// How much has been taken out of its pipes so far.
    pub(super) fn moved(&self) -> u64 {
        self.sources.iter().flatten().map(SourceShared::moved).sum()
    }

    /// `place` is what the follower calls this slot.
    pub(super) fn add_follower(&self, follower: &Arc<Follower>, place: usize) {
        lock(&self.followers).push((Arc::downgrade(follower), place));
        self.followed.store(true, Ordering::Release);
    }

    #[cfg(test)]
    pub(super) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Acquire)
    }

    /// Something was written, or something else about the files is new.
    pub(super) fn wake_followers(&self) {
        if !self.followed.load(Ordering::Acquire) {
            return;
        }
        let mut followers = lock(&self.followers);
        followers.retain(|(follower, place)| {
            let Some(follower) = follower.upgrade() else { return false };
            if lock(&follower.news).insert(*place) {
                follower.notify.notify_one();
            }
            true
        });
        self.followed.store(!followers.is_empty(), Ordering::Release);
    }
}

/// The read end of one pipe.
pub(super) struct SourceShared {
    /// Its number among all pipes.
    pub(super) key: u32,
    pub(super) pipe: Handle,
    /// Bytes taken out of it so far.
    moved: AtomicU64,
    /// Odd while bytes are being taken out.
    turns: AtomicU64,
}

/// How often [`SourceShared::written`] looks before it takes what it has.
const LOOKS: u32 = 10_000;

impl SourceShared {
    fn new(key: u32, pipe: Handle) -> SourceShared {
        SourceShared { key, pipe, moved: AtomicU64::new(0), turns: AtomicU64::new(0) }
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::SeqCst)
    }

    /// Takes bytes out and counts them.
    pub(super) fn taking<T>(&self, take: impl FnOnce() -> T, taken: impl FnOnce(&T) -> u64) -> T {
        self.turns.fetch_add(1, Ordering::SeqCst);
        let result = take();
        self.moved.fetch_add(taken(&result), Ordering::SeqCst);
        self.turns.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// What has been taken out and what is still in it, looked at while nobody takes. While a writer floods and the disk
    /// is slow there is no such moment; then what has been taken out is the answer, which is a little too low.
    fn written(&self) -> u64 {
        for _ in 0..LOOKS {
            let before = self.turns.load(Ordering::SeqCst);
            let moved = self.moved();
            let waiting = pipe::available(self.pipe.as_handle()).unwrap_or(0);
            if before.is_multiple_of(2) && self.turns.load(Ordering::SeqCst) == before {
                return moved + waiting as u64;
            }
            std::hint::spin_loop();
        }
        self.moved()
    }
}

/// One file and those put aside.
pub(super) struct SinkShared {
    pub(super) path: PathBuf,
    pub(super) state: Mutex<SinkState>,
}

/// Held while files change their names, so that a reader opens the one that it means.
#[derive(Clone, Copy, Debug)]
pub(super) struct SinkState {
    /// Which file has the plain name; the one before it has `.1`. The one at the start is 0, older ones are below.
    pub(super) generation: i64,
    /// How many are put aside.
    pub(super) keep: u32,
    /// Where generation 0 began for this service.
    pub(super) began: u64,
    /// Where runs begin and end.
    pub(super) marks: Marks,
    /// What the index of the file with the plain name does not hold yet.
    pub(super) unindexed: Option<Record>,
    /// Nothing is written here any more.
    pub(super) finished: bool,
}

impl SinkShared {
    pub(super) fn new(path: PathBuf, keep: u32) -> SinkShared {
        let state = SinkState {
            generation: 0,
            keep,
            began: 0,
            marks: Marks::default(),
            unindexed: None,
            finished: false,
        };
        SinkShared { path, state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SinkState> {
        lock(&self.state)
    }

    /// What the index of this generation's file does not hold yet.
    pub(super) fn unindexed(&self, generation: i64) -> Option<Record> {
        let state = self.state();
        state.unindexed.filter(|_| state.generation == generation)
    }

    /// The name of the file that was put aside `n` rotations ago; 0: the plain one.
    pub(super) fn aside(&self, n: u64) -> PathBuf {
        match n {
            0 => self.path.clone(),
            n => suffixed(&self.path, &n.to_string()),
        }
    }
}

/// `path.suffix`.
pub(super) fn suffixed(path: &std::path::Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

impl LogSpec {
    /// The files of a service with one pipe or two.
    pub(super) fn files(&self, two: bool) -> Vec<PathBuf> {
        let second = self.error_file.as_ref().filter(|f| two && **f != self.file);
        std::iter::once(&self.file).chain(second).cloned().collect()
    }
}
