//! One request: the GET of a check, or what asks a program to stop.

use std::error::Error as _;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::address::Address;
use super::{Failure, Limit};

/// Statuses that pass, both ends included.
pub type StatusRange = RangeInclusive<u16>;

/// What passes unless something else is asked for: as for the kubelet's probes, a redirect is a sign of life.
const PASSES: StatusRange = 200..=399;
/// A head that is larger is no answer to a probe.
const MAX_HEAD: usize = 64 << 10;
/// A text that is looked for must stand within this.
const MAX_BODY: usize = 256 << 10;
/// Where the status alone decides, the body is read only so that the server need not see a reset: neither a large nor a
/// slow one is worth more than this.
const MAX_DISCARD: usize = 64 << 10;
const DISCARD_TIME: Duration = Duration::from_millis(100);
/// Told to the probed server.
const AGENT: &str = concat!("keepwell/", env!("CARGO_PKG_VERSION"));

/// What to ask, and what answer passes.
#[derive(Clone, Debug, Default)]
pub struct Get {
    /// `http://host:port/path`.
    pub url: String,
    /// Statuses that pass; empty: 200 to 399.
    pub statuses: Vec<StatusRange>,
    /// Text that the answer must hold within its first 256 KiB.
    pub body: Option<String>,
    /// Sent along, or instead of what is sent by default (`Host`).
    pub headers: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) struct HttpCheck {
    address: Address,
    path: Uri,
    headers: HeaderMap,
    statuses: Vec<StatusRange>,
    body: Option<String>,
}

impl HttpCheck {
    pub(super) fn new(get: Get) -> Result<Self, String> {
        let url = &get.url;
        let wrong = |why: &str| format!("`{url}` {why}; write e.g. http://127.0.0.1:8080/ready");
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("is https, and keepwell checks over plain http")),
            Some(_) | None => return Err(wrong("is no http URL")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("carries a user; send an Authorization header"));
        }
        let given = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match given.strip_prefix(':') {
            None | Some("") => Some(80),
            Some(port) => port.parse().ok().filter(|p| *p != 0),
        };
        let port = port.ok_or_else(|| wrong("has no such port"))?;
        let address = Address::new(authority.host(), port).ok_or_else(|| wrong("names no host"))?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let path = path.parse().map_err(|_| wrong("has no valid path"))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("names no host"))?;
        let headers = headers(host, &get.headers)?;
        Ok(HttpCheck { address, path, headers, statuses: get.statuses, body: get.body })
    }

    pub(super) async fn attempt(&self, limit: Limit) -> Result<(), Failure> {
        let name = self.address.shown();
        let stream = self.address.connect(limit).await?;
        self.talk(stream, &Method::GET, limit, &name, async |answer| {
            self.judge(answer.map_err(|e| failure(&e, &name))?, limit, &name).await
        })
        .await
    }

    /// Sends the request and hands what comes back to `wanted`, while the connection is driven.
    async fn talk<T>(
        &self,
        stream: TcpStream,
        method: &Method,
        limit: Limit,
        name: &str,
        wanted: impl AsyncFnOnce(hyper::Result<Response<Incoming>>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|e| failure(&e, name))?;
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        if *method != Method::GET {
            // Servers refuse what may have a body and does not say how long it is (RFC 9110, 8.6).
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        driven(connection, async {
            let answer = limit.run(|| format!("no answer from {name}"), sender.send_request(request)).await?;
            wanted(answer).await
        })
        .await
    }

    async fn judge(&self, answer: Response<Incoming>, limit: Limit, name: &str) -> Result<(), Failure> {
        let status = answer.status();
        let code = status.as_u16();
        let passes = match self.statuses.as_slice() {
            [] => PASSES.contains(&code),
            statuses => statuses.iter().any(|range| range.contains(&code)),
        };
        if let Some(text) = self.body.as_ref().filter(|_| passes) {
            let held = holds(answer, text.as_bytes());
            return if limit.run(|| format!("the answer of {name} did not end"), held).await? {
                Ok(())
            } else {
                Err(Failure::Service(format!("answered {}, without `{text}`", words(status))))
            };
        }
        let give_up = limit.at.min(Instant::now() + DISCARD_TIME);
        // Neither its end nor its lateness says anything.
        let _ = timeout_at(give_up, discard(answer)).await;
        if passes { Ok(()) } else { Err(Failure::Service(format!("answered {}", words(status)))) }
    }
}

