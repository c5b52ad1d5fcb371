//! Services' output: from their pipes into files, and back out of the files for whoever wants to read it.
//!
//! One thread moves the bytes of all services. It splices, so that a byte is always either still in the pipe (which the
//! anchor holds) or already in the file, or keeps a record that says which of the two is so; and a daemon that is killed
//! loses and doubles nothing. It never blocks a writer:
//! what a file does not take goes into a bounded ring, and then is dropped and counted. It never decides anything, and
//! never looks at what it moves; whoever needs the text reads it back from the file.
//!
//! | File | Does |
//! |---|---|
//! | `hub` | the thread: its loop, the services' turns, flooding pipes |
//! | `sink` | one file: what goes into it, trouble with the disk |
//! | `rotation` | where a file ends, and what becomes of it then |
//! | `tools` | what the sinks share |
//! | `index` | which byte was written when, beside each file |
//! | `line` | bytes into lines, of bounded length |
//! | `marks` | where runs begin and end in the files, for last words |
//! | `await_line` | a line that means ready |
//! | `read` | from files to lines: the last n, since when |
//! | `follow` | the same, and then whatever comes |
//!
//! A file is cut at the end of a line, and may pass its size by the rest of one; only a line longer than [`WINDOW`] is
//! cut within. A file that somebody else moves away or removes is noticed within a second of activity and at each retry
//! of a file that takes nothing; one that was truncated before the next write.

mod await_line;
mod follow;
mod hub;
mod index;
mod line;
mod marks;
mod read;
mod rotation;
mod shared;
mod sign;
mod sink;
#[cfg(test)]
mod tests;
mod tools;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use keepwell_core::event::Level;
use keepwell_core::{RunId, Wall};
use keepwell_os::Handle;
use keepwell_os::pipe::Mover;
use keepwell_sdk::wire::LogLine;
use regex_lite::Regex;
use tokio::sync::{mpsc, oneshot};

use self::await_line::LineWatch;
use self::hub::Ask;
use self::marks::Memory;
use self::shared::{Door, SlotShared};
pub use self::sign::Sign;

/// The longest line that is never cut by rotation, and the longest that is given to readers in one piece.
pub const WINDOW: usize = 64 << 10;
/// The most text that [`LogHub::tail`] gives, so that a question for all of a large log costs bounded memory. The newest
/// is kept.
pub const TAIL_LIMIT: u64 = 8 << 20;
/// What a service's output is kept in while its file takes none.
pub const RING: usize = 1 << 20;
/// The same for all services together.
pub const RINGS: usize = 32 << 20;
/// How lines begin that keepwell itself writes into a service's log.
pub const NOTE: &str = "[keepwell] ";
/// In [`LogNews::Told`]: no single slot.
pub const ALL: u32 = u32::MAX;
/// A line of last words is cut to this many characters.
const LAST_WORD: usize = 1000;
/// Somebody waits for them, and has more to read than these.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a service's output goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSpec {
    /// Its output, or all of it if there is no `error_file`.
    pub file: PathBuf,
    /// Its errors.
    pub error_file: Option<PathBuf>,
    /// A file of this many bytes is put aside; 0: never.
    pub rotate_size: u64,
    /// How many files are kept aside, as `file.1` (the newest) to `file.N`.
    pub keep: u32,
}

/// What the log path tells the engine.
#[derive(Clone, PartialEq, Debug)]
pub enum LogNews {
    /// The line that this run's readiness waits for was written.
    Matched {
        /// Whose.
        run: RunId,
    },
    /// Something about a log that somebody should know.
    Told {
        /// Whose; [`ALL`]: it concerns them all.
        slot: u32,
        /// How much it matters.
        level: Level,
        /// In plain words.
        text: String,
    },
}

/// The door to the log path, for any thread. When the last is dropped the path ends, after what it was asked and without a
/// last drain: what is in the pipes of open slots stays there.
#[derive(Clone)]
pub struct LogHub(Arc<Door>);

impl LogHub {
    /// Starts the thread. `memory` is the file in which one hub leaves to the next where runs begin and end. `news` is called
    /// on the thread, so it must not wait.
    ///
    /// # Errors
    /// When the host is out of threads or descriptors.
    pub fn start(memory: &Path, news: impl Fn(LogNews) + Send + 'static) -> io::Result<LogHub> {
        let moves = shared::suffixed(memory, "moves");
        if !memory.exists() {
            // What is left of an earlier guardian's means nothing for other pipes.
            let _ = std::fs::remove_file(&moves);
        }
        let mover = Mover::open(&moves)?;
        hub::start(Memory::open(memory), mover, Box::new(news)).map(|door| LogHub(Arc::new(door)))
    }

    /// Moves the output of this slot from now on: `out` (and `err`) are the read ends of its pipes. Errors without an
    /// `error_file` go to `file` too. `shown` is the name that its lines carry. A file that cannot be opened is told and
    /// tried again.
    pub fn open(&self, slot: u32, shown: String, spec: LogSpec, out: Handle, err: Option<Handle>) {
        let shared = Arc::new(SlotShared::new(slot, shown, &spec, out, err));
        self.0.slots().insert(slot, Arc::clone(&shared));
        self.0.ask(Ask::Open { slot, shared, spec });
    }

    /// Goes on elsewhere or with other limits.
    pub fn change(&self, slot: u32, spec: LogSpec) {
        self.0.ask(Ask::Change { slot, spec });
    }

    /// Writes what is in the pipes, and lets go of them and of the files. Followers end when they have read it all.
    pub fn close(&self, slot: u32) {
        self.0.slots().remove(&slot);
        self.0.ask(Ask::Close { slot });
    }

