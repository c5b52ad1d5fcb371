//! `[healing]`: how much of what lives may be ended because a check says that it is ill.

use std::borrow::Cow;

use toml::de::DeValue;

use super::evidence::RawEvidence;
use super::restart::RawLimit;
use crate::read::{At, Element, Key, Node, Reader, plain_table, schema_of, table};

table! {
    /// How much of what lives may be ended because a check says that it is ill. A service's own `restart.limit` is one more bound.
    RawHealing {
        /// Restarts by checks over all services; `"off"` for no bound.
        limit: RawLimit = "`{ max = 10, window = \"10m\" }`", live;
        /// The same over the services that have a tag in common: `groups.web = { max = 2, window = \"10m\" }`.
        groups: RawGroups = "none", live;
        /// What is looked at before what failed and lives is ended; `"off"` for nothing.
        evidence: RawEvidence = "see below", table;
    }
}
plain_table!(RawHealing, "a table", "[healing] with limit, groups, evidence");

/// Limits by tag.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawGroups(pub(crate) Vec<(String, At, RawLimit)>);

impl Element for RawGroups {
    fn what() -> Cow<'static, str> {
        "a table of limits".into()
    }
    fn syntax() -> Cow<'static, str> {
        "{ web = { max = 2, window = \"10m\" } }, by the tags of services".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::Table(table) = node.get_ref() else { return r.wrong_type(node, key) };
        let mut all = Vec::new();
        for (name, value) in table.iter() {
            let at = r.at(name.span());
            all.push((name.get_ref().to_string(), at, r.field::<RawLimit>(name, value, key)?.value));
        }
        Some(Self(all))
    }
}
schema_of!(RawGroups, |generator| schemars::json_schema!({
    "type": "object", "additionalProperties": generator.subschema_for::<RawLimit>()
}));
