//! Signals by name and number, and sending them. It decides nothing about when to stop what.
#![expect(unsafe_code, reason = "kill(2) has no safe form in the standard library")]

use std::io;

use super::ipc::check;

/// Asks a process to end.
pub const TERM: i32 = libc::SIGTERM;
/// Ends it.
pub const KILL: i32 = libc::SIGKILL;

/// Names as people write them, without `SIG`, and their numbers here.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The number of `TERM`, `SIGTERM`, `term`, `15`, `RTMIN+3`; `None` if there is no such signal.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = short.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    if let Some(rest) = short.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse::<i32>().ok()? };
        let number = libc::SIGRTMIN().checked_add(offset)?;
        return (number <= libc::SIGRTMAX() && offset >= 0).then_some(number);
    }
    SIGNALS.iter().find(|(known, _)| *known == short).map(|(_, number)| *number)
}

/// `SIGTERM` for 15, `SIGRTMIN+3`, or `signal 99`.
#[must_use]
pub fn signal_name(number: i32) -> String {
    if let Some((name, _)) = SIGNALS.iter().find(|(_, known)| *known == number) {
        return format!("SIG{name}");
    }
    match number - libc::SIGRTMIN() {
        0 => "SIGRTMIN".to_owned(),
        offset if offset > 0 && number <= libc::SIGRTMAX() => format!("SIGRTMIN+{offset}"),
        _ => format!("signal {number}"),
    }
}

/// All names, for "did you mean".
pub fn signal_names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(name, _)| *name)
}

/// Signals need no process to send them: this one was not started for it.
#[must_use]
pub fn run_as_sender() -> Option<i32> {
    None
}

/// Sends a signal to one process. Only its parent knows that it is still that process.
///
/// # Errors
/// When it is gone, or is not ours to signal.
pub fn signal(pid: u32, number: i32) -> io::Result<()> {
    send(i64::from(pid), pid, number)
}

/// Sends a signal to a process group.
///
/// # Errors
/// When it is gone, or holds no process that is ours to signal.
pub fn signal_group(group: u32, number: i32) -> io::Result<()> {
    send(-i64::from(group), group, number)
}

fn send(target: i64, id: u32, number: i32) -> io::Result<()> {
    // 0 and 1 mean more than one process in kill(2): our own group, and everything.
    let target = libc::pid_t::try_from(target).ok().filter(|_| id > 1);
    let target = target.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: no pointers.
    check(unsafe { libc::kill(target, number) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("term", 15), ("sigkill", 9), ("15", 15), (" HUP ", 1)]
        {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        assert_eq!(signal_number("RTMIN+3"), Some(libc::SIGRTMIN() + 3));
        for text in ["", "SIG", "TREM", "0", "-1", "65", "RTMIN+99", "RTMIN-1", "RTMIN+-1", "999999999999"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
        for number in 1..=libc::SIGRTMAX() {
            if !(32..libc::SIGRTMIN()).contains(&number) {
                assert_eq!(signal_number(&signal_name(number)), Some(number));
            }
        }
        assert_eq!(signal_name(99), "signal 99");
    }

    #[test]
    fn nobody_can_be_hit_by_a_number_that_means_everybody() {
        for pid in [0, 1, u32::MAX] {
            assert_eq!(signal(pid, 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
            assert_eq!(signal_group(pid, 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        }
        signal(std::process::id(), 0).unwrap();
    }
}
