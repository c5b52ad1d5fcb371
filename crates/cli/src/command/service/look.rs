//! `keepwell service status`, `show` and `list`.

use clap::Args;
use keepwell_sdk::exit;
use keepwell_service::manager::{Found, State, Status};
use serde::Serialize;

use super::place::Place;
use super::{Which, Whose, failure};
use crate::command::Context;
use crate::failure::Result;
use crate::output::human::state_text;
use crate::output::table::{Cell, Column, render};
use crate::output::{self, Look, Paint, json, talk};

/// Show how a service is: what the host says of it, and where its files are; exit code 3 when it does not run
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service status
  keepwell service status shop --json")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    which: Which,
    /// For machines: one object
    #[arg(long)]
    json: bool,
}

/// Show what the host was told of a service
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service show
  keepwell service show shop --json")]
pub(super) struct Show {
    #[command(flatten)]
    which: Which,
    /// For machines: one object
    #[arg(long)]
    json: bool,
}

/// List the services of this host that are keepwell's
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service list
  keepwell service list --user --json")]
pub(super) struct List {
    #[command(flatten)]
    whose: Whose,
    /// For machines: an array
    #[arg(long)]
    json: bool,
}

/// What `--json` says of a service. A contract: only ever extended.
#[derive(Serialize, Debug)]
struct Row {
    name: String,
    display_name: String,
    /// Nothing where no service manager knows.
    state: Option<&'static str>,
    pid: Option<u32>,
    /// The service manager's.
    exit_code: Option<u32>,
    /// The service's own, on Windows.
    own_exit_code: Option<u32>,
    config: String,
    state_dir: String,
}

impl Row {
    fn new(found: Found, place: &Place, drives: bool) -> Self {
        let Found { name, display_name, status, .. } = found;
        Self {
            name,
            display_name,
            state: drives.then(|| word(status.state)),
            pid: status.pid,
            exit_code: drives.then_some(status.exit_code),
            own_exit_code: status.own_exit_code,
            config: place.config.display().to_string(),
            state_dir: place.state.display().to_string(),
        }
    }
}

/// The words of services' states, which the table of signs knows.
fn word(state: State) -> &'static str {
    match state {
        State::Stopped => "stopped",
        State::StartPending | State::ContinuePending => "starting",
        State::StopPending => "stopping",
        State::Running => "running",
        State::PausePending | State::Paused => "paused",
    }
}

impl StatusArgs {
    pub(super) fn run(self, cx: &Context) -> Result<i32> {
        let host = self.which.whose.host()?;
        let name = &self.which.name;
        let place = Place::installed(&host, name)?;
        if !host.drives() {
            talk(&format!(
                "{name} is started at logon; keepwell status --state {} shows how it is",
                place.state.display()
            ));
            return Ok(exit::DONE);
        }
        let status = host.status(name).map_err(failure)?;
        let code = if status.state == State::Stopped { exit::NOT_RUNNING } else { exit::DONE };
        let found = Found { name: name.clone(), display_name: name.clone(), status, command: Vec::new() };
        if self.json {
            output::print(&json::document(&Row::new(found, &place, true))?)?;
        } else {
            output::print(&human(&found, &place, &cx.look()))?;
        }
        Ok(code)
    }
}

fn human(found: &Found, place: &Place, look: &Look) -> String {
    let (sign, paint) = signed(&found.status, look);
    let mut text =
        format!("{}  {}{}", found.name, look.paint(paint, &sign), super::drive::pid(&found.status));
    if let Some(why) = found.status.why().filter(|_| found.status.state == State::Stopped) {
        text += &format!("  {why}");
    }
    text += &format!("\n  configuration  {}\n", place.config.display());
    text += &format!("  state          {}\n", place.state.display());
    text += &match found.status.state {
        State::Stopped => format!("keepwell service start {} starts it\n", found.name),
        State::StartPending
        | State::StopPending
        | State::Running
        | State::ContinuePending
        | State::PausePending
        | State::Paused => format!("keepwell status --state {} shows its programs\n", place.state.display()),
    };
    text
}

fn signed(status: &Status, look: &Look) -> (String, Paint) {
    state_text(word(status.state), look)
}

impl Show {
    pub(super) fn run(self) -> Result<i32> {
        let host = self.which.whose.host()?;
        let all = host.show(&self.which.name).map_err(failure)?;
        if self.json {
            let all: std::collections::BTreeMap<String, String> =
                all.into_iter().map(|(what, value)| (what.replace(' ', "_").to_lowercase(), value)).collect();
            output::print(&json::document(&all)?)?;
            return Ok(exit::DONE);
        }
        let width = all.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        let lines: String = all.iter().map(|(what, value)| format!("{what:width$}  {value}\n")).collect();
        output::print(&lines)?;
        Ok(exit::DONE)
    }
}

impl List {
    pub(super) fn run(self, cx: &Context) -> Result<i32> {
        let host = self.whose.host()?;
        let all = host.list(&|command| Place::of("", command).is_some()).map_err(failure)?;
        let drives = host.drives();
        let placed: Vec<(Found, Place)> =
            all.into_iter().filter_map(|f| Place::of(&f.name, &f.command).map(|p| (f, p))).collect();
        if self.json {
            let rows: Vec<Row> = placed.into_iter().map(|(f, p)| Row::new(f, &p, drives)).collect();
            output::print(&json::document(&rows)?)?;
            return Ok(exit::DONE);
        }
        if placed.is_empty() {
            talk("no service of this host is keepwell's; keepwell service install and add make some");
            return Ok(exit::DONE);
        }
        output::print(&table(&placed, drives, &cx.look()))?;
        Ok(exit::DONE)
    }
}

fn table(placed: &[(Found, Place)], drives: bool, look: &Look) -> String {
    let column = |title, drop, optional| Column { title, drop, optional };
    let columns = [
        column("SERVICE", 0, false),
        column("STATE", 0, true),
        column("PID", 2, true),
        column("CONFIGURATION", 0, false),
    ];
    let row = |(found, place): &(Found, Place)| {
        let (state, paint) = if drives { signed(&found.status, look) } else { (String::new(), Paint::Plain) };
        vec![
            Cell::plain(&found.name),
            Cell::new(state, paint),
            Cell::plain(found.status.pid.map_or_else(|| "–".to_owned(), |pid| pid.to_string())),
            Cell::plain(place.config.display().to_string()),
        ]
    };
    render(&columns, &placed.iter().map(row).collect::<Vec<_>>(), look)
}
