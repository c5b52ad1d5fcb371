//! keepwell for Windows, built and run on Linux: the compiler of mingw-w64, and Wine with its service control manager.

use std::process::Command;

use anyhow::Result;

use crate::stages::{Done, lacks_target, passed};
use crate::tool::{cargo, output, root, run};

const GNU: &str = "x86_64-pc-windows-gnu";
const MSVC: &str = "x86_64-pc-windows-msvc";

/// Those whose tests run under Wine: all that ships, and the simulation.
const PACKAGES: &[&str] = &[
    "keepwell-core",
    "keepwell-config",
    "keepwell-os",
    "keepwell-anchor",
    "keepwell-daemon",
    "keepwell-sdk",
    "keepwell-service",
    "keepwell-sim",
    "keepwell",
];

/// The simulation is the same on every system; what may differ is the arithmetic, and for that fewer cases do.
const SEEDS: &str = "500";

/// Tests of what Windows has not or Wine does not let us make, each with what that is.
const ON_LINUX_ALONE: &[(&str, &str)] = &[
    ("a_word_is_taken_away_only_when_the_engine_has_settled_it", NO_DATAGRAMS),
    ("a_daemon_that_dies_in_between_leaves_the_word_to_the_next", NO_DATAGRAMS),
    ("what_an_earlier_run_said_is_never_taken_for_the_next_ones", NO_DATAGRAMS),
    ("between_runs_nobody_is_heard", NO_DATAGRAMS),
    ("what_cannot_be_read_is_told_once_a_run", NO_DATAGRAMS),
    ("who_is_heard", NO_DATAGRAMS),
    ("words_become_messages", NO_DATAGRAMS),
    ("a_full_disk_keeps_then_counts_and_never_blocks", NO_FULL_DISK),
    ("a_disk_that_gets_room_again_has_every_byte_or_its_count", NO_FULL_DISK),
    ("what_did_not_fit_into_the_ring_is_counted_exactly", NO_FULL_DISK),
    ("a_log_that_is_removed_from_a_full_disk_makes_room", NO_FULL_DISK),
    ("a_log_that_is_emptied_on_a_full_disk_goes_on_at_its_new_end", NO_FULL_DISK),
    ("a_retry_finds_what_has_the_name_now", NO_FULL_DISK),
    ("what_is_idle_makes_no_wake_ups", "Windows does not count how often a thread has waited"),
    (
        "a_follower_outlives_the_daemon",
        "a pipe of a runtime that ends is closed with its process, and this has one",
    ),
    ("members_of_a_group_may_what_it_may", "no token of another user is made without a logon"),
];

const NO_DATAGRAMS: &str = "Windows has no sockets that tell who sent a datagram, so nothing is notified";
const NO_FULL_DISK: &str = "there is no small file system to mount and no /dev/full";

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
    run(build.args(["-p", "keepwell-wine", "--features", "keepwell-wine/child", "--bins", "--examples"]))
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
    tests.args(["--lib", "--tests", "--no-fail-fast", "--"]);
    passed(tests.args(ON_LINUX_ALONE.iter().flat_map(|(name, _)| ["--skip", name])))
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
    run(cargo_for(GNU, "clippy").args(["--all-targets", "--", "-D", "warnings"]))?;
    // SQLite is the one dependency in C, and only Microsoft's compiler makes objects for this target.
    let no_c = root().join("xtask/windows/no-c");
    let mut msvc = cargo_for(MSVC, "clippy");
    msvc.env("CC_x86_64_pc_windows_msvc", &no_c).env("AR_x86_64_pc_windows_msvc", &no_c);
    passed(msvc.args(["--all-targets", "--", "-D", "warnings"]))
}

/// Why there is no compiler for Windows or no Wine here, if so. As root on Debian both are installed.
fn lacks_tools() -> Option<String> {
    let install = root().join("xtask/windows/install");
    let failed = run(&mut Command::new(install)).err()?;
    Some(format!("mingw-w64 or Wine is missing, and xtask/windows/install could not install it: {failed:#}"))
}
