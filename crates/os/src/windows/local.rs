//! The endpoint of the API on this host: a named pipe, and who is at its other end. It speaks no protocol.
//!
//! A pipe has a name only while an instance of it is there, and an instance serves one client. The endpoint, which the
//! anchor keeps, is an instance that no client gets: it holds the name and its rights, so that clients of a daemon that is
//! being replaced find a busy pipe and wait, and nobody else can take the name. The daemon makes the instances that serve.
#![expect(unsafe_code, reason = "named pipes and tokens have no safe form in the standard library")]

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, IntoRawHandle, OwnedHandle};
use std::path::{self, Path, PathBuf};
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer};
use tokio::sync::Mutex;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY, HANDLE};
use windows_sys::Win32::Security::{
    DuplicateToken, RevertToSelf, SecurityIdentification, TOKEN_DUPLICATE, TOKEN_QUERY,
    WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_FLAGS_AND_ATTRIBUTES,
    OPEN_EXISTING, PIPE_ACCESS_DUPLEX, SECURITY_IDENTIFICATION, SECURITY_SQOS_PRESENT,
};
use windows_sys::Win32::System::Pipes::{
    CreateNamedPipeW, DisconnectNamedPipe, GetNamedPipeClientProcessId, GetNamedPipeServerProcessId,
    ImpersonateNamedPipeClient, PIPE_READMODE_BYTE, PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_BYTE,
    PIPE_UNLIMITED_INSTANCES, PIPE_WAIT,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentThread, OpenProcess, OpenProcessToken, OpenThreadToken, PROCESS_QUERY_LIMITED_INFORMATION,
};

use super::ipc::{AsHandle, BorrowedHandle, Handle};
use super::security::{self, Descriptor, Sid};
use super::sys::{self, check, owned, wide};

/// Buffers of one connection.
const BUFFER: u32 = 64 << 10;
/// Reading and writing, without the right to make instances, which a plain right to write has in it.
const CLIENT_ACCESS: u32 = 0x0012_019b;
/// A pipe whose instances are all busy, or that has none but the endpoint's, is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// For this long: more than a daemon takes to be replaced.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who may connect. What they may do is decided by who they are, see [`Peer`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// The user that this process runs as, Administrators and SYSTEM.
    Owner,
    /// Every user who has logged on.
    Everyone,
}

impl Access {
    fn descriptor(self) -> io::Result<Descriptor> {
        let me = security::user_of(&security::own_token()?)?.text();
        let everyone = match self {
            Access::Owner => String::new(),
            Access::Everyone => format!("(A;;{CLIENT_ACCESS:#x};;;AU)"),
        };
        // Nobody comes over the network.
        Descriptor::new(&format!("D:P(D;;GA;;;NU)(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;{me}){everyone}"))
    }
}

/// A bound endpoint: the name, held.
#[derive(Debug)]
pub struct Endpoint {
    handle: OwnedHandle,
    path: PathBuf,
}

impl Endpoint {
    /// Takes the name that stands for `path`.
    ///
    /// # Errors
    /// `AddrInUse`: somebody else has it.
    pub fn bind(path: &Path, access: Access) -> io::Result<Endpoint> {
        // The flag does not let two have it who come at once; Wine 8 does not know it.
        match open(path, 0) {
            Err(e) if !sys::is(&e, ERROR_PIPE_BUSY) => {}
            Ok(_) | Err(_) => return Err(in_use()),
        }
        let first = FILE_FLAG_FIRST_PIPE_INSTANCE;
        let handle = instance(path, access, first).map_err(|e| {
            let taken = sys::is(&e, ERROR_ACCESS_DENIED) || sys::is(&e, ERROR_PIPE_BUSY);
            if taken { in_use() } else { e }
        })?;
        // Used up: an instance that had its client serves no other.
        match open(path, 0) {
            Ok(client) => drop(client),
            // Somebody else was quicker, whom nobody would ever answer: who waits for a guardian asks again.
            Err(e) if sys::is(&e, ERROR_PIPE_BUSY) => {
                // SAFETY: an open pipe.
                check(unsafe { DisconnectNamedPipe(handle.as_raw_handle()) })?;
            }
            Err(e) => return Err(e),
        }
        Ok(Endpoint { handle, path: path.to_owned() })
    }

    /// Takes over one that was bound before, for the same path.
    #[must_use]
    pub fn from_handle(handle: Handle, path: &Path) -> Endpoint {
        Endpoint { handle, path: path.to_owned() }
    }

