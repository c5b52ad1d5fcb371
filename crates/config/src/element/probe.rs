//! `startup = { http = "…", failure_threshold = 30 }` and `live = [{ tcp = "127.0.0.1:8080" }, { exec = ["./is-well"] }]`: checks
//! that go on.

use std::borrow::Cow;

use toml::de::DeValue;

use super::command::CommandText;
use super::duration::Span;
use super::live::{LiveTable, Way};
use super::ready::{Pattern, ReadyTable, Statuses, short};
use super::request::{RawHeaders, RawJson, SecretText};
use super::scalar::{Filled, Int, Text, list};
use super::stop::MethodWord;
use crate::read::{Element, Key, Located, Node, Reader, Table, no_hint, schema_of, table};

/// More failures than these in a row are not waited for by anybody.
pub(crate) const MAX_THRESHOLD: i64 = 10_000;

table! {
    /// A check that goes on, with exactly one of `http`, `tcp`, `unix`, `pipe`, `grpc`, `exec`, `log`, `no_log`, `file`. Short: an address that starts with `http://`, `https://`, `tcp://` or `unix:`.
    RawProbe {
        /// Passes when this `http://` or `https://` address answers with a status of `status`.
        http: Filled = "–", live;
        /// With `http`: the method.
        method: MethodWord = "`\"GET\"`; with `send` `\"POST\"`", live;
        /// With `http`: headers that are sent along; never shown.
        headers: RawHeaders = "none", live;
        /// With `http`: the body of the request; never shown.
        send: SecretText = "none", live;
        /// With `http`: which statuses pass: a number, a range, or a list of them.
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
        /// Passes when something listens at this `host:port`.
        tcp: Filled = "–", live;
        /// Passes when something listens at this Unix socket.
        unix: Filled = "–", live;
        /// Passes when the standard health service of gRPC at this `host:port` (or `https://host:port`) says `SERVING`.
        grpc: Filled = "–", live;
        /// With `grpc`: the service that is asked about.
        service: Filled = "the whole server", live;
        /// Passes when something listens at this named pipe, on Windows: `\\.\pipe\name`, or the name alone.
        pipe: Filled = "–", live;
        /// Passes when a line of output that matches this regular expression came within `within`; for `startup`: since the start.
        log: Pattern = "–", live;
        /// Fails when a line of output that matches this regular expression came within `within`.
        no_log: Pattern = "–", live;
        /// Passes when this command exits with 0; 2 says that it cannot tell, which never counts.
        exec: CommandText = "–", live;
        /// Passes when this file was written within `within`.
        file: Filled = "–", live;
        /// With `file`, `log` and `no_log`: how long ago.
        within: Span = "`\"60s\"`", live;
        /// From one attempt to the next.
        period: Span = "`\"5s\"`", live;
        /// An attempt that takes longer has failed.
        timeout: Span = "`\"1s\"`", live;
        /// No attempt so long after the start.
        initial_delay: Span = "`\"0s\"`", live;
        /// So many passes in a row make it well again.
        success_threshold: Int<1, MAX_THRESHOLD> = "1", live;
        /// So many failures in a row make it ill.
        failure_threshold: Int<1, MAX_THRESHOLD> = "3; for `startup` 30", live;
    }
}

impl RawProbe {
    /// What is asked, as a readiness check says it. A file is none of those: it goes stale.
    pub(crate) fn asked(&self) -> ReadyTable {
        ReadyTable {
            http: self.http.clone(),
            status: self.status.clone(),
            body: self.body.clone(),
            method: self.method.clone(),
            headers: self.headers.clone(),
            send: self.send.clone(),
            body_matches: self.body_matches.clone(),
            json: self.json.clone(),
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            tcp: self.tcp.clone(),
            unix: self.unix.clone(),
            pipe: self.pipe.clone(),
            grpc: self.grpc.clone(),
            service: self.service.clone(),
            exec: self.exec.clone(),
            log: self.log.clone(),
            file: self.file.clone(),
            bad: self.bad.clone(),
            ..ReadyTable::default()
        }
    }
}

