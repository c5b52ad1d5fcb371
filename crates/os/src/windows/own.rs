//! What this process itself holds and has used, for tests.
#![expect(unsafe_code, reason = "the standard library does not tell it")]

use std::time::Duration;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount, GetProcessTimes};

/// Open handles.
#[must_use]
pub fn handles() -> usize {
    let mut count = 0;
    // SAFETY: this process; `count` is filled by the call.
    unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut count) };
    count as usize
}

/// Processor time of all its threads.
#[must_use]
pub fn busy() -> Duration {
    let mut times = [FILETIME::default(); 4];
    let [begun, ended, kernel, user] = &mut times;
    // SAFETY: this process; all four are filled by the call.
    unsafe { GetProcessTimes(GetCurrentProcess(), begun, ended, kernel, user) };
    let hundreds = |t: &FILETIME| u64::from(t.dwHighDateTime) << 32 | u64::from(t.dwLowDateTime);
    Duration::from_micros((hundreds(kernel) + hundreds(user)) / 10)
}
