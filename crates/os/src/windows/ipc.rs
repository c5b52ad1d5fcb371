//! Handles, and the channel between anchor and daemon that carries bytes and handles. It knows no frames: those are the
//! protocol's.
//!
//! A handle is a number in one process's table, so somebody must put it into the other's. That is always the anchor: it
//! made the daemon and may. It puts its handles into the daemon's table, and takes the daemon's out of it, so that nothing
//! is left over in the anchor when a daemon dies amid an exchange.
#![expect(unsafe_code, reason = "named pipes and handles of other processes have no safe form")]

use std::collections::VecDeque;
use std::io;
use std::os::windows::io::{
    AsHandle as StdAsHandle, AsRawHandle, BorrowedHandle as StdBorrowed, OwnedHandle,
};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use windows_sys::Win32::Foundation::{
    DUPLICATE_CLOSE_SOURCE, DUPLICATE_SAME_ACCESS, DuplicateHandle, ERROR_IO_INCOMPLETE, ERROR_IO_PENDING,
    HANDLE,
};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::Console::{GetStdHandle, STD_INPUT_HANDLE, SetStdHandle};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcess, PROCESS_DUP_HANDLE, WaitForSingleObject,
};

use super::pipe::{self, Direction};
use super::sys::{self, check, owned};

/// A thing of the system that is open, and closed on drop.
pub type Handle = OwnedHandle;

/// The same, lent.
#[derive(Clone, Copy, Debug)]
pub struct BorrowedHandle<'a> {
    handle: StdBorrowed<'a>,
    /// Signalled while there is room to write: of a channel.
    room: Option<StdBorrowed<'a>>,
}

impl BorrowedHandle<'_> {
    /// Another handle of the same thing.
    ///
    /// # Errors
    /// When the host is out of memory.
    pub fn try_clone_to_owned(&self) -> io::Result<Handle> {
        self.handle.try_clone_to_owned()
    }

    pub(crate) fn raw(&self) -> HANDLE {
        self.handle.as_raw_handle()
    }

    pub(crate) fn room(&self) -> Option<HANDLE> {
        self.room.map(|room| room.as_raw_handle())
    }
}

/// Whatever holds a [`Handle`]: pipes, files, channels.
pub trait AsHandle {
    /// Lends it.
    fn as_handle(&self) -> BorrowedHandle<'_>;
}

impl<T: StdAsHandle> AsHandle for T {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        BorrowedHandle { handle: StdAsHandle::as_handle(self), room: None }
    }
}

/// As many handles at once as on Linux.
pub const MAX_HANDLES: usize = 253;
/// Enough that an anchor can leave the largest frame with a daemon that is busy and go on with its own work.
const BUFFER: u32 = 8 << 20;
/// Of one record; what is more goes into the next.
const MOST: usize = 1 << 20;
/// Read at once.
const CHUNK: usize = 256 << 10;
/// How long the end of a channel waits until what was sent is taken.
const LAST_WORDS_MS: u32 = 1000;
/// Of a record: its bytes and its handles, as `u32`.
const HEADER: usize = 8;

/// One end of a stream of bytes and handles. Never blocks.
#[derive(Debug)]
pub struct Channel {
    pipe: OwnedHandle,
    /// Set while nothing is being written.
    room: OwnedHandle,
    /// Set when a read is done.
    done: OwnedHandle,
    other: Other,
    writing: Mutex<Writing>,
    /// Records that have not arrived whole.
    pending: Mutex<Vec<u8>>,
}

/// In whose table the handles are that come from the other end, and must be that go there.
#[derive(Debug)]
enum Other {
    /// This very process, or one that looks after them itself: numbers are valid here and there.
    Itself,
    /// A child, whose table this end reads and writes.
    Child(OwnedHandle),
}

/// A write that is under way. The system writes from `bytes` and into `overlapped` until it is done.
struct Writing {
    bytes: Vec<u8>,
    overlapped: Box<OVERLAPPED>,
    under_way: bool,
}

// SAFETY: the pointers in an OVERLAPPED are the event's, which any thread may use.
unsafe impl Send for Writing {}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writing").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

