//! This process and the terminal that it was started from.
#![expect(unsafe_code, reason = "setsid has no form in the standard library")]

use std::io;

use super::ipc::check;

/// From now on this process has a session of its own: no key and no hangup of the terminal reaches it, and it keeps no
/// terminal open.
///
/// # Errors
/// When it leads a process group already, as a shell's job does (setsid(2)).
pub fn leave_terminal() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::setsid() }).map(drop)
}

/// From now on what this process says on stderr goes into this file.
///
/// # Errors
/// When the system refuses.
pub fn speak_into(file: &std::fs::File) -> io::Result<()> {
    // SAFETY: both are open descriptors, or will be.
    check(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(file), libc::STDERR_FILENO) }).map(drop)
}
