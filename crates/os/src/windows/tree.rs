//! A service's tree of processes: everything that its main process brought into the world. Held in a job object, in which
//! the main process is born.
//!
//! Jobs are the anchor's alone: a second handle in the daemon would keep them alive when the anchor is killed. So what the
//! daemon makes here are only names and limits, which travel with the request to start a run.
#![expect(unsafe_code, reason = "jobs and processes have no safe form in the standard library")]

pub(crate) mod job;

use std::io;
use std::os::windows::io::AsRawHandle;
use std::path::PathBuf;

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS_EX};
use windows_sys::Win32::System::Threading::{
    GetProcessHandleCount, GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
};

use self::job::{Holds, Job};
use super::ipc::{BorrowedHandle, Handle};
use super::sys::{check, owned};
use crate::types::{Counts, Members, Rlimit, TreeLimits, main_first};

pub use crate::types::TreeLimits as Limits;

/// The variable of the mark, in every process that keepwell starts.
pub const MARK: &str = "KEEPWELL_RUN";

/// How one service instance's tree is held.
#[derive(Debug, Default)]
pub struct TreeDir {
    limits: Limits,
    held: Vec<String>,
}

impl TreeDir {
    /// Nothing that the daemon could hold: jobs are the anchor's.
    #[must_use]
    pub fn handle(&self) -> Option<BorrowedHandle<'_>> {
        None
    }

    /// For `SpawnRequest::join`: nothing here.
    #[must_use]
    pub fn join(&self) -> &[Vec<u8>] {
        &[]
    }

    /// For `SpawnRequest::rlimits`: nothing here.
    #[must_use]
    pub fn rlimits(&self) -> &[Rlimit] {
        &[]
    }

    /// For `SpawnRequest::tree_limits`.
    #[must_use]
    pub fn tree_limits(&self) -> TreeLimits {
        self.limits
    }

    /// For each limit asked for, how it is held, in words: `memory: job`.
    #[must_use]
    pub fn limits(&self) -> &[String] {
        &self.held
    }
}

/// A tree's use of the host. `None`: not known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes.
    pub memory_bytes: Option<u64>,
    /// Microseconds of processor time of what runs now.
    pub cpu_usec: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
}

/// A limit that could not be held.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {source}", .path.display())]
pub struct TreeError {
    /// `limit`.
    pub step: &'static str,
    /// The instance.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// One guardian's trees.
#[derive(Debug)]
pub struct TreeRoot {
    holds: Holds,
}

impl TreeRoot {
    /// Never fails: every Windows that keepwell runs on has nested jobs.
    #[must_use]
    pub fn open(_: &str) -> TreeRoot {
        TreeRoot { holds: Job::holds() }
    }

    /// What is in a tree is the anchor's to tell: [`TreeRoot::usage`] wants its answer.
    #[must_use]
    pub fn asks_anchor(&self) -> bool {
        true
    }

    /// What would say that this guardian's trees are not abandoned: none, since a job ends with its anchor.
    #[must_use]
    pub fn claim(&self) -> Option<BorrowedHandle<'_>> {
        None
    }

