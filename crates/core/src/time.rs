//! Points in time. Durations are `core::time::Duration`; units stand in names only at the edges.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds since boot, counting suspended time (`CLOCK_BOOTTIME`; on Windows the interrupt time). Timeouts and
/// backoff use this one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Mono(pub u64);

/// Milliseconds since 1970-01-01 UTC. It may jump; calendars and people use it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Wall(pub i64);

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Now {
    /// For deadlines.
    pub mono: Mono,
    /// For people.
    pub wall: Wall,
}

impl Mono {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;
    fn sub(self, d: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Now {
    /// The wall time at which `at` comes, as the clocks stand now.
    #[must_use]
    pub fn wall_of(self, at: Mono) -> Wall {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        if at >= self.mono {
            Wall(self.wall.0.saturating_add(ms(at.since(self.mono))))
        } else {
            Wall(self.wall.0.saturating_sub(ms(self.mono.since(at))))
        }
    }
}

/// A duration as people write it: `40 ms`, `1.2 s`, `4 min`, `2 h`, `3 d`.
#[derive(Clone, Copy, Debug)]
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0..1_000 => write!(f, "{ms} ms"),
            1_000..10_000 if ms % 1_000 >= 100 => write!(f, "{}.{} s", ms / 1_000, ms % 1_000 / 100),
            1_000..120_000 => write!(f, "{} s", ms / 1_000),
            120_000..7_200_000 => write!(f, "{} min", ms / 60_000),
            7_200_000..172_800_000 => write!(f, "{} h", ms / 3_600_000),
            _ => write!(f, "{} d", ms / 86_400_000),
        }
    }
}
