//! One series from a seed. Everything is said as a share of the limit; the samples come in its unit.

use std::f64::consts::TAU;

use crate::prng::Prng;

/// Between two samples.
const PERIOD: f64 = 5.0;
const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;

/// What a series is made to show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A leak at an even rate.
    Linear,
    /// A leak that grows with the square of time, or as an exponential.
    Accelerating,
    /// No leak: noise, saw-teeth and waves around a level.
    Level,
    /// No leak: fills up to a level, ever more slowly, or loads at once and stays.
    Plateau,
    /// No leak: comes down and fills again every few hours.
    Restarts,
    /// No leak: jumps to a new level, once or a few times.
    Steps,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] =
        [Kind::Linear, Kind::Accelerating, Kind::Level, Kind::Plateau, Kind::Restarts, Kind::Steps];

    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Kind::Linear => "even leak",
            Kind::Accelerating => "accelerating leak",
            Kind::Level => "noise, teeth, waves",
            Kind::Plateau => "plateau",
            Kind::Restarts => "restarts",
            Kind::Steps => "steps",
        }
    }

    /// Whether it ends at the limit.
    #[must_use]
    pub fn leaks(self) -> bool {
        matches!(self, Kind::Linear | Kind::Accelerating)
    }
}

/// A tooth's way from its foot to its head takes `period`, then it falls back.
struct Teeth {
    period: f64,
    height: f64,
}

/// Twice around a level, with a second harmonic, so that it rises and falls unevenly.
struct Wave {
    period: f64,
    half: f64,
    phase: f64,
    second: f64,
}

/// From a start on: up by `height`, either as `1 - exp(-t/time)` or evenly within `time`.
#[derive(Clone, Copy)]
struct Fill {
    height: f64,
    time: f64,
    even: bool,
}

#[derive(Clone, Copy)]
enum Growth {
    Linear,
    Square,
    Exponential(f64),
}

struct Leak {
    growth: Growth,
    /// From the start of the series, or of the run after a restart.
    onset: f64,
    /// Until it has grown by `height`.
    time: f64,
    height: f64,
}

/// One sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Seconds since the start.
    pub at: f64,
    /// In the unit of the limit.
    pub value: u64,
    /// The guardian knows that a new run began here.
    pub restarted: bool,
}

/// A series and the truth about it.
pub struct Series {
    /// What it shows.
    pub kind: Kind,
    /// What must not be reached.
    pub limit: u64,
    /// Every 5 s.
    pub samples: Vec<Sample>,
    /// When the first sample reaches the limit.
    pub reaches: Option<f64>,
    /// When its leak began, in the last run.
    pub leaks_from: Option<f64>,
    /// Before that there was no leak in any run.
    pub free_until: f64,
    /// Since when its trend is visible: the leak has grown by as much as all else moved since it began.
    pub visible: Option<f64>,
    /// When it jumped up.
    pub steps: Vec<f64>,
}

impl Series {
    /// The series of a seed.
    #[must_use]
    pub fn new(kind: Kind, seed: u64) -> Self {
        // Each kind has numbers of its own, or the same case would count six times.
        let numbers = Prng::new(seed.wrapping_mul(16).wrapping_add(kind as u64));
        Recipe::new(kind, Chance(numbers)).cook()
    }
}

struct Recipe {
    kind: Kind,
    dice: Chance,
    limit: u64,
    base: f64,
    white: f64,
    wander: f64,
    wander_time: f64,
    teeth: Option<Teeth>,
    wave: Option<Wave>,
    /// So many bursts an hour.
    bursts: f64,
    fill: Option<Fill>,
    leak: Option<Leak>,
    /// When a new run begins.
    restarts: Vec<f64>,
    /// The guardian sees them.
    restarts_told: bool,
    /// When, and by how much.
    steps: Vec<(f64, f64)>,
    length: f64,
}

