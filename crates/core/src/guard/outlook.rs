//! A leak foreseen in figures that are sampled at any pace. The prediction is made for one sample every 5 s; of a service that
//! is sampled more often its time runs faster by as much, so that as many samples tell as much.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::SAMPLED_EVERY;
use crate::foresee::{Forecast, Foresight, Seen, Step};
use crate::time::Mono;

/// What will become of one figure that has a bound.
#[derive(Clone, Debug)]
pub(super) struct Outlook {
    foresight: Box<Foresight>,
    /// Sampled this often, in nanoseconds; less often than usual counts as usual.
    every: u64,
}

impl Outlook {
    pub(super) fn new(bound: u64, every: Duration) -> Self {
        let every = u64::try_from(every.min(SAMPLED_EVERY).as_nanos()).unwrap_or(USUAL).max(1);
        Self { foresight: Box::new(Foresight::new(bound)), every }
    }

    /// Takes a sample; they come in the order of time.
    pub(super) fn push(&mut self, at: Mono, value: u64) -> Option<Seen> {
        let seen = self.foresight.push(times(at, USUAL, self.every), value)?;
        Some(match seen {
            Seen::Leak(forecast) => Seen::Leak(self.real(forecast)),
            Seen::LeakOver => Seen::LeakOver,
            Seen::Step(step) => Seen::Step(Step { after: times(step.after, self.every, USUAL), ..step }),
        })
    }

    /// When the bound will be reached, if a trend is seen.
    pub(super) fn forecast(&self) -> Option<Forecast> {
        self.foresight.forecast().map(|forecast| self.real(forecast))
    }

    fn real(&self, forecast: Forecast) -> Forecast {
        let real = |at| times(at, self.every, USUAL);
        Forecast { at: real(forecast.at), earliest: real(forecast.earliest), latest: real(forecast.latest) }
    }
}

const USUAL: u64 = SAMPLED_EVERY.as_secs() * 1_000_000_000;

fn times(at: Mono, by: u64, per: u64) -> Mono {
    let scaled = u128::from(at.0) * u128::from(by) / u128::from(per);
    Mono(u64::try_from(scaled).unwrap_or(u64::MAX))
}

/// `in about 34 min (95 %: 25–50)`.
pub(crate) fn ahead(forecast: &Forecast, now: Mono) -> String {
    let seconds = [forecast.at, forecast.earliest, forecast.latest].map(|at| at.since(now).as_secs());
    // Seconds where minutes would say nothing.
    let (unit, in_unit) =
        if seconds[0] < 120 { ("s", seconds) } else { ("min", seconds.map(|s| (s + 30) / 60)) };
    let [at, from, to] = in_unit;
    format!("in about {at} {unit} (95 %: {from}–{to})")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 200 MB that grow by 100 MB in 720 samples towards 800 MB: when it is called and for when, in samples.
    fn called(every: Duration) -> (u64, u64) {
        let mut outlook = Outlook::new(800_000_000, every);
        let nanos = every.as_nanos() as u64;
        let at = |n: u64| Mono(1_000_000_000_000_000 + n * nanos);
        for n in 0..4_320_u64 {
            if let Some(Seen::Leak(forecast)) = outlook.push(at(n), 200_000_000 + 100_000_000 * n / 720) {
                assert_eq!(outlook.forecast(), Some(forecast));
                assert!(forecast.earliest < forecast.at && forecast.at < forecast.latest, "{forecast:?}");
                return (n, (forecast.at.0 - at(0).0) / nanos);
            }
        }
        panic!("never called");
    }

    #[test]
    fn as_many_samples_tell_as_much_at_any_pace() {
        let usual = called(SAMPLED_EVERY);
        let hundredth = called(Duration::from_millis(50));
        assert!(
            usual.0.abs_diff(hundredth.0) <= 24 && usual.1.abs_diff(hundredth.1) <= 60,
            "{usual:?} {hundredth:?}"
        );
        assert!((4_200..4_440).contains(&usual.1), "{usual:?}");
    }

    #[test]
    fn who_is_sampled_seldom_is_called_as_far_ahead() {
        // A third as many samples in the same time.
        let (usual, seldom) = (called(SAMPLED_EVERY), called(Duration::from_secs(15)));
        let ahead = |(called, at): (u64, u64)| at - called;
        assert!(ahead(usual) * 5 > 3_000 && ahead(seldom) * 15 > 3_000, "{usual:?} {seldom:?}");
    }

    #[test]
    fn the_time_that_is_left_is_told_in_a_unit_that_says_something() {
        let at = |s: u64| Mono(s * 1_000_000_000);
        let forecast = |a, e, l| Forecast { at: at(a), earliest: at(e), latest: at(l) };
        assert_eq!(
            ahead(&forecast(2_040 + 60, 1_500 + 60, 3_000 + 60), at(60)),
            "in about 34 min (95 %: 25–50)"
        );
        assert_eq!(ahead(&forecast(40, 30, 65), at(0)), "in about 40 s (95 %: 30–65)");
    }
}
