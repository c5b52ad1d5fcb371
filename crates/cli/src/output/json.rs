//! What machines read. A contract: only ever extended. Documents are indented, streams are one object a line.

use keepwell_sdk::wire::{Event, Info, LogLine};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// One line of `keepwell up --json`: an object with one key that says what it holds.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UpLine<'a> {
    /// The first line, and again after the daemon was replaced.
    Guardian(&'a Info),
    /// A fact.
    Event(&'a Event),
    /// A service's output.
    Log(&'a LogLine),
}

/// A document, with its newline.
pub(crate) fn document(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map(|t| t + "\n").map_err(|e| unwritable(&e))
}

/// One line of a stream, with its newline.
pub(crate) fn line(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map(|t| t + "\n").map_err(|e| unwritable(&e))
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::failed(format!("the answer cannot be written as JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::status::tests::three;
    use keepwell_sdk::wire::{Exit, Explanation};

    #[test]
    fn status_is_an_array() {
        let mut one = three()[2].clone();
        one.exits = vec![Exit {
            at: "2026-01-31T14:00:00Z".into(),
            code: Some(3),
            text: "exit code 3".into(),
            class: "retry".into(),
            ran_for_ms: 400,
            ..Exit::default()
        }];
        insta::assert_snapshot!(document(&[one]).unwrap());
    }

    #[test]
    fn info_is_an_object() {
        let info = Info {
            anchor_pid: 410,
            daemon_pid: 977,
            version: "0.1.0".into(),
            anchor_version: "0.1.0".into(),
            state_dir: "/srv/shop/.keepwell".into(),
            socket: "/srv/shop/.keepwell/keepwell.sock".into(),
            config: Some("/srv/shop/keepwell.toml".into()),
            scope: "project".into(),
            services: 5,
            ..Info::default()
        };
        insta::assert_snapshot!(document(&info).unwrap());
    }

    #[test]
    fn explain_is_an_array() {
        let e = Explanation {
            service: "worker".into(),
            state: "waiting".into(),
            headline: "worker is waiting because api is not ready".into(),
            facts: vec![("next".into(), "in 3 s".into())],
            try_next: vec![("try now".into(), "keepwell start api".into())],
            ..Explanation::default()
        };
        insta::assert_snapshot!(document(&[e]).unwrap());
    }

    #[test]
    fn streams_are_one_object_a_line() {
        let event = Event {
            seq: 7,
            at: "2026-01-31T14:00:00Z".into(),
            service: Some("web".into()),
            kind: "state_changed".into(),
            level: "info".into(),
            text: "web is ready".into(),
            from: Some("starting".into()),
            state: Some("ready".into()),
            ..Event::default()
        };
        let log = LogLine {
            service: "web".into(),
            stream: "out".into(),
            line: "a\nb\"".into(),
            ..LogLine::default()
        };
        let text = [line(&event), line(&log), line(&UpLine::Event(&event)), line(&UpLine::Log(&log))];
        insta::assert_snapshot!(text.into_iter().map(Result::unwrap).collect::<String>());
    }
}
