//! One file of a service's output: where to cut it, putting it aside, and what happens while it takes nothing.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::Mono;
use keepwell_core::event::Level;
use keepwell_os::pipe::{self, SinkKind};
use keepwell_os::{AsHandle, in_words};

use super::index::Index;
use super::marks::Place;
use super::read::Position;
use super::rotation;
use super::shared::{SinkShared, SourceShared};
use super::tools::{LARGEST_PIPE, Seen, Tools, show};
use super::{NOTE, RING, RINGS, WINDOW};

/// A file that takes nothing is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);
/// The same for one that cannot hold a log at all, where the time doubles up to this.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How often it is asked whether the open file still is the one of its name, while there is output.
const LOOK: Duration = Duration::from_secs(1);

/// How long a record of the index may wait, so that it is not in the way of many services' first lines.
const INDEX_LAG: Duration = Duration::from_secs(1);

/// What one step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Took {
    /// So many bytes; and whether there are likely more.
    Moved(usize, bool),
    /// The pipe is empty.
    Empty,
    /// And nobody can write into it any more.
    Ended,
}

/// How far the next step goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plan {
    /// Up to so many bytes.
    Upto(usize),
    /// Exactly so many, and then the file is put aside.
    Cut(usize),
    /// The pipe is empty.
    Nothing,
}

/// See the module.
pub(super) struct Sink {
    pub(super) shared: Arc<SinkShared>,
    slot: u32,
    rotate_size: u64,
    /// Where this file is cut: its size, or further on where it could not be put aside.
    rotate_at: u64,
    file: Option<File>,
    kind: SinkKind,
    /// This file takes no splice.
    copying: bool,
    /// The host's number of this file.
    number: u64,
    offset: u64,
    looked: Mono,
    index: Index,
    trouble: Option<Box<Trouble>>,
}

/// A file that takes nothing, and what was to be written.
struct Trouble {
    ring: Vec<u8>,
    /// Came after the ring was full.
    dropped: u64,
    why: String,
    retry_at: Mono,
    wait: Duration,
}

impl Sink {
    /// Opens the file, at its end.
    pub(super) fn open(slot: u32, shared: Arc<SinkShared>, rotate_size: u64, tools: &mut Tools) -> Sink {
        let mut sink = Sink {
            shared,
            slot,
            rotate_size,
            rotate_at: rotate_size,
            file: None,
            kind: SinkKind::Regular,
            copying: false,
            number: 0,
            offset: 0,
            looked: tools.now,
            index: Index::default(),
            trouble: None,
        };
        if let Err(e) = sink.open_file() {
            sink.enter(&e, tools);
        }
        sink.shared.state().began = sink.offset;
        sink
    }

    /// Goes on where an earlier hub was ended, perhaps amid a move from this pipe; `drained` was taken out of it since.
    pub(super) fn resume(&mut self, source: &SourceShared, drained: &[u8], tools: &mut Tools) {
        let (Some(file), SinkKind::Regular) = (&self.file, self.kind) else { return };
        match tools.mover.resume(source.key, source.pipe.as_handle(), drained, file) {
            Ok(end) => self.offset = end,
            Err(e) => self.enter(&e, tools),
        }
        self.shared.state().began = self.offset;
    }

    /// Other limits for the same file.
    pub(super) fn limit(&mut self, rotate_size: u64, keep: u32) {
        self.rotate_size = rotate_size;
        self.rotate_at = rotate_size;
        self.shared.state().keep = keep;
    }

    /// A run begins, `beyond` bytes ago.
    pub(super) fn begin_run(&mut self, beyond: u64) {
        let here = self.place(beyond);
        self.shared.state().marks.begin(here);
    }

    /// It ended, `beyond` bytes ago.
    pub(super) fn end_run(&mut self, beyond: u64) {
        let here = self.place(beyond);
        self.shared.state().marks.end(here);
    }

