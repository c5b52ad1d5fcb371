//! `keepwell logs`.

use clap::Args;
use keepwell_sdk::exit;

use super::Context;
use crate::failure::{Failure, Result};
use crate::guardian::Guardian;
use crate::locate::Target;
use crate::output::events::Lines;
use crate::output::{self, json};
use crate::time::{self, Clock};
use keepwell_sdk::client::LogQuery;
use keepwell_sdk::wire::Status;

/// Show what services wrote to stdout and stderr
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell logs                      # the last 10 lines of each
  keepwell logs -f web worker
  keepwell logs -n 100 web
  keepwell logs --since 10m
  keepwell logs -f --json | head")]
pub(crate) struct Logs {
    /// Names, or single instances like web@2; without any: all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Go on showing what comes
    #[arg(short = 'f', long)]
    follow: bool,
    /// How many lines of each service; otherwise 10, or all --since then
    #[arg(short = 'n', long, value_name = "N", value_parser = time::how_many)]
    lines: Option<u32>,
    /// Only what was written since: a duration back from now (10m) or a moment (2026-01-31T14:00:00Z)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// For machines: one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Logs {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let since = self.since.as_deref().map(|s| time::parse_since(s, &Clock::real())).transpose();
        let since = since.map_err(Failure::usage)?;
        let guardian = Guardian::find(&self.target, &self.services).await?;
        let mut lines = Lines::new(cx.look());
        // Asked first, so that a misspelt name is an error and not silence, and the names line up.
        let all = guardian.services(&self.services).await?;
        lines.expect(&all);
        // By name, so that those are followed too that have not been started yet.
        let services = if self.follow { all.iter().map(Status::id).collect() } else { self.services.clone() };
        let query = LogQuery { services, lines: self.lines, since };
        let mut show = |line: &keepwell_sdk::wire::LogLine| match self.json {
            true => output::print(&json::line(line)?),
            false => output::print(&lines.log(line)),
        };
        if !self.follow {
            guardian.logs(&query).await?.iter().try_for_each(&mut show)?;
            return Ok(exit::DONE);
        }
        let mut stream = guardian.follow_logs(query).await?;
        while let Some(line) = stream.next().await? {
            show(&line)?;
        }
        output::talk("keepwell has ended");
        Ok(exit::DONE)
    }
}
