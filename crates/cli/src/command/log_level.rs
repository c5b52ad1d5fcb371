//! `keepwell log-level`.

use clap::{Args, ValueEnum};

use crate::failure::Result;
use crate::guardian::Guardian;
use crate::locate::Target;

/// Change how much keepwell writes to its own log, keepwell.log in the state folder, while it runs
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell log-level debug
  keepwell log-level info")]
pub(crate) struct LogLevelArgs {
    /// From the least to the most
    #[arg(value_enum)]
    level: Level,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevelArgs {
    pub(crate) async fn run(self) -> Result<i32> {
        let level = match self.level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let guardian = Guardian::find_for_change(&self.target, &[]).await?;
        let now = guardian.log_level(level).await?;
        crate::output::talk(&format!("keepwell logs at level {now} from now on"));
        Ok(keepwell_sdk::exit::DONE)
    }
}
