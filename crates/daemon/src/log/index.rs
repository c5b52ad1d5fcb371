//! Which byte of a log was written when: `NAME.log.idx` beside it, records of a wall time (milliseconds) and an offset,
//! 16 bytes each, little-endian, at most one a second. Only a help: what is missing or damaged in it makes `since` less
//! exact and nothing else. So a record may wait a second in memory, where readers find it too: a file more for each of
//! many services that start at once would hold up their start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepwell_core::{Mono, Wall};
use keepwell_os::{clock, pipe};

use super::shared::{SinkShared, suffixed};

/// Size of one record.
const RECORD: usize = 16;
/// Time that one record stands for at most.
const STEP: Duration = Duration::from_secs(1);

/// One record: bytes from `offset` on were written at `at` or up to a second later, if another record follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    pub(super) at: Wall,
    pub(super) offset: u64,
}

/// The writer's side.
#[derive(Debug, Default)]
pub(super) struct Index {
    next: Mono,
    /// A record waits in the shared state.
    owes: bool,
}

impl Index {
    /// Something was written at `offset`. Gives whether a record waits to be written since now.
    pub(super) fn wrote(&mut self, log: &SinkShared, offset: u64, now: Mono) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + STEP;
        self.write(log);
        log.state().unindexed = Some(Record { at: clock::wall(), offset });
        self.owes = true;
        true
    }

    /// Writes the record that waits, if one does. Gives whether one did.
    pub(super) fn write(&mut self, log: &SinkShared) -> bool {
        if !std::mem::take(&mut self.owes) {
            return false;
        }
        let record = log.state().unindexed;
        // The index is a help; a full disk is told by the log itself.
        let _ = record.map(|record| append(&log.path, record));
        // Only now: a reader finds it here or there at any moment.
        log.state().unindexed = None;
        true
    }

    /// The next bytes go to another file; a record that waited is void.
    pub(super) fn begin(&mut self) {
        *self = Index::default();
    }
}

/// The name of a log's index.
pub(super) fn path_of(log: &Path) -> PathBuf {
    suffixed(log, "idx")
}

fn append(log: &Path, record: Record) -> io::Result<()> {
    let (file, _) = pipe::open_sink(&path_of(log))?;
    // A record that was cut short by a kill or a full disk is written over.
    let end = file.metadata()?.len() / RECORD as u64 * RECORD as u64;
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&record.at.0.to_le_bytes());
    bytes[8..].copy_from_slice(&record.offset.to_le_bytes());
    pipe::write_at(&file, &bytes, end)?;
    Ok(())
}

/// What is sound in the index of a log of `length` bytes, and in the record that waits to be written into it: offsets
/// that grow and lie within it.
pub(super) fn load(log: &Path, unindexed: Option<Record>, length: u64) -> Vec<Record> {
    let bytes = fs::read(path_of(log)).unwrap_or_default();
    let mut records: Vec<Record> = Vec::with_capacity(bytes.len() / RECORD);
    let written = bytes.chunks_exact(RECORD).map(|chunk| {
        let (at, offset) = chunk.split_at(8);
        Record {
            at: Wall(i64::from_le_bytes(at.try_into().unwrap_or_default())),
            offset: u64::from_le_bytes(offset.try_into().unwrap_or_default()),
        }
    });
    for record in written.chain(unindexed) {
        if record.offset > length {
            continue;
        }
        // The log was truncated and begun again: what was said about these bytes before is void.
        while records.last().is_some_and(|last| last.offset >= record.offset) {
            records.pop();
        }
        records.push(record);
    }
    records
}

/// Where the bytes begin that were written at `since` or later; none if there are no such.
pub(super) fn find(records: &[Record], since: Wall) -> Option<u64> {
    let step = i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX);
    records.iter().find(|r| r.at.0.saturating_add(step) >= since.0).map(|r| r.offset)
}

/// When the byte at `offset` was written.
pub(super) fn time_at(records: &[Record], offset: u64) -> Option<Wall> {
    let after = records.partition_point(|r| r.offset <= offset);
    records.get(after.checked_sub(1)?).map(|r| r.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: i64, offset: u64) -> Record {
        Record { at: Wall(at), offset }
    }

    #[test]
    fn records_are_at_most_one_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let log = SinkShared::new(dir.path().join("web.log"), 1);
        let mut index = Index::default();
        let begin = Mono(5_000_000_000);
        for (ms, offset) in [(0, 0), (10, 100), (999, 200), (1000, 300), (1500, 400), (9000, 500)] {
            index.wrote(&log, offset, begin + Duration::from_millis(ms));
        }
        let offsets = |length| -> Vec<u64> {
            load(&log.path, log.state().unindexed, length).iter().map(|r| r.offset).collect()
        };
        assert_eq!(offsets(1000), [0, 300, 500]);
        assert_eq!(load(&log.path, None, 1000).len(), 2, "the last one waits");
        assert!(index.write(&log));
        assert!(!index.write(&log));
        assert_eq!(load(&log.path, None, 1000).len(), 3);
        index.begin();
        index.wrote(&log, 600, begin + Duration::from_millis(9001));
        assert_eq!(offsets(1000), [0, 300, 500, 600]);
        assert_eq!(offsets(400), [0, 300]);
    }

    #[test]
    fn damage_costs_exactness_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        for offset in [0, 100, 200] {
            append(&log, record(offset, offset.cast_unsigned())).unwrap();
        }
        let path = path_of(&log);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..RECORD + 7]).unwrap();
        assert_eq!(load(&log, None, 1000), [record(0, 0)]);
        append(&log, record(7, 300)).unwrap();
        assert_eq!(load(&log, None, 1000), [record(0, 0), record(7, 300)]);
        fs::write(&path, [0xff; 100]).unwrap();
        assert_eq!(load(&log, None, 1000), []);
        fs::remove_file(&path).unwrap();
        assert_eq!(load(&log, None, 1000), []);
    }

    #[test]
    fn a_truncated_log_voids_its_records() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        for r in [record(1, 0), record(2, 100), record(3, 200), record(4, 50)] {
            append(&log, r).unwrap();
        }
        assert_eq!(load(&log, None, 1000), [record(1, 0), record(4, 50)]);
    }

    #[test]
    fn since_is_exact_to_the_second() {
        let records = [record(10_000, 0), record(11_000, 100), record(3_600_000, 200)];
        assert_eq!(find(&records, Wall(0)), Some(0));
        assert_eq!(find(&records, Wall(10_900)), Some(0));
        assert_eq!(find(&records, Wall(11_001)), Some(100));
        assert_eq!(find(&records, Wall(60_000)), Some(200));
        assert_eq!(find(&records, Wall(4_000_000)), None);
        assert_eq!(time_at(&records, 150), Some(Wall(11_000)));
        assert_eq!(time_at(&records, 200), Some(Wall(3_600_000)));
        assert_eq!(time_at(&records[1..], 50), None);
    }
}
