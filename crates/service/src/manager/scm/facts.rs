//! What is to be known of a service, and of the files around it, to say whether it is well.

use std::path::{Path, PathBuf};

use super::rights::rights;
use super::{Access, Manager, ManagerAccess};
use crate::error::Error;
use crate::manager::audit::{Kept, expanded};
use crate::manager::command_line::split;
use crate::manager::definition::StartMode;
use crate::manager::outsiders;
use crate::manager::registry::{self, StoredKey, StoredValue};

/// `SERVICE_INTERACTIVE_PROCESS`, and what is no driver (winnt.h).
const INTERACTIVE: u64 = 0x100;
const PROGRAMS: u64 = 0x30;

pub(super) fn kept(name: &str) -> Result<Kept, Error> {
    let service = Manager::connect(ManagerAccess::Look)?.open(name, Access::Look)?;
    let (mut definition, unknown) = service.read()?;
    // Without it, what the service manager says has to do.
    let stored = registry::stored(name).unwrap_or_default();
    let line = text(&stored, "", "ImagePath").unwrap_or_else(|| definition.image());
    // Wine's service manager does not tell them.
    if let Some(others) = value(&stored, "", "DependOnService").and_then(StoredValue::list) {
        definition.depends_on = others;
    }
    let interactive = number(&stored, "Type").is_some_and(|kind| kind & INTERACTIVE != 0);
    // NSSM's.
    let runs = text(&stored, "Parameters", "Application").map(PathBuf::from).into_iter().collect();
    // WinSW's, which stands beside it under its name.
    let beside = Path::new(split(&line).first().map_or("", String::as_str)).with_extension("xml");
    let reads = Some(beside).filter(|xml| xml.is_file()).into_iter().collect();
    Ok(Kept { definition, unknown, line, interactive, runs, reads })
}

pub(super) fn added() -> Result<Vec<String>, Error> {
    let own = environment("SystemRoot").unwrap_or_default().to_lowercase();
    let mut all = registry::services()?;
    all.retain(|name| {
        let Ok(stored) = registry::stored(name) else { return false };
        let program = number(&stored, "Type").is_some_and(|kind| kind & PROGRAMS != 0);
        let line = text(&stored, "", "ImagePath").unwrap_or_default().to_lowercase();
        let line = line.trim_start_matches('"');
        program && !line.is_empty() && !line.starts_with(&format!(r"{own}\"))
    });
    all.sort_unstable();
    Ok(all)
}

pub(super) fn start_of(name: &str) -> Option<StartMode> {
    let stored = registry::stored(name).ok()?;
    Some(match number(&stored, "Start")? {
        0..=2 => StartMode::Auto,
        4 => StartMode::Disabled,
        _ => StartMode::Demand,
    })
}

pub(super) fn outsiders(path: &Path) -> Vec<String> {
    rights(path).map(|list| outsiders::outsiders(&list)).unwrap_or_default()
}

fn value<'k>(stored: &'k [StoredKey], below: &str, name: &str) -> Option<&'k StoredValue> {
    let key = stored.iter().find(|key| key.below.eq_ignore_ascii_case(below))?;
    key.values.iter().find(|value| value.name.eq_ignore_ascii_case(name))
}

fn text(stored: &[StoredKey], below: &str, name: &str) -> Option<String> {
    let text = value(stored, below, name)?.text()?;
    Some(expanded(&text, &environment)).filter(|text| !text.is_empty())
}

fn number(stored: &[StoredKey], name: &str) -> Option<u64> {
    value(stored, "", name)?.number()
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|_| !name.is_empty())
}
