//! keepwell for Windows, built and run on Linux: the compiler of mingw-w64, and Wine with its service control manager.

use std::process::Command;

use anyhow::Result;

use crate::stages::{Done, lacks_target, passed};
use crate::tool::{cargo, output, root, run};

const GNU: &str = "x86_64-pc-windows-gnu";
const MSVC: &str = "x86_64-pc-windows-msvc";

/// Those whose tests run under Wine. The tests inside daemon and CLI speak of Linux' paths, users and errors: what the two do
/// on Windows is for the stage `wine` to see.
const PACKAGES: &[&str] = &[
    "keepwell-core",
    "keepwell-config",
    "keepwell-os",
    "keepwell-anchor",
    "keepwell-sdk",
    "keepwell-service",
    "keepwell-sim",
];

/// The simulation is the same on every system; what may differ is the arithmetic, and for that fewer cases do.
const SEEDS: &str = "500";

/// A cargo for Windows. Without debug information, which makes each of some thirty programs a hundred megabytes.
fn cargo_for(target: &str, subcommand: &str) -> Command {
    let mut cargo = cargo();
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").args([subcommand, "--target", target]);
    cargo.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    cargo
}

/// The programs that all tests run, with the features that the tests have, so that nothing is compiled twice.
fn build() -> Result<()> {
    let mut build = cargo_for(GNU, "build");
    run(build.args([
        "-p",
        "keepwell",
        "-p",
        "keepwell-wine",
        "--features",
        "keepwell-wine/child",
        "--bins",
        "--examples",
    ]))
}

/// Builds everything once, and runs the tests of the crates under Wine, a prefix for each program of tests.
pub(crate) fn build_and_test() -> Result<Done> {
    if let Some(why) = lacks_tools() {
        return Ok(Done::Skipped(why));
    }
    build()?;
    let mut tests = cargo_for(GNU, "test");
    tests.env("KEEPWELL_SIM_SEEDS", SEEDS).env("KEEPWELL_WINE", "required");
    // Else insta asks cargo, which is none of Windows'.
    tests.env("INSTA_WORKSPACE_ROOT", root());
    tests.env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", root().join("xtask/windows/under-wine"));
    tests.args(["--lib", "--tests", "--no-fail-fast"]);
    passed(&mut tests)
}

/// Whole stories and the scenarios with services, each in a Windows of its own.
pub(crate) fn wine() -> Result<Done> {
    if let Some(why) = lacks_tools() {
        return Ok(Done::Skipped(why));
    }
    build()?;
    let mut tests = cargo();
    tests.env("KEEPWELL_WINE", "required");
    if output(cargo().args(["nextest", "--version"])).is_some() {
        return passed(tests.args(["nextest", "run", "-p", "keepwell-wine"]));
    }
    passed(tests.args(["test", "-p", "keepwell-wine", "--lib", "--tests"]))
}

/// The lints, as errors, for both of Windows' toolchains.
pub(crate) fn lints() -> Result<Done> {
    if let Some(why) = lacks_tools().or_else(|| lacks_target(MSVC)) {
        return Ok(Done::Skipped(why));
    }
    run(cargo_for(GNU, "clippy").args(["-p", "keepwell", "--all-targets", "--", "-D", "warnings"]))?;
    // SQLite is the one dependency in C, and only Microsoft's compiler makes objects for this target.
    let no_c = root().join("xtask/windows/no-c");
    let mut msvc = cargo_for(MSVC, "clippy");
    msvc.env("CC_x86_64_pc_windows_msvc", &no_c).env("AR_x86_64_pc_windows_msvc", &no_c);
    passed(msvc.args(["-p", "keepwell", "--all-targets", "--", "-D", "warnings"]))
}

/// Why there is no compiler for Windows or no Wine here, if so. As root on Debian both are installed.
fn lacks_tools() -> Option<String> {
    let install = root().join("xtask/windows/install");
    let failed = run(&mut Command::new(install)).err()?;
    Some(format!("mingw-w64 or Wine is missing, and xtask/windows/install could not install it: {failed:#}"))
}
