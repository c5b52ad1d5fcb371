//! `cargo xtask test`: what has to pass before a change lands.
//!
//! The stages go from the quickest answer to the slowest. All build with the same profile and the same features, so that
//! nothing is compiled twice; what a machine cannot do (a target that cannot be fetched, a compiler that is missing) is
//! skipped by name and told again in the closing lines, never passed over in silence.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::tool::{cargo, found, output, root, run, target_dir};
use crate::{clients, debian, prometheus, schema, tidy, windows};

/// How a stage ended that did not fail.
pub(crate) enum Done {
    /// All is well.
    Passed,
    /// This machine cannot do it: why.
    Skipped(String),
}

struct Stage {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<Done>,
}

const STAGES: &[Stage] = &[
    Stage { name: "tidy", what: "the project's rules that no lint knows", run: tidy_stage },
    Stage { name: "fmt", what: "the formatting", run: fmt },
    Stage { name: "clippy", what: "all lints, of all targets, as errors", run: clippy },
    Stage { name: "build", what: "keepwell, and the programs and examples that its tests run", run: build },
    Stage { name: "schema", what: "schemas/ is what the types say", run: schema_stage },
    Stage { name: "tests", what: "all tests, with 20,000 seeds of the simulation among them", run: tests },
    Stage { name: "doctests", what: "the examples in the documentation", run: doctests },
    Stage { name: "docs", what: "the documentation, without warnings", run: docs },
    Stage { name: "bench", what: "the bench's own tests", run: bench },
    Stage { name: "python", what: "the heartbeats' client in Python", run: python },
    Stage { name: "go", what: "the heartbeats' client in Go", run: go },
    Stage {
        name: "prometheus",
        what: "metrics and messages with a real Prometheus and Alertmanager, readiness with a real HAProxy",
        run: prometheus::test,
    },
    Stage {
        name: "clients",
        what: "programs of others: systemd-notify, sdnotify, a gRPC server, gdb",
        run: clients::test,
    },
    Stage { name: "deny", what: "licences and sources of what we depend on", run: deny },
    Stage { name: "no-std", what: "the core for a target without std", run: no_std },
    Stage {
        name: "windows",
        what: "keepwell for Windows, and the tests of its crates under Wine",
        run: windows::build_and_test,
    },
    Stage {
        name: "wine",
        what: "keepwell.exe under Wine and its service control manager",
        run: windows::wine,
    },
    Stage {
        name: "win-lint",
        what: "all lints for Windows, of both toolchains, as errors",
        run: windows::lints,
    },
    Stage { name: "musl", what: "one static binary", run: musl },
];

/// Runs all stages, or those that are named, and stops at the first that fails.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--list") {
        for stage in STAGES {
            println!("{:10} {}", stage.name, stage.what);
        }
        return Ok(());
    }
    if let Some(unknown) = arguments.iter().find(|name| STAGES.iter().all(|stage| stage.name != **name)) {
        bail!("there is no stage named `{unknown}`; the stages are those of `cargo xtask test --list`");
    }
    let begin = Instant::now();
    let mut report: Vec<String> = Vec::new();
    for stage in
        STAGES.iter().filter(|stage| arguments.is_empty() || arguments.iter().any(|a| a == stage.name))
    {
        println!("\n=== {}: {}", stage.name, stage.what);
        let start = Instant::now();
        match (stage.run)() {
            Ok(Done::Passed) => report.push(format!("{:10} passed   {}", stage.name, took(start.elapsed()))),
            Ok(Done::Skipped(why)) => {
                println!("skipped: {why}");
                report.push(format!("{:10} SKIPPED  {why}", stage.name));
            }
            Err(error) => {
                bail!(
                    "FAILED at {} after {}: {error:#}\n  this stage alone: cargo xtask test {}",
                    stage.name,
                    took(begin.elapsed()),
                    stage.name
                )
            }
        }
    }
    println!("\n{}", report.join("\n"));
    let skipped = report.iter().filter(|line| line.contains(" SKIPPED ")).count();
    let note = if skipped == 0 { String::new() } else { format!(", {skipped} skipped as said above") };
    println!(
        "xtask test: {} of {} stages passed in {}{note}",
        report.len() - skipped,
        report.len(),
        took(begin.elapsed())
    );
    Ok(())
}

