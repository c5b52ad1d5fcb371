//! A password from the console, which does not show it.
#![expect(unsafe_code, reason = "modes of the console have no safe form in the standard library")]

use std::io::{self, BufRead, Write};
use std::os::windows::io::AsRawHandle;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::Console::{ENABLE_ECHO_INPUT, GetConsoleMode, SetConsoleMode};

use crate::manager::definition::Secret;

/// Shows again what is typed, also when asking has failed.
struct Silent(HANDLE, u32);

impl Drop for Silent {
    fn drop(&mut self) {
        // SAFETY: the console's input stays open for as long as the process lives.
        unsafe { SetConsoleMode(self.0, self.1) };
    }
}

/// One line; the question goes to stderr.
pub(crate) fn ask(question: &str) -> io::Result<Secret> {
    let (input, mut mode) = (io::stdin().as_raw_handle(), 0);
    // SAFETY: an open handle; `mode` is filled by the call.
    if unsafe { GetConsoleMode(input, &raw mut mode) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let mut out = io::stderr().lock();
    write!(out, "{question}")?;
    out.flush()?;
    let mut line = String::new();
    {
        // SAFETY: as above.
        if unsafe { SetConsoleMode(input, mode & !ENABLE_ECHO_INPUT) } == 0 {
            return Err(io::Error::last_os_error());
        }
        let _silent = Silent(input, mode);
        io::stdin().lock().read_line(&mut line)?;
    }
    writeln!(out)?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err(io::ErrorKind::UnexpectedEof.into()),
        text => Ok(Secret::new(text)),
    }
}