    /// `job`: how trees are held here.
    #[must_use]
    pub fn containment(&self) -> &'static str {
        "job"
    }

    /// The same in lines for people.
    #[must_use]
    pub fn mechanisms(&self) -> Vec<String> {
        let Holds { memory, cpu, tasks } = self.holds;
        let all = [("memory", memory), ("cpu", cpu), ("tasks", tasks)];
        let held: Vec<&str> = all.into_iter().filter(|(_, on)| *on).map(|(word, _)| word).collect();
        let limits = if held.is_empty() { "none is held".to_owned() } else { held.join(", ") };
        vec!["trees: job objects".to_owned(), format!("limits: job objects ({limits})")]
    }

    /// A service instance's tree.
    ///
    /// # Errors
    /// Never here: a limit is set when a run starts.
    pub fn make(&mut self, _: &str, limits: &Limits) -> Result<TreeDir, TreeError> {
        let mut tree = TreeDir::default();
        self.limit(&mut tree, limits)?;
        Ok(tree)
    }

    /// Takes over the tree of an instance from the anchor.
    #[must_use]
    pub fn adopt(&mut self, _: &str, _: Option<Handle>, limits: &Limits) -> TreeDir {
        let mut tree = TreeDir::default();
        let _ = self.limit(&mut tree, limits);
        tree
    }

    /// Sets other limits on a tree, from its next run on.
    ///
    /// # Errors
    /// Never here.
    pub fn limit(&mut self, tree: &mut TreeDir, limits: &Limits) -> Result<(), TreeError> {
        let Holds { memory, cpu, tasks } = self.holds;
        // What is not held is not asked for, so that it can keep nothing from starting.
        tree.limits = Limits {
            memory: limits.memory.filter(|_| memory),
            cpu_millis: limits.cpu_millis.filter(|_| cpu),
            tasks: limits.tasks.filter(|_| tasks),
        };
        let wanted = [
            ("memory", limits.memory.is_some(), memory),
            ("cpu", limits.cpu_millis.is_some(), cpu),
            ("tasks", limits.tasks.is_some(), tasks),
        ];
        let how = |held| if held { "job" } else { "not held (this system's jobs do not limit it)" };
        let wanted = wanted.into_iter().filter(|(_, on, _)| *on);
        tree.held = wanted.map(|(word, _, held)| format!("{word}: {}", how(held))).collect();
        Ok(())
    }

    /// Nothing is left of an instance when its jobs are gone.
    pub fn remove(&self, _: &TreeDir) {}

    /// The same for all.
    pub fn close(&self) {}

    /// What a service instance uses, given what the anchor said of its tree: the memory that its processes have for
    /// themselves, which is what the limit is on.
    #[must_use]
    pub fn usage(&self, _: &TreeDir, main: Option<u32>, members: Option<&Members>) -> Usage {
        let pids = members.map_or_else(|| main.into_iter().collect(), |m| m.pids.clone());
        let processes: Vec<Handle> = pids.iter().filter_map(|pid| open(*pid)).collect();
        let memory = processes.iter().filter_map(memory).reduce(|a, b| a + b);
        let running = || processes.iter().filter_map(cpu_usec).reduce(|a, b| a + b);
        Usage {
            memory_bytes: memory,
            cpu_usec: members.and_then(|m| m.cpu_usec).or_else(running),
            processes: members.map(|m| m.pids.len() as u64),
        }
    }

    /// What its processes have open and run.
    #[must_use]
    pub fn counts(&self, _: &TreeDir, main: Option<u32>, members: Option<&Members>) -> Counts {
        let pids = members.map_or_else(|| main.into_iter().collect(), |m| m.pids.clone());
        let handles = pids.iter().filter_map(|pid| handles(&open(*pid)?));
        Counts { descriptors: handles.reduce(|a, b| a + b), threads: threads(&pids) }
    }

    /// The processes of a tree, its main process first, given what the anchor said of it.
    #[must_use]
    pub fn members(&self, _: &TreeDir, main: u32, members: Option<&Members>) -> Vec<u32> {
        main_first(main, members.map_or(&[], |m| &m.pids))
    }

    /// Whether a process belongs to this instance's tree: the main process does. Nobody needs to know more here, since only
    /// words on a notify socket are judged by it.
    #[must_use]
    pub fn contains(&self, _: &TreeDir, _: u64, main: Option<u32>, pid: u32) -> bool {
        main == Some(pid)
    }

    /// Nothing outlives the anchor's jobs, and only the anchor can end them before. Returns how many could not be ended.
    #[must_use]
    pub fn kill_all(&self) -> usize {
        0
    }

    /// The same: an earlier guardian's jobs ended what was in them when it ended. Returns what is worth telling.
    #[must_use]
    pub fn end_leftovers(&self) -> Vec<String> {
        Vec::new()
    }
}

fn open(pid: u32) -> Option<Handle> {
    // SAFETY: no pointers; a handle that is returned is new and ours.
    unsafe { owned(OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid)) }.ok()
}

/// What one process uses, without those that it has started.
#[must_use]
pub fn of_process(pid: u32) -> (Usage, Counts) {
    let Some(process) = open(pid) else { return Default::default() };
    let usage = Usage { memory_bytes: memory(&process), cpu_usec: cpu_usec(&process), processes: Some(1) };
    (usage, Counts { descriptors: handles(&process), threads: threads(&[pid]) })
}

