//! The lock on a state folder. It belongs to an open file description, not to a process: whoever holds a copy of its
//! handle keeps it locked, so anchor and daemon share one, and it is free when both are gone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::ipc::Handle;

/// Name of the lock's file in the state folder.
const NAME: &str = "lock";
/// How often a lock that somebody else holds is tried again. The system can wait for a lock, but not with an end.
const RETRY: Duration = Duration::from_millis(20);

/// A held lock.
#[derive(Debug)]
pub struct Lock(File);

/// Why a state folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another guardian holds it.
    #[error("it is in use{}", .pid.map(|p| format!(" by process {p}")).unwrap_or_default())]
    Held {
        /// The process that locked it, if it has written that down. It may be over while its daemon still cleans up.
        pid: Option<u32>,
    },
    /// The lock's file could not be opened, locked or written.
    #[error("cannot lock {}: {source}", path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Lock {
    /// Locks the folder, and writes this process's number into it. Tries for as long as `wait`.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn acquire(folder: &Path, wait: Duration) -> Result<Lock, LockError> {
        let path = folder.join(NAME);
        let began = Instant::now();
        loop {
            let failed = |source| LockError::Io { path: path.clone(), source };
            let file = open(&path).map_err(failed)?;
            match file.try_lock() {
                // The folder may have been removed and made again between opening and locking.
                Ok(()) if is_still(&file, &path) => {
                    let lock = Lock(file);
                    lock.sign().map_err(failed)?;
                    return Ok(lock);
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if began.elapsed() >= wait => {
                    return Err(LockError::Held { pid: signature(file) });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(RETRY),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// Takes over the lock that another process of this guardian holds.
    #[must_use]
    pub fn from_handle(handle: Handle) -> Lock {
        Lock(File::from(handle))
    }

    /// Gives up the wrapper, not the lock: it is held until every copy of the handle is closed.
    #[must_use]
    pub fn into_handle(self) -> Handle {
        self.0.into()
    }

    /// Another handle of the same lock.
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn share(&self) -> io::Result<Handle> {
        self.0.try_clone().map(Handle::from)
    }

    fn sign(&self) -> io::Result<()> {
        let mut file = &self.0;
        file.set_len(0)?;
        file.rewind()?;
        // A full disk must not keep a guardian from starting; the number only serves a message.
        let _ = writeln!(file, "{}", std::process::id());
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn is_still(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(found)) = (file.metadata(), fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}

fn signature(mut file: File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path(), Duration::ZERO).unwrap();
        let error = Lock::acquire(dir.path(), Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), format!("it is in use by process {}", std::process::id()));
        drop(lock);
        Lock::acquire(dir.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn it_is_free_when_the_last_copy_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let anchor = Lock::acquire(dir.path(), Duration::ZERO).unwrap();
        let daemon = Lock::from_handle(anchor.share().unwrap());
        drop(anchor);
        assert!(matches!(Lock::acquire(dir.path(), Duration::ZERO), Err(LockError::Held { .. })));
        let path = dir.path().to_owned();
        let waiting = thread::spawn(move || Lock::acquire(&path, Duration::from_secs(10)));
        thread::sleep(Duration::from_millis(50));
        drop(daemon.into_handle());
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_with_the_path() {
        let error = Lock::acquire(Path::new("/nonexistent/state"), Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/state/lock"), "{error}");
    }

    #[test]
    fn a_removed_file_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let old = open(&dir.path().join(NAME)).unwrap();
        old.lock().unwrap();
        fs::remove_file(dir.path().join(NAME)).unwrap();
        assert!(!is_still(&old, &dir.path().join(NAME)));
        let lock = Lock::acquire(dir.path(), Duration::ZERO).unwrap();
        assert!(is_still(&lock.0, &dir.path().join(NAME)));
    }
}
