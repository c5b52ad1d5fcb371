//! The bounded queue between the daemon's threads and the writer. Nobody who puts something in waits for the disk.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keepwell_core::Record;
use keepwell_sdk::wire;

use crate::message::{EngineHandle, Message};

/// What the writer does beside storing events. There are never more of these than askers: one a command (the engine's
/// inbox is bounded), one a reading thread.
pub(super) enum Op {
    Attach(EngineHandle),
    Commit { ticket: u64, records: Vec<Record>, engine: EngineHandle },
    Flush(SyncSender<Held>),
}

/// The answer to a flush: what is not in the file.
pub(super) struct Held {
    pub(super) on_disk: bool,
    pub(super) events: Vec<Arc<wire::Event>>,
}

/// All that waited when the writer looked.
#[derive(Default)]
pub(super) struct Work {
    pub(super) events: Vec<Arc<wire::Event>>,
    pub(super) ops: Vec<Op>,
    /// The newest of each receiver's outboxes; `None`: there is none any more. There are as many as receivers.
    pub(super) outboxes: BTreeMap<String, Option<Vec<u8>>>,
    /// Events that found no room since the last look.
    pub(super) dropped: u64,
    pub(super) closed: bool,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    done: Condvar,
    capacity: usize,
    last: AtomicU64,
    stored: AtomicU64,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    work: Work,
    first_at: Option<Instant>,
    done: bool,
}

/// More than this in one transaction gains nothing.
const FULL_BATCH: usize = 512;

impl Queue {
    pub(super) fn new(capacity: usize, last: u64) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            done: Condvar::new(),
            capacity,
            last: AtomicU64::new(last),
            stored: AtomicU64::new(last),
            lost: AtomicU64::new(0),
        }
    }

    pub(super) fn append(&self, event: Arc<wire::Event>) {
        self.last.fetch_max(event.seq, Ordering::Relaxed);
        let mut w = self.lock();
        if w.work.closed {
            return;
        }
        if w.work.events.len() >= self.capacity {
            w.work.dropped += 1;
            self.lose();
            return;
        }
        w.work.events.push(event);
        // The writer is woken for the first event and when a batch is full; between them it sleeps through the gathering.
        if w.work.events.len() == 1 {
            w.first_at.get_or_insert_with(Instant::now);
            self.changed.notify_one();
        } else if w.work.events.len() == FULL_BATCH {
            self.changed.notify_one();
        }
    }

    /// As soon as an event.
    pub(super) fn keep(&self, receiver: &str, outbox: Option<Vec<u8>>) {
        let mut w = self.lock();
        if w.work.closed {
            return;
        }
        w.work.outboxes.insert(receiver.to_owned(), outbox);
        if w.first_at.is_none() {
            w.first_at = Some(Instant::now());
            self.changed.notify_one();
        }
    }

    /// Gives the operation back when the store is closed.
    pub(super) fn push(&self, op: Op) -> Option<Op> {
        let mut w = self.lock();
        if w.work.closed {
            return Some(op);
        }
        w.work.ops.push(op);
        self.changed.notify_one();
        None
    }

    pub(super) fn close(&self) {
        self.lock().work.closed = true;
        self.changed.notify_one();
    }

    /// Waits until there is something worth a transaction: an operation, a full batch, events that waited for `gather`,
    /// or the end of `patience`.
    pub(super) fn take(&self, gather: Duration, patience: Option<Duration>) -> Work {
        let started = Instant::now();
        let mut w = self.lock();
        loop {
            if w.work.closed || !w.work.ops.is_empty() || w.work.events.len() >= FULL_BATCH {
                break;
            }
            let left = match (w.first_at, patience) {
                (Some(first), _) => gather.checked_sub(first.elapsed()),
                (None, Some(patience)) => patience.checked_sub(started.elapsed()),
                (None, None) => {
                    w = self.changed.wait(w).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            let Some(left) = left else { break };
            w = self.changed.wait_timeout(w, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        w.first_at = None;
        let closed = w.work.closed;
        let work = mem::take(&mut w.work);
        w.work.closed = closed;
        work
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    pub(super) fn stored_seq(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// An event will never be stored.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn set_stored(&self, seq: u64) {
        self.stored.fetch_max(seq, Ordering::Relaxed);
    }

    /// Called when the writer's thread ends, however it ends: nobody waits for it any more.
    pub(super) fn finish(&self) {
        let mut w = self.lock();
        w.work.closed = true;
        w.done = true;
        for op in mem::take(&mut w.work.ops) {
            refuse(op);
        }
        self.done.notify_all();
    }

    pub(super) fn wait_done(&self, patience: Duration) {
        let w = self.lock();
        let waited = self.done.wait_timeout_while(w, patience, |w| !w.done);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What the lock guards is whole between any two statements, so a panic elsewhere does not spoil it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(op: Op) {
    match op {
        Op::Commit { ticket, engine, .. } => {
            let result = Err(super::CLOSED.to_owned());
            let _ = engine.send(Message::Committed { ticket, result });
        }
        // A dropped sender tells the reader.
        Op::Attach(_) | Op::Flush(_) => {}
    }
}
