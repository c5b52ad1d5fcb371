//! `"TERM"`. Numbers are Linux's on x86, ARM and RISC-V (signal(7)).

use std::borrow::Cow;

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
        None if number == RTMIN => "RTMIN".into(),
        None if (RTMIN..=RTMAX).contains(&number) => format!("RTMIN+{}", number - RTMIN).into(),
        None => number.to_string().into(),
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
            DeValue::String(s) => signal_number(s).map(Self).or_else(|| {
                let upper = s.to_ascii_uppercase();
                let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
                let like = nearest(bare, SIGNALS.iter().map(|(n, _)| *n));
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
    "type": "string", "examples": ["TERM", "INT", "HUP", "QUIT", "USR1", "RTMIN+3"]
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
    fn every_number_has_a_name_that_reads_back() {
        for n in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(signal_number(&signal_name(n)), Some(n));
        }
    }
}
