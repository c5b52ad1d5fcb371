//! What a user of this host may do with files: asked of the kernel, as that user.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;
use std::process::{Command, Stdio};

use super::access::{Lack, Needs};
use super::definition::{Account, ServiceDefinition};
use crate::error::Error;

/// Whom the service's processes run as, if that is another than the service manager itself.
fn user(definition: &ServiceDefinition) -> Option<&str> {
    match &definition.account {
        Account::User { name, .. } => Some(name),
        Account::Virtual | Account::System | Account::LocalService | Account::NetworkService => None,
    }
}

pub(super) fn lacks(definition: &ServiceDefinition, needs: &Needs) -> Result<Vec<Lack>, Error> {
    let Some(name) = user(definition) else { return Ok(Vec::new()) };
    let Some((uid, gid)) = ids(name)? else {
        return Ok(vec![Lack::Account("there is no such user".to_owned())]);
    };
    // Only root can be another user; who is not is refused when it comes to writing the unit.
    if !am_root() {
        return Ok(Vec::new());
    }
    let may = |path: &Path, what: &str| may(uid, gid, path, what);
    let mut all = Vec::new();
    for path in needs.run.iter().filter(|p| p.exists()) {
        if !may(path, "-x")? {
            all.push(Lack::Run(path.clone()));
        }
    }
    for path in needs.read.iter().filter(|p| p.exists()) {
        if !may(path, "-r")? || path.is_dir() && !may(path, "-x")? {
            all.push(Lack::Read(path.clone()));
        }
    }
    for path in &needs.write {
        if !may(path, "-w")? {
            all.push(Lack::Write(path.clone()));
        }
    }
    Ok(all)
}

/// Folders that are to be written to become the user's. What others share is not this program's to open.
pub(super) fn grant(definition: &ServiceDefinition, lack: &Lack) -> Result<(), Error> {
    let name = user(definition).unwrap_or_default();
    let by_hand = |path: &Path, said: String| {
        Err(Error::Refused { doing: format!("{} stays as it is", path.display()), said })
    };
    match lack {
        Lack::Write(path) => own_folder(definition, path),
        Lack::Run(path) | Lack::Read(path) => by_hand(
            path,
            format!(
                "what {name} may do with it, and with the folders above, is yours to say: namei -l {0} shows it, \
                 setfacl -m u:{name}:rX {0} allows it",
                path.display()
            ),
        ),
        Lack::Account(_) | Lack::LogOn => Err(Error::Refused {
            doing: format!("{name} cannot be made here"),
            said: format!("useradd --system {name} makes such a user"),
        }),
    }
}

/// Whether root, the account or the caller owns it: anybody else could put something else in the place of what is in it. What
/// is not there is nobody's.
pub(super) fn is_trusted(definition: &ServiceDefinition, path: &Path) -> Result<bool, Error> {
    let owner = |path: &Path| fs::metadata(path).map(|m| m.uid());
    let me = owner(Path::new("/proc/self")).unwrap_or(0);
    match owner(path) {
        Ok(uid) if uid == 0 || uid == me => Ok(true),
        Ok(uid) => match user(definition) {
            Some(name) => Ok(ids(name)?.is_some_and(|(account, _)| account == uid)),
            None => Ok(false),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::of(format!("ask whose {} is", path.display()), e)),
    }
}

/// With all that is in it. Links are not followed.
pub(super) fn own_folder(definition: &ServiceDefinition, folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::of(format!("give {} to its account", folder.display()), source);
    let Some(name) = user(definition) else { return Ok(()) };
    let Some((uid, gid)) = ids(name)? else { return Err(failed(ErrorKind::NotFound.into())) };
    fs::create_dir_all(folder).map_err(failed)?;
    give(folder, uid, gid).map_err(failed)
}

fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    lchown(path, Some(uid), Some(gid))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}

fn am_root() -> bool {
    // The process's own files belong to its effective user.
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// A user's numbers, wherever this host has its users from; nothing when there is none.
fn ids(name: &str) -> Result<Option<(u32, u32)>, Error> {
    let number = |option: &str| -> Result<Option<u32>, Error> {
        let said = Command::new("id").arg(option).arg("--").arg(name).stdin(Stdio::null()).output();
        let said = said.map_err(|e| Error::of(format!("ask for the user {name}"), e))?;
        Ok(String::from_utf8_lossy(&said.stdout).trim().parse().ok().filter(|_| said.status.success()))
    };
    Ok(number("-u")?.zip(number("-g")?))
}

/// As `test(1)` says, run as that user: groups, access lists and mounts count as they will for the service. A host without the
/// tool says nothing against it.
fn may(uid: u32, gid: u32, path: &Path, what: &str) -> Result<bool, Error> {
    let answer = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--init-groups".to_owned()])
        .args(["--", "test", what])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match answer {
        // 1 is the answer of test; setpriv itself fails with another.
        Ok(status) => Ok(status.code() != Some(1)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::of(format!("ask who may use {}", path.display()), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn of(name: &str) -> ServiceDefinition {
        let account = Account::User { name: name.into(), password: None };
        ServiceDefinition { account, ..ServiceDefinition::new("shop", "/usr/bin/keepwell") }
    }

    #[test]
    fn the_managers_own_user_lacks_nothing_and_a_user_who_is_not_there_everything() {
        let needs = Needs { write: vec!["/proc".into()], ..Needs::default() };
        assert_eq!(lacks(&ServiceDefinition::new("shop", "/x"), &needs).unwrap(), []);
        let found = lacks(&of("no-such-user-here"), &needs).unwrap();
        assert!(matches!(found.as_slice(), [Lack::Account(_)]), "{found:?}");
    }

    #[test]
    fn a_folder_is_trusted_by_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = ServiceDefinition::new("shop", "/x");
        for path in [folder.path(), &folder.path().join("none")] {
            assert!(is_trusted(&root, path).unwrap());
        }
        if let (true, Some((nobody, _))) = (am_root(), ids("nobody").unwrap()) {
            lchown(folder.path(), Some(nobody), None).unwrap();
            assert!(!is_trusted(&root, folder.path()).unwrap());
            assert!(is_trusted(&of("nobody"), folder.path()).unwrap());
        }
    }

    #[test]
    fn a_user_may_what_the_kernel_lets_them_and_gets_a_folder() {
        if !am_root() || ids("nobody").unwrap().is_none() {
            eprintln!("skipped: only root can play another user");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, mode) in [("open", 0o755), ("shut", 0o700)] {
            fs::write(path(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let needs = Needs {
            run: vec![path("open"), path("shut"), path("none")],
            read: vec![path("open"), path("shut")],
            write: vec![path("state")],
        };
        let found = lacks(&of("nobody"), &needs).unwrap();
        assert_eq!(found, [Lack::Run(path("shut")), Lack::Read(path("shut")), Lack::Write(path("state"))]);
        grant(&of("nobody"), &found[2]).unwrap();
        let refused = grant(&of("nobody"), &found[0]).unwrap_err();
        assert!(refused.to_string().contains("setfacl -m u:nobody:rX"), "{refused}");
        assert_eq!(
            lacks(&of("nobody"), &Needs { write: vec![path("state")], ..Needs::default() }).unwrap(),
            []
        );
    }
}
