//! keepwell with programs of others: `systemd-notify`, Python's `sdnotify`, gRPC's own health server, gdb. Each is the machine's, or
//! is fetched below `target/` and run from there; what cannot be had is left out, and said so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::debian;
use crate::stages::Done;
use crate::tool::{cargo, found, output, run, target_dir};

/// From PyPI. Nothing but wheels of gRPC, which takes half an hour to compile.
const PYTHON: [&str; 3] = ["sdnotify>=0.3,<0.4", "grpcio>=1.60,<2", "grpcio-health-checking>=1.60,<2"];

/// Each begins the names of its tests.
type Part = (&'static str, fn(&Path) -> Result<Result<(), String>>);
const PARTS: [Part; 3] = [("systemd_notify", systemd_notify), ("python", python), ("gdb", gdb)];

pub(crate) fn test() -> Result<Done> {
    let home = target_dir().join("clients");
    fs::create_dir_all(home.join("bin"))?;
    let mut test = vec!["test", "-p", "keepwell-e2e", "--features", "clients", "--test", "clients", "--"];
    let mut lacks = Vec::new();
    for (name, prepare) in PARTS {
        if let Err(why) = prepare(&home)? {
            test.extend(["--skip", name]);
            lacks.push(why);
        }
    }
    if lacks.len() == PARTS.len() {
        return Ok(Done::Skipped(lacks.join("; ")));
    }
    run(cargo().args(["build", "-p", "keepwell", "-p", "keepwell-e2e", "--bins"]))?;
    run(cargo().args(test).env("KEEPWELL_CLIENTS", &home))?;
    if lacks.is_empty() {
        return Ok(Done::Passed);
    }
    Ok(Done::Skipped(format!("the others passed; {}", lacks.join("; "))))
}

fn systemd_notify(home: &Path) -> Result<Result<(), String>> {
    if found("systemd-notify") {
        return Ok(Ok(()));
    }
    let program = home.join("bin/systemd-notify");
    if !program.is_file() {
        if let Err(why) = debian::unpack(&unpacked(home), &["systemd", "libsystemd-shared"], true)? {
            return Ok(Err(format!("systemd-notify was not tried: {why}")));
        }
        wrap(home, "systemd-notify")?;
    }
    Ok(runs(&program))
}

fn gdb(home: &Path) -> Result<Result<(), String>> {
    if found("gdb") && found("gcore") {
        return looks(Path::new("gdb"));
    }
    let program = home.join("bin/gdb");
    if !program.is_file() {
        if let Err(why) = debian::unpack(&unpacked(home), &["gdb"], true)? {
            return Ok(Err(format!("gdb was not tried: {why}")));
        }
        // A script that runs the gdb beside it.
        fs::copy(unpacked(home).join("usr/bin/gcore"), home.join("bin/gcore"))?;
        wrap(home, "gdb")?;
    }
    looks(&program)
}

/// Whether gdb may look at a process that it has not started: containers and Yama forbid it.
fn looks(gdb: &Path) -> Result<Result<(), String>> {
    let mut other = Command::new("sleep").arg("60").spawn()?;
    let ask = ["-nx", "-batch", "-ex", "info threads", "-p", &other.id().to_string()];
    let said = output(Command::new(gdb).args(ask)).unwrap_or_default();
    other.kill()?;
    other.wait()?;
    Ok(if said.contains("* 1 ") {
        Ok(())
    } else {
        Err("gdb was not tried: it does not run, or may not look at processes here".into())
    })
}

/// Where Debian's packages are.
fn unpacked(home: &Path) -> PathBuf {
    home.join("debian")
}

/// A script in `bin` that runs an unpacked program with the libraries that came with it.
fn wrap(home: &Path, name: &str) -> Result<()> {
    let from = fs::canonicalize(unpacked(home))?;
    let libraries: Vec<String> = ["usr/lib", "lib"]
        .iter()
        .map(|folder| from.join(folder).join(format!("{}-linux-gnu", std::env::consts::ARCH)))
        .flat_map(|folder| [folder.join("systemd"), folder])
        .map(|folder| folder.display().to_string())
        .collect();
    // gdb has a Python in it, whose own files may have come along.
    let python = from.join("usr/lib/python3.11/os.py");
    let python = if python.is_file() { format!("PYTHONHOME={}/usr ", from.display()) } else { String::new() };
    // Not every program has moved to /usr yet.
    let places = ["usr/bin", "bin"].map(|folder| from.join(folder).join(name));
    let program = places.iter().find(|path| path.is_file()).with_context(|| format!("no {name} in it"))?;
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={} {python}exec {} \"$@\"\n",
        libraries.join(":"),
        program.display()
    );
    let path = home.join("bin").join(name);
    fs::write(&path, script)?;
    run(Command::new("chmod").arg("755").arg(path))
}

fn runs(program: &Path) -> Result<(), String> {
    match output(Command::new(program).arg("--version")) {
        Some(_) => Ok(()),
        None => Err(format!("{} does not run on this machine", program.display())),
    }
}

/// Python's packages, in a folder of their own.
fn python(home: &Path) -> Result<Result<(), String>> {
    let folder = home.join("python");
    let there = || {
        let ask = ["-c", "import sdnotify, grpc_health.v1.health"];
        output(Command::new("python3").args(ask).env("PYTHONPATH", &folder)).is_some()
    };
    if !found("python3") {
        return Ok(Err("Python's clients were not tried: python3 is missing".into()));
    }
    if there() {
        return Ok(Ok(()));
    }
    let pip = match pip(home)? {
        Ok(pip) => pip,
        Err(why) => return Ok(Err(format!("Python's clients were not tried: {why}"))),
    };
    let mut install = Command::new("python3");
    install.arg(pip).args(["install", "-q", "--only-binary", "grpcio,protobuf", "--upgrade", "--target"]);
    if let Err(error) = run(install.arg(&folder).args(PYTHON)) {
        return Ok(Err(format!("Python's clients could not be fetched: {error:#}")));
    }
    Ok(if there() { Ok(()) } else { Err("Python's clients do not run on this machine".into()) })
}

/// What Python is to run as pip: its own, else Debian's wheel of it.
fn pip(home: &Path) -> Result<Result<PathBuf, String>> {
    let own = "import importlib.util as u; print(u.find_spec('pip').submodule_search_locations[0])";
    if let Some(path) = output(Command::new("python3").args(["-c", own])) {
        return Ok(Ok(path.into()));
    }
    if let Err(why) = debian::unpack(&unpacked(home), &["python3-pip-whl"], false)? {
        return Ok(Err(why));
    }
    let wheels = fs::read_dir(unpacked(home).join("usr/share/python-wheels")).context("python3-pip-whl")?;
    let wheel = wheels.flatten().find(|e| e.file_name().to_string_lossy().starts_with("pip-"));
    Ok(wheel.map(|e| e.path().join("pip")).ok_or_else(|| "Debian's python3-pip-whl has no pip".into()))
}
