//! Whether one level's buckets show a trend towards the limit.
//!
//! First the lower envelope since it began to grow, without the tooth that has not fallen yet; then slopes of the whole of it
//! and of its halves; then the way that is left, with the bend that the halves show. Each constant was set on series that
//! are not those of the tests, see docs/prediction.md.

use core::time::Duration;

use super::Forecast;
use super::level::{Closed, KEPT, Level};
use super::slope::{Slope, quantile, slope};
use crate::time::Mono;

/// Fewer buckets of growth are no trend: on the finest level 27 min, which no tooth up to that length outlasts.
const FEWEST: usize = 27;
/// Further ahead nothing is said, in seconds: a daily wave on its way up has turned before.
const HORIZON: f32 = 4200.0;
/// Nor further than this share of the time in which the growth was seen: what fills up ever more slowly is slower by then.
const LOOK: f32 = 0.7;
/// The growth that is seen is at least this share of the limit.
const LEAST_GROWTH: f32 = 0.02;
/// And so many times as much as the lows rise above their envelope: noise, or teeth longer than a bucket.
const ABOVE_FUZZ: f32 = 2.0;
/// Growth of which more than this share came within two buckets is a step, or what remains of a start.
const LEAP: f32 = 0.4;
/// Nearly all pairs that are far apart agree on at least this share of the slope.
const STEADY: f32 = 0.25;
/// The slower half of a trend grows at least at this share of the faster one's pace: earlier, and later.
const EARLY: f32 = 0.1;
const LATE: f32 = 0.5;
/// What the slopes' own spread does not know, growth may bend from now on: the ends of the interval are moved out.
const SOONER: f32 = 0.7;
const LATER: f32 = 1.2;

/// Looks at a level whose newest bucket has just been filled.
pub(super) fn look(level: &Level, width: Duration, limit: f32) -> Option<Forecast> {
    let count = level.buckets().len();
    if count < FEWEST {
        return None;
    }
    let mut room = [Closed::NONE; KEPT];
    for (place, bucket) in room.iter_mut().zip(level.buckets()) {
        *place = bucket;
    }
    let buckets = room.get(..count)?;
    let envelope = envelope(buckets)?;
    let points = envelope.points.get(..envelope.count)?;
    let (first, last) = (points.first()?, points.last()?);
    let (span, grown) = (last.0 - first.0, last.1 - first.1);
    let ahead = (HORIZON / width.as_secs_f32()).min(LOOK * span);
    // Nothing that is far from being a trend is worth the sight of all pairs.
    if grown <= 0.0 || (limit - last.1) * span > 4.0 * grown * ahead {
        return None;
    }
    let fit = Fit::new(points, span);
    let least = (LEAST_GROWTH * limit).max(ABOVE_FUZZ * envelope.fuzz);
    if !fit.steady() || fit.whole.median * span < least || leap(points) > LEAP * grown {
        return None;
    }
    let newest = buckets.last()?.number;
    let now = (newest - buckets.first()?.number) as f32 + 1.0;
    let left = fit.left(points, now, &envelope.swing, limit)?;
    let at = |x: f32| {
        let buckets = f64::from(newest) + 1.0 + f64::from(x);
        Mono((buckets * width.as_secs_f64() * 1e9) as u64)
    };
    let [earliest, most_likely, latest] = left;
    (most_likely <= ahead).then(|| Forecast {
        at: at(most_likely),
        earliest: at(earliest),
        latest: at(latest),
    })
}

/// The lower envelope's points, in buckets and in the limit's unit, since it began to grow.
struct Envelope {
    points: [(f32, f32); KEPT],
    count: usize,
    swing: Swing,
    /// How far the lows themselves rise above it.
    fuzz: f32,
}

/// How far the series rises above its envelope: what it needs below the limit.
#[derive(Clone, Copy, Default)]
struct Swing {
    least: f32,
    usual: f32,
    most: f32,
}

fn envelope(buckets: &[Closed]) -> Option<Envelope> {
    let wobble = wobble(buckets);
    let least = buckets.iter().fold(f32::MAX, |least, b| least.min(b.low));
    let begin = buckets.iter().rposition(|b| b.low <= least + wobble)?;
    // A tooth that has not fallen yet says nothing: its foot is the last that is known of the envelope.
    let falls = |pair: &[Closed]| pair[0].low - pair[1].low > 3.0 * wobble;
    let foot = buckets[begin..].windows(2).rposition(falls).map(|at| begin + at + 1);
    let end = match foot {
        Some(foot) if buckets.len() - foot < FEWEST => foot,
        Some(_) | None => buckets.len() - 1,
    };
    if end + 1 < begin + FEWEST {
        return None;
    }
    let count = end + 1 - begin;
    let zero = buckets.first()?.number;
    let mut points = [(0.0, 0.0); KEPT];
    let (mut above, mut fuzz) = ([0.0_f32; KEPT], [0.0_f32; KEPT]);
    let mut floor = f32::MAX;
    for (i, bucket) in buckets.iter().enumerate().take(end + 1).skip(begin).rev() {
        // No later low lies below the floor. Without teeth it would only bend the end of the noise upwards.
        floor = floor.min(bucket.low);
        let low = if foot.is_some() { floor } else { bucket.low };
        points[i - begin] = ((bucket.number - zero) as f32 + 0.5, low);
        above[i - begin] = bucket.high - floor;
        fuzz[i - begin] = bucket.low - floor;
    }
    let (above, fuzz) = (&mut above[..count], &mut fuzz[..count]);
    let swing = Swing { least: quantile(above, 25), usual: quantile(above, 93), most: quantile(above, 100) };
    Some(Envelope { points, count, swing, fuzz: quantile(fuzz, 85) })
}

