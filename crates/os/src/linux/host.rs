//! The host of the anchor: parent of everything, reaper of all, PID 1 where it is that.
#![expect(unsafe_code, reason = "waitpid and prctl have no safe form in the standard library")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use keepwell_core::Mono;

use super::clock;
use super::ipc::BorrowedHandle;
use super::signals::{self, Received, Signals};
use super::spawn::{Faults, Gate, Helper, SpawnFailure, Spawner, Started, Stdio, Step};
use super::tree::layout::Layout;
use super::tree::process::{self, Process};
use super::tree::{Cgroup, Fresh, TreeWatch, WatchId};
use super::voice::Voice;
use super::wait::{Interest, Waiter, Wake, Waker};
use super::{limits, memory, notify, stop};
use crate::host::{Child, Host, HostEvent, Place, TreeRef};
use crate::types::{ProcessStatus, SpawnRequest};

/// Tokens above the caller's.
const SIGNALS: u64 = 1 << 40;
const TREES: u64 = 2 << 40;
const GATES: u64 = 3 << 40;
const PROCESSES: u64 = 4 << 40;
const KIND: u64 = !((1 << 40) - 1);
/// Where the anchor may, it is one of the last that the kernel ends for memory; −1000 would exempt it altogether.
const OOM_SCORE: i32 = -900;

/// See the module.
#[derive(Debug)]
pub struct LinuxHost {
    guardian: String,
    faults: Faults,
    waiter: Waiter,
    wakes: Vec<Wake>,
    signals: Signals,
    spawner: Spawner,
    voice: Voice,
    /// Children that this host started and has not reaped.
    known: BTreeSet<u32>,
    gates: BTreeMap<u32, Gate>,
    watched_trees: Watched,
    fresh: Fresh,
    processes: BTreeMap<u32, OwnedFd>,
    /// What an adopted child belongs to, looked up once: its mark's run and its session.
    adopted: BTreeMap<u32, (Option<u64>, u32)>,
    own_events: Option<PathBuf>,
    /// Processes that were ended for memory and are told already: of this process's own group, and by slot.
    own_oom_seen: u64,
    oom_seen: BTreeMap<u32, u64>,
    locked: bool,
    protected: bool,
}

#[derive(Debug)]
struct Watched {
    watch: Option<TreeWatch>,
    by_id: BTreeMap<WatchId, u32>,
    by_slot: BTreeMap<u32, Option<WatchId>>,
}

impl LinuxHost {
    /// Makes this process the host of a guardian: its signals are held back, its limits raised, orphans become its own.
    ///
    /// # Errors
    /// When the host is out of descriptors or memory.
    pub fn new(guardian: &str, faults: Faults) -> io::Result<LinuxHost> {
        let signals = Signals::hold()?;
        signals::ignore_terminal();
        limits::seal_inherited();
        // SAFETY: no pointers. Orphans of the services become children of this process instead of the host's first.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_long, 0, 0, 0) };
        let nofile = limits::raise_nofile().ok();
        let oom = limits::lower_oom_score(OOM_SCORE);
        let spawner = Spawner::new(faults, nofile, oom)?;
        let waiter = Waiter::new()?;
        waiter.add(signals.as_fd(), SIGNALS, Interest::Read)?;
        let watch = TreeWatch::new().ok();
        if let Some(watch) = &watch {
            waiter.add(watch.as_fd(), TREES, Interest::Read)?;
        }
        let own_events = own_memory_events();
        let watched_trees = Watched { watch, by_id: BTreeMap::new(), by_slot: BTreeMap::new() };
        Ok(LinuxHost {
            guardian: guardian.to_owned(),
            faults,
            waiter,
            wakes: Vec::new(),
            signals,
            spawner,
            voice: Voice::new(),
            known: BTreeSet::new(),
            gates: BTreeMap::new(),
            watched_trees,
            fresh: Fresh::default(),
            processes: BTreeMap::new(),
            adopted: BTreeMap::new(),
            own_oom_seen: own_events.as_deref().and_then(oom_kills_in).unwrap_or(0),
            own_events,
            oom_seen: BTreeMap::new(),
            locked: {
                // What starting needed need not stay; what is used from now on does.
                memory::let_go_of_text();
                limits::lock_memory()
            },
            protected: oom.is_some(),
        })
    }

    /// Starts a process where no earlier kill can reach it.
    fn start(
        &mut self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        tree: Option<BorrowedHandle<'_>>,
    ) -> Result<Started, SpawnFailure> {
        let Some(tree) = tree else { return self.spawner.spawn(request, stdio, None) };
        for _ in 0..2 {
            let Ok(place) = self.fresh.place(tree) else { break };
            match self.spawner.spawn(request, stdio, Some(place)) {
                Err(SpawnFailure { step: Step::Birth, .. }) => self.fresh.spoilt(tree),
                started => return started,
            }
        }
        // Moving into a group has not the fault of being born there; it only takes longer.
        self.spawner.spawn_gated(request, stdio, Some(tree))
    }

