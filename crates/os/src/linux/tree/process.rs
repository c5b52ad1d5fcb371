//! Processes as `/proc` shows them: who descends from whom, who carries a mark. A process is named by its pid *and* its
//! start, so that a signal never reaches one that came after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::super::ipc::check;
use super::super::spawn::Faults;
use super::super::stop;
use super::MARK;

/// One process, as it was when it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Whose child it is.
    pub parent: u32,
    /// Its session; a run's processes that did not ask for another have the first one's pid here.
    pub session: u32,
    /// In clock ticks since boot.
    pub started: u64,
    /// It has ended and waits to be reaped.
    pub zombie: bool,
}

/// Looks at one process (proc_pid_stat(5)).
#[must_use]
pub fn look(pid: u32) -> Option<Process> {
    let mut buffer = [0_u8; 1024];
    let mut file = fs::File::open(format!("/proc/{pid}/stat")).ok()?;
    let n = file.read(&mut buffer).ok()?;
    parse_stat(pid, buffer.get(..n)?)
}

/// The name may hold spaces and parentheses, so the fields are counted from its end.
fn parse_stat(pid: u32, text: &[u8]) -> Option<Process> {
    let end = text.iter().rposition(|b| *b == b')')?;
    let fields = str::from_utf8(text.get(end + 2..)?).ok()?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(15)?.parse().ok()?;
    Some(Process { pid, parent, session, started, zombie: matches!(state, "Z" | "X") })
}

/// While a process loads a program its environment reads as empty, for some microseconds. Waits for the end of that, two
/// milliseconds at most, since a process may also have none.
pub fn wait_for_environment(pid: u32) {
    const LOOKS: u32 = 10;
    for _ in 0..LOOKS {
        if !fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| text.is_empty()) || is_leaving(pid) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}

/// Whether a process is on its way out and no longer tells what it was (its memory goes before its children are given to
/// another), or has ended and waits to be reaped. One whose first thread alone has ended still lives.
#[must_use]
pub fn is_leaving(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/stat")).is_ok_and(|text| stat_leaves(&text))
}

fn stat_leaves(text: &[u8]) -> bool {
    /// `PF_EXITING` of the kernel's `sched.h`.
    const EXITING: u32 = 4;
    let Some(end) = text.iter().rposition(|b| *b == b')') else { return false };
    let fields = text.get(end + 2..).and_then(|t| str::from_utf8(t).ok()).unwrap_or_default();
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u32>().ok()).unwrap_or(0);
    let over = matches!(fields.first(), Some(&("Z" | "X"))) || number(6) & EXITING != 0;
    over && number(17) <= 1
}

/// All processes that can be seen from here.
#[must_use]
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter_map(look).collect()
}

/// `<guardian>/<run>` of the environment that the process was started with. `None`: no mark, or not ours to see.
#[must_use]
pub fn mark(pid: u32) -> Option<(String, u64)> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    mark_in(&environment)
}

fn mark_in(environment: &[u8]) -> Option<(String, u64)> {
    let mut entries = environment.split(|b| *b == 0);
    let value = entries.find_map(|e| e.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    let (guardian, run) = str::from_utf8(value).ok()?.rsplit_once('/')?;
    Some((guardian.to_owned(), run.parse().ok()?))
}

/// The direct children of this process's main thread; `None` where the kernel does not list them.
#[must_use]
pub fn children() -> Option<Vec<u32>> {
    let me = std::process::id();
    let text = fs::read_to_string(format!("/proc/{me}/task/{me}/children")).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect())
}

/// `main` and all that descends from it, as far as it can be seen: a look at each of them, not at the whole host.
#[must_use]
pub fn descendants(main: u32) -> BTreeSet<u32> {
    let (mut found, mut open) = (BTreeSet::from([main]), vec![main]);
    while let Some(pid) = open.pop() {
        let Some(children) = children_of(pid) else {
            // The kernel was built without lists of children (`CONFIG_PROC_CHILDREN`).
            return with_descendants(&all(), &BTreeSet::from([main])).into_iter().map(|p| p.pid).collect();
        };
        open.extend(children.into_iter().filter(|child| found.insert(*child)));
    }
    found
}

/// Children of all its threads; `None` where the kernel does not list them.
fn children_of(pid: u32) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => found.extend(text.split_ascii_whitespace().filter_map(|p| p.parse::<u32>().ok())),
            Err(e) if e.kind() == io::ErrorKind::NotFound && thread.path().exists() => return None,
            // It has just ended.
            Err(_) => {}
        }
    }
    Some(found)
}

/// `roots` and all that descends from them, among `all`.
#[must_use]
pub fn with_descendants(all: &[Process], roots: &BTreeSet<u32>) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<&Process>> = BTreeMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found: BTreeMap<u32, Process> =
        all.iter().filter(|p| roots.contains(&p.pid)).map(|p| (p.pid, *p)).collect();
    let mut open: Vec<u32> = found.keys().copied().collect();
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if found.insert(child.pid, **child).is_none() {
                open.push(child.pid);
            }
        }
    }
    found.into_values().collect()
}

/// Whether `pid` is `ancestor` or descends from it.
#[must_use]
pub fn descends_from(pid: u32, ancestor: u32) -> bool {
    let mut at = pid;
    // Deeper than any real tree; bounds a walk through pids that change under it.
    for _ in 0..1000 {
        if at == ancestor {
            return true;
        }
        match look(at) {
            Some(process) if process.parent > 1 || process.parent == ancestor => at = process.parent,
            _ => return false,
        }
    }
    false
}

