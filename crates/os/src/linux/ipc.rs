//! Handles, and the channel between anchor and daemon that carries bytes and handles. It knows no frames: those are the
//! protocol's.
#![expect(unsafe_code, reason = "passing descriptors needs sendmsg and recvmsg")]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::spawn::CHANNEL_NUMBER;

/// A thing of the system that is open, and closed on drop.
pub type Handle = OwnedFd;
/// The same, lent.
pub type BorrowedHandle<'a> = BorrowedFd<'a>;

/// Whatever holds a [`Handle`]: pipes, files, sockets.
pub trait AsHandle {
    /// Lends it.
    fn as_handle(&self) -> BorrowedHandle<'_>;
}

impl<T: AsFd> AsHandle for T {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.as_fd()
    }
}

/// The kernel takes at most this many descriptors a message (`SCM_MAX_FD`, unix(7)).
pub const MAX_HANDLES: usize = 253;
/// Enough that an anchor can leave the largest frame with a daemon that is busy and go on with its own work.
const SOCKET_BUFFER: libc::c_int = 8 << 20;
/// Read at once. Frames are small; a larger one takes several turns.
const CHUNK: usize = 64 << 10;
/// Control data of [`MAX_HANDLES`] descriptors, as `u64` for its alignment.
const CONTROL_WORDS: usize = 136;

/// One end of a stream of bytes and handles. Never blocks.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two ends, joined.
    ///
    /// # Errors
    /// When the host is out of descriptors or memory.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let mut fds: [RawFd; 2] = [-1; 2];
        // SAFETY: `fds` has room for the two descriptors.
        check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
        // SAFETY: the call succeeded, so both are open and nobody else owns them.
        let (a, b) = unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) };
        enlarge(&a);
        enlarge(&b);
        Ok((Channel(a), Channel(b)))
    }

    /// The end that this process was started with ([`CHANNEL_NUMBER`]). Works once.
    ///
    /// # Errors
    /// When there is no such socket, or when it was not inherited.
    pub fn from_inherited() -> io::Result<Channel> {
        Channel::inherited(CHANNEL_NUMBER)
    }

    /// The same under any descriptor number. Works once for a number.
    ///
    /// # Errors
    /// When there is no such socket, or when it was not inherited: an inherited descriptor never has `FD_CLOEXEC`.
    fn inherited(number: u32) -> io::Result<Channel> {
        let fd = RawFd::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        // SAFETY: asks about a number; harmless whether it is open or not.
        let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
        if fd <= 2 || flags & libc::FD_CLOEXEC != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this descriptor was not handed over to this process",
            ));
        }
        let (mut kind, mut len): (libc::c_int, _) = (0, socklen::<libc::c_int>());
        // SAFETY: `kind` and `len` are valid for the call, which fails unless `fd` is a socket.
        check(unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut len)
        })?;
        // SAFETY: sets a flag on an open descriptor.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        // SAFETY: it is open, and since it lacked FD_CLOEXEC, which all that this process opens has, it is an inherited
        // one; the flag just set keeps a second call from taking it again.
        let channel = unsafe { OwnedFd::from_raw_fd(fd) };
        Channel::from_handle(channel)
    }

    /// Takes over a socket.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn from_handle(handle: Handle) -> io::Result<Channel> {
        set_nonblocking(handle.as_fd())?;
        enlarge(&handle);
        Ok(Channel(handle))
    }

    /// Gives up the wrapper, not the socket.
    #[must_use]
    pub fn into_handle(self) -> Handle {
        self.0
    }

    /// The other end belongs to this child of ours. Nothing to do: the kernel carries handles to whoever reads them.
    ///
    /// # Errors
    /// Never here.
    pub fn given_to(&mut self, _child: u32) -> io::Result<()> {
        Ok(())
    }

    /// Sends what there is room for; the handles travel with the first byte, so they are sent whenever this returns `Ok`.
    ///
    /// # Errors
    /// `WouldBlock`: nothing was sent, wait until it is writable. `BrokenPipe`, `ConnectionReset`: the other end is gone.
    /// `InvalidInput`: more than [`MAX_HANDLES`], or handles without a byte.
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
        let mut control = [0_u64; CONTROL_WORDS];
        let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut message = empty_message(&mut iov);
        if !handles.is_empty() {
            attach(&mut message, &mut control, handles);
        }
        let socket = self.0.as_raw_fd();
        again(|| {
            // SAFETY: `message` points to `iov` and `control`, which outlive the call; the kernel only reads from them.
            check_len(unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) })
        })
    }

    /// Appends what is there to `into` and `handles`; 0 means that the other end is gone and all was read. A handle is
    /// delivered with, never after, the byte that it was sent with.
    ///
    /// # Errors
    /// `WouldBlock`: nothing there. `OutOfMemory`: handles that were sent could not be opened here (too many open files);
    /// the bytes are in `into`, the stream can no longer be trusted.
    pub fn recv(&self, into: &mut Vec<u8>, handles: &mut VecDeque<Handle>) -> io::Result<usize> {
        into.reserve(CHUNK);
        let room = into.spare_capacity_mut();
        let mut iov = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len().min(CHUNK) };
        let mut control = [0_u64; CONTROL_WORDS];
        let mut message = empty_message(&mut iov);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control) as _;
        let socket = self.0.as_raw_fd();
        let n = again(|| {
            // SAFETY: `message` points to `iov` (spare room of `into`) and `control`, which outlive the call.
            check_len(unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) })
        })?;
        // SAFETY: the kernel has written `n` bytes to the spare room.
        unsafe { into.set_len(into.len() + n) };
        // SAFETY: `message` was just filled by recvmsg and `control` still lives.
        unsafe { take_handles(&message, handles) };
        if message.msg_flags & libc::MSG_CTRUNC != 0 {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "too many open files: handles were lost"));
        }
        Ok(n)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Puts descriptors into a message's control data.
