//! `wait_for = ["tcp://db:5432", "mount:/srv"]`: what must be there before a start, and is no service of ours.

use std::borrow::Cow;

use keepwell_core::spec::AfterWait;
use toml::de::DeValue;

use super::duration::Span;
use super::hooks::RawHook;
use super::ready::{ReadyTable, short};
use super::scalar::{Filled, choice, list};
use crate::read::{Element, Key, Located, Node, Reader, Table, no_hint, schema_of, table};

choice! { AfterWord = AfterWait {
    "fail" => AfterWait::Fail,
    "start_anyway" => AfterWait::StartAnyway,
} }

table! {
    /// What must be there before a start, and is no service of this guardian. Short: the list alone.
    RawWaitFor {
        /// All of these: `"tcp://db:5432"`, `"https://…"`, `"unix:run/db.sock"`, `"file:/etc/ready"`, `"mount:/srv"`, `"service:w32time"` (a service of the system).
        on: RawAwaited = "needed", live;
        /// How long to wait; then follows `after` or `run`.
        timeout: Span = "`\"5m\"`", live;
        /// `"fail"`: the start has failed, and its policy says what follows; `"start_anyway"`: it is started without.
        after: AfterWord = "`\"fail\"`", live;
        /// Instead of `after`: a command, run as a hook is. When it ends well the service is started, else the start has failed.
        run: RawHook = "none", table;
    }
}

impl Element for RawWaitFor {
    fn what() -> Cow<'static, str> {
        "an address, a list of addresses, or a table".into()
    }
    fn syntax() -> Cow<'static, str> {
        "[\"tcp://db:5432\", \"mount:/srv\"], or { on = [\"tcp://db:5432\"], timeout = \"2m\", after = \"start_anyway\" }".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(_) | DeValue::Array(_) => {
                let value = RawAwaited::read(r, node, key)?;
                Some(Self { on: Some(Located { value, at: r.at(node.span()) }), ..Self::default() })
            }
            DeValue::Table(t) => Some(Self::read_table(r, t, key, no_hint)),
            _ => r.wrong_type(node, key),
        }
    }
    fn inherit(&mut self, defaults: &Self) {
        self.inherit_table(defaults);
    }
}
schema_of!(RawWaitFor, |generator| schemars::json_schema!({ "anyOf": [
    generator.subschema_for::<RawAwaited>(), Self::table_schema(generator)
] }));

/// One thing that is waited for.
#[derive(Clone, Debug)]
pub(crate) enum Awaited {
    Answer(Box<ReadyTable>),
    Mount(Box<str>),
    Service(Box<str>),
}

impl Element for Awaited {
    fn what() -> Cow<'static, str> {
        "an address of what is waited for".into()
    }
    fn syntax() -> Cow<'static, str> {
        "\"tcp://db:5432\", \"https://…\", \"unix:run/db.sock\", \"file:/etc/ready\", \"mount:/srv\" or \"service:w32time\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::String(text) = node.get_ref() else { return r.wrong_type(node, key) };
        let at = r.at(node.span());
        let after = |scheme: &str| text.strip_prefix(scheme).filter(|rest| !rest.is_empty());
        if let Some(path) = after("mount:") {
            return Some(Self::Mount(path.into()));
        }
        if let Some(name) = after("service:") {
            return Some(Self::Service(name.into()));
        }
        if let Some(path) = after("file:") {
            let file = Some(Located { value: Filled(path.into()), at });
            return Some(Self::Answer(Box::new(ReadyTable { file, ..ReadyTable::default() })));
        }
        match short(text, at).filter(|ready| {
            ready.table.http.is_some() || ready.table.tcp.is_some() || ready.table.unix.is_some()
        }) {
            Some(ready) => Some(Self::Answer(Box::new(ready.table))),
            None => r.bad(
                at,
                key,
                "it begins with none of tcp://, http://, https://, unix:, file:, mount:, service:",
            ),
        }
    }
}
schema_of!(Awaited, |_generator| schemars::json_schema!({
    "type": "string", "pattern": "^(tcp://|https?://|unix:|file:|mount:|service:)."
}));

/// All of them, each with its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawAwaited(pub(crate) Vec<Located<Awaited>>);

/// More are a mistake.
const MAX_AWAITED: usize = 32;

impl Element for RawAwaited {
    fn what() -> Cow<'static, str> {
        "one address or a list of them".into()
    }
    fn syntax() -> Cow<'static, str> {
        Awaited::syntax()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::String(_) => {
                let value = Awaited::read(r, node, key)?;
                Some(Self(vec![Located { value, at: r.at(node.span()) }]))
            }
            DeValue::Array(items) if items.len() > MAX_AWAITED => {
                r.bad(r.at(node.span()), key, format!("at most {MAX_AWAITED}"))
            }
            DeValue::Array(items) => {
                let places: Vec<_> = items.iter().map(|item| r.at(item.span())).collect();
                let all = list::<Awaited, Self>(r, node, key)?;
                Some(Self(all.into_iter().zip(places).map(|(value, at)| Located { value, at }).collect()))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawAwaited, |generator| schemars::json_schema!({ "anyOf": [
    generator.subschema_for::<Awaited>(),
    { "type": "array", "items": generator.subschema_for::<Awaited>() }
] }));
