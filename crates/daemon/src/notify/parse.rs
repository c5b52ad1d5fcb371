//! The text of one datagram (sd_notify(3), and `manager_invoke_notify_message` of systemd, whose habits this follows:
//! the first of two equal keys counts, one trailing NUL is allowed, a NUL anywhere else spoils the whole).

use std::time::Duration;

/// What one datagram says. Absent: not said, or said in a way that is none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Notification {
    pub(super) ready: bool,
    pub(super) reloading: bool,
    pub(super) stopping: bool,
    /// Empty: it takes back what it said.
    pub(super) status: Option<String>,
    pub(super) errno: Option<i32>,
    pub(super) main_pid: Option<u32>,
    pub(super) watchdog: Option<Watchdog>,
    /// Zero: it wants none.
    pub(super) watchdog_interval: Option<Duration>,
    pub(super) extend_timeout: Option<Duration>,
    pub(super) barrier: bool,
    /// Known keys whose value was none. They are ignored, as unknown keys are.
    pub(super) malformed: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Watchdog {
    /// A life sign.
    Alive,
    /// "I am broken."
    Trigger,
}

/// The text has a NUL in it: not what any sd_notify sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spoiled;

/// A longer status is cut; it is one line of a table.
const MAX_STATUS: usize = 1024;
/// No Linux has more processes than this (proc_sys_kernel(5), `pid_max`).
const MAX_PID: u32 = 1 << 22;

pub(super) fn parse(datagram: &[u8]) -> Result<Notification, Spoiled> {
    let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
    if text.contains(&0) {
        return Err(Spoiled);
    }
    let (mut said, mut seen) = (Notification::default(), Seen::default());
    for line in text.split(|b| *b == b'\n') {
        let Some(equals) = line.iter().position(|b| *b == b'=') else { continue };
        let (key, value) = (&line[..equals], &line[equals + 1..]);
        let Some(key) = Key::of(key) else { continue };
        if seen.before(key) {
            continue;
        }
        if said.take(key, value).is_none() {
            said.malformed += 1;
        }
    }
    Ok(said)
}

#[derive(Clone, Copy)]
enum Key {
    Ready,
    Reloading,
    Stopping,
    Status,
    Errno,
    MainPid,
    Watchdog,
    WatchdogUsec,
    ExtendTimeoutUsec,
    MonotonicUsec,
    Barrier,
}

impl Key {
    fn of(name: &[u8]) -> Option<Key> {
        Some(match name {
            b"READY" => Key::Ready,
            b"RELOADING" => Key::Reloading,
            b"STOPPING" => Key::Stopping,
            b"STATUS" => Key::Status,
            b"ERRNO" => Key::Errno,
            b"MAINPID" => Key::MainPid,
            b"WATCHDOG" => Key::Watchdog,
            b"WATCHDOG_USEC" => Key::WatchdogUsec,
            b"EXTEND_TIMEOUT_USEC" => Key::ExtendTimeoutUsec,
            b"MONOTONIC_USEC" => Key::MonotonicUsec,
            b"BARRIER" => Key::Barrier,
            _ => return None,
        })
    }
}

/// Which keys this datagram has had.
#[derive(Default)]
struct Seen(u16);

impl Seen {
    fn before(&mut self, key: Key) -> bool {
        let bit = 1 << key as u16;
        let before = self.0 & bit != 0;
        self.0 |= bit;
        before
    }
}

impl Notification {
    /// `None` if the value is none for this key.
    fn take(&mut self, key: Key, value: &[u8]) -> Option<()> {
        match key {
            Key::Ready => self.ready = yes(value)?,
            Key::Reloading => self.reloading = yes(value)?,
            Key::Stopping => self.stopping = yes(value)?,
            Key::Barrier => self.barrier = yes(value)?,
            Key::Status => self.status = Some(shown(std::str::from_utf8(value).ok()?)),
            // systemd takes the number either way round: programs pass `errno` or `-errno`.
            Key::Errno => self.errno = Some(number::<i32>(value)?.checked_abs()?),
            // 1 is the host's own first process, never one of ours.
            Key::MainPid => self.main_pid = Some(number(value).filter(|p| (2..=MAX_PID).contains(p))?),
            Key::Watchdog => {
                self.watchdog = Some(match value {
                    b"1" => Watchdog::Alive,
                    b"trigger" => Watchdog::Trigger,
                    _ => return None,
                });
            }
            Key::WatchdogUsec => self.watchdog_interval = Some(micros(value)?),
            Key::ExtendTimeoutUsec => self.extend_timeout = Some(micros(value)?),
            // When a reload began is of use to who starts it, and keepwell starts none; so it need only be a number.
            Key::MonotonicUsec => {
                micros(value)?;
            }
        }
        Some(())
    }
}

fn yes(value: &[u8]) -> Option<bool> {
    (value == b"1").then_some(true)
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.trim_ascii().parse().ok()
}

fn micros(value: &[u8]) -> Option<Duration> {
    number(value).map(Duration::from_micros)
}

