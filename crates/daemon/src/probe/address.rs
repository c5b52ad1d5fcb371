//! A TCP address as people write it, and a connection to it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use tokio::net::TcpStream;

use super::gate::Gate;
use super::{Failure, Limit};

/// A host, by number or by name, and a port.
#[derive(Debug)]
pub(super) struct Address {
    host: Host,
    port: u16,
}

#[derive(Debug)]
enum Host {
    Number(IpAddr),
    /// Looked up at every attempt, as addresses change.
    Name(String, Gate),
}

impl Address {
    /// Reads `host:port` or `[::1]:port`.
    pub(super) fn parse(text: &str) -> Result<Address, String> {
        let wanted = || format!("`{text}` is no address; write host:port, e.g. 127.0.0.1:8080 or [::1]:8080");
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(wanted)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.contains(':') && !bracketed {
            return Err(wanted());
        }
        Address::new(host, port).ok_or_else(wanted)
    }

    /// `host` may stand in brackets. `None` if it is no host.
    pub(super) fn new(host: &str, port: u16) -> Option<Address> {
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(number) => Host::Number(IpAddr::V6(number.parse().ok()?)),
            None => match host.parse() {
                Ok(number) => Host::Number(number),
                Err(_) if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') => {
                    return None;
                }
                Err(_) => Host::Name(host.to_owned(), Gate::new()),
            },
        };
        Some(Address { host, port })
    }

    /// As operators read it.
    pub(super) fn shown(&self) -> String {
        match &self.host {
            Host::Number(number) => SocketAddr::new(*number, self.port).to_string(),
            Host::Name(name, _) => format!("{name}:{}", self.port),
        }
    }

    /// Tries every address of the host in turn, each with an even share of the time that is left.
    pub(super) async fn connect(&self, limit: Limit) -> Result<TcpStream, Failure> {
        let addresses = self.look_up(limit).await?;
        let mut failure = Failure::Service(format!("{} has no address", self.shown()));
        for (tried, address) in addresses.iter().enumerate() {
            let left = limit.at.saturating_duration_since(tokio::time::Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let one = Limit { at: tokio::time::Instant::now() + share, whole: limit.whole };
            match one.run(|| format!("no connection to {address}"), connect_one(*address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => failure = Failure::of(&e, &address.to_string()),
                Err(late) => failure = late,
            }
        }
        Err(failure)
    }

    async fn look_up(&self, limit: Limit) -> Result<Vec<SocketAddr>, Failure> {
        let (name, gate) = match &self.host {
            Host::Number(number) => return Ok(vec![SocketAddr::new(*number, self.port)]),
            Host::Name(name, gate) => (name, gate),
        };
        let asked = (name.clone(), self.port);
        let found = limit
            .run(
                || format!("the name {name} could not be looked up"),
                gate.run(move || asked.to_socket_addrs().map(Vec::from_iter)),
            )
            .await?;
        found.map_err(|e| match e.raw_os_error() {
            Some(number) if !keepwell_os::is_unknown_name(number) => Failure::of(&e, name),
            Some(_) | None => Failure::Service(format!("the name {name} is not known")),
        })
    }
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    not_itself(&stream)?;
    Ok(stream)
}

/// Where nobody listens on a port of the ephemeral range, the kernel may choose that very port for our end and join the
/// socket with itself (RFC 9293, simultaneous open): that is no service.
pub(super) fn not_itself(stream: &TcpStream) -> io::Result<()> {
    if stream.local_addr()? != stream.peer_addr()? {
        return Ok(());
    }
    // Closing it with a reset leaves no TIME_WAIT behind that would keep the service from its port.
    stream.set_zero_linger()?;
    Err(io::ErrorKind::ConnectionRefused.into())
}
