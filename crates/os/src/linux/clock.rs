//! The clocks: time since boot for deadlines, wall time for people.
#![expect(unsafe_code, reason = "clock_gettime has no safe form that knows CLOCK_BOOTTIME")]

use std::fs;

use keepwell_core::{Mono, Now, Wall};

/// Both clocks, read one right after the other. Time since boot counts suspended time (`clock_gettime(2)`,
/// `CLOCK_BOOTTIME`).
#[must_use]
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// Nanoseconds since boot.
#[must_use]
pub fn mono() -> Mono {
    let t = read(libc::CLOCK_BOOTTIME);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    Mono(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Milliseconds since 1970.
#[must_use]
pub fn wall() -> Wall {
    let t = read(libc::CLOCK_REALTIME);
    Wall(t.tv_sec.saturating_mul(1_000).saturating_add(t.tv_nsec / 1_000_000))
}

/// Names this boot of the host: a [`Mono`] means nothing under another one. Empty where the kernel does not tell.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec that the call fills. It cannot fail: both clocks exist since Linux 2.6.39.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_with_the_standard_library() {
        let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let now = now();
        let after = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        assert!((before..=after).contains(&u128::try_from(now.wall.0).unwrap()));
        assert!(mono() >= now.mono && now.mono.0 > 0);
    }

    #[test]
    fn the_boot_has_a_name() {
        assert_eq!(boot_id().len(), 36);
        assert_eq!(boot_id(), boot_id());
    }
}
