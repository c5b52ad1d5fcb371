//! Pipes, and the ways of bytes from a pipe to a file that pass no memory of ours. Also the few things that such files
//! need of the system. It knows no lines and no rotation.
#![expect(
    unsafe_code,
    reason = "splice, tee and the pipe's fcntls have no safe form in the standard library"
)]

use std::fs::{self, DirBuilder, File, FileType, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;

use super::ipc::{BorrowedHandle, Handle, again, check, check_len, set_nonblocking};

/// A pipe for a service's output: the end that reads, which never waits, and the end that writes, which does. Neither is
/// inherited unless asked for.
///
/// # Errors
/// When the host is out of descriptors or memory.
pub fn pipe() -> io::Result<(Handle, Handle)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    // SAFETY: `fds` has room for the two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the call succeeded, so both are open and nobody else owns them.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
    set_nonblocking(read.as_fd())?;
    Ok((read, write))
}

/// Bytes that wait in a pipe (`FIONREAD`).
///
/// # Errors
/// When it is no pipe.
pub fn available(pipe: BorrowedHandle<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `bytes` is the int that the request fills.
    check(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// How many bytes a pipe holds at most (`F_GETPIPE_SZ`).
///
/// # Errors
/// When it is no pipe.
pub fn capacity(pipe: BorrowedHandle<'_>) -> io::Result<usize> {
    // SAFETY: no pointers.
    let bytes = check(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Makes a pipe larger or smaller, and gives what it is now.
///
/// # Errors
/// `PermissionDenied`: beyond what this user may have in pipes (pipe(7)). `ResourceBusy`: smaller than what is in it.
pub fn set_capacity(pipe: BorrowedHandle<'_>, bytes: usize) -> io::Result<usize> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: no pointers.
    let bytes = check(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Where in a file bytes go.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The file.
    pub file: &'a File,
    /// [`file_number`] of it; 0 for what keeps nothing. Only where bytes cannot be moved in one step it is of use.
    pub number: u64,
    /// From its beginning.
    pub offset: u64,
}

/// Moves bytes from pipes into files, each once, whatever becomes of this process meanwhile: by splice(2), without a copy
/// of ours, so that a byte is either still in the pipe or already in the file. Nothing has to be kept for that.
#[derive(Debug)]
pub struct Mover;

impl Mover {
    /// Goes on where another process left off; `path` would be the file for what that takes.
    ///
    /// # Errors
    /// Never here.
    pub fn open(_: &Path) -> io::Result<Mover> {
        Ok(Mover)
    }

    /// Moves up to `len` bytes. `key` is the pipe's number: small, and the same in the next process. 0 means that no
    /// writer is left and the pipe is empty.
    ///
    /// # Errors
    /// `WouldBlock`: the pipe is empty. `InvalidInput`: this file takes no splice. Anything else is the file's; the bytes
    /// are still in the pipe.
    pub fn move_to_file(
        &mut self,
        _: u32,
        pipe: BorrowedHandle<'_>,
        to: Place<'_>,
        len: usize,
    ) -> io::Result<usize> {
        let mut at =
            libc::loff_t::try_from(to.offset).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        let (from, to) = (pipe.as_raw_fd(), to.file.as_raw_fd());
        let flags = libc::SPLICE_F_NONBLOCK;
        again(|| {
            // SAFETY: `at` lives through the call; both descriptors are open.
            check_len(unsafe { libc::splice(from, ptr::null_mut(), to, &raw mut at, len, flags) })
        })
    }

    /// Where a file that the pipe was moved into goes on: its end. What was being moved into it as an earlier process ended,
    /// and is still in the pipe or in `drained` (which was taken out of the pipe since), would be cut off first.
    ///
    /// # Errors
    /// The file's.
    pub fn resume(&mut self, _: u32, _: BorrowedHandle<'_>, _: &[u8], file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    /// The pipe of this number is no more.
    pub fn forget(&mut self, _: u32) {}
}

/// Puts what is first in `from` into `to` too, and leaves it in `from`. Gives how much; less than `len` also when `to`
/// is full.
///
/// # Errors
/// `WouldBlock`: `from` is empty or `to` is full.
pub fn tee(from: BorrowedHandle<'_>, to: BorrowedHandle<'_>, len: usize) -> io::Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: no pointers.
    again(|| check_len(unsafe { libc::tee(from, to, len, libc::SPLICE_F_NONBLOCK) }))
}

/// Reads from a pipe; 0 means that no writer is left.
///
/// # Errors
/// `WouldBlock`: the pipe is empty.
pub fn read(pipe: BorrowedHandle<'_>, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `into` has that many bytes.
    again(|| check_len(unsafe { libc::read(pipe.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) }))
}

/// What a file to write output to is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SinkKind {
    /// Has a length, keeps what is written, can be rotated.
    Regular,
    /// `/dev/null`, a terminal: takes bytes and keeps none.
    Device,
}

/// Opens a file for output, made if it is not there; readable only by its owner then, as is a folder that has to be made.
///
/// # Errors
/// `InvalidInput`: it is a folder, a FIFO, a socket or a disk, which cannot hold a log. Else what the system says.
pub fn open_sink(path: &Path) -> io::Result<(File, SinkKind)> {
    let found = fs::metadata(path).map(|m| m.file_type());
    let refuse =
        || io::Error::new(io::ErrorKind::InvalidInput, "it is neither a regular file nor a character device");
    if found.as_ref().is_ok_and(|kind| !kind.is_file() && !kind.is_char_device()) {
        return Err(refuse());
    }
    let open = || {
        // Non-blocking, so that a FIFO without a reader is an error and not a wait without end. Devices are for writing
        // only, files for both: what was written is read back from them.
        let plain = found.as_ref().map_or(true, FileType::is_file);
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
        OpenOptions::new()
            .read(plain)
            .write(true)
            .create(plain)
            .truncate(false)
            .custom_flags(flags)
            .mode(0o600)
            .open(path)
    };
    let file = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            open()?
        }
        file => file?,
    };
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        Ok((file, SinkKind::Regular))
    } else if kind.is_char_device() {
        Ok((file, SinkKind::Device))
    } else {
        Err(refuse())
    }
}

/// Reads at an offset, which moves no position; 0 at the end.
///
/// # Errors
/// What the system says.
pub fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    again(|| file.read_at(into, offset))
}

