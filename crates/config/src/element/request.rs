//! What an HTTP request says besides its address, and what its answer must hold.

use std::borrow::Cow;

use toml::de::DeValue;

use super::scalar::{Text, no_nul};
use crate::http::{JsonValue, Secret};
use crate::read::{Draft, Element, Key, Located, Node, Reader, Table, no_hint, schema_of, table};

/// A text in which names are filled in, and which is never shown.
#[derive(Clone, Debug)]
pub(crate) struct SecretText(pub(crate) Secret);

impl Element for SecretText {
    fn what() -> Cow<'static, str> {
        "text".into()
    }
    fn syntax() -> Cow<'static, str> {
        "text stands in quotes: \"…\"; ${service}, ${instance} and names listed in `env` are filled in".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        r.secret(at);
        let DeValue::String(s) = node.get_ref() else { return r.wrong_type(node, key) };
        no_nul::<Self>(r, node, key, s)?;
        Some(Self(Secret::new(s.as_ref())))
    }
}
schema_of!(SecretText, |_generator| schemars::json_schema!({ "type": "string" }));

/// Headers by their names. Values may be secrets.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawHeaders(pub(crate) Vec<(Box<str>, Located<Secret>)>);

/// keepwell frames its requests itself.
const OURS: [&str; 4] = ["connection", "content-length", "transfer-encoding", "upgrade"];

impl Element for RawHeaders {
    fn what() -> Cow<'static, str> {
        "a table of headers".into()
    }
    fn syntax() -> Cow<'static, str> {
        "{ Authorization = \"Bearer ${TOKEN}\", Host = \"inner.example\" }".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let all = headers::<SecretText, Self>(r, node, key, |value| Some(&value.0))?;
        let plain =
            |(name, value): (_, Located<SecretText>)| (name, Located { value: value.value.0, at: value.at });
        Some(Self(all.into_iter().map(plain).collect()))
    }
}

/// Reads a table of headers whose values are written as `V`; `text` gives those that stand in the file.
fn headers<V: Element, Whole: Element>(
    r: &mut Reader<'_>,
    node: &Node<'_>,
    key: &Key<'_>,
    text: impl Fn(&V) -> Option<&Secret>,
) -> Option<Vec<(Box<str>, Located<V>)>> {
    let DeValue::Table(t) = node.get_ref() else { return r.wrong_type::<Whole>(node, key).and(None) };
    let mut all = Vec::new();
    let mut whole = true;
    for (name, node) in t.iter() {
        let (at, written) = (r.at(name.span()), name.get_ref().as_ref());
        let error = |what: String| Draft::error("bad-name", at, format!("{what} in {key}"));
        if written.is_empty() || !written.chars().all(is_token) {
            r.push(error("no header can have this name".to_owned()).label("letters, digits and `-`"));
            whole = false;
        } else if OURS.contains(&written.to_ascii_lowercase().as_str()) {
            r.push(error(format!("`{written}` is set by keepwell and cannot be set")).label("take it away"));
            whole = false;
        }
        match r.field::<V>(name, node, key) {
            Some(value) if text(&value.value).is_some_and(|text| !is_header(text)) => {
                let _: Option<Whole> = r.bad(value.at, key, "a header holds no control characters");
                whole = false;
            }
            Some(value) => all.push((written.into(), value)),
            None => whole = false,
        }
    }
    whole.then_some(all)
}

/// Whether this may be sent as a header's value.
pub(crate) fn is_header(value: &Secret) -> bool {
    !value.expose().chars().any(|c| c.is_control() && c != '\t')
}

/// A text that is never shown: written here, or taken from keepwell's own environment.
#[derive(Clone, Debug)]
pub(crate) enum RawSecret {
    Text(Secret),
    From(Box<str>),
}

impl RawSecret {
    fn written(&self) -> Option<&Secret> {
        match self {
            RawSecret::Text(text) => Some(text),
            RawSecret::From(_) => None,
        }
    }
}