    /// Gives up the wrapper, not the endpoint.
    #[must_use]
    pub fn into_handle(self) -> Handle {
        self.handle
    }
}

impl AsHandle for Endpoint {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.handle.as_handle()
    }
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another process answers on this pipe")
}

/// The pipe that stands for a path: one name for all ways to write it.
fn name(path: &Path) -> Vec<u16> {
    wide(pipe(path))
}

fn pipe(path: &Path) -> String {
    let whole = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = whole.to_string_lossy().replace('/', "\\").to_lowercase();
    // FNV-1a.
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!(r"\\.\pipe\keepwell-{hash:016x}")
}

fn instance(path: &Path, access: Access, how: FILE_FLAGS_AND_ATTRIBUTES) -> io::Result<OwnedHandle> {
    let (name, descriptor) = (name(path), access.descriptor()?);
    let attributes = descriptor.attributes();
    let open = PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | how;
    let mode = PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS;
    let count = PIPE_UNLIMITED_INSTANCES;
    // SAFETY: name and attributes live through the call; a handle that is returned is new and ours.
    unsafe {
        owned(CreateNamedPipeW(name.as_ptr(), open, mode, count, BUFFER, BUFFER, 0, &raw const attributes))
    }
}

/// A client's end. The server may learn who it is, and may not act in its name.
fn open(path: &Path, how: FILE_FLAGS_AND_ATTRIBUTES) -> io::Result<OwnedHandle> {
    let name = name(path);
    let how = how | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
    let none = ptr::null_mut();
    // SAFETY: the name lives through the call; a handle that is returned is new and ours.
    unsafe { owned(CreateFileW(name.as_ptr(), CLIENT_ACCESS, 0, ptr::null(), OPEN_EXISTING, how, none)) }
}

/// The process at the other end, as it was when it connected.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its number; it may be over by now, and the number another's.
    pub pid: u32,
    /// Users have no numbers here: 0.
    pub uid: u32,
    token: Option<Arc<OwnedHandle>>,
}

impl Peer {
    /// An administrator (elevated, where there is such a thing), the system, or the very user that this process runs as.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        let Some(token) = &self.token else { return false };
        let Ok(user) = security::user_of(token) else { return false };
        let own = security::own_token().and_then(|own| security::user_of(&own));
        let known = |which| Sid::well_known(which);
        own.is_ok_and(|own| own.is(&user))
            || known(WinLocalSystemSid).is_ok_and(|system| system.is(&user))
            || known(WinBuiltinAdministratorsSid).is_ok_and(|all| security::has_group(token, &all))
    }

    /// Whether it belongs to this group of the host, by its own credentials.
    #[must_use]
    pub fn in_group(&self, name: &str) -> bool {
        let Some(token) = &self.token else { return false };
        Sid::of_name(name).is_ok_and(|group| security::has_group(token, &group))
    }

    /// Whether it is there still: a pipe ends with its client.
    #[must_use]
    pub fn is_there(&self) -> bool {
        true
    }

    /// Its user's name, for people.
    #[must_use]
    pub fn user_name(&self) -> String {
        let user = self.token.as_ref().and_then(|token| security::user_of(token).ok());
        user.map_or_else(|| format!("process {}", self.pid), |user| user.name())
    }

    /// Somebody who may do anything.
    #[cfg(feature = "fake")]
    #[must_use]
    pub fn owner() -> Peer {
        let pid = std::process::id();
        Peer { pid, uid: 0, token: token_of(pid).ok().map(Arc::new) }
    }

    /// Somebody whom nobody has heard of.
    #[cfg(feature = "fake")]
    #[must_use]
    pub fn stranger() -> Peer {
        Peer { pid: 4, ..Peer::default() }
    }

    /// None: what somebody belongs to stands in a token, and the system makes those of users who log on.
    #[cfg(feature = "fake")]
    #[must_use]
    pub fn member() -> Option<(&'static str, Peer)> {
        None
    }

    fn of_client(pipe: HANDLE) -> io::Result<Peer> {
        let mut pid = 0;
        // SAFETY: an open pipe; `pid` is filled by the call.
        check(unsafe { GetNamedPipeClientProcessId(pipe, &raw mut pid) })?;
        let token = impersonated(pipe).or_else(|_| token_of(pid)).ok().map(Arc::new);
        Ok(Peer { pid, uid: 0, token })
    }

    fn of_server(pipe: HANDLE) -> io::Result<Peer> {
        let mut pid = 0;
        // SAFETY: an open pipe; `pid` is filled by the call.
        check(unsafe { GetNamedPipeServerProcessId(pipe, &raw mut pid) })?;
        Ok(Peer { pid, uid: 0, token: token_of(pid).ok().map(Arc::new) })
    }
}