fn handles(process: &Handle) -> Option<u64> {
    let mut count = 0;
    // SAFETY: `count` is filled by the call.
    check(unsafe { GetProcessHandleCount(process.as_raw_handle(), &raw mut count) }).ok()?;
    Some(u64::from(count))
}

/// Of all these processes together, from the system's list of all.
fn threads(pids: &[u32]) -> Option<u64> {
    // SAFETY: no pointers; a handle that is returned is new and ours.
    let list = unsafe { owned(CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0)) }.ok()?;
    let mut entry =
        PROCESSENTRY32W { dwSize: size_of::<PROCESSENTRY32W>() as u32, ..PROCESSENTRY32W::default() };
    let mut sum = None;
    // SAFETY: `entry` has the size that it says, and is filled by the call.
    let mut more = unsafe { Process32FirstW(list.as_raw_handle(), &raw mut entry) } != 0;
    while more {
        if pids.contains(&entry.th32ProcessID) {
            sum = Some(sum.unwrap_or(0) + u64::from(entry.cntThreads));
        }
        // SAFETY: likewise.
        more = unsafe { Process32NextW(list.as_raw_handle(), &raw mut entry) } != 0;
    }
    sum
}

fn memory(process: &Handle) -> Option<u64> {
    let mut counters = PROCESS_MEMORY_COUNTERS_EX::default();
    let size = size_of_val(&counters) as u32;
    // SAFETY: `counters` has the size that is said, which names its form, and is filled by the call.
    check(unsafe { K32GetProcessMemoryInfo(process.as_raw_handle(), (&raw mut counters).cast(), size) })
        .ok()?;
    // Wine does not count what is private.
    let private = Some(counters.PrivateUsage).filter(|bytes| *bytes > 0);
    Some(private.unwrap_or(counters.WorkingSetSize) as u64)
}

fn cpu_usec(process: &Handle) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [begun, ended, kernel, user] = &mut times;
    // SAFETY: all four are filled by the call.
    check(unsafe { GetProcessTimes(process.as_raw_handle(), begun, ended, kernel, user) }).ok()?;
    let hundreds = |t: &FILETIME| u64::from(t.dwHighDateTime) << 32 | u64::from(t.dwLowDateTime);
    Some((hundreds(kernel) + hundreds(user)) / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_uses_what_its_processes_do() {
        let root = TreeRoot::open("usage");
        let (tree, me) = (TreeDir::default(), std::process::id());
        let alone = root.usage(&tree, Some(me), None);
        assert!(alone.memory_bytes.is_some_and(|m| m > 64 << 10) && alone.cpu_usec.is_some(), "{alone:?}");
        let members = Members { pids: vec![me, me], cpu_usec: Some(7) };
        let both = root.usage(&tree, Some(me), Some(&members));
        assert_eq!((both.cpu_usec, both.processes), (Some(7), Some(2)));
        assert!(both.memory_bytes > alone.memory_bytes, "{both:?}");
        let counts = root.counts(&tree, Some(me), None);
        assert!(counts.descriptors > Some(0) && counts.threads > Some(0), "{counts:?}");
        let gone = root.usage(&tree, None, Some(&Members::default()));
        assert_eq!(gone, Usage { processes: Some(0), ..Usage::default() });
    }

    #[test]
    fn what_is_not_held_is_said_and_not_asked_for() {
        let limits = Limits { memory: Some(1 << 30), cpu_millis: Some(500), tasks: Some(9) };
        let mut none = TreeRoot { holds: Holds::default() };
        let tree = none.make("web", &limits).unwrap();
        assert_eq!(tree.tree_limits(), Limits::default());
        assert_eq!(tree.limits()[1], "cpu: not held (this system's jobs do not limit it)");
        let mut all = TreeRoot { holds: Holds { memory: true, cpu: true, tasks: true } };
        let tree = all.make("web", &limits).unwrap();
        assert_eq!(tree.tree_limits(), limits);
        assert_eq!(tree.limits(), ["memory: job", "cpu: job", "tasks: job"]);
    }
}
