//! Signals that this process receives, as something to wait for. It reacts to none.
#![expect(unsafe_code, reason = "signalfd and sigaction have no safe form in the standard library")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::ipc::{again, check, check_len};

/// What arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Children changed: reap until none is left. Many of these can be one.
    Children,
    /// Somebody wants keepwell to stop, by this signal.
    Stop(i32),
}

/// SIGCHLD, SIGINT, SIGTERM, SIGHUP and SIGQUIT of this process, held back and readable here instead.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Holds them back from now on, in this thread and those that it starts; the first thing that a process does. SIGHUP
    /// stays ignored if it was (nohup(1)). As PID 1 too: a signal that is held back is not ignored (signal(7)).
    ///
    /// # Errors
    /// When the host is out of descriptors.
    pub fn hold() -> io::Result<Signals> {
        // SAFETY: the set is made empty before it is used and lives through the calls; sigaction only asks.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT] {
                libc::sigaddset(&raw mut set, signal);
            }
            let mut hangup: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut hangup);
            if hangup.sa_sigaction != libc::SIG_IGN {
                libc::sigaddset(&raw mut set, libc::SIGHUP);
            }
            // A parent that ignored it would have the kernel reap for us, and lose every exit status.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?
        };
        // SAFETY: opened just now.
        Ok(Signals(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next one; `None` when there is none now.
    #[must_use]
    pub fn next(&self) -> Option<Received> {
        // SAFETY: zeroes are a valid signalfd_siginfo, and the call fills all of it or nothing.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let room = size_of_val(&info);
        again(|| {
            // SAFETY: `info` has room for one entry.
            check_len(unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), room) })
        })
        .ok()?;
        let signal = info.ssi_signo.cast_signed();
        Some(if signal == libc::SIGCHLD { Received::Children } else { Received::Stop(signal) })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// From now on the terminal's stop keys do not stop this process (SIGTSTP, SIGTTIN, SIGTTOU), a reader that went away
/// does not end it (SIGPIPE), nor does a stray SIGUSR1 or SIGUSR2.
pub fn ignore_terminal() {
    let ignored = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGPIPE, libc::SIGUSR1, libc::SIGUSR2];
    for signal in ignored {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_told_once() {
        let signals = Signals::hold().unwrap();
        assert_eq!(signals.next(), None);
        // SAFETY: no pointers; to this thread, where they are held back.
        unsafe { (libc::raise(libc::SIGTERM), libc::raise(libc::SIGCHLD), libc::raise(libc::SIGCHLD)) };
        let mut all = [signals.next().unwrap(), signals.next().unwrap()];
        all.sort_by_key(|r| matches!(r, Received::Stop(_)));
        assert_eq!(all, [Received::Children, Received::Stop(libc::SIGTERM)]);
        assert_eq!(signals.next(), None);
    }
}
