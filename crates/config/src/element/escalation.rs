//! `escalation = ["restart", { exec = ["./repair"] }, "fail_over", "stop"]`.

use std::borrow::Cow;

use keepwell_core::escalation::Then;
use toml::de::DeValue;

use super::command::CommandText;
use super::duration::Span;
use super::scalar::{Int, choice, list};
use crate::read::{Element, Key, Located, Node, Reader, Table, no_hint, schema_of, table};

choice! { RungWord = Then {
    "restart" => Then::Restart,
    "restart_dependents" => Then::RestartDependents,
    "fail_over" => Then::FailOver,
    "stop" => Then::Stop,
} }

table! {
    /// One step of what is tried while a service goes on failing.
    RungTable {
        /// What is done when it has failed. `"stop"` ends the tries and pages somebody; all others go on with a restart by the policy.
        then: RungWord = "needed, or `exec`", live;
        /// Instead of a word in `then`: a program that runs before the next attempt. What it ends with changes nothing.
        exec: CommandText = "–", live;
        /// With `exec`: after this it is killed.
        timeout: Span = "`\"30s\"`", live;
        /// For so many failures; then comes the next step. The last one stays.
        times: Int<1, 1_000_000> = "1", live;
    }
}

/// A word alone is a table with it.
#[derive(Clone, Debug)]
pub(crate) struct RawRung(pub(crate) RungTable);

impl Element for RawRung {
    fn what() -> Cow<'static, str> {
        "a step".into()
    }
    fn syntax() -> Cow<'static, str> {
        "\"restart\", \"restart_dependents\", \"fail_over\" or \"stop\"; { then = \"restart\", times = 3 }; { exec = [\"./repair\"] }".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(_) => {
                let then = RungWord::read(r, node, key)?;
                let then = Some(Located { value: then, at: r.at(node.span()) });
                Some(Self(RungTable { then, ..RungTable::default() }))
            }
            DeValue::Table(t) => Some(Self(RungTable::read_table(r, t, key, no_hint))),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawRung, |generator| schemars::json_schema!({ "anyOf": [
    generator.subschema_for::<RungWord>(), RungTable::table_schema(generator)
] }));

/// The ladder.
#[derive(Clone, Debug)]
pub(crate) struct RawEscalation(pub(crate) Vec<RawRung>);

/// A longer one is read by nobody at three in the morning.
const MAX_RUNGS: usize = 16;

impl Element for RawEscalation {
    fn what() -> Cow<'static, str> {
        "a list of steps".into()
    }
    fn syntax() -> Cow<'static, str> {
        "[{ then = \"restart\", times = 3 }, { exec = [\"./repair\"] }, \"fail_over\", \"stop\"]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(items) if items.len() > MAX_RUNGS => {
                r.bad(r.at(node.span()), key, format!("at most {MAX_RUNGS} steps"))
            }
            DeValue::Array(_) => list::<RawRung, Self>(r, node, key).map(Self),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawEscalation, |generator| schemars::json_schema!({
    "type": "array", "items": generator.subschema_for::<RawRung>(), "maxItems": MAX_RUNGS
}));