fn attach(message: &mut libc::msghdr, control: &mut [u64; CONTROL_WORDS], handles: &[BorrowedHandle<'_>]) {
    let bytes = u32::try_from(mem::size_of_val(handles)).unwrap_or(u32::MAX);
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: pure arithmetic.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as _;
    // SAFETY: `control` is aligned for a cmsghdr and has room for MAX_HANDLES descriptors, which the caller keeps to. A
    // `BorrowedFd` is the descriptor's number and nothing else (`repr(transparent)`).
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
        ptr::copy_nonoverlapping(handles.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), bytes as usize);
    }
}

/// Takes the descriptors out of received control data.
///
/// # Safety
/// `message` was filled by recvmsg, its control data lives, and this is called once for it.
#[cfg_attr(
    target_env = "gnu",
    expect(clippy::unnecessary_cast, reason = "other C libraries have a 32-bit cmsg_len")
)]
pub(crate) unsafe fn take_handles(message: &libc::msghdr, handles: &mut impl Extend<Handle>) {
    // SAFETY: as the caller promises; the macros stay within msg_controllen. Every descriptor that the kernel reports is
    // open and owned by nobody yet.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(h) = header.as_ref() {
            if h.cmsg_level == libc::SOL_SOCKET && h.cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                let count = (h.cmsg_len as usize - libc::CMSG_LEN(0) as usize) / mem::size_of::<RawFd>();
                handles.extend((0..count).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// A message of one piece, without address and control data.
pub(crate) fn empty_message(iov: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: a msghdr of zeroes is a valid, empty one; it has private padding on some C libraries, so no literal.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = iov;
    message.msg_iovlen = 1;
    message
}

/// Makes both buffers large; the privileged way passes the host's limit, the other is cut to it, and both are fine.
fn enlarge(socket: &OwnedFd) {
    for (forced, plain) in [(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF), (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)]
    {
        if set_option(socket.as_fd(), forced, SOCKET_BUFFER).is_err() {
            let _ = set_option(socket.as_fd(), plain, SOCKET_BUFFER);
        }
    }
}

/// A socket option of level `SOL_SOCKET` whose value is an int.
pub(crate) fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = socklen::<libc::c_int>();
    // SAFETY: `value` lives through the call and `len` is its size.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), len)
    })?;
    Ok(())
}

/// Reads and writes no longer wait.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: reads flags of an open descriptor.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: sets flags of an open descriptor.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// The size of `T` as sockets want it.
pub(crate) fn socklen<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

