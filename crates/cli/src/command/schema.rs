//! `keepwell schema`.

use clap::Args;

use crate::failure::Result;
use crate::output;

/// Write the JSON Schema of keepwell.toml, for editors
#[derive(Args, Debug)]
#[command(after_help = "Example:
  keepwell schema > keepwell.schema.json     # then, in keepwell.toml: #:schema ./keepwell.schema.json")]
pub(crate) struct Schema {}

impl Schema {
    pub(crate) fn run(self) -> Result<i32> {
        output::print(&output::json::document(&keepwell_config::schema())?)?;
        Ok(keepwell_sdk::exit::DONE)
    }
}
