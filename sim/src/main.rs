//! `keepwell-sim --seeds 20000 [--from N]` runs many cases, `--seed N --trace` shows one; `--leaks 1000 [--from N]` scores
//! the prediction of leaks on so many series of each kind.

use std::process::ExitCode;

use keepwell_sim::leaks;
use keepwell_sim::plant::Plant;
use keepwell_sim::random;

fn main() -> ExitCode {
    let (mut seeds, mut from, mut trace, mut series) = (1_000_u64, 0_u64, false, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok());
        let known = match arg.as_str() {
            "--seeds" => number().map(|n| seeds = n),
            "--leaks" => number().map(|n| series = Some(n)),
            "--from" => number().map(|n| from = n),
            "--seed" => number().map(|n| (from, seeds) = (n, 1)),
            "--trace" => {
                trace = true;
                Some(())
            }
            _ => None,
        };
        if known.is_none() {
            eprintln!(
                "usage: keepwell-sim [--seeds N] [--from N] | --seed N [--trace] | --leaks N [--from N]"
            );
            return ExitCode::from(2);
        }
    }
    if let Some(count) = series {
        print!("{}", leaks::table(&leaks::run(count, from)));
        return ExitCode::SUCCESS;
    }
    // What panics is told as a broken invariant below.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut spawns, mut failed) = (0, 0);
    for seed in from..from.saturating_add(seeds) {
        let report = random::run(seed, Plant::Nothing, trace);
        for line in &report.trace {
            println!("{line}");
        }
        spawns += report.spawns;
        if let Some(broken) = report.broken {
            failed += 1;
            eprintln!("seed {seed}: {broken}");
            eprintln!("  replay: cargo run -p keepwell-sim -- --seed {seed} --trace");
            if failed >= 10 {
                break;
            }
        }
    }
    println!("{seeds} cases, {spawns} processes, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
