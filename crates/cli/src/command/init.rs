//! `keepwell init`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::failure::{Failure, Result, io_words};
use crate::locate::CONFIG;
use crate::output::talk;

/// Write a commented starter keepwell.toml; never over an existing one
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell init
  keepwell init shop/keepwell.toml")]
pub(crate) struct Init {
    /// Where to
    #[arg(value_name = "FILE", default_value = CONFIG)]
    file: PathBuf,
}

impl Init {
    pub(crate) fn run(self) -> Result<i32> {
        let shown = self.file.display();
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::failed(format!("{shown} is there already; it was not changed"))
                    .hint("keepwell check tells whether it is fine; keepwell init FILE writes another")
            }
            _ => Failure::failed(format!("{shown} cannot be written: {}", io_words(&e))),
        };
        let mut file = std::fs::File::create_new(&self.file).map_err(failed)?;
        file.write_all(keepwell_config::starter().as_bytes()).map_err(failed)?;
        talk(&format!("wrote {shown}; change it to your needs, then: keepwell up"));
        Ok(keepwell_sdk::exit::DONE)
    }
}
