//! Who listens on a port of this host.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::tree::process;

/// Somebody who takes connections at an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where, which may be all addresses of the host.
    pub address: SocketAddr,
    /// One of the processes that hold it; `None` where they may not be looked at.
    pub pid: Option<u32>,
    /// That process's program, as the host shows it.
    pub program: Option<String>,
    /// The guardian that the process belongs to, if it bears a mark.
    pub guardian: Option<String>,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.program) {
            (Some(pid), Some(program)) => write!(f, "{program} (pid {pid})"),
            (Some(pid), None) => write!(f, "pid {pid}"),
            (None, _) => f.write_str("a process that only its own user or root may see"),
        }
    }
}

/// Who takes connections to `host` (an address, or `localhost`) and `port`. `None`: nobody, or it is no address of this
/// host; other names are not looked up, since that takes long where it fails.
#[must_use]
pub fn listener(host: &str, port: u16) -> Option<Listener> {
    let addresses = local(host);
    if addresses.is_empty() {
        return None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let mut sockets = tables.iter().flat_map(|t| t.lines()).filter_map(listening);
    let (address, inode) =
        sockets.find(|(at, _)| at.port() == port && addresses.iter().any(|to| covers(at.ip(), *to)))?;
    let pid = holder(inode);
    let program = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    Some(Listener {
        address,
        pid,
        program: program.map(|p| p.trim_end().to_owned()),
        guardian: pid.and_then(process::mark).map(|(guardian, _)| guardian),
    })
}

/// The addresses of this host that are meant.
fn local(host: &str) -> Vec<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    let Ok(address) = host.parse::<IpAddr>() else { return Vec::new() };
    // Only what is an address of this host can be bound (bind(2)); a datagram socket takes nobody's port.
    let own = address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok();
    if own { vec![address] } else { Vec::new() }
}

/// Whether one who listens at `at` gets what is meant for `to`. A socket of all IPv6 addresses takes IPv4, too, unless it
/// says otherwise, which the table does not show (ipv6(7), `IPV6_V6ONLY`).
fn covers(at: IpAddr, to: IpAddr) -> bool {
    match (at.to_canonical(), to.to_canonical()) {
        (IpAddr::V6(all), _) if all.is_unspecified() => true,
        (IpAddr::V4(all), IpAddr::V4(_)) if all.is_unspecified() => true,
        (at, IpAddr::V4(to)) if to.is_unspecified() => at.is_ipv4(),
        (_, IpAddr::V6(to)) if to.is_unspecified() => true,
        (at, to) => at == to,
    }
}

/// Address and inode of a line of the table, if it is of a socket that listens (proc_pid_net(5)).
fn listening(line: &str) -> Option<(SocketAddr, u64)> {
    /// `TCP_LISTEN` of the kernel's `tcp_states.h`.
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if fields.get(3) != Some(&LISTEN) {
        return None;
    }
    Some((address(fields.get(1)?)?, fields.get(9)?.parse().ok()?))
}

/// An address of those tables.
pub(crate) fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    // Words of four bytes, each printed as a number of this host.
    let words: Option<Vec<[u8; 4]>> = (0..address.len() / 8)
        .map(|n| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    let ip = match words?.as_slice() {
        [four] => IpAddr::from(*four),
        [a, b, c, d] => IpAddr::from(<[u8; 16]>::try_from([*a, *b, *c, *d].concat()).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The first process that has this socket open; of a server and its workers that is mostly the server.
fn holder(inode: u64) -> Option<u32> {
    let socket = format!("socket:[{inode}]");
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids: BTreeSet<u32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.into_iter().find(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|e| fs::read_link(e.path()).ok()).any(|to| to.as_os_str() == socket.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_found_by_every_address_that_leads_to_it() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost", "LOCALHOST", "0.0.0.0"] {
            let found = listener(host, port).unwrap();
            assert_eq!((found.pid, found.address), (Some(std::process::id()), held.local_addr().unwrap()));
            assert!(found.to_string().ends_with(&format!(" (pid {})", std::process::id())), "{found}");
        }
        for host in ["127.0.0.2", "192.0.2.1", "example.invalid", ""] {
            assert_eq!(listener(host, port), None, "{host}");
        }
        drop(held);
        assert_eq!(listener("127.0.0.1", port), None);
        let all = TcpListener::bind("0.0.0.0:0").unwrap();
        assert!(listener("127.0.0.2", all.local_addr().unwrap().port()).is_some());
    }

    #[test]
    fn what_listens_on_all_takes_what_is_meant_for_one() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let cases = [
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "::1", false),
            ("::", "127.0.0.1", true),
            ("::", "::1", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::1", false),
            ("127.0.0.1", "127.0.0.2", false),
            ("127.0.0.1", "0.0.0.0", true),
            ("::1", "::", true),
            ("::1", "0.0.0.0", false),
        ];
        for (at, to, expected) in cases {
            assert_eq!(covers(ip(at), ip(to)), expected, "{at} {to}");
        }
    }

    #[test]
    fn lines_of_the_table_are_read() {
        let line = |address: &str, state: &str| {
            format!(
                "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000 0 4242 1 0"
            )
        };
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let four = format!("{}:1F90", word([127, 0, 0, 1]));
        let six = format!("{}{}{}{}:0050", word([0; 4]), word([0; 4]), word([0; 4]), word([0, 0, 0, 1]));
        assert_eq!(listening(&line(&four, "0A")), Some(("127.0.0.1:8080".parse().unwrap(), 4242)));
        assert_eq!(listening(&line(&six, "0A")), Some(("[::1]:80".parse().unwrap(), 4242)));
        assert_eq!(listening(&line(&four, "01")), None);
        let broken =
            ["  sl  local_address rem_address   st", "", "0: 0:0 0:0 0A", "0: ÄÖÜ€:1 0:0 0A 0 0 0 0 0 1"];
        assert!(broken.iter().all(|l| listening(l).is_none()));
    }
}
