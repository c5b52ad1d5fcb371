//! `live = [{ heartbeat = true, period = "5s", lost_after = "15s" }]`: one of the things by which a running
//! service shows that it works.

use std::borrow::Cow;

use toml::de::DeValue;

use super::duration::Span;
use crate::read::{Element, Key, Node, Reader, plain_table, schema_of, table};

/// Where the beats go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// `false`, which nobody needs to write.
    Nowhere,
    /// The service's own socket or pipe.
    Own,
    /// `[keepwell] heartbeat`.
    Tcp,
}

impl Element for Way {
    fn what() -> Cow<'static, str> {
        "true or \"tcp\"".into()
    }
    fn syntax() -> Cow<'static, str> {
        "true: a socket or pipe of the service's own; \"tcp\": the address in [keepwell] heartbeat".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Boolean(true) => Some(Self::Own),
            DeValue::Boolean(false) => Some(Self::Nowhere),
            DeValue::String(s) if s.as_ref() == "tcp" => Some(Self::Tcp),
            DeValue::String(s) => r.bad(r.at(node.span()), key, format!("`{s}` is neither")),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Way, |_generator| schemars::json_schema!({ "enum": [true, "tcp"] }));

table! {
    /// A sign of life, and when it counts as lost.
    LiveTable {
        /// The program sends heartbeats to what it finds in `KEEPWELL_HEARTBEAT`: a socket or pipe of its own (`true`), or `"tcp"`, the address in `[keepwell] heartbeat`.
        heartbeat: Way = "–", restart;
        /// How often the program is to beat; it finds this in `KEEPWELL_HEARTBEAT_PERIOD_MS`.
        period: Span = "a third of `lost_after`, else `\"5s\"`", restart;
        /// Without a heartbeat for this long, from when it is ready (without a check: from its start), the program is ended and restarted.
        lost_after: Span = "three times `period`", restart;
    }
}
plain_table!(LiveTable, "a sign of life", "{ heartbeat = true, period = \"5s\", lost_after = \"15s\" }");
