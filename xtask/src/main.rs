//! The project's own chores: `cargo xtask help`.
//!
//! Nothing here is part of what is shipped. It depends on as little as possible, so that it starts within seconds on a
//! fresh clone.

mod bench;
mod clients;
mod debian;
mod prometheus;
mod schema;
mod stages;
mod tidy;
mod tool;
mod windows;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test [STAGE…]               everything that has to pass before a change lands, or only the stages named
  test --list                 the stages, in order, and what each does
  tidy                        the rules that no lint knows (a stage of test)
  bench [--quick] [METRIC…]   keepwell and its peers, measured in one run (release build); bench --help
  bench --install-peers       fetch the peers that this machine can have
  sim ARGS…                   the simulation: sim --help tells how to replay a seed
  schema                      write schemas/ again from the types that read the configuration
  help                        this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", [].as_slice()),
    };
    let outcome = match command {
        "test" => stages::test(rest),
        "tidy" => tidy::check(&tool::root()).map(|()| println!("tidy")),
        "bench" => bench::bench(rest),
        "sim" => bench::sim(rest),
        "schema" => schema::write(),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => {
            eprintln!("error: there is no chore named `{unknown}`\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
