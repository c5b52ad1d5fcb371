//! The system calls that make a child which borrows its parent's memory until it has loaded its program. Nothing here
//! knows what the child does.

use std::io;
use std::ptr;

use libc::{c_int, c_void};

/// `struct clone_args` of clone(2), first three versions in one.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Missing from libc on some targets; clone(2).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a borrowed child runs. It never returns and never unwinds.
pub(super) type Entry = extern "C" fn(*mut c_void) -> c_int;

/// Memory for a borrowed child to run on, below it a page that may not be touched.
#[derive(Debug)]
pub(super) struct Stack {
    base: *mut c_void,
    len: usize,
}

impl Stack {
    /// A debug build of the child's code needs some 6 KiB; pages that are never touched cost nothing.
    const SIZE: usize = 64 << 10;

    pub(super) fn new() -> io::Result<Stack> {
        // SAFETY: asks for fresh memory at an address of the kernel's choice.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
            libc::mmap(ptr::null_mut(), Self::SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the lowest page of the memory just mapped; stacks grow down towards it.
        unsafe { libc::mprotect(base, page_size(), libc::PROT_NONE) };
        Ok(Stack { base, len: Self::SIZE })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and no child runs on it: the parent was held until it was done with.
        unsafe { libc::munmap(self.base, self.len) };
    }
}

fn page_size() -> usize {
    // SAFETY: no pointers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// `clone3(2)` with the caller held until the child has loaded a program or ended. `cgroup`: where it is born.
///
/// # Safety
/// `entry(arg)` may only do what a vfork(2) child may: no allocation, no locks, no unwinding, no return. All signals are
/// blocked. `stack` is used by nobody else.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) unsafe fn clone3(
    stack: &Stack,
    share_files: bool,
    cgroup: Option<c_int>,
    entry: Entry,
    arg: *mut c_void,
) -> io::Result<libc::pid_t> {
    let args = CloneArgs {
        flags: borrow_flags(share_files) as u64 | cgroup.map_or(0, |_| CLONE_INTO_CGROUP),
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.base as u64,
        stack_size: stack.len as u64,
        cgroup: cgroup.map_or(0, i64::from).cast_unsigned(),
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a valid clone_args; the rest is as the caller promises.
    let answer = unsafe { enter(&raw const args, entry, arg) };
    if answer < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-answer).unwrap_or(libc::EINVAL)));
    }
    Ok(libc::pid_t::try_from(answer).unwrap_or(-1))
}

/// Other processors: as a kernel that does not know it; `clone` below does the work.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn clone3(
    _: &Stack,
    _: bool,
    _: Option<c_int>,
    _: Entry,
    _: *mut c_void,
) -> io::Result<libc::pid_t> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// The same by `clone(2)`, which knows no cgroups.
///
/// # Safety
/// As `clone3`.
pub(super) unsafe fn clone(
    stack: &Stack,
    share_files: bool,
    entry: Entry,
    arg: *mut c_void,
) -> io::Result<libc::pid_t> {
    // SAFETY: one past the mapping, where a stack that grows down begins; page-aligned.
    let top = unsafe { stack.base.byte_add(stack.len) };
    // SAFETY: as the caller promises; the C library's wrapper calls `entry` on that stack.
    let pid = unsafe { libc::clone(entry, top, borrow_flags(share_files) | libc::SIGCHLD, arg) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

fn borrow_flags(share_files: bool) -> c_int {
    libc::CLONE_VM | libc::CLONE_VFORK | if share_files { libc::CLONE_FILES } else { 0 }
}

/// The system call itself. The child must not come back through this frame, which its parent still needs, so it is sent
/// into `entry` from within.
#[cfg(target_arch = "x86_64")]
unsafe fn enter(args: *const CloneArgs, entry: Entry, arg: *mut c_void) -> i64 {
    let answer: i64;
    // SAFETY: the kernel gives the child the new stack, 16-byte aligned as a call wants it; `entry` never returns. In the
    // parent only rax, rcx and r11 change, and memory, as declared.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => answer,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") arg,
            in("r13") entry,
            out("rcx") _,
            out("r11") _,
        );
    }
    answer
}

/// The same on ARM.
#[cfg(target_arch = "aarch64")]
unsafe fn enter(args: *const CloneArgs, entry: Entry, arg: *mut c_void) -> i64 {
    let answer: i64;
    // SAFETY: as on x86-64; only x0 and memory change in the parent.
    unsafe {
        core::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            inlateout("x0") args => answer,
            in("x1") size_of::<CloneArgs>(),
            in("x8") libc::SYS_clone3,
            in("x20") arg,
            in("x21") entry,
        );
    }
    answer
}
