//! Chores that only pass their arguments on: the bench and the simulation.

use std::process::Command;

use anyhow::Result;

use crate::tool::{cargo, root, run, target_dir};

/// `cargo xtask bench`: a release build of keepwell, then `bench/bench.py` with the arguments as they are.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let needs_keepwell =
        !arguments.iter().any(|word| matches!(word.as_str(), "--install-peers" | "-h" | "--help"));
    if needs_keepwell {
        run(cargo().args(["build", "--release", "--package", "keepwell"]))?;
    }
    let keepwell = target_dir().join("release/keepwell");
    run(Command::new("python3").arg(root().join("bench/bench.py")).args(arguments).env("KEEPWELL", keepwell))
}

/// `cargo xtask sim`: the simulation's own program, with the arguments as they are.
pub(crate) fn sim(arguments: &[String]) -> Result<()> {
    run(cargo().args(["run", "--quiet", "--package", "keepwell-sim", "--"]).args(arguments))
}