    fn place(&self, beyond: u64) -> Place {
        match &self.trouble {
            Some(trouble) => {
                let ring = trouble.ring.len();
                Place::Ring(ring.saturating_sub(usize::try_from(beyond).unwrap_or(ring)))
            }
            None => self.back(beyond),
        }
    }

    /// So many bytes ago, which may be in a file that was put aside since.
    fn back(&self, beyond: u64) -> Place {
        let state = *self.shared.state();
        let here = |offset| Place::File(Position { generation: state.generation, offset }, self.number);
        let Some(mut beyond) = beyond.checked_sub(self.offset).filter(|b| *b > 0) else {
            return here(self.offset - beyond);
        };
        for n in 1..=state.keep {
            let Ok(file) = File::open(self.shared.aside(u64::from(n))) else { break };
            let length = file.metadata().map_or(0, |m| m.len());
            if let Some(offset) = length.checked_sub(beyond) {
                let generation = state.generation - i64::from(n);
                let number = pipe::file_number(&file).unwrap_or(0);
                return Place::File(Position { generation, offset }, number);
            }
            beyond -= length;
        }
        here(0)
    }

    /// The first `n` bytes of the ring are in the file now.
    fn bring_marks(&mut self, n: usize) {
        let marks = self.shared.state().marks;
        let marks = marks.map(|place| match place {
            Place::Ring(at) if at <= n => self.back((n - at) as u64),
            Place::Ring(at) => Place::Ring(at - n),
            Place::File(..) => place,
        });
        self.shared.state().marks = marks;
    }

    /// When it wants to be revived.
    pub(super) fn retry_at(&self) -> Option<Mono> {
        self.trouble.as_ref().map(|t| t.retry_at)
    }

    /// One step from a pipe into the file, or into the ring. `seen` is shown every byte.
    pub(super) fn take(
        &mut self,
        source: &SourceShared,
        tools: &mut Tools,
        mut seen: Option<Seen<'_>>,
    ) -> Took {
        if self.trouble.is_none() {
            self.look(tools);
        }
        // A device keeps nothing to read back from.
        if self.trouble.is_some() || self.copying || (self.kind == SinkKind::Device && seen.is_some()) {
            return self.take_copying(source, tools, seen);
        }
        let plan = self.plan(source, tools);
        let (len, cut) = match plan {
            Plan::Nothing => return Took::Empty,
            Plan::Cut(0) => {
                self.put_aside(tools);
                return Took::Moved(0, true);
            }
            Plan::Cut(len) => (len, true),
            Plan::Upto(len) => (len, false),
        };
        let Some(file) = &self.file else { return Took::Empty };
        let number = if self.kind == SinkKind::Regular { self.number } else { 0 };
        let place = pipe::Place { file, number, offset: self.offset };
        let moved = source.taking(
            || tools.mover.move_to_file(source.key, source.pipe.as_handle(), place, len),
            |moved| moved.as_ref().map_or(0, |n| *n as u64),
        );
        match moved {
            Ok(0) => Took::Ended,
            Ok(n) => {
                if let Some(seen) = &mut seen {
                    show(file, self.offset, n, tools, seen);
                }
                self.wrote(n, tools);
                if cut && n == len {
                    self.put_aside(tools);
                }
                Took::Moved(n, n == len || n >= WINDOW / 4)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Took::Empty,
            // Somebody emptied the file before these bytes came: they follow its new end.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Took::Moved(0, true),
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                self.copying = true;
                self.take_copying(source, tools, seen)
            }
            Err(e) => {
                self.enter(&e, tools);
                self.take_copying(source, tools, seen)
            }
        }
    }

