//! `keepwell restart`.

use clap::Args;
use keepwell_sdk::wire::CommandRequest;

use super::Context;
use crate::change::{Waiting, change};
use crate::failure::Result;
use crate::locate::Target;
use crate::wait::Goal;

/// Stop services and start them again, and wait until they are up
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell restart web
  keepwell restart web@2 --timeout 30s")]
pub(crate) struct Restart {
    /// Names, or single instances like web@2
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    target: Target,
}

impl Restart {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let request =
            CommandRequest { verb: "restart".into(), services: self.services, ..CommandRequest::default() };
        change(cx, &self.target, request, Some((Goal::Up, self.waiting))).await
    }
}
