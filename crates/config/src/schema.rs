//! The schema, the reference's tables and the starter file: all made from, or tested against, the definitions that read.

use std::fmt::Write as _;

use crate::element::depends::RawDependency;
use crate::element::escalation::RungTable;
use crate::element::evidence::EvidenceTable;
use crate::element::guard::RawGuard;
use crate::element::guardian::RawGuardian;
use crate::element::healing::RawHealing;
use crate::element::hooks::{RawHook, RawHooks};
use crate::element::limits::RawLimits;
use crate::element::live::LiveTable;
use crate::element::log::{RawLog, RawRotate};
use crate::element::probe::RawProbe;
use crate::element::ready::ReadyTable;
use crate::element::restart::{LimitTable, RawExitCodes, RawRestart};
use crate::element::service::RawService;
use crate::element::stop::RawStep;
use crate::element::wait_for::RawWaitFor;
use crate::keys::Class;
use crate::read::Table;

/// The JSON Schema (2020-12) of a configuration file, for editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut generator = schemars::SchemaGenerator::default();
    let service = RawService::table_schema(&mut generator);
    let mut defaults = service.clone();
    if let Some(properties) = defaults.get_mut("properties").and_then(serde_json::Value::as_object_mut) {
        for key in ["command", "description", "depends_on"] {
            properties.remove(key);
        }
    }
    let guardian = RawGuardian::table_schema(&mut generator);
    let healing = RawHealing::table_schema(&mut generator);
    let mut service = service;
    // `[defaults]` may give every other key, but never the command.
    service.insert("required".to_owned(), serde_json::json!(["command"]));
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "keepwell.toml",
        "description": "Configuration of keepwell: programs that are kept running.",
        "type": "object",
        "properties": {
            "services": {
                "description": "The programs that are kept running, by name.",
                "type": "object",
                "propertyNames": { "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" },
                "additionalProperties": { "$ref": "#/$defs/service" }
            },
            "defaults": {
                "description": "What all services share; a service's own keys win.",
                "$ref": "#/$defs/defaults"
            },
            "keepwell": { "description": "The guardian itself.", "$ref": "#/$defs/keepwell" },
            "healing": {
                "description": "How much of what lives may be ended because a check says that it is ill.",
                "$ref": "#/$defs/healing"
            }
        },
        "additionalProperties": false,
        "$defs": { "service": service, "defaults": defaults, "keepwell": guardian, "healing": healing }
    })
}

/// The starter file of `keepwell init`.
#[must_use]
pub fn starter() -> &'static str {
    include_str!("starter.toml")
}

/// Every key with its default and what a change of it takes, as Markdown tables; docs/configuration.md holds them.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    section::<RawService>(&mut out, "`[services.NAME]` and `[defaults]`", "");
    section::<ReadyTable>(&mut out, "`ready`", "ready.");
    section::<RawProbe>(&mut out, "`startup`, and `live`: each check", "");
    section::<LiveTable>(&mut out, "`live`: a heartbeat", "live.");
    section::<RawRestart>(&mut out, "`restart`", "restart.");
    section::<LimitTable>(&mut out, "`restart.limit`", "restart.limit.");
    section::<RawExitCodes>(&mut out, "`restart.exit_codes`", "restart.exit_codes.");
    section::<RawStep>(&mut out, "`stop`: each step", "");
    section::<RawGuard>(&mut out, "`guards`: each guard", "");
    section::<RungTable>(&mut out, "`escalation`: each step", "");
    section::<RawDependency>(&mut out, "`depends_on`: each service", "");
    section::<RawWaitFor>(&mut out, "`wait_for`", "wait_for.");
    section::<RawHooks>(&mut out, "`hooks`", "hooks.");
    section::<RawHook>(&mut out, "`hooks`: each hook", "");
    section::<RawLog>(&mut out, "`log`", "log.");
    section::<RawRotate>(&mut out, "`log.rotate`", "log.rotate.");
    section::<RawLimits>(&mut out, "`limits`", "limits.");
    section::<RawGuardian>(&mut out, "`[keepwell]`", "");
    section::<RawHealing>(&mut out, "`[healing]`", "");
    section::<EvidenceTable>(&mut out, "`[healing]`: `evidence`", "evidence.");
    out
}

fn section<T: Table>(out: &mut String, title: &str, prefix: &str) {
    let _ = writeln!(out, "### {title}\n\n| Key | | Default | A change | |\n|---|---|---|---|---|");
    for field in T::FIELDS {
        let class = match field.class {
            Some(Class::Live) => "live",
            Some(Class::Restart) => "restart",
            None => "see its keys",
        };
        let doc = field.doc.iter().map(|l| l.trim()).collect::<Vec<_>>().join(" ");
        let what = (field.what)();
        // A list of words is in the key's text already.
        let what = if what.starts_with("one of") { "a word".into() } else { what };
        let _ = writeln!(out, "| `{prefix}{}` | {what} | {} | {class} | {doc} |", field.name, field.default);
    }
    out.push('\n');
}
