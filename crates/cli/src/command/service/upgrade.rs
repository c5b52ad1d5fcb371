//! `keepwell service upgrade`: another keepwell in the place of the one that runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use keepwell_sdk::exit;
use keepwell_service::Error;
use keepwell_service::manager::State;

use super::place::Place;
use super::{Patience, Whose, drive, failure};
use crate::failure::{Failure, Result, io_words};
use crate::output::talk;

/// So many upgrades may go by while services still run from each of the old ones.
const MOST_OLD: usize = 100;

/// Put another keepwell in the place of this one, also while services run from it
///
/// The old one is renamed, since a program that runs cannot be overwritten everywhere, and comes back if the new one
/// cannot be put there. Services take the new one at their next start, or now with --restart.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service upgrade ./keepwell-new
  keepwell service upgrade keepwell-new.exe --restart")]
pub(super) struct Upgrade {
    /// The new program
    new: PathBuf,
    /// Restart the services of this host that run from it
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    patience: Patience,
}

impl Upgrade {
    pub(super) fn run(self) -> Result<i32> {
        let own = std::env::current_exe()
            .map_err(|e| Failure::failed(format!("keepwell's own file cannot be found: {}", io_words(&e))))?;
        let version = version_of(&self.new)?;
        replace(&own, &self.new)?;
        talk(&format!("{} is {version} now", own.display()));
        let host = self.whose.host()?;
        let ours = match host.list(&|command| Place::of("", command).is_some()) {
            // A host without a service manager has no services to restart.
            Err(Error::NoManager(_)) => Vec::new(),
            ours => ours.map_err(failure)?,
        };
        let from_it = |command: &[String]| command.first().is_some_and(|program| Path::new(program) == own);
        let running: Vec<String> = ours
            .into_iter()
            .filter(|f| f.status.state != State::Stopped && from_it(&f.command))
            .map(|f| f.name)
            .collect();
        for name in &running {
            if self.restart {
                drive::stop(&host, name, self.patience)?;
                drive::start(&host, name, self.patience)?;
            } else {
                talk(&format!(
                    "{name} still runs the old one; keepwell service restart{} {name}",
                    self.whose.option()
                ));
            }
        }
        Ok(exit::DONE)
    }
}

/// Whatever is put there has to be able to say which keepwell it is.
fn version_of(program: &Path) -> Result<String> {
    let whole = std::path::absolute(program).unwrap_or_else(|_| program.to_owned());
    let shown = program.display();
    let said = Command::new(&whole)
        .arg("--version")
        .output()
        .map_err(|e| Failure::usage(format!("{shown} cannot be run here: {}", io_words(&e))))?;
    let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    match said.status.success() && text.starts_with("keepwell ") {
        true => Ok(text),
        false => Err(Failure::usage(format!("{shown} is no keepwell; nothing was changed"))),
    }
}

/// The new one is whole beside the old one before anything is renamed; then two renames, and the first is undone if the
/// second fails.
fn replace(own: &Path, new: &Path) -> Result<()> {
    let beside = |ending: &str| {
        let mut name = own.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        own.with_file_name(name)
    };
    let (fresh, old) = (beside(".new"), beside(".old"));
    let failed = |doing: &str, e: &std::io::Error| {
        Failure::failed(format!("{} cannot be {doing}: {}", own.display(), io_words(e)))
            .hint("administrators may: use an elevated prompt, or sudo")
    };
    let clean = |e: std::io::Error, doing: &str| {
        let _ = fs::remove_file(&fresh);
        failed(doing, &e)
    };
    fs::copy(new, &fresh).map_err(|e| clean(e, "replaced"))?;
    let rights = fs::metadata(own).map(|m| m.permissions());
    rights.and_then(|r| fs::set_permissions(&fresh, r)).map_err(|e| clean(e, "replaced"))?;
    // Those of earlier upgrades go, if nothing runs from them any more; else this one gets another name.
    let names = (0..MOST_OLD).map(|i| if i == 0 { old.clone() } else { beside(&format!(".old{i}")) });
    let free: Vec<PathBuf> = names.filter(|old| fs::remove_file(old).is_ok() || !old.exists()).collect();
    let old = free.into_iter().next();
    let Some(old) = old else { return Err(clean(std::io::ErrorKind::AlreadyExists.into(), "renamed")) };
    fs::rename(own, &old).map_err(|e| clean(e, "renamed"))?;
    if let Err(e) = fs::rename(&fresh, own) {
        let back = fs::rename(&old, own);
        let failure = clean(e, "replaced");
        return Err(match back {
            Ok(()) => failure,
            Err(_) => failure.hint(format!("it is now called {}", old.display())),
        });
    }
    // Where a program that runs may be removed, nothing is left behind.
    let _ = fs::remove_file(&old);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_one_takes_the_place_and_the_old_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (own, new) = (folder.path().join("keepwell"), folder.path().join("next"));
        fs::write(&own, "old").unwrap();
        fs::write(&new, "new").unwrap();
        replace(&own, &new).unwrap();
        assert_eq!(fs::read_to_string(&own).unwrap(), "new");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn what_cannot_be_copied_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("keepwell");
        fs::write(&own, "old").unwrap();
        assert!(replace(&own, &folder.path().join("none")).is_err());
        assert_eq!(fs::read_to_string(&own).unwrap(), "old");
        assert!(!folder.path().join("keepwell.new").exists());
    }

    #[test]
    fn what_is_no_keepwell_is_refused() {
        let own = std::env::current_exe().unwrap();
        assert!(version_of(&own).unwrap_err().text.ends_with("is no keepwell; nothing was changed"));
        assert!(version_of(Path::new("/none/keepwell")).unwrap_err().text.contains("cannot be run here"));
    }
}
