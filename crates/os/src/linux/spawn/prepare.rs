//! What the parent makes ready before there is a child.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use libc::c_char;

use super::{SpawnFailure, Stdio, Step, last_errno};
use crate::types::SpawnRequest;

/// A handful of low descriptors that stay reserved, so that a child which leaves the shared table copies only these. What
/// a start needs is put onto them first.
#[derive(Debug)]
pub(super) struct Pads {
    pub(super) null: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// One above the highest.
    pub(super) end: RawFd,
}

impl Pads {
    pub(super) fn new() -> io::Result<Pads> {
        let file = fs::File::options().read(true).write(true).open("/dev/null")?;
        let (null, stdout, stderr) =
            (OwnedFd::from(file.try_clone()?), file.try_clone()?, OwnedFd::from(file));
        let highest = [null.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()].into_iter().max();
        Ok(Pads { end: highest.unwrap_or(2) + 1, null, stdout: stdout.into(), stderr })
    }

    pub(super) fn load(&self, stdio: Stdio<'_>) -> Result<(), SpawnFailure> {
        self.point(stdio.stdout, stdio.stderr).map_err(|errno| SpawnFailure { step: Step::Files, errno })
    }

    /// The pads must not keep a pipe open that its owner has let go.
    pub(super) fn unload(&self) {
        let _ = self.point(self.null.as_fd(), self.null.as_fd());
    }

    fn point(&self, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Result<(), i32> {
        for (from, to) in [(stdout, &self.stdout), (stderr, &self.stderr)] {
            // SAFETY: both are open; the pad keeps its number and its owner.
            if unsafe { libc::dup3(from.as_raw_fd(), to.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
                return Err(last_errno());
            }
        }
        Ok(())
    }
}

/// A request's strings as the system wants them. Kept from start to start, so that a restart asks for no memory.
#[derive(Debug, Default)]
pub(super) struct Text {
    bytes: Vec<u8>,
    offsets: Vec<usize>,
    pointers: Vec<*const c_char>,
}

/// Into [`Text`].
#[derive(Clone, Copy)]
pub(super) struct Pointers {
    pub(super) program: *const c_char,
    pub(super) cwd: *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    pub(super) joins: *const *const c_char,
}

impl Text {
    /// Larger than this it is given back after use.
    const KEPT: usize = 256 << 10;

    pub(super) fn set(&mut self, request: &SpawnRequest) -> Result<Pointers, SpawnFailure> {
        if self.bytes.capacity() > Self::KEPT {
            *self = Text::default();
        }
        self.bytes.clear();
        self.offsets.clear();
        self.pointers.clear();
        if request.argv.is_empty() {
            return Err(SpawnFailure { step: Step::Request, errno: libc::EINVAL });
        }
        let lists = [&request.argv, &request.env, &request.join];
        let all = [&request.program, &request.cwd].into_iter().chain(lists.into_iter().flatten());
        for string in all {
            if string.contains(&0) {
                return Err(SpawnFailure { step: Step::Request, errno: libc::EINVAL });
            }
            self.offsets.push(self.bytes.len());
            self.bytes.extend_from_slice(string);
            self.bytes.push(0);
        }
        // Pointers only now that nothing grows any more: each list ends with a null.
        let base = self.bytes.as_ptr().cast::<c_char>();
        let mut strings = self.offsets.iter().map(|o| base.wrapping_add(*o));
        let (program, cwd) = (strings.next().unwrap_or(base), strings.next().unwrap_or(base));
        let mut starts = [0_usize; 3];
        for (list, start) in lists.into_iter().zip(&mut starts) {
            *start = self.pointers.len();
            self.pointers.extend(strings.by_ref().take(list.len()));
            self.pointers.push(ptr::null());
        }
        let [argv, envp, joins] = starts.map(|s| self.pointers.as_ptr().wrapping_add(s));
        Ok(Pointers { program, cwd, argv, envp, joins })
    }
}

/// All signals are held back while it lives: a handler must not run in a borrowed child.
pub(super) struct Masked(libc::sigset_t);

impl Masked {
    pub(super) fn new() -> Masked {
        // SAFETY: a full set is made before it is used, and the old one is stored by the call.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut old: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
            Masked(old)
        }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        // SAFETY: the set was stored by `new`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}