/// Writes at an offset what there is room for.
///
/// # Errors
/// What the system says.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    again(|| file.write_at(bytes, offset))
}

/// Whether `path` is the very file that is open here; false if there is none.
#[must_use]
pub fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// The host's number of an open file, which it keeps when it is renamed.
#[must_use]
pub fn file_number(file: &File) -> Option<u64> {
    file.metadata().ok().map(|m| m.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn filled(bytes: &[u8]) -> (Handle, File) {
        let (read, write) = pipe().unwrap();
        let mut write = File::from(write);
        write.write_all(bytes).unwrap();
        (read, write)
    }

    #[test]
    fn bytes_move_to_an_offset_and_leave_the_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/web.log");
        let (file, kind) = open_sink(&path).unwrap();
        assert_eq!(kind, SinkKind::Regular);
        write_at(&file, b"old ", 0).unwrap();
        let (read, write) = filled(b"hello world");
        assert_eq!(available(read.as_fd()).unwrap(), 11);
        let moved =
            |offset, len| Mover.move_to_file(3, read.as_fd(), Place { file: &file, number: 1, offset }, len);
        assert_eq!(moved(4, 5).unwrap(), 5);
        assert_eq!(available(read.as_fd()).unwrap(), 6);
        assert_eq!(moved(9, 100).unwrap(), 6);
        assert_eq!(moved(15, 100).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(write);
        assert_eq!(moved(15, 100).unwrap(), 0);
        assert_eq!(Mover.resume(3, read.as_fd(), b"", &file).unwrap(), 15);
        assert_eq!(fs::read(&path).unwrap(), b"old hello world");
        let mut bytes = [0; 5];
        assert_eq!(read_at(&file, &mut bytes, 4).unwrap(), 5);
        assert_eq!(&bytes, b"hello");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn tee_leaves_what_it_copies() {
        let (read, _write) = filled(b"hello");
        let (scratch, to) = pipe().unwrap();
        assert_eq!(tee(read.as_fd(), to.as_fd(), 3).unwrap(), 3);
        let mut seen = [0; 8];
        assert_eq!(super::read(scratch.as_fd(), &mut seen).unwrap(), 3);
        assert_eq!(&seen[..3], b"hel");
        assert_eq!(available(read.as_fd()).unwrap(), 5);
        assert_eq!(super::read(scratch.as_fd(), &mut seen).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_pipe_grows_and_shrinks_but_not_below_what_is_in_it() {
        let (read, mut write) = pipe().map(|(r, w)| (r, File::from(w))).unwrap();
        assert!(set_capacity(read.as_fd(), 1 << 20).unwrap() >= 1 << 20);
        assert_eq!(capacity(read.as_fd()).unwrap(), 1 << 20);
        write.write_all(&vec![b'x'; 500_000]).unwrap();
        assert_eq!(set_capacity(read.as_fd(), 65_536).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        let mut sink = vec![0; 500_000];
        while available(read.as_fd()).unwrap() > 0 {
            super::read(read.as_fd(), &mut sink).unwrap();
        }
        assert_eq!(set_capacity(read.as_fd(), 65_536).unwrap(), 65_536);
    }

    #[test]
    fn only_files_and_devices_hold_output() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(open_sink(dir.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let fifo = dir.path().join("fifo");
        let status = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(status.success());
        assert_eq!(open_sink(&fifo).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let (null, kind) = open_sink(Path::new("/dev/null")).unwrap();
        assert_eq!(kind, SinkKind::Device);
        let (read, _write) = filled(b"gone");
        let nowhere = Place { file: &null, number: 0, offset: 0 };
        assert_eq!(Mover.move_to_file(3, read.as_fd(), nowhere, 100).unwrap(), 4);
    }

    #[test]
    fn a_replaced_file_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        let (file, _) = open_sink(&path).unwrap();
        assert!(is_same_file(&file, &path));
        let number = file_number(&file).unwrap();
        assert_eq!(file_number(&File::open(&path).unwrap()), Some(number));
        fs::rename(&path, dir.path().join("old")).unwrap();
        assert!(!is_same_file(&file, &path));
        fs::write(&path, "").unwrap();
        assert!(!is_same_file(&file, &path));
        assert_ne!(file_number(&File::open(&path).unwrap()), Some(number));
    }

    #[test]
    fn the_write_end_waits_and_the_read_end_does_not() {
        let (read, write) = pipe().unwrap();
        // SAFETY: asks for the flags of open descriptors.
        let flags = |h: &Handle| unsafe { libc::fcntl(h.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(
            (flags(&read) & libc::O_NONBLOCK, flags(&write) & libc::O_NONBLOCK),
            (libc::O_NONBLOCK, 0)
        );
        drop(write);
        let mut rest = String::new();
        assert_eq!(File::from(read).read_to_string(&mut rest).unwrap(), 0);
    }
}
