//! One question and its answer over one connection.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::Error;
use crate::wire::{GUARDIAN_HEADER, Problem};

/// An answer larger than this is none of a guardian's: a hundred thousand events have a fifth of it.
const LARGEST: usize = 256 << 20;
/// A question that changes nothing is asked this often before a broken connection is told.
const ATTEMPTS: u32 = 3;
/// Between two of them. A new connection waits by itself until there is a daemon.
const PAUSE: Duration = Duration::from_millis(100);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

/// The way to one guardian; clones share it. See the module.
#[derive(Clone)]
pub struct Client {
    connect: Arc<dyn Fn() -> Connecting + Send + Sync>,
    /// Who answered first, if nobody else will do.
    bound: Option<Arc<OnceLock<HeaderValue>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// An answer that has begun well, with the task that drives its connection.
pub(super) struct Answer {
    pub(super) body: Incoming,
    _driver: Driver,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// Speaks over the streams that `connector` makes, inside a tokio runtime. An error of kind `NotFound` or
    /// `ConnectionRefused` means that no guardian runs.
    pub fn new<C, F, S>(connector: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connect = move || {
            let connecting = connector();
            let boxed: Connecting = Box::pin(async { Ok(Box::new(connecting.await?) as Box<dyn Io>) });
            boxed
        };
        Self { connect: Arc::new(connect), bound: None }
    }

    /// Takes answers only from the guardian that gives the first of them, whichever of its daemons speaks. Once another one
    /// has taken its place on the same socket, every question is answered by `NotRunning`.
    #[must_use]
    pub fn bound(&self) -> Self {
        let bound = self.bound.clone().unwrap_or_default();
        Self { connect: Arc::clone(&self.connect), bound: Some(bound) }
    }

    /// The same for the guardian whose anchor has this pid.
    #[must_use]
    pub fn bound_to(&self, anchor: u32) -> Self {
        let bound = OnceLock::from(HeaderValue::from(anchor));
        Self { connect: Arc::clone(&self.connect), bound: Some(Arc::new(bound)) }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let answer = match self.open(path).await {
                Ok(answer) => whole(answer).await,
                Err(e) => Err(e),
            };
            match answer {
                Err(e) if attempt < ATTEMPTS && is_passing(&e) => attempt += 1,
                answer => return answer,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|e| Error::Broken(e.to_string()))?;
        whole(self.send(Method::POST, path, body).await?).await
    }

    /// Asks once and gives the answer when its head is there.
    pub(super) async fn open(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::GET, path, Vec::new()).await
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, Error> {
        let io = (self.connect)().await.map_err(not_connected)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
        let driver = Driver(tokio::spawn(async move {
            // How the connection ends is told by the answer.
            let _ = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "keepwell")
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| Error::Broken(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        self.same_guardian(response.headers())?;
        let status = response.status();
        let answer = Answer { body: response.into_body(), _driver: driver };
        if status.is_success() { Ok(answer) } else { Err(refusal(status, answer).await) }
    }

    fn same_guardian(&self, headers: &HeaderMap) -> Result<(), Error> {
        let (Some(bound), Some(who)) = (&self.bound, headers.get(GUARDIAN_HEADER)) else { return Ok(()) };
        if bound.get_or_init(|| who.clone()) == who {
            return Ok(());
        }
        Err(Error::NotRunning(io::Error::other("another guardian has taken its place")))
    }
}

/// Whether it is worth asking again: the daemon was replaced, or has too much to do just now.
pub(super) fn is_passing(e: &Error) -> bool {
    match e {
        Error::Broken(_) => true,
        Error::Refused(problem) => problem.code == "busy",
        Error::NotRunning(_) | Error::Unreachable(_) => false,
    }
}

async fn whole<T: DeserializeOwned>(answer: Answer) -> Result<T, Error> {
    let bytes =
        Limited::new(answer.body, LARGEST).collect().await.map_err(|e| Error::Broken(e.to_string()))?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|e| Error::Broken(e.to_string()))
}

async fn refusal(status: StatusCode, answer: Answer) -> Error {
    match whole::<Problem>(answer).await {
        Ok(problem) => Error::Refused(problem),
        Err(_) => Error::Broken(format!("it answered {status}")),
    }
}

fn not_connected(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning(e),
        // The listener was closed in the moment of connecting; nothing was asked yet. The next try tells what is so.
        io::ErrorKind::ConnectionReset => Error::Broken("the guardian hung up".to_owned()),
        _ => Error::Unreachable(e),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn broken(e: hyper::Error) -> Error {
    Error::Broken(e.to_string())
}

pub(super) fn path(base: &str, query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(k, v)| format!("{k}={}", escape(v))).collect();
    if pairs.is_empty() { base.to_owned() } else { format!("{base}?{}", pairs.join("&")) }
}

/// What is not unreserved is escaped (RFC 3986, 2.3).
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}
