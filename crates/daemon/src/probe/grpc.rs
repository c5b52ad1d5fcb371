//! One question to the standard health service of gRPC, `grpc.health.v1.Health/Check`, over HTTP/2.
//!
//! The two messages of `grpc/health/v1/health.proto` (<https://github.com/grpc/grpc-proto>) are written and read by hand:
//!
//! ```proto
//! message HealthCheckRequest { string service = 1; }
//! message HealthCheckResponse {
//!   enum ServingStatus { UNKNOWN = 0; SERVING = 1; NOT_SERVING = 2; SERVICE_UNKNOWN = 3; }
//!   ServingStatus status = 1;
//! }
//! ```

use std::error::Error as _;
use std::io;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::address::Address;
use super::http::{AGENT, driven};
use super::tls::{Tls, TlsFiles};
use super::{Failure, Limit};

/// An answer has a handful of bytes.
const MAX_ANSWER: usize = 4 << 10;
/// Of what a server says of its failure, so much is shown.
const MAX_SHOWN: usize = 200;

#[derive(Debug)]
pub(super) struct GrpcCheck {
    address: Address,
    tls: Option<Tls>,
    uri: Uri,
    service: String,
}

impl GrpcCheck {
    /// `tls`: over TLS, by these files.
    pub(super) fn new(host: &str, port: u16, service: String, tls: Option<TlsFiles>) -> Result<Self, String> {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let wrong = || format!("`{host}` is no host");
        let address = Address::new(&bracketed, port).ok_or_else(wrong)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{bracketed}:{port}/grpc.health.v1.Health/Check");
        let tls = tls.map(|files| Tls::new(host, files, b"h2")).transpose()?;
        Ok(GrpcCheck { address, tls, uri: uri.parse().map_err(|_| wrong())?, service })
    }

    pub(super) async fn attempt(&self, limit: Limit) -> Result<(), Failure> {
        let name = self.address.shown();
        let stream = self.address.connect(limit).await?;
        // Both ends wait for each other's small frames.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => Box::pin(self.talk(stream, limit, &name)).await,
            Some(tls) => {
                let stream = Box::pin(tls.connect(stream, limit, &name)).await?;
                Box::pin(self.talk(stream, limit, &name)).await
            }
        }
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        limit: Limit,
        name: &str,
    ) -> Result<(), Failure> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(16 << 10).initial_stream_window_size(64 << 10);
        let hands = builder.handshake(TokioIo::new(stream));
        let late = || format!("no answer from {name}");
        let (mut sender, connection) = limit.run(late, hands).await?.map_err(|e| self.lost(&e, name))?;
        let request = self.request(limit);
        driven(connection, async {
            let answer = limit.run(late, sender.send_request(request)).await?;
            let answer = answer.map_err(|e| self.lost(&e, name))?;
            limit.run(|| format!("the answer of {name} did not end"), self.judge(answer, name)).await?
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

    /// As in "gRPC over HTTP2" (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
    fn request(&self, limit: Limit) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(question(&self.service))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        // At most eight digits.
        let left = limit.whole.as_millis().min(99_999_999);
        if let Ok(value) = HeaderValue::from_str(&format!("{left}m")) {
            headers.insert("grpc-timeout", value);
        }
        request
    }

    async fn judge(&self, answer: Response<Incoming>, name: &str) -> Result<(), Failure> {
        let status = answer.status();
        if status != StatusCode::OK {
            let words = super::answer::words(status);
            return Err(Failure::Service(format!("{name} answered {words}, which is no gRPC")));
        }
        // A failure may come at once, in the head, or behind the message, in the trailers.
        let mut verdict = code_of(answer.headers());
        let (mut body, mut message) = (answer.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| failure(&e, name))?;
            if let Some(trailers) = frame.trailers_ref() {
                verdict = code_of(trailers).or(verdict);
            } else if let Some(data) = frame.data_ref() {
                if message.len() + data.len() > MAX_ANSWER {
                    return Err(Failure::Service(format!("{name} answered more than a health service does")));
                }
                message.extend_from_slice(data);
            }
        }
        match verdict {
            Some((0, _)) => self.status(&message, name),
            // `NOT_FOUND` and `UNIMPLEMENTED`, see <https://grpc.io/docs/guides/status-codes/>.
            Some((5, _)) => Err(Failure::Service(format!("{name} does not know {}", self.whom()))),
            Some((12, _)) => Err(Failure::Service(format!("{name} has no health service"))),
            Some((code, why)) => {
                let why = if why.is_empty() { why } else { format!(": {why}") };
                Err(Failure::Service(format!("{name} answered gRPC status {code}{why}")))
            }
            None => Err(Failure::Service(format!("{name} answered without a gRPC status"))),
        }
    }

    fn status(&self, message: &[u8], name: &str) -> Result<(), Failure> {
        let whom = self.whom();
        match serving(message) {
            Some(1) => Ok(()),
            Some(2) => Err(Failure::Service(format!("{name} says that {whom} is NOT_SERVING"))),
            Some(3) => Err(Failure::Service(format!("{name} does not know {whom}"))),
            // It cannot tell: that never counts.
            Some(0) => Err(Failure::Ours(format!("{name} says that the status of {whom} is UNKNOWN"))),
            Some(_) | None => Err(Failure::Service(format!("{name} answered no health status"))),
        }
    }

    fn whom(&self) -> String {
        match self.service.as_str() {
            "" => "the server".to_owned(),
            service => format!("`{service}`"),
        }
    }
}

