//! Liveness: what a running service owes.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Asked, Building};
use crate::config::{Beat, BeatBy};
use crate::element::live::{LiveTable, Way};
use crate::read::{At, Draft, Located};

/// From one heartbeat to the next.
const PERIOD: Duration = Duration::from_secs(5);
/// One beat may be late and the next one lost.
const BEATS: u32 = 3;
/// More often would be work of its own.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

impl Building<'_, '_> {
    /// The shell's half, and when the next beat is missed.
    pub(super) fn live(&mut self, raw: Option<&Located<LiveTable>>) -> Option<(Beat, Duration)> {
        let raw = raw?;
        let t = &raw.value;
        let table = format!("services.{}.live", self.name);
        // Where the value is of another type, that is told already.
        let on = t.heartbeat.as_ref()?;
        let by = match on.value {
            Way::Own => BeatBy::Own,
            Way::Tcp => BeatBy::Tcp(self.heartbeat_address(on.at)?),
            Way::Nowhere => {
                let d = Draft::error("bad-value", on.at, format!("`heartbeat` in {table} cannot be false"));
                self.tell(d.label("leave it out"));
                return None;
            }
        };
        let given = (t.period.as_ref().map(|p| p.value.0), t.lost_after.as_ref().map(|l| l.value.0));
        let (period, lost_after) = match given {
            (Some(period), Some(lost_after)) => (period, lost_after),
            (Some(period), None) => (period, period.saturating_mul(BEATS)),
            (None, Some(lost_after)) => (lost_after / BEATS, lost_after),
            (None, None) => (PERIOD, PERIOD * BEATS),
        };
        if period < SHORTEST_PERIOD {
            let at = t.period.as_ref().or(t.lost_after.as_ref()).map_or(raw.at, |span| span.at);
            let d = Draft::error("bad-value", at, format!("`period` in {table} must be at least 10ms"));
            self.tell(d.label("too short"));
        }
        if let Some(lost) = t.lost_after.as_ref().filter(|_| lost_after < period) {
            let message = format!("`lost_after` in {table} must not be shorter than `period`");
            self.tell(Draft::error("bad-value", lost.at, message).label("every beat would come too late"));
        }
        Some((Beat { by, period }, lost_after))
    }

    /// Where all services of this guardian beat that do so over TCP.
    fn heartbeat_address(&mut self, at: At) -> Option<SocketAddr> {
        match self.heartbeat {
            Asked::Is(address) => Some(address),
            // That is told already.
            Asked::Bad => None,
            Asked::Not => {
                let message = format!("services.{} beats over TCP, but has no address for that", self.name);
                let d = Draft::error("missing-key", at, message).label("needs `heartbeat` in [keepwell]");
                self.tell(d.help("[keepwell]\nheartbeat = \"127.0.0.1:9751\""));
                None
            }
        }
    }
}
