//! `keepwell service`: keepwell, and any program, as a service of the host.

mod add;
mod change;
mod check;
mod definition;
mod drive;
mod events;
mod install;
mod look;
mod permit;
pub(crate) mod place;
mod upgrade;

pub(crate) use add::service_name;

use std::time::Duration;

use clap::{Args, Subcommand};
use keepwell_service::Error;
use keepwell_service::manager::{Host, Scope};

use super::Context;
use crate::failure::{Failure, Result, io_words};
use crate::time;

/// Run keepwell, or any program, as a service of Windows or of systemd
///
/// A service is a guardian of its own that the host starts at boot. Without administrator rights, --user has it started
/// when you log on.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service install --config keepwell.toml --now     # all that it holds, as one service
  keepwell service add web -- python3 -m http.server 8080   # one program as a service
  keepwell service list
  keepwell service restart web
  keepwell service uninstall")]
pub(crate) struct Service {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Install(install::Install),
    Uninstall(install::Uninstall),
    Start(drive::Start),
    Stop(drive::Stop),
    Restart(drive::Restart),
    Status(look::StatusArgs),
    Show(look::Show),
    List(look::List),
    Check(check::Check),
    Upgrade(upgrade::Upgrade),
    Add(add::Add),
    Remove(add::Remove),
    Edit(change::Edit),
    Get(change::Get),
    Set(change::Set),
    Dump(change::Dump),
}

impl Service {
    pub(crate) fn run(self, cx: &Context) -> Result<i32> {
        match self.verb {
            Verb::Install(c) => c.run(cx),
            Verb::Uninstall(c) => c.run(),
            Verb::Start(c) => c.run(),
            Verb::Stop(c) => c.run(),
            Verb::Restart(c) => c.run(),
            Verb::Status(c) => c.run(cx),
            Verb::Show(c) => c.run(),
            Verb::List(c) => c.run(cx),
            Verb::Check(c) => c.run(cx),
            Verb::Upgrade(c) => c.run(),
            Verb::Add(c) => c.run(cx),
            Verb::Remove(c) => c.run(),
            Verb::Edit(c) => c.run(cx),
            Verb::Get(c) => c.run(),
            Verb::Set(c) => c.run(cx),
            Verb::Dump(c) => c.run(),
        }
    }
}

/// The service that is meant when none is named.
const DEFAULT: &str = "keepwell";

/// Whose services.
#[derive(Args, Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Whose {
    /// Yours: started when you log on, without administrator rights
    #[arg(long, conflicts_with = "all_users")]
    user: bool,
    /// Each user's: started when anybody logs on
    #[arg(long)]
    all_users: bool,
}

impl Whose {
    fn scope(self) -> Scope {
        match (self.user, self.all_users) {
            (true, _) => Scope::User,
            (false, true) => Scope::AllUsers,
            (false, false) => Scope::System,
        }
    }

    fn host(self) -> Result<Host> {
        Host::new(self.scope()).map_err(failure)
    }

    /// As it is to be typed again, with a blank in front.
    fn option(self) -> &'static str {
        match self.scope() {
            Scope::User => " --user",
            Scope::AllUsers => " --all-users",
            Scope::System => "",
        }
    }
}

/// One service.
#[derive(Args, Clone, Debug)]
struct Which {
    /// The service
    #[arg(default_value = DEFAULT)]
    name: String,
    #[command(flatten)]
    whose: Whose,
}

/// How long a change is waited for.
#[derive(Args, Clone, Copy, Debug)]
struct Patience {
    /// Wait no longer than this (exit code 4)
    #[arg(long, value_name = "DURATION", value_parser = time::parse, default_value = "3m")]
    timeout: Duration,
}

/// What the service manager answered, with the exit code that fits and the next step.
fn failure(error: Error) -> Failure {
    let text = error.to_string();
    match error {
        Error::Invalid(_) => Failure::usage(text),
        Error::NoSuchService(_) => {
            Failure::usage(text).hint("keepwell service list shows those that there are")
        }
        Error::Denied(_) => Failure::failed(text)
            .hint("administrators may: use an elevated prompt, or sudo; --user does without such rights"),
        Error::DoesNotRun(_) => Failure::not_running(text),
        Error::TimedOut { .. } => {
            Failure::timed_out(text).hint("it goes on; keepwell service status shows how it is")
        }
        Error::BeingDeleted(_) => {
            Failure::failed(text).hint("close the windows that show services (services.msc, Task Manager)")
        }
        Error::Needed { .. } => Failure::failed(text).hint("stop those first"),
        Error::Disabled(name) => Failure::failed(text)
            .hint(format!("keepwell service install --name {name} --start auto enables it")),
        Error::Ended { name, .. } => Failure::failed(text).hint(place::last_words(&name)),
        Error::System { step, source } => Failure::failed(format!("could not {step}: {}", io_words(&source))),
        _ => Failure::failed(text),
    }
}