impl Channel {
    /// Two ends, joined.
    ///
    /// # Errors
    /// When the host is out of memory.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (a, b) = pipe::pair(Direction::Both, BUFFER)?;
        Ok((Channel::from_handle(a)?, Channel::from_handle(b)?))
    }

    /// The end that this process was started with: its standard input. Works once.
    ///
    /// # Errors
    /// When its standard input is no pipe.
    pub fn from_inherited() -> io::Result<Channel> {
        // SAFETY: no pointers.
        let handle = unsafe { GetStdHandle(STD_INPUT_HANDLE) };
        if handle.is_null() || !pipe::is_pipe(handle) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the standard input of this process is not a channel",
            ));
        }
        // SAFETY: the standard input is ours to give away, and taken away here, so that nobody else finds it.
        let channel = unsafe {
            check(SetStdHandle(STD_INPUT_HANDLE, ptr::null_mut()))?;
            owned(handle)?
        };
        Channel::from_handle(channel)
    }

    /// Takes over a pipe's end.
    ///
    /// # Errors
    /// When the host is out of memory.
    pub fn from_handle(handle: Handle) -> io::Result<Channel> {
        let (room, done) = (sys::event(true)?, sys::event(false)?);
        let overlapped = Box::new(OVERLAPPED { hEvent: room.as_raw_handle(), ..OVERLAPPED::default() });
        let writing = Writing { bytes: Vec::new(), overlapped, under_way: false };
        Ok(Channel {
            pipe: handle,
            room,
            done,
            other: Other::Itself,
            writing: Mutex::new(writing),
            pending: Mutex::default(),
        })
    }

    /// The other end belongs to this child of ours, which was not reaped: from now on handles go to its table and come
    /// from it.
    ///
    /// # Errors
    /// When the child may not be opened.
    pub fn given_to(&mut self, child: u32) -> io::Result<()> {
        // SAFETY: no pointers; a handle that is returned is new and ours.
        self.other = Other::Child(unsafe { owned(OpenProcess(PROCESS_DUP_HANDLE, 0, child))? });
        Ok(())
    }

    /// Sends what there is room for; the handles travel with the first byte, so they are sent whenever this returns `Ok`.
    ///
    /// # Errors
    /// `WouldBlock`: nothing was sent, wait until it is writable. `BrokenPipe`: the other end is gone. `InvalidInput`:
    /// more than [`MAX_HANDLES`], or handles without a byte.
    pub fn send(&self, bytes: &[u8], handles: &[BorrowedHandle<'_>]) -> io::Result<usize> {
        if handles.len() > MAX_HANDLES || (bytes.is_empty() && !handles.is_empty()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "handles travel with a byte, at most 253 at once",
            ));
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut writing = self.writing();
        self.finish(&mut writing, false)?;
        let bytes = bytes.get(..MOST).unwrap_or(bytes);
        let numbers = handles.iter().map(|h| self.put(*h)).collect::<io::Result<Vec<u64>>>()?;
        writing.bytes.clear();
        writing.bytes.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        writing.bytes.extend_from_slice(&(numbers.len() as u32).to_le_bytes());
        writing.bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
        writing.bytes.extend_from_slice(bytes);
        self.write(&mut writing)?;
        Ok(bytes.len())
    }

    /// Appends what is there to `into` and `handles`; 0 means that the other end is gone and all was read. A handle is
    /// delivered with, never after, the byte that it was sent with.
    ///
    /// # Errors
    /// `WouldBlock`: nothing there. Anything else: handles that were sent could not be taken; the stream can no longer be
    /// trusted.
    pub fn recv(&self, into: &mut Vec<u8>, handles: &mut VecDeque<Handle>) -> io::Result<usize> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let taken = self.take_records(&mut pending, into, handles)?;
            if taken > 0 {
                return Ok(taken);
            }
            let available = match pipe::peek(self.pipe.as_raw_handle()) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
                Err(e) => return Err(e),
            };
            if available == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let start = pending.len();
            pending.resize(start + available.min(CHUNK), 0);
            let read =
                read_now(self.pipe.as_raw_handle(), &self.done, pending.get_mut(start..).unwrap_or_default());
            pending.truncate(start + *read.as_ref().unwrap_or(&0));
            read?;
        }
    }

    /// Whole records out of what has arrived.
    fn take_records(
        &self,
        pending: &mut Vec<u8>,
        into: &mut Vec<u8>,
        handles: &mut VecDeque<Handle>,
    ) -> io::Result<usize> {
        let (mut at, mut taken) = (0, 0);
        while let Some(header) = pending.get(at..at + HEADER) {
            let number =
                |i: usize| header.get(i..i + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
            let (len, count) = (number(0) as usize, number(4) as usize);
            if len > MOST || count > MAX_HANDLES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the channel is out of step"));
            }
            let numbers = at + HEADER;
            let start = numbers + count * 8;
            let Some(bytes) = pending.get(start..start + len) else { break };
            for number in pending.get(numbers..start).unwrap_or_default().chunks_exact(8) {
                let number = u64::from_le_bytes(number.try_into().unwrap_or_default());
                handles.push_back(self.take(number)?);
            }
            into.extend_from_slice(bytes);
            taken += len;
            at = start + len;
        }
        pending.drain(..at);
        if pending.is_empty() {
            pending.shrink_to(CHUNK);
        }
        Ok(taken)
    }

    /// A number for this handle that the other end can use.
    fn put(&self, handle: BorrowedHandle<'_>) -> io::Result<u64> {
        let number = match &self.other {
            Other::Itself => {
                use std::os::windows::io::IntoRawHandle;
                handle.try_clone_to_owned()?.into_raw_handle()
            }
            Other::Child(child) => {
                let mut copy: HANDLE = ptr::null_mut();
                // SAFETY: all handles are open; `copy` is filled by the call with a number of the child's table.
                check(unsafe {
                    let (me, to) = (GetCurrentProcess(), child.as_raw_handle());
                    DuplicateHandle(me, handle.raw(), to, &raw mut copy, 0, 0, DUPLICATE_SAME_ACCESS)
                })?;
                copy
            }
        };
        Ok(number as usize as u64)
    }

    /// The handle behind a number that the other end sent.
    fn take(&self, number: u64) -> io::Result<Handle> {
        let handle = number as usize as HANDLE;
        match &self.other {
            // SAFETY: the other end has made it for us, in this process's table, and forgotten it.
            Other::Itself => unsafe { owned(handle) },
            Other::Child(child) => {
                let mut copy: HANDLE = ptr::null_mut();
                let how = DUPLICATE_SAME_ACCESS | DUPLICATE_CLOSE_SOURCE;
                // SAFETY: whatever the number is, it is looked up in the child's table; `copy` is ours.
                unsafe {
                    let (from, me) = (child.as_raw_handle(), GetCurrentProcess());
                    check(DuplicateHandle(from, handle, me, &raw mut copy, 0, 0, how))?;
                    owned(copy)
                }
            }
        }
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to write what is in `writing.bytes`.
    fn write(&self, writing: &mut Writing) -> io::Result<()> {
        let (bytes, len) = (writing.bytes.as_ptr(), writing.bytes.len() as u32);
        let overlapped = ptr::from_mut(writing.overlapped.as_mut());
        // SAFETY: `bytes` and `overlapped` stay where they are until the write is done: `finish` is asked before either is
        // touched again, and `drop` waits.
        let answer = unsafe { WriteFile(self.pipe.as_raw_handle(), bytes, len, ptr::null_mut(), overlapped) };
        match check(answer) {
            Err(e) if sys::is(&e, ERROR_IO_PENDING) => {
                writing.under_way = true;
                Ok(())
            }
            Err(e) => Err(broken(e)),
            Ok(()) => Ok(()),
        }
    }

    /// What became of the last write.
    fn finish(&self, writing: &mut Writing, wait: bool) -> io::Result<()> {
        if !writing.under_way {
            return Ok(());
        }
        let mut written = 0;
        let overlapped = ptr::from_mut(writing.overlapped.as_mut());
        // SAFETY: the write that `overlapped` belongs to was started on this pipe.
        let answer = unsafe {
            GetOverlappedResult(self.pipe.as_raw_handle(), overlapped, &raw mut written, i32::from(wait))
        };
        match check(answer) {
            Err(e) if sys::is(&e, ERROR_IO_INCOMPLETE) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(e) => {
                writing.under_way = false;
                return Err(broken(e));
            }
            Ok(()) => writing.under_way = false,
        }
        Ok(())
    }
}

