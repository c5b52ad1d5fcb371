//! Questions and commands: each handler reads the request, asks the engine, and answers.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path};
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use keepwell_os::local::Peer;
use keepwell_sdk::wire;

use super::failure::{Failure, json};
use super::query::{Pairs, Params, body};
use super::{ApiState, Shared, access};
use crate::convert::{self, bad};
use crate::message::Message;

type Answer = Result<Response, Failure>;
type Posted = Result<Bytes, BytesRejection>;

/// Lines of output that `explain` quotes.
const LAST_WORDS: usize = 5;
/// A program binds its port within moments; one that ended later had another reason. In milliseconds.
const START: u64 = 10_000;

pub(super) async fn info(state: Shared, pairs: Pairs) -> Answer {
    Params::new(pairs, &[])?;
    ok(&state.ask(|reply| Message::Info { reply }).await?)
}

pub(super) async fn services(state: Shared, pairs: Pairs) -> Answer {
    let parameters = Params::new(pairs, &["name", "usage"])?;
    let (names, usage) = (parameters.all("name"), parameters.flag_or("usage", true)?);
    ok(&state.ask(|reply| Message::Services { names, usage, reply }).await?)
}

pub(super) async fn explain(state: Shared, Path(name): Path<String>, pairs: Pairs) -> Answer {
    Params::new(pairs, &[])?;
    let mut all = state.ask(|reply| Message::Explain { name, reply }).await?;
    for explanation in &mut all {
        if !explanation.exits.is_empty() {
            explanation.last_words = last_words(&state, &explanation.service).await;
        }
        if failed_at_start(explanation)
            && let Some(text) = port_taken(&state, &explanation.service).await
        {
            explanation.facts.push(("port".to_owned(), text));
        }
    }
    ok(&all)
}

pub(super) async fn command(state: Shared, Extension(peer): Extension<Arc<Peer>>, bytes: Posted) -> Answer {
    let command = convert::command(body(bytes)?)?;
    let by = access::name(&state, &peer).await;
    ok(&state.ask(|reply| Message::Command { by, command, reply }).await?)
}

pub(super) async fn reload(state: Shared, Extension(peer): Extension<Arc<Peer>>, bytes: Posted) -> Answer {
    let wire::ReloadRequest { dry_run } = body(bytes)?;
    let by = access::name(&state, &peer).await;
    ok(&state.ask(|reply| Message::Reload { by, dry_run, reply }).await?)
}

pub(super) async fn log_level(Extension(peer): Extension<Arc<Peer>>, bytes: Posted) -> Answer {
    let level: wire::LogLevel = body(bytes)?;
    if !crate::trace::set_level(&level.level) {
        let hint = "one of error, warn, info, debug, trace".to_owned();
        return Err(bad(&format!("there is no level `{}`", level.level), Some(hint)).into());
    }
    tracing::info!(level = level.level, pid = peer.pid, "the level of this log was changed");
    ok(&level)
}

pub(super) async fn no_route(uri: Uri) -> Failure {
    Failure::new(
        "no_route",
        &format!("there is nothing at {}", uri.path()),
        Some(
            "routes: /v1/info, /v1/services, /v1/services/NAME/explain, /v1/command, /v1/reload, /v1/log-level, /v1/events, /v1/incidents, /v1/logs",
        ),
    )
}

pub(super) async fn no_method(method: Method, uri: Uri) -> Failure {
    Failure::new("no_method", &format!("{} does not take {method}", uri.path()), None)
}

fn ok<T: serde::Serialize>(answer: &T) -> Answer {
    Ok(json(StatusCode::OK, answer))
}

/// It failed at its start, and is not up now. Whoever has its port may have answered its check.
fn failed_at_start(e: &wire::Explanation) -> bool {
    let down = ["backing_off", "crash_looping", "gave_up", "starting"];
    let early = |exit: &wire::Exit| !exit.expected && (!exit.was_ready || exit.ran_for_ms < START);
    down.contains(&e.state.as_str()) && e.exits.last().is_some_and(early)
}

/// Who has the port on which it should answer, if it is no process under a guardian.
async fn port_taken(state: &ApiState, service: &str) -> Option<String> {
    let name = service.to_owned();
    let (host, port) = state.ask(|reply| Message::ReadyAt { service: name, reply }).await.ok()??;
    let look = move || {
        let found = keepwell_os::ports::listener(&host, port).filter(|l| l.guardian.is_none())?;
        Some(format!("{} is held by {found}, which keepwell did not start", found.address))
    };
    state.off_thread(look).await.ok()?
}

async fn last_words(state: &ApiState, service: &str) -> Vec<String> {
    let names = vec![service.to_owned()];
    let Ok(slots) = state.ask(|reply| Message::LogSlots { names, reply }).await else { return Vec::new() };
    let log = Arc::clone(&state.log);
    let read = move || slots.iter().flat_map(|(_, slot)| log.last_words(*slot, LAST_WORDS)).collect();
    // An explanation without them is better than none.
    state.off_thread(read).await.unwrap_or_default()
}
