//! One request: that of a check, or what asks a program to stop.

use std::error::Error as _;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use keepwell_config::{JsonValue, Secret};
use regex_lite::Regex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::address::Address;
use super::answer::Expect;
use super::tls::{Tls, TlsFiles};
use super::{Failure, Limit};

/// Statuses that pass, both ends included.
pub type StatusRange = RangeInclusive<u16>;

/// A head that is larger is no answer to a probe.
const MAX_HEAD: usize = 64 << 10;
/// Told to the probed server.
pub(super) const AGENT: &str = concat!("keepwell/", env!("CARGO_PKG_VERSION"));

/// What to ask, and what answer passes.
#[derive(Clone, Debug, Default)]
pub struct HttpAsk {
    /// `http://host:port/path` or `https://…`.
    pub url: String,
    /// How it is asked.
    pub method: keepwell_config::Method,
    /// Sent along, or instead of what is sent by default (`Host`).
    pub headers: Vec<(String, Secret)>,
    /// The body of the request.
    pub send: Option<Secret>,
    /// Over `https`: whom to trust, and who keepwell is.
    pub tls: TlsFiles,
    /// Statuses that pass; empty: 200 to 399.
    pub statuses: Vec<StatusRange>,
    /// Text that the answer must hold within its first 256 KiB.
    pub body: Option<String>,
    /// A regular expression that must match in them.
    pub pattern: Option<String>,
    /// What they, as JSON, must hold at these pointers (RFC 6901).
    pub json: Vec<(Box<str>, JsonValue)>,
}

/// A request, understood and ready.
#[derive(Debug)]
pub(super) struct HttpCheck {
    address: Address,
    tls: Option<Tls>,
    method: Method,
    path: Uri,
    headers: HeaderMap,
    send: Body,
    expect: Expect,
}

