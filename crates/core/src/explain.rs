//! `keepwell explain`: the causal chain of one instance in plain words.

use crate::supervisor::{Explanation, Supervisor};
use crate::time::Now;
use alloc::format;

impl Supervisor {
    pub(crate) fn explain_one(&self, i: usize, _now: Now) -> Explanation {
        let mut explanation = Explanation::default();
        explanation.headline = format!("{}: {}.", self.in_words(i), self.reason(i));
        explanation
    }
}
