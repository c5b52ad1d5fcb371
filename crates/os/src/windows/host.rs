//! The host of the anchor: it holds the handles of all processes that it starts, and the jobs that they live in.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::windows::io::OwnedHandle;

use keepwell_core::Mono;

use self::process::{Process, exit_code, suspend, terminate};
use super::ipc::{AsHandle, BorrowedHandle};
use super::signals;
use super::spawn::{Faults, Helper, SpawnFailure, Spawner, Started, Stdio, Step};
use super::tree::job::{Job, Message};
use super::voice::Voice;
use super::wait::{Interest, Posted, Waiter, Wake};
use super::{clock, memory, stop};
use crate::host::{Child, Host, HostEvent, TreeRef};
use crate::types::{ProcessStatus, SpawnRequest};

mod process;

/// Tokens above the caller's.
const PROCESSES: u64 = 1 << 40;
const FOREIGN: u64 = 2 << 40;
const KIND: u64 = !((1 << 40) - 1);
/// Keys of what is posted: jobs have the number of their main process, which is never odd or zero.
const CONSOLE: usize = 1;
/// The exit code of what we end, as a shell says it of KILL.
const KILLED: u32 = 137;
/// `STATUS_CONTROL_C_EXIT`: ended by an event of its console that it did not handle.
const BY_EVENT: u32 = 0xC000_013A;

/// See the module.
#[derive(Debug)]
pub struct WindowsHost {
    waiter: Waiter,
    wakes: Vec<Wake>,
    spawner: Spawner,
    voice: Voice,
    /// Live children, by number. Their handles keep the numbers from being given to others.
    processes: BTreeMap<u32, Process>,
    /// Trees whose main process may have ended, by its number.
    trees: BTreeMap<u32, Tree>,
    /// Numbers of main processes by slot.
    watched: BTreeMap<u32, u32>,
    foreign: BTreeMap<u32, OwnedHandle>,
    last_job: usize,
}

#[derive(Debug)]
struct Tree {
    job: Job,
    key: usize,
    /// Keeps the number of the main process its own for as long as the tree is there.
    _main: OwnedHandle,
    hit_memory: bool,
}

impl WindowsHost {
    /// Makes this process the host of a guardian: the console's events come to it.
    ///
    /// # Errors
    /// When the host is out of memory.
    pub fn new(_: &str, _: Faults) -> io::Result<WindowsHost> {
        let waiter = Waiter::new()?;
        signals::hold(waiter.port(), CONSOLE)?;
        Ok(WindowsHost {
            waiter,
            wakes: Vec::new(),
            spawner: Spawner::new()?,
            voice: Voice::new(),
            processes: BTreeMap::new(),
            trees: BTreeMap::new(),
            watched: BTreeMap::new(),
            foreign: BTreeMap::new(),
            last_job: 0,
        })
    }

    /// Keeps a process that was started and waits for its end.
    fn keep(&mut self, started: Started) -> u32 {
        let Started { process, pid } = started;
        let token = PROCESSES | u64::from(pid);
        // Without a place in the waiter its end would be told by nobody: then it has none.
        if self.waiter.add(process.as_handle(), token, Interest::Read).is_err() {
            terminate(&process, KILLED);
        }
        self.processes.insert(pid, Process { handle: process, asked: None });
        pid
    }

    /// A child ended.
    fn reap(&mut self, pid: u32, events: &mut Vec<HostEvent>) {
        let Some(process) = self.processes.remove(&pid) else { return };
        let _ = self.waiter.remove(process.handle.as_handle());
        let status = status(exit_code(&process.handle), process.asked);
        events.push(HostEvent::Exited { pid, status, at: clock::mono() });
        self.forget_tree(pid);
    }

    fn take_posted(&mut self, posted: Posted, events: &mut Vec<HostEvent>) {
        if posted.key == CONSOLE {
            events.push(HostEvent::Stop { signal: signals::signal(posted.number) });
            return;
        }
        let Some((main, tree)) = self.trees.iter_mut().find(|(_, t)| t.key == posted.key) else { return };
        let main = *main;
        match Message::of(posted.number) {
            Message::Empty => {
                let slots = self.watched.iter().filter(|(_, watched)| **watched == main);
                events.extend(slots.map(|(slot, _)| HostEvent::TreeChanged { slot: *slot }));
                self.forget_tree(main);
            }
            Message::Memory => tree.hit_memory = true,
            Message::Other => {}
        }
    }

