//! What must outlive the daemon: the operators' will and the last events, in SQLite (`keepwell.db`, WAL).
//!
//! One thread writes; whoever gives it something never waits for the disk. A store that cannot be opened is set aside and
//! a fresh one begun; where nothing can be written at all, the newest events stay in memory and that is told. Nothing here
//! ever keeps the guardian from guarding.
//!
//! Commits of operators' commands are synced to the disk before they are answered (`synchronous = FULL`): they are rare,
//! one sync costs some milliseconds that no service waits for, and "stopped stays stopped" should hold after a power cut.
//! Events are not synced (`NORMAL`): a power cut may take the last ones, a killed daemon or a crash of keepwell only what
//! was gathered in the last 20 ms.

mod db;
mod incidents;
mod query;
mod queue;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::Record;
use keepwell_core::supervisor::Persisted;
use keepwell_sdk::wire;

use crate::message::{EngineHandle, Message};
use db::{Db, OpenError, Outboxes};
pub use incidents::IncidentQuery;
pub(crate) use incidents::{Down, reliability};
pub use query::{EventQuery, ServiceFilter};
use queue::{Op, Queue};
use writer::Writer;

/// The file's name in the state folder.
pub const FILE: &str = "keepwell.db";

/// What is answered after the end.
pub(crate) const CLOSED: &str = "the store is closed";

/// Bounds of the store; tests make them small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Events kept: about 40 MB, weeks of an eventful host.
    keep: u64,
    /// Events that wait for the writer: some seconds of a thousand services that crash at once.
    queue: usize,
    /// Events held in memory while nothing can be written.
    backlog: usize,
    /// How long an event waits for others to share its transaction.
    gather: Duration,
    /// Pages that the file may have; for tests of a full disk.
    max_pages: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keep: 100_000,
            queue: 16_384,
            backlog: 10_000,
            gather: Duration::from_millis(20),
            max_pages: None,
        }
    }
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    queue: Arc<Queue>,
    path: PathBuf,
}

/// A store and what it knew.
pub struct Opened {
    /// For reading and writing from now on.
    pub store: Store,
    /// The operators' will.
    pub persisted: Persisted,
    /// The number of the next event, as far as this store knows.
    pub next_seq: u64,
    /// What receivers of messages are still to be told, by their names.
    pub outboxes: BTreeMap<String, Vec<u8>>,
    /// What went wrong on the way, in words worth telling.
    pub notes: Vec<String>,
}

/// Questions wait this long for the writer; it answers in microseconds unless the disk hangs.
const PATIENCE: Duration = Duration::from_secs(5);

impl Store {
    /// Opens the store of a state folder. Cannot fail; see the module.
    #[must_use]
    pub fn open(dir: &Path) -> Opened {
        Self::open_with(dir, Limits::default())
    }

    pub(crate) fn open_with(dir: &Path, limits: Limits) -> Opened {
        let path = dir.join(FILE);
        let mut notes = Vec::new();
        let (db, known) = open_or_replace(&path, limits, &mut notes);
        let queue = Arc::new(Queue::new(limits.queue, known.next_seq.saturating_sub(1)));
        let mirror = (known.persisted.clone(), known.outboxes.clone());
        let writer = Writer::new(Arc::clone(&queue), path.clone(), db, mirror, limits);
        if let Err(e) = writer.start() {
            queue.close();
            notes.push(format!("the store has no thread, so nothing is written: {e}"));
        }
        let Known { persisted, next_seq, outboxes } = known;
        Opened { store: Store { queue, path }, persisted, next_seq, outboxes, notes }
    }

    /// Tells the store whom to tell when writing fails or works again.
    pub fn attach(&self, engine: EngineHandle) {
        self.queue.push(Op::Attach(engine));
    }

    /// Writes `records` whole or not at all; `Message::Committed` follows. What could not be written is tried again with
    /// whatever is written next.
    pub fn commit(&self, ticket: u64, records: Vec<Record>, engine: EngineHandle) {
        if let Some(Op::Commit { ticket, engine, .. }) =
            self.queue.push(Op::Commit { ticket, records, engine })
        {
            let result = Err(CLOSED.to_owned());
            // An engine that takes no messages is being replaced, and its questions with it.
            let _ = engine.send(Message::Committed { ticket, result });
        }
    }

    /// Stores an event some time soon. Never waits; what finds no room is counted and told. An event that is stored
    /// already is left as it is, so a reborn daemon may give again what its predecessor may not have stored.
    pub fn append(&self, event: Arc<wire::Event>) {
        self.queue.append(event);
    }

    /// Keeps what a receiver is still to be told, in the place of what was kept before; `None`: nothing any more. Never waits.
    pub fn keep_outbox(&self, receiver: &str, outbox: Option<Vec<u8>>) {
        self.queue.keep(receiver, outbox);
    }

