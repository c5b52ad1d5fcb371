//! `[keepwell] http`: `/health`, `/ready/SERVICE` and `/metrics` for whoever is on this host. It only tells, and nothing that
//! is a secret; commands go through the socket. docs/http.md describes it.
//!
//! There is no authentication, so it listens on loopback addresses alone, and answers only to requests that were addressed
//! to one: a page in a browser cannot read it through a name that was made to mean this host (DNS rebinding).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use keepwell_core::event::Level;
use keepwell_os::in_words;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::failure::{Failure, json};
use super::{ApiState, connection};
use crate::figures::{Form, page};
use crate::message::Message;

/// Scrapers, load balancers and a person or two.
const CONNECTIONS: usize = 128;
/// Pages in the making, some megabytes each for a thousand services.
const PAGES: usize = 2;
/// keepwell answers in milliseconds; who asks for its health is told after this that it does not.
const PATIENCE: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What all requests share.
struct Desk {
    api: Arc<ApiState>,
    pages: Semaphore,
    answered: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

type Shared = State<Arc<Desk>>;

/// Serves wherever the configuration says, and nothing as long as it says nothing.
pub(super) async fn serve(api: Arc<ApiState>) {
    let mut wanted = api.served_at.subscribe();
    let router = router(Arc::clone(&api));
    loop {
        let at = *wanted.borrow_and_update();
        let serving = async {
            match at {
                Some(at) => listen(at, &api, &router).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = serving => match never {},
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn listen(at: SocketAddr, api: &ApiState, router: &Router) -> Infallible {
    let listener = bind(at, api).await;
    tracing::info!(%at, "health, readiness and metrics are served");
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Ends with this function when the address is another one.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Who comes beyond them waits in the system's queue. The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    connection::serve_router(stream, router).await;
                    drop(place);
                });
            }
            Err(e) => {
                // Out of descriptors or memory: others must end before the next can be had.
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Tries until it is had, and tells when it is not had at once.
async fn bind(at: SocketAddr, api: &ApiState) -> TcpListener {
    let mut pause = FIRST_RETRY;
    let mut told = false;
    loop {
        match TcpListener::bind(at).await {
            Ok(listener) => {
                if told {
                    tell(api, Level::Info, format!("http://{at} is served now")).await;
                }
                return listener;
            }
            Err(e) if !told => {
                // In words that are the same everywhere, and read well before its holder.
                let taken = e.kind() == io::ErrorKind::AddrInUse;
                let why = if taken { "the port is taken".to_owned() } else { in_words(&e) };
                let holder = api.off_thread(move || {
                    keepwell_os::ports::listener(&at.ip().to_string(), at.port()).map(|l| l.to_string())
                });
                let holder = match holder.await {
                    Ok(Some(holder)) => format!(" by {holder}"),
                    Ok(None) | Err(_) => String::new(),
                };
                let text =
                    format!("http://{at} cannot be served: {why}{holder}; it is tried again and again");
                tell(api, Level::Warn, text).await;
                told = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_RETRY);
    }
}

async fn tell(api: &ApiState, level: Level, text: String) {
    api.engine.deliver(Message::Told { service: None, level, text }).await;
}

pub(super) fn router(api: Arc<ApiState>) -> Router {
    let desk = Arc::new(Desk { api, pages: Semaphore::new(PAGES), answered: Mutex::default() });
    Router::new()
        .route("/health", get(health))
        .route("/ready/{service}", get(ready))
        .route("/metrics", get(metrics))
        .fallback(no_route)
        .method_not_allowed_fallback(super::routes::no_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&desk), receive))
        .with_state(desk)
}

/// Stands before every route.
async fn receive(State(desk): Shared, request: Request, next: Next) -> Response {
    let route = match request.uri().path() {
        "/health" => "/health",
        "/metrics" => "/metrics",
        path if path.starts_with("/ready/") => "/ready",
        _ => "other",
    };
    let mut response =
        if is_ours(request.headers()) { next.run(request).await } else { misdirected().into_response() };
    let guarded = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in guarded {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let mut answered = desk.answered.lock().unwrap_or_else(PoisonError::into_inner);
    *answered.entry((route, response.status().as_u16())).or_default() += 1;
    response
}

/// Whether a request was meant for this host itself. One of HTTP/1.0 need not say, and no browser sends such.
fn is_ours(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(host) = host.to_str().ok().and_then(|text| text.parse::<axum::http::uri::Authority>().ok())
    else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn misdirected() -> Failure {
    Failure::new(
        "forbidden",
        "this is answered to requests for localhost, 127.0.0.1 or [::1] alone",
        Some("a proxy has to set the header Host to the address that it asks"),
    )
}

async fn no_route(uri: Uri) -> Failure {
    let text = format!("there is nothing at {}", uri.path());
    Failure::new("no_route", &text, Some("routes: /health, /ready/SERVICE, /metrics"))
}

async fn health(State(desk): Shared) -> Response {
    let asked = tokio::time::timeout(PATIENCE, desk.api.ask(|reply| Message::Health { reply })).await;
    let version = env!("CARGO_PKG_VERSION");
    match asked {
        Ok(Ok(h)) => {
            let (code, status) = match h.stopping {
                false => (StatusCode::OK, "ok"),
                true => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            };
            let body = serde_json::json!({
                "status": status, "version": version, "services": h.services, "ready": h.usable,
            });
            json(code, &body)
        }
        Ok(Err(_)) | Err(_) => {
            let body = serde_json::json!({ "status": "busy", "version": version });
            json(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

/// One line for each instance that cannot be used.
async fn ready(State(desk): Shared, Path(name): Path<String>) -> Response {
    let asked = desk.api.ask(|reply| Message::Standing { name, reply });
    let (code, text) = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(all)) => {
            let missing: Vec<String> =
                all.into_iter().filter(|s| !s.usable).map(|s| s.words + "\n").collect();
            match missing.is_empty() {
                true => (StatusCode::OK, "ready\n".to_owned()),
                false => (StatusCode::SERVICE_UNAVAILABLE, missing.concat()),
            }
        }
        Ok(Err(Failure(problem))) if problem.code == "unknown_service" => {
            (StatusCode::NOT_FOUND, problem.message + "\n")
        }
        Ok(Err(_)) | Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "keepwell does not answer just now\n".to_owned())
        }
    };
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn metrics(State(desk): Shared, headers: HeaderMap) -> Result<Response, Failure> {
    let form = wanted(&headers);
    // Never closed.
    let _turn = desk.pages.acquire().await;
    let mut figures = desk.api.ask(|reply| Message::Figures { reply }).await?;
    figures.own.requests = desk.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let text = desk.api.off_thread(move || page(&figures, form)).await?;
    Ok(([(header::CONTENT_TYPE, form.content_type())], text).into_response())
}

/// OpenMetrics for those who name it. Prometheus prefers it, and nobody else knows it, so weights need not be compared.
fn wanted(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let names_it = |value: &str| {
        value.split(',').any(|kind| {
            let mut parts = kind.split(';').map(str::trim);
            parts.next() == Some("application/openmetrics-text")
                && parts.all(|p| p.strip_prefix("version=").is_none_or(|version| version == "1.0.0"))
        })
    };
    if accepted.into_iter().any(names_it) { Form::OpenMetrics } else { Form::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, HeaderValue::from_str(name).unwrap())])
    }

    #[test]
    fn only_requests_for_this_host_are_ours() {
        for ours in ["localhost:9750", "LOCALHOST", "127.0.0.1:9750", "127.8.8.8", "[::1]:9750", "[::1]"] {
            assert!(is_ours(&host(ours)), "{ours}");
        }
        for other in
            ["evil.example:9750", "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b"]
        {
            assert!(!is_ours(&host(other)), "{other}");
        }
        assert!(is_ours(&HeaderMap::new()), "HTTP/1.0 need not say");
    }

    #[test]
    fn openmetrics_is_given_to_those_who_name_its_version() {
        let accept = |value: &str| {
            wanted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(value).unwrap())]))
        };
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(accept(prometheus), Form::OpenMetrics);
        assert_eq!(accept("application/openmetrics-text; version=0.0.1"), Form::Text);
        assert_eq!(accept("text/plain"), Form::Text);
        assert_eq!(wanted(&HeaderMap::new()), Form::Text);
    }
}