    /// Asks every process of a tree.
    fn ask_all(&self, tree: &TreeRef<'_>, signal: i32) {
        let Some(found) = self.trees.get(&tree.main) else { return };
        // Most trees share one console, and an event reaches all that are attached to it.
        if self.processes.contains_key(&tree.main) {
            let _ = stop::send(tree.main, signal);
            return;
        }
        for pid in found.job.pids() {
            let _ = stop::send(pid, signal);
        }
    }

    /// Forgets a tree of which nothing is left.
    fn forget_tree(&mut self, main: u32) {
        if !self.processes.contains_key(&main) && self.trees.get(&main).is_none_or(|t| t.job.active() == 0) {
            self.trees.remove(&main);
        }
    }
}

impl Host for WindowsHost {
    fn now(&self) -> Mono {
        clock::mono()
    }

    fn mechanisms(&self) -> Vec<String> {
        vec!["spawn: born in its job".to_owned(), "process identity: handle".to_owned()]
    }

    fn spawn(
        &mut self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        _: Option<BorrowedHandle<'_>>,
    ) -> Result<Child, SpawnFailure> {
        let failed = |e: io::Error| SpawnFailure { step: Step::Job, errno: e.raw_os_error().unwrap_or(0) };
        self.last_job += 2;
        let key = self.last_job;
        let job = Job::new(self.waiter.port(), key, &request.tree_limits).map_err(failed)?;
        let started = self.spawner.spawn(request, stdio, &job)?;
        let main = started.process.try_clone().map_err(failed)?;
        let pid = self.keep(started);
        self.trees.insert(pid, Tree { job, key, _main: main, hit_memory: false });
        Ok(Child { pid, loaded: true })
    }

    fn helper(&mut self, request: &SpawnRequest, helper: Helper<'_>) -> Result<u32, SpawnFailure> {
        let started = self.spawner.helper(request, helper)?;
        Ok(self.keep(started))
    }

    fn signal(&mut self, pid: u32, signal: i32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.asked = Some(signal);
        if signal == stop::KILL {
            terminate(&process.handle, KILLED);
        } else {
            let _ = stop::send(pid, signal);
        }
    }

