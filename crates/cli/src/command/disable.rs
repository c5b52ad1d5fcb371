//! `keepwell disable`.

use clap::Args;
use keepwell_sdk::wire::CommandRequest;

use crate::change::at_once;
use crate::failure::Result;
use crate::locate::Target;

/// Let services not be started by `keepwell up` or at boot; stops nothing now
///
/// `keepwell start` still starts them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell disable report
  keepwell disable report && keepwell stop report")]
pub(crate) struct Disable {
    /// Names, or single instances like web@2
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    target: Target,
}

impl Disable {
    pub(crate) async fn run(self) -> Result<i32> {
        let request =
            CommandRequest { verb: "disable".into(), services: self.services, ..CommandRequest::default() };
        at_once(&self.target, &request).await
    }
}
