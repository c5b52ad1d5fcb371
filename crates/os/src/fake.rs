//! A host that is not there: processes are entries in a table, time passes when nobody has anything to do. For tests of
//! the anchor's loop; it passes the same contract tests as the real one.
//!
//! What a program does is said by its path: `fake:sleep`, `fake:stubborn` (ignores all but KILL), `fake:exit:N`,
//! `fake:leaves:N` (ends with 0 and leaves N processes behind), `fake:gated:PROGRAM` (loaded later). Anything else is not
//! found.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use keepwell_core::Mono;

use crate::host::{Child, Host, HostEvent, Place, TreeRef};
use crate::spawn::{Helper, SpawnFailure, Stdio, Step};
use crate::wait::{Interest, Waiter, Wake, Waker};
use crate::{BorrowedHandle, Handle, Members, ProcessStatus, SpawnRequest, TreeLimits, stop};

/// One entry of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FakeProcess {
    /// The session that it is in; the pid of the process that was started.
    pub session: u32,
    /// Told of by `Exited` when it ends.
    pub child: bool,
    /// Ends only by KILL.
    pub stubborn: bool,
    /// Is not scheduled.
    pub frozen: bool,
    /// The signals that it received.
    pub signals: Vec<i32>,
    /// The slot that it, or what brought it into the world, was started in; 0 for helpers.
    pub slot: u32,
}

/// A helper that was started: daemon or view.
#[derive(Debug)]
pub struct FakeHelper {
    /// Its number.
    pub pid: u32,
    /// Its arguments.
    pub argv: Vec<Vec<u8>>,
    /// Its end of the channel, if it has one.
    pub channel: Option<Handle>,
    /// Its stderr, if it has one of its own.
    pub stderr: Option<Handle>,
}

/// What a test sees and does.
#[derive(Debug)]
pub struct World {
    /// Time since boot.
    pub now: Mono,
    /// Live processes by pid.
    pub processes: BTreeMap<u32, FakeProcess>,
    /// Helpers in the order of their starts, for the test to take.
    pub helpers: VecDeque<FakeHelper>,
    /// The next helper cannot be started.
    pub refuse_helpers: bool,
    /// Everything said on stderr.
    pub said: String,
    /// What the tree of each slot may use, as its last start said.
    pub limits: BTreeMap<u32, TreeLimits>,
    /// Slots whose next end that is no success was for memory.
    pub out_of_memory: BTreeSet<u32>,
    /// Signals that reach nobody.
    pub unreachable: BTreeSet<i32>,
    /// Everything said to the service manager.
    pub manager: Vec<String>,
    events: VecDeque<HostEvent>,
    gates: VecDeque<(u32, String)>,
    watched: BTreeMap<u32, u32>,
    watched_processes: BTreeSet<u32>,
    next_pid: u32,
}

/// What happens besides: called whenever nobody else has anything to do. It says whether it did something.
pub type Script = Box<dyn FnMut(&mut World) -> bool>;

/// See the module.
pub struct FakeHost {
    /// What a test looks at.
    pub world: World,
    script: Script,
    waiter: Waiter,
}

impl World {
    /// A process ends by itself.
    pub fn exit(&mut self, pid: u32, code: i32) {
        self.end(pid, ProcessStatus { code: Some(code), ..ProcessStatus::default() });
    }

    /// A process is killed from outside.
    pub fn kill(&mut self, pid: u32) {
        self.end(pid, ProcessStatus { signal: Some(stop::KILL), ..ProcessStatus::default() });
    }

    /// The terminal or the service manager sends a signal.
    pub fn stop(&mut self, signal: i32) {
        self.events.push_back(HostEvent::Stop { signal });
    }

    /// Live processes of a session.
    #[must_use]
    pub fn session(&self, session: u32) -> Vec<u32> {
        self.processes.iter().filter(|(_, p)| p.session == session).map(|(pid, _)| *pid).collect()
    }

    fn end(&mut self, pid: u32, status: ProcessStatus) {
        let Some(process) = self.processes.remove(&pid) else { return };
        if process.child {
            self.events.push_back(HostEvent::Exited { pid, status, at: self.now });
        }
        if self.watched_processes.remove(&pid) {
            self.events.push_back(HostEvent::Gone { pid });
        }
        let slots = self.watched.iter().filter(|(_, session)| **session == process.session);
        self.events.extend(slots.map(|(slot, _)| HostEvent::TreeChanged { slot: *slot }));
    }

