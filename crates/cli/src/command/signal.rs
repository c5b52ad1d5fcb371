//! `keepwell signal`.

use clap::{Args, ValueEnum};
use keepwell_sdk::wire::CommandRequest;

use crate::change::at_once;
use crate::failure::Result;
use crate::locate::Target;

/// Send a signal to services; changes nothing else
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell signal HUP web           # to its main process
  keepwell signal USR1 web@2
  keepwell signal TERM web --to tree")]
pub(crate) struct Signal {
    /// HUP, SIGHUP or a number
    #[arg(value_name = "SIGNAL")]
    signal: String,
    /// Names, or single instances like web@2
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// Who gets it
    #[arg(long, value_enum, default_value_t = To::Main)]
    to: To,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum To {
    /// The main process
    Main,
    /// The main process's process group
    Group,
    /// Every process of the tree
    Tree,
}

impl Signal {
    pub(crate) async fn run(self) -> Result<i32> {
        let to = match self.to {
            To::Main => "main",
            To::Group => "group",
            To::Tree => "tree",
        };
        let request = CommandRequest {
            verb: "signal".into(),
            services: self.services,
            signal: Some(self.signal),
            to: Some(to.into()),
            ..CommandRequest::default()
        };
        at_once(&self.target, &request).await
    }
}
