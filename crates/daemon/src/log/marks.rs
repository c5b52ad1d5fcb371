//! Where the runs of a service begin and end in its files, and how the next daemon knows.
//!
//! The marks of all slots are in one file, a record of fixed size for each, which the log path's thread writes in place
//! when a run begins or ends: nothing grows with the number of restarts, and no line costs anything. A place is kept as the
//! host's number of the file and an offset, which rotation does not change. Only a help: what is missing or damaged in it
//! costs last words and nothing else.

use std::fs::File;
use std::io;
use std::path::Path;

use keepwell_core::RunId;
use keepwell_os::pipe;

use super::read::Position;
use super::shared::SinkShared;

/// Output, errors.
const SINKS: usize = 2;
/// A run's begin, and begin and end of the last that ended.
const PLACES: usize = 3;
/// File and offset, 8 bytes each, little-endian.
const PLACE: usize = 16;
/// The run, and the places of each sink.
const RECORD: usize = 8 + SINKS * PLACES * PLACE;

/// A place in what is written for a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// In a file, with the host's number of it.
    File(Position, u64),
    /// After so many bytes of what waits for the file to take them.
    Ring(usize),
}

/// What is known of the runs in one sink.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Marks {
    /// Where the last run begins.
    pub(super) begun: Option<Place>,
    /// Where the last run that ended begins and ends.
    pub(super) ended: Option<(Place, Place)>,
}

impl Marks {
    /// A run has begun whose end is not marked.
    pub(super) fn is_open(&self) -> bool {
        self.ended.map(|(begin, _)| begin) != self.begun
    }

    /// A run begins here.
    pub(super) fn begin(&mut self, here: Place) {
        if self.is_open() {
            // The daemon that should have marked its end was killed.
            self.end(here);
        }
        self.begun = Some(here);
    }

    /// It ends here; when its end is told again, its last processes wrote on after the main one was gone.
    pub(super) fn end(&mut self, here: Place) {
        self.ended = self.begun.map(|begin| (begin, here));
    }

    /// The same with every place put elsewhere.
    pub(super) fn map(self, put: impl Fn(Place) -> Place) -> Marks {
        Marks { begun: self.begun.map(&put), ended: self.ended.map(|(begin, end)| (put(begin), put(end))) }
    }

    /// Where the last words are, up to the end of the file where what comes after is not in it yet.
    pub(super) fn words(&self, end_of_file: Position) -> Option<(Position, Position)> {
        match self.ended? {
            (Place::File(begin, _), Place::File(end, _)) => Some((begin, end.min(end_of_file))),
            (Place::File(begin, _), Place::Ring(_)) => Some((begin, end_of_file)),
            (Place::Ring(_), _) => None,
        }
    }

    fn places(&self) -> [Option<Place>; PLACES] {
        [self.begun, self.ended.map(|(begin, _)| begin), self.ended.map(|(_, end)| end)]
    }
}

/// The file with the marks of all slots.
pub(super) struct Memory(Option<File>);

impl Memory {
    /// Goes on with what an earlier daemon left. Without the file nothing is kept for the next one.
    pub(super) fn open(path: &Path) -> Memory {
        Memory(pipe::open_sink(path).ok().map(|(file, _)| file))
    }

    /// Keeps the marks of a slot, one for each sink.
    pub(super) fn keep(&self, slot: u32, run: Option<RunId>, sinks: &[Marks]) -> io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let mut record = Vec::with_capacity(RECORD);
        record.extend(run.map_or(0, |r| r.0).to_le_bytes());
        for place in sinks.iter().take(SINKS).flat_map(Marks::places) {
            let (file, offset) = match place {
                Some(Place::File(at, file)) => (file, at.offset),
                // What is in the ring ends with this process.
                Some(Place::Ring(_)) | None => (0, 0),
            };
            record.extend(file.to_le_bytes());
            record.extend(offset.to_le_bytes());
        }
        record.resize(RECORD, 0);
        pipe::write_at(file, &record, u64::from(slot) * RECORD as u64).map(drop)
    }

    /// What was kept of a slot.
    pub(super) fn recall(&self, slot: u32, sinks: &[&SinkShared]) -> (Option<RunId>, Vec<Marks>) {
        let mut record = [0; RECORD];
        let read = self.0.as_ref().map(|f| pipe::read_at(f, &mut record, u64::from(slot) * RECORD as u64));
        let mut numbers =
            record.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default()));
        let run = numbers.next().filter(|run| *run != 0);
        if !matches!(read, Some(Ok(RECORD))) || run.is_none() {
            return (None, vec![Marks::default(); sinks.len()]);
        }
        let marks = sinks.iter().map(|sink| {
            let mut place = || sink.find(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            let (begun, begin, end) = (place(), place(), place());
            Marks { begun, ended: begin.zip(end) }
        });
        let marks = marks.collect();
        (run.map(RunId), marks)
    }
}

impl SinkShared {
    /// The place in that file of the host, if it still is one of these.
    fn find(&self, number: u64, offset: u64) -> Option<Place> {
        let keep = u64::from(self.state().keep);
        let aside = |n: &u64| File::open(self.aside(*n)).ok();
        let files = (0..=keep).map_while(|n| Some((n, aside(&n)?)));
        let (n, file) = files.filter(|_| number != 0).find(|(_, f)| pipe::file_number(f) == Some(number))?;
        let generation = 0_i64.saturating_sub_unsigned(n);
        let whole = file.metadata().ok()?.len();
        (offset <= whole).then_some(Place::File(Position { generation, offset }, number))
    }
}