/// What a client lets a server know of it. This thread is the client for a moment, and then itself again.
fn impersonated(pipe: HANDLE) -> io::Result<OwnedHandle> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: an open pipe; a token that is returned is new and ours. Should the thread not become itself again, it must not
    // go on as somebody else.
    unsafe {
        check(ImpersonateNamedPipeClient(pipe))?;
        let opened = check(OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &raw mut token));
        if RevertToSelf() == 0 {
            std::process::abort();
        }
        opened?;
        owned(token)
    }
}

/// The token of a process, in the form that can be asked for groups.
fn token_of(pid: u32) -> io::Result<OwnedHandle> {
    let (mut token, mut copy): (HANDLE, HANDLE) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: handles that are returned are new and ours.
    unsafe {
        let process = owned(OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid))?;
        check(OpenProcessToken(process.as_raw_handle(), TOKEN_QUERY | TOKEN_DUPLICATE, &raw mut token))?;
        let token = owned(token)?;
        check(DuplicateToken(token.as_raw_handle(), SecurityIdentification, &raw mut copy))?;
        owned(copy)
    }
}

/// Accepts connections inside a runtime.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    next: Mutex<NamedPipeServer>,
}

impl Listener {
    /// Accepts on a bound endpoint. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(endpoint: Endpoint) -> io::Result<Listener> {
        let next = Mutex::new(server(&endpoint.path)?);
        Ok(Listener { endpoint, next })
    }

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// Out of memory: worth a pause and another try.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        let mut next = self.next.lock().await;
        loop {
            let connected = next.connect().await;
            // Before this one is given away, so that there is always one to connect to.
            let accepted = std::mem::replace(&mut *next, server(&self.endpoint.path)?);
            if connected.is_err() {
                continue;
            }
            match Peer::of_client(accepted.as_raw_handle()) {
                Ok(peer) => return Ok((Stream(End::Server(accepted)), peer)),
                // It is gone already.
                Err(_) => drop(accepted),
            }
        }
    }
}

fn server(path: &Path) -> io::Result<NamedPipeServer> {
    // The rights of a pipe are those of its first instance.
    let handle = instance(path, Access::Owner, 0)?;
    // SAFETY: a pipe's server end that is ours and overlapped.
    unsafe { NamedPipeServer::from_raw_handle(handle.into_raw_handle()) }
}

/// One connection.
#[derive(Debug)]
pub struct Stream(End);

#[derive(Debug)]
enum End {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

impl Stream {
    /// Who is at the other end.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn peer(&self) -> io::Result<Peer> {
        match &self.0 {
            End::Server(pipe) => Peer::of_client(pipe.as_raw_handle()),
            End::Client(pipe) => Peer::of_server(pipe.as_raw_handle()),
        }
    }
}

/// What other programs open to connect to the endpoint at this path.
///
/// # Errors
/// None here; on other systems a path may be too long.
pub fn address(path: &Path) -> io::Result<OsString> {
    Ok(pipe(path).into())
}

