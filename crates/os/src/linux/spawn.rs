//! Starts processes, each in a session of its own with nothing inherited but what it is given. It never waits for them
//! and never chooses what to start.
//!
//! The cost of a start is the copy of the parent's memory map and descriptors, so the child borrows both until it has
//! loaded its program (`CLONE_VM | CLONE_VFORK | CLONE_FILES`, then `close_range(CLOSE_RANGE_UNSHARE)`), and is born in its
//! cgroup (`CLONE_INTO_CGROUP`). What the kernel or a seccomp filter refuses is found out once, by trying, and done
//! another way. A child that must first move itself into a cgroup, which takes 10 ms and more, is forked behind a
//! [`Gate`], so that its parent need not wait.
#![expect(unsafe_code, reason = "clone, exec and what lies between have no safe form")]

mod child;
mod clone;
mod prepare;
mod step;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, c_void};

use self::child::{OomText, Plan};
use self::clone::{Entry, Stack};
use self::prepare::{Masked, Pads, Pointers, Text};
use super::limits;
use crate::types::{Processors, Resource, Rlimit, SpawnRequest};

pub use self::step::Faults;
pub use crate::step::{SpawnFailure, Step};

/// Where a child's output goes.
#[derive(Clone, Copy, Debug)]
pub struct Stdio<'a> {
    /// Descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// Descriptor 2.
    pub stderr: BorrowedFd<'a>,
}

/// A child that was made.
#[derive(Debug)]
pub enum Started {
    /// Its program is loaded.
    Loaded(u32),
    /// It is still on its way; its gate tells.
    Gated(u32, Gate),
}

impl Started {
    /// The child's pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self {
            Started::Loaded(pid) | Started::Gated(pid, _) => *pid,
        }
    }
}

/// Tells when a child has loaded its program: it becomes readable.
#[derive(Debug)]
pub struct Gate(OwnedFd);

impl Gate {
    /// `None`: not yet.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<(), SpawnFailure>> {
        let mut message = [0_i32; 2];
        // SAFETY: `message` has the eight bytes that a child writes.
        let n = unsafe { libc::read(self.0.as_raw_fd(), message.as_mut_ptr().cast(), size_of_val(&message)) };
        match n {
            0 => Some(Ok(())),
            8 => {
                let [step, errno] = message;
                let step = usize::try_from(step).ok().and_then(|i| step::STEPS.get(i).copied());
                Some(Err(SpawnFailure { step: step.unwrap_or(Step::Fork), errno }))
            }
            _ => None,
        }
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A process of keepwell's own, started from its open program file. It may outlive this one.
#[derive(Clone, Copy, Debug)]
pub struct Helper<'a> {
    /// The program, opened once: its file may have been replaced since.
    pub program: BorrowedFd<'a>,
    /// `None`: it shares this process's session, terminal and output.
    pub detached: Option<Detached<'a>>,
}

/// How a helper lives that has nothing to do with the terminal.
#[derive(Clone, Copy, Debug)]
pub struct Detached<'a> {
    /// Becomes descriptor 3, open across exec.
    pub channel: BorrowedFd<'a>,
    /// Descriptor 2.
    pub stderr: BorrowedFd<'a>,
}

/// The error number of a start that keepwell itself refused.
pub const CANCELED: i32 = libc::ECANCELED;

/// The descriptor under which a detached helper finds its channel.
pub const CHANNEL_NUMBER: u32 = 3;

/// Which ways the host offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Means {
    clone3: bool,
    clone: bool,
    into_cgroup: bool,
    share_files: bool,
}

/// Starts processes. One a thread: a child dies with the thread that made it.
#[derive(Debug)]
pub struct Spawner {
    means: Means,
    stack: Stack,
    pads: Pads,
    text: Text,
    ignored: u64,
    last_capability: u32,
    nofile: Option<Rlimit>,
    oom: Option<i32>,
    user: (u32, u32),
}

impl Spawner {
    /// Finds out what the host offers. Children get `nofile` and `oom_score_adj` unless their request says otherwise: what
    /// this process had before it changed its own. Signals that are ignored now are reset in children.
    ///
    /// # Errors
    /// When the host is out of memory or descriptors.
    pub fn new(faults: Faults, nofile: Option<Rlimit>, oom_score_adj: Option<i32>) -> io::Result<Spawner> {
        let pads = Pads::new()?;
        let stack = Stack::new()?;
        let means = Means::probe(&stack, &pads, faults);
        // SAFETY: no pointers; cannot fail.
        let user = unsafe { (libc::geteuid(), libc::getegid()) };
        let (last_capability, ignored) = (last_capability(), ignored_signals());
        let text = Text::default();
        Ok(Spawner { means, stack, pads, text, ignored, last_capability, nofile, oom: oom_score_adj, user })
    }

