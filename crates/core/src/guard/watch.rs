//! What rules and limits have seen of one run.
//!
//! A rule is armed; while its figure is above the bound without a break for long enough it trips; it is armed again when the
//! figure has come down well below, so that a figure at the bound does not trip it over and over. What cannot be measured
//! trips nothing.

use alloc::vec::Vec;
use core::time::Duration;

use super::outlook::Outlook;
use super::{Figure, Guard, Then, Usage};
use crate::foresee::{Forecast, Seen};
use crate::id::RunId;
use crate::spec::ServiceSpec;
use crate::time::Mono;

/// After a gap this long, or of so many samples, nothing is known of the time between: the host slept, or nobody was there to
/// look.
const GAP: Duration = Duration::from_secs(30);
const GAP_SAMPLES: u32 = 3;

/// What is new with a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// It trips. Until [`Watch::trip`] is called it is news again with each sample.
    Trips { value: u64 },
    /// It is armed again.
    Cleared { value: u64 },
    /// What is foreseen of its figure.
    Seen(Seen),
}

/// All that is watched of one run.
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    pub(crate) run: RunId,
    every: Duration,
    foresee: bool,
    /// The service's own rules, then those that every service has.
    pub(crate) rules: Vec<Watch>,
    own: usize,
    pub(crate) ceilings: Vec<Ceiling>,
}

impl Watches {
    pub(crate) fn new(run: RunId, spec: &ServiceSpec, every: Duration, usage: &Usage) -> Self {
        let mut rules: Vec<_> =
            spec.guards.iter().map(|guard| Watch::new(guard.clone(), every, spec.foresee)).collect();
        let own = rules.len();
        for guard in usage.gui_limits.into_iter().flat_map(of_the_desktop) {
            if !spec.guards.iter().any(|own| own.figure == guard.figure) {
                rules.push(Watch::new(guard, every, spec.foresee));
            }
        }
        let ceiling = |(figure, at): &(Figure, u64)| Ceiling::new(*figure, *at, every);
        let ceilings = spec.ceilings.iter().map(ceiling).collect();
        Self { run, every, foresee: spec.foresee, rules, own, ceilings }
    }

    /// Whether they are those of this run under these rules.
    pub(crate) fn fit(&self, run: RunId, spec: &ServiceSpec, every: Duration) -> bool {
        let rules = self.rules.iter().take(self.own).map(|watch| &watch.guard);
        let ceilings = self.ceilings.iter().map(|ceiling| (ceiling.figure, ceiling.at));
        (self.run, self.every, self.foresee) == (run, every, spec.foresee)
            && rules.eq(&spec.guards)
            && ceilings.eq(spec.ceilings.iter().copied())
    }
}

/// A process that reaches these limits can draw nothing more, and nothing else tells of it.
fn of_the_desktop((gdi, user): (u64, u64)) -> [Guard; 2] {
    [(Figure::Gdi, gdi), (Figure::User, user)].map(|(figure, limit)| {
        let above = limit / 5 * 4;
        Guard {
            figure,
            folder: None,
            above,
            clear: above - above / 10,
            lasting: Duration::ZERO,
            then: Then::Alert,
        }
    })
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) guard: Guard,
    /// Above the bound since.
    since: Option<Mono>,
    pub(crate) tripped: bool,
    /// It should have tripped, and a budget for restarts was spent; that was told.
    pub(crate) held: bool,
    /// The last sample.
    pub(crate) last: Option<(Mono, u64)>,
    gap: Duration,
    outlook: Option<Outlook>,
}

impl Watch {
    pub(crate) fn new(guard: Guard, every: Duration, foresee: bool) -> Self {
        let outlook = (foresee && guard.figure.may_leak()).then(|| Outlook::new(guard.above, every));
        let gap = GAP.max(every * GAP_SAMPLES);
        Self { guard, since: None, tripped: false, held: false, last: None, gap, outlook }
    }

    /// Takes a sample; what is new goes to `tell`.
    pub(crate) fn sample(&mut self, now: Mono, usage: &Usage, tell: &mut impl FnMut(News)) {
        let Some(value) = usage.of(self.guard.figure, self.guard.folder.as_deref()) else {
            self.since = None;
            return;
        };
        if self.last.replace((now, value)).is_some_and(|(before, _)| now.since(before) > self.gap) {
            self.since = None;
        }
        if value > self.guard.above {
            let since = *self.since.get_or_insert(now);
            if !self.tripped && now.since(since) >= self.guard.lasting {
                tell(News::Trips { value });
            }
        } else {
            (self.since, self.held) = (None, false);
            if self.tripped && value <= self.guard.clear {
                self.tripped = false;
                tell(News::Cleared { value });
            }
        }
        match self.outlook.as_mut().and_then(|outlook| outlook.push(now, value)) {
            // Above the bound there is nothing left to foresee.
            Some(Seen::Leak(_)) if value > self.guard.above => {}
            Some(seen) => tell(News::Seen(seen)),
            None => {}
        }
    }

