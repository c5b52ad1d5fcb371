//! Who listens on a port of this host.
#![expect(unsafe_code, reason = "the table of connections has no safe form in the standard library")]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr;

use windows_sys::Win32::NetworkManagement::IpHelper::{
    GetExtendedTcpTable, MIB_TCPROW_OWNER_PID, TCP_TABLE_OWNER_PID_LISTENER,
};
use windows_sys::Win32::System::JobObjects::IsProcessInJob;
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};

use super::ipc::Handle;
use super::sys::{check, owned};

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

/// Who takes connections to `host` (an IPv4 address, or `localhost`) and `port`. `None`: nobody, or it is no such address of
/// this host. Also one who lives in a job, who may belong to a guardian: others' jobs have no names that could be asked for.
#[must_use]
pub fn listener(host: &str, port: u16) -> Option<Listener> {
    let to = if host.eq_ignore_ascii_case("localhost") { Ipv4Addr::LOCALHOST } else { host.parse().ok()? };
    let own = to.is_loopback() || to.is_unspecified() || UdpSocket::bind((to, 0)).is_ok();
    let found = table().into_iter().find(|(at, _)| {
        at.port() == port
            && own
            && (at.ip() == IpAddr::V4(to) || at.ip().is_unspecified() || to.is_unspecified())
    });
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

/// Addresses that are listened on, and by whom.
fn table() -> Vec<(SocketAddr, u32)> {
    const INET: u32 = 2;
    let mut size = 16 << 10;
    for _ in 0..4 {
        // As `u32` for its alignment: a count, and the rows.
        let mut buffer = vec![0_u32; size as usize / 4 + 1];
        let (into, class) = (buffer.as_mut_ptr().cast(), TCP_TABLE_OWNER_PID_LISTENER);
        // SAFETY: the buffer has the size that is said; the call says what it wants if that is too little.
        if unsafe { GetExtendedTcpTable(into, &raw mut size, 0, INET, class, 0) } == 0 {
            let rows =
                buffer.get(1..).unwrap_or_default().chunks_exact(size_of::<MIB_TCPROW_OWNER_PID>() / 4);
            let count = buffer.first().map_or(0, |n| *n as usize);
            // State, address and port here, both there, process: numbers as they are on the wire.
            return rows.take(count).filter_map(row).collect();
        }
    }
    Vec::new()
}

fn row(row: &[u32]) -> Option<(SocketAddr, u32)> {
    let [_, address, port, _, _, pid] = row else { return None };
    let port = u16::from_be((*port & 0xffff) as u16);
    Some((SocketAddr::from((Ipv4Addr::from(address.to_ne_bytes()), port)), *pid))
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
}
