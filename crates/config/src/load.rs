//! Text to configuration: parse each file, read its tables, lay `[defaults]` under each service, build, cross-check. Pure.
//! Errors are collected; nothing stops at the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepwell_core::Specs;
use keepwell_core::spec::Kind;
use toml::de::{DeTable, DeValue};

use crate::build::{self, Asked, Neighbours};
use crate::check;
use crate::config::{Config, Context, ServiceConfig};
use crate::diagnostic::Diagnostics;
use crate::element::guardian::RawGuardian;
use crate::element::healing::RawHealing;
use crate::element::service::RawService;
use crate::read::{At, Draft, Element, Key, Located, Name, Node, Reader, Table as _, nearest};
use crate::source::Source;
use crate::syntax;

/// What all files say together, before anything is filled in.
#[derive(Default)]
struct Gathered {
    services: BTreeMap<Arc<str>, Read>,
    defaults: Option<Located<RawService>>,
    guardian: Option<Located<RawGuardian>>,
    healing: Option<Located<RawHealing>>,
}

/// A service as it was read.
struct Read {
    raw: RawService,
    /// The place of its name.
    at: At,
    /// It is no table at all.
    broken: bool,
}

/// Makes the configuration of the files' text. Reads nothing else; `env_file`s are read when a service is resolved.
///
/// # Errors
/// All errors of all files, in the order of their places.
pub fn load(sources: &[Source], cx: &Context) -> Result<Config, Diagnostics> {
    let mut r = Reader::new(sources);
    let mut gathered = Gathered::default();
    let mut whole = true;
    for (i, source) in sources.iter().enumerate() {
        r.file = u32::try_from(i).unwrap_or(u32::MAX);
        let (document, errors) = DeTable::parse_recoverable(&source.text);
        if !errors.is_empty() {
            whole = false;
            syntax::report(&mut r, document.get_ref(), &errors);
        } else {
            root(&mut r, document.get_ref(), &mut gathered);
        }
    }
    // With a file that cannot be parsed, names that seem to be missing may stand there.
    let config = if whole { resolve(&mut r, gathered, cx) } else { Config::default() };
    let (errors, warnings) = r.finish();
    if errors.0.is_empty() { Ok(Config { warnings, ..config }) } else { Err(errors) }
}

fn root(r: &mut Reader<'_>, document: &DeTable<'_>, into: &mut Gathered) {
    for (name, node) in document.iter() {
        match name.get_ref().as_ref() {
            "services" => services(r, node, into),
            "defaults" => {
                let old = into.defaults.as_ref().map(|d| d.at);
                if let Some(raw) = once::<RawService>(r, name, node, old) {
                    into.defaults = Some(raw);
                }
            }
            "keepwell" => {
                let old = into.guardian.as_ref().map(|g| g.at);
                if let Some(raw) = once::<RawGuardian>(r, name, node, old) {
                    into.guardian = Some(raw);
                }
            }
            "healing" => {
                let old = into.healing.as_ref().map(|h| h.at);
                if let Some(raw) = once::<RawHealing>(r, name, node, old) {
                    into.healing = Some(raw);
                }
            }
            other => {
                let hint = root_hint(other, node.get_ref());
                r.unknown_key(name, &Key::ROOT, &["services", "defaults", "keepwell", "healing"], hint);
            }
        }
    }
}

/// A service written one level too high, or a key that belongs into a table.
fn root_hint(name: &str, value: &DeValue<'_>) -> Option<String> {
    if matches!(value, DeValue::Table(t) if t.contains_key("command")) {
        return Some(format!("a service is written as [services.{name}]"));
    }
    if RawGuardian::NAMES.contains(&name) {
        return Some(format!("it belongs into [keepwell]: keepwell.{name}"));
    }
    RawService::NAMES.contains(&name).then(|| "it belongs into a [services.NAME]".to_owned())
}

/// A table that one file may have, wherever it is; its place is that of its name.
fn once<T: Element>(
    r: &mut Reader<'_>,
    name: &Name<'_>,
    node: &Node<'_>,
    old: Option<At>,
) -> Option<Located<T>> {
    let at = r.at(name.span());
    if let Some(old) = old {
        let d = Draft::error("duplicate-table", at, format!("[{}] is written in two files", name.get_ref()));
        r.push(d.label("a second time").also(old, "first here").help("put both into one"));
        return None;
    }
    let value = r.field::<T>(name, node, &Key::ROOT)?.value;
    Some(Located { value, at })
}

