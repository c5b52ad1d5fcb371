//! Tells when a file changes that may not exist yet: created, replaced, written, removed, or another one because a link or
//! a folder on its way was changed. It waits for the system (ReadDirectoryChangesW) and never looks by itself.
#![expect(unsafe_code, reason = "ReadDirectoryChangesW has no safe form in the standard library")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::windows::fs::MetadataExt;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr;

use windows_sys::Win32::Foundation::STATUS_PENDING;
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OVERLAPPED, FILE_LIST_DIRECTORY,
    FILE_NOTIFY_CHANGE_ATTRIBUTES, FILE_NOTIFY_CHANGE_DIR_NAME, FILE_NOTIFY_CHANGE_FILE_NAME,
    FILE_NOTIFY_CHANGE_LAST_WRITE, FILE_NOTIFY_CHANGE_SIZE, FILE_SHARE_DELETE, FILE_SHARE_READ,
    FILE_SHARE_WRITE, OPEN_EXISTING, ReadDirectoryChangesW,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::{ResetEvent, SetEvent};

use super::ipc::{AsHandle, BorrowedHandle};
use super::sys::{self, check, owned, wide_path};

/// What may concern a file, seen from its folder.
const EVENTS: u32 = FILE_NOTIFY_CHANGE_FILE_NAME
    | FILE_NOTIFY_CHANGE_DIR_NAME
    | FILE_NOTIFY_CHANGE_ATTRIBUTES
    | FILE_NOTIFY_CHANGE_SIZE
    | FILE_NOTIFY_CHANGE_LAST_WRITE;
/// What the system writes there is not read: that something happened is enough to look.
const ROOM: usize = 512;

/// Any number of watched files behind one handle, which is signalled when there is news.
#[derive(Debug)]
pub struct FileWatch {
    /// Set by the end of any of the folders' reads. Each start of a read resets it, so after one all are looked at.
    news: OwnedHandle,
    files: BTreeMap<u64, Watched>,
    folders: BTreeMap<PathBuf, Folder>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    folders: BTreeSet<PathBuf>,
    stamp: Option<Stamp>,
}

/// Tells one content of a path from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    created: u64,
    written: u64,
    size: u64,
    attributes: u32,
}

impl FileWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the host is out of memory.
    pub fn new() -> io::Result<FileWatch> {
        Ok(FileWatch { news: sys::event(false)?, files: BTreeMap::new(), folders: BTreeMap::new() })
    }

    /// Watches `path` (absolute) under `token`, instead of what was under it.
    ///
    /// # Errors
    /// When the host is out of memory.
    pub fn add(&mut self, token: u64, path: &Path) -> io::Result<()> {
        self.files.insert(token, Watched { path: path.to_owned(), folders: BTreeSet::new(), stamp: None });
        self.walk(token);
        self.tidy();
        Ok(())
    }

    /// Watches it no longer.
    pub fn remove(&mut self, token: u64) {
        self.files.remove(&token);
        self.tidy();
    }

    /// Takes in the news, and gives the tokens of the files that are not what they were. Never waits.
    ///
    /// # Errors
    /// Never here.
    pub fn changed(&mut self) -> io::Result<Vec<u64>> {
        // SAFETY: an open event. What comes from here on sets it again, or is found below.
        unsafe { ResetEvent(self.news.as_raw_handle()) };
        let told: Vec<PathBuf> =
            self.folders.iter().filter(|(_, f)| f.is_done()).map(|(path, _)| path.clone()).collect();
        // Made anew, since the folder may be another one of its name.
        for path in &told {
            self.folders.remove(path);
        }
        let concerned = self.files.iter().filter(|(_, f)| told.iter().any(|t| f.folders.contains(t)));
        let concerned: Vec<u64> = concerned.map(|(token, _)| *token).collect();
        let mut changed = Vec::new();
        for token in concerned {
            let before = self.files.get(&token).and_then(|f| f.stamp);
            self.walk(token);
            if self.files.get(&token).is_some_and(|f| f.stamp != before) {
                changed.push(token);
            }
        }
        self.tidy();
        Ok(changed)
    }

    /// Watches the folders on the way to a file, then looks at the file.
    fn walk(&mut self, token: u64) {
        let Some(file) = self.files.get_mut(&token) else { return };
        file.folders = folders_of(&file.path);
        for folder in &file.folders {
            if !self.folders.contains_key(folder)
                && let Ok(made) = Folder::open(folder, &self.news)
            {
                self.folders.insert(folder.clone(), made);
            }
        }
        file.stamp = stamp(&file.path);
    }

    /// Forgets folders that nobody needs, and sees to it that no news is overlooked.
    fn tidy(&mut self) {
        let used: BTreeSet<&PathBuf> = self.files.values().flat_map(|f| &f.folders).collect();
        self.folders.retain(|path, _| used.contains(path));
        if self.folders.values().any(Folder::is_done) {
            // SAFETY: an open event.
            unsafe { SetEvent(self.news.as_raw_handle()) };
        }
    }
}

