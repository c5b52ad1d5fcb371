//! The endpoint of the API on this host: a Unix socket, and who is at its other end. It speaks no protocol.
#![expect(unsafe_code, reason = "the peer's credentials come from getsockopt")]

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::identity;
use super::ipc::{Handle, check, socklen};

/// `sun_path` without its closing zero (unix(7)).
const LONGEST_PATH: usize = 107;

/// Who may connect. What they may do is decided by who they are, see [`Peer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The user that this process runs as, and root.
    Owner,
    /// Everybody.
    Everyone,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Access::Owner => 0o600,
            Access::Everyone => 0o666,
        }
    }
}

/// A bound endpoint that takes connections, which wait until somebody accepts them.
#[derive(Debug)]
pub struct Endpoint(OwnedFd);

impl Endpoint {
    /// Binds `path`, after removing a socket there that nobody answers any more.
    ///
    /// # Errors
    /// `AddrInUse`: somebody answers there. `AlreadyExists`: there is something that is not a socket. `InvalidInput`:
    /// the last part of a long path is itself too long.
    pub fn bind(path: &Path, access: Access) -> io::Result<Endpoint> {
        remove_stale(path)?;
        let short = Short::of(path)?;
        let listener = UnixListener::bind(&short.path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(access.mode()))?;
        listener.set_nonblocking(true)?;
        Ok(Endpoint(listener.into()))
    }

    /// Takes over one that was bound before, for the same path.
    #[must_use]
    pub fn from_handle(handle: Handle, _path: &Path) -> Endpoint {
        Endpoint(handle)
    }

    /// Gives up the wrapper, not the endpoint.
    #[must_use]
    pub fn into_handle(self) -> Handle {
        self.0
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"));
    }
    // A Unix socket that nobody listens on refuses at once; one with a full queue does not answer but is alive.
    match connect_now(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        Ok(()) | Err(_) => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers on this socket"))
        }
    }
}

/// Tries a named pipe of Windows.
///
/// # Errors
/// Always: this host has none.
pub async fn try_pipe(_name: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "only Windows has named pipes"))
}

/// Whether somebody answers; never waits.
fn connect_now(path: &Path) -> io::Result<()> {
    let short = Short::of(path)?;
    let address = socket_address(&short.path)?;
    let socket = socket(libc::SOCK_STREAM)?;
    // SAFETY: `address` is a filled sockaddr_un and lives through the call.
    check(unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const address).cast(), socklen::<libc::sockaddr_un>())
    })?;
    Ok(())
}

fn socket(kind: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a descriptor that is returned is new and ours.
    unsafe {
        let fd = check(libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0))?;
        Ok(std::os::fd::FromRawFd::from_raw_fd(fd))
    }
}

fn socket_address(path: &Path) -> io::Result<libc::sockaddr_un> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: a sockaddr_un of zeroes is valid: an unnamed address.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this path cannot be that of a socket"));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed() as libc::c_char;
    }
    Ok(address)
}

/// A path that fits into a socket address; `folder` keeps it valid.
pub(crate) struct Short {
    pub(crate) path: PathBuf,
    _folder: Option<fs::File>,
}

impl Short {
    /// A path that is too long goes through its folder's descriptor.
    pub(crate) fn of(path: &Path) -> io::Result<Short> {
        if path.as_os_str().len() <= LONGEST_PATH {
            return Ok(Short { path: path.to_owned(), _folder: None });
        }
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the name of this socket is too long");
        let (folder, name) = path.parent().zip(path.file_name()).ok_or_else(too_long)?;
        let folder =
            OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)?;
        let mut short = OsString::from(format!("/proc/self/fd/{}/", folder.as_raw_fd()));
        short.push(name);
        if short.len() > LONGEST_PATH {
            return Err(too_long());
        }
        Ok(Short { path: short.into(), _folder: Some(folder) })
    }
}

/// The process at the other end, as it was when it connected (`SO_PEERCRED`, `SO_PEERGROUPS`: unix(7), socket(7)).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    /// Its number; it may be over by now, and the number another's.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// The host's administrator, or the very user that this process runs as.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        // SAFETY: cannot fail and has no arguments.
        self.uid == 0 || self.uid == unsafe { libc::geteuid() }
    }

    /// Whether it belongs to this group of the host, by its own credentials: a user who was added to the group since the
    /// process began does not count yet, as everywhere else on the host.
    #[must_use]
    pub fn in_group(&self, name: &str) -> bool {
        identity::group_id(name).is_ok_and(|gid| self.has_group(gid))
    }

    /// Whether a process with its number is there still.
    #[must_use]
    pub fn is_there(&self) -> bool {
        Path::new("/proc").join(self.pid.to_string()).exists()
    }

    /// Its user's name, for people. Names may come from a directory service that takes its time.
    #[must_use]
    pub fn user_name(&self) -> String {
        identity::user_name(self.uid)
    }

    /// The same by the group's number.
    #[must_use]
    pub fn has_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Somebody who may do anything.
    #[cfg(feature = "fake")]
    #[must_use]
    pub fn owner() -> Peer {
        Peer::default()
    }

    /// Somebody whom nobody has heard of.
    #[cfg(feature = "fake")]
    #[must_use]
    pub fn stranger() -> Peer {
        Peer { pid: 1, uid: 54_321, gid: 54_321, groups: vec![] }
    }

    /// A stranger who is in a group of this host; its name comes first.
    #[cfg(feature = "fake")]
    #[must_use]
    pub fn member() -> Option<(&'static str, Peer)> {
        Some(("root", Peer { gid: 0, ..Peer::stranger() }))
    }

    fn of(socket: BorrowedFd<'_>) -> io::Result<Peer> {
        let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut len = socklen::<libc::ucred>();
        let fd = socket.as_raw_fd();
        // SAFETY: `cred` and `len` are valid for the call.
        check(unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut cred).cast(), &raw mut len)
        })?;
        let pid = u32::try_from(cred.pid).unwrap_or(0);
        Ok(Peer { pid, uid: cred.uid, gid: cred.gid, groups: peer_groups(fd).unwrap_or_default() })
    }
}