impl Element for RawProbe {
    fn what() -> Cow<'static, str> {
        "a check".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a string (\"http://127.0.0.1:8080/health\", \"tcp://127.0.0.1:5432\", \"unix:run/db.sock\") or a table with one of \
         http, tcp, unix, pipe, grpc, exec, log, no_log, file ({ http = \"http://127.0.0.1:8080/health\", period = \"5s\", timeout = \"1s\", \
         failure_threshold = 3 })"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => {
                let read = short(s, at).map(|raw| raw.table);
                let asked = read.filter(|t| t.http.is_some() || t.tcp.is_some() || t.unix.is_some());
                match asked {
                    Some(t) => Some(Self { http: t.http, tcp: t.tcp, unix: t.unix, ..Self::default() }),
                    None => r.bad(at, key, "no check is written like this"),
                }
            }
            DeValue::Table(t) => Some(Self::read_table(r, t, key, no_hint)),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawProbe, |generator| schemars::json_schema!({ "anyOf": [
    { "type": "string", "pattern": "^(https?://|tcp://|unix:)" }, Self::table_schema(generator)
] }));

/// Checks and a heartbeat: one of them or a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawProbes(pub(crate) Vec<RawProbe>, pub(crate) Option<Located<LiveTable>>);

/// A check, or a heartbeat.
#[derive(Clone)]
enum OneOf {
    Probe(Box<RawProbe>),
    Heartbeat(Located<LiveTable>),
}

impl RawProbes {
    /// False: a second heartbeat.
    fn take(&mut self, one: OneOf) -> bool {
        match one {
            OneOf::Probe(probe) => self.0.push(*probe),
            OneOf::Heartbeat(beat) => return self.1.replace(beat).is_none(),
        }
        true
    }
}

impl Element for OneOf {
    fn what() -> Cow<'static, str> {
        RawProbe::what()
    }
    fn syntax() -> Cow<'static, str> {
        format!("{}, or {}", RawProbe::syntax(), LiveTable::syntax()).into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        let beat = match node.get_ref() {
            DeValue::String(s) if s.as_ref() == "heartbeat" => {
                LiveTable { heartbeat: Some(Located { value: Way::Own, at }), ..LiveTable::default() }
            }
            DeValue::Table(t) if t.contains_key("heartbeat") => LiveTable::read_table(r, t, key, no_hint),
            _ => return RawProbe::read(r, node, key).map(|probe| Self::Probe(Box::new(probe))),
        };
        Some(Self::Heartbeat(Located { value: beat, at }))
    }
}
schema_of!(OneOf, |generator| schemars::json_schema!({ "anyOf": [
    { "const": "heartbeat" }, generator.subschema_for::<RawProbe>(), LiveTable::table_schema(generator)
] }));

/// More checks of one service say no more than these.
const MAX_PROBES: usize = 16;

impl Element for RawProbes {
    fn what() -> Cow<'static, str> {
        "a check or a list of checks".into()
    }
    fn syntax() -> Cow<'static, str> {
        "[{ http = \"http://127.0.0.1:8080/health\" }, { tcp = \"127.0.0.1:8080\" }, { heartbeat = true, lost_after = \"15s\" }]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(items) if items.len() > MAX_PROBES => {
                r.bad(r.at(node.span()), key, format!("at most {MAX_PROBES} checks"))
            }
            DeValue::Array(_) => {
                let mut all = Self::default();
                for one in list::<OneOf, Self>(r, node, key)? {
                    if !all.take(one) {
                        return r.bad(r.at(node.span()), key, "a service has one heartbeat");
                    }
                }
                Some(all)
            }
            DeValue::String(_) | DeValue::Table(_) => {
                let mut all = Self::default();
                all.take(OneOf::read(r, node, key)?);
                Some(all)
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawProbes, |generator| {
    let one = generator.subschema_for::<OneOf>();
    schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one, "maxItems": MAX_PROBES }] })
});