    /// Starts a process with stdin from nowhere. It dies with this thread.
    ///
    /// # Errors
    /// Names the step that failed; nothing is left of it.
    pub fn spawn(
        &mut self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        tree: Option<BorrowedFd<'_>>,
    ) -> Result<Started, SpawnFailure> {
        self.spawn_by(request, stdio, tree, false)
    }

    /// The same behind a gate, whatever the host offers.
    ///
    /// # Errors
    /// As `spawn`.
    pub fn spawn_gated(
        &mut self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        tree: Option<BorrowedFd<'_>>,
    ) -> Result<Started, SpawnFailure> {
        self.spawn_by(request, stdio, tree, true)
    }

    fn spawn_by(
        &mut self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        tree: Option<BorrowedFd<'_>>,
        gated: bool,
    ) -> Result<Started, SpawnFailure> {
        let pointers = self.text.set(request)?;
        let limits = self.limits(request);
        let mut plan = self.plan(request, pointers, &limits);
        plan.stdin = self.pads.null.as_raw_fd();
        let borrowed = self.means.clone3 || self.means.clone;
        let gated = gated
            || !request.join.is_empty()
            || !borrowed
            || (tree.is_some() && !(self.means.into_cgroup && self.means.clone3));
        if gated {
            let procs = tree.map(open_procs).transpose()?;
            plan.tree = procs.as_ref().map_or(-1, AsRawFd::as_raw_fd);
            (plan.stdout, plan.stderr) = (stdio.stdout.as_raw_fd(), stdio.stderr.as_raw_fd());
            return gate(&mut plan);
        }
        self.pads.load(stdio)?;
        (plan.stdout, plan.stderr) = (self.pads.stdout.as_raw_fd(), self.pads.stderr.as_raw_fd());
        plan.unshare_from = self.means.share_files.then_some(self.pads.end);
        let answer = self.borrow(tree, self.means.share_files, &mut plan);
        self.pads.unload();
        finish(answer, &plan, tree.is_some()).map(Started::Loaded)
    }

    /// Starts a process of keepwell's own with the request's `argv` and `env`.
    ///
    /// # Errors
    /// As `spawn`.
    pub fn helper(&mut self, request: &SpawnRequest, helper: Helper<'_>) -> Result<u32, SpawnFailure> {
        let pointers = self.text.set(request)?;
        let limits = self.limits(request);
        let mut plan = self.plan(request, pointers, &limits);
        plan.executable = helper.program.as_raw_fd();
        plan.parent_death = false;
        match helper.detached {
            Some(detached) => {
                let null = self.pads.null.as_raw_fd();
                (plan.stdin, plan.stdout, plan.stderr) = (null, null, detached.stderr.as_raw_fd());
                plan.channel = detached.channel.as_raw_fd();
            }
            None => (plan.stdin, plan.stdout, plan.stderr, plan.session) = (0, 1, 2, false),
        }
        if self.means.clone3 || self.means.clone {
            let answer = self.borrow(None, false, &mut plan);
            return finish(answer, &plan, false);
        }
        let started = gate(&mut plan)?;
        let Started::Gated(pid, gate) = started else { return Ok(started.pid()) };
        wait_readable(gate.as_fd());
        match gate.outcome() {
            Some(Err(failure)) => {
                bury(pid);
                Err(failure)
            }
            Some(Ok(())) | None => Ok(pid),
        }
    }

    /// How processes are started here, in words.
    #[must_use]
    pub fn mechanisms(&self) -> Vec<String> {
        let means = self.means;
        let make = match (means.clone3, means.clone, means.into_cgroup) {
            (true, _, true) => "clone3, into a cgroup where there is one",
            (true, _, false) => "clone3",
            (false, true, _) => "clone",
            (false, false, _) => "fork",
        };
        let files = if means.share_files { "borrowed (close_range)" } else { "copied" };
        vec![format!("spawn: {make}"), format!("descriptors: {files}")]
    }

