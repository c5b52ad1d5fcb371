//! Resource limits and the out-of-memory score of this process, and `setrlimit` pairs for others. It decides no limit.
#![expect(unsafe_code, reason = "getrlimit, setrlimit and mlockall have no safe form")]

use std::fs;
use std::io;

use libc::c_int;

use super::ipc::check;
use crate::types::{Resource, Rlimit};

/// Raises the soft limit of open files to the hard one and returns what it was, for children: many programs still choose
/// `select(2)`, or close every number up to the limit.
///
/// # Errors
/// When the system refuses; then it is as before.
pub fn raise_nofile() -> io::Result<Rlimit> {
    let before = get(Resource::Nofile)?;
    let raised = Rlimit { soft: before.hard, ..before.clone() };
    if raised != before {
        set(&raised)?;
    }
    Ok(before)
}

/// A limit of this process.
///
/// # Errors
/// When the system does not know it.
pub fn get(resource: Resource) -> io::Result<Rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is filled by the call.
    check(unsafe { libc::getrlimit(number(resource) as _, &raw mut limit) })?;
    let finite = |n: libc::rlim_t| (n != libc::RLIM_INFINITY).then_some(n);
    Ok(Rlimit { resource, soft: finite(limit.rlim_cur), hard: finite(limit.rlim_max) })
}

/// Sets a limit of this process.
///
/// # Errors
/// When it may not be set.
pub fn set(limit: &Rlimit) -> io::Result<()> {
    let (resource, values) = raw(limit);
    // SAFETY: `values` lives through the call.
    check(unsafe { libc::setrlimit(resource as _, &raw const values) })?;
    Ok(())
}

/// As the system wants it.
pub(super) fn raw(limit: &Rlimit) -> (c_int, libc::rlimit) {
    let value = |n: Option<u64>| n.unwrap_or(libc::RLIM_INFINITY);
    (number(limit.resource), libc::rlimit { rlim_cur: value(limit.soft), rlim_max: value(limit.hard) })
}

fn number(resource: Resource) -> c_int {
    let number = match resource {
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::AddressSpace => libc::RLIMIT_AS,
        Resource::Nproc => libc::RLIMIT_NPROC,
    };
    number as c_int
}

/// Marks every descriptor from 3 on to be closed when a program is loaded: what this process inherited by somebody's
/// carelessness must not reach a child.
pub fn seal_inherited() {
    let numbers = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    for number in numbers.filter_map(|e| e.file_name().to_str()?.parse::<c_int>().ok()).filter(|n| *n > 2) {
        // SAFETY: no pointers; changes a flag, or nothing if the number is closed by now.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Makes this process one of the last that the kernel ends for memory. Returns what children must be given to be as they
/// would have been; `None` where nothing was changed.
#[must_use]
pub fn lower_oom_score(to: i32) -> Option<i32> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let before = fs::read_to_string(FILE).ok()?.trim().parse().ok()?;
    (before > to && fs::write(FILE, to.to_string()).is_ok()).then_some(before)
}

/// Keeps the pages that this process touches in memory, so that it stays quick and alive when the host is short of it.
/// False where it may not: a limit on locked memory would make it run out of memory by itself.
#[must_use]
pub fn lock_memory() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is filled by the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0;
    // SAFETY: no pointers; cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !known || (limit.rlim_cur != libc::RLIM_INFINITY && !root) {
        return false;
    }
    // SAFETY: no pointers. ONFAULT: what was never touched stays unloaded.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) == 0 }
}

/// Lets pages go again: locked ones cannot be given back (madvise(2), `EINVAL`).
pub fn unlock_memory() {
    // SAFETY: no pointers; without locked pages it does nothing.
    unsafe { libc::munlockall() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_once_and_the_old_one_told() {
        let hard = get(Resource::Nofile).unwrap().hard;
        let start = Rlimit { resource: Resource::Nofile, soft: Some(200), hard };
        set(&start).unwrap();
        assert_eq!(raise_nofile().unwrap(), start);
        assert_eq!(get(Resource::Nofile).unwrap(), Rlimit { soft: hard, ..start });
    }

    #[test]
    fn infinity_is_none_both_ways() {
        let limit = Rlimit { resource: Resource::Core, soft: Some(0), hard: None };
        assert_eq!(raw(&limit).1.rlim_max, libc::RLIM_INFINITY);
        assert_eq!(raw(&limit).1.rlim_cur, 0);
    }
}
