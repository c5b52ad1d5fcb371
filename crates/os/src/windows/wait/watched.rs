//! One handle that a waiter waits for.

use std::cell::UnsafeCell;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::{Arc, Weak};

use windows_sys::Win32::Foundation::{HANDLE, STATUS_PENDING};
use windows_sys::Win32::Storage::FileSystem::{FILE_TYPE_DISK, GetFileType, ReadFileEx};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Threading::{
    CloseThreadpoolWait, CreateThreadpoolWait, PTP_CALLBACK_INSTANCE, PTP_WAIT, SetThreadpoolWait,
    WaitForThreadpoolWaitCallbacks,
};

use super::super::ipc::BorrowedHandle;
use super::super::pipe;
use super::super::sys::{self, check};
use super::{Interest, Port, Wake};

/// See the module. It holds copies of what it waits for, so that closing the original can do no harm.
#[derive(Debug)]
pub(super) struct Watched {
    token: u64,
    interest: Interest,
    // Waits end before what they wait for is closed: fields are dropped in this order.
    kind: Kind,
    room: Option<Room>,
    handle: OwnedHandle,
    armed: bool,
}

/// What a look found.
pub(super) enum State {
    /// It is ready.
    Ready(Wake),
    /// It is not, and the port will tell when it is.
    Armed,
}

#[derive(Debug)]
enum Kind {
    Pipe(ZeroRead),
    /// An event, a process.
    Object(PoolWait),
}

/// Signalled while there is room to write.
#[derive(Debug)]
struct Room {
    port: Arc<Port>,
    id: usize,
    /// Made when there was none for the first time: pipes are seldom full, and the pool has threads only while it has waits.
    wait: Option<PoolWait>,
    event: OwnedHandle,
}

impl Watched {
    pub(super) fn new(
        port: Arc<Port>,
        id: usize,
        handle: BorrowedHandle<'_>,
        token: u64,
        interest: Interest,
    ) -> io::Result<Watched> {
        // SAFETY: asks about an open handle.
        if unsafe { GetFileType(handle.raw()) } == FILE_TYPE_DISK {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file is always ready"));
        }
        let copy = handle.try_clone_to_owned()?;
        let room = match handle.room() {
            Some(room) => {
                let event = sys::duplicate(room, false)?;
                Some(Room { port: Arc::clone(&port), id, wait: None, event })
            }
            None => None,
        };
        let kind = if pipe::is_pipe(handle.raw()) {
            Kind::Pipe(ZeroRead::new(&port, id))
        } else {
            Kind::Object(PoolWait::new(port, id)?)
        };
        Ok(Watched { token, interest, kind, room, handle: copy, armed: false })
    }

    pub(super) fn change(&mut self, token: u64, interest: Interest) {
        (self.token, self.interest) = (token, interest);
        self.armed = false;
    }

    /// The port told of it. False: it was not waited for any more.
    pub(super) fn disarm(&mut self) -> bool {
        std::mem::take(&mut self.armed)
    }

    /// Whether it is ready; if not, the port will tell.
    pub(super) fn look(&mut self) -> State {
        let mut closed = false;
        for _ in 0..2 {
            if let Some(wake) = self.ready() {
                return State::Ready(wake);
            }
            closed = !self.arm();
            if self.armed {
                return State::Armed;
            }
        }
        // What cannot be waited for is told, so that whoever reads it learns why.
        State::Ready(Wake::Ready { token: self.token, readable: true, writable: false, closed })
    }

    fn ready(&self) -> Option<Wake> {
        let (readable, closed) = match &self.kind {
            Kind::Pipe(_) => match pipe::peek(self.handle.as_raw_handle()) {
                Ok(n) => (n > 0, false),
                Err(_) => (true, true),
            },
            Kind::Object(_) => (sys::is_signalled(&self.handle), false),
        };
        let room = self.room.as_ref().is_none_or(|room| sys::is_signalled(&room.event));
        let writable = self.interest == Interest::ReadWrite && (room || closed);
        let ready = readable || writable;
        ready.then_some(Wake::Ready { token: self.token, readable, writable, closed })
    }

    /// False: it cannot be waited for. It may be ready by now, and then it is not armed.
    fn arm(&mut self) -> bool {
        match &self.kind {
            Kind::Pipe(read) => match read.start(self.handle.as_raw_handle()) {
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            },
            Kind::Object(wait) => wait.set(self.handle.as_raw_handle()),
        }
        if self.interest == Interest::ReadWrite
            && let Some(room) = &mut self.room
            && room.arm().is_err()
        {
            return false;
        }
        self.armed = true;
        true
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Kind::Pipe(read) = &self.kind {
            read.cancel(self.handle.as_raw_handle());
        }
    }
}

