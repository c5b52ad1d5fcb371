//! One limit of a tree in the words of each hierarchy.

use std::fs;
use std::path::Path;

use super::root::{TreeError, write};
use crate::types::{Resource, Rlimit};

pub use crate::types::TreeLimits as Limits;

/// `cpu.max` and `cpu.cfs_period_us`: the kernel's own default, 100 ms.
const CPU_PERIOD_USEC: u64 = 100_000;

#[derive(Clone, Copy)]
pub(super) enum Limit {
    Memory(u64),
    Cpu(u32),
    Tasks(u64),
}

pub(super) fn wanted(limits: &Limits) -> impl Iterator<Item = Limit> {
    let (memory, cpu) = (limits.memory.map(Limit::Memory), limits.cpu_millis.map(Limit::Cpu));
    [memory, cpu, limits.tasks.map(Limit::Tasks)].into_iter().flatten()
}

impl Limit {
    pub(super) fn word(self) -> &'static str {
        match self {
            Limit::Memory(_) => "memory",
            Limit::Cpu(_) => "cpu",
            Limit::Tasks(_) => "tasks",
        }
    }

    pub(super) fn controller(self) -> &'static str {
        match self {
            Limit::Memory(_) => "memory",
            Limit::Cpu(_) => "cpu",
            Limit::Tasks(_) => "pids",
        }
    }

    /// Of version 2.
    pub(super) fn file(self) -> &'static str {
        match self {
            Limit::Memory(_) => "memory.max",
            Limit::Cpu(_) => "cpu.max",
            Limit::Tasks(_) => "pids.max",
        }
    }

    pub(super) fn value(self) -> String {
        match self {
            Limit::Memory(bytes) => bytes.to_string(),
            Limit::Cpu(millis) => format!("{} {CPU_PERIOD_USEC}", quota(millis)),
            Limit::Tasks(count) => count.to_string(),
        }
    }

    pub(super) fn set_v1(self, dir: &Path) -> Result<(), TreeError> {
        match self {
            Limit::Memory(bytes) => {
                write(&dir.join("memory.limit_in_bytes"), &bytes.to_string())?;
                // Only with swap accounting; without this file swap would let a service grow past its limit.
                let with_swap = dir.join("memory.memsw.limit_in_bytes");
                if with_swap.exists() {
                    // Never below the other one; when lowered, that one must go first, when raised, this one.
                    let _ = fs::write(&with_swap, bytes.to_string());
                    let _ = fs::write(dir.join("memory.limit_in_bytes"), bytes.to_string());
                    write(&with_swap, &bytes.to_string())?;
                }
                Ok(())
            }
            Limit::Cpu(millis) => {
                write(&dir.join("cpu.cfs_period_us"), &CPU_PERIOD_USEC.to_string())?;
                write(&dir.join("cpu.cfs_quota_us"), &quota(millis).to_string())
            }
            Limit::Tasks(count) => write(&dir.join("pids.max"), &count.to_string()),
        }
    }

    /// What stands in where there is no group, and its name for people.
    pub(super) fn rlimit(self) -> Option<(Rlimit, &'static str)> {
        let both = |resource, n| Rlimit { resource, soft: Some(n), hard: Some(n) };
        match self {
            Limit::Memory(bytes) => {
                Some((both(Resource::AddressSpace, bytes), "address space of each process"))
            }
            Limit::Tasks(count) => Some((both(Resource::Nproc, count), "processes of its user")),
            Limit::Cpu(_) => None,
        }
    }
}

/// Microseconds a period; the kernel refuses less than 1 ms.
fn quota(millis: u32) -> u64 {
    (u64::from(millis) * CPU_PERIOD_USEC / 1000).max(1000)
}