    /// Reaps all that has ended: children, and what they left to us.
    fn reap(&mut self, events: &mut Vec<HostEvent>) {
        let at = clock::mono();
        loop {
            let mut raw = 0;
            // SAFETY: `raw` is filled by the call.
            let pid = unsafe { libc::waitpid(-1, &raw mut raw, libc::WNOHANG) };
            let Some(pid) = u32::try_from(pid).ok().filter(|p| *p > 0) else { break };
            self.known.remove(&pid);
            self.adopted.remove(&pid);
            if self.open_gate(pid, events) == Some(false) {
                continue;
            }
            events.push(HostEvent::Exited { pid, status: status(raw), at });
        }
        let marked = self.watched_trees.by_slot.iter().filter(|(_, watch)| watch.is_none());
        events.extend(marked.map(|(slot, _)| HostEvent::TreeChanged { slot: *slot }));
    }

    /// Tells what became of a gated child, if it is known now. `Some(false)`: it never ran its program.
    fn open_gate(&mut self, pid: u32, events: &mut Vec<HostEvent>) -> Option<bool> {
        let outcome = self.gates.get(&pid)?.outcome()?;
        if let Some(gate) = self.gates.remove(&pid) {
            let _ = self.waiter.remove(gate.as_fd());
        }
        events.push(HostEvent::Loaded { pid, outcome });
        if outcome.is_err() && self.known.contains(&pid) {
            // Its end, which follows at once, says nothing more.
            reap_one(pid);
            self.known.remove(&pid);
        }
        Some(outcome.is_ok())
    }

    fn take_signals(&mut self, events: &mut Vec<HostEvent>) {
        let mut children = false;
        while let Some(received) = self.signals.next() {
            match received {
                Received::Children => children = true,
                Received::Stop(signal) => events.push(HostEvent::Stop { signal }),
            }
        }
        if children {
            self.reap(events);
        }
    }

    fn take_trees(&mut self, events: &mut Vec<HostEvent>) {
        let Watched { watch: Some(watch), by_id, .. } = &self.watched_trees else { return };
        watch.take(|news| match news {
            Some(id) => events.extend(by_id.get(&id).map(|slot| HostEvent::TreeChanged { slot: *slot })),
            None => events.extend(by_id.values().map(|slot| HostEvent::TreeChanged { slot: *slot })),
        });
    }

    /// Children that this host did not start: left to it by processes that died before them. None of them means that no
    /// tree without a cgroup holds anything but its main process, since each of its processes has an ancestor among ours.
    fn orphans(&self) -> Vec<u32> {
        let listed = if self.faults.children.is_none() { process::children() } else { None };
        let me = std::process::id();
        let children = listed.unwrap_or_else(|| {
            process::all().into_iter().filter(|p| p.parent == me && !p.zombie).map(|p| p.pid).collect()
        });
        children.into_iter().filter(|pid| !self.known.contains(pid)).collect()
    }

    /// The orphans that belong to a tree, by their mark, or by the session that its main process led.
    fn orphans_of(&mut self, tree: &TreeRef<'_>) -> Vec<u32> {
        self.orphans().into_iter().filter(|pid| self.belongs(*pid, tree) == Some(true)).collect()
    }

    /// Whether an orphan belongs to a tree. `None`: it is leaving, and can no longer be asked.
    fn belongs(&mut self, pid: u32, tree: &TreeRef<'_>) -> Option<bool> {
        let (run, session) = match self.adopted.get(&pid) {
            Some(known) => *known,
            None => {
                process::wait_for_environment(pid);
                let marked = process::mark(pid).filter(|(g, _)| *g == self.guardian);
                let found = (marked.map(|(_, run)| run), process::look(pid).map_or(0, |p| p.session));
                if found.0.is_none() && process::is_leaving(pid) {
                    return (found.1 == tree.main).then_some(true);
                }
                self.adopted.insert(pid, found);
                found
            }
        };
        Some(run == Some(tree.run) || session == tree.main)
    }

    /// Whether a tree without a cgroup holds nothing any more. What an orphan that is leaving has started itself becomes
    /// an orphan only when it is gone: until it is reaped, which is looked at again, it may be anybody's.
    fn has_no_orphans(&mut self, tree: &TreeRef<'_>) -> bool {
        self.orphans().into_iter().all(|pid| self.belongs(pid, tree) == Some(false))
    }

