//! Starting, signalling and ending processes as the daemon asks, and telling what became of them.

use std::time::Duration;

use keepwell_core::Mono;
use keepwell_os::host::Host;
use keepwell_os::spawn::{SpawnFailure, Stdio};
use keepwell_os::{AsHandle, ProcessStatus, spawn, stop};

use crate::anchor::Anchor;
use crate::holdings::{KillAgain, MAIN, Run};
use crate::protocol::{self, Exited, Report, SignalFailed, SpawnFailed, Spawned, TreeEmpty};

/// Between a kill and the next look at a tree that is not empty yet. The kernel tells when one becomes empty; this is for
/// those that grew faster than the signals.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl<H: Host> Anchor<H> {
    pub(crate) fn spawn(&mut self, spawn: protocol::Spawn) {
        let protocol::Spawn { run, slot: number, role, request } = spawn;
        if self.stop.refuses_starts() {
            return self.spawn_failed(run, "stopping", spawn::CANCELED);
        }
        let Some(slot) = self.held.slots.get_mut(&number) else {
            return self.spawn_failed(run, "slot", spawn::CANCELED);
        };
        if self.held.runs.contains_key(&run) || (role == MAIN && slot.main.is_some()) {
            return self.spawn_failed(run, "run", spawn::CANCELED);
        }
        let (Some(stdout), Some(stderr)) = (slot.pipes.first(), slot.pipes.last()) else { return };
        let stdio = Stdio { stdout: stdout.write.as_handle(), stderr: stderr.write.as_handle() };
        let child = match self.host.spawn(&request, stdio, slot.place()) {
            Ok(child) => child,
            Err(SpawnFailure { step, errno }) => return self.spawn_failed(run, step.name(), errno),
        };
        if role == MAIN {
            slot.join = request.join;
            slot.main = Some(run);
        } else {
            slot.others.push(child.pid);
        }
        let pid = child.pid;
        let started = self.host.now().0;
        self.held.pids.insert(pid, run);
        let leader = Some(pid);
        let kept = Run { slot: number, role, pid, leader, session: pid, started, kill: None };
        self.held.runs.insert(run, kept);
        if child.loaded {
            self.reports.push(|seq| Report::Spawned(Spawned { seq, run, pid }));
        }
    }

    fn spawn_failed(&mut self, run: u64, step: &str, errno: i32) {
        let step = step.to_owned();
        self.reports.push(|seq| Report::SpawnFailed(SpawnFailed { seq, run, step, errno }));
    }

    /// A child that was on its way has arrived, or not.
    pub(crate) fn loaded(&mut self, pid: u32, outcome: Result<(), SpawnFailure>) {
        let Some(run) = self.held.pids.get(&pid).copied() else { return };
        match outcome {
            Ok(()) => self.reports.push(|seq| Report::Spawned(Spawned { seq, run, pid })),
            Err(SpawnFailure { step, errno }) => {
                self.held.remove_run(run);
                self.spawn_failed(run, step.name(), errno);
            }
        }
    }

    /// A child of this process ended. Most are runs; the rest are what they left to it, which is only reaped.
    pub(crate) fn exited(&mut self, pid: u32, status: ProcessStatus, at: Mono) {
        let Some(run) = self.held.pids.remove(&pid) else { return };
        let Some(kept) = self.held.runs.get_mut(&run) else { return };
        if kept.leader == Some(pid) {
            kept.leader = None;
        }
        if kept.pid == pid {
            self.ended(run, status, at);
        } else {
            // The program had named another process as its main one, which lives on or is reported already.
            self.look_at_tree(run);
        }
    }

    /// A named main process that was nobody's child here ended; how, only its parent knows.
    pub(crate) fn gone(&mut self, pid: u32) {
        let Some(run) = self.held.pids.get(&pid).copied() else { return };
        if self.held.runs.get(&run).is_some_and(|r| r.pid == pid && r.leader != Some(pid)) {
            self.held.pids.remove(&pid);
            let at = self.host.now();
            self.ended(run, ProcessStatus::default(), at);
        }
    }

    fn ended(&mut self, run: u64, status: ProcessStatus, at: Mono) {
        let Some(kept) = self.held.runs.get_mut(&run) else { return };
        let pid = std::mem::take(&mut kept.pid);
        let (role, number) = (kept.role, kept.slot);
        let by_us = kept.kill.is_some();
        let mut status = status;
        if let Some(slot) = self.held.slots.get_mut(&number) {
            slot.others.retain(|other| *other != pid);
            status.out_of_memory = !by_us && self.host.ended_for_memory(slot.place(), status, &slot.join);
        }
        self.host.unwatch_process(pid);
        let tree_empty = role != MAIN || self.tree_is_empty(run);
        if tree_empty {
            self.held.remove_run(run);
        } else if let Some(tree) = self.held.tree(run) {
            self.host.watch_tree(number, &tree);
        }
        self.reports.push(|seq| Report::Exited(Exited { seq, run, status, at: at.0, tree_empty }));
        if !tree_empty {
            // It may have become empty between the look and the watch.
            self.look_at_tree(run);
        }
    }

    fn tree_is_empty(&mut self, run: u64) -> bool {
        self.held.tree(run).is_none_or(|tree| self.host.tree_is_empty(&tree))
    }

    /// The tree of a slot whose main process is gone may have become empty.
    pub(crate) fn tree_changed(&mut self, slot: u32) {
        if let Some(run) = self.held.slots.get(&slot).and_then(|s| s.main) {
            self.look_at_tree(run);
        }
    }

    fn look_at_tree(&mut self, run: u64) {
        let Some(kept) = self.held.runs.get(&run) else { return };
        let slot = kept.slot;
        if kept.pid == 0 && self.tree_is_empty(run) {
            self.host.unwatch_tree(slot);
            self.held.remove_run(run);
            self.reports.push(|seq| Report::TreeEmpty(TreeEmpty { seq, run }));
        }
    }

    pub(crate) fn signal(&mut self, signal: &protocol::Signal) {
        let Some(kept) = self.held.runs.get(&signal.run) else { return };
        match signal.to {
            0 if kept.pid != 0 => self.host.signal(kept.pid, signal.signal),
            0 => {}
            // While its leader is not reaped, a group's number is nobody else's.
            1 => {
                if let Some(leader) = kept.leader {
                    self.host.signal_group(leader, signal.signal);
                }
            }
            _ => {
                if let Some(tree) = self.held.tree(signal.run) {
                    self.host.signal_tree(&tree, signal.signal);
                }
            }
        }
    }

    /// A signal of the daemon's, or of this process's own, reached nobody.
    pub(crate) fn signal_failed(&mut self, pid: u32, signal: i32, reason: String) {
        // Where the main process is gone, the tree still has its number.
        let of_tree = || self.held.runs.iter().find(|(_, r)| r.session == pid).map(|(run, _)| *run);
        if let Some(run) = self.held.pids.get(&pid).copied().or_else(of_tree) {
            self.reports.push(|seq| Report::SignalFailed(SignalFailed { seq, run, signal, reason }));
        }
    }

    /// Kills a main run's tree, or another run's group, and looks again later.
    pub(crate) fn kill(&mut self, run: u64) {
        let now = self.host.now();
        let Some(kept) = self.held.runs.get_mut(&run) else { return };
        let pause = kept.kill.map_or(FIRST_PAUSE, |k| (k.pause * 2).min(LONGEST_PAUSE));
        kept.kill = Some(KillAgain { at: now + pause, pause });
        self.held.killed.insert(run);
        let (role, pid, leader) = (kept.role, kept.pid, kept.leader);
        if role == MAIN
            && let Some(tree) = self.held.tree(run)
        {
            self.host.kill_tree(&tree);
        }
        if let Some(leader) = leader {
            // Also what has not reached the tree yet, or has left it with the group.
            self.host.signal_group(leader, stop::KILL);
        }
        if pid != 0 {
            self.host.signal(pid, stop::KILL);
        }
    }

    pub(crate) fn kill_all(&mut self) {
        for run in self.held.runs.keys().copied().collect::<Vec<_>>() {
            self.kill(run);
        }
    }

    /// Repeats the kills that are due. Returns when the next one is.
    pub(crate) fn kill_again(&mut self, now: Mono) -> Option<Mono> {
        if self.held.killed.is_empty() {
            return None;
        }
        for run in self.held.killed.clone() {
            if self.held.runs.get(&run).and_then(|r| r.kill).is_some_and(|k| k.at <= now) {
                self.look_at_tree(run);
                self.kill(run);
            }
        }
        self.held.killed.iter().filter_map(|run| self.held.runs.get(run)?.kill).map(|k| k.at).min()
    }

    pub(crate) fn freeze(&mut self, freeze: &protocol::Freeze) {
        let Some(run) = self.held.slots.get(&freeze.slot).and_then(|s| s.main) else { return };
        if let Some(tree) = self.held.tree(run) {
            self.host.freeze_tree(&tree, freeze.on);
        }
    }

    pub(crate) fn measure(&mut self, measure: protocol::Measure) {
        let protocol::Measure { question, slots } = measure;
        let trees = slots.iter().map(|slot| self.host.members(*slot)).collect();
        if let Some(life) = self.daemon.life() {
            life.out.answer(question, trees);
        }
    }

    /// From now on another process of the tree is the one whose end counts.
    pub(crate) fn main_pid(&mut self, named: &protocol::MainPid) {
        let Some(kept) = self.held.runs.get_mut(&named.run) else { return };
        let taken = self.held.pids.get(&named.pid).is_some_and(|run| *run != named.run);
        if kept.role != MAIN || kept.pid == 0 || named.pid <= 1 || taken || kept.pid == named.pid {
            return;
        }
        // A process whose end nobody would tell cannot be the one that counts.
        if kept.leader != Some(named.pid) && !self.host.watch_process(named.pid) {
            return;
        }
        let before = std::mem::replace(&mut kept.pid, named.pid);
        let leader = kept.leader;
        self.host.unwatch_process(before);
        if leader != Some(before) {
            self.held.pids.remove(&before);
        }
        self.held.pids.insert(named.pid, named.run);
    }
}
