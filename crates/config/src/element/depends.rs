//! `depends_on = ["db"]`, or `{ db = "ready", cache = { condition = "started", required = false } }`.

use std::borrow::Cow;
use std::sync::Arc;

use keepwell_core::spec::Condition;
use toml::de::DeValue;

use super::scalar::{choice, list};
use crate::read::{At, Element, Key, Located, Node, Reader, Table, no_hint, schema_of, table};

choice! { ConditionWord = Condition {
    "started" => Condition::Started,
    "ready" => Condition::Ready,
    "completed" => Condition::Completed,
} }

table! {
    /// What a service waits for. Short: the condition alone.
    RawDependency {
        /// What the other one must have reached: `"started"`, `"ready"`, or `"completed"` for a oneshot.
        condition: ConditionWord = "`\"ready\"`; `\"completed\"` for a oneshot", live;
        /// `false`: start without it when it is not coming by itself (stopped, disabled, given up, crash-looping).
        required: bool = "true", live;
        /// Stop and restart together with it. Without, a service runs on when what it depends on dies.
        bind: bool = "false", live;
    }
}

impl Element for RawDependency {
    fn what() -> Cow<'static, str> {
        "a condition".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a string (\"started\", \"ready\", \"completed\") or a table ({ condition = \"ready\", required = true, \
         bind = false })"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(_) => {
                let value = ConditionWord::read(r, node, key)?;
                Some(Self { condition: Some(Located { value, at: r.at(node.span()) }), ..Self::default() })
            }
            DeValue::Table(t) => Some(Self::read_table(r, t, key, no_hint)),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawDependency, |generator| schemars::json_schema!({ "anyOf": [
    generator.subschema_for::<ConditionWord>(), Self::table_schema(generator)
] }));

/// What a service depends on, each with the place of its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawDepends(pub(crate) Vec<(Arc<str>, At, RawDependency)>);

impl Element for RawDepends {
    fn what() -> Cow<'static, str> {
        "a list or a table of services".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a list ([\"db\"]) or a table ({ db = \"ready\", migrate = \"completed\", cache = { condition = \"started\", \
         required = false } })"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::Array(items) => {
                let names = list::<ServiceName, Self>(r, node, key)?;
                let places = items.iter().map(|i| r.at(i.span()));
                let mut all: Vec<(Arc<str>, At, RawDependency)> = vec![];
                for (name, at) in names.into_iter().zip(places.collect::<Vec<_>>()) {
                    if all.iter().any(|(n, ..)| *n == name.0) {
                        return r.bad(at, key, "named twice");
                    }
                    all.push((name.0, at, RawDependency::default()));
                }
                Some(Self(all))
            }
            DeValue::Table(t) => {
                let mut all = vec![];
                for (name, node) in t.iter() {
                    if let Some(d) = r.field::<RawDependency>(name, node, key) {
                        all.push((name.get_ref().as_ref().into(), r.at(name.span()), d.value));
                    }
                }
                Some(Self(all))
            }
            DeValue::String(s) => r.bad(at, key, format!("write [\"{}\"]", s.escape_debug())),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawDepends, |generator| schemars::json_schema!({ "anyOf": [
    { "type": "array", "items": { "type": "string" }, "uniqueItems": true },
    { "type": "object", "additionalProperties": generator.subschema_for::<RawDependency>() }
] }));

#[derive(Clone, Debug)]
struct ServiceName(Arc<str>);

impl Element for ServiceName {
    fn what() -> Cow<'static, str> {
        "the name of a service".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a name stands in quotes: \"db\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(s) => Some(Self(s.as_ref().into())),
            _ => r.wrong_type(node, key),
        }
    }
}
