//! `"TERM"`. Numbers are Linux's on x86, ARM and RISC-V (signal(7)).

use std::borrow::Cow;

use keepwell_core::spec::{CLOSE, CTRL_BREAK, CTRL_C, System};
use toml::de::DeValue;

use crate::read::{Element, Key, Node, Reader, nearest, schema_of};

/// A signal's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signal(pub(crate) i32);

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// What Windows has beside those signals that stand for Ctrl+C.
const OF_WINDOWS: [(&str, i32); 2] = [("BREAK", CTRL_BREAK), ("CLOSE", CLOSE)];

/// `SIGRTMIN` as programs see it: C libraries keep the first two real-time signals (signal(7)).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A signal's number by its name: `TERM`, `SIGTERM`, `term`, `RTMIN+3`, `15`.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.trim().to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, n)) = SIGNALS.iter().find(|(name, _)| *name == bare) {
        return Some(*n);
    }
    let number = match bare.strip_prefix("RTMIN") {
        Some("") => RTMIN,
        Some(offset) => RTMIN.checked_add(offset.strip_prefix('+')?.parse::<u8>().ok()?.into())?,
        None => i32::from(bare.parse::<u8>().ok()?),
    };
    (1..=RTMAX).contains(&number).then_some(number)
}

/// A signal's name without `SIG`: `TERM`, `RTMIN+3`; a number that is none stays a number.
#[must_use]
pub fn signal_name(number: i32) -> Cow<'static, str> {
    match SIGNALS.iter().find(|(_, n)| *n == number) {
        Some((name, _)) => (*name).into(),
        None if number == CTRL_C => "INT".into(),
        None if OF_WINDOWS.iter().any(|(_, n)| *n == number) => {
            OF_WINDOWS.iter().find(|(_, n)| *n == number).map_or("", |(name, _)| name).into()
        }
        None if number == RTMIN => "RTMIN".into(),
        None if (RTMIN..=RTMAX).contains(&number) => format!("RTMIN+{}", number - RTMIN).into(),
        None => number.to_string().into(),
    }
}

fn of_windows(name: &str) -> Option<i32> {
    let found = OF_WINDOWS.iter().find(|(known, _)| name.trim().eq_ignore_ascii_case(known));
    found.map(|(_, number)| *number)
}

impl Signal {
    /// What is sent on this kind of host; `None` where there is nothing that it could stand for.
    pub(crate) fn on(self, system: System) -> Option<i32> {
        const KILL: i32 = 9;
        match (system, self.0) {
            (System::Unix, CTRL_BREAK | CLOSE) => None,
            (System::Unix, number) => Some(number),
            // INT and TERM; QUIT, which is Ctrl+\ at a terminal.
            (System::Windows, 2 | 15) => Some(CTRL_C),
            (System::Windows, 3) => Some(CTRL_BREAK),
            (System::Windows, number @ (KILL | CTRL_BREAK | CLOSE)) => Some(number),
            (System::Windows, _) => None,
        }
    }
}

impl Element for Signal {
    fn what() -> Cow<'static, str> {
        "a signal".into()
    }
    fn syntax() -> Cow<'static, str> {
        "a signal is written by its name: \"TERM\", \"INT\", \"HUP\", \"QUIT\", \"USR1\"".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::String(s) => signal_number(s).or_else(|| of_windows(s)).map(Self).or_else(|| {
                let upper = s.to_ascii_uppercase();
                let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
                let like = nearest(bare, SIGNALS.iter().chain(&OF_WINDOWS).map(|(n, _)| *n));
                r.bad(at, key, like.map_or("unknown signal".to_owned(), |n| format!("did you mean \"{n}\"?")))
            }),
            DeValue::Integer(n) => match n.as_str().parse::<i32>() {
                Ok(n) if (1..=RTMAX).contains(&n) => {
                    r.bad(at, key, format!("write its name: \"{}\"", signal_name(n)))
                }
                Ok(_) | Err(_) => r.bad(at, key, "no signal has this number"),
            },
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(Signal, |_generator| schemars::json_schema!({
    "type": "string", "examples": ["TERM", "INT", "HUP", "QUIT", "USR1", "RTMIN+3", "BREAK", "CLOSE"]
}));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name() {
        assert_eq!(signal_number("TERM"), Some(15));
        assert_eq!(signal_number("sigterm"), Some(15));
        assert_eq!(signal_number("15"), Some(15));
        assert_eq!(signal_number("SIGRTMIN+3"), Some(37));
        assert_eq!(signal_number("RTMIN+31"), None);
        assert_eq!(signal_number("0"), None);
        assert_eq!(signal_number("TREM"), None);
    }

    #[test]
    fn each_kind_of_host_has_its_own() {
        assert_eq!(of_windows("break"), Some(CTRL_BREAK));
        for (written, unix, windows) in [
            (15, Some(15), Some(CTRL_C)),
            (2, Some(2), Some(CTRL_C)),
            (3, Some(3), Some(CTRL_BREAK)),
            (9, Some(9), Some(9)),
            (1, Some(1), None),
            (CLOSE, None, Some(CLOSE)),
            (CTRL_BREAK, None, Some(CTRL_BREAK)),
        ] {
            assert_eq!(Signal(written).on(System::Unix), unix);
            assert_eq!(Signal(written).on(System::Windows), windows);
        }
        assert_eq!([signal_name(CLOSE), signal_name(CTRL_C)], ["CLOSE", "INT"]);
    }

    #[test]
    fn every_number_has_a_name_that_reads_back() {
        for n in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(signal_number(&signal_name(n)), Some(n));
        }
    }
}