/// How much neighbouring lows differ, beyond what they always do.
fn wobble(buckets: &[Closed]) -> f32 {
    let mut differences = [0.0_f32; KEPT];
    let mut n = 0;
    for pair in buckets.windows(2) {
        differences[n] = pair[1].low - pair[0].low;
        n += 1;
    }
    let differences = &mut differences[..n];
    let usual = quantile(differences, 50);
    for difference in &mut *differences {
        *difference = (*difference - usual).abs();
    }
    1.5 * quantile(differences, 50)
}

/// The largest growth within two buckets.
fn leap(points: &[(f32, f32)]) -> f32 {
    points.windows(3).map(|three| three[2].1 - three[0].1).fold(0.0, f32::max)
}

struct Fit {
    whole: Slope,
    early: Slope,
    late: Slope,
    span: f32,
}

impl Fit {
    fn new(points: &[(f32, f32)], span: f32) -> Self {
        let half = points.len() / 2;
        let (early, late) = (&points[..half], &points[points.len() - half..]);
        Self { whole: slope(points), early: slope(early), late: slope(late), span }
    }

    /// It grew all the time, and is not about to stop.
    fn steady(&self) -> bool {
        let (early, late) = (self.early.median, self.late.median);
        self.whole.low > STEADY * self.whole.median
            && self.late.low > 0.0
            && early >= EARLY * late
            && late >= LATE * early
    }

    /// How the pace changes, a bucket. It grows only where the halves differ beyond doubt; that it falls is always believed.
    fn bend(&self) -> f32 {
        let bend = (self.late.median - self.early.median) / (self.span / 2.0);
        let doubtful = self.late.low < self.early.high || self.early.low <= 0.0;
        if bend > 0.0 && doubtful { 0.0 } else { bend }
    }

    /// Buckets from `now` until the limit: not before, most likely, not after. `None`: it turns before.
    fn left(&self, points: &[(f32, f32)], now: f32, swing: &Swing, limit: f32) -> Option<[f32; 3]> {
        let mut ends = [0.0_f32; KEPT];
        let half = points.len() / 2;
        for (end, point) in ends.iter_mut().zip(&points[points.len() - half..]) {
            *end = point.1 + self.late.median * (now - point.0);
        }
        let room = limit - quantile(&mut ends[..half], 50);
        let bend = self.bend();
        let pace = self.late.median + bend * self.span / 4.0;
        let likely = time_to(room - swing.usual, pace, bend)?;
        let soon = time_to(room - swing.most, pace.max(self.whole.high), bend.max(0.0)).unwrap_or(0.0);
        let late = time_to(room - swing.least, pace.min(self.whole.low), bend.min(0.0) / 2.0);
        Some([soon.min(likely) * SOONER, likely, late.unwrap_or(4.0 * likely).max(likely) * LATER])
    }
}

/// When what grows at `pace`, which itself changes by `bend`, has grown by `room`: the first root of
/// `pace·x + bend·x²/2 = room`. `None`: it turns before.
fn time_to(room: f32, pace: f32, bend: f32) -> Option<f32> {
    if room <= 0.0 {
        return Some(0.0);
    }
    if pace <= 0.0 || pace * pace < -2.0 * bend * room {
        return None;
    }
    // By Newton's steps, since `core` has no square root. From the even pace on they come from the root's flatter side if
    // growth slows down, and from its steeper one if not: either way they do not leap over it.
    let mut x = room / pace;
    for _ in 0..12 {
        let steep = pace + bend * x;
        if steep <= 0.0 {
            x /= 2.0;
            continue;
        }
        x -= (pace * x + bend * x * x / 2.0 - room) / steep;
    }
    (x.is_finite() && x >= 0.0).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_a_limit_is_the_first_root() {
        let near = |x: Option<f32>, y: f32| x.is_some_and(|x| (x - y).abs() < 0.01 * y.max(1.0));
        assert!(near(time_to(10.0, 2.0, 0.0), 5.0));
        assert!(near(time_to(12.0, 2.0, 2.0), 2.606));
        assert!(near(time_to(10.0, 6.0, -1.0), 2.0));
        assert!(near(time_to(17.9, 6.0, -1.0), 5.553));
        assert_eq!(time_to(19.0, 6.0, -1.0), None, "it turns at 18");
        assert_eq!(time_to(1.0, 0.0, 1.0), None);
        assert_eq!(time_to(-1.0, 1.0, 0.0), Some(0.0));
    }
}
