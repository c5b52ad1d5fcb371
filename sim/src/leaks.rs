//! Whether leaks are foreseen: series of a service's use of something, made of a seed, with or without a leak, and a
//! score of what [`keepwell_core::foresee`] says of them. The shapes, their parameters and what counts as visible are
//! written down in docs/prediction.md; they were fixed before the prediction was tuned.

use std::collections::BTreeMap;

mod make;
mod score;

pub use make::{Kind, Series};
pub use score::{Score, Told, judge, watch};

/// The scores of `count` series of each kind, from this seed on.
#[must_use]
pub fn run(count: u64, seed: u64) -> BTreeMap<Kind, Score> {
    Kind::ALL.into_iter().map(|kind| (kind, of_kind(kind, count, seed))).collect()
}

/// The score of `count` series of a kind.
#[must_use]
pub fn of_kind(kind: Kind, count: u64, seed: u64) -> Score {
    let mut score = Score::default();
    for number in 0..count {
        let series = Series::new(kind, seed.wrapping_add(number));
        score += judge(&series, &watch(&series));
    }
    score
}

/// For docs/prediction.md: a line a kind.
#[must_use]
pub fn table(scores: &BTreeMap<Kind, Score>) -> String {
    let share = |of: u32, all: u32| match all {
        0 => String::from("–"),
        _ => format!("{:.1} % of {all}", 100.0 * f64::from(of) / f64::from(all)),
    };
    let mut text = String::from(
        "| Series | Called in time | Ahead | Held by the interval | 20 min before | Too quick to count | False calls | Steps seen | Days with a false step |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (kind, s) in scores {
        let ahead = if s.called > 0 {
            format!("{:.0} min", s.ahead / 60.0 / f64::from(s.called))
        } else {
            String::from("–")
        };
        text += &format!(
            "| {} | {} | {ahead} | {} | {} | {} | {} | {} | {} |\n",
            kind.words(),
            share(s.called, s.visible),
            share(s.covered, s.called),
            share(s.near.1, s.near.0),
            share(s.quick_called, s.quick),
            share(s.false_calls, s.series),
            share(s.steps_seen, s.steps),
            share(s.steps_false, s.series),
        );
    }
    text
}
