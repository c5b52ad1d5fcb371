//! `sd_notify(3)` needs sockets that carry datagrams and the sender's credentials. Windows has none, so there are no
//! notify sockets here: to make one is an error that says so.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use super::ipc::{AsHandle, BorrowedHandle, Handle};
use super::local::Peer;

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "there are no notify sockets on Windows")
}

/// A socket that services send their state to. There is none here.
#[derive(Debug)]
pub struct NotifySocket(Infallible);

/// One datagram.
#[derive(Debug)]
pub struct Notification {
    /// `READY=1\nSTATUS=…`.
    pub bytes: Vec<u8>,
    /// Who sent it.
    pub sender: Peer,
    /// What came along; closing them answers a `BARRIER=1`.
    pub handles: Vec<Handle>,
}

impl NotifySocket {
    /// Says that there is none.
    ///
    /// # Errors
    /// Always.
    pub fn bind(_: &Path) -> io::Result<NotifySocket> {
        Err(unsupported())
    }

    /// Says that there is none.
    ///
    /// # Errors
    /// Always.
    pub fn from_handle(_: Handle) -> io::Result<NotifySocket> {
        Err(unsupported())
    }

    /// What a service would find in `NOTIFY_SOCKET`.
    ///
    /// # Errors
    /// Never: there is none to ask.
    pub fn address(&self) -> io::Result<OsString> {
        match self.0 {}
    }

    /// The next datagram.
    ///
    /// # Errors
    /// Never: there is none to ask.
    pub fn recv(&self) -> io::Result<Notification> {
        match self.0 {}
    }

    /// The first datagram, which stays.
    ///
    /// # Errors
    /// Never: there is none to ask.
    pub fn peek(&self) -> io::Result<Option<Notification>> {
        match self.0 {}
    }

    /// Takes the first datagram away.
    ///
    /// # Errors
    /// Never: there is none to ask.
    pub fn discard(&self) -> io::Result<()> {
        match self.0 {}
    }
}

impl AsHandle for NotifySocket {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        match self.0 {}
    }
}

/// The same inside a runtime.
#[derive(Debug)]
pub struct NotifyListener(NotifySocket);

impl NotifyListener {
    /// For a socket that cannot be.
    ///
    /// # Errors
    /// Never: there is none to give.
    pub fn new(socket: NotifySocket) -> io::Result<NotifyListener> {
        Ok(NotifyListener(socket))
    }

    /// For calls that do not wait.
    #[must_use]
    pub fn socket(&self) -> &NotifySocket {
        &self.0
    }

    /// Does something with the socket.
    ///
    /// # Errors
    /// What `act` answers.
    pub async fn when_ready<T>(&self, mut act: impl FnMut(&NotifySocket) -> io::Result<T>) -> io::Result<T> {
        act(&self.0)
    }

    /// The next datagram.
    ///
    /// # Errors
    /// Never: there is none to ask.
    pub async fn recv(&self) -> io::Result<Notification> {
        self.0.recv()
    }
}

/// There is no service manager that wants to be told in this way.
///
/// # Errors
/// Never.
pub fn notify(_: &str) -> io::Result<bool> {
    Ok(false)
}

/// Says that there is no such address.
///
/// # Errors
/// Always.
pub fn notify_at(_: &OsStr, _: &str) -> io::Result<()> {
    Err(unsupported())
}
