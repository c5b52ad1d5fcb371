//! `keepwell enable`.

use clap::Args;
use keepwell_sdk::wire::CommandRequest;

use crate::change::at_once;
use crate::failure::Result;
use crate::locate::Target;

/// Let services be started by `keepwell up` and at boot; starts nothing now
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell enable report
  keepwell enable report && keepwell start report")]
pub(crate) struct Enable {
    /// Names, or single instances like web@2
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    target: Target,
}

impl Enable {
    pub(crate) async fn run(self) -> Result<i32> {
        let request =
            CommandRequest { verb: "enable".into(), services: self.services, ..CommandRequest::default() };
        at_once(&self.target, &request).await
    }
}