    /// `setrlimit` pairs of a request, with the descriptor limit that children get by default.
    fn limits(&self, request: &SpawnRequest) -> Vec<(c_int, libc::rlimit)> {
        let given = request.rlimits.iter();
        let own = given.clone().any(|l| l.resource == Resource::Nofile);
        self.nofile.iter().filter(|_| !own).chain(given).map(limits::raw).collect()
    }

    fn plan(&self, request: &SpawnRequest, pointers: Pointers, limits: &[(c_int, libc::rlimit)]) -> Plan {
        let identity = request.identity.as_deref();
        let identity = identity.filter(|i| self.user.0 == 0 || (i.uid, i.gid) != self.user);
        let groups = identity.map_or(&[][..], |i| &i.groups);
        let bits = |set: &[u8]| set.iter().filter(|c| **c < 64).fold(0, |all, c| all | 1 << c);
        Plan {
            program: pointers.program,
            argv: pointers.argv,
            envp: pointers.envp,
            joins: pointers.joins,
            cwd: pointers.cwd,
            executable: -1,
            stdin: -1,
            stdout: -1,
            stderr: -1,
            channel: -1,
            tree: -1,
            session: true,
            parent_death: true,
            unshare_from: None,
            status: -1,
            parent: std::process::id().cast_signed(),
            ignored: self.ignored,
            oom: request.oom_score_adj.or(self.oom).map(oom_text),
            nice: request.nice,
            affinity: request.affinity.as_deref().map(processors),
            umask: request.umask,
            rlimits: limits.as_ptr(),
            rlimits_len: limits.len(),
            identity: identity.map(|i| (i.uid, i.gid)),
            groups: groups.as_ptr(),
            groups_len: groups.len(),
            capabilities: request.capabilities.as_deref().map(bits),
            last_capability: self.last_capability,
            no_new_privileges: request.no_new_privileges,
            begun: false,
            failure: None,
        }
    }

    /// Makes a child that borrows this process's memory; returns when it has loaded its program or failed.
    fn borrow(
        &mut self,
        tree: Option<BorrowedFd<'_>>,
        share_files: bool,
        plan: &mut Plan,
    ) -> io::Result<libc::pid_t> {
        let entry: Entry = child::child;
        let arg = ptr::from_mut(plan).cast::<c_void>();
        let _masked = Masked::new();
        if self.means.clone3 {
            let cgroup = tree.map(|t| t.as_raw_fd());
            // SAFETY: `child` keeps to the rules of a borrowed child, signals are masked, and `&mut self` guards the stack.
            let answer = unsafe { clone::clone3(&self.stack, share_files, cgroup, entry, arg) };
            match answer {
                Err(e) if e.raw_os_error() == Some(libc::ENOSYS) && tree.is_none() => {
                    self.means.clone3 = false
                }
                answer => return answer,
            }
        }
        // SAFETY: as above.
        unsafe { clone::clone(&self.stack, share_files, entry, arg) }
    }
}

impl Means {
    fn probe(stack: &Stack, pads: &Pads, faults: Faults) -> Means {
        let attempt = |fault: Option<i32>, way: &dyn Fn(*mut c_void) -> io::Result<libc::pid_t>| {
            let mut unshared: c_int = libc::ENOSYS;
            if fault.is_some() {
                return (false, unshared);
            }
            let _masked = Masked::new();
            let Ok(pid) = way(ptr::from_mut(&mut unshared).cast()) else { return (false, unshared) };
            bury(pid.cast_unsigned());
            (true, unshared)
        };
        let entry: Entry = child::try_unshare;
        // SAFETY: `try_unshare` keeps to the rules of a borrowed child, signals are masked, nobody else is on the stack.
        let by_clone3 = |arg| unsafe { clone::clone3(stack, true, None, entry, arg) };
        // SAFETY: as above.
        let by_clone = |arg| unsafe { clone::clone(stack, true, entry, arg) };
        let (clone3, mut unshared) = attempt(faults.clone3, &by_clone3);
        let clone = clone3 || {
            let (works, answer) = attempt(faults.clone, &by_clone);
            unshared = answer;
            works
        };
        // A kernel that knows the flag looks at the descriptor and finds that it is no cgroup; an older one refuses the flag.
        let into_cgroup = clone3 && faults.into_cgroup.is_none() && {
            let mut unused: c_int = 0;
            let _masked = Masked::new();
            let (null, arg) = (pads.null.as_raw_fd(), ptr::from_mut(&mut unused).cast());
            // SAFETY: as above; should it succeed after all, the child ends at once.
            let answer = unsafe { clone::clone3(stack, true, Some(null), entry, arg) };
            answer.is_err_and(|e| e.raw_os_error() == Some(libc::EBADF))
        };
        let share_files = faults.close_range.is_none() && (clone3 || clone) && unshared == 0;
        Means { clone3, clone, into_cgroup, share_files }
    }
}

