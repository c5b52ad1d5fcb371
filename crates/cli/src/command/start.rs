//! `keepwell start`.

use clap::Args;
use keepwell_sdk::wire::CommandRequest;

use super::Context;
use crate::change::{Waiting, change};
use crate::failure::Result;
use crate::locate::Target;
use crate::wait::Goal;

/// Start services, and wait until they are up
///
/// What had been stopped stays up from now on, also over restarts of keepwell. Restart counts begin anew, so this is also
/// the way to try a crash-looping service at once.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell start web
  keepwell start web worker --timeout 30s
  keepwell start worker --ignore-dependencies
  keepwell start web@2                           # one instance")]
pub(crate) struct Start {
    /// Names, or single instances like web@2
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// Start even though what it depends on is not up
    #[arg(long)]
    ignore_dependencies: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    target: Target,
}

impl Start {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let request = CommandRequest {
            verb: "start".into(),
            services: self.services,
            ignore_dependencies: self.ignore_dependencies,
            ..CommandRequest::default()
        };
        change(cx, &self.target, request, Some((Goal::Up, self.waiting))).await
    }
}
