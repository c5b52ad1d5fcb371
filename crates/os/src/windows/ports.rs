//! Who listens on a port of this host.
#![expect(unsafe_code, reason = "the table of connections has no safe form in the standard library")]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::NetworkManagement::IpHelper::{
    MIB_TCP6ROW_OWNER_PID, MIB_TCPROW_OWNER_PID, TCP_TABLE_CLASS, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::System::JobObjects::IsProcessInJob;
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};

use super::ipc::Handle;
use super::sys::{self, check, owned};

/// Somebody who takes connections at an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Where, which may be all addresses of the host.
    pub address: SocketAddr,
    /// The process that holds it.
    pub pid: Option<u32>,
    /// That process's program.
    pub program: Option<String>,
    /// The guardian that the process belongs to: never known here.
    pub guardian: Option<String>,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.program) {
            (Some(pid), Some(program)) => write!(f, "{program} (pid {pid})"),
            (Some(pid), None) => write!(f, "pid {pid}"),
            (None, _) => f.write_str("another process"),
        }
    }
}

/// Who takes connections to `host` (an address, or `localhost`) and `port`. `None`: nobody, or it is no such address of this
/// host. Also one who lives in a job, who may belong to a guardian: others' jobs have no names that could be asked for.
#[must_use]
pub fn listener(host: &str, port: u16) -> Option<Listener> {
    let addresses = local(host);
    let found = table()
        .into_iter()
        .find(|(at, _)| at.port() == port && addresses.iter().any(|to| covers(at.ip(), *to)));
    let (address, pid) = found?;
    // SAFETY: no pointers; a handle that is returned is new and ours.
    let process = unsafe { owned(OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid)) }.ok();
    if process.as_ref().is_some_and(in_a_job) {
        return None;
    }
    Some(Listener {
        address,
        pid: Some(pid).filter(|pid| *pid != 0),
        program: process.as_ref().and_then(program),
        guardian: None,
    })
}

/// The addresses of this host that are meant.
fn local(host: &str) -> Vec<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    let Ok(address) = host.parse::<IpAddr>() else { return Vec::new() };
    let own = address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok();
    if own { vec![address] } else { Vec::new() }
}

/// Whether one who listens at `at` is in the way of one who wants `to`. A socket of all IPv6 addresses takes no IPv4 here,
/// unless it asks for that, which the table does not show.
fn covers(at: IpAddr, to: IpAddr) -> bool {
    at.is_ipv4() == to.is_ipv4() && (at == to || at.is_unspecified() || to.is_unspecified())
}

/// Addresses that are listened on, and by whom.
fn table() -> Vec<(SocketAddr, u32)> {
    // `AF_INET` and `AF_INET6`.
    let mut all = rows(2, size_of::<MIB_TCPROW_OWNER_PID>(), row);
    all.extend(rows(23, size_of::<MIB_TCP6ROW_OWNER_PID>(), row6));
    all
}

type GetExtendedTcpTable =
    unsafe extern "system" fn(*mut core::ffi::c_void, *mut u32, i32, u32, TCP_TABLE_CLASS, u32) -> u32;

/// The table of one family, of rows that have `len` bytes.
fn rows(
    family: u32,
    len: usize,
    read: impl Fn(&[u32]) -> Option<(SocketAddr, u32)>,
) -> Vec<(SocketAddr, u32)> {
    // SAFETY: the function has this type.
    let Ok(get) = (unsafe { sys::function::<GetExtendedTcpTable>("iphlpapi.dll", c"GetExtendedTcpTable") })
    else {
        return Vec::new();
    };
    let mut size = 16 << 10;
    for _ in 0..4 {
        // As `u32` for its alignment: a count, and the rows.
        let mut buffer = vec![0_u32; size as usize / 4 + 1];
        let (into, class) = (buffer.as_mut_ptr().cast(), TCP_TABLE_OWNER_PID_LISTENER);
        // SAFETY: the buffer has the size that is said; the call says what it wants if that is too little.
        if unsafe { get(into, &raw mut size, 0, family, class, 0) } == 0 {
            let rows = buffer.get(1..).unwrap_or_default().chunks_exact(len / 4);
            let count = buffer.first().map_or(0, |n| *n as usize);
            return rows.take(count).filter_map(read).collect();
        }
    }
    Vec::new()
}

/// State, address and port here, both there, process: numbers as they are on the wire.
fn row(row: &[u32]) -> Option<(SocketAddr, u32)> {
    let [_, address, port, _, _, pid] = row else { return None };
    Some((SocketAddr::from((Ipv4Addr::from(address.to_ne_bytes()), from_wire(*port))), *pid))
}

/// Address, scope and port here, the same there, state, process.
fn row6(row: &[u32]) -> Option<(SocketAddr, u32)> {
    let [a, b, c, d, _, port, .., _, pid] = row else { return None };
    let address: [u8; 16] = [a, b, c, d].map(|word| word.to_ne_bytes()).concat().try_into().ok()?;
    Some((SocketAddr::from((Ipv6Addr::from(address), from_wire(*port))), *pid))
}

fn from_wire(port: u32) -> u16 {
    u16::from_be((port & 0xffff) as u16)
}

fn in_a_job(process: &Handle) -> bool {
    let mut yes = 0;
    // SAFETY: an open process; `yes` is filled by the call.
    unsafe { IsProcessInJob(process.as_raw_handle(), ptr::null_mut(), &raw mut yes) != 0 && yes != 0 }
}

fn program(process: &Handle) -> Option<String> {
    let mut text = [0_u16; 1024];
    let mut len = text.len() as u32;
    // SAFETY: `text` has room for `len` characters.
    check(unsafe { QueryFullProcessImageNameW(process.as_raw_handle(), 0, text.as_mut_ptr(), &raw mut len) })
        .ok()?;
    let path = String::from_utf16_lossy(text.get(..len as usize).unwrap_or_default());
    Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn who_listens_is_in_the_table_and_who_does_not_is_not() {
        let open = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = open.local_addr().unwrap();
        // Wine does not tell the process.
        assert!(table().iter().any(|(at, _)| *at == address), "{:?}", table());
        drop(open);
        assert!(!table().iter().any(|(at, _)| *at == address));
        assert_eq!(listener("example.org", 80), None);
    }

    #[test]
    fn who_listens_on_an_ipv6_address_is_in_the_table() {
        // All but the row's address, port and process is of no interest.
        let mut words = [0_u32; 14];
        words[3] = u32::from_ne_bytes([0, 0, 0, 1]);
        words[5] = u32::from(8080_u16.to_be());
        words[13] = 7;
        assert_eq!(row6(&words), Some((SocketAddr::from((Ipv6Addr::LOCALHOST, 8080)), 7)));
        // A host may be without it.
        let Ok(open) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
        let address = open.local_addr().unwrap();
        assert!(table().iter().any(|(at, _)| *at == address), "{:?}", table());
    }

    #[test]
    fn a_socket_of_all_addresses_is_in_the_way_within_its_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let cases = [
            ("0.0.0.0", "127.0.0.1", true),
            ("127.0.0.1", "0.0.0.0", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("::", "::1", true),
            ("::1", "::", true),
            ("::", "127.0.0.1", false),
            ("0.0.0.0", "::1", false),
        ];
        for (at, to, expected) in cases {
            assert_eq!(covers(ip(at), ip(to)), expected, "{at} {to}");
        }
        assert_eq!(local("LocalHost").len(), 2);
    }
}
