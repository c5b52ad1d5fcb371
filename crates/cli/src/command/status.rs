//! `keepwell status`.

use std::time::Duration;

use clap::Args;
use keepwell_sdk::exit;
use keepwell_sdk::wire::Status;

use super::Context;
use crate::failure::Result;
use crate::follow::{Changes, News};
use crate::guardian::Guardian;
use crate::locate::Target;
use crate::output::status::Detail;
use crate::output::{self, json, status};
use crate::time::Clock;

/// Show how services are, and what happens next
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell status
  keepwell status web worker
  keepwell status --watch
  keepwell status --check          # for monitoring: one line, exit 0 or 1
  keepwell status --json")]
pub(crate) struct StatusArgs {
    /// Names, or single instances like web@2, with how they and their limits are held; without any: all
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Show it anew at every change
    #[arg(short, long, conflicts_with = "check")]
    watch: bool,
    /// One line; exit 0 when all is well and 1 otherwise
    #[arg(long, conflicts_with = "json")]
    check: bool,
    /// For machines: an array, one object an instance; with --watch one array a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// CPU and memory change without an event, so a watched table is drawn anew this often. Events come at once.
const REDRAW: Duration = Duration::from_secs(2);
/// Changes that come together are drawn together.
const GATHER: Duration = Duration::from_millis(100);

impl StatusArgs {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let guardian = Guardian::find(&self.target).await?;
        if self.watch {
            return self.watch(&guardian, cx).await;
        }
        let all = guardian.services_and_usage(&self.services).await?;
        if self.check {
            let (line, well) = status::check(&all);
            output::print(&line)?;
            return Ok(if well { exit::DONE } else { exit::FAILED });
        }
        output::print(&self.frame(&all, cx)?)?;
        Ok(exit::DONE)
    }

    fn frame(&self, all: &[Status], cx: &Context) -> Result<String> {
        match self.json {
            true => json::document(&all),
            false => Ok(status::status(all, self.detail(), &Clock::real(), &cx.look())),
        }
    }

    /// Who names services wants to know them closer.
    fn detail(&self) -> Detail {
        if self.services.is_empty() { Detail::Brief } else { Detail::Full }
    }

    async fn watch(&self, guardian: &Guardian, cx: &Context) -> Result<i32> {
        let mut changes = Changes::follow(guardian).await?;
        let on_terminal = cx.look().width.is_some();
        let mut last = String::new();
        loop {
            let all = guardian.services_and_usage(&self.services).await?;
            let frame = if self.json { json::line(&all)? } else { self.frame(&all, cx)? };
            if on_terminal && !self.json {
                output::print(&redraw(&frame))?;
            } else if frame != last {
                let gap = if last.is_empty() || self.json { "" } else { "\n" };
                output::print(&format!("{gap}{frame}"))?;
            }
            last = frame;
            match changes.wait(on_terminal.then_some(REDRAW), GATHER).await? {
                News::Changed | News::Quiet => {}
                News::Gone => {
                    output::talk("keepwell has ended");
                    return Ok(exit::NOT_RUNNING);
                }
            }
        }
    }
}

/// From the top of the screen, each line to its end, and nothing left below: no flicker, nothing to put back at the end.
/// Rows beyond the screen's would scroll it, so they are counted instead.
fn redraw(frame: &str) -> String {
    let rows = terminal_size::terminal_size().map_or(24, |(_, h)| usize::from(h.0)).max(3);
    let lines: Vec<&str> = frame.lines().collect();
    let mut text = "\x1b[H".to_owned();
    let fits = lines.len() < rows;
    let shown = if fits { lines.len() } else { rows - 2 };
    for line in &lines[..shown] {
        text += &format!("{line}\x1b[K\n");
    }
    if !fits {
        text += &format!("and {} more lines\x1b[K\n", lines.len() - shown);
    }
    text + "\x1b[J"
}
