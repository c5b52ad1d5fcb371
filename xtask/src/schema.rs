//! `cargo xtask schema`: the JSON Schema of the configuration, which editors read, kept as a file.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tool::{cargo, output, root, run, target_dir};

fn file() -> PathBuf {
    root().join("schemas/keepwell.schema.json")
}

/// What the binary that was built says.
fn from_binary() -> Result<String> {
    let binary = target_dir().join("debug/keepwell");
    let text = output(Command::new(&binary).arg("schema"))
        .with_context(|| format!("`{} schema` failed", binary.display()))?;
    Ok(text + "\n")
}

/// Builds keepwell and writes its schema into `schemas/`.
pub(crate) fn write() -> Result<()> {
    // The whole workspace, since `-p` would choose other features and compile everything again.
    run(cargo().args(["build", "--workspace", "--bins"]))?;
    std::fs::create_dir_all(root().join("schemas")).context("could not make schemas/")?;
    std::fs::write(file(), from_binary()?).context("could not write the schema")?;
    println!("wrote schemas/keepwell.schema.json");
    Ok(())
}

/// Compares `schemas/` with what the binary says.
pub(crate) fn verify() -> Result<()> {
    let stored = std::fs::read_to_string(file()).context("could not read schemas/keepwell.schema.json")?;
    if stored != from_binary()? {
        bail!("schemas/keepwell.schema.json is out of date: run `cargo xtask schema` and commit it");
    }
    println!("schemas/keepwell.schema.json is up to date");
    Ok(())
}
