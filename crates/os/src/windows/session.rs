//! This process and the console that it was started from.
#![expect(unsafe_code, reason = "consoles have no form in the standard library")]

use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, IntoRawHandle};

use windows_sys::Win32::System::Console::{FreeConsole, STD_ERROR_HANDLE, SetStdHandle};

use super::sys::{self, check};

/// From now on this process has no console: no key of it and no end of it reaches it.
///
/// # Errors
/// When it has none.
pub fn leave_terminal() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { FreeConsole() })
}

/// From now on what this process says on stderr goes into this file.
///
/// # Errors
/// When the system refuses.
pub fn speak_into(file: &File) -> io::Result<()> {
    let copy = sys::duplicate(file.as_raw_handle(), false)?;
    // SAFETY: an open handle, which stays open for as long as this process lives.
    check(unsafe { SetStdHandle(STD_ERROR_HANDLE, copy.into_raw_handle()) })
}
