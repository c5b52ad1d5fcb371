//! Parameters of a URL and bodies of requests. What is not known is refused: a misspelt filter that were ignored would
//! answer another question than the one asked.

use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use keepwell_core::Wall;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::convert::{self, closest};

/// As axum gives them.
pub(super) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The parameters of one request, taken one by one.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn new(pairs: Pairs, known: &[&str]) -> Result<Self, Failure> {
        let Query(pairs) = pairs.map_err(|e| Failure::invalid(&e.body_text(), None))?;
        for (i, (key, _)) in pairs.iter().enumerate() {
            if !known.contains(&key.as_str()) {
                return Err(unknown("parameter", key, known));
            }
            let again = pairs[..i].iter().any(|(k, _)| k == key);
            if again && !["name", "service"].contains(&key.as_str()) {
                return Err(Failure::invalid(&format!("the parameter `{key}` is there twice"), None));
            }
        }
        Ok(Self(pairs))
    }

    pub(super) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let bad = |_| Failure::invalid(&format!("`{key}` is a number from 0, not `{text}`"), None);
        text.parse().map(Some).map_err(bad)
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, Failure> {
        self.flag_or(key, false)
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool, Failure> {
        match self.get(key) {
            None => Ok(default),
            Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(Failure::invalid(&format!("`{key}` is true or false, not `{other}`"), None)),
        }
    }

    pub(super) fn instant(&self, key: &str) -> Result<Option<Wall>, Failure> {
        Ok(self.get(key).map(convert::instant).transpose()?)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// Reads a JSON object, which may be missing where every field has a default.
pub(super) fn body<T: DeserializeOwned + Serialize + Default>(
    bytes: Result<Bytes, BytesRejection>,
) -> Result<T, Failure> {
    let bytes = bytes.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::invalid("the body is larger than 64 KiB", None),
        _ => Failure::invalid("the body broke off", None),
    })?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let value: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|e| Failure::invalid(&format!("the body is no JSON: {e}"), None))?;
    let serde_json::Value::Object(fields) = &value else {
        return Err(Failure::invalid("the body must be a JSON object", None));
    };
    // The type itself says which fields it has, so this list can never be out of date.
    let known = serde_json::to_value(T::default()).unwrap_or_default();
    let known: Vec<&str> =
        known.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
    if let Some(field) = fields.keys().find(|f| !known.contains(&f.as_str())) {
        return Err(unknown("field", field, &known));
    }
    // Each field for itself, since the error of the whole does not name the one that is wrong.
    for (field, value) in fields {
        let alone = serde_json::Map::from_iter([(field.clone(), value.clone())]);
        if let Err(e) = serde_json::from_value::<T>(alone.into()) {
            return Err(Failure::invalid(&format!("`{field}` does not fit: {e}"), None));
        }
    }
    serde_json::from_value(value).map_err(|e| Failure::invalid(&format!("the body does not fit: {e}"), None))
}

fn unknown(what: &str, given: &str, known: &[&str]) -> Failure {
    let hint = match closest(given, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("this route takes no {what}s"),
        None => format!("there are: {}", known.join(", ")),
    };
    Failure::invalid(&format!("unknown {what} `{given}`"), Some(&hint))
}
