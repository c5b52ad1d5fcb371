//! What a child does between its birth and its program. It may share its parent's memory, so it allocates nothing, takes
//! no lock, never unwinds, and changes credentials by bare system calls (the C library would tell the parent's threads).

use std::ptr;

use libc::{c_char, c_int, c_long, c_void};

use super::Step;

#[cfg(target_pointer_width = "64")]
use libc::{SYS_setgroups as SETGROUPS, SYS_setresgid as SETRESGID, SYS_setresuid as SETRESUID};
#[cfg(target_pointer_width = "32")]
use libc::{SYS_setgroups32 as SETGROUPS, SYS_setresgid32 as SETRESGID, SYS_setresuid32 as SETRESUID};

/// Everything that the child needs, made ready by the parent. Pointers live until the child has loaded its program.
pub(super) struct Plan {
    pub(super) program: *const c_char,
    /// Ends with a null, as `envp` and `joins` do.
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    /// `cgroup.procs` files of version 1 to move into.
    pub(super) joins: *const *const c_char,
    /// Empty: stay.
    pub(super) cwd: *const c_char,
    /// An open program file to load instead of `program`, or -1.
    pub(super) executable: c_int,
    pub(super) stdin: c_int,
    pub(super) stdout: c_int,
    pub(super) stderr: c_int,
    /// Becomes descriptor 3 and stays open, or -1.
    pub(super) channel: c_int,
    /// An open `cgroup.procs` of version 2 to move into, or -1.
    pub(super) tree: c_int,
    /// Lead a session of its own.
    pub(super) session: bool,
    /// Die with the parent.
    pub(super) parent_death: bool,
    /// The descriptor table is the parent's: leave it first, keeping what is below this.
    pub(super) unshare_from: Option<c_int>,
    /// Where to tell a failure that the parent does not wait for, or -1.
    pub(super) status: c_int,
    pub(super) parent: libc::pid_t,
    /// Bit n - 1: signal n is ignored by the parent.
    pub(super) ignored: u64,
    pub(super) oom: Option<OomText>,
    pub(super) nice: Option<c_int>,
    pub(super) affinity: Option<libc::cpu_set_t>,
    pub(super) umask: Option<libc::mode_t>,
    pub(super) rlimits: *const (c_int, libc::rlimit),
    pub(super) rlimits_len: usize,
    pub(super) identity: Option<(libc::uid_t, libc::gid_t)>,
    pub(super) groups: *const libc::gid_t,
    pub(super) groups_len: usize,
    /// Bit n: capability n is kept; all others are dropped.
    pub(super) capabilities: Option<u64>,
    pub(super) last_capability: u32,
    pub(super) no_new_privileges: bool,
    /// The child has run; read by a parent that waited.
    pub(super) begun: bool,
    /// What went wrong; read by a parent that waited.
    pub(super) failure: Option<(Step, c_int)>,
}

/// `-1000` to `1000` in digits.
#[derive(Clone, Copy)]
pub(super) struct OomText {
    pub(super) bytes: [u8; 6],
    pub(super) len: usize,
}

type Done = Result<(), (Step, c_int)>;

/// The child of a parent that waits in shared memory, and of one that goes on: only `Plan::status` tells them apart.
pub(super) extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: the parent passes its plan, which lives until this child has loaded its program or ended, and does not
    // touch it meanwhile (or this is a copy of its memory).
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    plan.begun = true;
    if let Err(failure) = become_program(plan) {
        plan.failure = Some(failure);
        tell(plan.status, failure);
    }
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Whether a child can leave a descriptor table that it shares; for the probe.
pub(super) extern "C" fn try_unshare(answer: *mut c_void) -> c_int {
    // SAFETY: the parent passes a c_int that outlives this child.
    let answer = unsafe { &mut *answer.cast::<c_int>() };
    // Closes nothing: no descriptor has such a number.
    *answer = unshare_files(c_int::MAX - 1).map_or_else(|e| e, |()| 0);
    // SAFETY: as above.
    unsafe { libc::_exit(0) }
}

