//! Facts and definitions say the same.

use super::*;
use crate::config::Context;
use crate::element::service::RawService;
use crate::element::{guardian, limits, live, log, ready, restart};
use crate::read::{Field, Table};
use crate::source::Source;
use keepwell_core::spec::System;

/// The definition of `key`, or of the table that it stands in where its keys are not ours (`env.PORT`).
fn field(key: &str, of: &'static [Field]) -> &'static Field {
    let (first, rest) = key.split_once('.').map_or((key, None), |(a, b)| (a, Some(b)));
    let field = of.iter().find(|f| f.name == first).unwrap_or_else(|| panic!("no key {first}"));
    let inner: Option<&'static [Field]> = match first {
        "restart" => Some(restart::RawRestart::FIELDS),
        "exit_codes" => Some(restart::RawExitCodes::FIELDS),
        "ready" => Some(ready::ReadyTable::FIELDS),
        "limits" => Some(limits::RawLimits::FIELDS),
        "live" => Some(live::LiveTable::FIELDS),
        "log" => Some(log::RawLog::FIELDS),
        "rotate" => Some(log::RawRotate::FIELDS),
        _ => None,
    };
    match (rest, inner) {
        (Some(rest), Some(inner)) => self::field(rest, inner),
        (None, _) | (_, None) => field,
    }
}

fn load(text: &str) -> Config {
    load_on(System::Unix, text)
}

fn load_on(system: System, text: &str) -> Config {
    let env = ["TOKEN", "PATH"].map(|n| (n.to_owned(), "/bin".to_owned())).into();
    let cx = Context { base: "/srv".into(), state_dir: "/state".into(), env, system };
    crate::load(&[Source { path: "keepwell.toml".into(), text: text.to_owned() }], &cx).unwrap()
}

#[test]
fn facts_and_definitions_agree_on_what_a_change_takes() {
    let full = include_str!("../../tests/good/full.toml");
    let more = "[services.n]\ncommand = \"x\"\nready = { notify = true, watchdog = \"5s\" }\nlive = \"heartbeat\"\nenv_file = \"f\"\nguards = [{ when = \"cpu > 12.5%\" }, { when = \"io > 1MB/s\" }, { when = \"disk > 1GB\", folder = \"d\" }]\nwait_for = \"tcp://db:5432\"\nforesee = false\nescalation = [\"restart\", { exec = \"./x\" }, \"fail_over\"]\nfallback = \"spare\"\n[services.spare]\ncommand = \"x\"\nenabled = false\n";
    let config = load(&format!("{full}\n{more}"));
    let raw = load_on(System::Windows, "[services.w]\ncommand_line = 'x y'\n");
    let mut seen: Vec<String> = vec![];
    for config in [&config, &raw] {
        for (name, service) in &config.services {
            for (key, known) in known(&config.specs.services[name], service) {
                if let Some(class) = field(&key, RawService::FIELDS).class {
                    assert_eq!(known.class, class, "{key}");
                }
                seen.push(key);
            }
        }
    }
    for (key, known) in guardian_known(&config.guardian) {
        assert_eq!(Some(known.class), field(&key, guardian::RawGuardian::FIELDS).class, "{key}");
    }
    let missing: Vec<&str> = RawService::NAMES
        .iter()
        .filter(|n| !seen.iter().any(|k| k.split('.').next() == Some(n)))
        .copied()
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "every key of a service has a fact");
}
