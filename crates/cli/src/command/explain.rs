//! `keepwell explain`.

use clap::Args;

use super::Context;
use crate::failure::Result;
use crate::guardian::Guardian;
use crate::locate::Target;
use crate::output::{self, explain, json};

/// Say why a service is as it is, what happens next by itself, and what you can do
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell explain worker
  keepwell explain web@2 --json")]
pub(crate) struct Explain {
    /// A name, or a single instance like web@2
    #[arg(value_name = "SERVICE")]
    service: String,
    /// For machines: an array, one object an instance
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Explain {
    pub(crate) async fn run(self, cx: &Context) -> Result<i32> {
        let guardian = Guardian::find(&self.target, std::slice::from_ref(&self.service)).await?;
        let all = guardian.explain(&self.service).await?;
        let text = match self.json {
            true => json::document(&all)?,
            false => explain::explain(&all, &cx.look()),
        };
        output::print(&text)?;
        Ok(keepwell_sdk::exit::DONE)
    }
}
