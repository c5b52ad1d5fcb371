//! `sd_notify(3)`: tells systemd, or another that speaks its protocol, where the service is.
#![expect(unsafe_code, reason = "the clock that systemd compares with")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use crate::error::Error;
use crate::scm::{Link, RawStatus};
use crate::state::{StartReason, State};
use crate::token::Cause;

/// Where notifications go.
pub(crate) struct Socket {
    socket: UnixDatagram,
    to: To,
    beat_interval: Option<Duration>,
}

enum To {
    Path(PathBuf),
    /// Without its leading zero.
    Abstract(Vec<u8>),
}

impl Socket {
    /// The one that the environment names; `None` where none is, or one of a kind that we do not know (`vsock:`).
    pub(crate) fn from_env() -> Option<Socket> {
        let to = To::from(&env::var_os("NOTIFY_SOCKET")?)?;
        let beat = beat_interval(env::var_os("WATCHDOG_USEC"), env::var_os("WATCHDOG_PID"));
        Some(Socket { socket: UnixDatagram::unbound().ok()?, to, beat_interval: beat })
    }

    fn send(&self, text: &str) -> Result<(), Error> {
        let sent = match &self.to {
            To::Path(path) => self.socket.send_to(text.as_bytes(), path),
            To::Abstract(name) => send_abstract(&self.socket, name, text.as_bytes()),
        };
        sent.map(|_| ()).map_err(|error| {
            let number = error.raw_os_error().unwrap_or(libc::EINVAL);
            Error::system("notify the init system ($NOTIFY_SOCKET)", number.cast_unsigned())
        })
    }
}

impl To {
    fn from(name: &OsStr) -> Option<To> {
        match name.as_bytes() {
            [b'/', ..] => Some(To::Path(PathBuf::from(name))),
            [b'@', rest @ ..] => Some(To::Abstract(rest.to_vec())),
            _ => None,
        }
    }
}

#[cfg(target_os = "linux")]
fn send_abstract(socket: &UnixDatagram, name: &[u8], bytes: &[u8]) -> io::Result<usize> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    socket.send_to_addr(bytes, &address)
}

#[cfg(not(target_os = "linux"))]
fn send_abstract(_socket: &UnixDatagram, _name: &[u8], _bytes: &[u8]) -> io::Result<usize> {
    Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// Half of `WATCHDOG_USEC`, if it is meant for this process (`sd_watchdog_enabled(3)`).
fn beat_interval(interval: Option<OsString>, process: Option<OsString>) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    if process.is_some_and(|process| number(process) != Some(u64::from(process::id()))) {
        return None;
    }
    number(interval?).filter(|interval| *interval > 0).map(|interval| Duration::from_micros(interval / 2))
}

/// What systemd is told of a state.
fn words(status: &RawStatus) -> Option<String> {
    let more_time = || format!("EXTEND_TIMEOUT_USEC={}", u64::from(status.wait_hint_ms) * 1000);
    match State::from_number(status.state)? {
        State::StartPending => Some(more_time()),
        State::Running => Some("READY=1".to_owned()),
        State::PausePending => Some("STATUS=pausing".to_owned()),
        State::Paused => Some("STATUS=paused".to_owned()),
        State::ContinuePending => Some("STATUS=continuing".to_owned()),
        State::StopPending => Some(format!("STOPPING=1\n{}", more_time())),
        // The process' end says it.
        State::Stopped => None,
    }
}

impl Link for Socket {
    fn report(&self, status: RawStatus) -> Result<(), Error> {
        words(&status).map_or(Ok(()), |words| self.send(&words))
    }

    fn tell(&self, text: &str) {
        // One line, since the next would be read as a word of the protocol.
        let line = text.replace(['\n', '\r'], " ");
        // Words are for people who look; without them the service is as well as before.
        let _ = self.send(&format!("STATUS={line}"));
    }

    fn beat(&self) {
        // One that is lost is followed by another; if all are, systemd acts, which is what a watchdog is for.
        let _ = self.send("WATCHDOG=1");
    }

    fn beat_interval(&self) -> Option<Duration> {
        self.beat_interval
    }

    fn reloading(&self) {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the time is written to a structure of ours.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        let since_boot = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        // Of `Type=notify-reload`, which waits for READY=1 after it; other types show it only.
        let _ = self.send(&format!("RELOADING=1\nMONOTONIC_USEC={since_boot}"));
    }

    fn start_reason(&self) -> Option<StartReason> {
        None
    }

    fn time_to_end(&self, _cause: Cause) -> Option<Duration> {
        None
    }

    fn raw_handle(&self) -> Option<usize> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Accept, Exit, Pending, Status};

    #[test]
    fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
        let micros = |n: u64| Some(OsString::from(n.to_string()));
        assert_eq!(beat_interval(micros(3_000_000), None), Some(Duration::from_millis(1500)));
        let own = Some(process::id().to_string().into());
        assert_eq!(beat_interval(micros(2), own), Some(Duration::from_micros(1)));
        assert_eq!(beat_interval(micros(2), Some("1".into())), None);
        assert_eq!(beat_interval(micros(0), None), None);
        assert_eq!(beat_interval(None, None), None);
    }

    #[test]
    fn what_is_told_of_each_state() {
        let pending = Pending { checkpoint: 2, wait_hint: Duration::from_secs(7) };
        let told = |status: Status| words(&RawStatus::from(&status));
        assert_eq!(told(Status::StartPending(pending)).unwrap(), "EXTEND_TIMEOUT_USEC=7000000");
        assert_eq!(told(Status::Running(Accept::STOP)).unwrap(), "READY=1");
        assert_eq!(told(Status::StopPending(pending)).unwrap(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000");
        assert_eq!(told(Status::Stopped(Exit::Success)), None);
    }

    #[test]
    fn a_socket_of_a_kind_that_is_not_known_is_none() {
        assert!(To::from(OsStr::new("vsock:2:1234")).is_none());
        assert!(matches!(To::from(OsStr::new("@a")), Some(To::Abstract(name)) if name == b"a"));
    }
}
