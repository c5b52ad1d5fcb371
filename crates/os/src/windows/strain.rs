//! What this host is short of: memory that may be promised, and processors.
#![expect(unsafe_code, reason = "the figures of the system have no safe form in the standard library")]

use std::mem;

use keepwell_core::HostLoad;
use windows_sys::Win32::System::ProcessStatus::{K32GetPerformanceInfo, PERFORMANCE_INFORMATION};

use super::sys;

type NtQuerySystemInformation = unsafe extern "system" fn(i32, *mut core::ffi::c_void, u32, *mut u32) -> i32;

/// `SystemProcessInformation`: each process with its threads.
const PROCESSES: i32 = 5;
/// `STATUS_INFO_LENGTH_MISMATCH`.
const TOO_SMALL: i32 = 0xC000_0004_u32 as i32;
/// Offsets and sizes of a 64-bit system (winternl.h, "NtQuerySystemInformation"): an entry begins with the way to the next
/// one and the number of its threads; its threads follow, each with its state near the end.
const ENTRY: usize = 0x100;
const THREAD: usize = 0x50;
const STATE: usize = 0x44;
/// `KTHREAD_STATE`: `Ready`, `Running`, `Standby`.
const WANTS: [u32; 3] = [1, 2, 3];

/// What the host says of itself at this moment: the commit charge, and how many threads want a processor, which is what the
/// performance counter "Processor Queue Length" counts with those that run.
#[must_use]
pub fn load() -> HostLoad {
    HostLoad { committed: committed(), runnable: runnable(), ..HostLoad::default() }
}

fn committed() -> Option<u8> {
    let size = u32::try_from(size_of::<PERFORMANCE_INFORMATION>()).ok()?;
    // SAFETY: numbers alone, for which zero is valid; the call fills in as much as is said.
    let info = unsafe {
        let mut info: PERFORMANCE_INFORMATION = mem::zeroed();
        if K32GetPerformanceInfo(&raw mut info, size) == 0 {
            return None;
        }
        info
    };
    let percent = info.CommitTotal.checked_mul(100)?.checked_div(info.CommitLimit)?;
    u8::try_from(percent).ok()
}

fn runnable() -> Option<u32> {
    // SAFETY: the function has this type.
    let ask =
        unsafe { sys::function::<NtQuerySystemInformation>("ntdll.dll", c"NtQuerySystemInformation").ok()? };
    let mut size = 256_u32 << 10;
    for _ in 0..6 {
        // As `u64` for its alignment.
        let mut buffer = vec![0_u64; size as usize / 8];
        let mut wanted = 0;
        // SAFETY: the buffer has the size that is said.
        let status = unsafe { ask(PROCESSES, buffer.as_mut_ptr().cast(), size, &raw mut wanted) };
        if status == TOO_SMALL {
            // Others may be started meanwhile.
            size = wanted.max(size).saturating_add(64 << 10) & !7;
            continue;
        }
        if status != 0 {
            return None;
        }
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let processors = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).ok()?;
        return Some(count(&bytes)? / processors.max(1));
    }
    None
}

/// How many threads of all but the idle process want a processor.
fn count(bytes: &[u8]) -> Option<u32> {
    let number = |at: usize| {
        let word = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(word.try_into().ok()?))
    };
    let (mut entry, mut sum) = (0, 0);
    loop {
        let (next, threads) = (number(entry)? as usize, number(entry + 4)? as usize);
        // The first one is the idle process, whose threads always want one.
        if entry != 0 {
            for thread in 0..threads {
                let state = number(entry + ENTRY + thread * THREAD + STATE)?;
                sum += u32::from(WANTS.contains(&state));
            }
        }
        if next == 0 {
            return Some(sum);
        }
        entry += next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_want_a_processor_are_counted() {
        let process = |states: &[u32], last: bool| {
            let mut entry = vec![0_u8; ENTRY + states.len() * THREAD];
            let next = if last { 0 } else { u32::try_from(entry.len()).unwrap() };
            entry[..4].copy_from_slice(&next.to_ne_bytes());
            entry[4..8].copy_from_slice(&u32::try_from(states.len()).unwrap().to_ne_bytes());
            for (n, state) in states.iter().enumerate() {
                let at = ENTRY + n * THREAD + STATE;
                entry[at..at + 4].copy_from_slice(&state.to_ne_bytes());
            }
            entry
        };
        let all = [process(&[2, 2], false), process(&[5, 1, 1], false), process(&[2, 5, 3], true)].concat();
        assert_eq!(count(&all), Some(4));
        assert_eq!(count(&all[..all.len() - THREAD]), None, "cut short");
    }

    #[test]
    fn this_host_says_something() {
        assert!(load().committed.is_some_and(|percent| percent <= 100));
    }
}
