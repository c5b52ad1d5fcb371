//! Programs of Debian's packages, unpacked below `target/` and run from there: nothing is installed, and nothing is started as
//! a service.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::tool::{found, output, run};

/// Unpacks these packages into `home`, or says why that cannot be. `whole`: with what they need and the machine has not.
pub(crate) fn unpack(home: &Path, packages: &[&str], whole: bool) -> Result<Result<(), String>> {
    let names = packages.join(", ");
    if !(found("apt-get") && found("dpkg")) {
        return Ok(Err(format!("this is no Debian to fetch its packages {names} from")));
    }
    fs::create_dir_all(home)?;
    if let Err(first) = fetch(home, packages, whole) {
        // The list of packages may be old or absent, and only root may fetch it.
        let updated =
            if is_root() { run(Command::new("apt-get").args(["update", "-q"])) } else { Err(first) };
        if let Err(error) = updated.and_then(|()| fetch(home, packages, whole)) {
            return Ok(Err(format!("Debian's packages {names} could not be fetched: {error:#}")));
        }
    }
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(home))?;
            fs::remove_file(path)?;
        }
    }
    Ok(Ok(()))
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).as_deref() == Some("0")
}

fn fetch(home: &Path, packages: &[&str], whole: bool) -> Result<()> {
    let mut names: BTreeSet<String> = packages.iter().map(|&name| name.to_owned()).collect();
    if whole {
        // A line for each file: its address in quotes, its name, its size, its checksum.
        let asked = ["install", "--print-uris", "-y", "-qq", "--no-install-recommends"];
        let lines = output(Command::new("apt-get").args(asked).args(packages)).unwrap_or_default();
        let files = lines.lines().filter_map(|line| line.split(' ').nth(1));
        names.extend(files.filter_map(|file| Some(file.split_once('_')?.0.to_owned())));
    }
    run(Command::new("apt-get").args(["download", "-q"]).args(names).current_dir(home))
}
