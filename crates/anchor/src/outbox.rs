//! What is on its way to the daemon. Everything is written out of what is held at that moment and in pieces that the
//! channel has room for, so that neither a thousand slots nor a daemon that does not read costs the anchor memory.

use std::io;
use std::ops::Bound::{Excluded, Unbounded};

use keepwell_core::Mono;
use keepwell_os::host::Host;
use keepwell_os::{AsHandle, BorrowedHandle, Members};

use crate::anchor::{Anchor, CHANNEL};
use crate::codec::encode;
use crate::daemon::Life;
use crate::holdings::Holdings;
use crate::protocol::{Measured, Put, Report, Run, VERSION, Welcome};
use crate::reports::Reports;

/// Frames without handles are gathered to this much before they are sent.
const GATHER: usize = 256 << 10;
/// How soon to try again when the kernel has too many handles on their way: told by nothing that could be waited for.
const TOO_MANY: std::time::Duration = std::time::Duration::from_millis(5);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    next: Next,
    watched: bool,
    /// The last report that was written out.
    sent: u64,
    /// Answers to what this daemon asked, as frames. It waits for those that it has asked for before it asks for more than a
    /// few, so there are never many.
    answers: Vec<u8>,
}

/// What a daemon is given next.
#[derive(Debug, Default)]
enum Next {
    /// It has not said hello.
    #[default]
    Nothing,
    Welcome,
    ValuesAfter(Option<Vec<u8>>),
    KeptAfter(Option<Vec<u8>>),
    SlotsAfter(Option<u32>),
    Runs,
    /// Reports that an earlier daemon did not acknowledge, then the word that this was all.
    Missed,
    /// Reports as they come.
    News,
}

impl Outbox {
    /// It has said hello: it is given everything.
    pub(crate) fn open(&mut self) {
        if matches!(self.next, Next::Nothing) {
            self.next = Next::Welcome;
        }
    }

    /// It asked for this.
    pub(crate) fn answer(&mut self, question: u64, trees: Vec<Members>) {
        if !encode(&Report::Measured(Measured { question, trees }), 0, &mut self.answers) {
            let none = Measured { question, trees: Vec::new() };
            encode(&Report::Measured(none), 0, &mut self.answers);
        }
    }
}

impl<H: Host> Anchor<H> {
    /// Sends as much as there is room for. Returns when to try again without being told.
    pub(crate) fn send(&mut self, now: Mono) -> Option<Mono> {
        loop {
            match self.send_some(now) {
                Ok(Sent::More) => {}
                Ok(Sent::All) => {
                    self.watch_room(false);
                    return None;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.watch_room(true);
                    return None;
                }
                // ETOOMANYREFS has no kind of its own; whoever is gone is found out by reading.
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe && self.daemon.is_alive() => {
                    return Some(now + TOO_MANY);
                }
                Err(_) => return None,
            }
        }
    }

    fn send_some(&mut self, now: Mono) -> io::Result<Sent> {
        let (rebirths, anchor) = (self.daemon.rebirths(), std::process::id());
        let Some(Life { channel: Some(channel), out, .. }) = self.daemon.life() else { return Ok(Sent::All) };
        if !out.bytes.is_empty() {
            let n = channel.send(&out.bytes, &[])?;
            out.bytes.drain(..n);
            return Ok(Sent::More);
        }
        let mut welcome = || Welcome {
            version: VERSION,
            pid: anchor,
            rebirths,
            release: self.options.release.clone(),
            guardian: self.options.guardian.clone(),
            options: self.options.options.clone(),
            mechanisms: self.host.mechanisms(),
        };
        let handles = match out.write(&self.held, &mut self.reports, &mut welcome) {
            Wrote::Nothing => return Ok(Sent::All),
            Wrote::Bytes { to_answer } => {
                if to_answer && let Some(life) = self.daemon.life() {
                    life.owes(now);
                }
                return Ok(Sent::More);
            }
            Wrote::Handles(handles) => handles,
        };
        // The handles travel with the frame's first byte, or nothing does and the frame is written again.
        match channel.send(&out.bytes, &handles) {
            Ok(n) => {
                out.bytes.drain(..n);
                out.advance(&self.held);
                Ok(Sent::More)
            }
            Err(e) => {
                out.bytes.clear();
                Err(e)
            }
        }
    }

