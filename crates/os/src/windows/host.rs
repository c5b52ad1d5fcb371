//! The host of the anchor: it holds the handles of all processes that it starts, and the jobs that they live in.

use std::collections::BTreeMap;
use std::io;
use std::os::windows::io::OwnedHandle;

use keepwell_core::Mono;
use keepwell_core::spec::CLOSE;

use self::process::{Process, exit_code, is_alive, suspend, terminate};
use self::slots::Slots;
use super::ipc::{AsHandle, BorrowedHandle};
use super::signals;
use super::spawn::{Faults, Helper, SpawnFailure, Spawner, Started, Stdio, Step};
use super::tree::job::Message;
use super::voice::Voice;
use super::wait::{Interest, Posted, Waiter, Wake, Waker};
use super::{clock, memory, pipe, stop};
use crate::host::{Child, Host, HostEvent, Place, TreeRef};
use crate::types::{Members, ProcessStatus, SpawnRequest};

mod process;
mod slots;

/// Tokens above the caller's.
const PROCESSES: u64 = 1 << 40;
const FOREIGN: u64 = 2 << 40;
const SENDERS: u64 = 3 << 40;
const KIND: u64 = !((1 << 40) - 1);
/// Key of what the console posts; those of jobs are even.
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
    slots: Slots,
    foreign: BTreeMap<u32, OwnedHandle>,
    /// Processes that send events for us, by their numbers.
    senders: BTreeMap<u32, Sender>,
    /// Found out between two waits.
    untold: Vec<HostEvent>,
}

#[derive(Debug)]
struct Sender {
    handle: OwnedHandle,
    /// To whom: a child, or the main process that a tree had.
    to: u32,
    signal: i32,
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
            slots: Slots::default(),
            foreign: BTreeMap::new(),
            senders: BTreeMap::new(),
            untold: Vec::new(),
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
        self.slots.tidy(pid);
    }

    fn take_posted(&mut self, posted: Posted, events: &mut Vec<HostEvent>) {
        if posted.key == CONSOLE {
            events.push(HostEvent::Stop { signal: signals::signal(posted.number) });
            return;
        }
        let (changed, emptied) = self.slots.heard(posted.key, Message::of(posted.number));
        events.extend(changed.map(|slot| HostEvent::TreeChanged { slot }));
        if let Some(run) = emptied.filter(|pid| !self.processes.contains_key(pid)) {
            self.slots.tidy(run);
        }
    }

    /// Asks every process of a tree.
    fn ask_all(&mut self, tree: &TreeRef<'_>, signal: i32) {
        let to_windows = signal == CLOSE || signal == stop::HUP;
        // Most trees share one console, and an event reaches all that are attached to it.
        if self.processes.contains_key(&tree.main) && !to_windows {
            return self.send(tree.main, &[tree.main], signal);
        }
        let pids = self.slots.pids_of(tree);
        self.send(tree.main, &pids, signal);
    }

    /// Has somebody send an event, and waits for how that went.
    fn send(&mut self, to: u32, pids: &[u32], signal: i32) {
        let sent = stop::send(pids, signal).and_then(|(sender, handle)| {
            self.waiter.add(handle.as_handle(), SENDERS | u64::from(sender), Interest::Read)?;
            self.senders.insert(sender, Sender { handle, to, signal });
            Ok(())
        });
        if let Err(e) = sent {
            let reason = format!("the process that was to send it could not be started: {e}");
            self.untold.push(HostEvent::SignalFailed { pid: to, signal, reason });
        }
    }

    /// Who sent an event has ended.
    fn sent(&mut self, sender: u32, events: &mut Vec<HostEvent>) {
        let Some(Sender { handle, to, signal }) = self.senders.remove(&sender) else { return };
        let _ = self.waiter.remove(handle.as_handle());
        // Whoever is gone needed no asking.
        let gone = self.processes.get(&to).is_none_or(|p| !is_alive(&p.handle))
            && self.slots.run(to).is_none_or(|job| job.active() == 0);
        if let Some(why) = stop::refusal(exit_code(&handle)).filter(|_| !gone) {
            events.push(HostEvent::SignalFailed { pid: to, signal, reason: why.to_owned() });
        }
    }

    /// What ends these processes now is a kill of ours.
    fn killing(&mut self, pids: &[u32]) {
        for pid in pids {
            if let Some(process) = self.processes.get_mut(pid) {
                process.asked = Some(stop::KILL);
            }
        }
    }
}

