//! Pipes, and the ways of bytes from a pipe to a file. Also the few things that such files need of the system. It knows no
//! lines and no rotation.
#![expect(unsafe_code, reason = "named pipes have no safe form in the standard library")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_PARAMETER, ERROR_PIPE_BUSY, GENERIC_READ, GENERIC_WRITE, HANDLE,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_READ_ATTRIBUTES,
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_TYPE_CHAR, FILE_TYPE_DISK, FILE_TYPE_PIPE,
    GetFileType, OPEN_EXISTING, PIPE_ACCESS_DUPLEX, PIPE_ACCESS_INBOUND,
};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, PIPE_READMODE_BYTE, PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_BYTE, PIPE_WAIT,
    PeekNamedPipe,
};

use super::ipc::{BorrowedHandle, Handle, broken, read_now};
use super::sys::{self, check, owned, wide};

mod mover;

pub use mover::{Mover, Place};

/// As much as a pipe has on Linux at first. It cannot be changed later.
const CAPACITY: u32 = 64 << 10;
/// Looked at or copied at once.
const PIECE: usize = 64 << 10;
/// Another process may be quicker to open a pipe that has a name; then it is tried under another one.
const TRIES: u32 = 10;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// From the second end, which waits, to the first, which does not.
    One,
    /// Both; neither end waits.
    Both,
}

/// A pipe for a service's output: the end that reads, which never waits, and the end that writes, which does. Neither is
/// inherited unless asked for.
///
/// # Errors
/// When the host is out of memory.
pub fn pipe() -> io::Result<(Handle, Handle)> {
    pair(Direction::One, CAPACITY)
}

/// Pipes without a name always wait, so this is one with a name that nobody can guess and that is full at once.
pub(crate) fn pair(direction: Direction, buffer: u32) -> io::Result<(Handle, Handle)> {
    let mut last = io::Error::from(io::ErrorKind::Other);
    for _ in 0..TRIES {
        match try_pair(direction, buffer) {
            Err(e) if sys::is(&e, ERROR_PIPE_BUSY) || sys::is(&e, ERROR_ACCESS_DENIED) => last = e,
            pair => return pair,
        }
    }
    Err(last)
}

fn try_pair(direction: Direction, buffer: u32) -> io::Result<(Handle, Handle)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!(
        r"\\.\pipe\keepwell.{}.{number}.{:x}",
        process::id(),
        std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos())
    );
    let name = wide(name);
    let (open, access, how) = match direction {
        Direction::One => (PIPE_ACCESS_INBOUND, GENERIC_WRITE | FILE_READ_ATTRIBUTES, 0),
        Direction::Both => (PIPE_ACCESS_DUPLEX, GENERIC_READ | GENERIC_WRITE, FILE_FLAG_OVERLAPPED),
    };
    let open = open | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE;
    let mode = PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS;
    // SAFETY: `name` ends with a zero and lives through the calls; handles that are returned are new and ours.
    unsafe {
        let first = owned(CreateNamedPipeW(name.as_ptr(), open, mode, 1, buffer, buffer, 0, ptr::null()))?;
        let second = CreateFileW(name.as_ptr(), access, 0, ptr::null(), OPEN_EXISTING, how, ptr::null_mut());
        Ok((first, owned(second)?))
    }
}

/// Whether it is a pipe.
pub(crate) fn is_pipe(handle: HANDLE) -> bool {
    // SAFETY: asks about a handle; harmless for what is none.
    unsafe { GetFileType(handle) == FILE_TYPE_PIPE }
}

/// Bytes that wait in a pipe. `BrokenPipe`: none, and no writer.
pub(crate) fn peek(pipe: HANDLE) -> io::Result<usize> {
    let mut available = 0;
    let nothing = ptr::null_mut();
    // SAFETY: `available` is filled by the call; no bytes are asked for.
    check(unsafe { PeekNamedPipe(pipe, ptr::null_mut(), 0, nothing, &raw mut available, ptr::null_mut()) })
        .map_err(broken)?;
    Ok(available as usize)
}

/// What is first in a pipe, which it stays. 0: it is empty.
fn look(pipe: HANDLE, into: &mut [u8]) -> io::Result<usize> {
    let (mut read, room) = (0, u32::try_from(into.len()).unwrap_or(u32::MAX));
    let (total, left) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: `into` has `room` bytes, and `read` is filled by the call.
    check(unsafe { PeekNamedPipe(pipe, into.as_mut_ptr().cast(), room, &raw mut read, total, left) })
        .map_err(broken)?;
    Ok(read as usize)
}

/// Bytes that wait in a pipe.
///
/// # Errors
/// When it is no pipe.
pub fn available(pipe: BorrowedHandle<'_>) -> io::Result<usize> {
    match peek(pipe.raw()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        n => n,
    }
}

/// How many bytes a pipe holds at most.
///
/// # Errors
/// Never here.
pub fn capacity(_: BorrowedHandle<'_>) -> io::Result<usize> {
    Ok(CAPACITY as usize)
}

