//! Waiting for several things at once, for threads without async: handles, a deadline, a call from another thread, and
//! steps of the wall clock. Never wakes up for anything else.
//!
//! One completion port, to which everything is posted: calls, words of jobs, and through the system's pool of waits (which
//! serves any number of handles) the handles. A pipe that several processes share can be bound to no port of one of them,
//! so a pipe is waited for by a read of zero bytes whose end the waiting thread is told while it waits (alertably), without
//! the pool and its threads. So a waiter belongs to the thread that waits.
#![expect(unsafe_code, reason = "completion ports and waits of the pool have no safe form")]

use std::collections::BTreeMap;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keepwell_core::Mono;
use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, WAIT_IO_COMPLETION, WAIT_TIMEOUT};
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED_ENTRY, PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::Threading::INFINITE;

use self::watched::{State, Watched};
use super::clock;
use super::ipc::BorrowedHandle;
use super::sys::{self, check, owned};

mod watched;

/// The port that everything is posted to.
#[derive(Debug)]
pub(crate) struct Port {
    handle: OwnedHandle,
    called: AtomicBool,
    /// Pipes of which the thread was told that their reads are done.
    arrived: Mutex<Vec<usize>>,
}

impl Port {
    /// Makes the waiter return with this key and number.
    pub(crate) fn post(&self, key: usize, number: u32) {
        // SAFETY: an open port; the overlapped pointer is only passed through.
        unsafe { PostQueuedCompletionStatus(self.handle.as_raw_handle(), number, key, ptr::null()) };
    }

    pub(crate) fn raw(&self) -> HANDLE {
        self.handle.as_raw_handle()
    }

    fn arrived(&self) -> MutexGuard<'_, Vec<usize>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) {
        if !self.called.swap(true, Ordering::AcqRel) {
            self.post(CALLED, 0);
        }
    }
}

/// Wakes a waiter from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Port>);

impl Waker {
    /// Makes the waiter return; many calls before it does are one.
    pub fn wake(&self) {
        self.0.call();
    }
}

/// What to wait for on a handle. Level-triggered: it is told again as long as it is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Something to read, or the end; of what is no pipe: that it is signalled.
    Read,
    /// Also room to write.
    ReadWrite,
}

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// A handle.
    Ready {
        /// As given to [`Waiter::add`].
        token: u64,
        /// There is something to read, or the end.
        readable: bool,
        /// There is room to write, or writing fails at once.
        writable: bool,
        /// Nobody is at the other end any more; what is left can still be read.
        closed: bool,
    },
    /// A [`Waker`].
    Called,
    /// The deadline has passed.
    Deadline,
    /// The wall clock was set; only after [`Waiter::watch_clock`].
    ClockStepped,
}

/// Keys at the port. Handles have numbers from 1 on; whoever posts by itself sets the highest bit.
const CALLED: usize = 0;
pub(crate) const POSTED: usize = 1 << 63;
/// Told at once; what is left over comes with the next wait.
const BATCH: usize = 64;
/// A wall clock that runs ahead of the time since boot by more than this was set.
const STEP: Duration = Duration::from_secs(1);

/// Something that somebody posted to the port: a job, the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Posted {
    /// Without the highest bit.
    pub(crate) key: usize,
    /// A job's message, a console's event.
    pub(crate) number: u32,
}

/// A set of things to wait for.
#[derive(Debug)]
pub struct Waiter {
    port: Arc<Port>,
    set: Mutex<Set>,
    posted: Vec<Posted>,
    /// Wall time at the boot, as it was when somebody wanted to know of steps.
    clock: Option<i128>,
}

#[derive(Debug, Default)]
struct Set {
    by_handle: BTreeMap<usize, usize>,
    watched: BTreeMap<usize, Watched>,
    /// Those that must be looked at before the next wait.
    unarmed: Vec<usize>,
    last: usize,
}

impl Set {
    /// There was news of this number.
    fn look_at(&mut self, id: usize, wakes: &mut Vec<Wake>) {
        // Without an entry: removed since.
        let Some(watched) = self.watched.get_mut(&id) else { return };
        if !watched.disarm() {
            return;
        }
        match watched.look() {
            State::Ready(wake) => {
                wakes.push(wake);
                self.unarmed.push(id);
            }
            State::Armed => {}
        }
    }
}