impl Recipe {
    fn new(kind: Kind, mut dice: Chance) -> Self {
        let teeth = dice
            .happens(0.6)
            .then(|| Teeth { period: dice.log(20.0, 20.0 * MINUTE), height: dice.even(0.02, 0.3) });
        let wave = dice.happens(0.6).then(|| Wave {
            period: if dice.happens(0.7) { DAY } else { dice.even(8.0, 24.0) * HOUR },
            half: dice.even(0.02, 0.12),
            phase: dice.even(0.0, TAU),
            second: dice.even(0.0, 0.3),
        });
        let mut this = Self {
            kind,
            limit: *dice.0.pick(&[1_000, 16_384, 800_000_000, 16_000_000_000]),
            base: dice.even(0.1, 0.45),
            white: dice.log(0.001, 0.02),
            wander: dice.log(0.0005, 0.015),
            wander_time: dice.even(1.0, 10.0) * MINUTE,
            teeth,
            wave,
            bursts: if dice.happens(0.4) { dice.even(1.0, 6.0) } else { 0.0 },
            fill: None,
            leak: None,
            restarts: Vec::new(),
            restarts_told: dice.happens(0.5),
            steps: Vec::new(),
            length: DAY,
            dice,
        };
        match kind {
            Kind::Linear => this.add_leak(Growth::Linear),
            Kind::Accelerating => {
                let growth = if this.dice.happens(0.5) {
                    Growth::Square
                } else {
                    Growth::Exponential(this.dice.even(1.0, 4.0))
                };
                this.add_leak(growth);
            }
            Kind::Level => {}
            Kind::Plateau => this.add_fill(4.0 * HOUR),
            Kind::Restarts => {
                this.add_fill(20.0 * MINUTE);
                let mut at = this.dice.even(1.0, 8.0) * HOUR;
                while at < this.length {
                    this.restarts.push(at);
                    at += this.dice.even(1.0, 8.0) * HOUR;
                }
            }
            Kind::Steps => {
                let noise = this.noise();
                for _ in 0..this.dice.0.range(1, 4) {
                    let at = this.dice.even(1.0, 23.0) * HOUR;
                    // A step is one where it stands out from what moves anyway within minutes.
                    let teeth = this.teeth.as_ref().map_or(0.0, |t| t.height);
                    let height = this.dice.even(1.0, 3.0) * (noise + teeth).max(0.03);
                    if this.steps.iter().all(|(other, _)| (at - other).abs() > 2.0 * HOUR)
                        && this.top() + height < 0.9
                    {
                        this.steps.push((at, height));
                    }
                }
            }
        }
        this.keep_below();
        this
    }

    fn add_fill(&mut self, longest: f64) {
        let even = self.dice.happens(0.3);
        let time =
            if even { self.dice.even(1.0, 15.0) * MINUTE } else { self.dice.log(2.0 * MINUTE, longest) };
        self.fill = Some(Fill { height: self.dice.even(0.1, 0.5), time, even });
    }

    fn add_leak(&mut self, growth: Growth) {
        if self.dice.happens(0.3) {
            self.add_fill(20.0 * MINUTE);
            self.fill = self.fill.map(|fill| Fill { height: fill.height.min(0.2), ..fill });
        }
        let onset = self.dice.even(0.0, 6.0) * HOUR;
        let time = self.dice.log(50.0 * MINUTE, 16.0 * HOUR);
        if self.dice.happens(0.3) {
            self.restarts.push(onset + self.dice.even(0.1, 0.9) * time);
        }
        self.leak = Some(Leak { growth, onset, time, height: 1.0 - self.base });
        // The limit is reached earlier, but a restart makes it begin anew.
        self.length = 48.0 * HOUR;
    }

    /// Leak-free series do not come near the limit: what is level just below it is for a guard to tell.
    fn keep_below(&mut self) {
        let top = self.top();
        if top > 0.88 && !self.kind.leaks() {
            self.base = (self.base - (top - 0.88)).max(0.05);
            let over = (self.top() / 0.88).max(1.0);
            if let Some(fill) = &mut self.fill {
                fill.height /= over;
            }
            if let Some(teeth) = &mut self.teeth {
                teeth.height /= over;
            }
            if let Some(wave) = &mut self.wave {
                wave.half /= over;
            }
        }
    }

    fn noise(&self) -> f64 {
        4.0 * self.white.hypot(self.wander)
    }

    fn top(&self) -> f64 {
        self.base
            + self.noise() / 2.0
            + self.teeth.as_ref().map_or(0.0, |t| t.height)
            + self.wave.as_ref().map_or(0.0, |w| w.half * (1.0 + w.second))
            + self.fill.map_or(0.0, |f| f.height)
            + self.steps.iter().map(|(_, height)| height).sum::<f64>()
    }

