//! `ready = { http = "http://127.0.0.1:8080/", timeout = "10s" }`: when a service counts as ready.

use std::borrow::Cow;

use toml::de::DeValue;

use super::command::CommandText;
use super::duration::Span;
use super::probe::MAX_THRESHOLD;
use super::request::{RawHeaders, RawJson, SecretText};
use super::scalar::{Filled, Int, Text};
use super::stop::MethodWord;
use crate::read::{Element, Key, Located, Node, Reader, Table, no_hint, schema_of, table};

table! {
    /// A check and its times; exactly one check. Short: `"notify"`, `"none"`, or an address that starts with `http://`, `https://`, `tcp://` or `unix:`.
    ReadyTable {
        /// Ready when this `http://` or `https://` address answers with a status of `status`.
        http: Filled = "–", live;
        /// With `http`: the method.
        method: MethodWord = "`\"GET\"`; with `send` `\"POST\"`", live;
        /// With `http`: headers that are sent along; never shown.
        headers: RawHeaders = "none", live;
        /// With `http`: the body of the request; never shown.
        send: SecretText = "none", live;
        /// With `http`: which statuses mean ready: a number, a range, or a list of them.
        status: Statuses = "`\"200-399\"`", live;
        /// With `http`: text that the answer must hold.
        body: Text = "any", live;
        /// With `http`: a regular expression that must match somewhere in the answer.
        body_matches: Pattern = "any", live;
        /// With `http`: what the answer, as JSON, must hold: JSON pointers and values.
        json: RawJson = "any", live;
        /// With `https://`: file of the authorities that are trusted, PEM.
        ca: Filled = "those of the system", live;
        /// With `https://`: file of the certificate that keepwell shows, PEM.
        certificate: Filled = "none", live;
        /// With `certificate`: file of its private key, PEM.
        key: Filled = "none", live;
        /// Ready when something listens at this `host:port`.
        tcp: Filled = "–", live;
        /// Ready when something listens at this Unix socket.
        unix: Filled = "–", live;
        /// Ready when the standard health service of gRPC at this `host:port` (or `https://host:port`) says `SERVING`.
        grpc: Filled = "–", live;
        /// With `grpc`: the service that is asked about.
        service: Filled = "the whole server", live;
        /// Ready when something listens at this named pipe, on Windows: `\\.\pipe\name`, or the name alone.
        pipe: Filled = "–", live;
        /// Ready when this command exits with 0.
        exec: CommandText = "–", live;
        /// Ready when a line of output matches this regular expression. Nothing is filled in.
        log: Pattern = "–", live;
        /// Ready when this file exists.
        file: Filled = "–", live;
        /// Ready when the program says so by `sd_notify` (`READY=1`).
        notify: bool = "–", restart;
        /// Ready this long after the start.
        delay: Span = "–", live;
        /// With `http`, `tcp`, `unix`, `pipe`, `grpc`, `exec`, `file`: from one attempt to the next.
        period: Span = "`\"1s\"`", live;
        /// The whole time to become ready after the start; then the start has failed. With a threshold: the time of one attempt.
        timeout: Span = "`\"60s\"`; with a threshold `\"1s\"`", live;
        /// With `http`, `tcp`, `unix`, `pipe`, `grpc`, `exec`: so many passes in a row make it ready. The check goes on when it has passed.
        success_threshold: Int<1, MAX_THRESHOLD> = "1", live;
        /// With `http`, `tcp`, `unix`, `pipe`, `grpc`, `exec`: so many failures in a row take readiness away. The check goes on when it has passed.
        failure_threshold: Int<1, MAX_THRESHOLD> = "none: the check ends with its first success", live;
        /// With `notify`: without `WATCHDOG=1` for this long after it was ready, the program is ended and restarted.
        watchdog: Span = "none", restart;
    }
}

/// A check, or the word that there is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawReady {
    /// `"none"`: `[defaults]` has a check, this service has not.
    pub(crate) none: bool,
    pub(crate) table: ReadyTable,
}

impl ReadyTable {
    /// Whether the check is tried on when it has passed.
    pub(crate) fn goes_on(&self) -> bool {
        self.success_threshold.is_some() || self.failure_threshold.is_some()
    }

    /// The checks that are written here, by their keys.
    pub(crate) fn checks(&self) -> Vec<(&'static str, crate::read::At)> {
        let t = self;
        let all = [
            ("http", t.http.as_ref().map(|l| l.at)),
            ("tcp", t.tcp.as_ref().map(|l| l.at)),
            ("unix", t.unix.as_ref().map(|l| l.at)),
            ("pipe", t.pipe.as_ref().map(|l| l.at)),
            ("grpc", t.grpc.as_ref().map(|l| l.at)),
            ("exec", t.exec.as_ref().map(|l| l.at)),
            ("log", t.log.as_ref().map(|l| l.at)),
            ("file", t.file.as_ref().map(|l| l.at)),
            ("notify", t.notify.as_ref().map(|l| l.at)),
            ("delay", t.delay.as_ref().map(|l| l.at)),
        ];
        all.into_iter().filter_map(|(name, at)| at.map(|at| (name, at))).collect()
    }
}

