//! Tells when a file changes that may not exist yet: created, replaced, written, removed, or another one because a link
//! or a folder on its way was changed. It waits for the kernel (inotify(7)) and never looks by itself.
#![expect(unsafe_code, reason = "inotify has no safe form in the standard library")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::ipc::{again, check, check_len};

/// What may concern a file, seen from its folder, and the end of the folder itself.
const EVENTS: u32 = libc::IN_CREATE
    | libc::IN_MOVED_TO
    | libc::IN_MOVED_FROM
    | libc::IN_DELETE
    | libc::IN_CLOSE_WRITE
    | libc::IN_ATTRIB
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_ONLYDIR;
/// Links followed on one path, as the kernel does (path_resolution(7)).
const MOST_LINKS: u32 = 40;
/// How often a path is walked again because it changed during the walk; after that the next event does it.
const MOST_WALKS: u32 = 8;

/// Any number of watched files behind one handle, which is readable when there is news.
#[derive(Debug)]
pub struct FileWatch {
    inotify: OwnedFd,
    files: BTreeMap<u64, Watched>,
    folders: BTreeMap<PathBuf, i32>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// Folder and name of every step to the file.
    steps: BTreeSet<(PathBuf, OsString)>,
    stamp: Option<Stamp>,
}

/// Tells one content of a path from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the host or the user is out of inotify instances.
    pub fn new() -> io::Result<FileWatch> {
        // SAFETY: no pointers; a descriptor that is returned is new and ours.
        let inotify = unsafe {
            let fd = check(libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK))?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(FileWatch { inotify, files: BTreeMap::new(), folders: BTreeMap::new() })
    }

    /// Watches `path` (absolute) under `token`, instead of what was under it.
    ///
    /// # Errors
    /// When the user is out of watches.
    pub fn add(&mut self, token: u64, path: &Path) -> io::Result<()> {
        self.files.insert(token, Watched { path: path.to_owned(), steps: BTreeSet::new(), stamp: None });
        self.walk(token)?;
        self.forget_unused();
        Ok(())
    }

    /// Watches it no longer.
    pub fn remove(&mut self, token: u64) {
        self.files.remove(&token);
        self.forget_unused();
    }

    /// Takes in the news, and gives the tokens of the files that are not what they were. Never waits.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn changed(&mut self) -> io::Result<Vec<u64>> {
        let touched = self.read_events()?;
        let mut changed = Vec::new();
        for token in touched {
            let before = self.files.get(&token).and_then(|f| f.stamp);
            self.walk(token)?;
            if self.files.get(&token).is_some_and(|f| f.stamp != before) {
                changed.push(token);
            }
        }
        self.forget_unused();
        Ok(changed)
    }

    /// Finds the steps to a file and watches them, until they stay the same.
    fn walk(&mut self, token: u64) -> io::Result<()> {
        for _ in 0..MOST_WALKS {
            let Some(file) = self.files.get(&token) else { return Ok(()) };
            let steps = steps_to(&file.path);
            // A folder may have been replaced by another of its name, so every one is asked for again; one that is gone
            // again leads to another walk.
            let mut complete = true;
            for folder in steps.iter().map(|(folder, _)| folder).collect::<BTreeSet<_>>() {
                complete &= self.watch_folder(folder)?;
            }
            let Some(file) = self.files.get_mut(&token) else { return Ok(()) };
            let same = file.steps == steps;
            file.steps = steps;
            file.stamp = stamp(&file.path);
            if same && complete {
                break;
            }
        }
        Ok(())
    }

    fn watch_folder(&mut self, folder: &Path) -> io::Result<bool> {
        let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return Ok(true) };
        // SAFETY: `path` is a C string that lives through the call.
        match check(unsafe { libc::inotify_add_watch(self.inotify.as_raw_fd(), path.as_ptr(), EVENTS) }) {
            Ok(wd) => {
                self.folders.insert(folder.to_owned(), wd);
                Ok(true)
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) => Err(e),
            // Not there any more, or closed to us; its parent is watched too.
            Err(_) => {
                self.folders.remove(folder);
                Ok(false)
            }
        }
    }

    fn forget_unused(&mut self) {
        let used: BTreeSet<&PathBuf> =
            self.files.values().flat_map(|f| f.steps.iter().map(|(folder, _)| folder)).collect();
        let unused: Vec<PathBuf> = self.folders.keys().filter(|f| !used.contains(f)).cloned().collect();
        for folder in unused {
            let Some(wd) = self.folders.remove(&folder) else { continue };
            // Two paths of one folder share a watch.
            if !self.folders.values().any(|other| *other == wd) {
                // SAFETY: no pointers; a watch that is gone already is an error without effect.
                unsafe { libc::inotify_rm_watch(self.inotify.as_raw_fd(), wd) };
            }
        }
    }

    /// The files that the waiting events may concern.
    fn read_events(&self) -> io::Result<BTreeSet<u64>> {
        let mut touched = BTreeSet::new();
        // As `u64` for the alignment of the events in it; one event with the longest name is 272 bytes.
        let mut buffer = [0_u64; 512];
        loop {
            let (fd, room) = (self.inotify.as_raw_fd(), mem::size_of_val(&buffer));
            // SAFETY: `buffer` has `room` bytes.
            let n = match again(|| check_len(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), room) })) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(touched),
                n => n?,
            };
            // SAFETY: the kernel has written `n` initialised bytes to `buffer`.
            let mut bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), n) };
            while let Some((event, name, rest)) = split_event(bytes) {
                self.touch(&event, name, &mut touched);
                bytes = rest;
            }
        }
    }

    fn touch(&self, event: &libc::inotify_event, name: &OsStr, touched: &mut BTreeSet<u64>) {
        let lost = event.mask & libc::IN_Q_OVERFLOW != 0;
        let own = event.mask & (libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_IGNORED) != 0;
        let folders: Vec<&PathBuf> =
            self.folders.iter().filter(|(_, wd)| **wd == event.wd).map(|(folder, _)| folder).collect();
        touched.extend(self.files.iter().filter_map(|(token, file)| {
            let concerned =
                lost || file.steps.iter().any(|(f, n)| folders.contains(&f) && (own || n == name));
            concerned.then_some(*token)
        }));
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The first event of `bytes`, its name, and what follows it.
fn split_event(bytes: &[u8]) -> Option<(libc::inotify_event, &OsStr, &[u8])> {
    const HEAD: usize = mem::size_of::<libc::inotify_event>();
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    // SAFETY: the event is plain numbers, and there are enough bytes for it.
    let event = unsafe { head.as_ptr().cast::<libc::inotify_event>().read_unaligned() };
    let (name, rest) = bytes[HEAD..].split_at_checked(event.len as usize)?;
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    Some((event, OsStr::from_bytes(name), rest))
}

/// Every folder and name that leads to `path`, through links, up to the first that is not there.
fn steps_to(path: &Path) -> BTreeSet<(PathBuf, OsString)> {
    let mut steps = BTreeSet::new();
    let mut folder = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = parts(path).collect();
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            folder.pop();
            continue;
        }
        steps.insert((folder.clone(), name.clone()));
        let next = folder.join(&name);
        let Ok(found) = fs::symlink_metadata(&next) else { break };
        if !found.file_type().is_symlink() {
            folder = next;
            continue;
        }
        links += 1;
        let Ok(target) = fs::read_link(&next) else { break };
        if links > MOST_LINKS {
            break;
        }
        if target.is_absolute() {
            folder = PathBuf::from("/");
        }
        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            ahead.push_front(part);
        }
    }
    steps
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn stamp(path: &Path) -> Option<Stamp> {
    let m = fs::metadata(path).ok()?;
    Some(Stamp {
        file: (m.dev(), m.ino()),
        size: m.size(),
        modified: (m.mtime(), m.mtime_nsec()),
        changed: (m.ctime(), m.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{Interest, Waiter, Wake};
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    struct Bench {
        dir: tempfile::TempDir,
        watch: FileWatch,
        waiter: Waiter,
    }

    impl Bench {
        fn new(path: &str) -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let (mut watch, waiter) = (FileWatch::new().unwrap(), Waiter::new().unwrap());
            watch.add(7, &dir.path().join(path)).unwrap();
            waiter.add(watch.as_fd(), 1, Interest::Read).unwrap();
            Bench { dir, watch, waiter }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        /// What is told within a moment.
        fn told(&mut self) -> Vec<u64> {
            let mut wakes = Vec::new();
            self.waiter.wait(Some(crate::clock::mono() + Duration::from_millis(100)), &mut wakes).unwrap();
            if wakes == [Wake::Deadline] { Vec::new() } else { self.watch.changed().unwrap() }
        }
    }

    #[test]
    fn a_file_is_seen_to_come_change_be_replaced_and_go() {
        let mut b = Bench::new("bin/app");
        assert!(b.told().is_empty());
        fs::create_dir(b.at("bin")).unwrap();
        assert!(b.told().is_empty());
        fs::write(b.at("bin/app"), "one").unwrap();
        assert_eq!(b.told(), [7]);
        fs::write(b.at("bin/app"), "two!").unwrap();
        assert_eq!(b.told(), [7]);
        fs::write(b.at("bin/new"), "three").unwrap();
        assert!(b.told().is_empty());
        fs::rename(b.at("bin/new"), b.at("bin/app")).unwrap();
        assert_eq!(b.told(), [7]);
        fs::remove_file(b.at("bin/app")).unwrap();
        assert_eq!(b.told(), [7]);
    }

    #[test]
    fn folders_made_at_once_are_walked_through() {
        let mut b = Bench::new("a/b/c/app");
        fs::create_dir_all(b.at("a/b/c")).unwrap();
        fs::write(b.at("a/b/c/app"), "x").unwrap();
        assert_eq!(b.told(), [7]);
    }

    #[test]
    fn a_release_link_that_is_switched_is_a_change() {
        let mut b = Bench::new("current/app");
        for release in ["r1", "r2"] {
            fs::create_dir(b.at(release)).unwrap();
            fs::write(b.at(release).join("app"), release).unwrap();
        }
        symlink("r1", b.at("current")).unwrap();
        assert_eq!(b.told(), [7]);
        symlink("r2", b.at("next")).unwrap();
        fs::rename(b.at("next"), b.at("current")).unwrap();
        assert_eq!(b.told(), [7]);
        fs::write(b.at("r2/app"), "new content").unwrap();
        assert_eq!(b.told(), [7]);
        fs::write(b.at("r1/app"), "nobody cares").unwrap();
        assert!(b.told().is_empty());
    }

    #[test]
    fn a_folder_that_is_removed_and_made_again_is_watched_again() {
        let mut b = Bench::new("bin/app");
        for text in ["one", "two"] {
            fs::create_dir(b.at("bin")).unwrap();
            fs::write(b.at("bin/app"), text).unwrap();
            assert_eq!(b.told(), [7]);
            fs::remove_dir_all(b.at("bin")).unwrap();
            assert_eq!(b.told(), [7]);
        }
    }

    #[test]
    fn what_is_no_longer_wanted_is_silent_and_a_loop_of_links_ends() {
        let mut b = Bench::new("app");
        symlink("loop", b.at("loop")).unwrap();
        let path = b.at("loop");
        b.watch.add(8, &path).unwrap();
        b.watch.remove(7);
        let _ = b.told();
        fs::write(b.at("app"), "x").unwrap();
        assert!(b.told().is_empty());
        b.watch.remove(8);
        assert!(b.watch.folders.is_empty());
    }
}