/// None where the kernel does not tell, and then only the primary group counts.
fn peer_groups(fd: libc::c_int) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut len = mem::size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: `groups` has room for `len` bytes; with too little room the call fails and tells in `len` how much it
        // wants.
        let answer = check(unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        });
        let wanted = len as usize / mem::size_of::<u32>();
        match answer {
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && wanted > groups.len() => {
                groups.resize(wanted, 0)
            }
            Err(e) => return Err(e),
            Ok(_) => {
                groups.truncate(wanted);
                return Ok(groups);
            }
        }
    }
}

/// Accepts connections inside a runtime.
#[derive(Debug)]
pub struct Listener(tokio::net::UnixListener);

impl Listener {
    /// Accepts on a bound endpoint. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(endpoint: Endpoint) -> io::Result<Listener> {
        let listener = UnixListener::from(endpoint.into_handle());
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener).map(Listener)
    }

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// Out of descriptors or memory: worth a pause and another try. A peer that is gone already is passed over.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        loop {
            let (stream, _) = match self.0.accept().await {
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                accepted => accepted?,
            };
            let peer = Peer::of(stream.as_fd())?;
            return Ok((Stream(stream), peer));
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Stream(tokio::net::UnixStream);

impl Stream {
    /// Who is at the other end.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn peer(&self) -> io::Result<Peer> {
        Peer::of(self.0.as_fd())
    }
}

/// What other programs open to connect to the endpoint at this path.
///
/// # Errors
/// The path does not fit into a socket's address, which other programs know no way around.
pub fn address(path: &Path) -> io::Result<OsString> {
    let path = std::path::absolute(path)?;
    if path.as_os_str().len() > LONGEST_PATH {
        let text =
            format!("{} is longer than the {LONGEST_PATH} bytes of a socket's address", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(path.into())
}

/// Connects to an endpoint. Must be called inside a runtime.
///
/// # Errors
/// `NotFound`: there is none. `ConnectionRefused`: nobody answers on it. `PermissionDenied`: not for this user.
pub async fn connect(path: &Path) -> io::Result<Stream> {
    let short = Short::of(path)?;
    tokio::net::UnixStream::connect(&short.path).await.map(Stream)
}

/// The same without a runtime, as a blocking stream.
///
/// # Errors
/// As [`connect`].
pub fn connect_blocking(path: &Path) -> io::Result<impl io::Read + io::Write> {
    let short = Short::of(path)?;
    UnixStream::connect(&short.path)
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    async fn echo_once(path: &Path, listener: &Listener) -> Peer {
        let client = async {
            let mut stream = connect(path).await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "ping");
        };
        let server = async {
            let (mut stream, peer) = listener.accept().await.unwrap();
            assert_eq!(stream.peer().unwrap(), peer);
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            peer
        };
        tokio::join!(client, server).1
    }

    #[test]
    fn a_connection_carries_bytes_and_tells_the_peer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let endpoint = Endpoint::bind(&path, Access::Everyone).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        let peer = runtime().block_on(async {
            let listener = Listener::new(endpoint).unwrap();
            echo_once(&path, &listener).await
        });
        assert_eq!(peer.pid, std::process::id());
        assert!(peer.is_owner() && peer.has_group(peer.gid));
        assert!(!peer.in_group("no such group"));
    }

    #[test]
    fn connections_wait_while_nobody_accepts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let kept = Endpoint::bind(&path, Access::Owner).unwrap();
        let mut early = connect_blocking(&path).unwrap();
        early.write_all(b"hello").unwrap();
        runtime().block_on(async {
            let listener = Listener::new(Endpoint(kept.0.try_clone().unwrap())).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"late, but here").await.unwrap();
        });
        let mut answer = String::new();
        let _ = early.read_to_string(&mut answer);
        assert_eq!(answer, "late, but here");
    }

    #[test]
    fn paths_longer_than_an_address_work() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("deep".repeat(30)).join("deeper".repeat(20));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("api.sock");
        assert!(path.as_os_str().len() > 200);
        let endpoint = Endpoint::bind(&path, Access::Owner).unwrap();
        assert!(path.exists());
        assert_eq!(Endpoint::bind(&path, Access::Owner).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        runtime().block_on(async {
            let listener = Listener::new(endpoint).unwrap();
            // The second bind asked whether somebody answers.
            listener.accept().await.unwrap();
            echo_once(&path, &listener).await;
        });
        let hopeless = folder.join("x".repeat(120));
        assert_eq!(Endpoint::bind(&hopeless, Access::Owner).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn only_a_socket_that_nobody_answers_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let first = Endpoint::bind(&path, Access::Owner).unwrap();
        assert_eq!(Endpoint::bind(&path, Access::Owner).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(path.exists());
        drop(Endpoint::bind(&path, Access::Owner).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(Endpoint::bind(&path, Access::Owner).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_peer_belongs_to_its_groups() {
        let peer = Peer { gid: 1, groups: vec![4, 0], ..Peer::default() };
        assert!(peer.has_group(4) && peer.has_group(1) && !peer.has_group(7));
        assert!(peer.in_group("root") && !Peer { gid: 1, ..Peer::default() }.in_group("root"));
    }
}