/// A system call's answer: -1 is `errno`.
pub(crate) fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// The same for calls that answer with a number of bytes.
pub(crate) fn check_len(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Repeats a call that a signal interrupted.
pub(crate) fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::IntoRawFd;

    fn file_with(text: &str) -> File {
        let mut f = tempfile::tempfile().unwrap();
        f.write_all(text.as_bytes()).unwrap();
        f
    }

    fn read_back(handle: Handle) -> String {
        let (mut f, mut text) = (File::from(handle), String::new());
        f.rewind().unwrap();
        f.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn handles_arrive_with_their_bytes_and_in_order() {
        let (a, b) = Channel::pair().unwrap();
        let (x, y) = (file_with("x"), file_with("y"));
        assert_eq!(a.send(b"one", &[x.as_fd()]).unwrap(), 3);
        assert_eq!(a.send(b"two", &[]).unwrap(), 3);
        assert_eq!(a.send(b"three", &[y.as_fd(), x.as_fd()]).unwrap(), 5);
        let (mut bytes, mut handles) = (Vec::new(), VecDeque::new());
        while bytes.len() < 11 {
            b.recv(&mut bytes, &mut handles).unwrap();
        }
        assert_eq!(bytes, b"onetwothree");
        let texts: Vec<_> = handles.drain(..).map(read_back).collect();
        assert_eq!(texts, ["x", "y", "x"]);
    }

    #[test]
    fn the_largest_number_of_handles_passes_and_one_more_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        let f = file_with("f");
        let many = vec![f.as_fd(); MAX_HANDLES + 1];
        assert_eq!(a.send(b"m", &many).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(a.send(b"", &many[..1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        a.send(b"m", &many[..MAX_HANDLES]).unwrap();
        let (mut bytes, mut handles) = (Vec::new(), VecDeque::new());
        b.recv(&mut bytes, &mut handles).unwrap();
        assert_eq!(handles.len(), MAX_HANDLES);
        for h in &handles {
            // SAFETY: asks for the flags of an open descriptor.
            let flags = unsafe { libc::fcntl(h.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn a_full_channel_says_so_and_partial_writes_lose_nothing() {
        let (a, b) = Channel::pair().unwrap();
        let data: Vec<u8> = (0..40_000_000_u32).map(|i| i.to_le_bytes()[i as usize % 3]).collect();
        let (mut sent, mut got, mut handles, mut full) = (0, Vec::new(), VecDeque::new(), 0);
        while got.len() < data.len() {
            match a.send(&data[sent..], &[]) {
                Ok(0) => {
                    b.recv(&mut got, &mut handles).unwrap();
                }
                Ok(n) => sent += n,
                Err(e) => {
                    assert_eq!(e.kind(), io::ErrorKind::WouldBlock);
                    full += 1;
                    b.recv(&mut got, &mut handles).unwrap();
                }
            }
        }
        assert!(full > 0 && got == data);
        assert_eq!(b.recv(&mut got, &mut handles).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_end_is_seen_on_both_sides() {
        let (a, b) = Channel::pair().unwrap();
        a.send(b"last", &[]).unwrap();
        drop(a);
        let (mut bytes, mut handles) = (Vec::new(), VecDeque::new());
        assert_eq!(b.recv(&mut bytes, &mut handles).unwrap(), 4);
        assert_eq!(b.recv(&mut bytes, &mut handles).unwrap(), 0);
        assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_inherited_channel_is_taken_once() {
        let (a, b) = Channel::pair().unwrap();
        let number = u32::try_from(b.as_fd().as_raw_fd()).unwrap();
        assert_eq!(Channel::inherited(number).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let raw = b.into_handle().into_raw_fd();
        // SAFETY: clears the flags of an open descriptor, as if it were inherited.
        unsafe { libc::fcntl(raw, libc::F_SETFD, 0) };
        let b = Channel::inherited(number).unwrap();
        assert!(Channel::inherited(number).is_err());
        a.send(b"hello", &[]).unwrap();
        assert_eq!(b.recv(&mut Vec::new(), &mut VecDeque::new()).unwrap(), 5);
        assert!(Channel::inherited(900_000).is_err());
    }
}