impl AsHandle for FileWatch {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.news.as_handle()
    }
}

/// The folder of the file, or the nearest one that is there; and that of the file that a link leads to.
fn folders_of(path: &Path) -> BTreeSet<PathBuf> {
    let there = path.ancestors().skip(1).find(|folder| folder.is_dir());
    let behind = fs::canonicalize(path).ok().and_then(|target| target.parent().map(Path::to_owned));
    let plain =
        |folder: &PathBuf| fs::canonicalize(folder).ok() != there.and_then(|t| fs::canonicalize(t).ok());
    there.map(Path::to_owned).into_iter().chain(behind.filter(plain)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some(Stamp {
        created: meta.creation_time(),
        written: meta.last_write_time(),
        size: meta.file_size(),
        attributes: meta.file_attributes(),
    })
}

/// A folder whose next change is waited for.
struct Folder {
    handle: OwnedHandle,
    overlapped: Box<OVERLAPPED>,
    /// As `u32` for its alignment. The system writes into it until the read is done.
    buffer: Box<[u32; ROOM]>,
}

// SAFETY: the pointers in an OVERLAPPED are the event's, which any thread may use.
unsafe impl Send for Folder {}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("done", &self.is_done()).finish_non_exhaustive()
    }
}

impl Folder {
    fn open(path: &Path, news: &OwnedHandle) -> io::Result<Folder> {
        let (name, share) = (wide_path(path), FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE);
        let how = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OVERLAPPED;
        let (none, nobody) = (ptr::null(), ptr::null_mut());
        // SAFETY: the name lives through the call; a handle that is returned is new and ours.
        let handle = unsafe {
            owned(CreateFileW(name.as_ptr(), FILE_LIST_DIRECTORY, share, none, OPEN_EXISTING, how, nobody))?
        };
        let overlapped = Box::new(OVERLAPPED { hEvent: news.as_raw_handle(), ..OVERLAPPED::default() });
        let mut folder = Folder { handle, overlapped, buffer: Box::new([0; ROOM]) };
        let (into, room) = (folder.buffer.as_mut_ptr().cast(), (ROOM * size_of::<u32>()) as u32);
        let overlapped = ptr::from_mut(folder.overlapped.as_mut());
        // SAFETY: buffer and `overlapped` stay where they are until `drop` has waited for the end of the read.
        check(unsafe {
            let handle = folder.handle.as_raw_handle();
            ReadDirectoryChangesW(handle, into, room, 0, EVENTS, ptr::null_mut(), overlapped, None)
        })?;
        Ok(folder)
    }

    /// Something happened in it.
    fn is_done(&self) -> bool {
        // SAFETY: the system writes the field once, when the read is done.
        let state = unsafe { ptr::read_volatile(&raw const self.overlapped.Internal) };
        state != STATUS_PENDING as usize
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let (handle, mut read) = (self.handle.as_raw_handle(), 0);
        if self.is_done() {
            return;
        }
        let overlapped = ptr::from_mut(self.overlapped.as_mut());
        // SAFETY: the read was started on this handle; after the second call nothing uses its memory any more.
        unsafe {
            CancelIoEx(handle, overlapped);
            while !self.is_done() {
                GetOverlappedResult(handle, overlapped, &raw mut read, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::wait::{Interest, Waiter};
    use std::time::Duration;

    fn news(watch: &mut FileWatch) -> Vec<u64> {
        let mut waiter = Waiter::new().unwrap();
        waiter.add(watch.as_handle(), 1, Interest::Read).unwrap();
        let limit = clock::mono() + Duration::from_secs(10);
        let mut wakes = Vec::new();
        loop {
            waiter.wait(Some(limit), &mut wakes).unwrap();
            let mut changed = watch.changed().unwrap();
            changed.sort_unstable();
            if !changed.is_empty() || clock::mono() > limit {
                return changed;
            }
        }
    }

    #[test]
    fn a_file_that_comes_changes_is_replaced_and_goes_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keepwell.toml");
        let mut watch = FileWatch::new().unwrap();
        watch.add(7, &path).unwrap();
        fs::write(&path, "a").unwrap();
        assert_eq!(news(&mut watch), [7]);
        fs::write(&path, "more").unwrap();
        assert_eq!(news(&mut watch), [7]);
        fs::write(dir.path().join("new"), "replaced").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(news(&mut watch), [7]);
        fs::remove_file(&path).unwrap();
        assert_eq!(news(&mut watch), [7]);
    }

    #[test]
    fn a_file_in_a_folder_that_is_not_there_yet_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a").join("b").join("f");
        let mut watch = FileWatch::new().unwrap();
        watch.add(1, &path).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // The walk follows folder by folder.
        let _ = watch.changed().unwrap();
        fs::write(&path, "x").unwrap();
        assert_eq!(news(&mut watch), [1]);
        watch.remove(1);
        assert!(watch.folders.is_empty());
    }
}