impl Host for WindowsHost {
    fn now(&self) -> Mono {
        clock::mono()
    }

    fn waker(&self) -> Waker {
        self.waiter.waker()
    }

    fn mechanisms(&self) -> Vec<String> {
        vec!["spawn: born in its job".to_owned(), "process identity: handle".to_owned()]
    }

    fn spawn(
        &mut self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        place: Place<'_>,
    ) -> Result<Child, SpawnFailure> {
        let failed = |e: io::Error| SpawnFailure { step: Step::Job, errno: e.raw_os_error().unwrap_or(0) };
        let cradle =
            self.slots.cradle(place.slot, &request.tree_limits, self.waiter.port()).map_err(failed)?;
        let jobs: Vec<_> = self.slots.job(place.slot).into_iter().chain([cradle.job()]).collect();
        let started = self.spawner.spawn(request, stdio, &jobs)?;
        let leader = started.process.try_clone().map_err(failed)?;
        let pid = self.keep(started);
        self.slots.born(cradle, pid, leader);
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
            self.send(pid, &[pid], signal);
        }
    }

    fn signal_group(&mut self, pid: u32, signal: i32) {
        match self.slots.run(pid) {
            Some(job) if signal == stop::KILL => {
                job.terminate(KILLED);
                self.killing(&[pid]);
            }
            _ => self.signal(pid, signal),
        }
    }

    fn tree_is_empty(&mut self, tree: &TreeRef<'_>) -> bool {
        self.slots.is_empty(tree)
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
        let Some(job) = self.slots.job(tree.slot) else { return };
        let pids = job.pids();
        job.terminate(KILLED);
        self.killing(&pids);
    }

    fn freeze_tree(&mut self, tree: &TreeRef<'_>, on: bool) {
        for pid in self.slots.pids(tree.slot) {
            suspend(pid, on);
        }
    }

    fn watch_tree(&mut self, slot: u32, _: &TreeRef<'_>) {
        self.slots.watch(slot, true);
    }

    fn unwatch_tree(&mut self, slot: u32) {
        self.slots.watch(slot, false);
    }

    fn ended_for_memory(&mut self, place: Place<'_>, status: ProcessStatus, _: &[Vec<u8>]) -> bool {
        // Here nobody is killed for memory: what asks for more gets none, and ends as it likes.
        status.code != Some(0) && self.slots.take_hit_memory(place.slot)
    }

    fn members(&mut self, slot: u32) -> Members {
        self.slots.members(slot)
    }

    fn forget(&mut self, place: Place<'_>) {
        if let Some(job) = self.slots.job(place.slot) {
            let pids = job.pids();
            // Also what no close of a handle would tell apart from an end of its own.
            job.terminate(KILLED);
            self.killing(&pids);
        }
        self.slots.forget(place.slot);
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

    fn is_endpoint(&self, handle: BorrowedHandle<'_>) -> bool {
        pipe::is_pipe(handle.raw())
    }

    fn wait(&mut self, deadline: Option<Mono>, events: &mut Vec<HostEvent>) -> io::Result<()> {
        events.clear();
        events.append(&mut self.untold);
        let deadline = if events.is_empty() { deadline } else { Some(Mono(0)) };
        let mut wakes = std::mem::take(&mut self.wakes);
        let waited = self.waiter.wait(deadline, &mut wakes);
        for wake in &wakes {
            let (token, readable, writable) = match *wake {
                Wake::Ready { token, readable, writable, .. } => (token, readable, writable),
                Wake::Called => {
                    events.push(HostEvent::Called);
                    continue;
                }
                Wake::Deadline | Wake::ClockStepped => continue,
            };
            let pid = u32::try_from(token & !KIND).unwrap_or(0);
            match token & KIND {
                0 => events.push(HostEvent::Ready { token, readable, writable }),
                PROCESSES => self.reap(pid, events),
                SENDERS => self.sent(pid, events),
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
