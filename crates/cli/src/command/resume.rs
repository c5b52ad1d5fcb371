//! `keepwell resume`.

use clap::Args;
use keepwell_sdk::wire::CommandRequest;

use crate::change::at_once;
use crate::failure::Result;
use crate::locate::Target;

/// End the hold of `keepwell pause`
#[derive(Args, Debug)]
#[command(after_help = "Example:
  keepwell resume web")]
pub(crate) struct Resume {
    /// Names, or single instances like web@2
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    target: Target,
}

impl Resume {
    pub(crate) async fn run(self) -> Result<i32> {
        let request =
            CommandRequest { verb: "resume".into(), services: self.services, ..CommandRequest::default() };
        at_once(&self.target, &request).await
    }
}