    fn cook(mut self) -> Series {
        let mut series = Series {
            kind: self.kind,
            limit: self.limit,
            samples: Vec::with_capacity(17_280),
            reaches: None,
            leaks_from: None,
            free_until: f64::MAX,
            visible: None,
            steps: self.steps.iter().map(|(at, _)| *at).collect(),
        };
        let (mut wandered, mut burst_until, mut burst) = (0.0, 0.0, 0.0);
        let keeps = (-PERIOD / self.wander_time).exp();
        let stirs = self.wander * (1.0 - keeps * keeps).sqrt();
        let mut tooth = Tooth::default();
        // Of everything but leak, teeth and noise since the leak began.
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        // A series without a leak stays below its limit.
        let high = if self.kind.leaks() { 1.0 } else { 0.96 - self.top() };
        let mut begun = 0.0;
        let mut at = 0.0;
        while at < self.length {
            let restarted = self.restarts.iter().any(|r| (*r..*r + PERIOD).contains(&at));
            if restarted {
                begun = at;
                (series.leaks_from, series.visible) = (None, None);
            }
            let since = at - begun;
            let grown = self.leak.as_ref().map_or(0.0, |leak| leak.grown(since));
            let slow = self.slow(at, since);
            let still = slow + grown + tooth.next(at, self.teeth.as_ref(), &mut self.dice);
            if grown > 0.0 {
                if series.leaks_from.is_none() {
                    series.leaks_from = Some(at);
                    series.free_until = series.free_until.min(at);
                    (least, most) = (slow, slow);
                }
                (least, most) = (least.min(slow), most.max(slow));
                let rest = self.noise() + self.teeth.as_ref().map_or(0.0, |t| t.height) + most - least;
                if series.visible.is_none() && grown >= rest {
                    series.visible = Some(at);
                }
            }
            if at >= burst_until && self.dice.happens(self.bursts * PERIOD / HOUR) {
                (burst_until, burst) = (at + self.dice.even(5.0, 60.0), self.dice.even(0.02, 0.15).min(high));
            }
            wandered = wandered * keeps + stirs * self.dice.normal();
            let value = still
                + wandered
                + self.white * self.dice.normal()
                + if at < burst_until { burst } else { 0.0 };
            if self.leak.is_some() && value >= 1.0 {
                series.reaches = Some(at);
                break;
            }
            series.samples.push(Sample {
                at,
                value: (value.max(0.0) * self.limit as f64) as u64,
                restarted: restarted && self.restarts_told,
            });
            at += PERIOD;
        }
        series
    }

    fn slow(&self, at: f64, since: f64) -> f64 {
        self.base
            + self.wave.as_ref().map_or(0.0, |w| {
                let turn = TAU * at / w.period + w.phase;
                w.half * (turn.sin() + w.second * (2.0 * turn).sin())
            })
            + self.fill.map_or(0.0, |f| {
                f.height * if f.even { (since / f.time).min(1.0) } else { 1.0 - (-since / f.time).exp() }
            })
            + self.steps.iter().filter(|(when, _)| at >= *when).map(|(_, height)| height).sum::<f64>()
    }
}

/// Where in its tooth the series is.
#[derive(Default)]
struct Tooth {
    began: f64,
    period: f64,
    foot: f64,
    height: f64,
}

impl Tooth {
    fn next(&mut self, at: f64, teeth: Option<&Teeth>, dice: &mut Chance) -> f64 {
        let Some(teeth) = teeth else { return 0.0 };
        if at >= self.began + self.period {
            self.began = at;
            self.period = teeth.period * dice.even(0.7, 1.3);
            // What a collection leaves is never quite the same.
            self.foot = teeth.height * dice.even(0.0, 0.1);
            self.height = teeth.height * dice.even(0.9, 1.0);
        }
        self.foot + (self.height - self.foot) * (at - self.began) / self.period
    }
}

impl Leak {
    fn grown(&self, since: f64) -> f64 {
        let t = (since - self.onset) / self.time;
        if t <= 0.0 {
            return 0.0;
        }
        self.height
            * match self.growth {
                Growth::Linear => t,
                Growth::Square => t * t,
                Growth::Exponential(k) => (k * t).exp_m1() / k.exp_m1(),
            }
    }
}

struct Chance(Prng);

impl Chance {
    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.0.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn even(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// As often from 1 to 2 as from 10 to 20.
    fn log(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.share())
    }

    fn happens(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// Mean 0, deviation 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.share()).ln()).sqrt() * (TAU * self.share()).cos()
    }
}