fn become_program(plan: &Plan) -> Done {
    if let Some(first) = plan.unshare_from {
        unshare_files(first).map_err(|e| (Step::Files, e))?;
    }
    default_signals(plan.ignored);
    if plan.session {
        // SAFETY: no pointers. A fresh child leads no group, so it can always lead a session.
        check(Step::Session, unsafe { libc::setsid() })?;
    }
    for (from, to) in [(plan.stdin, 0), (plan.stdout, 1), (plan.stderr, 2)] {
        // SAFETY: no pointers; `to` loses FD_CLOEXEC.
        check(Step::Files, unsafe { libc::dup2(from, to) })?;
    }
    join(plan)?;
    give_channel(plan)?;
    resources(plan)?;
    credentials(plan)?;
    // SAFETY: `cwd` is a C string that lives.
    if unsafe { *plan.cwd } != 0 {
        // SAFETY: as above. After the change of user: it is that user who must be able to enter.
        check(Step::Chdir, unsafe { libc::chdir(plan.cwd) })?;
    }
    if plan.no_new_privileges {
        set_no_new_privileges()?;
    }
    if plan.parent_death {
        die_with(plan.parent)?;
    }
    // SAFETY: an empty set is made before it is used; then the program is loaded from strings and arrays that live and
    // end as execve(2) wants.
    unsafe {
        let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        if plan.executable >= 0 {
            let (folder, path) = (c_long::from(plan.executable), c"".as_ptr());
            libc::syscall(
                libc::SYS_execveat,
                folder,
                path,
                plan.argv,
                plan.envp,
                libc::AT_EMPTY_PATH as c_long,
            );
        } else {
            libc::execve(plan.program, plan.argv, plan.envp);
        }
    }
    Err((Step::Exec, errno()))
}

fn die_with(parent: libc::pid_t) -> Done {
    // SAFETY: no pointers. A change of credentials clears it, so it comes last.
    check(Step::ParentDeath, unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_long, 0, 0, 0)
    })?;
    // SAFETY: no pointers.
    if unsafe { libc::getppid() } != parent {
        // The parent died before it could be told to kill us: nobody is left to hear of it.
        return Err((Step::ParentDeath, libc::ESRCH));
    }
    Ok(())
}

/// Last of the descriptors: number 3 may be one of those that the others came from.
fn give_channel(plan: &Plan) -> Done {
    let number = super::CHANNEL_NUMBER.cast_signed();
    if plan.channel == number {
        // SAFETY: no pointers; it is where it belongs and only loses FD_CLOEXEC.
        return check(Step::Files, unsafe { libc::fcntl(number, libc::F_SETFD, 0) });
    }
    if plan.channel >= 0 {
        // SAFETY: no pointers.
        check(Step::Files, unsafe { libc::dup2(plan.channel, number) })?;
    }
    Ok(())
}

fn unshare_files(first: c_int) -> Result<(), c_int> {
    // SAFETY: no pointers. The kernel copies only what is below `first`: that is what makes it cheap.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as c_long,
            u32::MAX as c_long,
            libc::CLOSE_RANGE_UNSHARE as c_long,
        )
    };
    if answer < 0 { Err(errno()) } else { Ok(()) }
}

/// A program starts with what the system gives, not with what its guardian happens to ignore. By bare calls: the C library
/// refuses the numbers that it keeps for itself, which may be ignored all the same.
fn default_signals(ignored: u64) {
    // Zeroes are the kernel's SIG_DFL with an empty mask, whatever the order of its fields.
    let action = [0_u64; 4];
    for signal in (1..=64).filter(|s| ignored & (1 << (s - 1)) != 0) {
        // SAFETY: `action` is as large as the kernel's struct on every processor; the old one is not asked for.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal as c_long,
                action.as_ptr(),
                ptr::null::<u64>(),
                8 as c_long,
            )
        };
    }
}

fn join(plan: &Plan) -> Done {
    if plan.tree >= 0 {
        write_all(plan.tree, b"0").map_err(|e| (Step::Cgroup, e))?;
    }
    let mut next = plan.joins;
    // SAFETY: an array of C strings that ends with a null.
    while let Some(path) = unsafe { next.as_ref() }.filter(|p| !p.is_null()) {
        write_file(*path, b"0").map_err(|e| (Step::Join, e))?;
        // SAFETY: the null was not reached.
        next = unsafe { next.add(1) };
    }
    Ok(())
}

