//! `keepwell check`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keepwell_config::Diagnostics;
use keepwell_sdk::exit;

use tokio::time::timeout;

use super::{Context, wait_for};
use crate::config_check::{look_at, shown, tell};
use crate::failure::Result;
use crate::guardian::{Guardian, socket_in};
use crate::locate::{Home, Place, Surroundings, Target};
use crate::output::human::count;
use crate::output::{self, Look, json, talk};

/// Check a configuration without touching what runs: its text, its programs, folders, users and ports
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell check
  keepwell check /etc/keepwell/keepwell.toml
  keepwell check --json

Exit code 2 when there is an error. Warnings do not count.")]
pub(crate) struct Check {
    /// The configuration; otherwise the nearest keepwell.toml, here or in a folder above
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// For machines: an array of findings
    #[arg(long)]
    json: bool,
}

/// A guardian answers within milliseconds; whatever else has its socket may never.
const PATIENCE: Duration = Duration::from_secs(2);

/// What runs under the guardian of this configuration, if there is one.
fn running(home: &Home) -> BTreeSet<String> {
    let place = Place::named(socket_in(&home.state));
    let ask = async {
        match Guardian::at(&place).await {
            Ok(guardian) => guardian.services(&[]).await,
            Err(_) => Ok(Vec::new()),
        }
    };
    // Whether one answers or not, the file can be checked.
    let all = wait_for(async { timeout(PATIENCE, ask).await.unwrap_or(Ok(Vec::new())) }).unwrap_or_default();
    all.into_iter().filter(|s| s.pid.is_some()).map(|s| s.name).collect()
}

impl Check {
    pub(crate) fn run(self, cx: &Context) -> Result<i32> {
        let home = Surroundings::here()?.home(&Target { file: self.file, ..Target::default() })?;
        let findings = look_at(&home, &running(&home));
        let (errors, shown) = (findings.errors(), shown(&home.config));
        if self.json {
            output::print(&json::document(&findings.all)?)?;
        } else {
            tell(&Diagnostics(findings.all), &Look::stderr(cx.color));
            match errors {
                0 => output::print(&format!(
                    "{} is fine: {}\n",
                    shown.display(),
                    count(findings.services, "service")
                ))?,
                n => talk(&format!("{} in {}", count(n, "error"), shown.display())),
            }
        }
        Ok(if errors == 0 { exit::DONE } else { exit::USAGE })
    }
}