/// Connects to an endpoint. Must be called inside a runtime.
///
/// # Errors
/// `NotFound`: there is none. `PermissionDenied`: not for this user. `TimedOut`: nobody answers on it.
pub async fn connect(path: &Path) -> io::Result<Stream> {
    let began = Instant::now();
    loop {
        match open(path, FILE_FLAG_OVERLAPPED) {
            Ok(handle) => {
                // SAFETY: a pipe's client end that is ours and overlapped.
                let client = unsafe { NamedPipeClient::from_raw_handle(handle.into_raw_handle()) }?;
                return Ok(Stream(End::Client(client)));
            }
            Err(e) if !sys::is(&e, ERROR_PIPE_BUSY) => return Err(e),
            Err(_) if began.elapsed() > PATIENCE => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Whether a named pipe takes a connection, which is closed at once: `\\\\.\\pipe\\name`, or the name alone. While all its
/// instances are taken it waits for one. Must be called inside a runtime.
///
/// # Errors
/// `NotFound`: there is none. `PermissionDenied`: not for this user.
pub async fn try_pipe(name: &str) -> io::Result<()> {
    let full = match name.starts_with(r"\\") {
        true => name.to_owned(),
        false => format!(r"\\.\pipe\{name}"),
    };
    // A pipe that goes one way refuses the other.
    let ways = [(true, true), (true, false), (false, true)];
    loop {
        let mut failed = None;
        for (read, write) in ways {
            match ClientOptions::new().read(read).write(write).open(&full) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => failed = Some(e),
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        match failed {
            Some(e) if !sys::is(&e, ERROR_PIPE_BUSY) => return Err(e),
            Some(_) | None => tokio::time::sleep(RETRY).await,
        }
    }
}

/// The same without a runtime, as a blocking stream.
///
/// # Errors
/// As [`connect`].
pub fn connect_blocking(path: &Path) -> io::Result<impl io::Read + io::Write> {
    let began = Instant::now();
    loop {
        match open(path, 0) {
            Ok(handle) => return Ok(File::from(handle)),
            Err(e) if !sys::is(&e, ERROR_PIPE_BUSY) => return Err(e),
            Err(_) if began.elapsed() > PATIENCE => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = match &mut self.0 {
            End::Server(pipe) => Pin::new(pipe).poll_read(cx, buf),
            End::Client(pipe) => Pin::new(pipe).poll_read(cx, buf),
        };
        match polled {
            // The other end is gone: the end of the stream, as with sockets.
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(())),
            polled => polled,
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            End::Server(pipe) => Pin::new(pipe).poll_write(cx, buf),
            End::Client(pipe) => Pin::new(pipe).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            End::Server(pipe) => Pin::new(pipe).poll_flush(cx),
            End::Client(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            End::Server(pipe) => Pin::new(pipe).poll_shutdown(cx),
            End::Client(pipe) => Pin::new(pipe).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn clients_are_served_one_after_the_other_and_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keepwell.sock");
        runtime().block_on(async {
            assert_eq!(connect(&path).await.unwrap_err().kind(), io::ErrorKind::NotFound);
            let endpoint = Endpoint::bind(&path, Access::Everyone).unwrap();
            let taken = Endpoint::bind(&path, Access::Everyone).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
            let listener = Listener::new(endpoint).unwrap();
            for _ in 0..3 {
                let mut client = connect(&path).await.unwrap();
                let (mut stream, peer) = listener.accept().await.unwrap();
                assert_eq!(peer.pid, std::process::id());
                assert!(peer.is_owner() && !peer.in_group("no such group"));
                assert!(!peer.user_name().is_empty());
                client.write_all(b"ping").await.unwrap();
                let mut four = [0; 4];
                stream.read_exact(&mut four).await.unwrap();
                stream.write_all(b"pong").await.unwrap();
                client.read_exact(&mut four).await.unwrap();
                assert_eq!(&four, b"pong");
                drop(client);
                assert_eq!(stream.read(&mut four).await.unwrap(), 0);
            }
        });
    }

    #[test]
    fn who_comes_as_the_name_is_taken_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = |n: u32| dir.path().join(format!("keepwell{n}.sock"));
        for n in 0..200 {
            let over = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while open(&path(n), 0).is_err() && !over.load(std::sync::atomic::Ordering::Relaxed) {}
                });
                let bound = Endpoint::bind(&path(n), Access::Owner);
                over.store(true, std::sync::atomic::Ordering::Relaxed);
                bound.unwrap();
            });
        }
    }

    #[test]
    fn who_comes_while_nobody_serves_waits_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keepwell.sock");
        let kept = Endpoint::bind(&path, Access::Owner).unwrap().into_handle();
        runtime().block_on(async {
            let (client, accepted) = tokio::join!(connect(&path), async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let copy = kept.try_clone().unwrap();
                let listener = Listener::new(Endpoint::from_handle(copy, &path)).unwrap();
                listener.accept().await.map(|(stream, _)| stream)
            });
            client.unwrap();
            accepted.unwrap();
        });
    }

    #[test]
    fn a_name_does_not_depend_on_how_it_is_written() {
        assert_eq!(name(Path::new(r"C:\A\b.sock")), name(Path::new("c:/a/B.sock")));
        assert_ne!(name(Path::new(r"C:\A\b.sock")), name(Path::new(r"C:\A\c.sock")));
    }
}