    fn watch_room(&mut self, on: bool) {
        let Some(Life { channel: Some(channel), out, .. }) = self.daemon.life() else { return };
        if out.watched != on {
            out.watched = on;
            self.host.watch_room(channel.as_handle(), CHANNEL, on);
        }
    }
}

enum Sent {
    More,
    All,
}

enum Wrote<'a> {
    Nothing,
    Bytes {
        to_answer: bool,
    },
    /// One frame, that travels with these.
    Handles(Vec<BorrowedHandle<'a>>),
}

impl Outbox {
    /// Writes what comes next into `bytes`, which are empty.
    fn write<'a>(
        &mut self,
        held: &'a Holdings,
        reports: &mut Reports,
        welcome: &mut dyn FnMut() -> Welcome,
    ) -> Wrote<'a> {
        loop {
            match &mut self.next {
                Next::Nothing => return Wrote::Nothing,
                Next::Welcome => {
                    encode(&Report::Welcome(welcome()), 0, &mut self.bytes);
                    self.next = Next::ValuesAfter(None);
                }
                Next::ValuesAfter(after) => {
                    for (key, value) in after_key(&held.values, after.as_ref()) {
                        let put = Put { key: key.clone(), value: value.clone() };
                        encode(&Report::Value(put), 0, &mut self.bytes);
                        if self.bytes.len() >= GATHER {
                            *after = Some(key.clone());
                            return Wrote::Bytes { to_answer: false };
                        }
                    }
                    self.next = Next::KeptAfter(None);
                    return Wrote::Bytes { to_answer: false };
                }
                Next::KeptAfter(after) => match after_key(&held.kept, after.as_ref()).next() {
                    Some((key, handle)) => {
                        encode(&Report::Kept(key.clone()), 1, &mut self.bytes);
                        return Wrote::Handles(vec![handle.as_handle()]);
                    }
                    None => self.next = Next::SlotsAfter(None),
                },
                Next::SlotsAfter(after) => match after_key(&held.slots, after.as_ref()).next() {
                    Some((_, slot)) => {
                        let handles = slot.handles();
                        encode(&Report::Slot(slot.open.clone()), handles.len(), &mut self.bytes);
                        return Wrote::Handles(handles);
                    }
                    None => self.next = Next::Runs,
                },
                Next::Runs => {
                    for (number, run) in &held.runs {
                        let (role, pid, started) = (run.role, run.pid, run.started);
                        let run = Run { run: *number, slot: run.slot, role, pid, started };
                        encode(&Report::Run(run), 0, &mut self.bytes);
                    }
                    self.next = Next::Missed;
                    return Wrote::Bytes { to_answer: false };
                }
                Next::Missed => {
                    if self.write_reports(reports) {
                        return Wrote::Bytes { to_answer: true };
                    }
                    encode(&Report::Synced, 0, &mut self.bytes);
                    self.sent = reports.number();
                    encode(&Report::Ping(self.sent), 0, &mut self.bytes);
                    self.next = Next::News;
                    return Wrote::Bytes { to_answer: true };
                }
                Next::News if !self.answers.is_empty() => {
                    std::mem::swap(&mut self.bytes, &mut self.answers);
                    return Wrote::Bytes { to_answer: false };
                }
                Next::News => {
                    let some = self.write_reports(reports);
                    return if some { Wrote::Bytes { to_answer: true } } else { Wrote::Nothing };
                }
            }
        }
    }

    fn write_reports(&mut self, reports: &Reports) -> bool {
        for (seq, report) in reports.after(self.sent) {
            encode(report, 0, &mut self.bytes);
            self.sent = *seq;
            if self.bytes.len() >= GATHER {
                break;
            }
        }
        !self.bytes.is_empty()
    }

    /// The frame with handles is on its way.
    fn advance(&mut self, held: &Holdings) {
        match &mut self.next {
            Next::KeptAfter(after) => {
                *after = after_key(&held.kept, after.as_ref()).next().map(|(k, _)| k.clone())
            }
            Next::SlotsAfter(after) => {
                *after = after_key(&held.slots, after.as_ref()).next().map(|(k, _)| *k)
            }
            Next::Nothing | Next::Welcome | Next::ValuesAfter(_) | Next::Runs | Next::Missed | Next::News => {
            }
        }
    }

    /// The last report that the daemon may have seen.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }
}

fn after_key<'a, K: Ord, V>(
    map: &'a std::collections::BTreeMap<K, V>,
    after: Option<&K>,
) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
    map.range((after.map_or(Unbounded, Excluded), Unbounded))
}
