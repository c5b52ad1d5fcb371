//! Times and durations as people read and write them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A number of lines or events as it is typed.
///
/// # Errors
/// When it is none.
pub(crate) fn how_many(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no number from 0 to {}", u32::MAX))
}

/// What "now" is and where the reader lives. Given to everything that prints, so that tests can hold it still.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    now: Timestamp,
    zone: TimeZone,
}

impl Clock {
    /// The real one, at this moment.
    pub(crate) fn real() -> Self {
        Self { now: Timestamp::now(), zone: TimeZone::system() }
    }

    /// A moment in UTC.
    #[cfg(test)]
    pub(crate) fn fixed(now: &str) -> Self {
        Self { now: now.parse().unwrap(), zone: TimeZone::UTC }
    }

    /// How long ago that was; nothing when the text is no time. A moment in the future is `0 s` ago.
    pub(crate) fn ago(&self, at: &str) -> Option<Duration> {
        let at: Timestamp = at.parse().ok()?;
        Some(between(at, self.now))
    }

    /// How long until then; zero when it has passed.
    pub(crate) fn until(&self, at: &str) -> Option<Duration> {
        let at: Timestamp = at.parse().ok()?;
        Some(between(self.now, at))
    }

    /// `14:07:11` today, `Mon 14:07:11` within six days, else `2026-01-31 14:07:11`.
    pub(crate) fn at(&self, at: &str) -> Option<String> {
        let then: Timestamp = at.parse().ok()?;
        let (local, today) = (then.to_zoned(self.zone.clone()), self.now.to_zoned(self.zone.clone()).date());
        let days = (local.date() - today).get_days().abs();
        let format = match days {
            0 => "%H:%M:%S",
            1..=6 => "%a %H:%M:%S",
            _ => "%Y-%m-%d %H:%M:%S",
        };
        Some(local.strftime(format).to_string())
    }

    /// `in 3 s`, or from a minute on with the clock: `14:07:11 (in 3 min)`. `now` when it is due.
    pub(crate) fn due(&self, at: &str) -> Option<String> {
        let left = self.until(at)?;
        Some(match left {
            Duration::ZERO => "now".to_owned(),
            _ if left < Duration::from_secs(60) => format!("in {}", rough(left)),
            _ => format!("{} (in {})", self.at(at)?, rough(left)),
        })
    }

    /// The moment this long ago, RFC 3339.
    pub(crate) fn back(&self, by: Duration) -> String {
        let by = jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX);
        self.now.checked_sub(by).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
    }
}

/// From `a` to `b`; zero if `b` comes first.
fn between(a: Timestamp, b: Timestamp) -> Duration {
    Duration::try_from(b.duration_since(a)).unwrap_or_default()
}

/// From one RFC 3339 moment to another.
pub(crate) fn elapsed(from: &str, to: &str) -> Option<Duration> {
    Some(between(from.parse().ok()?, to.parse().ok()?))
}

/// For measurements: `340 ms`, `1.2 s`, `45 s`, then as `rough`. The words of the guardian's own reasons.
pub(crate) fn precise(d: Duration) -> String {
    let ms = d.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 if ms % 1_000 >= 100 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        1_000..120_000 => format!("{} s", ms / 1_000),
        _ => rough(d),
    }
}

/// For waits and ages: `3 s`, `4 min`, `11 h`, `2 d`. What is not over is never `0 s`.
pub(crate) fn rough(d: Duration) -> String {
    let rounded = |unit: u64| (d.as_secs_f64() / unit as f64).round() as u64;
    match d.as_secs() {
        0 if !d.is_zero() => "1 s".to_owned(),
        0..120 => format!("{} s", rounded(1)),
        120..7_200 => format!("{} min", rounded(60)),
        7_200..172_800 => format!("{} h", rounded(3600)),
        _ => format!("{} d", rounded(86_400)),
    }
}

pub(crate) use keepwell_config::parse_duration as parse;

/// A duration back from now, or a moment in RFC 3339; answers the moment in RFC 3339.
///
/// # Errors
/// Says what it takes.
pub(crate) fn parse_since(text: &str, clock: &Clock) -> std::result::Result<String, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment.to_string());
    }
    let wrong = |_| {
        format!(
            "`{text}` is neither a duration back from now (`10m`, `2h`) nor a moment (`2026-01-31T14:00:00Z`)"
        )
    };
    parse(text).map(|d| clock.back(d)).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_short() {
        let p = |ms| precise(Duration::from_millis(ms));
        assert_eq!(
            [p(0), p(340), p(999), p(1_000), p(1_250), p(9_990), p(45_900), p(240_000)],
            ["0 ms", "340 ms", "999 ms", "1 s", "1.2 s", "9.9 s", "45 s", "4 min"]
        );
    }

    #[test]
    fn ages_are_rough() {
        let r = |s| rough(Duration::from_secs(s));
        assert_eq!(
            [r(0), r(3), r(119), r(120), r(3_600), r(7_200), r(39_600), r(172_800)],
            ["0 s", "3 s", "119 s", "2 min", "60 min", "2 h", "11 h", "2 d"]
        );
        assert_eq!(rough(Duration::from_millis(200)), "1 s");
    }

    #[test]
    fn since_takes_both_ways_of_saying_it() {
        let clock = Clock::fixed("2026-01-31T14:00:00Z");
        assert_eq!(parse_since("10m", &clock).unwrap(), "2026-01-31T13:50:00Z");
        assert_eq!(parse_since("2026-01-31T13:00:00+01:00", &clock).unwrap(), "2026-01-31T12:00:00Z");
        assert!(parse_since("yesterday", &clock).unwrap_err().contains("`10m`"));
    }

    #[test]
    fn clock_times_carry_a_day_when_it_is_another() {
        let clock = Clock::fixed("2026-01-31T14:00:00Z");
        assert_eq!(clock.at("2026-01-31T14:07:11Z").unwrap(), "14:07:11");
        assert_eq!(clock.at("2026-01-29T14:07:11Z").unwrap(), "Thu 14:07:11");
        assert_eq!(clock.at("2025-12-29T14:07:11Z").unwrap(), "2025-12-29 14:07:11");
        assert_eq!(clock.due("2026-01-31T14:03:00Z").unwrap(), "14:03:00 (in 3 min)");
        assert_eq!(clock.due("2026-01-31T14:00:02Z").unwrap(), "in 2 s");
        assert_eq!(clock.due("2026-01-31T13:00:02Z").unwrap(), "now");
    }
}
