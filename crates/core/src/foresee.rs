//! Leaks, foreseen: says of a series of figures whether what lies lowest in it grows towards a limit, and when it will
//! be there. How, how well, and what it cannot do: docs/prediction.md.
//!
//! It keeps no samples, only the lowest and the highest of each minute, of each two, of each four and so on, the same
//! number of each. It knows nothing of processes and decides nothing about them.

mod level;
mod slope;
mod trend;

use core::time::Duration;

use crate::time::Mono;
use level::Level;

/// The finest bucket: some samples of the usual 5 s, so that its lowest is not an accident.
const FINEST: u64 = 60;
/// Buckets of 1, 2, 4, 8 and 16 min: a trend is looked for in the last 40 min up to the last 10 h.
const LEVELS: usize = 5;
/// A trend that was called stays called until it was not seen for this long.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// A step stays the same step for this long, on whichever level it is seen.
const SAME_STEP: Duration = Duration::from_secs(3600);

/// When a limit will be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forecast {
    /// Most likely.
    pub at: Mono,
    /// In 95 of 100 cases not before.
    pub earliest: Mono,
    /// In 95 of 100 cases not after.
    pub latest: Mono,
}

/// A jump to a new level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Not before.
    pub after: Mono,
    /// The lowest then.
    pub from: u64,
    /// The lowest since.
    pub to: u64,
}

/// What is new with a series.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// It will reach its limit.
    Leak(Forecast),
    /// It no longer looks so.
    LeakOver,
    /// It jumped to a new level and stayed there.
    Step(Step),
}

/// What is known of one series: some 3 KB, however long it is watched.
#[derive(Clone, PartialEq, Debug)]
pub struct Foresight {
    limit: u64,
    levels: [Level; LEVELS],
    /// What each level's last look said.
    trends: [Option<Forecast>; LEVELS],
    /// A leak is called, and was last seen then.
    called: Option<Mono>,
    stepped: Option<Mono>,
}