    fn signal_group(&mut self, pid: u32, signal: i32) {
        match self.trees.get(&pid) {
            Some(tree) if signal == stop::KILL => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.asked = Some(signal);
                }
                tree.job.terminate(KILLED);
            }
            _ => self.signal(pid, signal),
        }
    }

    fn tree_is_empty(&mut self, tree: &TreeRef<'_>) -> bool {
        let Some(found) = self.trees.get(&tree.main) else { return true };
        let empty = found.job.active() == 0;
        if empty {
            self.forget_tree(tree.main);
        }
        empty
    }

    fn signal_tree(&mut self, tree: &TreeRef<'_>, signal: i32) {
        if signal == stop::KILL {
            self.kill_tree(tree);
        } else {
            if let Some(process) = self.processes.get_mut(&tree.main) {
                process.asked = Some(signal);
            }
            self.ask_all(tree, signal);
        }
    }

    fn kill_tree(&mut self, tree: &TreeRef<'_>) {
        self.signal_group(tree.main, stop::KILL);
    }

    fn freeze_tree(&mut self, tree: &TreeRef<'_>, on: bool) {
        let pids: BTreeSet<u32> = self.trees.get(&tree.main).into_iter().flat_map(|t| t.job.pids()).collect();
        for pid in pids {
            suspend(pid, on);
        }
    }

    fn watch_tree(&mut self, slot: u32, tree: &TreeRef<'_>) {
        self.watched.insert(slot, tree.main);
    }

    fn unwatch_tree(&mut self, slot: u32) {
        if let Some(main) = self.watched.remove(&slot) {
            self.forget_tree(main);
        }
    }

    fn ended_for_memory(&mut self, slot: u32, _: Option<BorrowedHandle<'_>>, _: &[Vec<u8>]) -> bool {
        let main = self.watched.get(&slot);
        main.and_then(|main| self.trees.get_mut(main)).is_some_and(|t| std::mem::take(&mut t.hit_memory))
    }

    fn forget(&mut self, slot: u32, _: Option<BorrowedHandle<'_>>) {
        self.unwatch_tree(slot);
    }

    fn watch_process(&mut self, pid: u32) -> bool {
        let Some(handle) = process::open_to_wait(pid) else { return false };
        let watched = self.waiter.add(handle.as_handle(), FOREIGN | u64::from(pid), Interest::Read).is_ok();
        if watched {
            self.foreign.insert(pid, handle);
        }
        watched
    }

    fn unwatch_process(&mut self, pid: u32) {
        if let Some(handle) = self.foreign.remove(&pid) {
            let _ = self.waiter.remove(handle.as_handle());
        }
    }

    fn watch(&mut self, handle: BorrowedHandle<'_>, token: u64) -> io::Result<()> {
        self.waiter.add(handle, token, Interest::Read)
    }

    fn watch_room(&mut self, handle: BorrowedHandle<'_>, token: u64, on: bool) {
        let interest = if on { Interest::ReadWrite } else { Interest::Read };
        let _ = self.waiter.modify(handle, token, interest);
    }

    fn unwatch(&mut self, handle: BorrowedHandle<'_>) {
        let _ = self.waiter.remove(handle);
    }

    fn waiting_connection(&self, handle: BorrowedHandle<'_>) -> Option<bool> {
        waiting_connection(handle)
    }

    fn wait(&mut self, deadline: Option<Mono>, events: &mut Vec<HostEvent>) -> io::Result<()> {
        events.clear();
        let mut wakes = std::mem::take(&mut self.wakes);
        let waited = self.waiter.wait(deadline, &mut wakes);
        for wake in &wakes {
            let Wake::Ready { token, readable, writable, .. } = *wake else { continue };
            let pid = u32::try_from(token & !KIND).unwrap_or(0);
            match token & KIND {
                0 => events.push(HostEvent::Ready { token, readable, writable }),
                PROCESSES => self.reap(pid, events),
                _ => {
                    self.unwatch_process(pid);
                    events.push(HostEvent::Gone { pid });
                }
            }
        }
        for posted in self.waiter.take_posted() {
            self.take_posted(posted, events);
        }
        self.wakes = wakes;
        waited
    }

    fn say(&mut self, text: &str) {
        self.voice.say(text);
    }

    fn tell_manager(&mut self, _: &str) {
        // The service control manager is told by the service's own thread, not in the words of sd_notify.
    }

    fn give_back(&mut self) {
        memory::give_back();
    }
}

/// Whether somebody waits to be accepted: no handle that is kept here accepts anybody (see `local`).
pub(crate) fn waiting_connection(_: BorrowedHandle<'_>) -> Option<bool> {
    None
}

/// What an exit code says, given what the process was asked before.
fn status(code: u32, asked: Option<i32>) -> ProcessStatus {
    let signal = match (code, asked) {
        (KILLED, Some(stop::KILL)) => asked,
        (BY_EVENT, None | Some(stop::KILL)) => Some(stop::INT),
        (BY_EVENT, asked) => asked,
        _ => None,
    };
    let code = if signal.is_some() { None } else { Some(code.cast_signed()) };
    ProcessStatus { code, signal, ..ProcessStatus::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_read_in_the_light_of_what_was_asked() {
        let told = |code, asked| (status(code, asked).code, status(code, asked).signal);
        assert_eq!(told(0, None), (Some(0), None));
        assert_eq!(told(KILLED, None), (Some(137), None));
        assert_eq!(told(KILLED, Some(stop::KILL)), (None, Some(stop::KILL)));
        assert_eq!(told(BY_EVENT, Some(stop::TERM)), (None, Some(stop::TERM)));
        assert_eq!(told(BY_EVENT, None), (None, Some(stop::INT)));
        assert_eq!(told(0xC000_0005, None), (Some(-1_073_741_819), None));
    }
}
