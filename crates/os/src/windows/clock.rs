//! The clocks: time since boot for deadlines, wall time for people.
#![expect(unsafe_code, reason = "the performance counter has no safe form in the standard library")]

use std::ffi::c_void;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use keepwell_core::{Mono, Now, Wall};
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};

/// Both clocks, read one right after the other. Time since boot counts suspended time.
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// Nanoseconds since boot, the same for all processes: the performance counter, which also counts while the host sleeps. (The
/// tick count moves 10 to 16 ms at once.)
#[must_use]
pub fn mono() -> Mono {
    static FREQUENCY: OnceLock<u64> = OnceLock::new();
    let (mut ticks, mut frequency) = (0, 0);
    let second = *FREQUENCY.get_or_init(|| {
        // SAFETY: the number is filled by the call, which cannot fail since Windows XP.
        unsafe { QueryPerformanceFrequency(&raw mut frequency) };
        frequency.unsigned_abs().max(1)
    });
    // SAFETY: as above.
    unsafe { QueryPerformanceCounter(&raw mut ticks) };
    Mono(nanos(ticks.unsigned_abs(), second))
}

/// In two parts, since all at once would be too much after half an hour.
fn nanos(ticks: u64, second: u64) -> u64 {
    const NANOS: u64 = 1_000_000_000;
    let (whole, rest) = (ticks / second, u128::from(ticks % second));
    let rest = rest * u128::from(NANOS) / u128::from(second);
    whole.saturating_mul(NANOS).saturating_add(u64::try_from(rest).unwrap_or(NANOS))
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
    fn time_since_boot_moves_in_small_steps() {
        let step = || {
            let before = mono();
            std::iter::repeat_with(mono).find(|now| *now > before).unwrap().since(before)
        };
        // Others run in between now and then.
        let smallest = std::iter::repeat_with(step).take(100).min().unwrap();
        assert!(smallest < std::time::Duration::from_millis(1), "{smallest:?}");
    }

    #[test]
    fn ticks_of_any_length_become_nanoseconds() {
        assert_eq!(nanos(12_345_678, 10_000_000), 1_234_567_800);
        assert_eq!(nanos(10, 3), 3_333_333_333);
        // Ten years of a counter that goes with the processor.
        let year = 365 * 86_400;
        assert_eq!(nanos(10 * year * 3_000_000_000, 3_000_000_000), 10 * year * 1_000_000_000);
    }

    #[test]
    fn the_boot_has_a_name() {
        assert!(!boot_id().is_empty());
        assert_eq!(boot_id(), boot_id());
    }
}
