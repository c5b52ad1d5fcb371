//! From files to lines. A reader holds no lock while it reads, and so never slows the writer: it opens the file that it
//! means under the lock that also covers renames, and knows by the generation when a file is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keepwell_core::Wall;
use keepwell_os::pipe;
use keepwell_sdk::wire::LogLine;

use super::WINDOW;
use super::index::{self, Record};
use super::line::{Lines, Piece, shown};
use super::shared::{SinkShared, SlotShared, lock};

/// A place in the files of one sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    pub(super) generation: i64,
    pub(super) offset: u64,
}

/// A line and when it was written, as far as that is known.
pub(super) type Timed = (Wall, LogLine);

/// How one step of a reader ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// There may be more.
    Read,
    /// All that is there was read.
    Idle,
    /// And there will be no more.
    Finished,
}

/// See [`super::LogHub::tail_many`]. `limit` bounds the bytes that are read for lines.
pub(super) fn tail(
    slots: &[Arc<SlotShared>],
    lines: Option<usize>,
    since: Option<Wall>,
    limit: u64,
) -> Vec<LogLine> {
    let slots: Vec<Vec<(Reader, Position)>> = slots.iter().map(readers).collect();
    let share = limit / slots.iter().map(Vec::len).sum::<usize>().max(1) as u64;
    let mut all: Vec<Timed> = Vec::new();
    for mut readers in slots {
        for (reader, end) in &mut readers {
            reader.go_back(*end, lines, since, share);
        }
        all.extend(read_all(readers, lines));
    }
    in_order(all)
}

/// See [`super::LogHub::last_words`].
pub(super) fn of_ended_run(slot: &Arc<SlotShared>, lines: usize, limit: u64) -> Vec<LogLine> {
    let mut readers: Vec<_> = readers(slot).into_iter().filter_map(|(r, end)| r.of_ended_run(end)).collect();
    let share = limit / readers.len().max(1) as u64;
    for (reader, begin, end) in &mut readers {
        reader.go_back(*end, Some(lines), None, share);
        reader.begin_not_before((*begin).min(*end));
    }
    let readers = readers.into_iter().map(|(reader, _, end)| (reader, end)).collect();
    in_order(read_all(readers, Some(lines)))
}

/// What is before the ends of one slot's files, at most `lines` in all.
fn read_all(readers: Vec<(Reader, Position)>, lines: Option<usize>) -> Vec<Timed> {
    let mut found = Vec::new();
    for (mut reader, end) in readers {
        while reader.step(Some(end), &mut found) == Step::Read {}
        reader.give_rest(&mut found);
    }
    match lines {
        Some(lines) => last_of(found, lines),
        None => found,
    }
}

/// The last `left` lines of one slot by their times; all pieces of a long line count as one.
pub(super) fn last_of(mut found: Vec<Timed>, mut left: usize) -> Vec<Timed> {
    found.sort_by_key(|(at, _)| *at);
    // Whether the line is kept whose pieces come, by stream.
    let mut keeps: BTreeMap<String, bool> = BTreeMap::new();
    let mut kept = Vec::with_capacity(found.len());
    for (at, line) in found.into_iter().rev() {
        if !line.partial || !keeps.contains_key(&line.stream) {
            keeps.insert(line.stream.clone(), left > 0);
            left = left.saturating_sub(1);
        }
        if keeps.get(&line.stream) == Some(&true) {
            kept.push((at, line));
        }
    }
    kept.reverse();
    kept
}

/// Puts lines of several services in the order of their times; lines of one keep theirs.
pub(super) fn in_order(mut found: Vec<Timed>) -> Vec<LogLine> {
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, line)| line).collect()
}

/// A reader for each file of a slot, and where that file ends now.
pub(super) fn readers(slot: &Arc<SlotShared>) -> Vec<(Reader, Position)> {
    let sinks = lock(&slot.sinks).clone();
    sinks
        .into_iter()
        .enumerate()
        .map(|(stream, sink)| {
            let end = end_of(&sink);
            (Reader::new(Arc::clone(slot), sink, stream, end), end)
        })
        .collect()
}

fn end_of(sink: &SinkShared) -> Position {
    let state = sink.state();
    let offset = fs::metadata(&sink.path).ok().filter(|m| m.is_file()).map_or(0, |m| m.len());
    Position { generation: state.generation, offset }
}

/// Reads one sink's files in order.
pub(super) struct Reader {
    slot: Arc<SlotShared>,
    sink: Arc<SinkShared>,
    stream: usize,
    at: Position,
    file: Option<File>,
    /// Times are wanted.
    timed: bool,
    records: Vec<Record>,
    lines: Lines,
    /// Where the next line began.
    line_at: u64,
}

impl Reader {
    fn new(slot: Arc<SlotShared>, sink: Arc<SinkShared>, stream: usize, at: Position) -> Reader {
        let line_at = at.offset;
        Reader {
            slot,
            sink,
            stream,
            at,
            file: None,
            timed: true,
            records: Vec::new(),
            lines: Lines::default(),
            line_at,
        }
    }

