//! The thread that moves all services' output.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use keepwell_core::event::Level;
use keepwell_core::{Mono, RunId};
use keepwell_os::pipe::Mover;
use keepwell_os::wait::{Interest, Waiter, Wake};
use keepwell_os::{AsHandle, clock, in_words, pipe};
use tokio::sync::oneshot;

use super::await_line::LineWatch;
use super::marks::{Marks, Memory};
use super::shared::{Door, Inbox, SinkShared, SlotShared, lock};
use super::sink::{Sink, Took};
use super::tools::{LARGEST_PIPE, Tools};
use super::{ALL, LogNews, LogSpec};

/// What one pipe may move before the others have their turn: some 1 ms.
const TURN: usize = 1 << 20;
/// A turn that moves this much found the pipe full or nearly so.
const FULL: usize = 48 << 10;
/// After so many of them in a row the pipe is made larger.
const FLOOD: u8 = 4;
/// A pipe that was not full for this long is made small again.
const QUIET: Duration = Duration::from_secs(2);
/// What a pipe begins with (pipe(7)).
const SMALL_PIPE: usize = 64 << 10;
/// Files of which the index is written in one turn.
const INDEXES: usize = 32;
/// Threads begin with 2 MiB of stack otherwise; this one calls nothing deep.
const STACK: usize = 256 << 10;

/// What the thread is asked.
pub(super) enum Ask {
    Open { slot: u32, shared: Arc<SlotShared>, spec: LogSpec },
    Change { slot: u32, spec: LogSpec },
    Close { slot: u32 },
    Prepend { slot: u32, stream: u8, bytes: Vec<u8>, dropped: u64 },
    Flush { slot: u32, done: oneshot::Sender<()> },
    Settle { done: SyncSender<()> },
    Begin { slot: u32, run: RunId, at: [u64; 2] },
    End { slot: u32, run: RunId, at: [u64; 2] },
    Adopt { slot: u32, run: RunId },
    Watch { slot: u32, watch: Box<LineWatch> },
    Unwatch { run: RunId },
}

impl Ask {
    /// Those that come with every run.
    pub(super) fn may_be_dropped(&self) -> bool {
        match self {
            Ask::Flush { .. }
            | Ask::Begin { .. }
            | Ask::End { .. }
            | Ask::Adopt { .. }
            | Ask::Watch { .. } => true,
            Ask::Open { .. }
            | Ask::Change { .. }
            | Ask::Close { .. }
            | Ask::Prepend { .. }
            | Ask::Settle { .. }
            | Ask::Unwatch { .. } => false,
        }
    }
}

pub(super) fn start(memory: Memory, mover: Mover, news: Box<dyn Fn(LogNews) + Send>) -> io::Result<Door> {
    let waiter = Waiter::new()?;
    let waker = waiter.waker();
    let (inbox, lost) = (Arc::new(Inbox::default()), Arc::new(AtomicU64::new(0)));
    let hub = Hub {
        waiter,
        inbox: Arc::clone(&inbox),
        slots: BTreeMap::new(),
        early: BTreeMap::new(),
        watches: BTreeMap::new(),
        troubled: BTreeSet::new(),
        grown: BTreeMap::new(),
        memory,
        tools: Tools::new(mover, news, Arc::clone(&lost)),
    };
    let thread = thread::Builder::new().name("log".to_owned()).stack_size(STACK).spawn(|| hub.run())?;
    Ok(Door::new(inbox, waker, thread, lost))
}

struct Hub {
    waiter: Waiter,
    inbox: Arc<Inbox>,
    slots: BTreeMap<u32, Slot>,
    /// What is to be written before a slot is opened.
    early: BTreeMap<u32, Vec<(u8, Vec<u8>, u64)>>,
    watches: BTreeMap<u32, Vec<LineWatch>>,
    /// Slots with a file that takes nothing.
    troubled: BTreeSet<u32>,
    /// Pipes that were made larger, and when to look whether they still flood.
    grown: BTreeMap<(u32, usize), Mono>,
    memory: Memory,
    tools: Tools,
}

