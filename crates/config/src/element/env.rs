//! `env = { PORT = "8080", TOKEN = { from = "TOKEN" } }`. Its values are secrets: nothing prints them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::de::DeValue;

use super::scalar::Text;
use crate::read::{At, Draft, Element, Key, Located, Node, Reader, schema_of, table};

/// One variable's value.
#[derive(Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// Text with `${service}`, `${instance}` and other names of `env`.
    Text(Arc<str>),
    /// As keepwell's own environment has it.
    From {
        /// The name there.
        name: Arc<str>,
        /// Left out if it is not there; else its absence is an error.
        optional: bool,
    },
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvValue::Text(_) => f.write_str("(hidden)"),
            EnvValue::From { name, optional } => {
                f.debug_struct("From").field("name", name).field("optional", optional).finish()
            }
        }
    }
}

table! {
    /// A value taken from elsewhere.
    RawFrom {
        /// The variable of keepwell's own environment whose value is taken.
        from: Text = "needed", restart;
        /// Leave the variable out when keepwell's own environment does not have it; without, that is an error.
        optional: bool = "false", restart;
    }
}

/// Without `Debug` of the text.
#[derive(Clone, Debug)]
struct Value(EnvValue);

impl Element for Value {
    fn what() -> Cow<'static, str> {
        "text".into()
    }
    fn syntax() -> Cow<'static, str> {
        "text ({ PORT = \"8080\" }), or taken from keepwell's own environment ({ TOKEN = { from = \"TOKEN\" } })".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        // The name of a variable is no secret; whatever else somebody writes here may be.
        if !matches!(node.get_ref(), DeValue::Table(t) if t.contains_key("from")) {
            r.secret(at);
        }
        match node.get_ref() {
            DeValue::String(s) => {
                super::scalar::no_nul::<Self>(r, node, key, s)?;
                Some(Self(EnvValue::Text(s.as_ref().into())))
            }
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                r.bad(at, key, "put it in quotes")
            }
            DeValue::Table(t) => {
                let raw: RawFrom = crate::read::Table::read_table(r, t, key, crate::read::no_hint);
                let Some(from) = raw.from else {
                    return if raw.bad.contains(&"from") {
                        None
                    } else {
                        r.bad(at, key, "`from` is missing")
                    };
                };
                let optional = raw.optional.is_some_and(|o| o.value);
                Some(Self(EnvValue::From { name: from.value.0.as_ref().into(), optional }))
            }
            DeValue::Array(_) => r.wrong_type(node, key),
        }
    }
}

/// The table, sorted by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawEnv {
    pub(crate) vars: BTreeMap<Arc<str>, Located<EnvValue>>,
    /// Some of it is wrong and absent here.
    pub(crate) broken: bool,
}

impl Element for RawEnv {
    fn what() -> Cow<'static, str> {
        "a table of variables".into()
    }
    fn syntax() -> Cow<'static, str> {
        "{ PORT = \"8080\", TOKEN = { from = \"TOKEN\" } }".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::Table(t) = node.get_ref() else { return r.wrong_type(node, key) };
        let mut all = Self::default();
        for (name, node) in t.iter() {
            let at = r.at(name.span());
            check_name(r, name.get_ref(), at, key);
            let Some(value) = r.field::<Value>(name, node, key) else {
                all.broken = true;
                continue;
            };
            all.vars.insert(name.get_ref().as_ref().into(), Located { value: value.value.0, at: value.at });
        }
        Some(all)
    }
    fn inherit(&mut self, defaults: &Self) {
        self.broken |= defaults.broken;
        for (name, value) in &defaults.vars {
            self.vars.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}
schema_of!(RawEnv, |generator| {
    let from = <RawFrom as crate::read::Table>::table_schema(generator);
    schemars::json_schema!({ "type": "object", "additionalProperties": { "anyOf": [{ "type": "string" }, from] } })
});

fn check_name(r: &mut Reader<'_>, name: &str, at: At, key: &Key<'_>) {
    let error = |what: &str| Draft::error("bad-name", at, format!("{what} in {key}"));
    if name.is_empty() || name.contains(['=', '\0']) {
        r.push(error("no variable can have this name").label("a name is not empty and holds no `=`"));
    } else if reserved(name) {
        r.push(error(&format!("`{name}` is set by keepwell and cannot be set")).label("use another name"));
    }
}

/// What keepwell tells its services by, so that neither the file sets it nor keepwell's own is inherited.
pub(crate) fn reserved(name: &str) -> bool {
    let ours =
        ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
    name.starts_with("KEEPWELL_") || ours.contains(&name)
}
