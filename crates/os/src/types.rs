//! Requests and answers that cross the process boundary between daemon and anchor, so they are plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process to start. Paths and strings are the system's own bytes.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// Absolute path of the program file; the daemon has looked it up.
    pub program: Vec<u8>,
    /// With `argv[0]`.
    pub argv: Vec<Vec<u8>>,
    /// On Windows the command line as it is, in the place of `argv`.
    pub line: Option<Box<[u8]>>,
    /// The whole environment, `NAME=value`; nothing is inherited.
    pub env: Vec<Vec<u8>>,
    /// Working folder, absolute.
    pub cwd: Vec<u8>,
    /// Another user.
    pub identity: Option<Box<Identity>>,
    /// Octal, e.g. 0o022.
    pub umask: Option<u32>,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// The processors that it may run on.
    pub affinity: Option<Box<Processors>>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Ambient capabilities by number; everything else is dropped if this is `Some`.
    pub capabilities: Option<Box<[u8]>>,
    /// Files to write `0` into before the program is loaded: `cgroup.procs` of version 1 hierarchies.
    pub join: Vec<Vec<u8>>,
    /// Of the job that the process is born in, where trees are jobs.
    pub tree_limits: Box<TreeLimits>,
}

/// A set of processors by their numbers, below 1024: as bits, the lowest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Processors([u64; 16]);

impl Processors {
    /// These; what is 1024 or above is left out.
    #[must_use]
    pub fn of(numbers: &[u16]) -> Processors {
        let mut set = Processors::default();
        for number in numbers {
            if let Some(word) = set.0.get_mut(usize::from(*number / 64)) {
                *word |= 1 << (number % 64);
            }
        }
        set
    }

    /// Those from 0 to 63.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.0[0]
    }

    /// In order.
    pub fn numbers(&self) -> impl Iterator<Item = u16> {
        (0..1024).filter(|n| self.0[usize::from(n / 64)] >> (n % 64) & 1 == 1)
    }
}

/// What a whole tree may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TreeLimits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of one processor's time.
    pub cpu_millis: Option<u32>,
    /// Processes; on Linux also threads.
    pub tasks: Option<u64>,
}

/// What is in a tree that only the anchor may look into, because its job is the anchor's.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Members {
    /// Its processes.
    pub pids: Vec<u32>,
    /// Microseconds of processor time of all that ever was in it; `None` where the system does not count that.
    pub cpu_usec: Option<u64>,
}

/// The members of a tree with the main process before all others.
pub(crate) fn main_first(main: u32, members: &[u32]) -> Vec<u32> {
    let others = members.iter().filter(|pid| **pid != main);
    [main].iter().chain(others).copied().collect()
}

/// One thing to be measured of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// [`Usage::memory_bytes`].
    Memory,
    /// [`Usage::pss_bytes`].
    Pss,
    /// [`Usage::cpu_usec`].
    Cpu,
    /// [`Usage::io_bytes`].
    Io,
    /// [`Usage::descriptors`] and [`Usage::descriptors_of_one`].
    Descriptors,
    /// [`Usage::gdi`] and [`Usage::user`].
    Gui,
    /// [`Usage::threads`].
    Threads,
    /// [`Usage::processes`].
    Processes,
}

/// What is to be measured of a tree: each has its price.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Measures(u8);

impl Measures {
    /// These.
    #[must_use]
    pub fn of(all: &[Measure]) -> Self {
        all.iter().fold(Self::default(), |sum, one| sum.with(*one))
    }

    /// And this.
    #[must_use]
    pub fn with(self, one: Measure) -> Self {
        Self(self.0 | 1 << one as u8)
    }

    /// But this.
    #[must_use]
    pub fn without(self, one: Measure) -> Self {
        Self(self.0 & !(1 << one as u8))
    }

    /// Whether this is among them.
    #[must_use]
    pub fn has(self, one: Measure) -> bool {
        self.0 & 1 << one as u8 != 0
    }
}

/// A tree's use of the host. `None`: not asked for, or not known here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// What it holds and the system cannot simply take back.
    pub memory_bytes: Option<u64>,
    /// Resident memory with a share of what several processes have in common.
    pub pss_bytes: Option<u64>,
    /// Microseconds of processor time, of all that ever ran in it (without a group or job: of what runs now and what its
    /// processes have waited for).
    pub cpu_usec: Option<u64>,
    /// Bytes read and written, likewise.
    pub io_bytes: Option<u64>,
    /// Open descriptors of all its processes; on Windows handles.
    pub descriptors: Option<u64>,
    /// Those of the process that has most.
    pub descriptors_of_one: Option<u64>,
    /// On Windows, GDI objects of the process that has most.
    pub gdi: Option<u64>,
    /// On Windows, USER objects of the process that has most.
    pub user: Option<u64>,
    /// Threads of all its processes.
    pub threads: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
}

impl Usage {
    /// Adds to one of its sums, if that is known.
    pub(crate) fn add(sum: &mut Option<u64>, more: Option<u64>) {
        if let Some(more) = more {
            *sum = Some(sum.unwrap_or(0).saturating_add(more));
        }
    }

    /// Takes the larger.
    pub(crate) fn most(of: &mut Option<u64>, other: Option<u64>) {
        *of = (*of).max(other);
    }
}

/// Arguments and environment may hold secrets, which must not come into a log with a debug print.
impl fmt::Debug for SpawnRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = String::from_utf8_lossy(&self.program);
        f.debug_struct("SpawnRequest").field("program", &program).finish_non_exhaustive()
    }
}

/// Numeric identity of a process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// On Windows its name, and the numbers are 0; `None`: the guardian's own.
    pub account: Option<Box<str>>,
}

/// One `setrlimit(2)`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which.
    pub resource: Resource,
    /// `None` is infinity.
    pub soft: Option<u64>,
    /// `None` is infinity.
    pub hard: Option<u64>,
}

/// Limits that `setrlimit(2)` knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Resource {
    /// Open descriptors.
    Nofile,
    /// Core file, bytes.
    Core,
    /// Address space, bytes: stands in for memory where there is no cgroup.
    AddressSpace,
    /// Processes of the user: stands in for tasks where there is no cgroup.
    Nproc,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// A core was written.
    pub core_dumped: bool,
    /// The tree's memory limit (or the host's) was the cause.
    pub out_of_memory: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_processors_has_what_was_put_into_it() {
        let set = Processors::of(&[1023, 0, 64, 63, 64, 1024, 5000]);
        assert_eq!(set.numbers().collect::<Vec<_>>(), [0, 63, 64, 1023]);
        assert_eq!(set.first(), 1 << 63 | 1);
        assert_eq!(Processors::of(&[]).numbers().count(), 0);
    }
}
