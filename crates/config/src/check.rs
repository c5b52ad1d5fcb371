//! What must fit together across services: names, cycles, log files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use keepwell_core::Specs;
use keepwell_core::spec::System;

use crate::config::{Context, ServiceConfig};
use crate::read::{At, Draft, Reader};
use crate::resolve::Filler;

type Places = BTreeMap<Arc<str>, At>;

/// Longer ones do not fit into the names of files, cgroups and sockets beside what is added there.
const MAX_NAME: usize = 100;

/// A service's name becomes the name of files, so it holds nothing that a path gives a meaning to.
pub(crate) fn service_name(r: &mut Reader<'_>, name: &str, at: At) {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let why = match name.chars().next() {
        None => "it is empty",
        Some(first) if !first.is_ascii_alphanumeric() => "it does not start with a letter or a digit",
        Some(_) if name.len() > MAX_NAME => "it is longer than 100 characters",
        Some(_) if name.contains('@') => "`@` stands between a name and the number of an instance",
        Some(_) if !name.chars().all(fine) => "it holds other characters",
        Some(_) => return,
    };
    let d = Draft::error("bad-name", at, format!("no service can be named {name:?}"));
    r.push(d.label(why).help("a name is made of letters, digits, `-`, `_` and `.`: [services.web-1]"));
}

/// Every cycle of dependencies, once, printed as a → b → a.
pub(crate) fn cycles(r: &mut Reader<'_>, specs: &Specs, places: &Places) {
    let names: Vec<&Arc<str>> = specs.services.keys().collect();
    let index: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (n.as_ref(), i)).collect();
    let edges: Vec<Vec<usize>> = specs
        .services
        .values()
        .map(|s| s.depends_on.iter().filter_map(|d| index.get(d.on.as_ref()).copied()).collect())
        .collect();
    let mut done = vec![false; names.len()];
    let mut on_path: Vec<Option<usize>> = vec![None; names.len()];
    for start in 0..names.len() {
        // Without recursion: a chain of dependencies may be as long as the file.
        let mut path: Vec<(usize, usize)> = vec![];
        let mut enter = Some(start).filter(|n| !done[*n]);
        loop {
            if let Some(node) = enter.take() {
                on_path[node] = Some(path.len());
                path.push((node, 0));
            }
            let Some((node, next)) = path.last_mut() else { break };
            let node = *node;
            let Some(to) = edges[node].get(*next).copied() else {
                (done[node], on_path[node]) = (true, None);
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(from) = on_path[to] {
                // A service that depends on itself is told where it says so.
                if path.len() - from > 1 {
                    let ring: Vec<&str> = path[from..].iter().map(|(n, _)| names[*n].as_ref()).collect();
                    cycle(r, &ring, places);
                }
            } else if !done[to] {
                enter = Some(to);
            }
        }
    }
}

fn cycle(r: &mut Reader<'_>, ring: &[&str], places: &Places) {
    let Some(first) = ring.iter().min() else { return };
    let turn = ring.iter().position(|n| n == first).unwrap_or(0);
    let ordered: Vec<&str> = ring[turn..].iter().chain(&ring[..turn]).chain([first]).copied().collect();
    let at = places.get(*first).copied().unwrap_or_default();
    // A ring of a thousand services would fill the screen, and its ends say as much.
    let shown = match ordered.as_slice() {
        long if long.len() > 12 => {
            format!("{} → … {} more … → {first}", long[..8].join(" → "), long.len() - 9)
        }
        short => short.join(" → "),
    };
    let d = Draft::error("cycle", at, format!("services wait for each other: {shown}"));
    r.push(
        d.label("none of them could ever start").help("take one of these dependencies out of `depends_on`"),
    );
}

/// Waiting for what nobody starts is legal, and mostly a slip.
pub(crate) fn disabled(r: &mut Reader<'_>, specs: &Specs, places: &Places) {
    for (name, spec) in specs.services.iter().filter(|(_, s)| s.enabled) {
        for d in spec.depends_on.iter().filter(|d| d.required) {
            if specs.services.get(&d.on).is_some_and(|s| !s.enabled) {
                let at = places.get(name).copied().unwrap_or_default();
                let message = format!("`{name}` waits for `{}`, which is not enabled", d.on);
                let draft = Draft::warning("disabled-dependency", at, message);
                r.push(draft.help("enable it, or let it be absent: { required = false }"));
            }
        }
    }
}

