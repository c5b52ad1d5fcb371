//! Reports on their way to the daemon, and those that it has not acknowledged.

use std::collections::VecDeque;

use crate::protocol::Report;

/// Reports in the order of their numbers, from the first unacknowledged one on.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    unacknowledged: VecDeque<(u64, Report)>,
    last: u64,
}

impl Reports {
    /// Appends a report that `make` builds around its number. There are never more than the daemon's own requests and the
    /// runs that live account for: who acknowledges nothing is ended, and without a daemon nothing starts.
    pub(crate) fn push(&mut self, make: impl FnOnce(u64) -> Report) {
        self.last += 1;
        self.unacknowledged.push_back((self.last, make(self.last)));
    }

    /// The newest one's number.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// A number for a question that need not outlive the daemon that it is put to.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Forgets all up to `seq`.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        while self.unacknowledged.front().is_some_and(|(s, _)| *s <= seq) {
            self.unacknowledged.pop_front();
        }
    }

    /// Those after `seq`.
    pub(crate) fn after(&self, seq: u64) -> impl Iterator<Item = &(u64, Report)> {
        let start = self.unacknowledged.partition_point(|(s, _)| *s <= seq);
        self.unacknowledged.range(start..)
    }

    /// Bytes of saved output among the unacknowledged ones.
    pub(crate) fn saved_output(&self) -> usize {
        let bytes =
            |(_, report): &(u64, Report)| if let Report::Drained(d) = report { d.bytes.len() } else { 0 };
        self.unacknowledged.iter().map(bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::TreeEmpty;

    #[test]
    fn what_is_acknowledged_is_gone_and_the_rest_comes_again() {
        let mut reports = Reports::default();
        for run in 0..5 {
            reports.push(|seq| Report::TreeEmpty(TreeEmpty { seq, run }));
        }
        let numbers = |r: &Reports, after| r.after(after).map(|(s, _)| *s).collect::<Vec<_>>();
        assert_eq!(numbers(&reports, 0), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&reports, 3), [4, 5]);
        reports.acknowledge(2);
        assert_eq!(reports.number(), 6);
        reports.push(|seq| Report::TreeEmpty(TreeEmpty { seq, run: 9 }));
        assert_eq!(numbers(&reports, 0), [3, 4, 5, 7]);
        // A daemon that acknowledges what was never said does no harm.
        reports.acknowledge(99);
        assert_eq!(numbers(&reports, 0), [0; 0]);
        assert_eq!(reports.number(), 8);
    }
}
