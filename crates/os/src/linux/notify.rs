//! `sd_notify(3)`, both sides: the socket that services tell their state to, and the few words that the anchor says to
//! systemd itself. It does not read what is told.
#![expect(unsafe_code, reason = "a sender's credentials come from recvmsg")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ipc::{Handle, again, check_len, empty_message, set_nonblocking, set_option, take_handles};
use super::local::Peer;

/// What systemd takes at most (`NOTIFY_BUFFER_MAX`); a longer datagram is dropped, as there.
const LONGEST: usize = 4096;
/// Control data: credentials and as many descriptors as a message can carry, as `u64` for its alignment.
const CONTROL_WORDS: usize = 140;

/// A socket that services send their state to. Its sender is known by the kernel's word.
#[derive(Debug)]
pub struct NotifySocket(OwnedFd);

/// One datagram.
#[derive(Debug)]
pub struct Notification {
    /// `READY=1\nSTATUS=…`.
    pub bytes: Vec<u8>,
    /// Who sent it. Its groups are not known.
    pub sender: Peer,
    /// What came along; closing them answers a `BARRIER=1`.
    pub handles: Vec<Handle>,
}

impl NotifySocket {
    /// Binds `path`, instead of a socket that is there. Everybody may send to it; senders are judged by their
    /// credentials. A path too long for an address becomes an abstract one, since clients know only this variable.
    ///
    /// # Errors
    /// When the folder is missing or closed to us.
    pub fn bind(path: &Path) -> io::Result<NotifySocket> {
        let socket = if SocketAddr::from_pathname(path).is_ok() {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
            let socket = UnixDatagram::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
            socket
        } else {
            UnixDatagram::bind_addr(&abstract_address(path)?)?
        };
        NotifySocket::from_handle(socket.into())
    }

    /// Takes over one that was bound before.
    ///
    /// # Errors
    /// When it is no such socket.
    pub fn from_handle(handle: Handle) -> io::Result<NotifySocket> {
        set_nonblocking(handle.as_fd())?;
        set_option(handle.as_fd(), libc::SO_PASSCRED, 1)?;
        Ok(NotifySocket(handle))
    }

    /// Gives up the wrapper, not the socket.
    #[must_use]
    pub fn into_handle(self) -> Handle {
        self.0
    }

    /// What a service finds in `NOTIFY_SOCKET`.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<OsString> {
        let address = UnixDatagram::from(self.0.try_clone()?).local_addr()?;
        if let Some(path) = address.as_pathname() {
            return Ok(path.as_os_str().to_owned());
        }
        let mut text = b"@".to_vec();
        text.extend(address.as_abstract_name().unwrap_or_default());
        Ok(OsString::from_vec(text))
    }

    /// The next datagram, without waiting. One that is too long or has no sender is passed over.
    ///
    /// # Errors
    /// `WouldBlock`: there is none.
    pub fn recv(&self) -> io::Result<Notification> {
        loop {
            if let Some(notification) = self.recv_one(0)? {
                return Ok(notification);
            }
        }
    }

    /// What is first in the queue, which it stays: the handles are copies, so that a barrier stands. `None`: it is too
    /// long or has no sender.
    ///
    /// # Errors
    /// `WouldBlock`: there is none.
    pub fn peek(&self) -> io::Result<Option<Notification>> {
        self.recv_one(libc::MSG_PEEK)
    }

    /// Takes the first datagram away, whatever it is, and closes its handles, which answers a barrier.
    ///
    /// # Errors
    /// `WouldBlock`: there is none.
    pub fn discard(&self) -> io::Result<()> {
        let fd = self.0.as_raw_fd();
        // SAFETY: no byte is asked for, and without control data the kernel closes the descriptors that came along.
        again(|| check_len(unsafe { libc::recv(fd, std::ptr::null_mut(), 0, libc::MSG_DONTWAIT) }))?;
        Ok(())
    }

    fn recv_one(&self, how: libc::c_int) -> io::Result<Option<Notification>> {
        let mut bytes = vec![0_u8; LONGEST];
        let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut control = [0_u64; CONTROL_WORDS];
        let mut message = empty_message(&mut iov);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control) as _;
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT | how;
        let n = again(|| {
            // SAFETY: `message` points to `iov` (all of `bytes`) and `control`, which outlive the call.
            check_len(unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, flags) })
        })?;
        let mut handles = Vec::new();
        // SAFETY: `message` was just filled by recvmsg and `control` still lives.
        unsafe { take_handles(&message, &mut handles) };
        // SAFETY: as above.
        let sender = unsafe { take_credentials(&message) };
        bytes.truncate(n);
        let whole = message.msg_flags & libc::MSG_TRUNC == 0;
        Ok(sender.filter(|s| whole && s.pid != 0).map(|sender| Notification { bytes, sender, handles }))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for NotifySocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// # Safety
