//! One connection: its bounds, and whom it belongs to.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use keepwell_os::local::{Peer, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Bytes that wait in a connection, either way: what a client that does not read can hold, and the largest head (a
/// question about a thousand services by name has half of it).
const BUFFER: usize = 64 << 10;
/// A request's head has to be there after this.
const HEAD: Duration = Duration::from_secs(30);
/// Connections of owners, and of everybody else: so strangers cannot take the places of those who control.
const OWNERS: usize = 256;
const OTHERS: usize = 256;

const FULL: &str =
    r#"{"code":"busy","message":"too many connections","hint":"end some, such as `keepwell logs --follow`"}"#;

/// How many more connections there may be.
pub(super) struct Places {
    owners: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        Self { owners: Arc::new(Semaphore::new(OWNERS)), others: Arc::new(Semaphore::new(OTHERS)) }
    }
}

impl Places {
    /// Returns when there is no connection left.
    pub(super) async fn empty(&self) {
        for (places, all) in [(&self.owners, OWNERS), (&self.others, OTHERS)] {
            // Both numbers are small, and the semaphores are never closed.
            let _ = places.acquire_many(u32::try_from(all).unwrap_or(u32::MAX)).await;
        }
    }
}

/// Serves a connection in a task of its own, or refuses it when there is no place.
pub(super) fn take(stream: Stream, peer: Peer, router: &Router, places: &Places) {
    let kind = if peer.is_owner() { &places.owners } else { &places.others };
    match Arc::clone(kind).try_acquire_owned() {
        Ok(place) => {
            let router = router.clone();
            tokio::spawn(async move {
                serve(stream, peer, router).await;
                drop(place);
            });
        }
        Err(_) => drop(tokio::spawn(refuse(stream))),
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S>(stream: S, peer: Peer, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_router(stream, router.layer(Extension(Arc::new(peer)))).await;
}

/// The same for one of whom nothing is known.
pub(super) async fn serve_router<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new()
        .max_buf_size(BUFFER)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(e) = served {
        tracing::debug!(error = %e, "a connection broke off");
    }
}

async fn refuse(mut stream: Stream) {
    // A fresh connection has room for this, so it waits for nobody; who is gone needs no answer.
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{FULL}", FULL.len());
    let _ = stream.write_all(answer.as_bytes()).await;
}
