//! Refusals as HTTP answers: always a [`wire::Problem`], with the status that its code has.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use keepwell_sdk::wire;

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure(pub(super) wire::Problem);

impl Failure {
    pub(super) fn new(code: &str, message: &str, hint: Option<&str>) -> Self {
        Self(wire::Problem {
            code: code.to_owned(),
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        })
    }

    pub(super) fn busy(message: &str) -> Self {
        Self::new("busy", message, Some("try again in a moment"))
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::new("internal", message, Some("keepwell.log in the state folder says more"))
    }

    pub(super) fn invalid(message: &str, hint: Option<&str>) -> Self {
        Self::new("invalid", message, hint)
    }
}

impl From<wire::Problem> for Failure {
    fn from(p: wire::Problem) -> Self {
        Self(p)
    }
}

/// The status of a problem's code; docs/api.md has the same table, and a test holds it there.
pub(super) const STATUS: [(&str, StatusCode); 11] = [
    ("unknown_service", StatusCode::NOT_FOUND),
    ("unknown_incident", StatusCode::NOT_FOUND),
    ("not_running", StatusCode::CONFLICT),
    ("shutting_down", StatusCode::CONFLICT),
    ("invalid", StatusCode::BAD_REQUEST),
    ("forbidden", StatusCode::FORBIDDEN),
    ("config", StatusCode::UNPROCESSABLE_ENTITY),
    ("busy", StatusCode::SERVICE_UNAVAILABLE),
    ("no_route", StatusCode::NOT_FOUND),
    ("no_method", StatusCode::METHOD_NOT_ALLOWED),
    ("internal", StatusCode::INTERNAL_SERVER_ERROR),
];

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let known = STATUS.iter().find(|(code, _)| *code == self.0.code);
        let status = known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, s)| *s);
        json(status, &self.0)
    }
}

/// An answer in JSON, with a newline at its end for those who read it in a terminal.
pub(super) fn json<T: serde::Serialize>(status: StatusCode, value: &T) -> Response {
    // Plain data of ours always serialises.
    let mut body = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