impl AsHandle for Channel {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        BorrowedHandle {
            handle: StdAsHandle::as_handle(&self.pipe),
            room: Some(StdAsHandle::as_handle(&self.room)),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut writing = self.writing();
        if writing.under_way {
            // What was sent may be the last words of this process, and the other end reads without pause.
            // SAFETY: an open event; then the write, which was started on this pipe, is ended if it is not done.
            unsafe {
                WaitForSingleObject(self.room.as_raw_handle(), LAST_WORDS_MS);
                CancelIoEx(self.pipe.as_raw_handle(), ptr::from_mut(writing.overlapped.as_mut()));
            }
            let _ = self.finish(&mut writing, true);
        }
    }
}

/// Reads from a pipe that has something, by a handle that does not wait.
pub(crate) fn read_now(pipe: HANDLE, done: &OwnedHandle, into: &mut [u8]) -> io::Result<usize> {
    let mut overlapped = OVERLAPPED { hEvent: done.as_raw_handle(), ..OVERLAPPED::default() };
    let room = u32::try_from(into.len()).unwrap_or(u32::MAX);
    let mut read = 0;
    // SAFETY: `into` and `overlapped` outlive the read, whose end is waited for.
    let answer = unsafe {
        let answer = ReadFile(pipe, into.as_mut_ptr(), room, ptr::null_mut(), &raw mut overlapped);
        match check(answer) {
            Err(e) if !sys::is(&e, ERROR_IO_PENDING) => return Err(broken(e)),
            _ => GetOverlappedResult(pipe, &raw const overlapped, &raw mut read, 1),
        }
    };
    check(answer).map_err(broken)?;
    Ok(read as usize)
}

