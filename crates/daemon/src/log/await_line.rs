//! Waits for a line that means ready, or that a check looks for.

use std::sync::Arc;

use keepwell_core::RunId;
use regex_lite::Regex;

use super::line::Lines;
use super::sign::Sign;

/// One run's pattern.
pub(super) struct LineWatch {
    pub(super) run: RunId,
    pattern: Regex,
    /// Where this run's output begins, in bytes written into each pipe: what is before it was another run's.
    begin: [u64; 2],
    lines: [Lines; 2],
    /// What to leave a trace in, again and again. `None`: the line is told once.
    pub(super) sign: Option<Arc<Sign>>,
}

impl LineWatch {
    pub(super) fn new(run: RunId, pattern: Regex, begin: [u64; 2]) -> LineWatch {
        LineWatch { run, pattern, begin, lines: Default::default(), sign: None }
    }

    /// One that leaves a trace of each line that matches.
    pub(super) fn lasting(self, sign: Arc<Sign>) -> LineWatch {
        LineWatch { sign: Some(sign), ..self }
    }

    /// Nobody reads its trace any more.
    pub(super) fn is_idle(&self) -> bool {
        self.sign.as_ref().is_some_and(|sign| Arc::strong_count(sign) == 1)
    }

    /// Takes in what was written into a pipe at position `at`. True when a line matches.
    pub(super) fn feed(&mut self, stream: usize, at: u64, bytes: &[u8]) -> bool {
        let before = self.begin[stream].saturating_sub(at);
        let Some(bytes) = usize::try_from(before).ok().and_then(|skip| bytes.get(skip..)) else {
            return false;
        };
        let mut matches = false;
        self.lines[stream].feed(bytes, |piece| {
            matches = matches || self.pattern.is_match(&String::from_utf8_lossy(piece.bytes));
        });
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(pattern: &str, begin: u64) -> LineWatch {
        LineWatch::new(RunId(1), Regex::new(pattern).unwrap(), [begin, 0])
    }

    #[test]
    fn only_whole_lines_after_the_beginning_match() {
        let mut w = watch("^listening on [0-9]+$", 14);
        assert!(!w.feed(0, 0, b"listening on 1"));
        assert!(!w.feed(0, 14, b"0\nlistening "));
        assert!(!w.feed(1, 0, b"noise\n"));
        assert!(!w.feed(0, 26, b"on 80"));
        assert!(w.feed(0, 31, b"80\nmore\n"));
    }

    #[test]
    fn a_beginning_in_the_middle_of_a_piece_is_found() {
        let mut w = watch("ready", 6);
        assert!(!w.feed(0, 0, b"ready\n"));
        let mut w = watch("ready", 6);
        assert!(w.feed(0, 0, b"ready\nready\n"));
        let mut w = watch("ready", 600);
        assert!(!w.feed(0, 0, b"ready\nready\n"));
    }

    #[test]
    fn a_stream_without_newlines_stays_bounded() {
        let mut w = watch("needle", 0);
        for i in 0..100 {
            assert!(!w.feed(0, i * 65_536, &[b'x'; 65_536]));
        }
        assert!(w.feed(0, 100 * 65_536, b"\nneedle\n"));
        assert!(w.lines[0].rest().is_empty());
    }
}