table! {
    /// A value taken from elsewhere.
    RawTaken {
        /// The variable of keepwell's own environment whose value is taken.
        from: Text = "needed", live;
    }
}

impl Element for RawSecret {
    fn what() -> Cow<'static, str> {
        "text".into()
    }
    fn syntax() -> Cow<'static, str> {
        "text in quotes: \"…\", or taken from keepwell's own environment: { from = \"KEEPWELL_OPS\" }".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        // The name of a variable is no secret; whatever else somebody writes here may be.
        if !matches!(node.get_ref(), DeValue::Table(t) if t.contains_key("from")) {
            r.secret(at);
        }
        match node.get_ref() {
            DeValue::String(s) => {
                no_nul::<Self>(r, node, key, s)?;
                Some(Self::Text(Secret::new(s.as_ref())))
            }
            DeValue::Table(t) => {
                let raw: RawTaken = Table::read_table(r, t, key, no_hint);
                match raw.from {
                    Some(name) => Some(Self::From(name.value.0)),
                    None if raw.bad.contains(&"from") => None,
                    None => r.bad(at, key, "`from` is missing"),
                }
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawSecret, |generator| {
    let taken = <RawTaken as Table>::table_schema(generator);
    schemars::json_schema!({ "anyOf": [{ "type": "string" }, taken] })
});

/// Headers whose values may be taken from keepwell's own environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawSecretHeaders(pub(crate) Vec<(Box<str>, Located<RawSecret>)>);

impl Element for RawSecretHeaders {
    fn what() -> Cow<'static, str> {
        "a table of headers".into()
    }
    fn syntax() -> Cow<'static, str> {
        "{ Authorization = { from = \"KEEPWELL_OPS\" }, X-Team = \"ops\" }".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        headers::<RawSecret, Self>(r, node, key, RawSecret::written).map(Self)
    }
}
schema_of!(RawSecretHeaders, |generator| {
    let value = generator.subschema_for::<RawSecret>();
    schemars::json_schema!({ "type": "object", "additionalProperties": value })
});
schema_of!(RawHeaders, |_generator| schemars::json_schema!(
    { "type": "object", "additionalProperties": { "type": "string" } }
));

/// RFC 9110, 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Places in JSON and what must stand there.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawJson(pub(crate) Vec<(Box<str>, JsonValue)>);

impl Element for RawJson {
    fn what() -> Cow<'static, str> {
        "a table of places in JSON".into()
    }
    fn syntax() -> Cow<'static, str> {
        "{ \"/status\" = \"ok\", \"/checks/0/errors\" = 0, \"/db/up\" = true }; a place is a JSON pointer"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::Table(t) = node.get_ref() else { return r.wrong_type(node, key) };
        if t.is_empty() {
            return r.bad(r.at(node.span()), key, "it is empty: nothing would be looked at");
        }
        let mut all = Self::default();
        let mut whole = true;
        for (name, node) in t.iter() {
            let pointer = name.get_ref().as_ref();
            if !pointer.is_empty() && !pointer.starts_with('/') {
                let at = r.at(name.span());
                let label = format!("a JSON pointer begins with a slash: \"/{pointer}\"");
                let _: Option<Self> = r.bad(at, key, label);
                whole = false;
                continue;
            }
            let value = match node.get_ref() {
                DeValue::String(s) => Some(JsonValue::Text(s.as_ref().into())),
                DeValue::Boolean(b) => Some(JsonValue::Bool(*b)),
                DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(JsonValue::Number),
                DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
            };
            match value {
                Some(value) => all.0.push((pointer.into(), value)),
                None => {
                    let label = "a text, a whole number, true or false can be asked for";
                    let _: Option<Self> = r.bad(r.at(node.span()), key, label);
                    whole = false;
                }
            }
        }
        whole.then_some(all)
    }
}
schema_of!(RawJson, |_generator| schemars::json_schema!({
    "type": "object", "minProperties": 1, "propertyNames": { "pattern": "^(/.*)?$" },
    "additionalProperties": { "type": ["string", "integer", "boolean"] }
}));
