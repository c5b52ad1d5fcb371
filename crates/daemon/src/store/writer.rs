//! The thread that writes. It holds what cannot be written and tells when writing begins to fail and when it works again.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use keepwell_core::Record;
use keepwell_core::event::Level;
use keepwell_core::supervisor::Persisted;
use keepwell_sdk::wire;

use super::db::{self, Db, Outboxes, WriteError};
use super::queue::{Held, Op, Queue, Work};
use super::{Limits, replace};
use crate::message::{EngineHandle, Message};

/// The first retry of a failed write comes after this, each next one after twice the time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// Without a file, opening one is tried at most this often, and only when there is something new to write.
const REOPEN: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    queue: Arc<Queue>,
    path: PathBuf,
    limits: Limits,
    /// `None`: in memory only.
    db: Option<Db>,
    /// What the file holds or should hold, for a fresh one.
    mirror: Persisted,
    /// The same of outboxes, and of which the file does not have the newest.
    outboxes: Outboxes,
    stale: BTreeSet<String>,
    /// Records whose writing failed.
    owed: Vec<Record>,
    /// Events that are not in the file, in order.
    backlog: VecDeque<Arc<wire::Event>>,
    engine: Option<EngineHandle>,
    /// Not told yet, for want of an engine or of room.
    untold: Vec<(Level, String)>,
    /// Events that will never be stored and were not told yet.
    dropped: u64,
    failing: Option<Failing>,
    reopened: Instant,
}

struct Failing {
    delay: Duration,
    at: Instant,
}

