//! A service's tree of processes: everything that its main process brought into the world. Held in a job object, in which
//! the main process is born.
//!
//! Jobs are the anchor's alone: a second handle in the daemon would keep them alive when the anchor is killed. So what the
//! daemon makes here are only names and limits, which travel with the request to start a run.
#![expect(unsafe_code, reason = "jobs and processes have no safe form in the standard library")]

pub(crate) mod job;
mod usage;

use std::io;
use std::path::PathBuf;

use self::job::{Holds, Job};
use super::ipc::{BorrowedHandle, Handle};
use crate::types::{Rlimit, TreeLimits};

pub use self::usage::{Batch, of_process};
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

#[cfg(test)]
mod tests {
    use super::*;

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
