//! The lowest and the highest of buckets of one width, the last [`KEPT`] of them.

use core::time::Duration;

use super::Step;
use crate::time::Mono;

/// Enough for a slope and its bend, few enough to look at all pairs.
pub(super) const KEPT: usize = 40;
/// Buckets on either side of a step.
const BESIDE: usize = 5;

/// A bucket that is full, by its number since the clock's zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Closed {
    pub(super) number: u32,
    pub(super) low: f32,
    pub(super) high: f32,
}

impl Closed {
    pub(super) const NONE: Closed = Closed { number: 0, low: 0.0, high: 0.0 };
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Level {
    /// A ring; `filled` says how much of it counts. Gaps in time are gaps in the numbers.
    ring: [Closed; KEPT],
    next: usize,
    filled: usize,
    open: Option<Closed>,
}

impl Level {
    pub(super) const EMPTY: Level = Level { ring: [Closed::NONE; KEPT], next: 0, filled: 0, open: None };

    /// Puts a value into the open bucket; the one before it, if that is full now.
    pub(super) fn push(&mut self, number: u32, value: f32) -> Option<Closed> {
        self.put(Closed { number, low: value, high: value })
    }

    /// Takes a bucket of the next finer level.
    pub(super) fn merge(&mut self, finer: Closed) -> Option<Closed> {
        let closed = self.put(Closed { number: finer.number / 2, ..finer });
        // The second half fills it, without waiting for what comes after.
        match self.open {
            Some(full) if finer.number % 2 == 1 => {
                self.open = None;
                self.keep(full);
                Some(full)
            }
            _ => closed,
        }
    }

    fn put(&mut self, new: Closed) -> Option<Closed> {
        match &mut self.open {
            Some(open) if open.number == new.number => {
                open.low = open.low.min(new.low);
                open.high = open.high.max(new.high);
                None
            }
            _ => {
                let full = self.open.replace(new)?;
                self.keep(full);
                Some(full)
            }
        }
    }

    fn keep(&mut self, full: Closed) {
        self.ring[self.next] = full;
        self.next = (self.next + 1) % KEPT;
        self.filled = (self.filled + 1).min(KEPT);
    }

    /// The full buckets, oldest first.
    pub(super) fn buckets(&self) -> impl ExactSizeIterator<Item = Closed> + Clone + '_ {
        (0..self.filled).map(move |i| self.ring[(self.next + KEPT - self.filled + i) % KEPT])
    }

    /// A jump, once it has lasted as long as what it is compared with: the lows before and after are apart by more
    /// than they differ among themselves, and nearly all of the way was made in one bucket.
    pub(super) fn step(&self, width: Duration, limit: f32) -> Option<Step> {
        const SPAN: usize = 2 * BESIDE + 1;
        let skipped = self.filled.checked_sub(SPAN)?;
        let mut lows = [0.0_f32; SPAN];
        for (low, bucket) in lows.iter_mut().zip(self.buckets().skip(skipped)) {
            *low = bucket.low;
        }
        let range = |of: &[f32]| {
            of.iter().fold((f32::MAX, f32::MIN), |(least, most), low| (least.min(*low), most.max(*low)))
        };
        let (before, after) = (range(&lows[..BESIDE]), range(&lows[BESIDE + 1..]));
        let gap = after.0 - before.1;
        let moves = (before.1 - before.0).max(after.1 - after.0);
        if gap < 2.5 * moves || gap < limit * 0.02 {
            return None;
        }
        let last_before = self.buckets().nth(skipped + BESIDE - 1)?;
        let after_at =
            u64::from(last_before.number + 1).checked_mul(u64::try_from(width.as_nanos()).ok()?)?;
        Some(Step { after: Mono(after_at), from: before.0 as u64, to: after.0 as u64 })
    }
}
