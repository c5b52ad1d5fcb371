//! The clocks: time since boot for deadlines, wall time for people.
#![expect(unsafe_code, reason = "the tick count has no safe form in the standard library")]

use std::ffi::c_void;
use std::time::{SystemTime, UNIX_EPOCH};

use keepwell_core::{Mono, Now, Wall};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;

/// Both clocks, read one right after the other. Time since boot counts suspended time.
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// Nanoseconds since boot, in steps of the system's tick (10 to 16 ms); the finer clocks are ones that Wine 8 does not have, or
/// stand still while the host is suspended.
#[must_use]
pub fn mono() -> Mono {
    // SAFETY: no pointers; cannot fail.
    let millis = unsafe { GetTickCount64() };
    Mono(millis.saturating_mul(1_000_000))
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Names this boot of the host: a [`Mono`] means nothing under another one. Empty where the system does not tell.
#[must_use]
pub fn boot_id() -> String {
    let (mut info, mut len) = (TimeOfDay::default(), 0);
    let size = size_of::<TimeOfDay>() as u32;
    // SAFETY: `info` has the size that is said, and both are filled by the call.
    let status = unsafe { NtQuerySystemInformation(TIME_OF_DAY, (&raw mut info).cast(), size, &raw mut len) };
    // Setting the clock moves the boot time, and its bias by as much.
    if status < 0 { String::new() } else { format!("{:x}", info.boot.wrapping_sub(info.bias)) }
}

/// `SystemTimeOfDayInformation`.
const TIME_OF_DAY: u32 = 3;

#[repr(C)]
#[derive(Default)]
struct TimeOfDay {
    boot: i64,
    current: i64,
    zone_bias: i64,
    zone: u32,
    reserved: u32,
    bias: i64,
    sleep_bias: i64,
}

#[link(name = "ntdll")]
unsafe extern "system" {
    fn NtQuerySystemInformation(class: u32, into: *mut c_void, room: u32, len: *mut u32) -> i32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_go_forward_and_agree_with_the_standard_library() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = now();
        assert!(i128::try_from(before).unwrap() - i128::from(now.wall.0) < 1000);
        let began = std::time::Instant::now();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let (ours, theirs) = (mono().since(now.mono), began.elapsed());
        assert!(ours >= theirs / 2 && ours <= theirs * 2, "{ours:?} {theirs:?}");
    }

    #[test]
    fn the_boot_has_a_name() {
        assert!(!boot_id().is_empty());
        assert_eq!(boot_id(), boot_id());
    }
}
