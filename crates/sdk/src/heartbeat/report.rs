//! What a program says of itself: the payload of a status report, as lines of `key=value` or as a JSON object.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::frame::MAX_PAYLOAD;

/// The text is one line of a table; what is longer is cut by the receiver.
pub const MAX_STATUS: usize = 1024;
/// Numbers in one report: some screens full.
pub const MAX_METRICS: usize = 64;
/// Bytes of a metric's name and of `from`.
pub const MAX_NAME: usize = 64;

/// A status report.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Which client sent it, so that one service may have several; at most [`MAX_NAME`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Ascends with each report of that client. One that is not above the last that came is a double and is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// One line for operators; an empty one takes back what was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Numbers of the program's own, by name: a letter, then letters, digits, `_` and `.`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

/// Why a payload is no report.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReportError {
    /// Neither form is anything but text.
    #[error("it is not UTF-8")]
    NotText,
    /// It begins with `{` and is no object of these fields.
    #[error("it is no JSON of a report: {0}")]
    Json(String),
    /// A line without `=`, or a value that its key does not take.
    #[error("line {line} is not key=value with a number: {found}")]
    Line {
        /// From 1.
        line: usize,
        /// Its beginning.
        found: String,
    },
    /// Too much of something, or a name that is none.
    #[error("{0}")]
    Limit(String),
}

impl Report {
    /// Reads either form.
    ///
    /// # Errors
    /// It is neither, or breaks a limit.
    pub fn parse(payload: &[u8]) -> Result<Report, ReportError> {
        let text = std::str::from_utf8(payload).map_err(|_| ReportError::NotText)?;
        let mut report = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|e| ReportError::Json(e.to_string()))?
        } else {
            lines(text)?
        };
        report.check()?;
        if let Some(status) = &mut report.status {
            status.truncate(status.floor_char_boundary(MAX_STATUS));
        }
        Ok(report)
    }

    /// As JSON, the form that this crate's client sends.
    ///
    /// # Errors
    /// It breaks a limit.
    pub fn to_payload(&self) -> Result<Vec<u8>, ReportError> {
        self.check()?;
        let payload = serde_json::to_vec(self).map_err(|e| ReportError::Json(e.to_string()))?;
        if payload.len() > MAX_PAYLOAD {
            return Err(ReportError::Limit(format!("it has {} bytes, more than 65536", payload.len())));
        }
        Ok(payload)
    }

    fn check(&self) -> Result<(), ReportError> {
        if self.metrics.len() > MAX_METRICS {
            return Err(ReportError::Limit(format!("{} metrics are more than 64", self.metrics.len())));
        }
        if self.from.as_ref().is_some_and(|from| from.len() > MAX_NAME) {
            return Err(ReportError::Limit("`from` is longer than 64 bytes".into()));
        }
        for (name, value) in &self.metrics {
            if !is_name(name) {
                return Err(ReportError::Limit(format!("`{}` is no name of a metric", beginning(name))));
            }
            if !value.is_finite() {
                return Err(ReportError::Limit(format!("the metric {name} is not a finite number")));
            }
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

fn lines(text: &str) -> Result<Report, ReportError> {
    let mut report = Report::default();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() {
            continue;
        }
        let wrong = || ReportError::Line { line: index + 1, found: beginning(line).to_owned() };
        let (key, value) = line.split_once('=').ok_or_else(wrong)?;
        match key {
            "from" => report.from = Some(value.to_owned()),
            "seq" => report.seq = Some(value.parse().map_err(|_| wrong())?),
            "status" => report.status = Some(value.to_owned()),
            metric => {
                report.metrics.insert(metric.to_owned(), value.parse().map_err(|_| wrong())?);
            }
        }
    }
    Ok(report)
}

/// Enough to find it by.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}
