//! One handle that a waiter waits for.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::Arc;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, HANDLE};
use windows_sys::Win32::Storage::FileSystem::{FILE_TYPE_DISK, GetFileType, ReadFile};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
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
    /// Waits for `kind`'s event, or for the handle itself.
    read: PoolWait,
    room: Option<(PoolWait, OwnedHandle)>,
    handle: OwnedHandle,
    kind: Kind,
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
    Object,
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
        let kind = if pipe::is_pipe(handle.raw()) { Kind::Pipe(ZeroRead::new()?) } else { Kind::Object };
        let room = match handle.room() {
            Some(room) => Some((PoolWait::new(Arc::clone(&port), id)?, sys::duplicate(room, false)?)),
            None => None,
        };
        let read = PoolWait::new(port, id)?;
        Ok(Watched { token, interest, read, room, handle: copy, kind, armed: false })
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
            Kind::Object => (sys::is_signalled(&self.handle), false),
        };
        let room = self.room.as_ref().is_none_or(|(_, room)| sys::is_signalled(room));
        let writable = self.interest == Interest::ReadWrite && (room || closed);
        let ready = readable || writable;
        ready.then_some(Wake::Ready { token: self.token, readable, writable, closed })
    }

    /// False: it cannot be waited for. It may be ready by now, and then it is not armed.
    fn arm(&mut self) -> bool {
        match &mut self.kind {
            Kind::Pipe(read) => match read.start(self.handle.as_raw_handle()) {
                Ok(true) => self.read.set(read.event.as_raw_handle()),
                Ok(false) => return true,
                Err(_) => return false,
            },
            Kind::Object => self.read.set(self.handle.as_raw_handle()),
        }
        if self.interest == Interest::ReadWrite
            && let Some((wait, room)) = &self.room
        {
            wait.set(room.as_raw_handle());
        }
        self.armed = true;
        true
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Kind::Pipe(read) = &mut self.kind {
            read.end(self.handle.as_raw_handle());
        }
    }
}

/// A read of zero bytes: it is done when there is something to read, and takes nothing.
struct ZeroRead {
    event: OwnedHandle,
    overlapped: Box<OVERLAPPED>,
    under_way: bool,
}

// SAFETY: the pointers in an OVERLAPPED are the event's, which any thread may use.
unsafe impl Send for ZeroRead {}

impl std::fmt::Debug for ZeroRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZeroRead").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

impl ZeroRead {
    fn new() -> io::Result<ZeroRead> {
        let event = sys::event(false)?;
        let overlapped = Box::new(OVERLAPPED { hEvent: event.as_raw_handle(), ..OVERLAPPED::default() });
        Ok(ZeroRead { event, overlapped, under_way: false })
    }

    /// Whether it is under way. False: it was done at once.
    fn start(&mut self, pipe: HANDLE) -> io::Result<bool> {
        if self.under_way {
            if !sys::is_signalled(&self.event) {
                return Ok(true);
            }
            self.end(pipe);
        }
        let overlapped = ptr::from_mut(self.overlapped.as_mut());
        // SAFETY: no bytes are asked for; `overlapped` stays where it is until `end`.
        let answer = unsafe { ReadFile(pipe, ptr::null_mut(), 0, ptr::null_mut(), overlapped) };
        match check(answer) {
            Err(e) if sys::is(&e, ERROR_IO_PENDING) => {
                self.under_way = true;
                Ok(true)
            }
            answer => answer.map(|()| false),
        }
    }

    /// It is not under way any more.
    fn end(&mut self, pipe: HANDLE) {
        if !std::mem::take(&mut self.under_way) {
            return;
        }
        let (overlapped, mut read) = (ptr::from_mut(self.overlapped.as_mut()), 0);
        // SAFETY: the read was started on this pipe with this `overlapped`, which nothing uses any more after the second
        // call has waited for its end.
        unsafe {
            CancelIoEx(pipe, overlapped);
            GetOverlappedResult(pipe, overlapped, &raw mut read, 1);
        }
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