    fn signal(&mut self, pid: u32, signal: i32) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if self.unreachable.contains(&signal) {
            let reason = "it cannot be reached".to_owned();
            return self.events.push_back(HostEvent::SignalFailed { pid, signal, reason });
        }
        process.signals.push(signal);
        if signal == stop::KILL || (signal == stop::TERM && !process.stubborn) {
            self.end(pid, ProcessStatus { signal: Some(signal), ..ProcessStatus::default() });
        }
    }

    fn add(&mut self, session: Option<u32>, child: bool) -> u32 {
        self.next_pid += 1;
        let pid = self.next_pid;
        let session = session.unwrap_or(pid);
        let process =
            FakeProcess { session, child, stubborn: false, frozen: false, signals: Vec::new(), slot: 0 };
        self.processes.insert(pid, process);
        pid
    }

    /// Does what a program does when it is loaded.
    fn load(&mut self, pid: u32, program: &str) -> Result<(), SpawnFailure> {
        let (what, number) = program.rsplit_once(':').unwrap_or((program, ""));
        match (what, number) {
            ("fake", "sleep") => {}
            ("fake", "stubborn") => {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.stubborn = true;
                }
            }
            ("fake:exit", code) => self.exit(pid, code.parse().unwrap_or(0)),
            ("fake:leaves", count) => {
                let slot = self.processes.get(&pid).map_or(0, |p| p.slot);
                for _ in 0..count.parse().unwrap_or(0) {
                    let left = self.add(Some(pid), false);
                    if let Some(process) = self.processes.get_mut(&left) {
                        process.stubborn = true;
                        process.slot = slot;
                    }
                }
                self.exit(pid, 0);
            }
            _ => {
                self.processes.remove(&pid);
                return Err(SpawnFailure { step: Step::Exec, errno: NOT_FOUND });
            }
        }
        Ok(())
    }

    fn members(&self, tree: &TreeRef<'_>) -> Vec<u32> {
        self.session(tree.main)
    }
}

/// `ENOENT`, which Windows' error for it equals too.
const NOT_FOUND: i32 = 2;

impl FakeHost {
    /// An empty world, and what happens in it.
    ///
    /// # Errors
    /// When even the real host is out of descriptors.
    pub fn new(script: Script) -> io::Result<FakeHost> {
        let world = World {
            now: Mono(1_000_000_000),
            processes: BTreeMap::new(),
            helpers: VecDeque::new(),
            refuse_helpers: false,
            said: String::new(),
            limits: BTreeMap::new(),
            out_of_memory: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            manager: Vec::new(),
            events: VecDeque::new(),
            gates: VecDeque::new(),
            watched: BTreeMap::new(),
            watched_processes: BTreeSet::new(),
            next_pid: 100,
        };
        Ok(FakeHost { world, script, waiter: Waiter::new()? })
    }

    /// What is readable now, really.
    fn look(&mut self, events: &mut Vec<HostEvent>) -> io::Result<()> {
        let mut wakes = Vec::new();
        self.waiter.poll(&mut wakes)?;
        events.extend(wakes.iter().filter_map(|wake| match *wake {
            Wake::Ready { token, readable, writable, .. } => {
                Some(HostEvent::Ready { token, readable, writable })
            }
            Wake::Called => Some(HostEvent::Called),
            Wake::Deadline | Wake::ClockStepped => None,
        }));
        Ok(())
    }
}

impl Host for FakeHost {
    fn now(&self) -> Mono {
        self.world.now
    }

    fn waker(&self) -> Waker {
        self.waiter.waker()
    }

    fn mechanisms(&self) -> Vec<String> {
        vec!["spawn: none at all".to_owned()]
    }

    fn spawn(
        &mut self,
        request: &SpawnRequest,
        _: Stdio<'_>,
        place: Place<'_>,
    ) -> Result<Child, SpawnFailure> {
        let pid = self.world.add(None, true);
        if let Some(process) = self.world.processes.get_mut(&pid) {
            process.slot = place.slot;
        }
        self.world.limits.insert(place.slot, *request.tree_limits);
        let program = String::from_utf8_lossy(&request.program).into_owned();
        if let Some(later) = program.strip_prefix("fake:gated:") {
            self.world.gates.push_back((pid, format!("fake:{later}")));
            return Ok(Child { pid, loaded: false });
        }
        self.world.load(pid, &program)?;
        Ok(Child { pid, loaded: true })
    }