impl Waiter {
    /// An empty one.
    ///
    /// # Errors
    /// When the host is out of memory.
    pub fn new() -> io::Result<Waiter> {
        // SAFETY: no pointers; a handle that is returned is new and ours.
        let handle = unsafe { owned(CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, 1))? };
        let port = Arc::new(Port { handle, called: AtomicBool::new(false), arrived: Mutex::default() });
        Ok(Waiter { port, set: Mutex::default(), posted: Vec::new(), clock: None })
    }

    /// For other threads.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.port))
    }

    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// What was posted since this was last asked.
    pub(crate) fn take_posted(&mut self) -> Vec<Posted> {
        std::mem::take(&mut self.posted)
    }

    /// From now on also tells of steps of the wall clock, when it wakes up for something: the system tells of them only
    /// those who have a window.
    ///
    /// # Errors
    /// Never here.
    pub fn watch_clock(&mut self) -> io::Result<()> {
        self.clock = Some(wall_at_boot());
        Ok(())
    }

    /// Waits for a handle too, until it is removed.
    ///
    /// # Errors
    /// When it is there already, or can be waited for by nobody.
    pub fn add(&self, handle: BorrowedHandle<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mut set = self.set();
        let key = handle.raw() as usize;
        if set.by_handle.contains_key(&key) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = set.last + 1;
        let watched = Watched::new(Arc::clone(&self.port), id, handle, token, interest)?;
        set.last = id;
        set.by_handle.insert(key, id);
        set.watched.insert(id, watched);
        set.unarmed.push(id);
        Ok(())
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    /// When it is not there.
    pub fn modify(&self, handle: BorrowedHandle<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mut set = self.set();
        let id = set.by_handle.get(&(handle.raw() as usize)).copied().ok_or(io::ErrorKind::NotFound)?;
        if let Some(watched) = set.watched.get_mut(&id) {
            watched.change(token, interest);
        }
        if !set.unarmed.contains(&id) {
            set.unarmed.push(id);
        }
        Ok(())
    }

    /// Waits for it no longer.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, handle: BorrowedHandle<'_>) -> io::Result<()> {
        let mut set = self.set();
        let id = set.by_handle.remove(&(handle.raw() as usize)).ok_or(io::ErrorKind::NotFound)?;
        set.unarmed.retain(|other| *other != id);
        let watched = set.watched.remove(&id);
        // Its end waits for the pool, which may be posting.
        drop(set);
        drop(watched);
        Ok(())
    }

    /// Waits until something happens and puts what it was into `wakes`, after clearing it. Without a deadline it may
    /// wait for ever.
    ///
    /// # Errors
    /// When the system refuses; nothing is lost.
    pub fn wait(&mut self, deadline: Option<Mono>, wakes: &mut Vec<Wake>) -> io::Result<()> {
        wakes.clear();
        loop {
            self.look(wakes);
            let now = clock::mono();
            let left = deadline.map(|d| d.since(now));
            let timeout = match left {
                _ if !wakes.is_empty() || !self.port.arrived().is_empty() => 0,
                // Never early: what is left of a millisecond is waited for, too.
                Some(left) => u32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(INFINITE - 1),
                None => INFINITE,
            };
            self.collect(timeout, wakes)?;
            if deadline.is_some_and(|d| d <= clock::mono()) {
                wakes.push(Wake::Deadline);
            }
            self.look_at_clock(wakes);
            if !wakes.is_empty() || !self.posted.is_empty() {
                return Ok(());
            }
        }
    }

    /// The same without waiting: what is ready now.
    ///
    /// # Errors
    /// When the system refuses; nothing is lost.
    pub fn poll(&mut self, wakes: &mut Vec<Wake>) -> io::Result<()> {
        wakes.clear();
        self.look(wakes);
        self.collect(0, wakes)?;
        self.look_at_clock(wakes);
        Ok(())
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of all that was told before or is new and is ready; the others are armed.
    fn look(&self, wakes: &mut Vec<Wake>) {
        let mut set = self.set();
        let Set { watched, unarmed, .. } = &mut *set;
        unarmed.retain(|id| {
            let Some(watched) = watched.get_mut(id) else { return false };
            match watched.look() {
                State::Ready(wake) => {
                    wakes.push(wake);
                    true
                }
                State::Armed => false,
            }
        });
    }

    fn collect(&mut self, timeout: u32, wakes: &mut Vec<Wake>) -> io::Result<()> {
        let mut entries = [OVERLAPPED_ENTRY::default(); BATCH];
        let mut count = 0;
        // SAFETY: `entries` has room for BATCH entries; `count` is filled by the call.
        let answer = unsafe {
            let (port, room) = (self.port.raw(), BATCH as u32);
            GetQueuedCompletionStatusEx(port, entries.as_mut_ptr(), room, &raw mut count, timeout, 1)
        };
        if let Err(e) = check(answer) {
            if !sys::is(&e, WAIT_TIMEOUT) && !sys::is(&e, WAIT_IO_COMPLETION) {
                return Err(e);
            }
            count = 0;
        }
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.iter().take(count as usize) {
            let key = entry.lpCompletionKey;
            if key == CALLED {
                self.port.called.store(false, Ordering::Release);
                wakes.push(Wake::Called);
            } else if key & POSTED != 0 {
                let number = entry.dwNumberOfBytesTransferred;
                self.posted.push(Posted { key: key & !POSTED, number });
            } else {
                set.look_at(key, wakes);
            }
        }
        let arrived = std::mem::take(&mut *self.port.arrived());
        for key in arrived {
            set.look_at(key, wakes);
        }
        Ok(())
    }

    fn look_at_clock(&mut self, wakes: &mut Vec<Wake>) {
        let Some(before) = &mut self.clock else { return };
        let now = wall_at_boot();
        if now.abs_diff(*before) > STEP.as_nanos() {
            *before = now;
            wakes.push(Wake::ClockStepped);
        }
    }
}

/// Nanoseconds since 1970 at the boot, as the clocks are now.
fn wall_at_boot() -> i128 {
    let now = clock::now();
    i128::from(now.wall.0) * 1_000_000 - i128::from(now.mono.0)
}