/// A standby is one that does not run anyway.
pub(crate) fn fallbacks(r: &mut Reader<'_>, specs: &Specs, places: &Places) {
    for (name, spec) in &specs.services {
        let Some(fallback) = &spec.fallback else { continue };
        if specs.services.get(fallback).is_some_and(|standby| standby.enabled) {
            let at = places.get(name).copied().unwrap_or_default();
            let message = format!("`{fallback}` is the fallback of `{name}` and runs anyway");
            let draft = Draft::warning("no-effect", at, message);
            r.push(draft.help(format!("[services.{fallback}] enabled = false")));
        }
    }
}

/// Two writers in one file would overwrite each other and rotate each other's lines away.
pub(crate) fn log_files(
    r: &mut Reader<'_>,
    specs: &Specs,
    services: &BTreeMap<Arc<str>, Arc<ServiceConfig>>,
    places: &Places,
    cx: &Context,
) {
    let explicit = |s: &ServiceConfig| s.log.file.is_some() || s.log.stderr_file.is_some();
    // Where case counts, files that are named after their services are never shared.
    if cx.system == System::Unix && !services.values().any(|s| explicit(s)) {
        return;
    }
    let mut owners: BTreeMap<PathBuf, (&Arc<str>, &'static str)> = BTreeMap::new();
    for (name, config) in services {
        let instances = specs.services.get(name).map_or(1, |s| s.instances);
        // One text for all instances was told already.
        let numbers = if explicit(config) { 1..=instances } else { 1..=1 };
        let mut told = BTreeSet::new();
        for instance in numbers {
            let Ok(log) = config.log_paths(&Filler::new(name, instance, &config.env, cx)) else { continue };
            let files = [("log.file", Some(log.stdout)), ("log.stderr_file", log.stderr)];
            for (key, path) in files.into_iter().filter_map(|(k, p)| p.map(|p| (k, normal(&p)))) {
                if cx.system == System::Windows && is_device(&path) && told.insert((name.clone(), key)) {
                    device(r, name, &path, places);
                }
                let Some((other, other_key)) = owners.insert(one_name(&path, cx), (name, key)) else {
                    continue;
                };
                if (other == name && (other_key == key || instances > 1))
                    || !told.insert((other.clone(), key))
                {
                    continue;
                }
                shared(r, (name, key), (other, other_key), &path, places);
            }
        }
    }
}

fn shared(
    r: &mut Reader<'_>,
    (name, key): (&Arc<str>, &str),
    (other, other_key): (&Arc<str>, &str),
    path: &Path,
    places: &Places,
) {
    let place = |n: &Arc<str>| places.get(n).copied().unwrap_or_default();
    if name == other {
        let d = Draft::error(
            "shared-log",
            place(name),
            format!("services.{name} logs both streams to {}", path.display()),
        );
        r.push(d.label("leave `stderr_file` out, and the errors go where the output goes"));
        return;
    }
    let message = format!("`{other}` and `{name}` log to the same file, {}", path.display());
    let d = Draft::error("shared-log", place(name), message).label(format!("its {key}"));
    let help = match name.eq_ignore_ascii_case(other) {
        true => "Windows takes names that differ in case alone for one: give one of them another",
        false => "give each a file of its own: \"logs/${service}.log\"",
    };
    r.push(d.also(place(other), format!("its {other_key}")).help(help));
}

/// What is written there would be gone.
fn device(r: &mut Reader<'_>, name: &Arc<str>, path: &Path, places: &Places) {
    let message = format!("services.{name} would log to a device, {}", path.display());
    let d = Draft::error("device-name", places.get(name).copied().unwrap_or_default(), message);
    r.push(d.label("Windows keeps this name for a device, with any ending").help(
        "name the service or its log.file in another way: CON, PRN, AUX, NUL, COM1 and LPT1 are taken",
    ));
}

/// Whether Windows opens a device instead of a file ("Naming Files, Paths, and Namespaces").
fn is_device(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let numbered = |stem: &str| {
        let number = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
        number.is_some_and(|n| matches!(n.as_bytes(), [b'1'..=b'9']))
    };
    matches!(stem, "con" | "prn" | "aux" | "nul") || numbered(stem)
}

/// What is equal for paths that lead to one file.
fn one_name(path: &Path, cx: &Context) -> PathBuf {
    match cx.system {
        System::Unix => path.to_owned(),
        System::Windows => path.to_string_lossy().to_lowercase().into(),
    }
}

/// The path without `.` and `..`, by its text alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(part),
        }
    }
    out
}
