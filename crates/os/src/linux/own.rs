//! What this process itself holds and has used, for tests.

use std::fs;
use std::time::Duration;

/// Open descriptors.
#[must_use]
pub fn handles() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Processor time of all its threads, to a hundredth of a second.
#[must_use]
pub fn busy() -> Duration {
    // The fields behind the name (proc_pid_stat(5)), which is in parentheses and may hold blanks.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').skip(11).take(2);
    Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().unwrap_or(0) * 10).sum())
}