/// What became of a borrowed child.
fn finish(answer: io::Result<libc::pid_t>, plan: &Plan, in_tree: bool) -> Result<u32, SpawnFailure> {
    let pid = answer.map_err(|e| {
        let errno = e.raw_os_error().unwrap_or(libc::EINVAL);
        let of_tree = [libc::EACCES, libc::EBUSY, libc::ENODEV, libc::EOPNOTSUPP, libc::EBADF, libc::EPERM];
        let step = if in_tree && of_tree.contains(&errno) { Step::Cgroup } else { Step::Fork };
        SpawnFailure { step, errno }
    })?;
    let pid = pid.cast_unsigned();
    // SAFETY: plain reads; the child that wrote through the shared memory has ended or left it.
    let (begun, failure) =
        unsafe { (ptr::read_volatile(&raw const plan.begun), ptr::read_volatile(&raw const plan.failure)) };
    let failure = if begun { failure } else { Some((Step::Birth, libc::EAGAIN)) };
    match failure {
        Some((step, errno)) => {
            bury(pid);
            Err(SpawnFailure { step, errno })
        }
        None => Ok(pid),
    }
}

/// Makes a child in the old way, with a copy of everything, and does not wait for it.
fn gate(plan: &mut Plan) -> Result<Started, SpawnFailure> {
    let failed = |errno| SpawnFailure { step: Step::Fork, errno };
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } < 0 {
        return Err(failed(last_errno()));
    }
    // SAFETY: the call succeeded, so both are open and nobody else owns them.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // Above all numbers that the child will put something onto.
    // SAFETY: no pointers.
    let status = unsafe { libc::fcntl(write.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 10) };
    if status < 0 {
        return Err(failed(last_errno()));
    }
    // SAFETY: as above. Dropped when this returns, so that the child's end of it is the last.
    let status = unsafe { OwnedFd::from_raw_fd(status) };
    plan.status = status.as_raw_fd();
    let _masked = Masked::new();
    // SAFETY: the child calls nothing but `child`, which neither allocates nor takes a lock.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child::child(ptr::from_mut(plan).cast());
    }
    if pid < 0 {
        return Err(failed(last_errno()));
    }
    Ok(Started::Gated(pid.cast_unsigned(), Gate(read)))
}

/// Opened before the child exists: the right to move into it is checked here.
fn open_procs(tree: BorrowedFd<'_>) -> Result<OwnedFd, SpawnFailure> {
    // SAFETY: a constant string and an open directory.
    let fd =
        unsafe { libc::openat(tree.as_raw_fd(), c"cgroup.procs".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(SpawnFailure { step: Step::Cgroup, errno: last_errno() });
    }
    // SAFETY: opened just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the exit status of a child that is ending, which nobody asked for.
fn bury(pid: u32) {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(pid.cast_signed(), ptr::null_mut(), 0) } < 0 && last_errno() == libc::EINTR {
    }
}

fn wait_readable(fd: BorrowedFd<'_>) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    while unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 && last_errno() == libc::EINTR {}
}

fn oom_text(value: i32) -> OomText {
    let mut text = OomText { bytes: [0; 6], len: 0 };
    for byte in value.clamp(-1000, 1000).to_string().bytes() {
        if let Some(place) = text.bytes.get_mut(text.len) {
            *place = byte;
            text.len += 1;
        }
    }
    text
}

/// 40 is the last that Linux 5.9 and later know; an older kernel says less.
fn last_capability() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    text.and_then(|t| t.trim().parse().ok()).unwrap_or(40)
}

/// Bit n - 1: signal n is ignored in this process, also those that the C library keeps for itself (proc_pid_status(5)).
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(u64::MAX)
}

fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}
/// As the kernel wants it.
fn processors(wanted: &Processors) -> libc::cpu_set_t {
    // SAFETY: plain numbers, for which all zeroes are the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for number in wanted.numbers() {
        // SAFETY: below 1024, which is the number of bits that the set has (`CPU_SETSIZE`).
        unsafe { libc::CPU_SET(usize::from(number), &mut set) };
    }
    set
}
