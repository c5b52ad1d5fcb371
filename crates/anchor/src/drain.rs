//! Output while there is no daemon to take it: read into bounded memory, then counted, so that no service ever waits in
//! `write()` because of keepwell.

use keepwell_core::Mono;
use keepwell_os::host::Host;
use keepwell_os::{AsHandle, pipe};

use crate::anchor::Anchor;
use crate::holdings::Pipe;
use crate::protocol::{Drained, MAX_FRAME, Report};

/// Tokens of the pipes in the waiter: this, the slot's number, the stream.
const PIPES: u64 = 1 << 34;
/// For all slots together, so that a thousand flooding services do not make the anchor the first that the kernel ends.
const TOTAL: usize = 32 << 20;
/// Read at once.
const PIECE: usize = 64 << 10;
/// Of a report; the rest comes in the next one.
const REPORT: usize = MAX_FRAME / 4;

/// Whether pipes are being drained.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// Whether the daemon wants it.
    pub(crate) wanted: bool,
    since: Option<Mono>,
    running: bool,
    held: usize,
}

impl Drain {
    pub(crate) fn new() -> Drain {
        Drain { wanted: true, ..Drain::default() }
    }
}

impl<H: Host> Anchor<H> {
    /// There is no daemon any more that takes output.
    pub(crate) fn output_abandoned(&mut self) {
        let now = self.host.now();
        self.drain.since.get_or_insert(now);
    }

    /// Begins to drain when it is time. Returns when that will be.
    pub(crate) fn drain_when_due(&mut self, now: Mono) -> Option<Mono> {
        let at = self.drain.since? + self.options.timing.drain_after;
        if self.drain.running || !self.drain.wanted {
            return None;
        }
        if now < at {
            return Some(at);
        }
        self.drain.running = true;
        self.drain.held = self.reports.saved_output();
        for (number, slot) in &self.held.slots {
            for (stream, pipe) in slot.pipes.iter().enumerate() {
                // A pipe that cannot be watched fills up, and its writer waits: worse cannot happen.
                let _ = self.host.watch(pipe.read.as_handle(), token(*number, stream));
            }
        }
        None
    }

    /// A daemon takes the output again: it gets what was saved, before it reads on by itself.
    pub(crate) fn output_taken(&mut self) {
        self.drain.since = None;
        if !std::mem::take(&mut self.drain.running) {
            return;
        }
        for (number, slot) in &mut self.held.slots {
            for (stream, pipe) in (0..).zip(&mut slot.pipes) {
                self.host.unwatch(pipe.read.as_handle());
                let (saved, dropped) = (std::mem::take(&mut pipe.saved), std::mem::take(&mut pipe.dropped));
                let pieces = saved.chunks(REPORT).count().max(usize::from(dropped > 0));
                for i in 0..pieces {
                    let bytes = saved.chunks(REPORT).nth(i).unwrap_or_default().to_vec();
                    let dropped = if i + 1 == pieces { dropped } else { 0 };
                    let slot = *number;
                    self.reports.push(|seq| Report::Drained(Drained { seq, slot, stream, bytes, dropped }));
                }
            }
        }
    }

    /// Whether this token is a pipe's; then it is read.
    pub(crate) fn drain_pipe(&mut self, token: u64) -> bool {
        if token & PIPES == 0 {
            return false;
        }
        let number = ((token & (PIPES - 1)) >> 1) as u32;
        let stream = (token & 1) as usize;
        let Some(slot) = self.held.slots.get_mut(&number) else { return true };
        let limit = slot.open.drain_limit as usize;
        let Some(pipe) = slot.pipes.get_mut(stream) else { return true };
        let mut buffer = [0; PIECE];
        let Ok(n) = pipe::read(pipe.read.as_handle(), &mut buffer) else { return true };
        let room = limit.saturating_sub(pipe.saved.len()).min(TOTAL.saturating_sub(self.drain.held));
        // Once something was dropped, all that follows is: what is kept has no holes.
        let kept = if pipe.dropped > 0 { 0 } else { n.min(room) };
        pipe.saved.extend_from_slice(buffer.get(..kept).unwrap_or_default());
        pipe.dropped += (n - kept) as u64;
        self.drain.held += kept;
        true
    }

    /// Bytes of output that no daemon has taken.
    pub(crate) fn unwritten(&self) -> u64 {
        let of_pipe = |pipe: &Pipe| {
            let waiting = pipe::available(pipe.read.as_handle()).unwrap_or(0);
            (pipe.saved.len() + waiting) as u64 + pipe.dropped
        };
        let pipes = self.held.slots.values().flat_map(|slot| &slot.pipes);
        self.reports.saved_output() as u64 + pipes.map(of_pipe).sum::<u64>()
    }

    /// A slot is closed.
    pub(crate) fn drain_no_more(&mut self, number: u32) {
        if !self.drain.running {
            return;
        }
        for pipe in self.held.slots.get(&number).into_iter().flat_map(|s| &s.pipes) {
            self.host.unwatch(pipe.read.as_handle());
        }
    }
}

fn token(slot: u32, stream: usize) -> u64 {
    PIPES | u64::from(slot) << 1 | stream as u64
}