    /// Begins `lines` lines before `end`, or where `since` begins, whichever is later; at most `limit` bytes back.
    pub(super) fn go_back(&mut self, end: Position, lines: Option<usize>, since: Option<Wall>, limit: u64) {
        let by_lines = back(&self.sink, end, lines, limit);
        let by_time = since.map_or(by_lines, |since| first_since(&self.sink, end, since));
        self.at = by_lines.max(by_time).min(end);
        self.line_at = self.at.offset;
    }

    /// And where the last run that ended begins and ends, if that is known.
    fn of_ended_run(self, end: Position) -> Option<(Reader, Position, Position)> {
        let marks = self.sink.state().marks;
        marks.words(end).map(|(begin, end)| (self, begin, end))
    }

    fn begin_not_before(&mut self, begin: Position) {
        self.at = self.at.max(begin);
        self.line_at = self.at.offset;
    }

    /// From now on lines come without their times, which costs less.
    pub(super) fn go_live(&mut self) {
        self.timed = false;
        self.records = Vec::new();
    }

    /// Lets go of the file until the next step; for those who follow many.
    pub(super) fn rest(&mut self) {
        self.file = None;
    }

    /// Reads one piece, up to `until`.
    pub(super) fn step(&mut self, until: Option<Position>, out: &mut Vec<Timed>) -> Step {
        if until.is_some_and(|until| self.at >= until) {
            return Step::Finished;
        }
        // Looked at before reading: if a rotation had happened by then, the end of this file is its last.
        let state = *self.sink.state();
        let complete = self.at.generation < state.generation;
        if self.file.is_none() && !self.open() {
            if complete {
                self.skip(state.generation.saturating_sub(i64::from(state.keep)), out);
                return Step::Read;
            }
            return if state.finished { self.go_on(out) } else { Step::Idle };
        }
        match self.read(until, out) {
            n @ 1.. => {
                self.at.offset += n as u64;
                Step::Read
            }
            0 if self.was_truncated() => Step::Read,
            0 if complete => {
                self.next_file(self.at.generation + 1);
                Step::Read
            }
            0 if state.finished => self.go_on(out),
            0 => Step::Idle,
        }
    }

    /// Gives a last line that has no end.
    pub(super) fn give_rest(&mut self, out: &mut Vec<Timed>) {
        let rest = self.lines.rest();
        if !rest.is_empty() {
            let at = self.time();
            out.push((at, shown(&self.slot.shown, self.stream, Piece { bytes: &rest, partial: true })));
        }
    }

    fn read(&mut self, until: Option<Position>, out: &mut Vec<Timed>) -> usize {
        let Some(file) = &self.file else { return 0 };
        let room = match until {
            Some(u) if u.generation == self.at.generation => (u.offset - self.at.offset).min(WINDOW as u64),
            Some(_) | None => WINDOW as u64,
        };
        let mut buffer = vec![0; usize::try_from(room).unwrap_or(WINDOW)];
        // What cannot be read now may be read later; the writer tells of a broken disk.
        let n = pipe::read_at(file, &mut buffer, self.at.offset).unwrap_or(0);
        let (slot, stream, records, line_at) = (&self.slot, self.stream, &self.records, &mut self.line_at);
        self.lines.feed(&buffer[..n], |piece| {
            let at = index::time_at(records, *line_at).unwrap_or_default();
            *line_at += piece.bytes.len() as u64 + u64::from(!piece.partial);
            out.push((at, shown(&slot.shown, stream, piece)));
        });
        n
    }

    fn time(&self) -> Wall {
        index::time_at(&self.records, self.line_at).unwrap_or_default()
    }

    fn open(&mut self) -> bool {
        let Some((file, path)) = open_generation(&self.sink, self.at.generation) else { return false };
        if self.timed {
            self.records = index::load(&path, self.sink.unindexed(self.at.generation), u64::MAX);
        }
        self.file = Some(file);
        true
    }

    fn next_file(&mut self, generation: i64) {
        self.at = Position { generation, offset: 0 };
        self.file = None;
        self.line_at = 0;
    }

    fn was_truncated(&mut self) -> bool {
        let Some(length) = self.file.as_ref().and_then(|f| f.metadata().ok()).map(|m| m.len()) else {
            return false;
        };
        if length >= self.at.offset {
            return false;
        }
        self.next_file(self.at.generation);
        true
    }

    /// The file that was to be read next is gone.
    fn skip(&mut self, oldest: i64, out: &mut Vec<Timed>) {
        let text = "output is missing here: its file was removed by rotation before it could be shown";
        let line =
            LogLine { line: text.to_owned(), note: true, ..shown(&self.slot.shown, self.stream, EMPTY) };
        out.push((self.time(), line));
        self.lines.rest();
        self.next_file(oldest.max(self.at.generation + 1));
    }

