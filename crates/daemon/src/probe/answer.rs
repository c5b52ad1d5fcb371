//! Whether an answer passes: its status, and what its body holds.

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::http::StatusCode;
use keepwell_config::JsonValue;
use regex_lite::Regex;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::http::StatusRange;
use super::{Failure, Limit};

/// What passes unless something else is asked for: as for the kubelet's probes, a redirect is a sign of life.
const PASSES: StatusRange = 200..=399;
/// What is looked for must stand within this.
const MAX_BODY: usize = 256 << 10;
/// Where the status alone decides, the body is read only so that the server need not see a reset: neither a large nor a
/// slow one is worth more than this.
const MAX_DISCARD: usize = 64 << 10;
const DISCARD_TIME: std::time::Duration = std::time::Duration::from_millis(100);
/// A body that is larger is searched on a thread of its own: other checks wait for the runtime's.
const SMALL: usize = 16 << 10;
/// Of a value that is not what was asked for, so much is shown.
const MAX_SHOWN: usize = 80;

#[derive(Clone, Debug)]
pub(super) struct Expect {
    pub(super) statuses: Vec<StatusRange>,
    pub(super) body: Option<String>,
    pub(super) pattern: Option<Regex>,
    pub(super) json: Vec<(Box<str>, JsonValue)>,
}

impl Expect {
    pub(super) async fn judge(
        &self,
        answer: Response<Incoming>,
        limit: Limit,
        name: &str,
    ) -> Result<(), Failure> {
        let status = answer.status();
        let code = status.as_u16();
        let passes = match self.statuses.as_slice() {
            [] => PASSES.contains(&code),
            statuses => statuses.iter().any(|range| range.contains(&code)),
        };
        if !passes || (self.body.is_none() && self.pattern.is_none() && self.json.is_empty()) {
            let give_up = limit.at.min(Instant::now() + DISCARD_TIME);
            // Neither its end nor its lateness says anything.
            let _ = timeout_at(give_up, discard(answer)).await;
            return if passes {
                Ok(())
            } else {
                Err(Failure::Service(format!("answered {}", words(status))))
            };
        }
        let late = || format!("the answer of {name} did not end");
        let read = limit.run(late, self.read(answer)).await?;
        let wrong = if read.len() <= SMALL {
            self.missing(&read)
        } else {
            let expect = self.clone();
            let search = tokio::task::spawn_blocking(move || expect.missing(&read));
            let late = || format!("the answer of {name} could not be searched");
            limit.run(late, search).await?.map_err(|e| Failure::Ours(format!("could not try: {e}")))?
        };
        match wrong {
            None => Ok(()),
            Some(what) => Err(Failure::Service(format!("answered {}, {what}", words(status)))),
        }
    }

    /// The body, no further than needed.
    async fn read(&self, answer: Response<Incoming>) -> Vec<u8> {
        let text = self.body.as_deref().filter(|_| self.pattern.is_none() && self.json.is_empty());
        let (mut body, mut read) = (answer.into_body(), Vec::new());
        while read.len() < MAX_BODY {
            let Some(Ok(frame)) = body.frame().await else { break };
            let Some(data) = frame.data_ref() else { continue };
            // The text may have begun in what was read before.
            let from = read.len().saturating_sub(text.map_or(0, str::len));
            read.extend_from_slice(data);
            if text.is_some_and(|text| holds(&read[from..], text)) {
                break;
            }
        }
        read.truncate(MAX_BODY);
        read
    }

    /// What is not as asked for, in words.
    fn missing(&self, body: &[u8]) -> Option<String> {
        if let Some(text) = self.body.as_ref().filter(|text| !holds(body, text)) {
            return Some(format!("without `{text}`"));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|p| !p.is_match(&String::from_utf8_lossy(body))) {
            return Some(format!("and nothing in it matches `{pattern}`"));
        }
        if self.json.is_empty() {
            return None;
        }
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Some(match body.len() < MAX_BODY {
                true => "but not in JSON".to_owned(),
                false => "in more than 256 KiB, which are not read".to_owned(),
            });
        };
        self.json.iter().find_map(|(pointer, wanted)| match json.pointer(pointer) {
            None => Some(format!("without {pointer:?}")),
            Some(found) if is(found, wanted) => None,
            Some(found) => {
                let shown: String = found.to_string().chars().take(MAX_SHOWN).collect();
                Some(format!("and {pointer:?} is {shown}, not {wanted}"))
            }
        })
    }
}

fn is(found: &Value, wanted: &JsonValue) -> bool {
    match wanted {
        JsonValue::Text(text) => found.as_str() == Some(text),
        JsonValue::Bool(yes) => found.as_bool() == Some(*yes),
        JsonValue::Number(number) => found.as_i64() == Some(*number),
    }
}

fn holds(body: &[u8], text: &str) -> bool {
    text.is_empty() || body.windows(text.len()).any(|w| w == text.as_bytes())
}

async fn discard(answer: Response<Incoming>) {
    let (mut body, mut read) = (answer.into_body(), 0);
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= MAX_DISCARD {
            return;
        }
    }
}

pub(super) fn words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}
