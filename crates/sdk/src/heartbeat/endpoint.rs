//! Where beats go, and the way there. What differs between systems is hidden in `socket2` and in how files are opened, so
//! nothing here asks which system this is.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// Where keepwell listens for one service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// A Unix socket.
    Socket(PathBuf),
    /// A named pipe of Windows.
    Pipe(PathBuf),
    /// TCP, `host:port`. A token has to be said first.
    Tcp(String),
}

/// A way that is open.
pub(super) enum Opened {
    Socket(Socket),
    Pipe(File),
}

impl Endpoint {
    /// Reads `\\.\pipe\…` as a pipe, what has a slash or a backslash in it as a socket's path, and `host:port` as TCP.
    #[must_use]
    pub fn of(text: OsString) -> Endpoint {
        let Some(name) = text.to_str() else { return Endpoint::Socket(text.into()) };
        if name.starts_with(r"\\.\pipe\") {
            return Endpoint::Pipe(text.into());
        }
        let port = name.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if name.contains(['/', '\\']) || port.is_none() {
            return Endpoint::Socket(text.into());
        }
        Endpoint::Tcp(name.to_owned())
    }

    pub(super) fn open(&self, timeout: Duration) -> io::Result<Opened> {
        let socket = match self {
            Endpoint::Pipe(name) => {
                return OpenOptions::new().read(true).write(true).open(name).map(Opened::Pipe);
            }
            Endpoint::Socket(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // Where its queue is full, connecting waits as sending does (unix(7)).
                socket.set_write_timeout(Some(timeout))?;
                socket.connect(&SockAddr::unix(path)?)?;
                socket
            }
            Endpoint::Tcp(address) => {
                let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
                socket.connect_timeout(&address.into(), timeout)?;
                socket.set_tcp_nodelay(true)?;
                socket.set_write_timeout(Some(timeout))?;
                socket
            }
        };
        socket.set_read_timeout(Some(timeout))?;
        Ok(Opened::Socket(socket))
    }
}
