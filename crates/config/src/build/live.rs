//! Liveness: what a running service owes.

use std::time::Duration;

use super::Building;
use crate::element::live::LiveTable;
use crate::read::{Draft, Located};

/// From one heartbeat to the next.
const PERIOD: Duration = Duration::from_secs(5);
/// One beat may be late and the next one lost.
const BEATS: u32 = 3;
/// More often would be work of its own.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// The heartbeat of a service.
#[derive(Clone, Copy)]
pub(super) struct Heartbeat {
    pub(super) period: Duration,
    pub(super) lost_after: Duration,
}

impl Building<'_, '_> {
    pub(super) fn live(&mut self, raw: Option<&Located<LiveTable>>) -> Option<Heartbeat> {
        let raw = raw?;
        let t = &raw.value;
        let table = format!("services.{}.live", self.name);
        // Where the value is of another type, that is told already.
        let on = t.heartbeat.as_ref()?;
        if !on.value {
            let d = Draft::error("bad-value", on.at, format!("`heartbeat` in {table} can only be true"));
            self.tell(d.label("leave it out"));
            return None;
        }
        let given = (t.period.as_ref().map(|p| p.value.0), t.lost_after.as_ref().map(|l| l.value.0));
        let beat = match given {
            (Some(period), Some(lost_after)) => Heartbeat { period, lost_after },
            (Some(period), None) => Heartbeat { period, lost_after: period.saturating_mul(BEATS) },
            (None, Some(lost_after)) => Heartbeat { period: lost_after / BEATS, lost_after },
            (None, None) => Heartbeat { period: PERIOD, lost_after: PERIOD * BEATS },
        };
        if beat.period < SHORTEST_PERIOD {
            let at = t.period.as_ref().or(t.lost_after.as_ref()).map_or(raw.at, |span| span.at);
            let d = Draft::error("bad-value", at, format!("`period` in {table} must be at least 10ms"));
            self.tell(d.label("too short"));
        }
        if let Some(lost) = t.lost_after.as_ref().filter(|_| beat.lost_after < beat.period) {
            let message = format!("`lost_after` in {table} must not be shorter than `period`");
            self.tell(Draft::error("bad-value", lost.at, message).label("every beat would come too late"));
        }
        Some(beat)
    }
}