    fn helper(&mut self, request: &SpawnRequest, helper: Helper<'_>) -> Result<u32, SpawnFailure> {
        let failed = |_| SpawnFailure { step: Step::Fork, errno: NOT_FOUND };
        if self.world.refuse_helpers {
            return Err(SpawnFailure { step: Step::Fork, errno: NOT_FOUND });
        }
        let taken = |h: BorrowedHandle<'_>| h.try_clone_to_owned().map_err(failed);
        let channel = helper.detached.map(|d| taken(d.channel)).transpose()?;
        let stderr = helper.detached.map(|d| taken(d.stderr)).transpose()?;
        let pid = self.world.add(None, true);
        self.world.helpers.push_back(FakeHelper { pid, argv: request.argv.clone(), channel, stderr });
        Ok(pid)
    }

    fn signal(&mut self, pid: u32, signal: i32) {
        self.world.signal(pid, signal);
    }

    fn signal_group(&mut self, pid: u32, signal: i32) {
        for member in self.world.session(pid) {
            self.world.signal(member, signal);
        }
    }

    fn tree_is_empty(&mut self, tree: &TreeRef<'_>) -> bool {
        self.world.members(tree).is_empty()
    }

    fn signal_tree(&mut self, tree: &TreeRef<'_>, signal: i32) {
        self.signal_group(tree.main, signal);
    }

    fn kill_tree(&mut self, tree: &TreeRef<'_>) {
        self.signal_group(tree.main, stop::KILL);
    }

    fn freeze_tree(&mut self, tree: &TreeRef<'_>, on: bool) {
        for member in self.world.members(tree) {
            if let Some(process) = self.world.processes.get_mut(&member) {
                process.frozen = on;
            }
        }
    }

    fn watch_tree(&mut self, slot: u32, tree: &TreeRef<'_>) {
        self.world.watched.insert(slot, tree.main);
    }

    fn unwatch_tree(&mut self, slot: u32) {
        self.world.watched.remove(&slot);
    }

    fn ended_for_memory(&mut self, place: Place<'_>, status: ProcessStatus, _: &[Vec<u8>]) -> bool {
        status.code != Some(0) && self.world.out_of_memory.remove(&place.slot)
    }

    fn members(&mut self, slot: u32) -> Members {
        let of_slot = self.world.processes.iter().filter(|(_, p)| p.slot == slot);
        Members { pids: of_slot.map(|(pid, _)| *pid).collect(), cpu_usec: Some(u64::from(slot) * 1000) }
    }

    fn forget(&mut self, place: Place<'_>) {
        self.unwatch_tree(place.slot);
        self.world.limits.remove(&place.slot);
    }

    fn watch_process(&mut self, pid: u32) -> bool {
        let there = self.world.processes.contains_key(&pid);
        if there {
            self.world.watched_processes.insert(pid);
        }
        there
    }

    fn unwatch_process(&mut self, pid: u32) {
        self.world.watched_processes.remove(&pid);
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
        crate::system::waiting_connection(handle)
    }

    fn wait(&mut self, deadline: Option<Mono>, events: &mut Vec<HostEvent>) -> io::Result<()> {
        events.clear();
        loop {
            for (pid, program) in std::mem::take(&mut self.world.gates) {
                let outcome = self.world.load(pid, &program);
                // As a real child: first it is through, then it may end.
                self.world.events.push_front(HostEvent::Loaded { pid, outcome });
            }
            events.extend(self.world.events.drain(..));
            self.look(events)?;
            if !events.is_empty() {
                return Ok(());
            }
            if deadline.is_some_and(|d| d <= self.world.now) {
                return Ok(());
            }
            if (self.script)(&mut self.world) {
                continue;
            }
            // Nothing happens but time.
            let Some(deadline) = deadline else {
                return Err(io::Error::other("nothing will ever happen again"));
            };
            self.world.now = deadline;
            return Ok(());
        }
    }

    fn say(&mut self, text: &str) {
        self.world.said.push_str(text);
    }

    fn tell_manager(&mut self, state: &str) {
        self.world.manager.push(state.to_owned());
    }
}
