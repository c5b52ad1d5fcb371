//! Readiness: one check, and the times that go with it.

use std::time::Duration;

use keepwell_core::spec::{Kind, Readiness, System};

use super::Building;
use crate::config::{Method, Ready};
use crate::element::duration::Span;
use crate::element::ready::{RawReady, ReadyTable};
use crate::element::service::RawService;
use crate::http::GrpcAsk;
use crate::read::{At, Draft, Located, Reader};

/// From one attempt to the next.
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// More often would load the service that is starting.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);
/// The whole time to become ready.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The decision's half and the shell's.
pub(super) struct Built {
    pub(super) spec: Readiness,
    pub(super) how: Ready,
    pub(super) watchdog: Option<Duration>,
}

/// More than one check in one table, or a check that is switched off.
pub(super) fn one_check(r: &mut Reader<'_>, raw: &RawReady, table: &str) {
    let mut checks = raw.table.checks();
    checks.sort_by_key(|(_, at)| *at);
    if let [(first, first_at), (second, at), ..] = checks.as_slice() {
        let d = Draft::error("ambiguous", *at, format!("{table} has two checks: `{first}` and `{second}`"));
        r.push(d.label("take one of them away").also(*first_at, "the other one"));
    }
    if let Some(n) = raw.table.notify.as_ref().filter(|n| !n.value) {
        let d = Draft::error("bad-value", n.at, format!("`notify` in {table} can only be true"));
        r.push(d.label("leave it out, or write ready = \"none\""));
    }
}

/// Which of the other keys go with a check.
fn goes_with(check: &str, key: &str) -> bool {
    match key {
        "ca" | "certificate" | "key" => matches!(check, "http" | "grpc"),
        "method" | "headers" | "send" | "status" | "body" | "body_matches" | "json" => check == "http",
        "service" => check == "grpc",
        "watchdog" => check == "notify",
        "period" => matches!(check, "http" | "tcp" | "unix" | "pipe" | "grpc" | "exec" | "file"),
        "success_threshold" | "failure_threshold" => {
            matches!(check, "http" | "tcp" | "unix" | "pipe" | "grpc" | "exec")
        }
        _ => check != "delay",
    }
}

fn extras(t: &ReadyTable) -> impl Iterator<Item = (&'static str, At)> {
    let all = [
        ("service", t.service.as_ref().map(|l| l.at)),
        ("period", t.period.as_ref().map(|l| l.at)),
        ("timeout", t.timeout.as_ref().map(|l| l.at)),
        ("watchdog", t.watchdog.as_ref().map(|l| l.at)),
        ("success_threshold", t.success_threshold.as_ref().map(|l| l.at)),
        ("failure_threshold", t.failure_threshold.as_ref().map(|l| l.at)),
    ];
    super::http::keys(t).into_iter().chain(all).filter_map(|(name, at)| at.map(|at| (name, at)))
}

impl Building<'_, '_> {
    /// What a service itself writes must have an effect; what it takes over from `[defaults]` need not.
    pub(super) fn own_ready(&mut self, own: &RawService) {
        let Some(ready) = &own.ready else { return };
        let table = format!("services.{}.ready", self.name);
        one_check(self.r, &ready.value, &table);
        let checks = ready.value.table.checks();
        let [(check, _)] = checks.as_slice() else { return };
        if !ready.value.table.bad.is_empty() {
            return;
        }
        for (key, at) in extras(&ready.value.table).filter(|(key, _)| !goes_with(check, key)) {
            let d = Draft::error("no-effect", at, format!("`{key}` in {table} has no effect with `{check}`"));
            self.tell(d.label("take it away"));
        }
    }

