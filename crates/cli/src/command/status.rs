//! `keepwell status`.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keepwell_sdk::exit;
use keepwell_sdk::wire::Status;
use serde_json::Value;

use super::Context;
use crate::everyone::{self, Kind, Known};
use crate::failure::{Failure, Result};
use crate::follow::{Changes, News};
use crate::guardian::{Guardian, nobody};
use crate::locate::{Surroundings, Target};
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

/// A guardian with all that it guards.
struct Seen {
    name: String,
    kind: &'static str,
    state: PathBuf,
    config: Option<String>,
    all: Vec<Status>,
}

impl Seen {
    /// What it is, and how another command names it.
    fn heading(&self) -> String {
        let config = self.config.as_deref().map(|c| format!(" · {c}")).unwrap_or_default();
        format!("{} · {}{config} · --state {}", self.name, self.kind, self.state.display())
    }

    /// Its instances, each with whose it is. A contract: only ever extended.
    fn rows(&self) -> Vec<Value> {
        let own = [
            ("guardian", self.name.clone()),
            ("scope", self.kind.to_owned()),
            ("state_dir", self.state.display().to_string()),
        ];
        let row = |status: &Status| {
            let mut row = serde_json::to_value(status).unwrap_or_default();
            if let Some(fields) = row.as_object_mut() {
                fields.extend(own.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())));
            }
            row
        };
        self.all.iter().map(row).collect()
    }
}

/// CPU and memory change without an event, so a watched table is drawn anew this often. Events come at once.
const REDRAW: Duration = Duration::from_secs(2);
/// Changes that come together are drawn together.
const GATHER: Duration = Duration::from_millis(100);

impl StatusArgs {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let guardian = if self.target.is_open() {
            let here = Surroundings::here()?;
            match Guardian::of_project(&here).await? {
                Some(guardian) => guardian,
                None => return self.everywhere(&here, cx).await,
            }
        } else {
            Guardian::find(&self.target, &self.services).await?
        };
        self.one(&guardian, cx).await
    }

    async fn one(self, guardian: &Guardian, cx: &Context) -> Result<i32> {
        if self.watch {
            return self.watch(guardian, cx).await;
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

    /// Of every guardian of this host that answers; who names services wants those only.
    async fn everywhere(self, here: &Surroundings, cx: &Context) -> Result<i32> {
        let (mut answered, mut silent) = (vec![], vec![]);
        for known in everyone::all(here) {
            match Guardian::at(&known.place()).await {
                Ok(guardian) => answered.push((known, guardian)),
                Err(e) => silent.push((known, e.kind())),
            }
        }
        if self.watch {
            let [(_, guardian)] = answered.as_slice() else {
                let list: Vec<String> =
                    answered.iter().map(|(k, _)| format!("--state {}", k.state.display())).collect();
                return match list.is_empty() {
                    true => Err(nobody(&here.places(&self.target)?)),
                    false => Err(Failure::usage("several guardians run, and one can be watched")
                        .hint(format!("say which: {}", list.join(", ")))),
                };
            };
            return self.watch(guardian, cx).await;
        }
        let mut shown = vec![];
        for (known, guardian) in answered {
            let mut all = guardian.services_and_usage(&[]).await?;
            all.retain(|s| {
                self.services.is_empty() || self.services.iter().any(|n| *n == s.name || *n == s.id())
            });
            let config = match &known.config {
                Some(config) => Some(config.display().to_string()),
                None => guardian.info().await?.config,
            };
            shown.push(Seen { name: known.name, kind: known.kind.word(), state: known.state, config, all });
        }
        if shown.is_empty() && !silent.iter().any(|(_, kind)| *kind == ErrorKind::PermissionDenied) {
            return Err(nobody(&here.places(&self.target)?));
        }
        if let Some(name) = self
            .services
            .iter()
            .find(|n| !shown.iter().flat_map(|s| &s.all).any(|s| **n == s.name || **n == s.id()))
        {
            return Err(Failure::usage(format!("no guardian of this host knows {name}"))
                .hint("keepwell status lists all that they guard"));
        }
        if !self.services.is_empty() {
            shown.retain(|s| !s.all.is_empty());
        }
        self.tell(&shown, &silent, cx)
    }

    fn tell(&self, shown: &[Seen], silent: &[(Known, ErrorKind)], cx: &Context) -> Result<i32> {
        let all = || shown.iter().flat_map(|s| s.all.clone()).collect::<Vec<Status>>();
        if self.check {
            let (line, well) = status::check(&all());
            output::print(&line)?;
            return Ok(if well { exit::DONE } else { exit::FAILED });
        }
        if self.json {
            let rows: Vec<Value> = shown.iter().flat_map(Seen::rows).collect();
            output::print(&json::document(&rows)?)?;
        } else {
            let text: Vec<String> = shown
                .iter()
                .map(|seen| {
                    let table = status::status(&seen.all, self.detail(), &Clock::real(), &cx.look());
                    format!("{}\n{table}", seen.heading())
                })
                .collect();
            output::print(&text.join("\n"))?;
        }
        for (known, kind) in silent {
            let denied = *kind == ErrorKind::PermissionDenied;
            if denied || known.kind == Kind::Service && self.services.is_empty() {
                let why = if denied { "does not let you in" } else { "does not run" };
                output::talk(&format!("{} ({}) {why}", known.name, known.kind.word()));
            }
        }
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
