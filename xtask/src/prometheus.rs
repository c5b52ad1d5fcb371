//! keepwell beside a real Prometheus and a real Alertmanager: their programs come from Debian's packages, are unpacked below
//! `target/` and run from there, so nothing is installed and nothing is started as a service.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::debian;
use crate::stages::Done;
use crate::tool::{cargo, run, target_dir};

/// The packages, and a program of each.
const PACKAGES: [(&str, &str); 2] =
    [("prometheus", "prometheus"), ("prometheus-alertmanager", "prometheus-alertmanager")];

pub(crate) fn test() -> Result<Done> {
    let folder = match programs()? {
        Ok(folder) => folder,
        Err(why) => return Ok(Done::Skipped(why)),
    };
    run(cargo().args(["build", "-p", "keepwell", "-p", "keepwell-e2e", "--bins"]))?;
    let mut test = vec!["test", "-p", "keepwell-e2e", "--features", "prometheus", "--test", "prometheus"];
    let lacks = lacks_templates(&folder);
    if lacks.is_some() {
        test.extend(["--", "--skip", "alertmanager"]);
    }
    run(cargo().args(test).env("KEEPWELL_PROMETHEUS", folder))?;
    Ok(lacks.map_or(Done::Passed, Done::Skipped))
}

/// Why Alertmanager cannot run, if so: Debian's reads its templates from a fixed folder. Root may put them there.
fn lacks_templates(folder: &Path) -> Option<String> {
    let wanted = Path::new("/usr/share/prometheus/alertmanager");
    let unpacked = folder.parent()?.join("share/prometheus/alertmanager");
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(wanted)?;
        for entry in fs::read_dir(&unpacked)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), wanted.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    if wanted.join("default.tmpl").is_file() {
        return None;
    }
    println!("copying Alertmanager's templates to {}, where Debian's build of it looks", wanted.display());
    let failed = copy().err()?;
    Some(format!("Prometheus was tried and passed, Alertmanager was not: {}: {failed}", wanted.display()))
}

/// The folder that has them all, or why there is none.
fn programs() -> Result<Result<PathBuf, String>> {
    let installed = Path::new("/usr/bin");
    let all_in = |folder: &Path| PACKAGES.iter().all(|(_, program)| folder.join(program).is_file());
    if all_in(installed) {
        return Ok(Ok(installed.to_owned()));
    }
    let home = target_dir().join("prometheus");
    let unpacked = home.join("usr/bin");
    if all_in(&unpacked) {
        return Ok(Ok(unpacked));
    }
    if let Err(why) = debian::unpack(&home, &PACKAGES.map(|(package, _)| package), false)? {
        return Ok(Err(format!("Prometheus and Alertmanager are not installed: {why}")));
    }
    Ok(if all_in(&unpacked) { Ok(unpacked) } else { Err("Debian's packages lack a program".into()) })
}
