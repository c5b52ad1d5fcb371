//! The lock on a state folder. It is an open file that nobody else may open for writing meanwhile. It belongs to the
//! opening, not to a process: whoever holds a copy of its handle keeps it locked, so anchor and daemon share one, and it is
//! free when both are gone. (A lock on a range of bytes would end with the process that took it.)

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION;
use windows_sys::Win32::Storage::FileSystem::{FILE_SHARE_READ, FILE_SHARE_WRITE};

use super::ipc::Handle;
use super::sys;

/// Name of the lock's file in the state folder.
const NAME: &str = "lock";
/// How often a lock that somebody else holds is tried again. The system cannot wait for it.
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
    /// The lock's file could not be opened or written.
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
            let mut options = OpenOptions::new();
            let options =
                options.read(true).write(true).create(true).truncate(true).share_mode(FILE_SHARE_READ);
            match options.open(&path) {
                Ok(mut file) => {
                    // A full disk must not keep a guardian from starting; the number only serves a message.
                    let _ = writeln!(file, "{}", std::process::id());
                    return Ok(Lock(file));
                }
                Err(e) if !sys::is(&e, ERROR_SHARING_VIOLATION) => {
                    return Err(LockError::Io { path, source: e });
                }
                Err(_) if began.elapsed() >= wait => return Err(LockError::Held { pid: signature(&path) }),
                Err(_) => thread::sleep(RETRY),
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
    /// When the host is out of memory.
    pub fn share(&self) -> io::Result<Handle> {
        self.0.try_clone().map(Handle::from)
    }
}

fn signature(path: &Path) -> Option<u32> {
    let mut text = String::new();
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE;
    OpenOptions::new().read(true).share_mode(share).open(path).ok()?.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_its_last_copy_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path(), Duration::ZERO).unwrap();
        let copy = lock.share().unwrap();
        let held = || match Lock::acquire(dir.path(), Duration::from_millis(50)) {
            Err(LockError::Held { pid }) => pid,
            other => panic!("{other:?}"),
        };
        assert_eq!(held(), Some(std::process::id()));
        drop(lock);
        assert_eq!(held(), Some(std::process::id()));
        drop(Lock::from_handle(copy));
        Lock::acquire(dir.path(), Duration::ZERO).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_cannot_be_locked() {
        let error = Lock::acquire(Path::new(r"C:\no\such\folder"), Duration::ZERO).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }), "{error}");
    }
}