    /// The same through memory: for files that take no splice, and for those that take nothing.
    fn take_copying(&mut self, source: &SourceShared, tools: &mut Tools, seen: Option<Seen<'_>>) -> Took {
        let mut buffer = tools.buffer(WINDOW);
        let read = source.taking(
            || pipe::read(source.pipe.as_handle(), &mut buffer[..WINDOW]),
            |read| read.as_ref().map_or(0, |n| *n as u64),
        );
        let took = match read {
            Ok(0) => Took::Ended,
            Ok(n) => {
                if let Some(seen) = seen {
                    seen(&buffer[..n]);
                }
                self.write(&buffer[..n], tools);
                Took::Moved(n, n == WINDOW)
            }
            Err(_) => Took::Empty,
        };
        tools.keep(buffer);
        took
    }

    /// Writes bytes from memory, or keeps them in the ring.
    pub(super) fn write(&mut self, mut bytes: &[u8], tools: &mut Tools) {
        while !bytes.is_empty() && self.trouble.is_none() {
            match self.write_some(bytes, tools) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) => self.enter(&e, tools),
            }
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.keep(bytes, tools);
        }
    }

    /// A line of keepwell's own.
    pub(super) fn note_dropped(&mut self, dropped: u64, why: &str, tools: &mut Tools) {
        if dropped == 0 {
            return;
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.dropped += dropped;
        } else {
            let note = self.note(dropped, why);
            self.write(&note, tools);
        }
    }

    /// Tries again to write what was kept. Gives whether all is well again.
    pub(super) fn revive(&mut self, tools: &mut Tools) -> bool {
        let Some(mut trouble) = self.trouble.take() else { return true };
        match self.write_kept(&mut trouble, tools) {
            Ok(()) => {
                let text = match trouble.dropped {
                    0 => format!(
                        "its output is written to {} again; nothing was lost",
                        self.shared.path.display()
                    ),
                    n => format!(
                        "its output is written to {} again; {n} bytes were dropped",
                        self.shared.path.display()
                    ),
                };
                let level = if trouble.dropped == 0 { Level::Info } else { Level::Warn };
                tools.tell(self.slot, level, text);
                // The last line may have ended a file whose successor cannot be opened.
                self.trouble.is_none()
            }
            Err(e) => {
                trouble.again(&e, tools.now);
                self.trouble = Some(trouble);
                false
            }
        }
    }

    /// Nothing more will come.
    pub(super) fn finish(&mut self, tools: &mut Tools) {
        if let Some((ring, dropped, why)) = self.give_up(tools) {
            // What came after the ring was full has been counted.
            tools.lose(ring.len() as u64);
            let lost = ring.len() as u64 + dropped;
            let text =
                format!("{lost} bytes of its output were lost: {} ({why})", self.shared.path.display());
            tools.tell(self.slot, Level::Error, text);
        }
        self.write_index();
        self.shared.state().finished = true;
    }

    /// What could not be written, for another file.
    pub(super) fn give_up(&mut self, tools: &mut Tools) -> Option<(Vec<u8>, u64, String)> {
        if self.revive(tools) {
            return None;
        }
        let trouble = self.trouble.take()?;
        tools.rings -= trouble.ring.len();
        Some((trouble.ring, trouble.dropped, trouble.why))
    }

    fn open_file(&mut self) -> io::Result<()> {
        let (file, kind) = pipe::open_sink(&self.shared.path)?;
        self.offset = if kind == SinkKind::Regular { file.metadata()?.len() } else { 0 };
        self.number = pipe::file_number(&file).unwrap_or(0);
        self.file = Some(file);
        self.kind = kind;
        self.copying = false;
        self.index.begin();
        Ok(())
    }

    /// Writes into the index what waits for that.
    pub(super) fn write_index(&mut self) -> bool {
        self.index.write(&self.shared)
    }

    fn wrote(&mut self, n: usize, tools: &mut Tools) {
        if self.kind == SinkKind::Regular {
            if self.index.wrote(&self.shared, self.offset, tools.now) {
                tools.index_at.get_or_insert(tools.now + INDEX_LAG);
            }
            self.offset += n as u64;
        }
    }

    /// Room until the cut.
    fn left(&self) -> u64 {
        match self.kind {
            SinkKind::Regular if self.rotate_size > 0 => self.rotate_at.saturating_sub(self.offset),
            SinkKind::Regular | SinkKind::Device => u64::MAX,
        }
    }

    fn plan(&self, source: &SourceShared, tools: &mut Tools) -> Plan {
        let left = self.left();
        if left >= LARGEST_PIPE as u64 {
            return Plan::Upto(LARGEST_PIPE);
        }
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let waiting = pipe::available(source.pipe.as_handle()).unwrap_or(0);
        if waiting == 0 {
            return Plan::Nothing;
        }
        if waiting <= left {
            return Plan::Upto(waiting);
        }
        if left > WINDOW {
            return Plan::Upto(left - WINDOW);
        }
        // Where it cannot be looked at (no descriptors), the file grows on; a line is worth more than a size.
        let Ok(window) = tools.peek(source, waiting.min(left + WINDOW)) else { return Plan::Upto(waiting) };
        let plan = match self.cut(&window, left) {
            Some(cut) => Plan::Cut(cut),
            None => Plan::Upto(window.len().max(1)),
        };
        tools.keep(window);
        plan
    }

    /// Where in `window`, the next bytes, the file ends; none if all of them go into it.
    fn cut(&self, window: &[u8], left: usize) -> Option<usize> {
        let beyond = self.offset.saturating_add(left as u64).saturating_sub(self.rotate_at);
        rotation::cut(window, left, beyond, || self.offset > 0 && self.ends_line())
    }

    /// Whether the next byte begins a line.
    fn ends_line(&self) -> bool {
        let mut last = [b'\n'];
        if let (Some(file), Some(at), SinkKind::Regular) = (&self.file, self.offset.checked_sub(1), self.kind)
        {
            // What cannot be read is taken for a line; at worst a note stands within one.
            let _ = pipe::read_at(file, &mut last, at);
        }
        last == [b'\n']
    }

    fn write_some(&mut self, bytes: &[u8], tools: &mut Tools) -> io::Result<usize> {
        if self.file.is_none() {
            self.open_file()?;
        }
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let mut len = bytes.len();
        let mut cut = false;
        if len > left {
            let window = &bytes[..len.min(left.saturating_add(WINDOW))];
            (len, cut) = self.cut(window, left).map_or((window.len(), false), |at| (at, true));
        }
        if len > 0 {
            let Some(file) = &self.file else { return Ok(0) };
            let n = pipe::write_at(file, &bytes[..len], self.offset)?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.wrote(n, tools);
            cut &= n == len;
            len = n;
        }
        if cut {
            self.put_aside(tools);
        }
        Ok(len)
    }

    fn write_kept(&mut self, trouble: &mut Trouble, tools: &mut Tools) -> io::Result<()> {
        // Somebody who makes room may have removed or emptied this very file.
        self.find_again()?;
        while !trouble.ring.is_empty() {
            let n = self.write_some(&trouble.ring, tools)?;
            trouble.ring.drain(..n);
            tools.rings -= n;
            self.bring_marks(n);
            if let Some(again) = self.trouble.take() {
                return Err(io::Error::other(again.why));
            }
        }
        self.bring_marks(0);
        let note = if trouble.dropped == 0 { Vec::new() } else { self.note(trouble.dropped, &trouble.why) };
        let mut rest = note.as_slice();
        while !rest.is_empty() {
            let n = self.write_some(rest, tools)?;
            rest = &rest[n..];
        }
        Ok(())
    }

    fn note(&self, dropped: u64, why: &str) -> Vec<u8> {
        let begin = if self.ends_line() { "" } else { "\n" };
        format!("{begin}{NOTE}{dropped} bytes of output were dropped here: {why}\n").into_bytes()
    }

    /// Is the file still as long as we left it? And once a second, while there is output: is it still the one of its
    /// name?
    fn look(&mut self, tools: &mut Tools) {
        if tools.now < self.looked + LOOK {
            self.follow_end();
            return;
        }
        self.looked = tools.now;
        if let Err(e) = self.find_again() {
            self.enter(&e, tools);
        }
    }

    /// Lets go of a file that no longer has the name, and goes on at the end of the one that has it.
    fn find_again(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return self.open_file() };
        if pipe::is_same_file(file, &self.shared.path) {
            self.follow_end();
            return Ok(());
        }
        // Before the next is opened: a full disk may need the room of this one for that.
        self.file = None;
        self.offset = 0;
        self.rotate_at = self.rotate_size;
        let mut state = self.shared.state();
        state.generation += 1;
        state.unindexed = None;
        drop(state);
        let opened = self.open_file();
        // What the runs have written so far went with the file.
        let here = self.place(0);
        let mut state = self.shared.state();
        state.marks = state.marks.map(|place| match place {
            Place::File(..) => here,
            Place::Ring(_) => place,
        });
        drop(state);
        opened
    }

    /// Where somebody made the file shorter, what comes follows what is left; else a hole of NULs would be between them.
    fn follow_end(&mut self) {
        let (Some(file), SinkKind::Regular) = (&self.file, self.kind) else { return };
        let Some(length) = file.metadata().ok().map(|m| m.len()).filter(|length| *length < self.offset)
        else {
            return;
        };
        self.offset = length;
        self.rotate_at = self.rotate_size;
        self.index.begin();
        let mut state = self.shared.state();
        state.unindexed = None;
        let generation = state.generation;
        state.marks = state.marks.map(|place| match place {
            Place::File(at, number) if at.generation == generation => {
                Place::File(Position { offset: at.offset.min(length), ..at }, number)
            }
            Place::File(..) | Place::Ring(_) => place,
        });
    }

    /// Gives the file its next name and begins another.
    fn put_aside(&mut self, tools: &mut Tools) {
        self.write_index();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        if let Err(e) = rotation::shift(&shared, state.keep) {
            // The lines matter more than the size: it grows on, and is tried again later.
            self.rotate_at = self.offset + self.rotate_size.max(LARGEST_PIPE as u64);
            let text = format!("{} cannot be rotated and grows on: {}", shared.path.display(), in_words(&e));
            tools.tell(self.slot, Level::Warn, text);
            return;
        }
        state.generation += 1;
        self.file = None;
        self.offset = 0;
        self.rotate_at = self.rotate_size;
        let opened = self.open_file();
        drop(state);
        if let Err(e) = opened {
            self.enter(&e, tools);
        }
    }

    /// From now on the ring, until a retry succeeds.
    fn enter(&mut self, error: &io::Error, tools: &mut Tools) {
        let why = in_words(error);
        let text = format!(
            "its output cannot be written to {}: {why}; it is kept in memory up to 1 MiB, then dropped and counted",
            self.shared.path.display()
        );
        tools.tell(self.slot, Level::Warn, text);
        let mut trouble = Trouble { ring: Vec::new(), dropped: 0, why, retry_at: tools.now, wait: RETRY };
        trouble.again(error, tools.now);
        self.trouble = Some(Box::new(trouble));
    }
}

impl Trouble {
    /// Once something was dropped all that follows is, so that the note stands at its place.
    fn keep(&mut self, bytes: &[u8], tools: &mut Tools) {
        let room = (RING - self.ring.len()).min(RINGS.saturating_sub(tools.rings));
        let kept = if self.dropped == 0 { &bytes[..bytes.len().min(room)] } else { &[] };
        self.ring.extend_from_slice(kept);
        tools.rings += kept.len();
        let dropped = (bytes.len() - kept.len()) as u64;
        self.dropped += dropped;
        tools.lose(dropped);
    }

    fn again(&mut self, error: &io::Error, now: Mono) {
        self.retry_at = now + self.wait;
        // A folder or a FIFO does not become a file by itself; a full disk may have room any moment.
        if error.kind() == io::ErrorKind::InvalidInput {
            self.wait = (self.wait * 2).min(LONGEST_RETRY);
        }
    }
}