impl Element for RawReady {
    fn what() -> Cow<'static, str> {
        "a readiness check".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a string (\"notify\", \"none\", \"http://127.0.0.1:8080/\", \"tcp://127.0.0.1:5432\", \"unix:run/db.sock\") or \
         a table with one of http, tcp, unix, pipe, grpc, exec, log, file, notify, delay ({ http = \"http://127.0.0.1:8080/\", \
         period = \"1s\", timeout = \"60s\" })"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => short(s, at).or_else(|| {
                let label = match super::duration::parse(s) {
                    Ok(_) => "write { delay = \"…\" }",
                    Err(_) => "no check is written like this",
                };
                r.bad(at, key, label)
            }),
            DeValue::Table(t) => {
                Some(Self { none: false, table: ReadyTable::read_table(r, t, key, no_hint) })
            }
            _ => r.wrong_type(node, key),
        }
    }
    fn inherit(&mut self, defaults: &Self) {
        let mut shared = defaults.table.clone();
        if self.none || !self.table.checks().is_empty() {
            // Another check: of the shared one only the times remain.
            shared = ReadyTable { period: shared.period, timeout: shared.timeout, ..ReadyTable::default() };
        } else {
            self.none = defaults.none;
        }
        self.table.inherit_table(&shared);
    }
}
schema_of!(RawReady, |_generator| schemars::json_schema!({ "anyOf": [
    { "enum": ["none", "notify"] },
    { "type": "string", "pattern": "^(https?://|tcp://|unix:)" },
    ReadyTable::table_schema(_generator)
] }));

pub(crate) fn short(text: &str, at: crate::read::At) -> Option<RawReady> {
    let mut ready = RawReady::default();
    let filled = |text: &str| Some(Located { value: Filled(text.into()), at });
    match text {
        "none" => ready.none = true,
        "notify" => ready.table.notify = Some(Located { value: true, at }),
        _ if text.starts_with("http://") || text.starts_with("https://") => ready.table.http = filled(text),
        _ => match (text.strip_prefix("tcp://"), text.strip_prefix("unix:")) {
            (Some(address), _) if !address.is_empty() => ready.table.tcp = filled(address),
            (_, Some(path)) if !path.is_empty() => ready.table.unix = filled(path),
            _ => return None,
        },
    }
    Some(ready)
}

/// Ranges of HTTP statuses, both ends included.
#[derive(Clone, Debug)]
pub(crate) struct Statuses(pub(crate) Box<[(u16, u16)]>);

impl Element for Statuses {
    fn what() -> Cow<'static, str> {
        "a status, a range, or a list of them".into()
    }
    fn syntax() -> Cow<'static, str> {
        "200, \"200-299\", \"200-299,401\" or [200, 204, \"300-399\"]; from 100 to 599".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(items) if items.is_empty() => {
                r.bad(r.at(node.span()), key, "it is empty: nothing would mean ready")
            }
            DeValue::Array(items) => {
                let all: Vec<_> = items.iter().map(|i| one_status(r, i, key)).collect();
                all.into_iter().collect::<Option<Vec<_>>>().map(|v| Self(v.concat().into()))
            }
            _ => one_status(r, node, key).map(|s| Self(s.into())),
        }
    }
}
schema_of!(Statuses, |_generator| {
    let number = schemars::json_schema!({ "type": "integer", "minimum": 100, "maximum": 599 });
    let range = schemars::json_schema!({ "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?( *, *[1-5][0-9]{2}(-[1-5][0-9]{2})?)*$" });
    schemars::json_schema!({ "anyOf": [
        number, range, { "type": "array", "minItems": 1, "items": { "anyOf": [number, range] } }
    ] })
});

fn one_status(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Vec<(u16, u16)>> {
    let number = |s: &str| s.trim().parse::<u16>().ok().filter(|n| (100..600).contains(n));
    let range = match node.get_ref() {
        DeValue::Integer(n) => number(n.as_str()).map(|n| vec![(n, n)]),
        DeValue::String(s) => s
            .split(',')
            .map(|part| match part.split_once('-') {
                Some((low, high)) => number(low).zip(number(high)).filter(|(low, high)| low <= high),
                None => number(part).map(|n| (n, n)),
            })
            .collect(),
        _ => {
            let _: Option<Statuses> = r.wrong_type(node, key);
            return None;
        }
    };
    if range.is_none() {
        let _: Option<Statuses> = r.bad(r.at(node.span()), key, "no status is written like this");
    }
    range
}

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(pub(crate) Box<str>);

impl Element for Pattern {
    fn what() -> Cow<'static, str> {
        "a regular expression".into()
    }
    fn syntax() -> Cow<'static, str> {
        "single quotes leave backslashes alone: '^listening on .*:\\d+'; it may match anywhere in a line"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let DeValue::String(s) = node.get_ref() else { return r.wrong_type(node, key) };
        let at = r.at(node.span());
        if s.is_empty() {
            return r.bad(at, key, "it is empty: every line would match");
        }
        match regex_lite::Regex::new(s) {
            Ok(_) => Some(Self(s.as_ref().into())),
            Err(e) => r.bad(at, key, e.to_string()),
        }
    }
}
schema_of!(Pattern, |_generator| schemars::json_schema!({ "type": "string", "minLength": 1 }));