    /// All processes of a tree without a cgroup.
    fn members(&mut self, tree: &TreeRef<'_>) -> Vec<Process> {
        let mut roots: BTreeSet<u32> = self.orphans_of(tree).into_iter().collect();
        if self.known.contains(&tree.main) {
            roots.insert(tree.main);
        }
        process::with_descendants(&process::all(), &roots)
    }

    /// What is in a cgroup besides hooks and checks.
    fn cgroup_is_empty(&self, dir: BorrowedHandle<'_>, others: &[u32]) -> bool {
        let cgroup = Cgroup::new(dir, self.faults);
        if cgroup.is_empty() {
            return true;
        }
        if others.is_empty() {
            return false;
        }
        let foreign = |pid: &u32| process::look(*pid).is_none_or(|p| p.zombie || others.contains(&p.session));
        cgroup.pids().iter().all(foreign)
    }
}

impl Host for LinuxHost {
    fn now(&self) -> Mono {
        clock::mono()
    }

    fn waker(&self) -> Waker {
        self.waiter.waker()
    }

    fn mechanisms(&self) -> Vec<String> {
        let mut all = self.spawner.mechanisms();
        let pidfd = self.faults.pidfd.is_none() && process::pidfd(std::process::id()).is_ok();
        all.push(format!("process identity: {}", if pidfd { "pidfd" } else { "start time" }));
        all.push(format!("memory: {}", if self.locked { "locked" } else { "not locked" }));
        all.push(format!("out of memory: {}", if self.protected { "protected" } else { "as others" }));
        all
    }

    fn spawn(
        &mut self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        place: Place<'_>,
    ) -> Result<Child, SpawnFailure> {
        let started = self.start(request, stdio, place.tree)?;
        let pid = started.pid();
        self.known.insert(pid);
        let loaded = match started {
            Started::Loaded(_) => true,
            Started::Gated(_, gate) => {
                // Without a place in the waiter the child's end still tells.
                let _ = self.waiter.add(gate.as_fd(), GATES | u64::from(pid), Interest::Read);
                self.gates.insert(pid, gate);
                false
            }
        };
        Ok(Child { pid, loaded })
    }

    fn helper(&mut self, request: &SpawnRequest, helper: Helper<'_>) -> Result<u32, SpawnFailure> {
        let pid = self.spawner.helper(request, helper)?;
        self.known.insert(pid);
        Ok(pid)
    }

    fn signal(&mut self, pid: u32, signal: i32) {
        match self.processes.get(&pid) {
            Some(held) => process::signal_held(held, signal),
            None => drop(stop::signal(pid, signal)),
        }
    }

    fn signal_group(&mut self, pid: u32, signal: i32) {
        let _ = stop::signal_group(pid, signal);
    }

    fn tree_is_empty(&mut self, tree: &TreeRef<'_>) -> bool {
        match tree.handle {
            Some(dir) => self.cgroup_is_empty(dir, tree.others),
            None => !self.known.contains(&tree.main) && self.has_no_orphans(tree),
        }
    }

    fn signal_tree(&mut self, tree: &TreeRef<'_>, signal: i32) {
        match tree.handle {
            Some(dir) => Cgroup::new(dir, self.faults).signal(signal),
            None => {
                for member in self.members(tree) {
                    process::signal(&member, signal, self.faults);
                }
            }
        }
    }

    fn kill_tree(&mut self, tree: &TreeRef<'_>) {
        match tree.handle {
            Some(dir) => {
                if Cgroup::new(dir, self.faults).kill().is_err() {
                    Cgroup::new(dir, self.faults).signal(libc::SIGKILL);
                }
                self.fresh.killed(dir);
            }
            None => {
                let faults = self.faults;
                process::kill_until_none(20, faults, || self.members(tree));
            }
        }
    }

    fn freeze_tree(&mut self, tree: &TreeRef<'_>, on: bool) {
        match tree.handle {
            Some(dir) => drop(Cgroup::new(dir, self.faults).freeze(on)),
            None => self.signal_tree(tree, if on { libc::SIGSTOP } else { libc::SIGCONT }),
        }
    }

    fn watch_tree(&mut self, slot: u32, tree: &TreeRef<'_>) {
        let Watched { watch, by_id, by_slot } = &mut self.watched_trees;
        let id = tree.handle.and_then(|dir| watch.as_ref()?.add(dir).ok());
        by_id.extend(id.map(|id| (id, slot)));
        by_slot.insert(slot, id);
    }

    fn unwatch_tree(&mut self, slot: u32) {
        let Watched { watch, by_id, by_slot } = &mut self.watched_trees;
        let Some(Some(id)) = by_slot.remove(&slot) else { return };
        by_id.remove(&id);
        if let Some(watch) = watch {
            watch.remove(id);
        }
    }

