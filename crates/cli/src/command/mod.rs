//! The commands, one file each, and what they share.

mod check;
mod completions;
mod disable;
mod down;
mod enable;
mod events;
mod explain;
mod import;
mod incidents;
mod info;
mod init;
mod log_level;
mod logs;
mod notify;
mod pause;
mod reload;
mod restart;
mod resume;
pub(crate) mod run;
mod scale;
mod schema;
pub(crate) mod service;
mod signal;
mod start;
mod status;
mod stop;
mod up;
pub(crate) mod written;

use clap::Subcommand;

use crate::failure::{Failure, Result};
use crate::output::{ColorChoice, Look};

/// What a person can ask.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Up(up::Up),
    Down(down::Down),
    Run(run::Run),
    Status(status::StatusArgs),
    Explain(explain::Explain),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(restart::Restart),
    Reload(reload::Reload),
    Logs(logs::Logs),
    Events(events::Events),
    Incidents(incidents::IncidentsArgs),
    Notify(notify::NotifyArgs),
    Signal(signal::Signal),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Enable(enable::Enable),
    Disable(disable::Disable),
    Scale(scale::Scale),
    Check(check::Check),
    Schema(schema::Schema),
    Init(init::Init),
    Info(info::InfoArgs),
    LogLevel(log_level::LogLevelArgs),
    Service(Box<service::Service>),
    Import(import::Import),
    Completions(completions::Completions),
}

/// What holds for every command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// `--color`.
    pub(crate) color: ColorChoice,
}

impl Context {
    /// Of stdout.
    pub(crate) fn look(&self) -> Look {
        Look::stdout(self.color)
    }
}

impl Command {
    /// Does it; answers the exit code.
    ///
    /// # Errors
    /// What `main` prints.
    pub(crate) fn run(self, cx: &Context) -> Result<i32> {
        match self {
            Command::Up(c) => c.run(cx),
            Command::Down(c) => wait_for(c.run(cx)),
            Command::Run(c) => c.run(cx),
            Command::Status(c) => wait_for(c.run(cx)),
            Command::Explain(c) => wait_for(c.run(cx)),
            Command::Start(c) => wait_for(c.run(cx)),
            Command::Stop(c) => wait_for(c.run(cx)),
            Command::Restart(c) => wait_for(c.run(cx)),
            Command::Reload(c) => wait_for(c.run(cx)),
            Command::Logs(c) => wait_for(c.run(cx)),
            Command::Events(c) => wait_for(c.run(cx)),
            Command::Incidents(c) => wait_for(c.run(cx)),
            Command::Notify(c) => wait_for(c.run(cx)),
            Command::Signal(c) => wait_for(c.run()),
            Command::Pause(c) => wait_for(c.run()),
            Command::Resume(c) => wait_for(c.run()),
            Command::Enable(c) => wait_for(c.run()),
            Command::Disable(c) => wait_for(c.run()),
            Command::Scale(c) => wait_for(c.run(cx)),
            Command::Check(c) => c.run(cx),
            Command::Schema(c) => c.run(),
            Command::Init(c) => c.run(),
            Command::Info(c) => wait_for(c.run(cx)),
            Command::LogLevel(c) => wait_for(c.run()),
            Command::Service(c) => c.run(cx),
            Command::Import(c) => c.run(),
            Command::Completions(c) => c.run(),
        }
    }
}

/// Runs a conversation with a guardian to its end.
///
/// # Errors
/// The conversation's, or that this process could not even begin it.
pub(crate) fn wait_for<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        Failure::failed(format!("the network cannot be used: {}", crate::failure::io_words(&e)))
            .hint("are there file descriptors left? ulimit -n")
    })?;
    runtime.block_on(future)
}
