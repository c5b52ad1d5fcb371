//! The API: HTTP/1.1 with JSON and server-sent events on the guardian's local socket. docs/api.md describes it.
//!
//! It runs on a runtime of its own and never decides: questions and commands go to the engine, past events come from the
//! store, output from the log. Every connection, body, queue and wait has a bound, so that a client that floods, stalls or
//! never reads costs itself its answer and nobody else anything.

mod access;
mod audience;
mod connection;
mod events;
mod failure;
mod incidents;
mod logs;
mod notify;
mod query;
mod routes;
mod seen;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderValue;
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use keepwell_os::local::{Endpoint, Listener};
use keepwell_sdk::wire;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, oneshot, watch};

use crate::message::{EngineHandle, Message, Reply};
use crate::store::Store;
pub use access::Access;
pub use audience::Audience;
use connection::Places;
use failure::Failure;
pub use logs::LogSource;

/// The largest request body. A command that names a thousand services has a tenth of it.
const BODY: usize = 64 << 10;
/// The engine answers in microseconds; a command waits for a sync of the disk, a reload for the file to be read.
const ENGINE_PATIENCE: Duration = Duration::from_secs(30);
/// So many threads may read the store and log files at once; more askers wait for their turn.
const READERS: usize = 4;

/// Answers of some megabytes that may be held at once, because their askers are slow to read them.
const LARGE: usize = 8;

/// What the API is joined to.
pub struct ApiState {
    engine: EngineHandle,
    store: Store,
    log: Arc<dyn LogSource>,
    events: broadcast::Sender<Arc<wire::Event>>,
    access: Access,
    guardian: HeaderValue,
    audience: Audience,
    readers: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Where figures are served, for the engine to say.
    served_at: watch::Sender<Option<SocketAddr>>,
}

impl ApiState {
    /// `events` must carry each event after it was given to `store`, so that a follower misses none between the two.
    /// `anchor`: its pid, which is the same for each daemon of a guardian and another for the guardian that comes after it.
    #[must_use]
    pub fn new(
        engine: EngineHandle,
        store: Store,
        log: Arc<dyn LogSource>,
        events: broadcast::Sender<Arc<wire::Event>>,
        access: Access,
        anchor: u32,
    ) -> Self {
        let (readers, large) = (Arc::new(Semaphore::new(READERS)), Arc::new(Semaphore::new(LARGE)));
        let guardian = HeaderValue::from(anchor);
        let audience = Audience::new(engine.clone());
        Self {
            audience,
            engine,
            store,
            log,
            events,
            access,
            guardian,
            readers,
            large,
            served_at: watch::Sender::default(),
        }
    }

    /// Those who follow events, for the engine to ask after.
    #[must_use]
    pub fn audience(&self) -> Audience {
        self.audience.clone()
    }

    /// By which the engine says where figures are served.
    #[must_use]
    pub fn served_at(&self) -> watch::Sender<Option<SocketAddr>> {
        self.served_at.clone()
    }

    /// Asks the engine and waits for its answer.
    async fn ask<T>(&self, question: impl FnOnce(Reply<T>) -> Message) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        if self.engine.send(question(reply)).is_err() {
            return Err(Failure::busy("keepwell has too much to do to take this on"));
        }
        match tokio::time::timeout(ENGINE_PATIENCE, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(problem))) => Err(Failure(problem)),
            Ok(Err(_)) => Err(Failure::busy("keepwell's daemon is being replaced")),
            Err(_) => Err(Failure::busy("keepwell did not answer in 30 s; what was asked may still be done")),
        }
    }

    /// Does what waits for a disk on a thread where that harms nobody.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        // The semaphore is never closed.
        let _turn = Arc::clone(&self.readers).acquire_owned().await;
        tokio::task::spawn_blocking(work).await.map_err(|_| Failure::internal("reading failed unexpectedly"))
    }

    /// Waits for the right to hold a large answer in memory.
    async fn large_answer(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let turn = Arc::clone(&self.large).acquire_owned();
        match tokio::time::timeout(ENGINE_PATIENCE, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Failure::busy("others are still reading large answers")),
        }
    }
}

/// Serves until the audience's end, and then until all connections are through. Must be called inside a current-thread runtime with IO and time.
pub async fn serve(endpoint: Endpoint, state: Arc<ApiState>) {
    let listener = match Listener::new(endpoint) {
        Ok(l) => l,
        Err(e) => {
            // Connections stay unaccepted, so the anchor will replace this daemon.
            tracing::error!(error = %e, "the API's socket cannot be watched");
            return;
        }
    };
    let audience = state.audience();
    tokio::spawn(seen::serve(Arc::clone(&state)));
    let router = router(state);
    let places = Places::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = audience.ended() => break,
        };
        match accepted {
            Ok((stream, peer)) => connection::take(stream, peer, &router, &places),
            Err(e) => {
                // Out of descriptors or memory: others must end before the next can be had.
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    places.empty().await;
}

fn router(state: Arc<ApiState>) -> Router {
    let guardian = state.guardian.clone();
    let sign = move |mut response: Response| {
        response.headers_mut().insert(wire::GUARDIAN_HEADER, guardian.clone());
        std::future::ready(response)
    };
    Router::new()
        .route("/v1/info", get(routes::info))
        .route("/v1/services", get(routes::services))
        .route("/v1/services/{name}/explain", get(routes::explain))
        .route("/v1/command", post(routes::command))
        .route("/v1/reload", post(routes::reload))
        .route("/v1/notify-test", post(notify::test))
        .route("/v1/log-level", post(routes::log_level))
        .route("/v1/events", get(events::events))
        .route("/v1/incidents", get(incidents::incidents))
        .route("/v1/logs", get(logs::logs))
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::no_method)
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), access::authorise))
        .layer(middleware::map_response(sign))
        .with_state(state)
}

type Shared = State<Arc<ApiState>>;

#[cfg(test)]
mod tests;
