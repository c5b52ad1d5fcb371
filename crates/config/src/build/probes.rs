//! Checks that go on: `startup`, `live`, and `ready` where it has thresholds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::spec::{HEALING_LIMIT, Healing, Kind, Probe, Purpose};

use super::Building;
use super::policy::limit;
use crate::config::{Command, Ready, ServiceConfig};
use crate::element::healing::RawHealing;
use crate::element::probe::RawProbe;
use crate::element::ready::{Pattern, ReadyTable};
use crate::element::scalar::Int;
use crate::element::service::RawService;
use crate::http::LineRule;
use crate::read::{At, Draft, Located, Reader};
use crate::resolve::Filler;

/// From one attempt to the next.
const PERIOD: Duration = Duration::from_secs(5);
/// Of one attempt.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A file that is written more seldom says little of life.
const WITHIN: Duration = Duration::from_secs(60);

/// The decision's half and the shell's, in the same order.
#[derive(Default)]
pub(super) struct Built {
    pub(super) specs: Vec<Probe>,
    pub(super) how: Vec<Ready>,
    /// What could be asked, and where it stands, for the look at its address.
    pub(super) places: Vec<(&'static str, At)>,
}

impl Building<'_, '_> {
    pub(super) fn probes(&mut self, raw: &RawService, kind: Kind) -> Built {
        let mut built = Built::default();
        let live = raw.live.as_ref().map(|l| (l.at, l.value.0.as_slice())).unwrap_or_default();
        if kind == Kind::Oneshot {
            let written =
                [("startup", raw.startup.as_ref().map(|s| s.at)), ("live", raw.live.as_ref().map(|l| l.at))];
            for (key, at) in written.into_iter().filter_map(|(key, at)| Some((key, at?))) {
                let message = format!("`{key}` of services.{} has no effect: a oneshot completes", self.name);
                self.tell(Draft::error("no-effect", at, message).label("leave it out"));
            }
            return built;
        }
        if let Some(startup) = &raw.startup {
            self.probe(&startup.value, Purpose::Startup, startup.at, &mut built);
        }
        if let Some(ready) = raw.ready.as_ref().filter(|r| !r.value.none) {
            self.ready_goes_on(&ready.value.table, ready.at, &mut built);
        }
        for probe in live.1 {
            self.probe(probe, Purpose::Live, live.0, &mut built);
        }
        built
    }

    fn probe(&mut self, raw: &RawProbe, purpose: Purpose, at: At, built: &mut Built) {
        let table = format!("services.{}.{}", self.name, purpose.name());
        let asked = raw.asked();
        let mut checks = asked.checks();
        checks.extend(raw.no_log.as_ref().map(|l| ("no_log", l.at)));
        match checks.as_slice() {
            [] if raw.bad.is_empty() => {
                let d =
                    Draft::error("missing-key", at, format!("a check in {table} says not what is checked"));
                self.tell(
                    d.label("what shall be checked?")
                        .help("one of http, tcp, unix, pipe, grpc, exec, log, no_log, file"),
                );
                return;
            }
            [] => return,
            [_] => {}
            [(first, first_at), (second, at), ..] => {
                let message = format!("a check in {table} is two: `{first}` and `{second}`");
                let d = Draft::error("ambiguous", *at, message).label("make it a check of its own");
                self.tell(d.also(*first_at, "the other one"));
                return;
            }
        }
        let [(check, at)] = checks.as_slice() else { return };
        self.extras(raw, check, &table);
        let within = self.span(raw.within.as_ref(), WITHIN, "within", &table);
        let line = |pattern: &Located<Pattern>, rule| Ready::Line { pattern: pattern.value.0.clone(), rule };
        let how = match (&raw.file, &raw.log, &raw.no_log) {
            (Some(path), ..) => Ready::Fresh { path: path.value.0.clone(), within },
            (None, Some(log), _) if purpose == Purpose::Startup => line(log, LineRule::Once),
            (None, Some(log), _) => line(log, LineRule::Within(within)),
            (None, None, Some(log)) => line(log, LineRule::NotWithin(within)),
            (None, None, None) => self.check(&asked, purpose.name()),
        };
        if let Some(within) = raw.within.as_ref().filter(|_| how.is_line_once()) {
            let message = format!("`within` in {table} has no effect: it looks at all lines since the start");
            self.tell(Draft::error("no-effect", within.at, message).label("take it away"));
        }
        if how == Ready::None {
            return;
        }
        let failures = if purpose == Purpose::Startup { 30 } else { 3 };
        built.specs.push(Probe {
            purpose,
            name: name(&how),
            period: self.span(raw.period.as_ref(), PERIOD, "period", &table),
            timeout: self.span(raw.timeout.as_ref(), TIMEOUT, "timeout", &table),
            initial_delay: raw.initial_delay.as_ref().map_or(Duration::ZERO, |d| d.value.0),
            success_threshold: number(raw.success_threshold.as_ref(), 1),
            failure_threshold: number(raw.failure_threshold.as_ref(), failures),
        });
        built.how.push(how);
        built.places.push((purpose.name(), *at));
    }

