//! keepwell beside a real Prometheus, a real Alertmanager and a real HAProxy: their programs come from Debian's packages, are
//! unpacked below `target/` and run from there, so nothing is installed and nothing is started as a service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::debian;
use crate::stages::Done;
use crate::tool::{cargo, output, run, target_dir};

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
    test.extend(["--test", "haproxy", "--"]);
    let templates = lacks_templates(&folder);
    if templates.is_some() {
        test.extend(["--skip", "alertmanager"]);
    }
    let haproxy = haproxy()?;
    if haproxy.is_err() {
        test.extend(["--skip", "haproxy"]);
    }
    let mut tests = cargo();
    tests.args(test).env("KEEPWELL_PROMETHEUS", folder);
    if let Ok(haproxy) = &haproxy {
        tests.env("KEEPWELL_HAPROXY", &haproxy.program).env("KEEPWELL_HAPROXY_LIBRARIES", &haproxy.libraries);
    }
    run(&mut tests)?;
    let lacks: Vec<String> = templates.into_iter().chain(haproxy.err()).collect();
    if lacks.is_empty() {
        return Ok(Done::Passed);
    }
    Ok(Done::Skipped(format!("the others passed; {}", lacks.join("; "))))
}

/// A HAProxy, and where its libraries are.
struct Haproxy {
    program: PathBuf,
    libraries: PathBuf,
}

impl Haproxy {
    fn runs(&self) -> bool {
        output(Command::new(&self.program).arg("-v").env("LD_LIBRARY_PATH", &self.libraries)).is_some()
    }
}

/// One that runs here, or why there is none.
fn haproxy() -> Result<Result<Haproxy, String>> {
    let installed = Haproxy { program: "/usr/sbin/haproxy".into(), libraries: PathBuf::new() };
    if installed.runs() {
        return Ok(Ok(installed));
    }
    let home = target_dir().join("haproxy");
    let libraries = home.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let unpacked = Haproxy { program: home.join("usr/sbin/haproxy"), libraries };
    if !unpacked.program.is_file()
        && let Err(why) = debian::unpack(&home, &["haproxy"], true)?
    {
        return Ok(Err(format!("HAProxy was not tried: {why}")));
    }
    Ok(if unpacked.runs() { Ok(unpacked) } else { Err("HAProxy was not tried: it does not run here".into()) })
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
    Some(format!("Alertmanager was not tried: {}: {failed}", wanted.display()))
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
