//! `keepwell service start`, `stop` and `restart`.

use std::process::Command;

use clap::Args;
use keepwell_sdk::exit;
use keepwell_service::Error;
use keepwell_service::manager::{Host, State, Status};

use super::place::Place;
use super::{Patience, Which, Whose, failure};
use crate::command::wait_for;
use crate::failure::{Failure, Result, io_words};
use crate::guardian::{Guardian, socket_in};
use crate::locate::Place as Endpoint;
use crate::output::talk;

/// Start a service and wait until the host says that it runs
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service start
  keepwell service start shop --timeout 30s")]
pub(super) struct Start {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    patience: Patience,
}

/// Stop a service, with all that it guards, and wait until it has
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service stop
  keepwell service stop shop --timeout 30s")]
pub(super) struct Stop {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    patience: Patience,
}

/// Stop a service and start it again
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service restart
  keepwell service restart shop")]
pub(super) struct Restart {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    patience: Patience,
}

impl Start {
    pub(super) fn run(self) -> Result<i32> {
        start(&self.which.whose.host()?, &self.which.name, self.patience)?;
        Ok(exit::DONE)
    }
}

impl Stop {
    pub(super) fn run(self) -> Result<i32> {
        stop(&self.which.whose.host()?, &self.which.name, self.patience)?;
        Ok(exit::DONE)
    }
}

impl Restart {
    pub(super) fn run(self) -> Result<i32> {
        let host = self.which.whose.host()?;
        stop(&host, &self.which.name, self.patience)?;
        start(&host, &self.which.name, self.patience)?;
        Ok(exit::DONE)
    }
}

/// Says that it runs when it does. One that runs already is no failure.
///
/// # Errors
/// When it does not run.
pub(super) fn start(host: &Host, name: &str, patience: Patience) -> Result<()> {
    if !host.drives() {
        let command = host.command(name).map_err(failure)?;
        must_be_mine(host, name, "start")?;
        return by_itself(name, &command);
    }
    match host.start(name, patience.timeout) {
        Ok(status) => talk(&format!("the service {name} runs{}", pid(&status))),
        Err(Error::RunsAlready(_)) => talk(&format!("the service {name} runs already")),
        Err(error) => return Err(failure(error)),
    }
    Ok(())
}

/// What follows on the registration: the start, if it is `now` waited for, else how it is started, unless it runs.
///
/// # Errors
/// When it does not start.
pub(super) fn begin(host: &Host, name: &str, whose: Whose, now: Option<Patience>) -> Result<()> {
    if let Some(patience) = now {
        return start(host, name, patience);
    }
    let runs = host.drives() && host.status(name).is_ok_and(|s| s.state != State::Stopped);
    if !runs {
        talk(&format!("keepwell service start{} {name} starts it now", whose.option()));
    }
    Ok(())
}

/// Says that it has stopped when it has. One that does not run is no failure.
///
/// # Errors
/// When it still runs.
pub(super) fn stop(host: &Host, name: &str, patience: Patience) -> Result<()> {
    if !host.drives() {
        let place = Place::installed(host, name)?;
        must_be_mine(host, name, "stop")?;
        let endpoint = Endpoint::named(socket_in(&place.state));
        if wait_for(async { Ok(Guardian::at(&endpoint).await.is_err()) })? {
            talk(&format!("the service {name} does not run"));
            return Ok(());
        }
        let program = std::env::current_exe().unwrap_or_else(|_| "keepwell".into()).display().to_string();
        let down = [program, "down".into(), "--state".into(), place.state.display().to_string()];
        return by_itself(name, &down);
    }
    host.stop(name, patience.timeout).map_err(failure)?;
    talk(&format!("the service {name} has stopped"));
    Ok(())
}

/// What each user's service manager starts is theirs to drive.
fn must_be_mine(host: &Host, name: &str, verb: &str) -> Result<()> {
    if !host.supervises() {
        return Ok(());
    }
    Err(Failure::usage(format!("the service {name} is each user's own"))
        .hint(format!("as the user whose it is: systemctl --user {verb} {name}")))
}

/// What only starts at logon is started and ended by keepwell's own commands, which say themselves what comes of it.
fn by_itself(name: &str, command: &[String]) -> Result<()> {
    let [program, arguments @ ..] = command else {
        return Err(Failure::failed(format!("the service `{name}` has no program")));
    };
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|e| Failure::failed(format!("{program} cannot be started: {}", io_words(&e))))?;
    match status.code() {
        Some(exit::DONE) => Ok(()),
        code => Err(Failure::silent(code.unwrap_or(exit::FAILED))),
    }
}

pub(super) fn pid(status: &Status) -> String {
    status.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}