    /// Writes what the anchor took from a full pipe while there was no daemon, and a note of what it had to drop. To come
    /// before what is in the pipe it must be called before [`LogHub::open`] of that slot; it is kept until then.
    pub fn prepend(&self, slot: u32, stream: u8, bytes: Vec<u8>, dropped: u64) {
        self.0.ask(Ask::Prepend { slot, stream, bytes, dropped });
    }

    /// Resolves when all that was asked before, and all that was in the slot's pipes at this call, is done and in the
    /// files (or in the ring, if the disk is full). Fails only if the log path ends first.
    #[must_use]
    pub fn flush(&self, slot: u32) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        self.0.ask(Ask::Flush { slot, done });
        receiver
    }

    /// Waits until all that was asked before is done; false if that takes longer. For the end: after the slots were
    /// closed, and before the process that runs this thread is told to end.
    #[must_use]
    pub fn settle(&self, at_most: Duration) -> bool {
        let (done, receiver) = sync_channel(1);
        self.0.ask(Ask::Settle { done });
        receiver.recv_timeout(at_most).is_ok()
    }

    /// A run of this slot begins with the first byte that is written after this call, so it must be called before the main
    /// process is started. What was written before are no last words of it.
    pub fn run_started(&self, slot: u32, run: RunId) {
        let Some(shared) = self.0.slot(slot) else { return };
        self.0.ask(Ask::Begin { slot, run, at: shared.written() });
    }

    /// What this run wrote was written before this call, so it must be called before anything else is started in the slot.
    /// Once for the main process, and again if its tree is empty only later. Of a run that is not the slot's last it says
    /// nothing.
    pub fn run_ended(&self, slot: u32, run: RunId) {
        let Some(shared) = self.0.slot(slot) else { return };
        self.0.ask(Ask::End { slot, run, at: shared.written() });
    }

    /// This run of the slot was started under an earlier hub and goes on.
    pub fn run_adopted(&self, slot: u32, run: RunId) {
        self.0.ask(Ask::Adopt { slot, run });
    }

    /// Tells, once, when a line of this slot's output matches, from the first byte that is written after this call. So it
    /// must be called before the process is started. The line may be in pieces of [`WINDOW`] if it is longer.
    pub fn watch_line(&self, slot: u32, run: RunId, pattern: Regex) {
        let Some(shared) = self.0.slot(slot) else { return };
        let watch = LineWatch::new(run, pattern, shared.written());
        self.0.ask(Ask::Watch { slot, watch: Box::new(watch) });
    }

    /// Leaves a trace of each line that matches, likewise; until the run is no longer watched, or nobody has the sign.
    pub fn watch_sign(&self, slot: u32, run: RunId, pattern: Regex, sign: Arc<Sign>) {
        let Some(shared) = self.0.slot(slot) else { return };
        let watch = LineWatch::new(run, pattern, shared.written()).lasting(sign);
        self.0.ask(Ask::Watch { slot, watch: Box::new(watch) });
    }

    /// Bytes of output that this slot has given since this path began.
    #[must_use]
    pub fn taken(&self, slot: u32) -> u64 {
        self.0.slot(slot).map_or(0, |shared| shared.moved())
    }

    /// Bytes of output that no file has got since this path began.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits for this run's line no longer.
    pub fn unwatch_line(&self, run: RunId) {
        self.0.ask(Ask::Unwatch { run });
    }

    /// The last lines of a slot, oldest first; all of them with `lines: None`, up to [`TAIL_LIMIT`]. `since` is exact to
    /// the second. Reads files, so it may take a while.
    #[must_use]
    pub fn tail(&self, slot: u32, lines: Option<usize>, since: Option<Wall>) -> Vec<LogLine> {
        self.tail_many(&[slot], lines, since)
    }

    /// The same for several slots, `lines` of each in all its files, put in the order in which they were written, as far as the second
    /// tells.
    #[must_use]
    pub fn tail_many(&self, slots: &[u32], lines: Option<usize>, since: Option<Wall>) -> Vec<LogLine> {
        let shared: Vec<_> = slots.iter().filter_map(|s| self.0.slot(*s)).collect();
        read::tail(&shared, lines, since, TAIL_LIMIT)
    }

    /// The last `n` lines of the slot's last run that ended, without keepwell's notes, whatever was written since. None where
    /// it is not known where they are. Waits a moment for what was asked before.
    #[must_use]
    pub fn last_words(&self, slot: u32, n: usize) -> Vec<String> {
        let Some(shared) = self.0.slot(slot) else { return Vec::new() };
        // A disk that takes longer than that has not got them yet.
        let _ = self.settle(PATIENCE);
        let lines = read::of_ended_run(&shared, n, 4 * WINDOW as u64);
        let mut words: Vec<String> = lines.into_iter().filter(|l| !l.note).map(|l| shorten(l.line)).collect();
        words.drain(..words.len().saturating_sub(n));
        words
    }

    /// The last lines and then all that come, until the receiver is dropped or all of the slots are closed. A reader that
    /// is slow slows nobody: it reads from the files, and if these are gone before it has come to them, a note says so.
    /// Must be called inside a runtime.
    #[must_use]
    pub fn follow(
        &self,
        slots: Vec<u32>,
        lines: Option<usize>,
        since: Option<Wall>,
    ) -> mpsc::Receiver<LogLine> {
        let shared: Vec<_> = slots.iter().filter_map(|s| self.0.slot(*s)).collect();
        follow::follow(shared, lines, since)
    }
}

fn shorten(line: String) -> String {
    match line.char_indices().nth(LAST_WORD) {
        Some((at, _)) => format!("{} …", &line[..at]),
        None => line,
    }
}
