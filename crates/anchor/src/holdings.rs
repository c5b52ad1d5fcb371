//! What the anchor holds: slots with their trees and pipes, runs, values, handles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keepwell_core::Mono;
use keepwell_os::host::{Place, TreeRef};
use keepwell_os::{AsHandle, BorrowedHandle, Handle};

use crate::protocol::OpenSlot;

/// The role of the process that owns a slot's tree.
pub(crate) const MAIN: u8 = 0;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    pub(crate) slots: BTreeMap<u32, Slot>,
    pub(crate) runs: BTreeMap<u64, Run>,
    /// Live processes of runs.
    pub(crate) pids: BTreeMap<u32, u64>,
    /// Runs that are being killed.
    pub(crate) killed: BTreeSet<u64>,
    pub(crate) values: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) kept: BTreeMap<Vec<u8>, Handle>,
}

/// What one service instance keeps across its runs.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) open: OpenSlot,
    pub(crate) tree: Option<Handle>,
    /// Output and, apart, errors.
    pub(crate) pipes: Vec<Pipe>,
    /// The main run, also one whose main process is gone while its tree is not empty.
    pub(crate) main: Option<u64>,
    /// Live hooks and checks: in the tree's cgroup or job, but not of the tree.
    pub(crate) others: Vec<u32>,
    /// As the last main run asked: where its memory is counted.
    pub(crate) join: Vec<Vec<u8>>,
}

/// Both ends of a pipe, and what was taken from it while there was no daemon.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) read: Handle,
    pub(crate) write: Handle,
    pub(crate) saved: Vec<u8>,
    pub(crate) dropped: u64,
}

/// A process that was started, and for a main run what it brought into the world.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) slot: u32,
    pub(crate) role: u8,
    /// The process whose end is the run's; 0 when it is gone and the tree is not empty.
    pub(crate) pid: u32,
    /// The process that was started, until it is reaped: it leads the group and the session.
    pub(crate) leader: Option<u32>,
    /// The session of all that did not ask for another.
    pub(crate) session: u32,
    pub(crate) started: u64,
    /// A kill is on its way, and repeated until nothing is left.
    pub(crate) kill: Option<KillAgain>,
}

/// The next repetition of a kill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KillAgain {
    pub(crate) at: Mono,
    pub(crate) pause: Duration,
}

impl Slot {
    /// Takes the handles that came with `open`, in the protocol's order. `None` when they do not fit.
    pub(crate) fn new(open: OpenSlot, mut handles: VecDeque<Handle>) -> Option<Slot> {
        let tree = if open.tree { Some(handles.pop_front()?) } else { None };
        let mut pipes = Vec::with_capacity(1 + usize::from(open.separate));
        for _ in 0..1 + usize::from(open.separate) {
            let (read, write) = (handles.pop_front()?, handles.pop_front()?);
            pipes.push(Pipe { read, write, saved: Vec::new(), dropped: 0 });
        }
        Some(Slot { open, tree, pipes, main: None, others: Vec::new(), join: Vec::new() })
    }

    /// In the protocol's order.
    pub(crate) fn handles(&self) -> Vec<BorrowedHandle<'_>> {
        let ends = self.pipes.iter().flat_map(|p| [p.read.as_handle(), p.write.as_handle()]);
        self.tree_handle().into_iter().chain(ends).collect()
    }

    pub(crate) fn tree_handle(&self) -> Option<BorrowedHandle<'_>> {
        self.tree.as_ref().map(AsHandle::as_handle)
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place { slot: self.open.slot, tree: self.tree_handle() }
    }
}

impl Holdings {
    /// The tree of a main run, if its slot is still there.
    pub(crate) fn tree(&self, number: u64) -> Option<TreeRef<'_>> {
        let run = self.runs.get(&number)?;
        let slot = self.slots.get(&run.slot)?;
        let handle = slot.tree_handle();
        Some(TreeRef { slot: run.slot, handle, run: number, main: run.session, others: &slot.others })
    }

    /// Forgets a run of which nothing is left.
    pub(crate) fn remove_run(&mut self, number: u64) {
        self.killed.remove(&number);
        let Some(run) = self.runs.remove(&number) else { return };
        for pid in [Some(run.pid), run.leader].into_iter().flatten() {
            self.pids.remove(&pid);
        }
        let Some(slot) = self.slots.get_mut(&run.slot) else { return };
        slot.others.retain(|other| *other != run.session);
        if slot.main == Some(number) {
            slot.main = None;
        }
    }
}