/// What is sent, and never shown.
struct Body(Bytes);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl HttpCheck {
    pub(super) fn new(ask: HttpAsk) -> Result<Self, String> {
        let url = &ask.url;
        let wrong = |why: &str| format!("`{url}` {why}; write e.g. http://127.0.0.1:8080/ready");
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        let usual = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            Some(_) | None => return Err(wrong("is no http URL")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("carries a user; send an Authorization header"));
        }
        let given = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match given.strip_prefix(':') {
            None | Some("") => Some(usual),
            Some(port) => port.parse().ok().filter(|p| *p != 0),
        };
        let port = port.ok_or_else(|| wrong("has no such port"))?;
        let address = Address::new(authority.host(), port).ok_or_else(|| wrong("names no host"))?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let path = path.parse().map_err(|_| wrong("has no valid path"))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("names no host"))?;
        let mut headers = headers(host, &ask.headers)?;
        let method: Method = ask.method.as_str().parse().map_err(|_| wrong("is asked by no method"))?;
        let send = Bytes::from(ask.send.map(|s| s.expose().to_owned()).unwrap_or_default());
        if !send.is_empty() || !matches!(method, Method::GET | Method::HEAD) {
            // Servers refuse what may have a body and does not say how long it is (RFC 9110, 8.6).
            headers.insert(CONTENT_LENGTH, HeaderValue::from(send.len()));
        }
        let tls = (usual == 443).then(|| Tls::new(&served(&headers, authority.host()), ask.tls, b""));
        let pattern = ask.pattern.map(|p| Regex::new(&p).map_err(|e| e.to_string())).transpose()?;
        Ok(HttpCheck {
            address,
            tls: tls.transpose()?,
            method,
            path,
            headers,
            send: Body(send),
            expect: Expect { statuses: ask.statuses, body: ask.body, pattern, json: ask.json },
        })
    }

    /// The server, for people.
    pub(super) fn shown(&self) -> String {
        self.address.shown()
    }

    pub(super) async fn attempt(&self, limit: Limit) -> Result<(), Failure> {
        let name = self.address.shown();
        self.ask(limit, &name, async |answer| {
            self.expect.judge(answer.map_err(|e| self.lost(&e, &name))?, limit, &name).await
        })
        .await
    }

    fn lost(&self, error: &hyper::Error, name: &str) -> Failure {
        let failure = failure(error, name);
        match &self.tls {
            Some(tls) => tls.lost(failure),
            None => failure,
        }
    }

    /// Connects, sends the request and hands what comes back to `wanted`.
    pub(super) async fn ask<T>(
        &self,
        limit: Limit,
        name: &str,
        wanted: impl AsyncFnOnce(hyper::Result<Response<Incoming>>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let stream = self.address.connect(limit).await?;
        match &self.tls {
            None => self.talk(stream, limit, name, wanted).await,
            Some(tls) => {
                // The state of a connection is large, and few checks need it.
                let stream = Box::pin(tls.connect(stream, limit, name)).await?;
                Box::pin(self.talk(stream, limit, name, wanted)).await
            }
        }
    }

    /// Drives the connection meanwhile.
    async fn talk<T>(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        limit: Limit,
        name: &str,
        wanted: impl AsyncFnOnce(hyper::Result<Response<Incoming>>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|e| failure(&e, name))?;
        let mut request = Request::new(Full::new(self.send.0.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        driven(connection, async {
            let answer = limit.run(|| format!("no answer from {name}"), sender.send_request(request)).await?;
            wanted(answer).await
        })
        .await
    }
}

/// Whom a certificate must be for: a virtual host, else who is connected to.
fn served(headers: &HeaderMap, host: &str) -> String {
    let asked = headers.get(HOST).and_then(|h| h.to_str().ok());
    let asked = asked.and_then(|h| h.parse::<hyper::http::uri::Authority>().ok());
    asked.map_or_else(|| host.to_owned(), |a| a.host().to_owned())
}

/// Asks a program to stop.
#[derive(Debug)]
pub struct StopRequest(HttpCheck);

/// Statuses that say that it will.
const ACCEPTS: StatusRange = 200..=299;

impl StopRequest {
    /// What answer passes is not asked for: a status from 200 to 299 does.
    ///
    /// # Errors
    /// When the URL or a header is none, in words that name all of it.
    pub fn new(ask: HttpAsk) -> Result<Self, String> {
        HttpCheck::new(HttpAsk { statuses: vec![ACCEPTS], ..ask }).map(StopRequest)
    }

    /// Sends it. A connection that ends without an answer is none of a failure: a program that does as it is told may be
    /// gone before it says so.
    ///
    /// # Errors
    /// Why it was not asked, or refused, in words.
    pub async fn send(&self, timeout: Duration) -> Result<(), String> {
        // The caller's clock is the one that counts.
        let limit = Limit { at: Instant::now() + 2 * timeout, whole: timeout };
        let to = &self.0;
        let name = to.address.shown();
        let sent = to.ask(limit, &name, async |answer| match answer {
            Ok(answer) => to.expect.judge(answer, limit, &name).await,
            Err(e) if is_gone(&e) => Ok(()),
            Err(e) => Err(to.lost(&e, &name)),
        });
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
pub(super) async fn driven<T>(connection: impl Future, wanted: impl Future<Output = T>) -> T {
    let mut wanted = std::pin::pin!(wanted);
    tokio::select! {
        biased;
        done = &mut wanted => done,
        // The connection also ends when the server closes it behind its answer, which is then there to take.
        _ = connection => wanted.await,
    }
}

fn headers(host: HeaderValue, extra: &[(String, Secret)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, host);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in extra {
        let key: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header name"))?;
        let mut value: HeaderValue = value
            .expose()
            .parse()
            .map_err(|_| format!("the header `{name}` has a value that cannot be sent"))?;
        value.set_sensitive(true);
        // What is asked for replaces what we would have sent: `Host` for a virtual host.
        headers.insert(key, value);
    }
    Ok(headers)
}

pub(super) fn failure(error: &hyper::Error, name: &str) -> Failure {
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
