//! `live = [{ heartbeat = true, period = "5s", lost_after = "15s" }]`: one of the things by which a running
//! service shows that it works.

use super::duration::Span;
use crate::read::{plain_table, table};

table! {
    /// A sign of life, and when it counts as lost.
    LiveTable {
        /// The program sends heartbeats to what it finds in `KEEPWELL_HEARTBEAT`.
        heartbeat: bool = "–", restart;
        /// How often the program is to beat; it finds this in `KEEPWELL_HEARTBEAT_PERIOD_MS`.
        period: Span = "a third of `lost_after`, else `\"5s\"`", restart;
        /// Without a heartbeat for this long, from when it is ready (without a check: from its start), the program is ended and restarted.
        lost_after: Span = "three times `period`", restart;
    }
}
plain_table!(LiveTable, "a sign of life", "{ heartbeat = true, period = \"5s\", lost_after = \"15s\" }");