fn resources(plan: &Plan) -> Done {
    if let Some(text) = &plan.oom {
        let digits = text.bytes.get(..text.len).unwrap_or_default();
        write_file(c"/proc/self/oom_score_adj".as_ptr(), digits).map_err(|e| (Step::OomScore, e))?;
    }
    if let Some(nice) = plan.nice {
        // SAFETY: no pointers.
        check(Step::Nice, unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) })?;
    }
    if let Some(set) = &plan.affinity {
        // SAFETY: the set lives through the call.
        check(Step::Affinity, unsafe { libc::sched_setaffinity(0, size_of_val(set), set) })?;
    }
    for i in 0..plan.rlimits_len {
        // SAFETY: the array has that many entries.
        let (resource, limit) = unsafe { &*plan.rlimits.add(i) };
        // SAFETY: `limit` lives through the call.
        check(Step::Limits, unsafe { libc::setrlimit(*resource as _, limit) })?;
    }
    if let Some(mask) = plan.umask {
        // SAFETY: no pointers; cannot fail.
        unsafe { libc::umask(mask) };
    }
    Ok(())
}

fn credentials(plan: &Plan) -> Done {
    let mut sealed = true;
    if let Some(kept) = plan.capabilities {
        sealed = drop_bounding(kept, plan.last_capability);
        if plan.identity.is_some() {
            // SAFETY: no pointers. Without it the change of user would clear the permitted set.
            check(Step::Capabilities, unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1 as c_long, 0, 0, 0) })?;
        }
    }
    if let Some((uid, gid)) = plan.identity {
        // SAFETY: bare calls; `groups` has that many entries.
        unsafe {
            check_long(Step::Groups, libc::syscall(SETGROUPS, plan.groups_len, plan.groups))?;
            check_long(Step::Group, libc::syscall(SETRESGID, gid, gid, gid))?;
            check_long(Step::User, libc::syscall(SETRESUID, uid, uid, uid))?;
        }
    }
    if let Some(kept) = plan.capabilities {
        set_capabilities(kept, plan.last_capability)?;
    }
    if !sealed {
        // The bounding set could not be cut; then no program may gain anything by being loaded.
        set_no_new_privileges()?;
    }
    Ok(())
}

/// False if this process may not cut its bounding set.
fn drop_bounding(kept: u64, last: u32) -> bool {
    for capability in (0..=last.min(63)).filter(|c| kept & (1 << c) == 0) {
        // SAFETY: no pointers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_long::from(capability as i32), 0, 0, 0) } < 0 {
            return false;
        }
    }
    true
}

fn set_capabilities(kept: u64, last: u32) -> Done {
    /// `_LINUX_CAPABILITY_VERSION_3`, capget(2).
    const VERSION: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION, 0];
    let (low, high) = (kept as u32, (kept >> 32) as u32);
    let sets: [u32; 6] = [low, low, low, high, high, high];
    // SAFETY: header and data as capset(2) lays them out: effective, permitted, inheritable, twice.
    check_long(Step::Capabilities, unsafe {
        libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr())
    })?;
    for capability in (0..=last.min(63)).filter(|c| kept & (1 << c) != 0) {
        // SAFETY: no pointers.
        check(Step::Capabilities, unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE as c_long,
                c_long::from(capability as i32),
                0,
                0,
            )
        })?;
    }
    Ok(())
}

fn set_no_new_privileges() -> Done {
    // SAFETY: no pointers.
    check(Step::NoNewPrivileges, unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_long, 0, 0, 0) })
}

fn write_file(path: *const c_char, text: &[u8]) -> Result<(), c_int> {
    // SAFETY: `path` is a C string that lives.
    let fd = unsafe { libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(errno());
    }
    let done = write_all(fd, text);
    // SAFETY: opened above.
    unsafe { libc::close(fd) };
    done
}

/// The files of the kernel take a value in one piece.
fn write_all(fd: c_int, text: &[u8]) -> Result<(), c_int> {
    // SAFETY: `text` lives through the call.
    if unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) } < 0 { Err(errno()) } else { Ok(()) }
}

fn tell(status: c_int, (step, errno): (Step, c_int)) {
    if status >= 0 {
        let message = [step as i32, errno];
        // SAFETY: `message` lives through the call; eight bytes into a pipe are all or nothing.
        unsafe { libc::write(status, message.as_ptr().cast(), size_of_val(&message)) };
    }
}

fn check(step: Step, answer: c_int) -> Done {
    if answer < 0 { Err((step, errno())) } else { Ok(()) }
}

fn check_long(step: Step, answer: c_long) -> Done {
    if answer < 0 { Err((step, errno())) } else { Ok(()) }
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}
