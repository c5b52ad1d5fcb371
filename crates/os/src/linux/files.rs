//! Files that are nobody else's business.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Opens a file for reading and writing, makes it if it is not there, and sees to it that only its owner may read or
/// write it. Its content stays.
///
/// # Errors
/// When it cannot be opened or made, or its mode cannot be narrowed.
pub fn open_private(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Sees to it that only its owner may read or write a file that is there. It is not opened: a process that closes a file loses
/// its locks of it (fcntl(2)).
///
/// # Errors
/// When it is not there, or its rights cannot be narrowed.
pub fn make_private(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Gives a file another name, which one that has it loses, whoever has that open.
///
/// # Errors
/// When it is not there, or the system refuses.
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Removes a file whose name is free then, whoever has it open.
///
/// # Errors
/// When it is not there, or the system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Makes a folder, and those above it, that others may pass through to what is theirs to use, but not list. One that is
/// there stays as it is.
///
/// # Errors
/// When it cannot be made, or something else is there.
pub fn make_passage(path: &Path) -> io::Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    match fs::create_dir(path) {
        // Set afterwards: a narrow umask must not shut those out whom the configuration lets in.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o711)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Whether `path` still leads to this open file, and not to another that has taken its place.
#[must_use]
pub fn is_still(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(found)) = (file.metadata(), fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}

/// When what is at `path` was last written, replaced, or changed in any other way that its file system notes: the change
/// time, which no program can set. Of a link both count, the link and what it leads to.
///
/// # Errors
/// When there is nothing, or it may not be looked at.
pub fn changed_at(path: &Path) -> io::Result<SystemTime> {
    let (target, own) = (fs::metadata(path)?, fs::symlink_metadata(path)?);
    let time = |m: &fs::Metadata| {
        let seconds = Duration::from_secs(u64::try_from(m.ctime()).unwrap_or(0));
        UNIX_EPOCH + seconds + Duration::from_nanos(u64::try_from(m.ctime_nsec()).unwrap_or(0))
    };
    Ok(time(&target).max(time(&own)))
}

/// What a file takes of its disk.
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    /// Its file system.
    pub(crate) device: u64,
    /// Which file it is, if it has more names than one.
    pub(crate) shared: Option<u64>,
}

pub(crate) fn extent(file: &fs::Metadata) -> Extent {
    let shared = (!file.is_dir() && file.nlink() > 1).then(|| file.ino());
    Extent { bytes: file.blocks() * 512, device: file.dev(), shared }
}

/// Whether only the owner may read or write it.
///
/// # Errors
/// When it is not there.
pub fn is_private(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

/// Whether a file system is mounted on this folder: proc_pid_mountinfo(5). One that autofs would mount when it is looked into is
/// not there yet.
///
/// # Errors
/// When the folder is not there, or may not be looked at.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = fs::canonicalize(path)?;
    Ok(mounted(&fs::read("/proc/self/mountinfo")?, path.as_os_str().as_bytes()))
}

/// The last mount on a folder is the one that is seen.
fn mounted(table: &[u8], folder: &[u8]) -> bool {
    let mut found = false;
    for line in table.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ');
        if fields.nth(4).is_some_and(|point| unescaped(point) == folder) {
            let kind = fields.skip_while(|field| *field != b"-").nth(1);
            found = kind != Some(b"autofs");
        }
    }
    found
}

/// `\040` is a blank there, and so on, in octal.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Where the system's guardians have their state.
#[must_use]
pub fn system_state() -> PathBuf {
    PathBuf::from("/var/lib/keepwell")
}

/// Where the system's configuration is.
#[must_use]
pub fn system_config() -> PathBuf {
    PathBuf::from("/etc/keepwell")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_one_that_is_seen() {
        let table = b"22 1 0:20 / / rw shared:1 - ext4 /dev/vda rw\n\
            30 22 0:30 / /srv/my\\040data rw - nfs4 host:/x rw\n\
            31 22 0:31 / /auto rw,relatime - autofs systemd-1 rw\n\
            32 31 0:32 / /auto rw - ext4 /dev/vdb rw\n\
            33 22 0:33 / /later rw - autofs systemd-1 rw\n";
        let on = |folder: &str| mounted(table, folder.as_bytes());
        assert!(on("/") && on("/srv/my data") && on("/auto"));
        assert!(!on("/later") && !on("/srv") && !on("/srv/my\\040data"));
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
        let missing = is_mount_point(Path::new("/there/is/nothing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_was_moved_away_is_told_from_the_one_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = open_private(&path).unwrap();
        assert!(is_still(&file, &path));
        fs::rename(&path, dir.path().join("g")).unwrap();
        assert!(!is_still(&file, &path));
        drop(open_private(&path).unwrap());
        assert!(!is_still(&file, &path));
    }

    #[test]
    fn a_passage_can_be_passed_and_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        make_passage(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o711);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        make_passage(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o750);
        fs::write(path.join("file"), "").unwrap();
        assert!(make_passage(&path.join("file")).is_err());
    }

    #[test]
    fn a_change_is_dated_by_the_system_and_not_by_the_file_s_own_claim() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("f"), dir.path().join("link"));
        let before = SystemTime::now() - Duration::from_millis(20);
        fs::write(&path, "").unwrap();
        File::open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        let at = changed_at(&path).unwrap();
        assert!(at >= before && at <= SystemTime::now());
        while SystemTime::now() < at + Duration::from_millis(20) {
            std::thread::yield_now();
        }
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(changed_at(&path).unwrap(), at);
        assert!(changed_at(&link).unwrap() > at);
        fs::remove_file(&path).unwrap();
        assert_eq!(changed_at(&link).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_was_open_to_all_is_narrowed_and_keeps_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        drop(open_private(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
        let fresh = dir.path().join("g");
        drop(open_private(&fresh).unwrap());
        assert_eq!(fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_there_is_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open");
        fs::write(&path, "").unwrap();
        make_private(&path).unwrap();
        assert!(is_private(&path).unwrap());
        assert!(make_private(&dir.path().join("none")).is_err());
    }

    #[test]
    fn names_are_given_and_free_whoever_has_the_files_open() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        let mut readers = Vec::new();
        for n in 0..5 {
            fs::write(&new, format!("{n}")).unwrap();
            replace(&new, &old).unwrap();
            assert_eq!(fs::read_to_string(&old).unwrap(), format!("{n}"));
            readers.push(File::open(&old).unwrap());
        }
        remove(&old).unwrap();
        assert!(!old.exists() && !new.exists());
        fs::write(&old, "free").unwrap();
        for (n, mut reader) in readers.into_iter().enumerate() {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
            assert_eq!(text, n.to_string());
        }
        remove(&old).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no file is left");
        assert_eq!(remove(&old).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(replace(&new, &old).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_of_two_names_is_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let use_of = || crate::folder::disk_use(dir.path()).unwrap();
        fs::write(dir.path().join("one"), vec![1; 300_000]).unwrap();
        let one = use_of();
        fs::hard_link(dir.path().join("one"), dir.path().join("two")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("one"), dir.path().join("three")).unwrap();
        assert!(use_of() < one + 100_000, "{one} {}", use_of());
    }
}
