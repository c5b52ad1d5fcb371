//! What was said of a series, and whether it was right.

use keepwell_core::Mono;
use keepwell_core::foresee::{Foresight, Seen};

use super::make::{Kind, Series};

/// How long before the limit a leak is to be called.
const AHEAD: f64 = 15.0 * 60.0;
/// For how long its trend must have been visible then.
const VISIBLE: f64 = 30.0 * 60.0;
/// A step is seen within.
const STEP_SEEN: f64 = 3600.0;

/// What was said of a series.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// When leaks were called, and what was said: most likely, earliest, latest, in seconds since the start.
    pub calls: Vec<(f64, [f64; 3])>,
    /// Forecasts of a called leak, each minute.
    pub forecasts: Vec<(f64, [f64; 3])>,
    /// When steps were told of.
    pub steps: Vec<f64>,
}

/// Shows a series to the prediction.
#[must_use]
pub fn watch(series: &Series) -> Told {
    // A host that is up for some days: the clock's zero is far away.
    const BOOT: f64 = 400_000.0;
    let clock = |at: f64| Mono(((at + BOOT) * 1e9) as u64);
    let seconds = |at: Mono| at.0 as f64 / 1e9 - BOOT;
    let mut told = Told::default();
    let mut foresight = Foresight::new(series.limit);
    for sample in &series.samples {
        if sample.restarted {
            foresight.restart();
        }
        let seen = foresight.push(clock(sample.at), sample.value);
        if let Some(Seen::Step(_)) = seen {
            told.steps.push(sample.at);
        }
        let due = sample.at % 60.0 == 0.0 || seen.is_some();
        if let Some(f) = foresight.forecast().filter(|_| due) {
            let said = (sample.at, [f.at, f.earliest, f.latest].map(seconds));
            if let Some(Seen::Leak(_)) = seen {
                told.calls.push(said);
            }
            told.forecasts.push(said);
        }
    }
    told
}

/// Counts over many series of one kind.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Score {
    /// Series.
    pub series: u32,
    /// Leaks visible long enough before the limit.
    pub visible: u32,
    /// Of these, called in time.
    pub called: u32,
    /// Leaks that were not visible long enough.
    pub quick: u32,
    /// Of these, called in time all the same.
    pub quick_called: u32,
    /// Leak-free series, or the time before a leak, in which one was called.
    pub false_calls: u32,
    /// Steps that there were.
    pub steps: u32,
    /// Of these, seen.
    pub steps_seen: u32,
    /// Series with a step told of where there was none; plateaus and restarts, which may look like one, do not count.
    pub steps_false: u32,
    /// Calls in time whose interval held the truth.
    pub covered: u32,
    /// Forecasts 20 min ahead, and those whose interval held the truth.
    pub near: (u32, u32),
    /// Sum of how far ahead leaks were called, in seconds.
    pub ahead: f64,
}

/// Holds what was told against the truth.
#[must_use]
pub fn judge(series: &Series, told: &Told) -> Score {
    let mut score = Score { series: 1, ..Score::default() };
    let first_true = |call: &&(f64, [f64; 3])| series.leaks_from.is_some_and(|from| call.0 >= from);
    let hit = series.reaches.unwrap_or(f64::MAX);
    if series.kind.leaks() {
        let in_time = told.calls.iter().find(first_true).filter(|call| call.0 <= hit - AHEAD);
        if series.reaches.is_some() {
            if series.visible.is_some_and(|visible| visible + VISIBLE <= hit - AHEAD) {
                score.visible = 1;
                score.called = u32::from(in_time.is_some());
                if let Some((at, [_, earliest, latest])) = in_time {
                    score.covered = u32::from((*earliest..=*latest).contains(&hit));
                    score.ahead = hit - at;
                }
                let near = |f: &&(f64, [f64; 3])| (f.0 - (hit - 1200.0)).abs() < 31.0;
                if let Some((_, [_, earliest, latest])) = told.forecasts.iter().find(near) {
                    score.near = (1, u32::from((*earliest..=*latest).contains(&hit)));
                }
            } else {
                score.quick = 1;
                score.quick_called = u32::from(in_time.is_some());
            }
        }
        // Before a restart it leaked as well; only the time before the first leak is free of it.
        let free = series.free_until;
        score.false_calls = u32::from(told.calls.iter().any(|call| call.0 < free));
    } else {
        score.false_calls = u32::from(!told.calls.is_empty());
    }
    if series.kind == Kind::Steps {
        let seen = |step: &&f64| told.steps.iter().any(|at| (**step..**step + STEP_SEEN).contains(at));
        score.steps = u32::try_from(series.steps.len()).unwrap_or(0);
        score.steps_seen = u32::try_from(series.steps.iter().filter(seen).count()).unwrap_or(0);
    }
    if series.kind != Kind::Restarts && series.kind != Kind::Plateau {
        let owed = |at: &&f64| series.steps.iter().all(|step| !(*step..*step + STEP_SEEN).contains(at));
        score.steps_false = u32::from(told.steps.iter().any(|at| owed(&at)));
    }
    score
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, o: Self) {
        self.series += o.series;
        self.visible += o.visible;
        self.called += o.called;
        self.quick += o.quick;
        self.quick_called += o.quick_called;
        self.false_calls += o.false_calls;
        self.steps += o.steps;
        self.steps_seen += o.steps_seen;
        self.steps_false += o.steps_false;
        self.covered += o.covered;
        self.near = (self.near.0 + o.near.0, self.near.1 + o.near.1);
        self.ahead += o.ahead;
    }
}
