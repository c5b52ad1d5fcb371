//! `keepwell up`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keepwell_anchor::RunningWhen;
use keepwell_daemon::options::Options;

use super::Context;
use crate::config_check::must_load;
use crate::detach::detach;
use crate::failure::Result;
use crate::hold::{Hold, ViewStyle, hold, under_manager};
use crate::locate::{Surroundings, Target};
use crate::output::Look;
use crate::time;
use crate::wait::Telling;

/// Start the services of a configuration file, and keep them running
///
/// In the foreground until Ctrl+C, which stops them in reverse order; a second Ctrl+C ends them at once. What an operator
/// had stopped stays stopped.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell up
  keepwell up -f examples/quickstart/keepwell.toml
  keepwell up --detach            # give the terminal back when all is ready
  keepwell up --quiet             # without the services' output
  keepwell up --json | head       # for machines: one object a line")]
pub(crate) struct Up {
    /// The configuration; otherwise the nearest keepwell.toml, here or in a folder above
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["user", "system"])]
    file: Option<PathBuf>,
    /// Give the terminal back when all is ready (exit code 0), or is known not to be (1 or 4)
    #[arg(short, long)]
    detach: bool,
    /// With --detach: wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = time::parse, default_value = "2m", requires = "detach")]
    timeout: Duration,
    /// Leave out the services' output
    #[arg(short, long)]
    quiet: bool,
    /// For machines: one object a line
    #[arg(long)]
    json: bool,
    /// Start also what an operator had stopped
    #[arg(long)]
    all: bool,
    /// The state folder; otherwise .keepwell beside the configuration
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The user's services: ~/.config/keepwell/keepwell.toml
    #[arg(long, conflicts_with = "system")]
    user: bool,
    /// The system's services: /etc/keepwell/keepwell.toml
    #[arg(long)]
    system: bool,
}

impl Up {
    pub(crate) fn run(self, cx: &Context) -> Result<i32> {
        let target = Target {
            file: self.file.clone(),
            state: self.state.clone(),
            user: self.user,
            system: self.system,
            ..Target::default()
        };
        let home = Surroundings::here()?.home(&target)?;
        must_load(&home, &Look::stderr(cx.color))?;
        let options = Options {
            base: home.config.parent().map(PathBuf::from).unwrap_or_default(),
            config: Some(home.config),
            inline: None,
            state_dir: home.state,
            scope: home.scope.name().into(),
            view: false,
            clear_desired: self.all,
            single: false,
            managed: under_manager(),
            service: None,
        };
        if self.detach {
            let telling = Telling { quiet: self.quiet, json: self.json };
            return detach(cx, &options, self.timeout, telling);
        }
        let view = match (self.json, self.quiet) {
            (true, quiet) => ViewStyle::Json { quiet },
            (false, quiet) => ViewStyle::Lines { quiet },
        };
        hold(cx, Hold { options, view: Some(view), running_when: RunningWhen::Up })
    }
}