struct Slot {
    shared: Arc<SlotShared>,
    sinks: Vec<Sink>,
    /// The last that began.
    run: Option<RunId>,
    flow: [Flow; 2],
}

/// How full a pipe has been.
#[derive(Clone, Copy, Default)]
struct Flow {
    full: u8,
    last_full: Mono,
    /// The user may have no larger pipes now.
    refused: bool,
}

impl Slot {
    /// Each sink, and how much was written to it since these positions in the pipes; one file may be both pipes'.
    fn beyond(&mut self, at: [u64; 2]) -> impl Iterator<Item = (&mut Sink, u64)> {
        let last = self.sinks.len() - 1;
        let mut beyond = [0; 2];
        for (stream, (source, at)) in self.shared.sources.iter().zip(at).enumerate() {
            beyond[stream.min(last)] += source.as_ref().map_or(0, |s| s.moved().saturating_sub(at));
        }
        self.sinks.iter_mut().zip(beyond)
    }
}

impl Hub {
    fn run(mut self) {
        let mut wakes = Vec::new();
        loop {
            let deadline = self.deadline();
            if let Err(e) = self.waiter.wait(deadline, &mut wakes) {
                let text = format!("the log path cannot wait for output: {}; it tries again", in_words(&e));
                (self.tools.news)(LogNews::Told { slot: ALL, level: Level::Error, text });
                thread::sleep(Duration::from_secs(1));
            }
            self.tools.now = clock::mono();
            // What is asked concerns output that is still to come more often than not.
            if wakes.contains(&Wake::Called) {
                self.answer();
            }
            if self.inbox.is_closed() {
                // What was asked while the rest was answered.
                self.answer();
                return;
            }
            for wake in &wakes {
                match *wake {
                    Wake::Ready { token, closed, .. } => self.turn(slot_of(token), stream_of(token), closed),
                    Wake::Deadline => self.on_time(),
                    Wake::Called | Wake::ClockStepped => {}
                }
            }
        }
    }

    fn deadline(&self) -> Option<Mono> {
        let retries = self.troubled.iter().filter_map(|s| self.slots.get(s));
        let retries = retries.flat_map(|s| s.sinks.iter().filter_map(Sink::retry_at));
        retries.chain(self.grown.values().copied()).chain(self.tools.index_at).min()
    }

    fn answer(&mut self) {
        for ask in self.inbox.take() {
            match ask {
                Ask::Open { slot, shared, spec } => self.open(slot, shared, &spec),
                Ask::Change { slot, spec } => self.change(slot, &spec),
                Ask::Close { slot } => self.close(slot),
                Ask::Prepend { slot, stream, bytes, dropped } => self.prepend(slot, stream, bytes, dropped),
                Ask::Flush { slot, done } => {
                    self.drain(slot);
                    // Nobody may wait for it any more.
                    let _ = done.send(());
                }
                Ask::Settle { done } => {
                    let _ = done.try_send(());
                }
                Ask::Begin { slot, run, at } => self.begin_run(slot, run, at),
                Ask::End { slot, run, at } => self.end_run(slot, run, at),
                Ask::Adopt { slot, run } => self.adopt_run(slot, run),
                Ask::Watch { slot, watch } => {
                    let watches = self.watches.entry(slot).or_default();
                    watches.retain(|w| !w.is_idle());
                    watches.push(*watch);
                }
                Ask::Unwatch { run } => self.forget_watches(|w| w.run == run),
            }
        }
    }

