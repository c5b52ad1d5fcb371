//! `keepwell pause`.

use std::time::Duration;

use clap::Args;
use keepwell_sdk::wire::CommandRequest;

use crate::change::at_once;
use crate::failure::Result;
use crate::locate::Target;
use crate::time;

/// Hold services as they are: no restarts until `keepwell resume`
///
/// A program that runs goes on running; if it ends, it is not started again. The hold outlives restarts of keepwell.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell pause web                       # look at it in peace
  keepwell pause web --freeze              # and let it run no further
  keepwell pause web --stop-after 10m      # stop it unless it is resumed by then")]
pub(crate) struct Pause {
    /// Names, or single instances like web@2
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    /// Freeze all of its processes too
    #[arg(long)]
    freeze: bool,
    /// Stop it if it is still held after this long
    #[arg(long, value_name = "DURATION", value_parser = time::parse)]
    stop_after: Option<Duration>,
    #[command(flatten)]
    target: Target,
}

impl Pause {
    pub(crate) async fn run(self) -> Result<i32> {
        let request = CommandRequest {
            verb: "pause".into(),
            services: self.services,
            freeze: self.freeze,
            stop_after_ms: self.stop_after.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            ..CommandRequest::default()
        };
        at_once(&self.target, &request).await
    }
}
