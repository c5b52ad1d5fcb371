//! `keepwell stop`.

use clap::Args;
use keepwell_sdk::wire::CommandRequest;

use super::Context;
use crate::change::{Waiting, change};
use crate::failure::Result;
use crate::locate::Target;
use crate::wait::Goal;

/// Stop services, and wait until nothing of them is left
///
/// They stay stopped, also over restarts of keepwell, until `keepwell start`. What depends on them runs on, unless it is
/// bound to them or --with-dependents is given.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell stop worker
  keepwell stop db --with-dependents    # in reverse order
  keepwell stop web --no-wait")]
pub(crate) struct Stop {
    /// Names, or single instances like web@2
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// Stop first all that depends on them
    #[arg(long)]
    with_dependents: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    target: Target,
}

impl Stop {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let request = CommandRequest {
            verb: "stop".into(),
            services: self.services,
            with_dependents: self.with_dependents,
            ..CommandRequest::default()
        };
        change(cx, &self.target, request, Some((Goal::Down, self.waiting))).await
    }
}
