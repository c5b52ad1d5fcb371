//! Past events from the store, and new ones as they happen.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::Response;
use keepwell_sdk::wire;
use tokio::sync::broadcast::error::RecvError;

use super::failure::Failure;
use super::query::{Pairs, Params};
use super::stream::{Array, Gone, Pieces, array, position, server_sent, sse};
use super::{ApiState, Shared};
use crate::store::{EventQuery, ServiceFilter};

/// Events read and sent at once: some tens of kilobytes.
const PAGE: usize = 64;
/// Without any bound in the question, this many of the newest.
const DEFAULT_LIMIT: usize = 1_000;

pub(super) async fn events(state: Shared, headers: HeaderMap, pairs: Pairs) -> Result<Response, Failure> {
    let params = Params::new(pairs, &["since", "after", "service", "limit", "follow"])?;
    let follow = params.flag("follow")?;
    let mut query = EventQuery {
        after_seq: params.number("after")?.or_else(|| if follow { last_event_id(&headers) } else { None }),
        since: params.instant("since")?,
        services: ServiceFilter(params.all("service")),
        limit: params.number("limit")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
    };
    if query.after_seq.is_none() && query.since.is_none() && query.limit.is_none() {
        query.limit = Some(if follow { 0 } else { DEFAULT_LIMIT });
    }
    let state = Arc::clone(&state);
    // Subscribed before the store is read: whatever is not in the one is in the other.
    let live = state.events.subscribe();
    let after = first_after(&state, &query).await?;
    query.after_seq = Some(after);
    if follow {
        query.limit = None;
        return Ok(server_sent(|pieces| Follower { state, query, after, live }.run(pieces)));
    }
    // The first page is read before the answer begins, so that a store that fails is told with its status.
    let first = page(&state, &query, after).await?;
    Ok(array(|out| past(state, query, first, out)))
}

/// What an `EventSource` sends when it connects again (WHATWG HTML, 9.2.4).
fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

async fn first_after(state: &ApiState, query: &EventQuery) -> Result<u64, Failure> {
    let (store, query) = (state.store.clone(), query.clone());
    state.off_thread(move || store.cursor(&query)).await?.map_err(|e| unread(&e))
}

/// A store is closed only at the very end, when a client that asks again finds nobody.
pub(super) fn unread(why: &str) -> Failure {
    if why == crate::store::CLOSED { Failure::busy("keepwell is ending") } else { Failure::internal(why) }
}

async fn page(state: &ApiState, query: &EventQuery, after: u64) -> Result<Vec<wire::Event>, Failure> {
    let limit = query.limit.unwrap_or(usize::MAX).min(PAGE);
    let query = EventQuery { after_seq: Some(after), limit: Some(limit), ..query.clone() };
    let store = state.store.clone();
    state.off_thread(move || store.events(&query)).await?.map_err(|e| unread(&e))
}

async fn past(
    state: Arc<ApiState>,
    mut query: EventQuery,
    mut events: Vec<wire::Event>,
    mut out: Array,
) -> Result<(), Gone> {
    loop {
        out.extend(&events).await?;
        query.limit = query.limit.map(|left| left.saturating_sub(events.len()));
        let (Some(last), true) = (events.last(), query.limit != Some(0)) else { return out.end().await };
        match page(&state, &query, last.seq).await {
            Ok(next) => events = next,
            // An array without its end tells the reader that something is missing.
            Err(_) => return Ok(()),
        }
    }
}

struct Follower {
    state: Arc<ApiState>,
    query: EventQuery,
    /// The last event that was sent, or that need not be.
    after: u64,
    live: tokio::sync::broadcast::Receiver<Arc<wire::Event>>,
}

impl Follower {
    async fn run(mut self, pieces: Pieces) -> Result<(), Gone> {
        pieces.send(position(self.after)).await?;
        loop {
            self.catch_up(&pieces).await?;
            self.state.audience.come();
            self.listen(&pieces).await?;
        }
    }

    /// Sends what the store has, until it has nothing more.
    async fn catch_up(&mut self, pieces: &Pieces) -> Result<(), Gone> {
        loop {
            // The client connects again and goes on behind what it has.
            let Ok(events) = page(&self.state, &self.query, self.after).await else { return Err(Gone) };
            let Some(last) = events.last() else { return Ok(()) };
            self.after = last.seq;
            pieces.send(events.iter().map(|e| sse(Some(e.seq), &e.kind, e)).collect()).await?;
        }
    }

    /// Sends what happens, until so much has happened that the store must be read again.
    async fn listen(&mut self, pieces: &Pieces) -> Result<(), Gone> {
        loop {
            // What was said before the end comes before it.
            let heard = tokio::select! {
                biased;
                heard = self.live.recv() => heard,
                () = pieces.closed() => return Err(Gone),
                () = self.state.audience.ended() => return Err(Gone),
            };
            match heard {
                Ok(e) if e.seq <= self.after => {}
                Ok(e) => {
                    self.after = e.seq;
                    let early = self.query.since.is_some_and(|since| e.at < crate::convert::time(since));
                    if !early && self.query.services.takes(e.service.as_deref()) {
                        pieces.send(sse(Some(e.seq), &e.kind, &*e)).await?;
                    }
                }
                Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(Gone),
            }
        }
    }
}
