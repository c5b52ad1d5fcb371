//! Rules on what a service's tree uses: `memory > 800MB for 2m`, and what one rule has seen so far.
//!
//! A rule is armed; while its figure is above the bound without a break for long enough it trips; it is armed again when the
//! figure has come down well below, so that a figure at the bound does not trip it over and over. What cannot be measured
//! trips nothing.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::foresee::{Forecast, Foresight, Seen, Step};
use crate::time::{Human, Mono};

/// From one sample to the next.
pub const SAMPLED_EVERY: Duration = Duration::from_secs(5);
/// After a gap this long nothing is known of the time between: the host slept, or nobody was there to look.
const GAP: Duration = Duration::from_secs(30);

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Guard {
    /// What is looked at.
    pub figure: Figure,
    /// It may be this much: bytes, a number, or thousandths of a processor.
    pub above: u64,
    /// A rule that has tripped is armed again at this or below.
    pub clear: u64,
    /// It trips when the figure was above for so long without a break.
    pub lasting: Duration,
    /// What then.
    pub then: Then,
}

/// What a tree uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Figure {
    /// Bytes.
    Memory,
    /// Thousandths of one processor.
    Cpu,
    /// Open descriptors; on Windows handles.
    Descriptors,
    /// Threads.
    Threads,
    /// Processes.
    Processes,
}

/// What follows when a rule trips.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Then {
    /// It is told.
    Alert,
    /// And the service is stopped as any other and started again, one instance at a time, within its limit of restarts.
    Restart,
    /// And a command runs, for at most this long.
    Run {
        /// After this it is killed.
        timeout: Duration,
    },
}

/// One sample of a tree; `None` is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// See [`Figure::Memory`].
    pub memory: Option<u64>,
    /// See [`Figure::Cpu`].
    pub cpu: Option<u64>,
    /// See [`Figure::Descriptors`].
    pub descriptors: Option<u64>,
    /// See [`Figure::Threads`].
    pub threads: Option<u64>,
    /// See [`Figure::Processes`].
    pub processes: Option<u64>,
}

impl Usage {
    /// One of them.
    #[must_use]
    pub fn of(&self, figure: Figure) -> Option<u64> {
        match figure {
            Figure::Memory => self.memory,
            Figure::Cpu => self.cpu,
            Figure::Descriptors => self.descriptors,
            Figure::Threads => self.threads,
            Figure::Processes => self.processes,
        }
    }
}

impl Figure {
    /// The configuration's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Figure::Memory => "memory",
            Figure::Cpu => "cpu",
            Figure::Descriptors => "descriptors",
            Figure::Threads => "threads",
            Figure::Processes => "processes",
        }
    }

    /// So much of it, for people: `812 MB`, `150 %`, `16000`.
    #[must_use]
    pub fn amount(self, value: u64) -> String {
        match self {
            Figure::Memory => match value {
                0..10_000_000 => format!("{} KB", value / 1_000),
                10_000_000..10_000_000_000 => format!("{} MB", value / 1_000_000),
                _ => format!("{}.{} GB", value / 1_000_000_000, value / 100_000_000 % 10),
            },
            Figure::Cpu => format!("{} %", value / 10),
            Figure::Descriptors | Figure::Threads | Figure::Processes => format!("{value}"),
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.figure.name(), self.figure.amount(self.above))?;
        if self.lasting.is_zero() { Ok(()) } else { write!(f, " for {}", Human(self.lasting)) }
    }
}

/// What is new with a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// It trips. Until [`Watch::trip`] is called it is news again with each sample.
    Trips { value: u64 },
    /// It is armed again.
    Cleared { value: u64 },
    /// The figure will reach the bound.
    Leak(Forecast),
    /// It no longer looks so.
    LeakOver,
    /// The figure has jumped to a new level.
    Stepped(Step),
}

/// One rule and what it has seen of the present run.
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
    /// Of a figure that can leak.
    foresight: Option<Box<Foresight>>,
}

impl Watch {
    pub(crate) fn new(guard: Guard) -> Self {
        let foresight = match guard.figure {
            // What a processor does comes and goes.
            Figure::Cpu => None,
            Figure::Memory | Figure::Descriptors | Figure::Threads | Figure::Processes => {
                Some(Box::new(Foresight::new(guard.above)))
            }
        };
        Self { guard, since: None, tripped: false, held: false, last: None, foresight }
    }

    /// Takes a sample; what is new goes to `tell`.
    pub(crate) fn sample(&mut self, now: Mono, usage: &Usage, tell: &mut impl FnMut(News)) {
        let Some(value) = usage.of(self.guard.figure) else {
            self.since = None;
            return;
        };
        if self.last.replace((now, value)).is_some_and(|(before, _)| now.since(before) > GAP) {
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
        match self.foresight.as_mut().and_then(|foresight| foresight.push(now, value)) {
            // Above the bound there is nothing left to foresee.
            Some(Seen::Leak(forecast)) if value <= self.guard.above => tell(News::Leak(forecast)),
            Some(Seen::LeakOver) => tell(News::LeakOver),
            Some(Seen::Step(step)) => tell(News::Stepped(step)),
            Some(Seen::Leak(_)) | None => {}
        }
    }

    /// What it trips for was done.
    pub(crate) fn trip(&mut self) {
        self.tripped = true;
    }

    /// When the figure reaches the bound, if that is foreseen.
    pub(crate) fn forecast(&self) -> Option<Forecast> {
        self.foresight.as_ref().and_then(|foresight| foresight.forecast())
    }
}

/// `in about 34 min (95 %: 25–50)`.
pub(crate) fn ahead(forecast: &Forecast, now: Mono) -> String {
    let minutes = |at: Mono| (at.since(now).as_secs() + 30) / 60;
    let (at, from, to) = (minutes(forecast.at), minutes(forecast.earliest), minutes(forecast.latest));
    format!("in about {at} min (95 %: {from}–{to})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn rule(lasting: u64) -> Watch {
        let (figure, lasting) = (Figure::Memory, Duration::from_secs(lasting));
        Watch::new(Guard { figure, above: 800, clear: 720, lasting, then: Then::Alert })
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
                            News::Leak(_) | News::LeakOver | News::Stepped(_) => return,
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
    fn a_rule_reads_as_it_is_written() {
        assert_eq!(format!("{}", rule(120).guard), "memory > 0 KB for 2 min");
        let guard = |figure, above| Guard { figure, above, ..rule(0).guard };
        assert_eq!(format!("{}", guard(Figure::Memory, 800_000_000)), "memory > 800 MB");
        assert_eq!(format!("{}", guard(Figure::Cpu, 1_500)), "cpu > 150 %");
        assert_eq!(format!("{}", guard(Figure::Descriptors, 16_000)), "descriptors > 16000");
    }
}