    /// What it trips for was done.
    pub(crate) fn trip(&mut self) {
        self.tripped = true;
    }

    /// When the figure reaches the bound, if that is foreseen.
    pub(crate) fn forecast(&self) -> Option<Forecast> {
        let above = self.last.is_some_and(|(_, value)| value > self.guard.above);
        self.outlook.as_ref().filter(|_| !above)?.forecast()
    }
}

/// A limit that the system holds its processes to.
#[derive(Clone, Debug)]
pub(crate) struct Ceiling {
    pub(crate) figure: Figure,
    pub(crate) at: u64,
    /// The last sample.
    pub(crate) last: Option<u64>,
    outlook: Outlook,
}

impl Ceiling {
    fn new(figure: Figure, at: u64, every: Duration) -> Self {
        Self { figure, at, last: None, outlook: Outlook::new(at, every) }
    }

    /// Takes a sample.
    pub(crate) fn sample(&mut self, now: Mono, usage: &Usage) -> Option<Seen> {
        let value = usage.of(self.figure, None)?;
        self.last = Some(value);
        self.outlook.push(now, value)
    }

    /// When it is reached, if that is foreseen.
    pub(crate) fn forecast(&self) -> Option<Forecast> {
        self.outlook.forecast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const EVERY: Duration = crate::guard::SAMPLED_EVERY;

    fn rule(lasting: u64) -> Watch {
        let (figure, lasting) = (Figure::Memory, Duration::from_secs(lasting));
        let guard = Guard { figure, folder: None, above: 800, clear: 720, lasting, then: Then::Alert };
        Watch::new(guard, EVERY, true)
    }

    /// Samples every 5 s from `at` on; the times at which it trips and clears. It trips once it is taken at its word.
    fn play(watch: &mut Watch, mut at: u64, values: &[Option<u64>]) -> Vec<(u64, &'static str)> {
        let mut told = Vec::new();
        for memory in values {
            let mut trips = false;
            watch.sample(
                Mono(at * 1_000_000_000),
                &Usage { memory: *memory, ..Usage::default() },
                &mut |news| {
                    told.push((
                        at,
                        match news {
                            News::Trips { .. } => "trips",
                            News::Cleared { .. } => "cleared",
                            News::Seen(_) => return,
                        },
                    ));
                    trips = matches!(news, News::Trips { .. });
                },
            );
            if trips {
                watch.trip();
            }
            at += 5;
        }
        told
    }

    #[test]
    fn it_trips_after_its_time_without_a_break_and_once() {
        let above = [Some(900); 6];
        assert_eq!(play(&mut rule(10), 100, &above), [(110, "trips")]);
        assert_eq!(play(&mut rule(0), 100, &above), [(100, "trips")]);
        let broken = [Some(900), Some(900), Some(800), Some(900), Some(900), Some(900)];
        assert_eq!(play(&mut rule(10), 100, &broken), [(125, "trips")]);
    }

    #[test]
    fn it_is_armed_again_well_below_the_bound_only() {
        let mut watch = rule(0);
        let around = [Some(900), Some(790), Some(810), Some(721), Some(900)];
        assert_eq!(play(&mut watch, 100, &around), [(100, "trips")]);
        assert_eq!(play(&mut watch, 200, &[Some(720), Some(900)]), [(200, "cleared"), (205, "trips")]);
    }

    #[test]
    fn what_was_not_measured_trips_nothing() {
        let holes = [Some(900), None, Some(900), Some(900)];
        assert_eq!(play(&mut rule(10), 100, &holes), []);
        // The host slept for a minute between the two.
        let mut watch = rule(10);
        assert_eq!(play(&mut watch, 100, &[Some(900)]), []);
        assert_eq!(play(&mut watch, 165, &[Some(900), Some(900)]), []);
    }

    #[test]
    fn objects_of_the_desktop_are_told_of_at_four_fifths_unless_a_rule_says_else() {
        let usage = Usage { gui_limits: Some((10_000, 10_000)), ..Usage::default() };
        let watches = |spec: &ServiceSpec| Watches::new(RunId(1), spec, EVERY, &usage);
        let rules = |spec: &ServiceSpec| {
            watches(spec).rules.iter().map(|watch| format!("{}", watch.guard)).collect::<Vec<_>>()
        };
        let mut spec = ServiceSpec::default();
        assert_eq!(rules(&spec), ["gdi_objects > 8000", "user_objects > 8000"]);
        spec.guards.push(Guard { figure: Figure::Gdi, above: 500, ..rule(0).guard });
        assert_eq!(rules(&spec), ["gdi_objects > 500", "user_objects > 8000"]);
        assert!(watches(&spec).fit(RunId(1), &spec, EVERY) && !watches(&spec).fit(RunId(2), &spec, EVERY));
        let before = watches(&spec);
        spec.guards.clear();
        assert!(!before.fit(RunId(1), &spec, EVERY));
    }
}
