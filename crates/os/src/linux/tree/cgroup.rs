//! One cgroup of version 2, through the handle of its directory.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::{fs, mem};

use super::super::ipc::{again, check, check_len};
use super::super::spawn::Faults;
use super::super::stop;

/// A cgroup and all below it. Since which Linux: `cgroup.kill` 5.14, `cgroup.freeze` 5.2; before that signals must do.
#[derive(Clone, Copy, Debug)]
pub struct Cgroup<'a> {
    dir: BorrowedFd<'a>,
    faults: Faults,
}

/// Rounds of signals in one kill. A tree that outruns them is killed again later, and again.
const ROUNDS: u32 = 50;

impl<'a> Cgroup<'a> {
    /// Through its directory.
    #[must_use]
    pub fn new(dir: BorrowedFd<'a>, faults: Faults) -> Cgroup<'a> {
        Cgroup { dir, faults }
    }

    /// No live process is in it. One whose directory is gone is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut buffer = [0_u8; 256];
        let Ok(n) = read_at(self.dir, c"cgroup.events", &mut buffer) else { return true };
        let text = buffer.get(..n).unwrap_or_default();
        !text.split(|b| *b == b'\n').any(|line| line == b"populated 1")
    }

    /// The processes in it and below it, as far as they can be seen from here.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        collect_pids(&self.path(), &mut pids);
        pids
    }

    /// Kills every process in it. They may take a moment to be gone.
    ///
    /// # Errors
    /// When it may not.
    pub fn kill(&self) -> io::Result<()> {
        if self.faults.cgroup_kill.is_none() {
            match write_at(self.dir, c"cgroup.kill", b"1") {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        // Frozen, no process can fork away from under the signals; a kill reaches a frozen process all the same.
        let frozen = self.freezer(true).is_ok();
        for _ in 0..ROUNDS {
            let pids = self.pids();
            for pid in &pids {
                let _ = stop::signal(*pid, libc::SIGKILL);
            }
            if pids.is_empty() || frozen {
                break;
            }
        }
        if frozen {
            let _ = self.freezer(false);
        }
        Ok(())
    }

    /// Sends a signal to every process in it.
    pub fn signal(&self, signal: i32) {
        for pid in self.pids() {
            let _ = stop::signal(pid, signal);
        }
    }

    /// Stops its processes from being scheduled, or lets them go on; by SIGSTOP and SIGCONT where there is no freezer.
    ///
    /// # Errors
    /// When it may not.
    pub fn freeze(&self, on: bool) -> io::Result<()> {
        match self.freezer(on) {
            Err(_) if !self.pids().is_empty() => {
                self.signal(if on { libc::SIGSTOP } else { libc::SIGCONT });
                Ok(())
            }
            done => done,
        }
    }

    fn freezer(&self, on: bool) -> io::Result<()> {
        if let Some(errno) = self.faults.cgroup_freeze {
            return Err(io::Error::from_raw_os_error(errno));
        }
        write_at(self.dir, c"cgroup.freeze", if on { b"1" } else { b"0" })
    }

    /// How many of its processes the kernel has ended for memory, ever; `None` without the memory controller.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        let mut buffer = [0_u8; 512];
        let n = read_at(self.dir, c"memory.events", &mut buffer).ok()?;
        count_in(buffer.get(..n)?, "oom_kill")
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()))
    }
}

/// The number after `name` in lines of `name number`.
pub(super) fn count_in(text: &[u8], name: &str) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Reads the pids of a cgroup folder alone.
pub(super) fn own_pids(dir: &std::path::Path, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|p| *p != 0));
}

/// Reads the pids of a cgroup folder and of those below it. Numbers of 0 are processes of another pid namespace.
pub(super) fn collect_pids(dir: &std::path::Path, pids: &mut Vec<u32>) {
    own_pids(dir, pids);
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        collect_pids(&entry.path(), pids);
    }
}

/// Tells when trees may have become empty; it does not look. One inotify for all: the kernel reports a change of
/// `cgroup.events` as a modification (cgroups(7)).
#[derive(Debug)]
pub struct TreeWatch(OwnedFd);

/// A tree that is being watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WatchId(i32);

impl TreeWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the user has too many inotify instances, or the host is out of descriptors.
    pub fn new() -> io::Result<TreeWatch> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
        // SAFETY: opened just now.
        Ok(TreeWatch(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches a tree. Ask whether it is empty after this, not before.
    ///
    /// # Errors
    /// When the user has too many watches.
    pub fn add(&self, dir: BorrowedFd<'_>) -> io::Result<WatchId> {
        let path = format!("/proc/self/fd/{}/cgroup.events\0", dir.as_raw_fd());
        // SAFETY: `path` ends with a zero and lives through the call.
        let id = check(unsafe {
            libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr().cast(), libc::IN_MODIFY)
        })?;
        Ok(WatchId(id))
    }

    /// No longer.
    pub fn remove(&self, id: WatchId) {
        // SAFETY: no pointers.
        unsafe { libc::inotify_rm_watch(self.0.as_raw_fd(), id.0) };
    }

    /// Takes the news. `None` among it: some were lost, look at all.
    pub fn take(&self, mut news: impl FnMut(Option<WatchId>)) {
        let mut buffer = [0_u64; 512];
        let room = mem::size_of_val(&buffer);
        loop {
            let read = again(|| {
                // SAFETY: `buffer` has that room, and is aligned for inotify_event.
                check_len(unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), room) })
            });
            let Ok(n @ 1..) = read else { return };
            let mut at = 0;
            while at + mem::size_of::<libc::inotify_event>() <= n {
                // SAFETY: the kernel writes whole events, one after the other, each at a multiple of its alignment.
                let event = unsafe { &*buffer.as_ptr().byte_add(at).cast::<libc::inotify_event>() };
                at += mem::size_of::<libc::inotify_event>() + event.len as usize;
                if event.mask & libc::IN_Q_OVERFLOW != 0 {
                    news(None);
                } else if event.mask & libc::IN_MODIFY != 0 {
                    news(Some(WatchId(event.wd)));
                }
            }
        }
    }
}

impl AsFd for TreeWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a C string that lives.
    let fd = check(unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) })?;
    // SAFETY: opened just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn read_at(dir: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    let file = open_at(dir, name, libc::O_RDONLY)?;
    // SAFETY: `buffer` has that room.
    again(|| check_len(unsafe { libc::read(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }))
}

fn write_at(dir: BorrowedFd<'_>, name: &CStr, text: &[u8]) -> io::Result<()> {
    let file = open_at(dir, name, libc::O_WRONLY)?;
    // SAFETY: `text` lives through the call.
    again(|| check_len(unsafe { libc::write(file.as_raw_fd(), text.as_ptr().cast(), text.len()) }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_by_their_whole_name() {
        let text = b"low 0\noom 4\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(count_in(text, "oom_kill"), Some(2));
        assert_eq!(count_in(text, "oom"), Some(4));
        assert_eq!(count_in(text, "kill"), None);
    }

    #[test]
    fn what_is_no_cgroup_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let dir = fs::File::open(folder.path()).unwrap();
        let tree = Cgroup::new(dir.as_fd(), Faults::default());
        assert!(tree.is_empty());
        assert!(tree.pids().is_empty());
        assert_eq!(tree.oom_kills(), None);
    }
}