/// `message` was filled by recvmsg and its control data lives.
unsafe fn take_credentials(message: &libc::msghdr) -> Option<Peer> {
    // SAFETY: as the caller promises; the macros stay within msg_controllen.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(h) = header.as_ref() {
            if h.cmsg_level == libc::SOL_SOCKET && h.cmsg_type == libc::SCM_CREDENTIALS {
                let cred = libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned();
                let pid = u32::try_from(cred.pid).unwrap_or(0);
                return Some(Peer { pid, uid: cred.uid, gid: cred.gid, groups: Vec::new() });
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

/// Unique for the folder on this host, and the same after a restart.
fn abstract_address(path: &Path) -> io::Result<SocketAddr> {
    let folder = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    let mut name = format!("keepwell/{:x}-{:x}/", folder.dev(), folder.ino()).into_bytes();
    name.extend(path.file_name().unwrap_or_default().as_bytes());
    SocketAddr::from_abstract_name(name)
}

/// The same inside a runtime.
#[derive(Debug)]
pub struct NotifyListener(AsyncFd<NotifySocket>);

impl NotifyListener {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(socket: NotifySocket) -> io::Result<NotifyListener> {
        // SAFETY: the socket lends the same open descriptor for as long as it lives, and the registration owns it.
        let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(NotifyListener(watched?))
    }

    /// For calls that do not wait.
    #[must_use]
    pub fn socket(&self) -> &NotifySocket {
        self.0.get_ref()
    }

    /// Does something with the socket, again whenever there may be a datagram, until it is no longer told `WouldBlock`.
    ///
    /// # Errors
    /// When the system refuses, and what `act` answers but for `WouldBlock`.
    pub async fn when_ready<T>(&self, mut act: impl FnMut(&NotifySocket) -> io::Result<T>) -> io::Result<T> {
        self.0.async_io(Interest::READABLE, |socket| act(socket)).await
    }

    /// The next datagram. Dropping the future loses none.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn recv(&self) -> io::Result<Notification> {
        self.0.async_io(Interest::READABLE, NotifySocket::recv).await
    }
}

/// Tells systemd the state of this process, if it wants to know. False if it does not. Never waits.
///
/// # Errors
/// When it cannot be sent.
pub fn notify(state: &str) -> io::Result<bool> {
    let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|a| !a.is_empty()) else { return Ok(false) };
    notify_at(&address, state).map(|()| true)
}

/// The same, to an address as it stands in `NOTIFY_SOCKET`.
///
/// # Errors
/// When it cannot be sent.
pub fn notify_at(address: &OsStr, state: &str) -> io::Result<()> {
    let address = match address.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::Channel;
    use std::io::Read;

    #[test]
    fn a_datagram_tells_its_sender() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        drop(NotifySocket::bind(&path).unwrap());
        let socket = NotifySocket::bind(&path).unwrap();
        assert_eq!(socket.address().unwrap(), path.as_os_str());
        assert_eq!(socket.recv().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        notify_at(path.as_os_str(), &"x".repeat(LONGEST + 1)).unwrap();
        notify_at(path.as_os_str(), "READY=1\nSTATUS=well").unwrap();
        let told = socket.recv().unwrap();
        assert_eq!(told.bytes, b"READY=1\nSTATUS=well");
        assert_eq!(told.sender.pid, std::process::id());
        assert!(told.handles.is_empty());
    }

    #[test]
    fn what_was_sent_while_nobody_listened_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let kept = NotifySocket::bind(&path).unwrap().into_handle();
        notify_at(path.as_os_str(), "READY=1").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = NotifyListener::new(NotifySocket::from_handle(kept).unwrap()).unwrap();
            assert_eq!(listener.recv().await.unwrap().bytes, b"READY=1");
            let (later, ()) = tokio::join!(listener.recv(), async {
                tokio::task::yield_now().await;
                notify_at(path.as_os_str(), "STOPPING=1").unwrap();
            });
            assert_eq!(later.unwrap().bytes, b"STOPPING=1");
        });
    }

    #[test]
    fn a_look_leaves_it_there_and_a_barrier_standing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let socket = NotifySocket::bind(&path).unwrap();
        assert_eq!(socket.peek().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(socket.discard().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        notify_at(path.as_os_str(), &"x".repeat(LONGEST + 1)).unwrap();
        assert!(socket.peek().unwrap().is_none());
        socket.discard().unwrap();

        let (mut mine, theirs) = io::pipe().unwrap();
        set_nonblocking(mine.as_fd()).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        Channel::from_handle(sender.into()).unwrap().send(b"BARRIER=1", &[theirs.as_fd()]).unwrap();
        drop(theirs);
        for _ in 0..2 {
            let told = socket.peek().unwrap().unwrap();
            assert_eq!((told.bytes.as_slice(), told.handles.len()), (b"BARRIER=1".as_slice(), 1));
            drop(told);
            assert_eq!(mine.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        socket.discard().unwrap();
        assert_eq!(mine.read(&mut [0]).unwrap(), 0);
        assert_eq!(socket.peek().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_long_path_becomes_an_abstract_address() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("deep".repeat(30));
        fs::create_dir(&folder).unwrap();
        let socket = NotifySocket::bind(&folder.join("web@2.sock")).unwrap();
        let address = socket.address().unwrap();
        assert!(address.as_bytes().starts_with(b"@keepwell/") && address.len() < 107, "{address:?}");
        notify_at(&address, "READY=1").unwrap();
        assert_eq!(socket.recv().unwrap().bytes, b"READY=1");
        assert!(NotifySocket::bind(&folder.join("web@2.sock")).is_err());
    }

    #[test]
    fn a_barrier_is_answered_by_closing_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.sock");
        let socket = NotifySocket::bind(&path).unwrap();
        let (mut mine, theirs) = io::pipe().unwrap();
        // A datagram with a descriptor, as sd_notify_barrier(3) sends it.
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        Channel::from_handle(sender.into()).unwrap().send(b"BARRIER=1", &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let told = socket.recv().unwrap();
        assert_eq!((told.bytes.as_slice(), told.handles.len()), (b"BARRIER=1".as_slice(), 1));
        drop(told);
        assert_eq!(mine.read(&mut [0]).unwrap(), 0);
    }
}