    fn open(&mut self, slot: u32, shared: Arc<SlotShared>, spec: &LogSpec) {
        self.close(slot);
        let sinks = lock(&shared.sinks).clone();
        let mut sinks: Vec<Sink> =
            sinks.into_iter().map(|s| Sink::open(slot, s, spec.rotate_size, &mut self.tools)).collect();
        let (early, last) = (self.early.remove(&slot).unwrap_or_default(), sinks.len() - 1);
        for (stream, source) in shared.sources.iter().enumerate() {
            let Some(source) = source else { continue };
            let of_it = early.iter().filter(|(s, ..)| usize::from(*s) == stream);
            let drained = of_it.flat_map(|(_, bytes, _)| bytes).copied().collect::<Vec<u8>>();
            sinks[stream.min(last)].resume(source, &drained, &mut self.tools);
        }
        let files: Vec<&SinkShared> = sinks.iter().map(|s| &*s.shared).collect();
        let (run, marks) = self.memory.recall(slot, &files);
        files.iter().zip(marks).for_each(|(file, marks)| file.state().marks = marks);
        self.slots.insert(slot, Slot { shared: Arc::clone(&shared), sinks, run, flow: Default::default() });
        for (stream, bytes, dropped) in early {
            self.prepend(slot, stream, bytes, dropped);
        }
        for (stream, source) in shared.sources.iter().enumerate() {
            let Some(source) = source else { continue };
            if let Err(e) = self.waiter.add(source.pipe.as_handle(), token(slot, stream), Interest::Read) {
                let text = format!("its output cannot be waited for: {}", in_words(&e));
                (self.tools.news)(LogNews::Told { slot, level: Level::Error, text });
            }
        }
        self.note_trouble(slot);
    }

