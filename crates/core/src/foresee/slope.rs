//! The slope of Theil and Sen: the median of the slopes between all pairs of points. Nearly a third of the points may lie
//! anywhere without moving it far.

use super::level::KEPT;

/// Per unit of x.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Slope {
    pub(super) median: f32,
    /// Of pairs that are far apart, the slope below which few lie.
    pub(super) low: f32,
    /// And the one above which few lie.
    pub(super) high: f32,
}

const PAIRS: usize = KEPT * (KEPT - 1) / 2;

/// Of points whose x grows strictly, at most [`KEPT`] of them, at least 4.
pub(super) fn slope(points: &[(f32, f32)]) -> Slope {
    let (first, last) = (points.first().map_or(0.0, |p| p.0), points.last().map_or(0.0, |p| p.0));
    let far = (last - first) / 2.0;
    let mut all = [0.0_f32; PAIRS];
    let mut wide = [0.0_f32; PAIRS];
    let (mut n, mut m) = (0, 0);
    for (i, a) in points.iter().enumerate() {
        for b in points.get(i + 1..).unwrap_or_default() {
            let between = (b.1 - a.1) / (b.0 - a.0);
            if n < PAIRS {
                all[n] = between;
                n += 1;
            }
            if b.0 - a.0 >= far && m < PAIRS {
                wide[m] = between;
                m += 1;
            }
        }
    }
    Slope {
        median: quantile(&mut all[..n], 50),
        low: quantile(&mut wide[..m], 5),
        high: quantile(&mut wide[..m], 95),
    }
}

/// The value below which so many of a hundred lie; 0 of nothing.
pub(super) fn quantile(of: &mut [f32], percent: usize) -> f32 {
    if of.is_empty() {
        return 0.0;
    }
    let at = (of.len() - 1) * percent / 100;
    *of.select_nth_unstable_by(at, f32::total_cmp).1
}