/// Tells the askers when the thread ends, also by a panic.
struct Finish(Arc<Queue>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Writer {
    pub(super) fn new(
        queue: Arc<Queue>,
        path: PathBuf,
        db: Option<Db>,
        (mirror, outboxes): (Persisted, Outboxes),
        limits: Limits,
    ) -> Self {
        Self {
            queue,
            path,
            limits,
            db,
            mirror,
            outboxes,
            stale: BTreeSet::new(),
            owed: Vec::new(),
            backlog: VecDeque::new(),
            engine: None,
            untold: Vec::new(),
            dropped: 0,
            failing: None,
            reopened: Instant::now(),
        }
    }

    pub(super) fn start(self) -> io::Result<()> {
        thread::Builder::new().name("store".into()).stack_size(512 << 10).spawn(move || self.run()).map(drop)
    }

    fn run(mut self) {
        let _finish = Finish(Arc::clone(&self.queue));
        loop {
            let work = self.queue.take(self.limits.gather, self.retry_in());
            let closed = work.closed;
            self.turn(work);
            if closed {
                return;
            }
        }
    }

    /// When the backlog is tried again; without a file nothing is tried by the clock.
    fn retry_in(&self) -> Option<Duration> {
        let failing = self.failing.as_ref()?;
        self.db.as_ref()?;
        Some((failing.at + failing.delay).saturating_duration_since(Instant::now()))
    }

    fn turn(&mut self, work: Work) {
        self.dropped += work.dropped;
        self.backlog.extend(work.events);
        for (receiver, outbox) in work.outboxes {
            match outbox {
                Some(outbox) => drop(self.outboxes.insert(receiver.clone(), outbox)),
                None => drop(self.outboxes.remove(&receiver)),
            }
            self.stale.insert(receiver);
        }
        let mut commits = Vec::new();
        let mut flushes = Vec::new();
        for op in work.ops {
            match op {
                Op::Attach(engine) => self.engine = Some(engine),
                Op::Commit { ticket, records, engine } => {
                    db::apply(&mut self.mirror, &records);
                    self.owed.extend(records);
                    self.engine.get_or_insert_with(|| engine.clone());
                    commits.push((ticket, engine));
                }
                Op::Flush(answer) => flushes.push(answer),
            }
        }
        self.reopen();
        let urgent = !commits.is_empty() || !flushes.is_empty() || work.closed;
        let result = if urgent || self.may_try() { self.write() } else { Ok(()) };
        for (ticket, engine) in commits {
            let _ = engine.send(Message::Committed { ticket, result: result.clone() });
        }
        self.bound_backlog();
        for answer in flushes {
            let events = self.backlog.iter().cloned().collect();
            // A reader that stopped waiting needs no answer.
            let _ = answer.send(Held { on_disk: self.db.is_some(), events });
        }
        self.tell_all();
    }

    fn may_try(&self) -> bool {
        self.failing.as_ref().is_none_or(|f| f.at.elapsed() >= f.delay)
    }

    /// Everything that waits, in one transaction.
    fn write(&mut self) -> Result<(), String> {
        if self.backlog.is_empty() && self.owed.is_empty() && self.stale.is_empty() {
            return Ok(());
        }
        let Some(db) = &mut self.db else {
            return Err("there is no store; decisions are kept in memory".to_owned());
        };
        let events = self.backlog.make_contiguous();
        let outboxes = db::named(&self.outboxes, &self.stale);
        match db.write(events, &self.owed, &outboxes).and_then(|()| db.prune(self.limits.keep)) {
            Ok(()) => {
                self.written();
                Ok(())
            }
            Err(WriteError::Damaged(why)) => self.start_afresh(&why),
            Err(WriteError::NotNow(why)) => {
                self.failed(&why);
                Err(why)
            }
        }
    }

    fn written(&mut self) {
        if let Some(last) = self.backlog.iter().map(|e| e.seq).max() {
            self.queue.set_stored(last);
        }
        self.backlog.clear();
        self.owed.clear();
        self.stale.clear();
        if self.failing.take().is_some() {
            self.untold.push((Level::Warn, "the store can be written again".to_owned()));
        }
        if self.dropped > 0 {
            let text = format!("{} events were not stored: they found no room", self.dropped);
            self.untold.push((Level::Warn, text));
            self.dropped = 0;
        }
    }

    fn failed(&mut self, why: &str) {
        let now = Instant::now();
        match &mut self.failing {
            Some(f) => *f = Failing { delay: (f.delay * 2).min(RETRY_LAST), at: now },
            None => {
                self.failing = Some(Failing { delay: RETRY_FIRST, at: now });
                let text = format!(
                    "the store cannot be written: {why}; decisions and the last {} events are held in memory meanwhile",
                    self.limits.backlog
                );
                self.untold.push((Level::Error, text));
            }
        }
    }

    /// The file was damaged while we used it.
    fn start_afresh(&mut self, why: &str) -> Result<(), String> {
        self.db = None;
        match replace(&self.path, self.limits, &self.mirror, &self.outboxes) {
            Ok((mut db, aside)) => {
                self.untold.push((
                    Level::Error,
                    format!(
                        "the store was damaged ({why}); a fresh one was begun and the old one is {aside}"
                    ),
                ));
                let result = db.write(self.backlog.make_contiguous(), &[], &[]).map_err(|e| e.to_string());
                self.db = Some(db);
                match &result {
                    Ok(()) => self.written(),
                    Err(why) => self.failed(why),
                }
                result
            }
            Err(e) => {
                self.untold.push((
                    Level::Error,
                    format!("the store was damaged ({why}) and no fresh one could be begun: {e}; decisions and events are kept in memory"),
                ));
                Err(e)
            }
        }
    }

    /// Without a file: tries now and then whether there can be one again.
    fn reopen(&mut self) {
        if self.db.is_some() || self.reopened.elapsed() < REOPEN {
            return;
        }
        self.reopened = Instant::now();
        if let Ok((db, _)) = Db::open(&self.path, self.limits.max_pages) {
            self.db = Some(db);
            self.untold.push((Level::Warn, "the store can be opened again".to_owned()));
        }
    }

    fn bound_backlog(&mut self) {
        while self.backlog.len() > self.limits.backlog {
            self.backlog.pop_front();
            // Without a file memory is all there is, and the oldest go by design.
            if self.db.is_some() {
                self.dropped += 1;
                self.queue.lose();
            }
        }
        // One record an instance and kind is enough: the last one holds.
        if self.owed.len() > self.limits.backlog {
            self.owed = db::records_of(&self.mirror);
        }
    }

    fn tell_all(&mut self) {
        let Some(engine) = &self.engine else { return };
        while let Some((level, text)) = self.untold.first().cloned() {
            if engine.send(Message::Told { service: None, level, text }).is_err() {
                return;
            }
            self.untold.remove(0);
        }
    }
}
