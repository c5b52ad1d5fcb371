//! This process and the console that it was started from.
#![expect(unsafe_code, reason = "FreeConsole has no form in the standard library")]

use std::io;

use windows_sys::Win32::System::Console::FreeConsole;

use super::sys::check;

/// From now on this process has no console: no key of it and no end of it reaches it.
///
/// # Errors
/// When it has none.
pub fn leave_terminal() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { FreeConsole() })
}
