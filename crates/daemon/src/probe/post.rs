//! A request whose answer somebody else judges.

use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Limited};
use hyper::header::RETRY_AFTER;
use keepwell_config::Method;
use tokio::time::Instant;

use super::http::{HttpAsk, HttpCheck, failure};
use super::{Failure, Limit};

/// As much of an answer as is worth showing.
const SHOWN: usize = 4 << 10;

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostAnswer {
    /// The status.
    pub status: u16,
    /// When the server asks to be tried again (RFC 9110, 10.2.3).
    pub retry_after: Option<Duration>,
    /// The beginning of its body, if that is no longer than a page.
    pub body: String,
}

/// Posts once.
///
/// # Errors
/// Why there is no answer, in words that name the server and nothing else of the address.
pub async fn post(ask: HttpAsk, timeout: Duration) -> Result<PostAnswer, String> {
    // Its words would name the whole address.
    let check = HttpCheck::new(HttpAsk { method: Method::Post, ..ask })
        .map_err(|_| "its address or one of its headers cannot be sent".to_owned())?;
    let limit = Limit { at: Instant::now() + timeout, whole: timeout };
    let name = check.shown();
    let asked = check.ask(limit, &name, async |answer| {
        let answer = answer.map_err(|e| failure(&e, &name))?;
        let status = answer.status().as_u16();
        let after = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after = after.and_then(|text| wait(text, SystemTime::now()));
        let body = Limited::new(answer.into_body(), SHOWN).collect();
        let body = limit.run(|| format!("{name} did not end its answer"), body).await?;
        let body = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).unwrap_or_default();
        Ok(PostAnswer { status, retry_after, body })
    });
    asked.await.map_err(|e| match e {
        Failure::Service(why) | Failure::Ours(why) => why,
    })
}

/// Seconds, or a date.
fn wait(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(SystemTime::from(at.timestamp()).duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_number_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
        assert_eq!(wait(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:27:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait("soon", now), None);
    }
}