/// Ends up on terminals, so it is one line without control characters.
fn shown(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_STATUS {
        let end = (0..=MAX_STATUS).rev().find(|i| line.is_char_boundary(*i));
        line.truncate(end.unwrap_or(0));
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(text: &str) -> Notification {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn each_key_is_understood() {
        let nothing = Notification::default();
        let table: [(&str, Notification); 16] = [
            ("READY=1", Notification { ready: true, ..nothing.clone() }),
            ("READY=1\n", Notification { ready: true, ..nothing.clone() }),
            ("READY=1\0", Notification { ready: true, ..nothing.clone() }),
            ("RELOADING=1\nMONOTONIC_USEC=123", Notification { reloading: true, ..nothing.clone() }),
            ("STOPPING=1", Notification { stopping: true, ..nothing.clone() }),
            ("STATUS=70 % = nearly\nREADY=1", {
                Notification { status: Some("70 % = nearly".into()), ready: true, ..nothing.clone() }
            }),
            ("STATUS=", Notification { status: Some(String::new()), ..nothing.clone() }),
            ("ERRNO=2", Notification { errno: Some(2), ..nothing.clone() }),
            ("ERRNO=-2", Notification { errno: Some(2), ..nothing.clone() }),
            ("MAINPID=4711", Notification { main_pid: Some(4711), ..nothing.clone() }),
            ("WATCHDOG=1", Notification { watchdog: Some(Watchdog::Alive), ..nothing.clone() }),
            ("WATCHDOG=trigger", Notification { watchdog: Some(Watchdog::Trigger), ..nothing.clone() }),
            ("WATCHDOG_USEC=1500000", {
                Notification { watchdog_interval: Some(Duration::from_millis(1500)), ..nothing.clone() }
            }),
            ("WATCHDOG_USEC=0", Notification { watchdog_interval: Some(Duration::ZERO), ..nothing.clone() }),
            ("EXTEND_TIMEOUT_USEC=18446744073709551615", {
                Notification { extend_timeout: Some(Duration::from_micros(u64::MAX)), ..nothing.clone() }
            }),
            ("BARRIER=1", Notification { barrier: true, ..nothing.clone() }),
        ];
        for (text, expected) in table {
            assert_eq!(said(text), expected, "{text:?}");
        }
    }

    #[test]
    fn unknown_keys_and_lines_that_are_none_say_nothing() {
        for text in [
            "",
            "\n\n",
            "\0",
            "FDSTORE=1\nFDNAME=x",
            "X_MINE=1",
            "READY",
            "ready=1",
            " READY=1",
            "=1",
            "READY =1",
        ] {
            assert_eq!(said(text), Notification::default(), "{text:?}");
        }
    }

    #[test]
    fn bad_values_are_counted_and_ignored() {
        for text in [
            "READY=0",
            "READY=yes",
            "READY=1 ",
            "WATCHDOG=0",
            "WATCHDOG_USEC=-1",
            "WATCHDOG_USEC=99999999999999999999",
            "EXTEND_TIMEOUT_USEC=1s",
            "MAINPID=0",
            "MAINPID=1",
            "MAINPID=-5",
            "MAINPID=99999999",
            "MAINPID=x",
            "ERRNO=ENOENT",
            "ERRNO=-2147483648",
            "MONOTONIC_USEC=x",
        ] {
            assert_eq!(said(text), Notification { malformed: 1, ..Notification::default() }, "{text:?}");
        }
        let status = parse(b"STATUS=\xff\xfe\nREADY=1").unwrap();
        assert_eq!(status, Notification { ready: true, malformed: 1, ..Notification::default() });
    }

    #[test]
    fn the_first_of_two_counts() {
        assert_eq!(said("STATUS=a\nSTATUS=b").status.as_deref(), Some("a"));
        assert_eq!(said("MAINPID=5\nMAINPID=x").malformed, 0);
    }

    #[test]
    fn a_nul_inside_spoils_all() {
        assert_eq!(parse(b"READY=1\0STATUS=x"), Err(Spoiled));
        assert_eq!(parse(b"READY=1\0\0"), Err(Spoiled));
    }

    #[test]
    fn a_status_cannot_harm_a_terminal() {
        assert_eq!(said("STATUS=a\u{1b}[2Jb\r\u{9b}c\t").status.as_deref(), Some("a [2Jb  c"));
        let long = format!("STATUS={}", "ä".repeat(3000));
        assert_eq!(said(&long).status.unwrap(), "ä".repeat(512));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_values_are_survived(lines in proptest::collection::vec(
            ("READY|STATUS|ERRNO|MAINPID|WATCHDOG|WATCHDOG_USEC|EXTEND_TIMEOUT_USEC|BARRIER|X", "=?", "\\PC{0,30}|-?[0-9]{0,25}"),
            0..12,
        )) {
            let text: Vec<String> = lines.iter().map(|(k, e, v)| format!("{k}{e}{v}")).collect();
            let text = text.join("\n");
            let said = parse(text.as_bytes()).unwrap();
            prop_assert!(!said.ready || text.contains("READY=1"));
            prop_assert!(said.main_pid.is_none_or(|pid| (2..=MAX_PID).contains(&pid)));
            prop_assert!(said.status.is_none_or(|s| s.len() <= MAX_STATUS && !s.contains(char::is_control)));
        }
    }
}
