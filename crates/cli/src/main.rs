//! The binary `keepwell`: what people type, and what they see. Decides nothing and touches no service but through the API.

mod change;
mod command;
mod config_check;
mod detach;
mod everyone;
mod failure;
mod follow;
mod guardian;
mod hold;
mod internal;
mod interrupt;
mod locate;
mod output;
mod serve;
mod through;
mod time;
mod view;
mod wait;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use output::{ColorChoice, Look, Paint};

/// Keeps programs running well.
///
/// Write a keepwell.toml (keepwell init), run it (keepwell up), look (keepwell status) and ask why (keepwell explain
/// SERVICE).
#[derive(Parser, Debug)]
#[command(
    name = "keepwell",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Examples:
  keepwell init                                  # a commented keepwell.toml
  keepwell up                                    # run it; Ctrl+C stops all
  keepwell up --detach && keepwell status        # run it in the background
  keepwell explain web                           # why is it so, what happens next
  keepwell run --restart on-failure -- ./server  # one program, no file

Exit codes: 0 done, 1 it failed, 2 wrong use or configuration, 3 not running, 4 timed out"
)]
struct Cli {
    /// When to use colours and symbols
    #[arg(long, value_enum, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto, hide_possible_values = true)]
    color: ColorChoice,
    #[command(subcommand)]
    command: command::Command,
}

/// The command line's definition, for parsing and for completions.
fn definition() -> clap::Command {
    // `-f` follows in the commands that follow, as hands know it from tail, and names the file in the others.
    let without_short = |c: clap::Command| c.mut_arg("file", |a| a.short(None));
    Cli::command().mut_subcommand("logs", without_short).mut_subcommand("events", without_short)
}

fn main() -> ExitCode {
    if let Some(code) = keepwell_os::stop::run_as_sender() {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let (color, done) = match internal::Part::of(std::env::args_os()) {
        Some(own) => (own.color, own.part.run(&command::Context { color: own.color })),
        None => match definition().try_get_matches().and_then(|m| Cli::from_arg_matches(&m)) {
            Ok(cli) => (cli.color, cli.command.run(&command::Context { color: cli.color })),
            Err(error) => error.exit(),
        },
    };
    let code = done.unwrap_or_else(|failure| {
        if !failure.text.is_empty() {
            let look = Look::stderr(color);
            output::talk(&format!("{} {}", look.paint(Paint::Bad, "error:"), look.text(&failure.text)));
            if let Some(hint) = &failure.hint {
                output::talk(&format!("       {}", look.text(hint)));
            }
        }
        failure.code
    });
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests;
