//! Answers of unknown length: JSON arrays page by page, and server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

/// Pieces that wait for the connection: one being sent and one ready. A client that does not read stops its producer here.
const PIECES: usize = 1;

/// Who has asked for past things and takes none of them for so long gets no more. A follower may stall as long as it likes.
const STALLED: Duration = Duration::from_secs(60);

/// The producer's end. When the client is gone, `send` says so and `closed` returns.
pub(super) struct Pieces(mpsc::Sender<Bytes>);

/// The client has gone.
pub(super) struct Gone;

impl Pieces {
    pub(super) async fn send(&self, piece: String) -> Result<(), Gone> {
        self.0.send(Bytes::from(piece)).await.map_err(|_| Gone)
    }

    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A server-sent event stream that `produce` fills.
pub(super) fn server_sent<F>(produce: impl FnOnce(Pieces) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    answer("text/event-stream", produce)
}

/// A JSON array that `produce` fills through an [`Array`].
pub(super) fn array<F>(produce: impl FnOnce(Array) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    answer("application/json", |pieces| produce(Array { pieces, begun: false }))
}

fn answer<F>(kind: &'static str, produce: impl FnOnce(Pieces) -> F) -> Response
where
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(PIECES);
    let work = produce(Pieces(sender));
    tokio::spawn(async move {
        // Who is gone has had what they wanted.
        let _ = work.await;
    });
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::OK, headers, Body::new(Stream(receiver))).into_response()
}

/// A JSON array in the making.
pub(super) struct Array {
    pieces: Pieces,
    begun: bool,
}

impl Array {
    pub(super) async fn extend<T: Serialize>(&mut self, items: &[T]) -> Result<(), Gone> {
        let mut piece = String::new();
        for item in items {
            piece.push_str(if self.begun { ",\n" } else { "[" });
            self.begun = true;
            piece.push_str(&to_json(item));
        }
        if piece.is_empty() { Ok(()) } else { self.send(piece).await }
    }

    pub(super) async fn end(self) -> Result<(), Gone> {
        self.send(if self.begun { "]\n" } else { "[]\n" }.to_owned()).await
    }

    async fn send(&self, piece: String) -> Result<(), Gone> {
        tokio::time::timeout(STALLED, self.pieces.send(piece)).await.unwrap_or(Err(Gone))
    }
}

/// One server-sent event (WHATWG HTML, 9.2.5). JSON text has no line breaks of its own, so one `data` line is enough.
pub(super) fn sse<T: Serialize>(id: Option<u64>, event: &str, data: &T) -> String {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: {event}\ndata: {}\n\n", to_json(data))
}

/// Tells the client a position without an event: a block without data sets only the last event's id.
pub(super) fn position(id: u64) -> String {
    format!("id: {id}\n\n")
}

fn to_json<T: Serialize>(value: &T) -> String {
    // Plain data of ours always serialises.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