    fn ended_for_memory(&mut self, place: Place<'_>, status: ProcessStatus, join: &[Vec<u8>]) -> bool {
        if status.signal != Some(stop::KILL) {
            return false;
        }
        let Place { slot, tree } = place;
        let unified = tree.and_then(|dir| Cgroup::new(dir, self.faults).oom_kills());
        let v1 = || join.iter().find_map(|file| oom_kills_in(&v1_events(file)?));
        let (count, seen) = match unified.or_else(v1) {
            Some(count) => (count, self.oom_seen.entry(slot).or_default()),
            None => {
                let own = self.own_events.as_deref().and_then(oom_kills_in);
                (own.unwrap_or(self.own_oom_seen), &mut self.own_oom_seen)
            }
        };
        std::mem::replace(seen, count) < count
    }

    fn forget(&mut self, place: Place<'_>) {
        if let Some(dir) = place.tree {
            self.fresh.forget(dir);
        }
        self.oom_seen.remove(&place.slot);
        self.unwatch_tree(place.slot);
    }

    fn watch_process(&mut self, pid: u32) -> bool {
        let held =
            self.faults.pidfd.map_or_else(|| process::pidfd(pid), |e| Err(io::Error::from_raw_os_error(e)));
        let Ok(fd) = held else {
            // An older kernel tells only parents. A child, or a child's child once its parent is gone, comes to us.
            let parent = process::look(pid).map(|p| p.parent);
            return parent.is_some_and(|p| p == std::process::id() || self.known.contains(&p));
        };
        let watched = self.waiter.add(fd.as_fd(), PROCESSES | u64::from(pid), Interest::Read).is_ok();
        if watched {
            self.processes.insert(pid, fd);
        }
        watched
    }

    fn unwatch_process(&mut self, pid: u32) {
        if let Some(fd) = self.processes.remove(&pid) {
            let _ = self.waiter.remove(fd.as_fd());
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
                SIGNALS => self.take_signals(events),
                TREES => self.take_trees(events),
                GATES => drop(self.open_gate(pid, events)),
                _ => {
                    // If it was left to us meanwhile, its status is told first.
                    self.reap(events);
                    self.unwatch_process(pid);
                    events.push(HostEvent::Gone { pid });
                }
            }
        }
        self.wakes = wakes;
        waited
    }

    fn say(&mut self, text: &str) {
        self.voice.say(text);
    }

    fn tell_manager(&mut self, state: &str) {
        // Nobody to tell is the usual case, and one who does not listen is no reason to do anything else.
        let _ = notify::notify(state);
    }

    fn give_back(&mut self) {
        if self.locked {
            limits::unlock_memory();
        }
        memory::give_back();
        if self.locked {
            self.locked = limits::lock_memory();
        }
    }
}

/// Whether somebody waits at a listening socket; `None` for anything else.
pub(crate) fn waiting_connection(handle: BorrowedHandle<'_>) -> Option<bool> {
    let (mut listens, mut len) = (0, super::ipc::socklen::<libc::c_int>());
    // SAFETY: both values live through the call, which fails on what is no socket.
    let answer = unsafe {
        let (value, len) = ((&raw mut listens).cast(), &raw mut len);
        libc::getsockopt(handle.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN, value, len)
    };
    if answer < 0 || listens == 0 {
        return None;
    }
    let mut poll = libc::pollfd { fd: handle.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    Some(unsafe { libc::poll(&raw mut poll, 1, 0) } > 0)
}

fn status(raw: libc::c_int) -> ProcessStatus {
    let code = libc::WIFEXITED(raw).then(|| libc::WEXITSTATUS(raw));
    let signal = libc::WIFSIGNALED(raw).then(|| libc::WTERMSIG(raw));
    ProcessStatus {
        code,
        signal,
        core_dumped: signal.is_some() && libc::WCOREDUMP(raw),
        out_of_memory: false,
    }
}

/// Reaps a child that is ending.
fn reap_one(pid: u32) {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), 0) };
}

/// `memory.oom_control` beside the `cgroup.procs` of a version 1 memory group.
fn v1_events(procs: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let file = Path::new(std::ffi::OsStr::from_bytes(procs)).with_file_name("memory.oom_control");
    file.exists().then_some(file)
}

/// The count of the group that this process itself is in, which in a container is all there is.
fn own_memory_events() -> Option<PathBuf> {
    let layout = Layout::current();
    let unified = layout.unified.map(|dir| dir.join("memory.events"));
    let v1 = layout.memory.map(|dir| dir.join("memory.oom_control"));
    [unified, v1].into_iter().flatten().find(|file| file.exists())
}

fn oom_kills_in(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok())
}