impl Room {
    fn arm(&mut self) -> io::Result<()> {
        let wait = match &self.wait {
            Some(wait) => wait,
            None => self.wait.insert(PoolWait::new(Arc::clone(&self.port), self.id)?),
        };
        wait.set(self.event.as_raw_handle());
        Ok(())
    }
}

/// A read of zero bytes: it is done when there is something to read, and takes nothing. The thread that has started it is told,
/// while it waits, so no other thread is needed. The system keeps a share of it from each start until it has told.
#[derive(Debug)]
struct ZeroRead(Arc<Read>);

/// See `ZeroRead`.
#[repr(C)]
struct Read {
    /// First, since the system gives its address back.
    overlapped: UnsafeCell<OVERLAPPED>,
    port: Weak<Port>,
    id: usize,
}

// SAFETY: of what other threads do, only the system writes `overlapped`, and only one field of it is read meanwhile, as a
// volatile one.
unsafe impl Send for Read {}
// SAFETY: as above.
unsafe impl Sync for Read {}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}

impl Read {
    fn under_way(&self) -> bool {
        // SAFETY: the system writes the field once, when the read is done.
        let state = unsafe { ptr::read_volatile(&raw const (*self.overlapped.get()).Internal) };
        state == STATUS_PENDING as usize
    }
}

impl ZeroRead {
    fn new(port: &Arc<Port>, id: usize) -> ZeroRead {
        let overlapped = UnsafeCell::new(OVERLAPPED::default());
        ZeroRead(Arc::new(Read { overlapped, port: Arc::downgrade(port), id }))
    }

    /// Whether it is under way. False: it was done at once.
    fn start(&self, pipe: HANDLE) -> io::Result<bool> {
        if self.0.under_way() {
            return Ok(true);
        }
        let share = Arc::into_raw(Arc::clone(&self.0));
        // SAFETY: no bytes are asked for, and no read is under way that uses `overlapped`, which stays where it is as long as
        // there is a share. If nothing was started nobody is told, and the share is still ours.
        unsafe {
            let overlapped = self.0.overlapped.get();
            overlapped.write(OVERLAPPED::default());
            if let Err(e) = check(ReadFileEx(pipe, ptr::null_mut(), 0, overlapped, Some(arrived))) {
                drop(Arc::from_raw(share));
                return Err(e);
            }
        }
        Ok(self.0.under_way())
    }

    fn cancel(&self, pipe: HANDLE) {
        if self.0.under_way() {
            // SAFETY: the read was started on this pipe; it uses no memory but its share.
            unsafe { CancelIoEx(pipe, self.0.overlapped.get()) };
        }
    }
}

unsafe extern "system" fn arrived(_: u32, _: u32, overlapped: *mut OVERLAPPED) {
    // SAFETY: the first field of the `Read` whose share was given to this call.
    let read = unsafe { Arc::from_raw(overlapped.cast_const().cast::<Read>()) };
    if let Some(port) = read.port.upgrade() {
        port.arrived().push(read.id);
    }
}

/// A wait in the system's pool, that posts once each time it is set.
#[derive(Debug)]
struct PoolWait {
    wait: PTP_WAIT,
    to: Box<To>,
}

// SAFETY: a wait of the pool may be set and closed by any thread.
unsafe impl Send for PoolWait {}

#[derive(Debug)]
struct To {
    port: Arc<Port>,
    id: usize,
}

impl PoolWait {
    fn new(port: Arc<Port>, id: usize) -> io::Result<PoolWait> {
        let to = Box::new(To { port, id });
        let context = ptr::from_ref(to.as_ref()).cast_mut().cast();
        // SAFETY: `context` lives until `drop` has waited for the last callback.
        let wait = unsafe { CreateThreadpoolWait(Some(told), context, ptr::null()) };
        if wait == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(PoolWait { wait, to })
    }

    fn set(&self, handle: HANDLE) {
        // SAFETY: the wait is open, and the handle stays so for longer.
        unsafe { SetThreadpoolWait(self.wait, handle, ptr::null()) };
    }
}

impl Drop for PoolWait {
    fn drop(&mut self) {
        // SAFETY: the wait is open. After the second call no callback runs or will run.
        unsafe {
            SetThreadpoolWait(self.wait, ptr::null_mut(), ptr::null());
            WaitForThreadpoolWaitCallbacks(self.wait, 1);
            CloseThreadpoolWait(self.wait);
        }
        let _ = &self.to;
    }
}

unsafe extern "system" fn told(
    _: PTP_CALLBACK_INSTANCE,
    context: *mut core::ffi::c_void,
    _: PTP_WAIT,
    _: u32,
) {
    // SAFETY: the context is the `To` of a wait that is still open.
    let to = unsafe { &*context.cast::<To>() };
    to.port.post(to.id, 0);
}