impl Foresight {
    /// Nothing is known yet of what must not reach `limit`.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { limit, levels: [Level::EMPTY; LEVELS], trends: [None; LEVELS], called: None, stepped: None }
    }

    /// A new run has begun: what was before says nothing about it.
    pub fn restart(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Takes a sample; they come in the order of time. A leak is told before a step.
    pub fn push(&mut self, at: Mono, value: u64) -> Option<Seen> {
        // Minutes since boot: enough for 8,000 years.
        let minute = u32::try_from(at.0 / (FINEST * 1_000_000_000)).unwrap_or(u32::MAX);
        let mut closed = self.levels[0].push(minute, value as f32)?;
        let mut step = None;
        for i in 0..LEVELS {
            let width = Duration::from_secs(FINEST << i);
            self.trends[i] = trend::look(&self.levels[i], width, self.limit as f32);
            step = step.or_else(|| self.step(i, width));
            let Some(level) = self.levels.get_mut(i + 1) else { break };
            match level.merge(closed) {
                Some(next) => closed = next,
                None => break,
            }
        }
        self.leak(at).or(step.map(Seen::Step))
    }

    /// When the limit will be reached, if a trend is seen.
    #[must_use]
    pub fn forecast(&self) -> Option<Forecast> {
        self.called?;
        self.trends.iter().flatten().next().copied()
    }

    fn leak(&mut self, at: Mono) -> Option<Seen> {
        let seen = self.trends.iter().flatten().next().copied();
        match (self.called, seen) {
            (_, Some(forecast)) => self.called.replace(at).is_none().then_some(Seen::Leak(forecast)),
            (Some(last), None) if at.since(last) > FORGOTTEN => {
                self.called = None;
                Some(Seen::LeakOver)
            }
            (_, None) => None,
        }
    }

    fn step(&mut self, i: usize, width: Duration) -> Option<Step> {
        let step = self.levels[i].step(width, self.limit as f32)?;
        let told = self.stepped.is_some_and(|last| step.after.since(last) < SAME_STEP);
        self.stepped = Some(step.after);
        (!told).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 800_000_000;

    /// What is told of a figure that is asked for every 5 s, for so many hours.
    fn watch(
        foresight: &mut Foresight,
        hours: u64,
        value: impl Fn(f64) -> f64,
    ) -> alloc::vec::Vec<(u64, Seen)> {
        let samples = (0..hours * 720).map(|i| i * 5);
        let at = |s: u64| Mono((s + 1_000_000) * 1_000_000_000);
        samples.filter_map(|s| Some((s, foresight.push(at(s), value(s as f64) as u64)?))).collect()
    }

    /// From 200 MB on, 100 MB an hour, so that 800 MB are reached after 6 h.
    fn leak(s: f64) -> f64 {
        2e8 + 1e8 * s / 3600.0
    }

    /// A collector's tooth of 60 MB, every 3 min.
    fn tooth(s: f64) -> f64 {
        6e7 * (s % 180.0) / 180.0
    }

    #[test]
    fn a_leak_under_teeth_is_called_with_its_time() {
        let mut foresight = Foresight::new(LIMIT);
        let told = watch(&mut foresight, 5, |s| leak(s) + tooth(s));
        let [(called, Seen::Leak(forecast))] = told[..] else { panic!("{told:?}") };
        let in_minutes = |at: Mono| at.0 as f64 / 6e10 - 1_000_000.0 / 60.0 - called as f64 / 60.0;
        // It reaches the limit with a tooth's head, after 5 h 24 min.
        let truth = 324.0 - called as f64 / 60.0;
        assert!((40.0..75.0).contains(&truth), "called {truth} min ahead");
        assert!((in_minutes(forecast.at) - truth).abs() < 8.0, "{} of {truth} min", in_minutes(forecast.at));
        assert!(in_minutes(forecast.earliest) < truth && truth < in_minutes(forecast.latest), "{forecast:?}");
        assert!(foresight.forecast().is_some());
    }

    #[test]
    fn teeth_and_a_daily_wave_are_no_leak() {
        let wave = |s: f64| 1.5e8 * (1.0 - (s - 43_200.0).abs() / 43_200.0);
        let told = watch(&mut Foresight::new(LIMIT), 24, |s| 4e8 + wave(s) + tooth(s));
        assert_eq!(told, []);
    }

    #[test]
    fn what_fills_up_ever_more_slowly_is_no_leak() {
        for minutes in [5.0, 20.0, 60.0, 180.0] {
            let told =
                watch(&mut Foresight::new(LIMIT), 24, |s| 7e8 - 5e8 * 0.5_f64.powf(s / 60.0 / minutes));
            assert!(!told.iter().any(|(_, seen)| matches!(seen, Seen::Leak(_))), "{minutes} min: {told:?}");
        }
    }

    #[test]
    fn a_step_is_told_once_and_is_no_leak() {
        let told = watch(&mut Foresight::new(LIMIT), 8, |s| if s < 7200.0 { 3e8 } else { 5e8 } + tooth(s));
        let [(at, Seen::Step(step))] = told[..] else { panic!("{told:?}") };
        assert!((7200..7200 + 900).contains(&at), "told at {at}");
        assert!(step.from < 320_000_000 && step.to >= 500_000_000, "{step:?}");
    }

    #[test]
    fn a_new_run_ends_the_trend_and_a_leak_that_stops_is_over() {
        let mut foresight = Foresight::new(LIMIT);
        let told = watch(&mut foresight, 7, |s| leak(s.min(18_000.0)));
        let [(_, Seen::Leak(_)), (over, Seen::LeakOver)] = told[..] else { panic!("{told:?}") };
        assert!((18_000..25_200).contains(&over), "over at {over}");
        let mut foresight = Foresight::new(LIMIT);
        watch(&mut foresight, 5, leak);
        assert!(foresight.forecast().is_some());
        foresight.restart();
        assert_eq!(foresight.forecast(), None);
    }

    #[test]
    fn it_stays_small() {
        assert!(size_of::<Foresight>() <= 3_200, "{}", size_of::<Foresight>());
    }
}
