//! `keepwell check`.

use std::path::PathBuf;

use clap::Args;
use keepwell_config::Diagnostics;
use keepwell_sdk::exit;

use super::Context;
use crate::config_check::{look_at, shown, tell};
use crate::failure::Result;
use crate::locate::{Surroundings, Target};
use crate::output::human::count;
use crate::output::{self, Look, json, talk};

/// Check a configuration without touching what runs: its text, its programs, folders and users
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

impl Check {
    pub(crate) fn run(self, cx: &Context) -> Result<i32> {
        let home = Surroundings::here()?.home(&Target { file: self.file, ..Target::default() })?;
        let findings = look_at(&home);
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
