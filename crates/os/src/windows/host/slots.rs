//! The jobs of a guardian's slots. All that is ever started in a slot is born in the slot's job, which has the limits and
//! ends with the anchor; and in a job of its run inside of that one, by which a run's tree is told from another's.

use std::collections::BTreeMap;
use std::io;
use std::os::windows::io::OwnedHandle;

use super::super::tree::job::{Job, Message};
use super::super::wait::Port;
use crate::host::TreeRef;
use crate::types::{Members, TreeLimits};

/// All slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_number: BTreeMap<u32, Slot>,
    /// Where each run's job is, by the number of the process that it was made for.
    slot_of: BTreeMap<u32, u32>,
    last_key: usize,
}

#[derive(Debug)]
struct Slot {
    job: Job,
    key: usize,
    limits: TreeLimits,
    runs: BTreeMap<u32, Run>,
    watched: bool,
    hit_memory: bool,
}

#[derive(Debug)]
struct Run {
    job: Job,
    key: usize,
    /// Keeps the number of its process its own for as long as the job is there.
    _leader: OwnedHandle,
}

/// The job of a run that is about to be started.
#[derive(Debug)]
pub(super) struct Cradle {
    slot: u32,
    job: Job,
    key: usize,
}

impl Cradle {
    pub(super) fn job(&self) -> &Job {
        &self.job
    }
}

impl Slots {
    /// A job for a new run, in its slot's, which is made or given other limits as needed.
    pub(super) fn cradle(&mut self, slot: u32, limits: &TreeLimits, port: &Port) -> io::Result<Cradle> {
        let (slot_key, run_key) = (self.next_key(), self.next_key());
        match self.by_number.get_mut(&slot) {
            Some(held) if held.limits == *limits => {}
            Some(held) => {
                held.job.limit(limits, &held.limits)?;
                held.limits = *limits;
            }
            None => {
                let job = Job::new(port, slot_key, limits)?;
                let (limits, runs) = (*limits, BTreeMap::new());
                let made = Slot { job, key: slot_key, limits, runs, watched: false, hit_memory: false };
                self.by_number.insert(slot, made);
            }
        }
        Ok(Cradle { slot, job: Job::new(port, run_key, &TreeLimits::default())?, key: run_key })
    }

    /// Keys at the port are never odd or zero.
    fn next_key(&mut self) -> usize {
        self.last_key += 2;
        self.last_key
    }

    /// The slot's own job.
    pub(super) fn job(&self, slot: u32) -> Option<&Job> {
        self.by_number.get(&slot).map(|s| &s.job)
    }

    /// The process of a cradle runs.
    pub(super) fn born(&mut self, cradle: Cradle, pid: u32, leader: OwnedHandle) {
        let Cradle { slot, job, key } = cradle;
        let Some(held) = self.by_number.get_mut(&slot) else { return };
        held.runs.insert(pid, Run { job, key, _leader: leader });
        self.slot_of.insert(pid, slot);
    }

    /// The job of the run whose first process has, or had, this number.
    pub(super) fn run(&self, pid: u32) -> Option<&Job> {
        let slot = self.by_number.get(self.slot_of.get(&pid)?)?;
        slot.runs.get(&pid).map(|r| &r.job)
    }

    /// Forgets the job of a run if nothing is left in it. Only for one whose first process was reaped.
    pub(super) fn tidy(&mut self, pid: u32) {
        let Some(slot) = self.slot_of.get(&pid).and_then(|s| self.by_number.get_mut(s)) else { return };
        if slot.runs.get(&pid).is_some_and(|r| r.job.active() == 0) {
            slot.runs.remove(&pid);
            self.slot_of.remove(&pid);
        }
    }

    /// Takes in what a job says. The slot whose tree may be empty now if somebody waits for that, and the run whose job is.
    pub(super) fn heard(&mut self, key: usize, message: Message) -> (Option<u32>, Option<u32>) {
        for (number, slot) in &mut self.by_number {
            let run = slot.runs.iter().find(|(_, r)| r.key == key).map(|(pid, _)| *pid);
            if slot.key != key && run.is_none() {
                continue;
            }
            return match message {
                Message::Empty => (slot.watched.then_some(*number), run),
                Message::Memory => {
                    slot.hit_memory = true;
                    (None, None)
                }
                Message::Other => (None, None),
            };
        }
        (None, None)
    }

    /// Nothing of the tree lives: what hooks and checks that still run have started is not of it, what they left is.
    pub(super) fn is_empty(&self, tree: &TreeRef<'_>) -> bool {
        let Some(slot) = self.by_number.get(&tree.slot) else { return true };
        slot.runs.iter().all(|(pid, run)| tree.others.contains(pid) || run.job.active() == 0)
    }

    /// All processes in the slot, hooks and checks too.
    pub(super) fn pids(&self, slot: u32) -> Vec<u32> {
        self.job(slot).map(Job::pids).unwrap_or_default()
    }

    /// Those of the tree.
    pub(super) fn pids_of(&self, tree: &TreeRef<'_>) -> Vec<u32> {
        let runs = self.by_number.get(&tree.slot).into_iter().flat_map(|s| &s.runs);
        runs.filter(|(pid, _)| !tree.others.contains(pid)).flat_map(|(_, r)| r.job.pids()).collect()
    }

    pub(super) fn members(&self, slot: u32) -> Members {
        Members { pids: self.pids(slot), cpu_usec: self.job(slot).and_then(Job::cpu_usec) }
    }

    pub(super) fn watch(&mut self, slot: u32, on: bool) {
        if let Some(slot) = self.by_number.get_mut(&slot) {
            slot.watched = on;
        }
    }

    /// Whether the slot ran into its memory limit since this was last asked.
    pub(super) fn take_hit_memory(&mut self, slot: u32) -> bool {
        self.by_number.get_mut(&slot).is_some_and(|s| std::mem::take(&mut s.hit_memory))
    }

    /// Lets go of the slot's jobs, which ends what is in them.
    pub(super) fn forget(&mut self, slot: u32) {
        self.by_number.remove(&slot);
        self.slot_of.retain(|_, of| *of != slot);
    }
}