/// Asks a program to stop.
#[derive(Debug)]
pub struct StopRequest {
    to: HttpCheck,
    method: Method,
}

/// Statuses that say that it will.
const ACCEPTS: StatusRange = 200..=299;

impl StopRequest {
    /// `url` as for a check.
    ///
    /// # Errors
    /// When the URL or the method is none, in words that name all of it.
    pub fn new(method: &str, url: &str) -> Result<Self, String> {
        let to = HttpCheck::new(Get { url: url.to_owned(), statuses: vec![ACCEPTS], ..Get::default() })?;
        let method = method.parse().map_err(|_| format!("`{method}` is no method"))?;
        Ok(StopRequest { to, method })
    }

    /// Sends it. A connection that ends without an answer is none of a failure: a program that does as it is told may be
    /// gone before it says so.
    ///
    /// # Errors
    /// Why it was not asked, or refused, in words.
    pub async fn send(&self, timeout: Duration) -> Result<(), String> {
        // The caller's clock is the one that counts.
        let limit = Limit { at: Instant::now() + 2 * timeout, whole: timeout };
        let name = self.to.address.shown();
        let sent = async {
            let stream = self.to.address.connect(limit).await?;
            self.to
                .talk(stream, &self.method, limit, &name, async |answer| match answer {
                    Ok(answer) => self.to.judge(answer, limit, &name).await,
                    Err(e) if is_gone(&e) => Ok(()),
                    Err(e) => Err(failure(&e, &name)),
                })
                .await
        };
        sent.await.map_err(|failure| match failure {
            Failure::Service(why) | Failure::Ours(why) => why,
        })
    }
}

/// The other end is no longer there.
fn is_gone(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|e| e.downcast_ref::<io::Error>());
    let reset = |e: &io::Error| {
        matches!(
            e.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
        )
    };
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || io.is_some_and(reset)
}

/// Waits for `wanted`, which makes progress only as long as somebody drives the connection.
async fn driven<T>(connection: impl Future, wanted: impl Future<Output = T>) -> T {
    let mut wanted = std::pin::pin!(wanted);
    tokio::select! {
        biased;
        done = &mut wanted => done,
        // The connection also ends when the server closes it behind its answer, which is then there to take.
        _ = connection => wanted.await,
    }
}

fn headers(host: HeaderValue, extra: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in extra {
        let key: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header name"))?;
        let value =
            value.parse().map_err(|_| format!("the header `{name}` has a value that cannot be sent"))?;
        // What is asked for replaces what we would have sent: `Host` for a virtual host.
        headers.insert(key, value);
    }
    Ok(headers)
}

/// `503 Service Unavailable`.
fn words(status: hyper::StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
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

/// Reads no further than needed.
async fn holds(answer: Response<Incoming>, text: &[u8]) -> bool {
    let (mut body, mut read) = (answer.into_body(), Vec::new());
    while read.len() < MAX_BODY {
        let Some(Ok(frame)) = body.frame().await else { return text.is_empty() };
        let Some(data) = frame.data_ref() else { continue };
        // The text may have begun in what was read before.
        let from = read.len().saturating_sub(text.len());
        read.extend_from_slice(data);
        if text.is_empty() || read[from..].windows(text.len()).any(|w| w == text) {
            return true;
        }
    }
    false
}

fn failure(error: &hyper::Error, name: &str) -> Failure {
    if error.is_parse() {
        return Failure::Service(format!("what answered on {name} does not speak HTTP/1: {error}"));
    }
    if let Some(io) = error.source().and_then(|e| e.downcast_ref::<io::Error>()) {
        return Failure::of(io, name);
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Failure::Service(format!("{name} closed the connection without an answer"));
    }
    Failure::Service(format!("{name}: {error}"))
}