    /// Nothing more is written here; perhaps elsewhere.
    fn go_on(&mut self, out: &mut Vec<Timed>) -> Step {
        self.give_rest(out);
        let next = lock(&self.slot.sinks).get(self.stream).cloned();
        match next.filter(|next| !Arc::ptr_eq(next, &self.sink)) {
            Some(next) if !self.slot.closed.load(Ordering::Acquire) => {
                let offset = next.state().began;
                let at = Position { generation: 0, offset };
                let timed = self.timed;
                *self = Reader { timed, ..Reader::new(Arc::clone(&self.slot), next, self.stream, at) };
                Step::Read
            }
            Some(_) | None => Step::Finished,
        }
    }
}

const EMPTY: Piece<'static> = Piece { bytes: b"", partial: false };

fn open_generation(sink: &SinkShared, generation: i64) -> Option<(File, PathBuf)> {
    let state = sink.state();
    let aside = u64::try_from(state.generation.checked_sub(generation)?).ok()?;
    if aside > u64::from(state.keep) {
        return None;
    }
    let path = sink.aside(aside);
    // A FIFO would wait for a writer, a device has no end.
    let regular = fs::metadata(&path).is_ok_and(|m| m.is_file());
    regular.then(|| File::open(&path).ok()).flatten().map(|file| (file, path))
}

/// Where the last `wanted` lines before `end` begin, or all; whole lines of at most `limit` bytes.
fn back(sink: &SinkShared, end: Position, wanted: Option<usize>, limit: u64) -> Position {
    let Some(wanted) = wanted else { return back_by_size(sink, end, limit) };
    let (mut left, mut begin, mut budget) = (wanted, end, limit);
    // The newline at the very end begins no line.
    let mut at_end = true;
    for (generation, file, length) in files_back(sink, end) {
        let mut at = length;
        while at > 0 && left > 0 && budget > 0 {
            let room = at.min(WINDOW as u64).min(budget);
            let mut buffer = vec![0; usize::try_from(room).unwrap_or(0)];
            if pipe::read_at(&file, &mut buffer, at - room).unwrap_or(0) as u64 != room {
                return begin;
            }
            for i in newlines_back(&buffer) {
                if std::mem::take(&mut at_end) && i + 1 == buffer.len() {
                    continue;
                }
                begin = Position { generation, offset: at - room + i as u64 + 1 };
                left -= 1;
                if left == 0 {
                    return begin;
                }
            }
            at_end = false;
            at -= room;
            budget -= room;
        }
        if left == 0 || budget == 0 {
            return begin;
        }
        begin = Position { generation, offset: 0 };
    }
    begin
}

fn back_by_size(sink: &SinkShared, end: Position, limit: u64) -> Position {
    let (mut begin, mut budget) = (end, limit);
    for (generation, file, length) in files_back(sink, end) {
        if length > budget {
            return Position { generation, offset: next_line(&file, length - budget) };
        }
        budget -= length;
        begin = Position { generation, offset: 0 };
    }
    begin
}

/// The files from `end` backwards, and how much of each is before it.
fn files_back(sink: &SinkShared, end: Position) -> impl Iterator<Item = (i64, File, u64)> {
    (i64::MIN..=end.generation).rev().map_while(move |generation| {
        let (file, _) = open_generation(sink, generation)?;
        let length = file.metadata().ok()?.len();
        let length = if generation == end.generation { end.offset.min(length) } else { length };
        Some((generation, file, length))
    })
}

fn newlines_back(buffer: &[u8]) -> impl Iterator<Item = usize> {
    buffer.iter().enumerate().rev().filter(|(_, b)| **b == b'\n').map(|(i, _)| i)
}

/// Where the first line after `at` begins, or `at` in the middle of a very long one.
fn next_line(file: &File, at: u64) -> u64 {
    let mut buffer = vec![0; WINDOW];
    let n = pipe::read_at(file, &mut buffer, at).unwrap_or(0);
    buffer[..n].iter().position(|b| *b == b'\n').map_or(at, |i| at + i as u64 + 1)
}

/// Where the output begins that was written at `since` or later.
fn first_since(sink: &SinkShared, end: Position, since: Wall) -> Position {
    let mut first = end;
    for generation in (i64::MIN..=end.generation).rev() {
        let Some((file, path)) = open_generation(sink, generation) else { break };
        let Ok(meta) = file.metadata() else { break };
        let records = index::load(&path, sink.unindexed(generation), meta.len());
        let begin = if records.is_empty() { by_age(&meta, since) } else { index::find(&records, since) };
        match begin {
            Some(offset) => first = Position { generation, offset },
            // All of this file is older, and so are those before it.
            None if meta.len() > 0 => break,
            None => {}
        }
    }
    first
}

/// A log without index is given whole if it was written since then at all.
fn by_age(meta: &fs::Metadata, since: Wall) -> Option<u64> {
    let modified = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let modified = i64::try_from(modified.as_millis()).ok()?;
    (modified >= since.0 && meta.len() > 0).then_some(0)
}