    fn change(&mut self, number: u32, spec: &LogSpec) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let files = spec.files(slot.shared.sources[1].is_some());
        let same = files.len() == slot.sinks.len()
            && slot.sinks.iter().zip(&files).all(|(s, f)| s.shared.path == *f);
        if same {
            slot.sinks.iter_mut().for_each(|s| s.limit(spec.rotate_size, spec.keep));
            return;
        }
        let tools = &mut self.tools;
        let old: Vec<_> = slot.sinks.iter_mut().map(|s| s.give_up(tools)).collect();
        let shared: Vec<_> = files.into_iter().map(|f| Arc::new(SinkShared::new(f, spec.keep))).collect();
        let mut sinks: Vec<Sink> =
            shared.iter().map(|s| Sink::open(number, Arc::clone(s), spec.rotate_size, tools)).collect();
        // What is in these files already is no run's here.
        if slot.sinks.first().is_some_and(|s| s.shared.state().marks.is_open()) {
            sinks.iter_mut().for_each(|s| s.begin_run(0));
        }
        *lock(&slot.shared.sinks) = shared;
        // What the old file did not take goes into the new one.
        let last = sinks.len() - 1;
        for (i, (ring, dropped, why)) in old.into_iter().enumerate().filter_map(|(i, o)| Some((i, o?))) {
            let sink = &mut sinks[i.min(last)];
            sink.write(&ring, tools);
            sink.note_dropped(dropped, &why, tools);
        }
        for mut old in std::mem::replace(&mut slot.sinks, sinks) {
            old.finish(tools);
        }
        slot.shared.wake_followers();
        self.keep_marks(number);
        self.note_trouble(number);
    }

    fn close(&mut self, number: u32) {
        self.drain(number);
        self.watches.remove(&number);
        self.troubled.remove(&number);
        self.grown.retain(|(slot, _), _| *slot != number);
        let Some(mut slot) = self.slots.remove(&number) else { return };
        for source in slot.shared.sources.iter().flatten() {
            // It is gone already if its writers are.
            let _ = self.waiter.remove(source.pipe.as_handle());
            self.tools.mover.forget(source.key);
        }
        slot.sinks.iter_mut().for_each(|s| s.finish(&mut self.tools));
        // Its number may be another's one day.
        let _ = self.memory.keep(number, None, &[]);
        slot.shared.closed.store(true, Ordering::Release);
        slot.shared.wake_followers();
    }

    fn prepend(&mut self, number: u32, stream: u8, bytes: Vec<u8>, dropped: u64) {
        let Some(slot) = self.slots.get_mut(&number) else {
            self.early.entry(number).or_default().push((stream, bytes, dropped));
            return;
        };
        let last = slot.sinks.len() - 1;
        let sink = &mut slot.sinks[usize::from(stream).min(last)];
        sink.write(&bytes, &mut self.tools);
        self.tools.lose(dropped);
        sink.note_dropped(dropped, "no daemon was there to write it", &mut self.tools);
        slot.shared.wake_followers();
        self.note_trouble(number);
    }

    /// All that is in the slot's pipes now.
    fn drain(&mut self, number: u32) {
        let Some(slot) = self.slots.get(&number) else { return };
        let written = slot.shared.written();
        self.drain_to(number, written);
    }

    /// All up to these positions in the slot's pipes.
    fn drain_to(&mut self, number: u32, ends: [u64; 2]) {
        let Some(slot) = self.slots.get(&number) else { return };
        let shared = Arc::clone(&slot.shared);
        for (stream, (source, end)) in shared.sources.iter().zip(ends).enumerate() {
            let Some(source) = source else { continue };
            while source.moved() < end {
                match self.take(number, stream) {
                    Took::Moved(..) => {}
                    Took::Empty | Took::Ended => break,
                }
            }
        }
        shared.wake_followers();
        self.note_trouble(number);
    }

    /// A run begins at these positions in the slot's pipes.
    fn begin_run(&mut self, number: u32, run: RunId, at: [u64; 2]) {
        self.drain_to(number, at);
        let Some(slot) = self.slots.get_mut(&number) else { return };
        slot.run = Some(run);
        // The run may have written already.
        for (sink, beyond) in slot.beyond(at) {
            sink.begin_run(beyond);
        }
        self.keep_marks(number);
    }

    fn end_run(&mut self, number: u32, run: RunId, at: [u64; 2]) {
        self.drain_to(number, at);
        let Some(slot) = self.slots.get_mut(&number).filter(|s| s.run == Some(run)) else { return };
        for (sink, beyond) in slot.beyond(at) {
            sink.end_run(beyond);
        }
        self.keep_marks(number);
    }

    /// This run goes on. If its beginning was never marked, where the one before it ended is not known either.
    fn adopt_run(&mut self, number: u32, run: RunId) {
        let Some(slot) = self.slots.get_mut(&number).filter(|s| s.run != Some(run)) else { return };
        slot.run = Some(run);
        slot.sinks.iter().for_each(|s| s.shared.state().marks = Marks::default());
        self.keep_marks(number);
    }

    fn keep_marks(&self, number: u32) {
        let Some(slot) = self.slots.get(&number) else { return };
        let marks: Vec<_> = slot.sinks.iter().map(|s| s.shared.state().marks).collect();
        // The log itself tells of a disk that is full.
        let _ = self.memory.keep(number, slot.run, &marks);
    }

    /// One pipe's turn.
    fn turn(&mut self, number: u32, stream: usize, closed: bool) {
        let mut moved = 0;
        let took = loop {
            match self.take(number, stream) {
                Took::Moved(n, true) if moved + n < TURN => moved += n,
                Took::Moved(n, more) => {
                    moved += n;
                    break Took::Moved(n, more);
                }
                end @ (Took::Empty | Took::Ended) => break end,
            }
        };
        let Some(slot) = self.slots.get_mut(&number) else { return };
        if let (Took::Ended, _) | (Took::Empty, true) = (took, closed)
            && let Some(source) = &slot.shared.sources[stream]
        {
            // Nobody can write into it any more, and it would be told for ever.
            let _ = self.waiter.remove(source.pipe.as_handle());
        }
        if moved > 0 {
            slot.shared.wake_followers();
        }
        if moved >= FULL || slot.flow[stream].full > 0 {
            self.follow_flow(number, stream, moved);
        }
        self.note_trouble(number);
    }

    fn take(&mut self, number: u32, stream: usize) -> Took {
        let Some(slot) = self.slots.get_mut(&number) else { return Took::Empty };
        let Some(source) = &slot.shared.sources[stream] else { return Took::Empty };
        let last = slot.sinks.len() - 1;
        let sink = &mut slot.sinks[stream.min(last)];
        let Some(watches) = self.watches.get_mut(&number) else {
            return sink.take(source, &mut self.tools, None);
        };
        let (mut at, now) = (source.moved(), keepwell_os::clock::now().mono);
        let mut matched = Vec::new();
        let mut seen = |bytes: &[u8]| {
            for watch in watches.iter_mut() {
                if watch.feed(stream, at, bytes) {
                    match &watch.sign {
                        Some(sign) => sign.came(now),
                        None => matched.push(watch.run),
                    }
                }
            }
            at += bytes.len() as u64;
        };
        let took = sink.take(source, &mut self.tools, Some(&mut seen));
        matched.dedup();
        for run in matched {
            self.forget_watches(|w| w.run == run && w.sign.is_none());
            (self.tools.news)(LogNews::Matched { run });
        }
        took
    }

    fn forget_watches(&mut self, which: impl Fn(&LineWatch) -> bool) {
        self.watches.retain(|_, watches| {
            watches.retain(|w| !which(w));
            !watches.is_empty()
        });
    }

    fn note_trouble(&mut self, number: u32) {
        let Some(slot) = self.slots.get(&number) else { return };
        if slot.sinks.iter().any(|s| s.retry_at().is_some()) {
            self.troubled.insert(number);
        } else if !self.troubled.is_empty() {
            self.troubled.remove(&number);
        }
    }

    /// Makes the pipe of a flooding service larger: fewer and larger moves.
    fn follow_flow(&mut self, number: u32, stream: usize, moved: usize) {
        let now = self.tools.now;
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let flow = &mut slot.flow[stream];
        if moved < FULL {
            flow.full = 0;
            return;
        }
        flow.full = flow.full.saturating_add(1);
        flow.last_full = now;
        if flow.full < FLOOD || flow.refused || self.grown.contains_key(&(number, stream)) {
            return;
        }
        let Some(source) = &slot.shared.sources[stream] else { return };
        match pipe::set_capacity(source.pipe.as_handle(), LARGEST_PIPE) {
            Ok(_) => {
                self.grown.insert((number, stream), now + QUIET);
            }
            // An unprivileged user has a limited number of pages in pipes (pipe(7)).
            Err(_) => flow.refused = true,
        }
    }

    fn on_time(&mut self) {
        let now = self.tools.now;
        for number in std::mem::take(&mut self.troubled) {
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            for sink in slot.sinks.iter_mut().filter(|s| s.retry_at().is_some_and(|at| at <= now)) {
                sink.revive(&mut self.tools);
            }
            slot.shared.wake_followers();
            self.note_trouble(number);
        }
        let due: Vec<_> = self.grown.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for (number, stream) in due {
            self.calm(number, stream);
        }
        if self.tools.index_at.is_some_and(|at| at <= now) {
            self.write_indexes();
        }
    }

    /// Some of the records that wait in memory; output comes in between.
    fn write_indexes(&mut self) {
        let sinks = self.slots.values_mut().flat_map(|slot| &mut slot.sinks);
        let written = sinks.filter_map(|sink| sink.write_index().then_some(())).take(INDEXES).count();
        self.tools.index_at = (written == INDEXES).then_some(self.tools.now);
    }

    /// Makes a pipe small again, or looks at it later.
    fn calm(&mut self, number: u32, stream: usize) {
        self.grown.remove(&(number, stream));
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let quiet_at = slot.flow[stream].last_full + QUIET;
        let Some(source) = &slot.shared.sources[stream] else { return };
        // What is in it may not fit; then it floods again.
        let small = || pipe::set_capacity(source.pipe.as_handle(), SMALL_PIPE).is_ok();
        if quiet_at > self.tools.now || !small() {
            self.grown.insert((number, stream), quiet_at.max(self.tools.now + QUIET));
        } else {
            slot.flow[stream] = Flow::default();
        }
    }
}

fn token(slot: u32, stream: usize) -> u64 {
    u64::from(slot) * 2 + stream as u64
}

fn slot_of(token: u64) -> u32 {
    u32::try_from(token / 2).unwrap_or(u32::MAX)
}

fn stream_of(token: u64) -> usize {
    usize::from(token % 2 == 1)
}