fn services(r: &mut Reader<'_>, node: &Node<'_>, into: &mut Gathered) {
    let key = Key::ROOT.child("services");
    let DeValue::Table(table) = node.get_ref() else {
        let d = Draft::error("wrong-type", r.at(node.span()), "`services` must be a table of services");
        r.push(d.label(format!("found {}", crate::read::found(node.get_ref()))).help("[services.web]"));
        return;
    };
    for (name, node) in table.iter() {
        let at = r.at(name.span());
        if let Some(first) = into.services.get(name.get_ref().as_ref()) {
            let d = Draft::error(
                "duplicate-service",
                at,
                format!("service `{}` is defined twice", name.get_ref()),
            );
            r.push(d.label("a second time").also(first.at, "first here").help("a service is defined once"));
            continue;
        }
        check::service_name(r, name.get_ref(), at);
        let read = r.field::<RawService>(name, node, &key);
        let broken = read.is_none();
        let raw = read.map(|l| l.value).unwrap_or_default();
        into.services.insert(name.get_ref().as_ref().into(), Read { raw, at, broken });
    }
}

fn resolve(r: &mut Reader<'_>, gathered: Gathered, cx: &Context) -> Config {
    let Gathered { mut services, defaults, guardian, healing } = gathered;
    if services.is_empty() && r.errors() == 0 {
        let d = Draft::error("no-services", At::default(), "no service is defined");
        r.push(
            d.label("there is nothing to keep running")
                .help("[services.web]\ncommand = [\"program\", \"argument\"]"),
        );
    }
    let defaults = defaults.map(|d| d.value);
    if let Some(d) = &defaults {
        build::check_defaults(r, d);
    }
    let bad = guardian.as_ref().is_some_and(|g| g.value.bad.contains(&"heartbeat"));
    let receivers = guardian.as_ref().and_then(|g| g.value.notify.clone());
    let guardian = guardian.map(|g| build::guardian(r, cx, &g.value)).unwrap_or_default();
    let heartbeat = match guardian.heartbeat {
        Some(address) => Asked::Is(address),
        None if bad => Asked::Bad,
        None => Asked::Not,
    };
    let kinds: Neighbours =
        services.iter().map(|(name, s)| (name.clone(), kind(s, defaults.as_ref()))).collect();
    let shared_env = defaults.as_ref().and_then(|d| d.env.as_ref()).map(|e| build::env(&e.value));
    let (mut read_specs, mut configs) = (Vec::new(), Vec::new());
    let mut places: BTreeMap<Arc<str>, At> = BTreeMap::new();
    for (name, read) in &mut services {
        places.insert(name.clone(), read.at);
        if read.broken {
            continue;
        }
        let raw = std::mem::take(&mut read.raw);
        let mut building =
            build::Building { r: &mut *r, cx, name, at: read.at, neighbours: &kinds, heartbeat };
        let (spec, config) = building.service(raw, defaults.as_ref(), shared_env.as_ref());
        read_specs.push((name.clone(), spec));
        configs.push((name.clone(), Arc::new(config)));
    }
    let tags = configs.iter().flat_map(|(_, c)| c.tags.iter().map(AsRef::as_ref)).collect();
    if let Some(receivers) = receivers {
        let names = places.keys().map(AsRef::as_ref).collect();
        build::check_receivers(r, &receivers.value, &names, &tags);
    }
    let (looked_at, evidence) = build::evidence(r, healing.as_ref().map(|h| &h.value));
    let mut healing = healing.map(|h| build::healing(r, &h.value, &tags)).unwrap_or_default();
    healing.evidence = looked_at;
    for ((_, spec), (_, config)) in read_specs.iter_mut().zip(&configs) {
        let group = |tag: &str| healing.groups.get_key_value(tag).map(|(name, _)| Arc::clone(name));
        spec.healing = config.tags.iter().filter_map(|tag| group(tag)).collect();
    }
    // Made from sorted pairs at once, a map has full nodes; one that is filled in order has them half empty, and these live
    // as long as the guardian.
    let specs = Specs {
        services: read_specs.into_iter().collect(),
        max_parallel_starts: guardian.max_parallel_starts,
        healing,
        sample_every: guardian.sample_every,
    };
    let built: BTreeMap<Arc<str>, Arc<ServiceConfig>> = configs.into_iter().collect();
    check::cycles(r, &specs, &places);
    check::disabled(r, &specs, &places);
    check::fallbacks(r, &specs, &places);
    check::log_files(r, &specs, &built, &places, cx);
    Config { specs, services: built, guardian, evidence, warnings: vec![] }
}

/// A service's kind; `None` where it is written, and wrong.
fn kind(own: &Read, defaults: Option<&RawService>) -> Option<Kind> {
    if own.broken || [Some(&own.raw), defaults].into_iter().flatten().any(|t| t.bad.contains(&"kind")) {
        return None;
    }
    let word = own.raw.kind.as_ref().or_else(|| defaults.and_then(|d| d.kind.as_ref()));
    Some(word.map_or(Kind::Service, |k| k.value.0))
}

/// The service that was probably meant.
pub(crate) fn like<'n>(wrong: &str, names: &'n Neighbours) -> Option<&'n str> {
    nearest(wrong, names.keys().map(AsRef::as_ref))
}
