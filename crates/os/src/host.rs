//! What the anchor asks of the host. The real one is `LinuxHost`; tests of the anchor's loop bring a fake one, and both
//! pass the same contract tests.

use std::io;

use keepwell_core::Mono;

use crate::spawn::{Helper, SpawnFailure, Stdio};
use crate::wait::Waker;
use crate::{BorrowedHandle, Members, ProcessStatus, SpawnRequest};

/// A process that was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child {
    /// Its number; it stays its own until [`HostEvent::Exited`] is told.
    pub pid: u32,
    /// Its program is loaded. If not, [`HostEvent::Loaded`] follows.
    pub loaded: bool,
}

/// Where a process is born.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The caller's number for what it holds of one service instance across its runs.
    pub slot: u32,
    /// The directory of its cgroup, where it has one.
    pub tree: Option<BorrowedHandle<'a>>,
}

/// A main run's tree.
#[derive(Clone, Copy, Debug)]
pub struct TreeRef<'a> {
    /// As in the [`Place`] that it was born in.
    pub slot: u32,
    /// The directory of its cgroup, where it has one.
    pub handle: Option<BorrowedHandle<'a>>,
    /// The run's number, as in its mark.
    pub run: u64,
    /// The pid that its main process has or had, which names the session of what it left.
    pub main: u32,
    /// Processes in the same cgroup or job that are not of this tree, with all that they started: hooks and checks. What
    /// these leave behind belongs to it.
    pub others: &'a [u32],
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostEvent {
    /// A child ended and was reaped; also one that was inherited from a process that died before it.
    Exited {
        /// Which.
        pid: u32,
        /// How.
        status: ProcessStatus,
        /// When it was reaped.
        at: Mono,
    },
    /// A child that was not loaded at once has loaded its program, or failed; after a failure no `Exited` follows.
    Loaded {
        /// Which.
        pid: u32,
        /// How it went.
        outcome: Result<(), SpawnFailure>,
    },
    /// A process of [`Host::watch_process`] ended. If it was a child, its `Exited` says more.
    Gone {
        /// Which.
        pid: u32,
    },
    /// A signal could not be sent, or reached nobody; signals that are not told of were sent.
    SignalFailed {
        /// As given to [`Host::signal`] or its like, or the tree's main process.
        pid: u32,
        /// Which.
        signal: i32,
        /// Why, in plain words.
        reason: String,
    },
    /// The watched tree of this slot may have become empty.
    TreeChanged {
        /// As given to [`Host::watch_tree`].
        slot: u32,
    },
    /// The terminal, the service manager or a person wants keepwell to stop: the signal's number.
    Stop {
        /// POSIX number.
        signal: i32,
    },
    /// Somebody used a [`Host::waker`].
    Called,
    /// A watched handle.
    Ready {
        /// As given to [`Host::watch`].
        token: u64,
        /// There is something to read, or the end.
        readable: bool,
        /// There is room to write.
        writable: bool,
    },
}

/// See the module. One thread; no call waits but `wait`.
pub trait Host {
    /// Nanoseconds since boot.
    fn now(&self) -> Mono;

    /// Makes `wait` return, from any thread.
    fn waker(&self) -> Waker;

    /// How things are done here, in words.
    fn mechanisms(&self) -> Vec<String>;

    /// Starts a process that dies with this one.
    ///
    /// # Errors
    /// Names the step that failed.
    fn spawn(
        &mut self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        place: Place<'_>,
    ) -> Result<Child, SpawnFailure>;

    /// Starts a process of keepwell's own.
    ///
    /// # Errors
    /// Names the step that failed.
    fn helper(&mut self, request: &SpawnRequest, helper: Helper<'_>) -> Result<u32, SpawnFailure>;

    /// Signals a child that was not reported as ended.
    fn signal(&mut self, pid: u32, signal: i32);

    /// Signals the process group that such a child leads.
    fn signal_group(&mut self, pid: u32, signal: i32);

    /// No live process is in it, whatever the main process is.
    fn tree_is_empty(&mut self, tree: &TreeRef<'_>) -> bool;

    /// Signals every process in it.
    fn signal_tree(&mut self, tree: &TreeRef<'_>, signal: i32);

    /// Kills every process in it, as far as one call can. Processes may take a moment to be gone, and a tree that grows
    /// quickly may outrun it: ask `tree_is_empty`, and call again.
    fn kill_tree(&mut self, tree: &TreeRef<'_>);

    /// Stops its processes from being scheduled, or lets them go on.
    fn freeze_tree(&mut self, tree: &TreeRef<'_>, on: bool);

    /// From now on `TreeChanged` tells when it may have become empty. Ask whether it is after this.
    fn watch_tree(&mut self, slot: u32, tree: &TreeRef<'_>);

    /// No longer.
    fn unwatch_tree(&mut self, slot: u32);

    /// Whether a process of this slot's tree that ended in this way did so because its tree, or the host, was out of memory;
    /// each such end is told once. Where the tree has no count of its own, that of this process's own group stands in.
    /// `join`: as in the run's request.
    fn ended_for_memory(&mut self, place: Place<'_>, status: ProcessStatus, join: &[Vec<u8>]) -> bool;

    /// What is in a slot's tree, where only this process may look into it.
    fn members(&mut self, _slot: u32) -> Members {
        Members::default()
    }

    /// A slot is gone; forget what is remembered of it. Where its tree is a job, that ends what is left in it.
    fn forget(&mut self, place: Place<'_>);

    /// From now on `Gone` tells when this process, which may be nobody's child here, has ended. False where it cannot.
    fn watch_process(&mut self, pid: u32) -> bool;

    /// No longer.
    fn unwatch_process(&mut self, pid: u32);

    /// From now on `Ready` tells of this handle, with this token below 2^40, as long as it is so.
    ///
    /// # Errors
    /// When the system refuses.
    fn watch(&mut self, handle: BorrowedHandle<'_>, token: u64) -> io::Result<()>;

    /// Also, or no longer, tell when there is room to write.
    fn watch_room(&mut self, handle: BorrowedHandle<'_>, token: u64, on: bool);

    /// No longer. Before the handle is closed.
    fn unwatch(&mut self, handle: BorrowedHandle<'_>);

    /// Whether somebody waits to be accepted; `None` if this handle accepts nobody.
    fn waiting_connection(&self, handle: BorrowedHandle<'_>) -> Option<bool>;

    /// Whether clients connect by it.
    fn is_endpoint(&self, handle: BorrowedHandle<'_>) -> bool {
        self.waiting_connection(handle).is_some()
    }

    /// Waits until something happens or the deadline has passed, and puts what it was into `events` (which is emptied).
    ///
    /// # Errors
    /// When the system refuses; nothing is lost.
    fn wait(&mut self, deadline: Option<Mono>, events: &mut Vec<HostEvent>) -> io::Result<()>;

    /// Says something to the person, without ever waiting for one who does not listen.
    fn say(&mut self, text: &str);

    /// Says something to the service manager, if there is one.
    fn tell_manager(&mut self, state: &str);

    /// Gives memory that is no longer needed back to the system.
    fn give_back(&mut self) {}
}