/// A pipe's size cannot be changed here.
///
/// # Errors
/// `Unsupported`.
pub fn set_capacity(_: BorrowedHandle<'_>, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Puts what is first in `from` into `to` too, and leaves it in `from`. Gives how much. `to` is empty.
///
/// # Errors
/// `WouldBlock`: `from` is empty.
pub fn tee(from: BorrowedHandle<'_>, to: BorrowedHandle<'_>, len: usize) -> io::Result<usize> {
    let mut piece = vec![0; len.min(PIECE)];
    let n = look(from.raw(), &mut piece)?;
    if n == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut to = File::from(to.try_clone_to_owned()?);
    io::Write::write(&mut to, piece.get(..n).unwrap_or_default())
}

/// Reads from a pipe; 0 means that no writer is left.
///
/// # Errors
/// `WouldBlock`: the pipe is empty.
pub fn read(pipe: BorrowedHandle<'_>, into: &mut [u8]) -> io::Result<usize> {
    let waiting = match peek(pipe.raw()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
        n => n?,
    };
    if waiting == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    read_now(pipe.raw(), &sys::event(false)?, into)
}

/// What a file to write output to is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SinkKind {
    /// Has a length, keeps what is written, can be rotated.
    Regular,
    /// `NUL`, a console: takes bytes and keeps none.
    Device,
}

/// Opens a file for output, made if it is not there; as readable as its folder makes it. Others may read, rename and remove
/// it meanwhile.
///
/// # Errors
/// `InvalidInput`: it is a folder or a pipe, which cannot hold a log. Else what the system says.
pub fn open_sink(path: &Path) -> io::Result<(File, SinkKind)> {
    let refuse =
        || io::Error::new(io::ErrorKind::InvalidInput, "it is neither a regular file nor a character device");
    if fs::metadata(path).is_ok_and(|m| m.is_dir()) || path.starts_with(r"\\.\pipe") {
        return Err(refuse());
    }
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let open = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).share_mode(share).open(path)
    };
    let file = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            open()?
        }
        // A device may be for writing only.
        Err(e) if sys::is(&e, ERROR_INVALID_PARAMETER) => OpenOptions::new().write(true).open(path)?,
        file => file?,
    };
    // SAFETY: an open file.
    match unsafe { GetFileType(file.as_raw_handle()) } {
        FILE_TYPE_DISK => Ok((file, SinkKind::Regular)),
        FILE_TYPE_CHAR => Ok((file, SinkKind::Device)),
        _ => Err(refuse()),
    }
}

/// Reads at an offset; 0 at the end.
///
/// # Errors
/// What the system says.
pub fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(into, offset)
}

/// Writes at an offset what there is room for.
///
/// # Errors
/// What the system says.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}

/// Whether `path` is the very file that is open here; false if there is none.
#[must_use]
pub fn is_same_file(file: &File, path: &Path) -> bool {
    super::files::is_still(file, path)
}

/// The host's number of an open file, which it keeps when it is renamed.
#[must_use]
pub fn file_number(file: &File) -> Option<u64> {
    let (_, number) = super::files::number(file)?;
    number.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::AsHandle;
    use std::io::Write;

    fn filled(bytes: &[u8]) -> (Handle, File) {
        let (read, write) = pipe().unwrap();
        let mut write = File::from(write);
        write.write_all(bytes).unwrap();
        (read, write)
    }

    #[test]
    fn a_file_is_made_with_its_folders_and_read_where_one_likes() {
        let dir = tempfile::tempdir().unwrap();
        let (file, kind) = open_sink(&dir.path().join("new/folder/web.log")).unwrap();
        assert_eq!(kind, SinkKind::Regular);
        write_at(&file, b"old ", 0).unwrap();
        let mut bytes = [0; 15];
        assert_eq!(read_at(&file, &mut bytes, 1).unwrap(), 3);
        assert_eq!(&bytes[..3], b"ld ");
    }

    #[test]
    fn tee_leaves_what_it_copies() {
        let (from, _write) = filled(b"hello");
        let (scratch, to) = pipe().unwrap();
        assert_eq!(tee(from.as_handle(), to.as_handle(), 3).unwrap(), 3);
        let mut seen = [0; 8];
        assert_eq!(read(scratch.as_handle(), &mut seen).unwrap(), 3);
        assert_eq!(&seen[..3], b"hel");
        assert_eq!(available(from.as_handle()).unwrap(), 5);
        assert_eq!(read(scratch.as_handle(), &mut seen).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn only_files_and_devices_hold_output() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(open_sink(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let (null, kind) = open_sink(Path::new("NUL")).unwrap();
        assert_eq!(kind, SinkKind::Device);
        let (read, _write) = filled(b"gone");
        let nowhere = Place { file: &null, number: 0, offset: 0 };
        let mut mover = Mover::open(&dir.path().join("moves")).unwrap();
        assert_eq!(mover.move_to_file(3, read.as_handle(), nowhere, 100).unwrap(), 4);
    }

    #[test]
    fn a_file_that_is_written_can_be_renamed_and_is_another_one_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        let (file, _) = open_sink(&path).unwrap();
        assert!(is_same_file(&file, &path));
        fs::rename(&path, dir.path().join("old")).unwrap();
        assert!(!is_same_file(&file, &path));
        fs::write(&path, "").unwrap();
        assert!(!is_same_file(&file, &path));
    }
}