/// The several numbers of a pipe whose other end is gone, as one kind.
pub(crate) fn broken(e: io::Error) -> io::Error {
    use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED};
    let gone = [ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED].iter().any(|n| sys::is(&e, *n));
    if gone { sys::error(ERROR_BROKEN_PIPE) } else { e }
}

#[cfg(test)]
mod tests {
    use super::super::{pipe, sys};
    use super::{AsHandle, Channel, MAX_HANDLES, MOST};
    use std::collections::VecDeque;
    use std::fs::File;
    use std::io;
    use std::io::{Read, Write};

    #[test]
    fn bytes_and_handles_arrive_together() {
        let (a, b) = Channel::pair().unwrap();
        let (mut bytes, mut handles) = (Vec::new(), VecDeque::new());
        assert_eq!(b.recv(&mut bytes, &mut handles).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (read, write) = pipe::pipe().unwrap();
        assert_eq!(a.send(b"one", &[]).unwrap(), 3);
        assert_eq!(a.send(b"two", &[read.as_handle(), write.as_handle()]).unwrap(), 3);
        drop((read, write));
        assert_eq!(b.recv(&mut bytes, &mut handles).unwrap(), 6);
        assert_eq!((bytes.as_slice(), handles.len()), (b"onetwo".as_slice(), 2));
        File::from(handles.pop_back().unwrap()).write_all(b"x").unwrap();
        assert_eq!(pipe::available(handles[0].as_handle()).unwrap(), 1);
        drop(a);
        assert_eq!(b.recv(&mut bytes, &mut handles).unwrap(), 0);
        assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_channel_says_so_and_loses_nothing() {
        let (a, b) = Channel::pair().unwrap();
        let piece = vec![7; MOST];
        let mut sent = 0;
        while sent < 64 * MOST {
            match a.send(&piece, &[]) {
                Ok(n) => sent += n,
                Err(e) => {
                    assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(sent < 64 * MOST, "it never filled up");
        assert!(!sys::is_signalled(&a.room));
        let (mut bytes, mut handles) = (Vec::new(), VecDeque::new());
        while bytes.len() < sent {
            match b.recv(&mut bytes, &mut handles) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                n => assert!(n.unwrap() > 0),
            }
        }
        assert!(bytes.iter().all(|b| *b == 7));
        assert!(sys::is_signalled(&a.room));
        assert_eq!(a.send(b"again", &[]).unwrap(), 5);
    }

    #[test]
    fn handles_travel_only_with_a_byte_and_not_too_many() {
        let (a, _b) = Channel::pair().unwrap();
        let (read, _write) = pipe::pipe().unwrap();
        let many = vec![read.as_handle(); MAX_HANDLES + 1];
        assert_eq!(a.send(b"m", &many).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(a.send(b"", &many[..1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_pipe_of_ours_is_read_to_its_end() {
        let (read, write) = pipe::pipe().unwrap();
        File::from(write).write_all(b"hello").unwrap();
        let mut text = String::new();
        let mut piece = [0; 3];
        while let Ok(n @ 1..) = pipe::read(read.as_handle(), &mut piece) {
            piece[..n].as_ref().read_to_string(&mut text).unwrap();
        }
        assert_eq!(text, "hello");
    }
}
