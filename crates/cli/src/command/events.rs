//! `keepwell events`.

use clap::Args;
use keepwell_sdk::exit;

use super::Context;
use crate::failure::{Failure, Result};
use crate::guardian::Guardian;
use crate::locate::Target;
use crate::output::{self, events, json};
use crate::time::{self, Clock};
use keepwell_sdk::client::EventQuery;

/// Show what happened
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell events                # the last 100
  keepwell events -f
  keepwell events web --since 1h
  keepwell events --json --since 2026-01-31T14:00:00Z")]
pub(crate) struct Events {
    /// A name, or a single instance like web@2; without any: all, and the guardian itself
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Go on showing what comes
    #[arg(short = 'f', long)]
    follow: bool,
    /// The last so many; otherwise 100, or all --since then
    #[arg(short = 'n', long, value_name = "N", value_parser = time::how_many)]
    lines: Option<u32>,
    /// Only what happened since: a duration back from now (10m) or a moment (2026-01-31T14:00:00Z)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// For machines: one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Events shown when it is not said how many.
const RECENT: u64 = 100;

impl Events {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let since = self.since.as_deref().map(|s| time::parse_since(s, &Clock::real())).transpose();
        let since = since.map_err(Failure::usage)?;
        let guardian = Guardian::find(&self.target, self.service.as_slice()).await?;
        if let Some(service) = &self.service {
            // A misspelt name is an error and not silence.
            guardian.services(std::slice::from_ref(service)).await?;
        }
        let look = cx.look();
        let show = |event: &keepwell_sdk::wire::Event| match self.json {
            true => output::print(&json::line(event)?),
            false => output::print(&events::event(event, &Clock::real(), &look)),
        };
        let limit = self.lines.map(u64::from).or(if since.is_some() { None } else { Some(RECENT) });
        let query =
            EventQuery { services: self.service.iter().cloned().collect(), since, after: None, limit };
        let past = guardian.events(&query).await?;
        past.iter().try_for_each(show)?;
        if !self.follow {
            return Ok(exit::DONE);
        }
        let after = match past.last() {
            Some(last) => last.seq,
            None => guardian.last_seq().await?,
        };
        let mut stream = guardian
            .follow_events(EventQuery { since: None, limit: None, after: Some(after), ..query })
            .await?;
        while let Some(event) = stream.next().await? {
            show(&event)?;
        }
        output::talk("keepwell has ended");
        Ok(exit::DONE)
    }
}