    /// The newest event that was given to this store or found in it.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.queue.last_seq()
    }

    /// Every event up to this one is in the file: it survives the daemon.
    #[must_use]
    pub fn stored_seq(&self) -> u64 {
        self.queue.stored_seq()
    }

    /// Events that will never be stored, since this store was opened.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lost()
    }

    /// Reads events in ascending order, with all that were appended before the call. Waits for the disk: not for the
    /// engine's thread or an async one.
    ///
    /// # Errors
    /// In words, when the disk does not answer or cannot be read.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<wire::Event>, String> {
        let held = self.flush()?;
        query::read(held.on_disk.then_some(self.path.as_path()), &held.events, query)
    }

    /// Reads incidents, newest first, with all that was appended before the call. Waits for the disk as `events` does.
    ///
    /// # Errors
    /// As for [`Store::events`].
    pub fn incidents(&self, query: &IncidentQuery) -> Result<Vec<wire::Incident>, String> {
        let held = self.flush()?;
        incidents::read(held.on_disk.then_some(self.path.as_path()), &held.events, query)
    }

    /// When keepwell did not run, as far back as incidents are kept.
    ///
    /// # Errors
    /// As for [`Store::events`].
    pub(crate) fn down(&self) -> Result<Vec<Down>, String> {
        let held = self.flush()?;
        incidents::down(held.on_disk.then_some(self.path.as_path()))
    }

    /// The number after which an ascending read finds what `query` means: for reading it page by page.
    ///
    /// # Errors
    /// As for [`Store::events`].
    pub fn cursor(&self, query: &EventQuery) -> Result<u64, String> {
        let held = self.flush()?;
        query::start(held.on_disk.then_some(self.path.as_path()), &held.events, query)
    }

    /// Writes all that waits and closes the file. Later writes are refused.
    pub fn shutdown(&self) {
        self.queue.close();
        self.queue.wait_done(PATIENCE);
    }

    fn flush(&self) -> Result<queue::Held, String> {
        let (answer, held) = std::sync::mpsc::sync_channel(1);
        if self.queue.push(Op::Flush(answer)).is_some() {
            return Err(CLOSED.to_owned());
        }
        held.recv_timeout(PATIENCE).map_err(|_| "the disk of the state folder does not answer".to_owned())
    }
}

/// What a store knew when it was opened.
struct Known {
    persisted: Persisted,
    next_seq: u64,
    outboxes: Outboxes,
}

impl Default for Known {
    fn default() -> Self {
        Self { persisted: Persisted::default(), next_seq: 1, outboxes: Outboxes::new() }
    }
}

fn open_or_replace(path: &Path, limits: Limits, notes: &mut Vec<String>) -> (Option<Db>, Known) {
    match Db::open(path, limits.max_pages) {
        Ok((db, newer)) => {
            notes.extend(newer);
            match db.known() {
                Ok(known) => return (Some(db), known),
                Err(e) => notes.push(format!("the store {} is damaged: {e}", path.display())),
            }
        }
        Err(OpenError::Damaged(why)) => notes.push(format!("the store {} is damaged: {why}", path.display())),
        Err(OpenError::NotNow(why)) => {
            notes.push(format!(
                "the store {} cannot be opened, so decisions and events are kept in memory only: {why}",
                path.display()
            ));
            return (None, db::salvage(path));
        }
    }
    let known = db::salvage(path);
    match replace(path, limits, &known.persisted, &known.outboxes) {
        Ok((db, aside)) => {
            notes.push(format!(
                "a fresh store was begun; the old one is {aside}, and {} could be read from it",
                if (Persisted { incidents: 0, ..known.persisted.clone() }) == Persisted::default() {
                    "nothing of the operators' will"
                } else {
                    "the operators' will"
                }
            ));
            (Some(db), known)
        }
        Err(why) => {
            notes.push(format!(
                "no fresh store could be begun, so decisions and events are kept in memory only: {why}"
            ));
            (None, known)
        }
    }
}

/// Sets the file aside and begins a fresh one that holds `persisted` and these outboxes. Returns where the old one went.
fn replace(
    path: &Path,
    limits: Limits,
    persisted: &Persisted,
    outboxes: &Outboxes,
) -> Result<(Db, String), String> {
    let aside = db::set_aside(path)?;
    let (mut db, _) = Db::open(path, limits.max_pages).map_err(|e| e.to_string())?;
    let records = db::records_of(persisted);
    db.write(&[], &records, &db::named(outboxes, outboxes.keys())).map_err(|e| e.to_string())?;
    Ok((db, aside))
}

#[cfg(test)]
mod tests;
