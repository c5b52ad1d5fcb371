//! POSIX signals by name. The numbers are those of Linux on x86 and ARM (signal(7)), which the core speaks everywhere.

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// glibc keeps 32 and 33 for itself, so programs count real-time signals from here.
const RT_MIN: i32 = 34;
const RT_MAX: i32 = 64;

/// `SIGTERM`; `SIGRTMIN+3`; `signal 99` for what has no name.
#[must_use]
pub fn signal_name(number: i32) -> String {
    let name = usize::try_from(number).ok().and_then(|n| n.checked_sub(1)).and_then(|n| NAMES.get(n));
    match (name, number) {
        (Some(name), _) => format!("SIG{name}"),
        (None, RT_MIN) => "SIGRTMIN".to_owned(),
        (None, n) if (RT_MIN..=RT_MAX).contains(&n) => format!("SIGRTMIN+{}", n - RT_MIN),
        (None, n) => format!("signal {n}"),
    }
}

/// Reads `HUP`, `SIGHUP`, `hup`, `1`, `RTMIN+3`.
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(n) = text.parse::<i32>() {
        return (1..=RT_MAX).contains(&n).then_some(n);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let n = RT_MIN + if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse::<i32>().ok()? };
        return (RT_MIN..=RT_MAX).contains(&n).then_some(n);
    }
    let at = NAMES.iter().position(|n| *n == name)?;
    i32::try_from(at + 1).ok()
}

/// For "did you mean".
pub(super) fn signal_names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_name_that_reads_back() {
        for n in (1..=31).chain(RT_MIN..=RT_MAX) {
            assert_eq!(signal_number(&signal_name(n)), Some(n), "{n}");
        }
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(32), "signal 32");
        assert_eq!(signal_name(-1), "signal -1");
    }

    #[test]
    fn names_are_read_with_and_without_sig() {
        for text in ["HUP", "SIGHUP", "hup", "sighup", "1"] {
            assert_eq!(signal_number(text), Some(1), "{text}");
        }
        for text in ["", "SIG", "NOPE", "0", "65", "-9", "RTMIN+31", "RTMIN-1"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }
}
