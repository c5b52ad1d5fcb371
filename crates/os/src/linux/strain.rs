//! What this host is short of, as the kernel tells it (Documentation/accounting/psi.rst). Reads a handful of small files that
//! are made when they are read, so no disk is waited for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use keepwell_core::HostLoad;

/// Where the figures are read instead of `/proc` and `/sys/fs/cgroup`: for tests of what a starved host brings about.
const ELSEWHERE: &str = "KEEPWELL_STRAIN_ROOT";

/// What the host says of itself at this moment. What it does not say (an old kernel, a kernel without PSI) is absent.
#[must_use]
pub fn load() -> HostLoad {
    match env::var_os(ELSEWHERE) {
        Some(root) => read(&Path::new(&root).join("proc"), &Path::new(&root).join("cgroup")),
        None => read(Path::new("/proc"), Path::new("/sys/fs/cgroup")),
    }
}

fn read(proc: &Path, cgroups: &Path) -> HostLoad {
    let pressure = |file: PathBuf, who: &str| average(&fs::read_to_string(file).ok()?, who);
    // The group that keepwell was put in, with its services below it.
    let own = fs::read_to_string(proc.join("self/cgroup")).ok();
    let own = own.as_deref().and_then(unified).map(|path| cgroups.join(path.trim_start_matches('/')));
    let group = |file: &str| pressure(own.as_ref()?.join(file), "full");
    HostLoad {
        processor_waits: pressure(proc.join("pressure/cpu"), "some"),
        runnable: fs::read_to_string(proc.join("loadavg")).ok().and_then(|text| runnable(&text)),
        group_held: group("cpu.pressure"),
        memory_stalls: pressure(proc.join("pressure/memory"), "full").max(group("memory.pressure")),
        committed: None,
    }
}

/// `some avg10=0.12 avg60=…`: whole percent.
fn average(text: &str, who: &str) -> Option<u8> {
    let line = text.lines().find_map(|line| line.strip_prefix(who))?;
    let percent = line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    percent.split('.').next()?.parse().ok()
}

/// `0.20 0.18 0.12 1/80 11206` (proc_loadavg(5)): what can run, for each processor.
fn runnable(text: &str) -> Option<u32> {
    let (runnable, _) = text.split_whitespace().nth(3)?.split_once('/')?;
    let processors = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(1);
    Some(runnable.parse::<u32>().ok()? / processors.max(1))
}

/// The path in the one hierarchy of version 2 (cgroups(7)).
fn unified(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| *path != "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_read() {
        let text = "some avg10=97.38 avg60=1.00 avg300=0.00 total=1\nfull avg10=21.99 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!((average(text, "some"), average(text, "full")), (Some(97), Some(21)));
        assert_eq!(average("some avg10=100.00 avg60=0", "some"), Some(100));
        assert_eq!((average("", "some"), average("some avg60=1", "some")), (None, None));
        assert!(runnable("9.59 8.87 7.68 100000/228 23945\n").is_some_and(|n| n > 10));
        assert_eq!((runnable("9.59 8.87"), runnable("")), (None, None));
        assert_eq!(
            unified("1:cpu:/\n0::/system.slice/keepwell.service\n"),
            Some("/system.slice/keepwell.service")
        );
        assert_eq!(unified("0::/\n"), None);
    }

    #[test]
    fn a_group_that_is_held_back_shows_where_the_host_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let (proc, cgroups) = (dir.path().join("proc"), dir.path().join("cgroup"));
        assert_eq!(read(&proc, &cgroups), HostLoad::default());
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(proc.join("self/cgroup"), "0::/a/b\n");
        write(proc.join("pressure/memory"), "some avg10=9.00\nfull avg10=3.00\n");
        write(cgroups.join("a/b/memory.pressure"), "some avg10=90.00\nfull avg10=44.00\n");
        write(cgroups.join("a/b/cpu.pressure"), "some avg10=99.00\nfull avg10=93.00\n");
        let load = read(&proc, &cgroups);
        assert_eq!((load.memory_stalls, load.group_held), (Some(44), Some(93)));
        assert!(load.shortage().is_some());
    }
}