/// Sends a signal to exactly this process; nothing if it is gone. With a pidfd (Linux 5.3) there is no gap between
/// looking and sending; without, it is as small as it can be.
pub fn signal(process: &Process, number: i32, faults: Faults) {
    let held = faults.pidfd.map_or_else(|| pidfd(process.pid), |e| Err(io::Error::from_raw_os_error(e)));
    let still = look(process.pid).is_some_and(|now| now.started == process.started);
    if !still {
        return;
    }
    match held {
        Ok(fd) => signal_held(&fd, number),
        Err(_) => drop(stop::signal(process.pid, number)),
    }
}

/// Sends a signal to the process of a pidfd; nothing if it is gone.
pub fn signal_held(pidfd: &OwnedFd, number: i32) {
    // SAFETY: an open pidfd; no siginfo.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, std::ptr::null::<u8>(), 0)
    };
}

/// Kills all of `find`'s processes, until it finds none or has tried `rounds` times. They are stopped first, so that none
/// can fork away from under the signals. Returns how many were hit.
pub fn kill_until_none(rounds: u32, faults: Faults, mut find: impl FnMut() -> Vec<Process>) -> usize {
    let mut hit = BTreeSet::new();
    for _ in 0..rounds {
        let fresh: Vec<_> = find().into_iter().filter(|p| !p.zombie && !hit.contains(p)).collect();
        if fresh.is_empty() {
            break;
        }
        for process in &fresh {
            signal(process, libc::SIGSTOP, faults);
            hit.insert(*process);
        }
    }
    for process in &hit {
        signal(process, libc::SIGKILL, faults);
    }
    hit.len()
}

/// A handle on a process that becomes readable at its end.
///
/// # Errors
/// When it is gone, or the kernel has none (before 5.3).
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check(libc::c_int::try_from(fd).unwrap_or(-1))?;
    // SAFETY: opened just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let text = b"42 (a) b (c) S 7 42 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1000 1\n";
        let process = Process { pid: 42, parent: 7, session: 9, started: 12345, zombie: false };
        assert_eq!(parse_stat(42, text), Some(process));
        for broken in [&b""[..], b"42", b"42 (a)", b"42 (a) S", b"42 (a) S x y z"] {
            assert_eq!(parse_stat(42, broken), None);
        }
    }

    #[test]
    fn a_mark_is_read_whole_or_not_at_all() {
        assert_eq!(mark_in(b"A=1\0KEEPWELL_RUN=g/1/7\0B=2\0"), Some(("g/1".to_owned(), 7)));
        for none in
            [&b""[..], b"XKEEPWELL_RUN=g/7", b"KEEPWELL_RUN=", b"KEEPWELL_RUN=g/", b"KEEPWELL_RUNS=g/7"]
        {
            assert_eq!(mark_in(none), None);
        }
    }

    #[test]
    fn this_process_is_found() {
        let me = std::process::id();
        let found = look(me).unwrap();
        assert!(all().contains(&found));
        assert!(descends_from(me, found.parent) && descends_from(me, me));
        assert!(!descends_from(found.parent, me));
    }

    #[test]
    fn a_look_at_each_finds_what_a_look_at_all_finds() {
        let mut shell = std::process::Command::new("sh");
        let script = "sleep 1000 & (sleep 1000 & wait) & echo started; wait";
        let mut child = shell.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Read::read(child.stdout.as_mut().unwrap(), &mut [0; 8]).unwrap();
        let roots = BTreeSet::from([child.id()]);
        let (mut one, mut other) = (BTreeSet::new(), BTreeSet::new());
        while one.len() < 4 || one != other {
            one = descendants(child.id());
            other = with_descendants(&all(), &roots).into_iter().map(|p| p.pid).collect();
        }
        for pid in one {
            stop::signal(pid, libc::SIGKILL).unwrap();
        }
        child.wait().unwrap();
        assert!(descendants(std::process::id()).contains(&std::process::id()));
    }

    #[test]
    fn who_leaves_is_told_from_who_stays() {
        let stat = |state: &str, flags: u32, threads: u32| {
            format!("42 (a) b) {state} 7 42 9 0 -1 {flags} 0 0 0 0 0 0 0 0 20 0 {threads} 0 12345 0 0")
        };
        for (state, flags, threads, leaves) in [
            ("S", 0x40_0000, 1, false),
            ("R", 0x40_0004, 1, true),
            ("Z", 0x40_0004, 1, true),
            ("Z", 0x40_0004, 3, false),
            ("X", 0x40_0000, 0, true),
        ] {
            assert_eq!(
                stat_leaves(stat(state, flags, threads).as_bytes()),
                leaves,
                "{state} {flags} {threads}"
            );
        }
        assert!(!stat_leaves(b"") && !stat_leaves(b"42 (x)"));
        assert!(!is_leaving(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while !is_leaving(child.id()) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!is_leaving(child.id()));
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let process = |pid, parent| Process { pid, parent, session: 0, started: 0, zombie: false };
        let all = [process(1, 0), process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 5)];
        let of = |root| {
            with_descendants(&all, &BTreeSet::from([root])).into_iter().map(|p| p.pid).collect::<Vec<_>>()
        };
        assert_eq!(of(2), [2, 3, 4]);
        assert_eq!(of(4), [4]);
        assert_eq!(of(9), [0; 0]);
    }
}