    /// Keys that say nothing beside this check.
    fn extras(&mut self, raw: &RawProbe, check: &str, table: &str) {
        let http = super::http::keys(&raw.asked()).map(|(key, at)| {
            let with: &[&str] =
                if matches!(key, "ca" | "certificate" | "key") { &["http", "grpc"] } else { &["http"] };
            (key, at, with)
        });
        let all: [(_, _, &[&str]); 2] = [
            ("within", raw.within.as_ref().map(|l| l.at), &["file", "log", "no_log"]),
            ("service", raw.service.as_ref().map(|l| l.at), &["grpc"]),
        ];
        for (key, at, with) in http.into_iter().chain(all) {
            if let Some(at) = at.filter(|_| !with.contains(&check)) {
                let d =
                    Draft::error("no-effect", at, format!("`{key}` in {table} has no effect with `{check}`"));
                self.tell(d.label("take it away"));
            }
        }
    }

    /// A readiness check with thresholds is tried on when it has passed.
    fn ready_goes_on(&mut self, t: &ReadyTable, at: At, built: &mut Built) {
        if !t.goes_on() {
            return;
        }
        let table = format!("services.{}.ready", self.name);
        let how = self.check(t, "ready");
        let goes_on = matches!(
            how,
            Ready::Http(_)
                | Ready::Tcp(_)
                | Ready::Unix(_)
                | Ready::Pipe(_)
                | Ready::Grpc(_)
                | Ready::Exec(_)
        );
        if !goes_on {
            return;
        }
        built.specs.push(Probe {
            purpose: Purpose::Ready,
            name: name(&how),
            period: self.span(t.period.as_ref(), super::ready::PERIOD, "period", &table),
            timeout: self.span(t.timeout.as_ref(), TIMEOUT, "timeout", &table),
            initial_delay: Duration::ZERO,
            success_threshold: number(t.success_threshold.as_ref(), 1),
            failure_threshold: number(t.failure_threshold.as_ref(), 3),
        });
        built.how.push(how);
        built.places.push(("ready", at));
    }

    /// Addresses are whole only when they are filled in.
    pub(super) fn probe_targets(&mut self, config: &ServiceConfig, places: &[(&'static str, At)]) {
        let filler = Filler::new(self.name, 1, &config.env, self.cx);
        for (how, (key, at)) in config.probes.iter().zip(places) {
            if let Err(why) = config.resolved_check(how, &filler, self.cx) {
                let message = format!("`{key}` in services.{} is no address that can be checked", self.name);
                let help = match how {
                    Ready::Grpc(_) => "grpc = \"127.0.0.1:50051\"",
                    Ready::Http(_) => "http = \"http://127.0.0.1:8080/health\"",
                    _ => "tcp = \"127.0.0.1:5432\"",
                };
                self.tell(Draft::error("bad-value", *at, message).label(why).help(help));
            }
        }
    }
}

fn number<const MAX: i64>(raw: Option<&Located<Int<1, MAX>>>, default: u32) -> u32 {
    raw.map_or(default, |n| u32::try_from(n.value.0).unwrap_or(u32::MAX))
}

/// How people know a check. What stands behind a `?` may be a secret.
pub(super) fn name(how: &Ready) -> String {
    match how {
        Ready::Http(ask) => {
            let (scheme, address) = ask.0.url.split_once("://").unwrap_or(("http", &ask.0.url));
            format!("{scheme} {}", address.split(['?', '#']).next().unwrap_or_default())
        }
        Ready::Tcp(address) => format!("tcp {address}"),
        Ready::Unix(path) => format!("unix {path}"),
        Ready::Pipe(name) => format!("pipe {name}"),
        Ready::Grpc(ask) => match &*ask.service {
            "" => format!("grpc {}", ask.address),
            service => format!("grpc {} {service}", ask.address),
        },
        Ready::Line { pattern, rule: LineRule::NotWithin(_) } => format!("no_log {pattern}"),
        Ready::Line { pattern, .. } => format!("log {pattern}"),
        Ready::Fresh { path, .. } | Ready::File(path) => format!("file {path}"),
        Ready::Exec(Command::Words(words)) => format!("exec {}", words.first().map_or("", |w| w)),
        Ready::Exec(Command::Shell(_) | Command::Raw(_)) => "exec".to_owned(),
        Ready::None | Ready::Delay(_) | Ready::Log { .. } | Ready::Notify => String::new(),
    }
}

/// `[healing]`. `tags`: those that services have.
pub(crate) fn healing(r: &mut Reader<'_>, raw: &RawHealing, tags: &BTreeSet<&str>) -> Healing {
    let mut healing = Healing::default();
    if let Some(raw) = &raw.limit {
        healing.limit = limit(r, &raw.value, HEALING_LIMIT, "healing.limit");
    }
    for (name, at, raw) in raw.groups.iter().flat_map(|g| &g.value.0) {
        if !tags.contains(name.as_str()) {
            let d = Draft::warning("no-effect", *at, format!("no service has the tag `{name}`"));
            r.push(
                d.label("a group is the services that have this tag").help(format!("tags = [\"{name}\"]")),
            );
        }
        if let Some(limit) = limit(r, raw, HEALING_LIMIT, "healing.groups") {
            healing.groups.insert(Arc::from(name.as_str()), limit);
        }
    }
    healing
}
