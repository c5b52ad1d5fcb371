//! `keepwell incidents`.

use clap::Args;
use keepwell_sdk::client::IncidentQuery;
use keepwell_sdk::exit;

use super::Context;
use crate::failure::{Failure, Result};
use crate::guardian::Guardian;
use crate::locate::Target;
use crate::output::{self, incidents, json};
use crate::time::{self, Clock};

/// Tell the incidents: from a service's first failure to its stable health
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell incidents                # the last 20, and how reliable each service is
  keepwell incidents 12             # the whole story of one
  keepwell incidents web --since 7d
  keepwell incidents 12 --json")]
pub(crate) struct IncidentsArgs {
    /// The number of one; or a service, or a single instance like web@2
    #[arg(value_name = "ID|SERVICE")]
    wanted: Option<String>,
    /// The last so many; otherwise 20, or all --since then
    #[arg(short = 'n', long, value_name = "N", value_parser = time::how_many)]
    lines: Option<u32>,
    /// Only what was open since: a duration back from now (7d) or a moment (2026-01-31T14:00:00Z)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// For machines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Incidents shown when it is not said how many.
const RECENT: u64 = 20;

impl IncidentsArgs {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let since = self.since.as_deref().map(|s| time::parse_since(s, &Clock::real())).transpose();
        let since = since.map_err(Failure::usage)?;
        let id: Option<u64> = self.wanted.as_deref().and_then(|w| w.parse().ok());
        let services: Vec<String> = if id.is_some() { Vec::new() } else { self.wanted.into_iter().collect() };
        let guardian = Guardian::find(&self.target, &services).await?;
        if !services.is_empty() {
            // A misspelt name is an error and not silence.
            guardian.services(&services).await?;
        }
        let limit = self.lines.map(u64::from).unwrap_or(if since.is_some() { u64::MAX } else { RECENT });
        let found = guardian.incidents(&IncidentQuery { services, since, id, limit: Some(limit) }).await?;
        let text = match (self.json, id, found.incidents.first()) {
            (true, ..) => json::document(&found)?,
            (false, Some(_), Some(one)) => incidents::story(one, &Clock::real(), &cx.look()),
            (false, ..) => incidents::list(&found, &Clock::real(), &cx.look()),
        };
        output::print(&text)?;
        Ok(exit::DONE)
    }
}