    pub(super) fn ready(&mut self, raw: &RawService, kind: Kind) -> Built {
        let none = Built { spec: Readiness::None, how: Ready::None, watchdog: None };
        let Some(ready) = &raw.ready else { return none };
        let (t, at) = (&ready.value.table, ready.at);
        if ready.value.none {
            return none;
        }
        let checks = t.checks();
        if kind == Kind::Oneshot {
            if !checks.is_empty() {
                let message =
                    format!("services.{} is a oneshot, which is never ready: it completes", self.name);
                let d = Draft::error("no-effect", at, message);
                self.tell(d.label("write ready = \"none\", or leave `ready` out"));
            }
            return none;
        }
        if checks.is_empty() {
            if let Some((key, at)) = extras(t).next().filter(|_| t.bad.is_empty()) {
                let message = format!("`{key}` in services.{}.ready has no check to go with", self.name);
                let d = Draft::error("missing-key", at, message).label("what shall be checked?");
                self.tell(d.help("one of http, tcp, unix, pipe, grpc, exec, log, file, notify, delay"));
            }
            return none;
        }
        let table = format!("services.{}.ready", self.name);
        let period = self.span(t.period.as_ref(), PERIOD, "period", &table);
        let whole = t.timeout.as_ref().filter(|_| !t.goes_on());
        let timeout = self.span(whole, TIMEOUT, "timeout", &table);
        let watchdog = t.watchdog.as_ref().filter(|_| t.notify.is_some());
        let watchdog = watchdog.map(|w| self.span(Some(w), TIMEOUT, "watchdog", &table));
        let how = self.check(t, "ready");
        let spec = match &how {
            Ready::None => Readiness::None,
            Ready::Delay(d) => Readiness::Delay(*d),
            Ready::Http(_)
            | Ready::Tcp(_)
            | Ready::Unix(_)
            | Ready::Pipe(_)
            | Ready::Grpc(_)
            | Ready::Exec(_)
            | Ready::File(_) => Readiness::Probe { period, timeout },
            Ready::Log { .. } | Ready::Notify => Readiness::Signalled { timeout },
            // A readiness check never makes this one.
            Ready::Fresh { .. } | Ready::Line { .. } => Readiness::None,
        };
        Built { spec, how, watchdog }
    }

    /// What is asked. `purpose`: the key that it stands under.
    pub(super) fn check(&mut self, t: &ReadyTable, purpose: &str) -> Ready {
        if let Some(url) = &t.http {
            let method = if t.send.is_some() { Method::Post } else { Method::Get };
            let table = format!("services.{}.{purpose}", self.name);
            let request = self.http_request(t, &url.value.0, method, &table);
            return Ready::Http(Box::new((request, super::http::http_expect(t))));
        }
        if let Some(address) = &t.tcp {
            return Ready::Tcp(address.value.0.clone());
        }
        if let Some(path) = &t.unix {
            return Ready::Unix(path.value.0.clone());
        }
        if let Some(name) = &t.pipe {
            if self.cx.system == System::Unix {
                let message = format!("`pipe` in services.{}.{purpose} can never pass", self.name);
                let d = Draft::error("bad-value", name.at, message).label("only Windows has named pipes");
                self.tell(d.help("unix = \"run/db.sock\""));
            }
            return Ready::Pipe(name.value.0.clone());
        }
        if let Some(address) = &t.grpc {
            let table = format!("services.{}.{purpose}", self.name);
            let https = address.value.0.starts_with("https://");
            let url = if https { "https://" } else { "http://" };
            let request = self.http_request(t, url, Method::Post, &table);
            return Ready::Grpc(Box::new(GrpcAsk {
                address: address.value.0.clone(),
                service: t.service.as_ref().map_or_else(Box::default, |s| s.value.0.clone()),
                ca: request.ca,
                identity: request.identity,
            }));
        }
        if let Some(path) = &t.file {
            return Ready::File(path.value.0.clone());
        }
        if let Some(pattern) = &t.log {
            return Ready::Log { pattern: pattern.value.0.clone() };
        }
        if let Some(delay) = &t.delay {
            return Ready::Delay(delay.value.0);
        }
        if let Some(command) = &t.exec {
            let key = format!("`exec` in services.{}.{purpose}", self.name);
            return self.command(command, &key, false).map_or(Ready::None, Ready::Exec);
        }
        if t.notify.is_some() { Ready::Notify } else { Ready::None }
    }

    /// A time of a check in `table`, or its default.
    pub(super) fn span(
        &mut self,
        raw: Option<&Located<Span>>,
        default: Duration,
        key: &str,
        table: &str,
    ) -> Duration {
        let Some(raw) = raw else { return default };
        if raw.value.0 < SHORTEST_PERIOD {
            let message = format!("`{key}` in {table} must be at least 10ms");
            self.tell(Draft::error("bad-value", raw.at, message).label("too short"));
        }
        raw.value.0
    }
}
