//! What was said and not yet delivered, and when to try the connection again. It knows neither sockets nor clocks.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::frame::Command;

/// Frames that wait. A full one forgets its oldest report, which later ones have overtaken.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: VecDeque<(Command, Vec<u8>)>,
    bound: usize,
    forgotten: u64,
}

impl Outbox {
    pub(super) fn new(bound: usize) -> Outbox {
        Outbox { frames: VecDeque::new(), bound: bound.max(1), forgotten: 0 }
    }

    /// Reports are kept in order up to the bound. Of the other commands the last one says all.
    pub(super) fn push(&mut self, command: Command, frame: Vec<u8>) {
        let is_report = |(c, _): &(Command, Vec<u8>)| *c == Command::Status;
        if command != Command::Status {
            self.frames.retain(|(c, _)| *c != command);
        } else if self.frames.iter().filter(|f| is_report(f)).count() >= self.bound
            && let Some(oldest) = self.frames.iter().position(is_report)
        {
            self.frames.remove(oldest);
            self.forgotten += 1;
        }
        self.frames.push_back((command, frame));
    }

    pub(super) fn first(&self) -> Option<&[u8]> {
        self.frames.front().map(|(_, frame)| frame.as_slice())
    }

    pub(super) fn delivered(&mut self) {
        self.frames.pop_front();
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

/// After the first failure; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Short beside the 15 s after which a service without beats is given up by default.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// When the next attempt to connect is due.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause: Option<Duration>,
    next: Option<Instant>,
}

impl Backoff {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    pub(super) fn failed(&mut self, now: Instant) {
        let pause = self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        self.next = Some(now + pause);
    }

    pub(super) fn worked(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(outbox: &mut Outbox) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(frame) = outbox.first() {
            all.push(frame[0]);
            outbox.delivered();
        }
        all
    }

    #[test]
    fn a_full_outbox_forgets_the_oldest_report_and_never_what_is_said_once() {
        let mut outbox = Outbox::new(2);
        outbox.push(Command::Ready, vec![1]);
        for number in 2..=5 {
            outbox.push(Command::Status, vec![number]);
        }
        outbox.push(Command::Stopping, vec![6]);
        assert_eq!(outbox.len(), 4);
        assert_eq!(outbox.forgotten(), 2);
        assert_eq!(frames(&mut outbox), [1, 4, 5, 6]);
    }

    #[test]
    fn what_is_said_twice_waits_once() {
        let mut outbox = Outbox::new(8);
        outbox.push(Command::ExtendTimeout, vec![1]);
        outbox.push(Command::Status, vec![2]);
        outbox.push(Command::ExtendTimeout, vec![3]);
        assert_eq!(frames(&mut outbox), [2, 3]);
    }

    #[test]
    fn the_pause_doubles_to_five_seconds_and_begins_anew_after_success() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        assert!(backoff.is_due(now));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            backoff.failed(now);
            assert!(!backoff.is_due(now));
            let next = backoff.next.unwrap();
            pauses.push((next - now).as_millis());
            now = next;
            assert!(backoff.is_due(now));
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.worked();
        assert!(backoff.is_due(now));
        backoff.failed(now);
        assert_eq!(backoff.next, Some(now + FIRST_PAUSE));
    }
}
