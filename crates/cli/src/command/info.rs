//! `keepwell info`.

use clap::Args;

use super::Context;
use crate::failure::Result;
use crate::guardian::Guardian;
use crate::locate::Target;
use crate::output::{self, human, json};
use crate::time::Clock;

/// Say which guardian this is, where its files are, and what of the host it uses
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell info
  keepwell info --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"anchor_pid\"])'
  curl --unix-socket .keepwell/keepwell.sock http://localhost/v1/info")]
pub(crate) struct InfoArgs {
    /// For machines: one object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl InfoArgs {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let guardian = Guardian::find(&self.target, &[]).await?;
        let info = guardian.info().await?;
        let text = match self.json {
            true => json::document(&info)?,
            false => human::info(&info, &Clock::real(), &cx.look()),
        };
        output::print(&text)?;
        Ok(keepwell_sdk::exit::DONE)
    }
}
