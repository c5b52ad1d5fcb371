//! `keepwell completions`.

use clap::Args;
use clap_complete::Shell;

use crate::failure::Result;
use crate::output;

/// Write completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell completions bash > /etc/bash_completion.d/keepwell
  keepwell completions zsh > ~/.zfunc/_keepwell
  keepwell completions fish > ~/.config/fish/completions/keepwell.fish
  keepwell completions powershell >> $PROFILE")]
pub(crate) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<i32> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::definition(), "keepwell", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(keepwell_sdk::exit::DONE)
    }
}
