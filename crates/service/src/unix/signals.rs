//! SIGTERM, SIGINT and SIGHUP, brought to a thread by a pipe, since a signal handler may do nothing else.
#![expect(unsafe_code, reason = "signal handlers")]

use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use crate::control::Control;
use crate::error::Error;
use crate::inbox::Incoming;
use crate::outside::Deliver;
use crate::runner::Host;
use crate::token::Cause;

/// Where the handler writes; -1 before there is a pipe.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Has every signal come to `deliver`, from now on. One that the process was started to ignore (`nohup`, a shell's `&`) stays
/// ignored.
pub(crate) fn listen(deliver: Deliver, host: Host) -> Result<(), Error> {
    let failed = |error: io::Error| {
        Error::system("listen to signals", error.raw_os_error().unwrap_or(libc::EINVAL).cast_unsigned())
    };
    let (mut reader, writer) = io::pipe().map_err(failed)?;
    // SAFETY: the descriptor is open. A handler must not wait for a full pipe.
    if unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } == -1 {
        return Err(failed(io::Error::last_os_error()));
    }
    if PIPE.compare_exchange(-1, writer.as_raw_fd(), Ordering::SeqCst, Ordering::SeqCst).is_err() {
        return Err(Error::AlreadyRan);
    }
    // A signal may come at any time until the process ends.
    let _never_closed = writer.into_raw_fd();
    let take = move || {
        let mut signal = [0];
        while reader.read_exact(&mut signal).is_ok() {
            if let Some(incoming) = meaning(libc::c_int::from(signal[0]), host) {
                deliver(incoming);
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(take).map_err(failed)?;
    // The second Ctrl+C in a terminal ends the process: a person who presses it again means it.
    let once = if host == Host::Terminal { libc::SA_RESETHAND } else { 0 };
    for (signal, flags) in [(libc::SIGTERM, 0), (libc::SIGINT, once), (libc::SIGHUP, 0)] {
        catch(signal, flags).map_err(failed)?;
    }
    Ok(())
}

/// What a signal asks for.
fn meaning(signal: libc::c_int, host: Host) -> Option<Incoming> {
    match (signal, host) {
        (libc::SIGTERM, _) => Some(Incoming::End(Cause::Stop)),
        (libc::SIGINT, _) => Some(Incoming::End(Cause::Interrupt)),
        // A daemon has no terminal that could hang up.
        (libc::SIGHUP, Host::Systemd | Host::Scm) => Some(Incoming::Control(Control::ParamChange)),
        (libc::SIGHUP, Host::Terminal) => Some(Incoming::End(Cause::Hangup)),
        _ => None,
    }
}

fn catch(signal: libc::c_int, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: zeros are an empty structure; the old action is written to it.
    let mut before: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: as above.
    if unsafe { libc::sigaction(signal, ptr::null(), &raw mut before) } == -1 {
        return Err(io::Error::last_os_error());
    }
    if before.sa_sigaction == libc::SIG_IGN {
        return Ok(());
    }
    // SAFETY: zeros are no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
    action.sa_flags = flags | libc::SA_RESTART;
    // SAFETY: the handler does what a handler may.
    if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Writes the signal's number, and leaves `errno` as it was.
extern "C" fn on_signal(signal: libc::c_int) {
    let saved = io::Error::last_os_error().raw_os_error();
    // Numbers of signals are below 128, so the last byte of the number is the number.
    let byte = signal.to_be_bytes()[3];
    // SAFETY: write(2) may be called in a handler. With a full pipe the same wish has come thousands of times.
    unsafe { libc::write(PIPE.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
    if let Some(saved) = saved {
        set_errno(saved);
    }
}

#[cfg(target_os = "linux")]
fn set_errno(number: i32) {
    // SAFETY: the place is this thread's own.
    unsafe { *libc::__errno_location() = number };
}

#[cfg(not(target_os = "linux"))]
fn set_errno(_number: i32) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_is_a_reload_to_a_daemon_and_the_end_to_a_program_in_a_terminal() {
        assert!(matches!(
            meaning(libc::SIGHUP, Host::Systemd),
            Some(Incoming::Control(Control::ParamChange))
        ));
        assert!(matches!(meaning(libc::SIGHUP, Host::Terminal), Some(Incoming::End(Cause::Hangup))));
        assert!(meaning(libc::SIGUSR1, Host::Systemd).is_none());
    }
}
