//! `keepwell service check`: what is wrong with how services are registered, whoever registered them.

use std::collections::BTreeSet;

use clap::Args;
use keepwell_config::Severity as Grade;
use keepwell_sdk::exit;
use keepwell_service::Error;
use keepwell_service::manager::audit::{Finding, Kept, Severity, findings};
use keepwell_service::manager::{Host, Needs, Scope as HostScope};
use serde::Serialize;

use super::definition::OWN;
use super::place::Place;
use super::{Whose, failure};
use crate::command::Context;
use crate::command::import::secret_options;
use crate::config_check::{look_at, needs, stop_budget};
use crate::failure::Result;
use crate::locate::{Home, Scope};
use crate::output::human::count;
use crate::output::{self, Look, Paint, json};

/// Check how services are registered: paths, rights, recovery, time to stop; exit code 1 when something was found
///
/// Without a name: all that are not the system's own, those of NSSM, WinSW and sc.exe too. Nothing is changed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service check
  keepwell service check shop --json")]
pub(super) struct Check {
    /// The services; otherwise all that are not the system's own
    name: Vec<String>,
    #[command(flatten)]
    whose: Whose,
    /// For machines: an array
    #[arg(long)]
    json: bool,
}

/// What `--json` says of a finding. A contract: only ever extended.
#[derive(Serialize, Debug)]
struct Row {
    service: String,
    severity: &'static str,
    code: &'static str,
    message: String,
    fix: Option<String>,
}

impl Check {
    pub(super) fn run(self, cx: &Context) -> Result<i32> {
        let host = self.whose.host()?;
        let all = self.name.is_empty();
        let names = if all { host.added().map_err(failure)? } else { self.name };
        let mut rows = Vec::new();
        for name in &names {
            let kept = match host.kept(name) {
                Ok(kept) => kept,
                // It went away just now.
                Err(Error::NoSuchService(_)) if all => continue,
                Err(error) if all => {
                    rows.push(row(
                        name,
                        Finding::warning("not_readable", format!("it cannot be looked at: {error}")),
                    ));
                    continue;
                }
                Err(error) => return Err(failure(error)),
            };
            rows.extend(look(&host, self.whose, kept).into_iter().map(|finding| row(name, finding)));
        }
        let code = if rows.is_empty() { exit::DONE } else { exit::FAILED };
        output::print(&if self.json {
            json::document(&rows)?
        } else {
            human(&rows, names.len(), &cx.look())
        })?;
        Ok(code)
    }
}

fn row(service: &str, finding: Finding) -> Row {
    let Finding { severity, code, message, fix } = finding;
    let severity = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    Row { service: service.to_owned(), severity, code, message, fix }
}

/// All that is wrong with one, the worst first.
fn look(host: &Host, whose: Whose, mut kept: Kept) -> Vec<Finding> {
    let definition = &kept.definition;
    let command: Vec<String> =
        std::iter::once(String::new()).chain(definition.arguments.iter().cloned()).collect();
    let mut all = Vec::new();
    let mut uses = Needs { run: kept.runs.clone(), ..Needs::default() };
    if let Some(place) = Place::of(&definition.name, &command) {
        let scope = if whose.scope() == HostScope::System { Scope::System } else { Scope::User };
        let home = Home { scope, config: place.config, state: place.state };
        uses = needs(&home);
        all.extend(own(&home, &kept));
        kept.reads.push(home.config);
        kept.reads.extend(uses.run.iter().cloned());
    }
    all.extend(findings(&kept, host));
    let secrets = secret_options(&kept.line);
    if !secrets.is_empty() {
        let message = format!(
            "its command line seems to hold a secret ({}), and every user can read it",
            secrets.join(", ")
        );
        all.push(
            Finding::error("secret_in_line", message).fix("give it in a file or a variable, and change it"),
        );
    }
    match host.lacks(&kept.definition, &uses) {
        Ok(lacks) => {
            let account = kept.definition.account_name();
            let told = |lack| Finding::error("account", format!("its account {account} {lack}"));
            all.extend(
                lacks
                    .into_iter()
                    .map(told)
                    .map(|f| f.fix("keepwell service install with --grant gives it that")),
            );
        }
        Err(error) => {
            all.push(Finding::warning("not_readable", format!("its account cannot be looked at: {error}")));
        }
    }
    all.sort_by_key(|finding| finding.severity);
    all
}

/// What only keepwell's own can have.
fn own(home: &Home, kept: &Kept) -> Vec<Finding> {
    let mut all = Vec::new();
    let shown = home.config.display();
    let wrong = look_at(home, &BTreeSet::new()).all.into_iter().filter(|d| d.severity == Grade::Error);
    for diagnostic in wrong {
        let fix = format!("keepwell check {shown}");
        all.push(Finding::error("configuration", format!("{shown}: {}", diagnostic.message)).fix(fix));
    }
    let (needed, given) = (stop_budget(home) + OWN, kept.definition.stop_timeout);
    if needed > given && !kept.unknown.contains(&"stop timeout") {
        let message = format!(
            "the host gives it {} s to stop, also while it shuts down, and its programs may take {} s",
            given.as_secs(),
            needed.as_secs()
        );
        let fix = format!("keepwell service install again, or with --stop-timeout {}s", needed.as_secs());
        all.push(Finding::warning("stop_timeout", message).fix(fix));
    }
    all
}

fn human(rows: &[Row], services: usize, look: &Look) -> String {
    let width = rows.iter().map(|row| row.service.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let (sign, paint) = match (row.severity, look.unicode) {
            ("error", true) => ("✗", Paint::Bad),
            ("error", false) => ("x", Paint::Bad),
            (_, _) => ("!", Paint::Warn),
        };
        text += &format!("{} {:width$}  {}\n", look.paint(paint, sign), row.service, row.message);
        if let Some(fix) = &row.fix {
            text += &format!("  {:width$}  {fix}\n", "");
        }
    }
    let errors = rows.iter().filter(|row| row.severity == "error").count();
    text += &match (errors, rows.len() - errors) {
        (0, 0) if services == 0 => "there is no service but the system's own\n".to_owned(),
        (0, 0) => format!("{}: nothing found\n", count(services, "service")),
        (errors, warnings) => {
            let (errors, warnings) = (count(errors, "error"), count(warnings, "warning"));
            format!("{errors}, {warnings} in {}\n", count(services, "service"))
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_reads_from_the_worst_on() {
        let rows = [
            row("my shop", Finding::error("path_not_quoted", "its path is not quoted").fix("sc config")),
            row("web", Finding::warning("no_recovery", "nothing starts it again when it fails")),
        ];
        insta::assert_snapshot!(human(&rows, 3, &Look::PLAIN), @r"
        x my shop  its path is not quoted
                   sc config
        ! web      nothing starts it again when it fails
        1 error, 1 warning in 3 services
        ");
        assert_eq!(human(&[], 1, &Look::SIGNS), "1 service: nothing found\n");
        insta::assert_snapshot!(json::document(&rows[1]).unwrap(), @r#"
        {
          "service": "web",
          "severity": "warning",
          "code": "no_recovery",
          "message": "nothing starts it again when it fails",
          "fix": null
        }
        "#);
    }
}