/// A `HealthCheckRequest` in its frame: not compressed, its length, the message.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    // A name in the configuration is far shorter than 4 GiB.
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(&message);
    frame
}

/// The status in a framed `HealthCheckResponse`; `None`: it is none. What is not there has the value 0.
fn serving(frame: &[u8]) -> Option<u64> {
    let (head, mut message) = frame.split_at_checked(5)?;
    let [compressed, a, b, c, d] = head else { return None };
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    if *compressed != 0 || length != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = take_varint(&mut message)?,
            // What a later version brings is passed over.
            (_, 0) => drop(take_varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            (_, _) => return None,
        }
    }
    Some(status)
}

fn put_varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn code_of(headers: &HeaderMap) -> Option<(u32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let why = headers.get("grpc-message").map(|m| String::from_utf8_lossy(m.as_bytes()).into_owned());
    Some((code, why.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()))
}

fn failure(error: &hyper::Error, name: &str) -> Failure {
    let mut source = error.source();
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return Failure::of(io, name);
        }
        source = e.source();
    }
    if error.is_canceled() || error.is_closed() || error.is_incomplete_message() {
        return Failure::Service(format!("{name} closed the connection without an answer"));
    }
    Failure::Service(format!("what answered on {name} does not speak HTTP/2: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_protobuf_writes_them() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("db"), [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        assert_eq!(question(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn a_status_is_read_whatever_stands_around_it() {
        let framed = |message: &[u8]| {
            let mut frame = vec![0];
            frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
            frame.extend_from_slice(message);
            frame
        };
        assert_eq!(serving(&framed(&[8, 1])), Some(1));
        assert_eq!(serving(&framed(&[])), Some(0));
        // Field 2 as text, field 3 as a fixed number, field 4 as a number, then the status.
        let more = [0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x20, 0x96, 1, 8, 2];
        assert_eq!(serving(&framed(&more)), Some(2));
        for broken in [&[8][..], &[0x12, 9, 1], &[0x0b], &[8, 0xff, 0xff]] {
            assert_eq!(serving(&framed(broken)), None, "{broken:?}");
        }
        assert_eq!(serving(&[0, 0, 0, 0, 3, 8, 1]), None, "cut short");
        assert_eq!(serving(&[1, 0, 0, 0, 2, 8, 1]), None, "compressed");
        assert_eq!(serving(&[0, 0]), None);
    }
}
