//! What the console tells this process, as something to wait for.
#![expect(unsafe_code, reason = "console handlers have no safe form in the standard library")]

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
    SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Threading::SetProcessShutdownParameters;
use windows_sys::core::BOOL;

use super::stop;
use super::sys::check;
use super::wait::{POSTED, Port};

/// Where events go: a handler is called by a thread of the system's and has nothing but statics.
static TO: OnceLock<(Arc<Port>, usize)> = OnceLock::new();

/// The first of all that are not the system's own; others are told at 0x280
/// (<https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-setprocessshutdownparameters>).
const FIRST_AT_SHUTDOWN: u32 = 0x3ff;

/// From now on every event of the console is posted to `port` under `key`. Once a process; later calls change nothing. Of a
/// shutdown it is told before the programs that it keeps, so that it restarts none of those that heed it.
pub(crate) fn hold(port: &Arc<Port>, key: usize) -> io::Result<()> {
    let _ = TO.set((Arc::clone(port), key));
    // SAFETY: the handler only posts and sleeps. A process that inherited to ignore Ctrl+C would have children that do.
    unsafe {
        SetConsoleCtrlHandler(None, 0);
        // Without it a shutdown is noisier, and no more.
        SetProcessShutdownParameters(FIRST_AT_SHUTDOWN, 0);
        check(SetConsoleCtrlHandler(Some(told), 1))
    }
}

/// The signal that an event of the console stands for.
pub(crate) fn signal(event: u32) -> i32 {
    match event {
        CTRL_C_EVENT => stop::INT,
        CTRL_BREAK_EVENT => stop::BREAK,
        CTRL_CLOSE_EVENT => stop::HUP,
        // A shutdown.
        _ => stop::TERM,
    }
}

unsafe extern "system" fn told(event: u32) -> BOOL {
    // Only services hear of it, and of any user's; what that user has started himself is ended by the system.
    if event == CTRL_LOGOFF_EVENT {
        return 1;
    }
    if let Some((port, key)) = TO.get() {
        port.post(*key | POSTED, event);
    }
    // The system ends this process when the handler returns from one of these, or some seconds after, whichever is first.
    if matches!(event, CTRL_CLOSE_EVENT | CTRL_SHUTDOWN_EVENT) {
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    }
    1
}

/// From now on Ctrl+C at the console does not end this process.
pub fn ignore_terminal() {
    // SAFETY: no handler is installed.
    unsafe { SetConsoleCtrlHandler(None, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_names_of_signals() {
        assert_eq!(signal(CTRL_C_EVENT), stop::INT);
        assert_eq!(signal(CTRL_SHUTDOWN_EVENT), stop::TERM);
    }

    #[test]
    fn who_holds_is_told_of_a_shutdown_before_who_is_held() {
        use windows_sys::Win32::System::Threading::GetProcessShutdownParameters;
        hold(super::super::wait::Waiter::new().unwrap().port(), 0).unwrap();
        let (mut level, mut flags) = (0, 0);
        // SAFETY: both are filled by the call.
        assert_ne!(unsafe { GetProcessShutdownParameters(&raw mut level, &raw mut flags) }, 0);
        assert_eq!(level, FIRST_AT_SHUTDOWN);
    }

    #[test]
    fn a_logoff_is_let_pass() {
        // SAFETY: no pointers. Of the end of a console it would wait to be ended.
        assert_eq!(unsafe { told(CTRL_LOGOFF_EVENT) }, 1);
    }
}