fn took(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// Runs a command that is all there is to a stage.
pub(crate) fn passed(command: &mut Command) -> Result<Done> {
    run(command).map(|()| Done::Passed)
}

fn tidy_stage() -> Result<Done> {
    tidy::check(&root()).map(|()| Done::Passed)
}

fn fmt() -> Result<Done> {
    passed(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<Done> {
    passed(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn build() -> Result<Done> {
    passed(cargo().args(["build", "--workspace", "--bins", "--examples"]))
}

fn schema_stage() -> Result<Done> {
    schema::verify().map(|()| Done::Passed)
}

fn tests() -> Result<Done> {
    if output(cargo().args(["nextest", "--version"])).is_some() {
        return passed(cargo().args(["nextest", "run", "--workspace", "--exclude", "keepwell-wine"]));
    }
    println!("cargo-nextest is not installed; cargo test does the same, more slowly");
    let kinds = ["--bins", "--lib", "--tests"];
    passed(cargo().args(["test", "--workspace", "--exclude", "keepwell-wine"]).args(kinds))
}

fn doctests() -> Result<Done> {
    passed(cargo().args(["test", "--workspace", "--doc"]))
}

fn docs() -> Result<Done> {
    passed(cargo().env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--workspace", "--no-deps", "--lib"]))
}

fn bench() -> Result<Done> {
    if !found("python3") {
        return Ok(Done::Skipped("python3 is missing".into()));
    }
    passed(Command::new("python3").args(["-m", "unittest", "discover", "bench"]).current_dir(root()))
}

fn python() -> Result<Done> {
    if !found("python3") {
        return Ok(Done::Skipped("python3 is missing".into()));
    }
    passed(Command::new("python3").args(["-m", "unittest", "discover", "clients/python"]).current_dir(root()))
}

fn go() -> Result<Done> {
    if !found("go") {
        return Ok(Done::Skipped("a Go toolchain is missing".into()));
    }
    let go =
        |arguments: &[&str]| run(Command::new("go").args(arguments).current_dir(root().join("clients/go")));
    go(&["vet", "./..."])?;
    go(&["test", "./..."]).map(|()| Done::Passed)
}

fn deny() -> Result<Done> {
    if output(cargo().args(["deny", "--version"])).is_none() {
        return Ok(Done::Skipped("cargo-deny is not installed: cargo install cargo-deny".into()));
    }
    // Advisories need a list from outside; the rest is decided by what is in the repository.
    passed(cargo().args(["deny", "check", "bans", "licenses", "sources"]))
}

fn no_std() -> Result<Done> {
    for_target("x86_64-unknown-none", &["build", "-p", "keepwell-core"])
}

fn musl() -> Result<Done> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    if let Some(why) = lacks_musl_gcc() {
        return Ok(Done::Skipped(why));
    }
    if let Done::Skipped(why) = for_target(TARGET, &["build", "-p", "keepwell"])? {
        return Ok(Done::Skipped(why));
    }
    let binary = target_dir().join(TARGET).join("debug/keepwell");
    run(Command::new(&binary).arg("--version"))?;
    // A program that names an interpreter is loaded by the one of the machine that it runs on: not static.
    match output(Command::new("readelf").arg("--program-headers").arg(&binary)) {
        None => Ok(Done::Skipped(
            "it was built and runs, but readelf (binutils) is missing to see that it is static".into(),
        )),
        Some(headers) if headers.contains("INTERP") => {
            bail!("{} needs a dynamic loader: it is not static", binary.display())
        }
        Some(_) => Ok(Done::Passed),
    }
}

/// Runs cargo for another target, which is fetched first where it is missing.
fn for_target(target: &str, arguments: &[&str]) -> Result<Done> {
    if let Some(why) = lacks_target(target) {
        return Ok(Done::Skipped(why));
    }
    passed(cargo().args(arguments).args(["--target", target]))
}

/// Why this target's standard library cannot be had here, if so.
pub(crate) fn lacks_target(target: &str) -> Option<String> {
    let sysroot = output(Command::new("rustc").arg("--print=sysroot").current_dir(root()))?;
    if std::path::Path::new(&sysroot).join("lib/rustlib").join(target).join("lib").is_dir() {
        return None;
    }
    match run(Command::new("rustup").args(["target", "add", target]).current_dir(root())) {
        Ok(()) => None,
        Err(_) => Some(format!(
            "the target {target} is not installed, and `rustup target add {target}` was refused"
        )),
    }
}

/// Why there is no musl-gcc for the bundled SQLite, if so. As root on Debian it is installed.
fn lacks_musl_gcc() -> Option<String> {
    if found("musl-gcc") {
        return None;
    }
    if !(debian::is_root() && found("apt-get")) {
        return Some("musl-gcc is missing: apt-get install musl-tools, or the like".into());
    }
    println!("musl-gcc is missing and this is root: installing Debian's package musl-tools");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
    };
    // The list of packages may be old or absent: it is fetched first, and if that fails the install still has its try.
    let fetched = apt(&["update", "-q"]);
    match apt(&["install", "-y", "-q", "--no-install-recommends", "musl-tools"]) {
        Ok(()) => None,
        Err(error) => {
            let fetched = fetched.err().map(|error| format!("; before it, {error:#}")).unwrap_or_default();
            Some(format!("musl-gcc is missing and could not be installed: {error:#}{fetched}"))
        }
    }
}
