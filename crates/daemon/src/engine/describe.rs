//! Words and codes for what the anchor reports.

use keepwell_config::ResolvedService;
use keepwell_core::event::ExitStatus;
use keepwell_os::{ProcessStatus, in_words};

/// The core's view of an exit.
pub(super) fn status(s: ProcessStatus) -> ExitStatus {
    match (s.code, s.signal) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => {
            ExitStatus::Signal { signal, core_dumped: s.core_dumped, out_of_memory: s.out_of_memory }
        }
        (None, None) => ExitStatus::Unknown,
    }
}

/// The exit code that a shell gives: the program's own, or 128 + signal (POSIX sh, 2.8.2).
pub(super) fn shell_code(s: &ExitStatus) -> i32 {
    match s {
        ExitStatus::Code(c) => *c,
        ExitStatus::Signal { signal, .. } => 128 + signal,
        ExitStatus::Unknown => 1,
    }
}

/// Why a start failed, with the thing that it failed on where that is known.
pub(super) fn spawn_step(step: &str, error: i32, about: Option<&ResolvedService>) -> String {
    let what = in_words(&std::io::Error::from_raw_os_error(error));
    match (step, about) {
        ("chdir", Some(about)) => format!("cannot enter the folder {}: {what}", about.cwd.display()),
        ("exec", Some(ResolvedService { argv, .. })) if !argv.is_empty() => {
            format!("{} could not be loaded: {what}", argv[0])
        }
        ("exec", _) => format!("the program could not be loaded: {what}"),
        ("clone", _) => format!("no process could be made: {what}"),
        ("setuid", _) => format!("it cannot be started as its user: {what}"),
        ("affinity", _) => format!("it cannot be bound to its processors: {what}"),
        (other, _) => format!("{other} failed: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_shells() {
        assert_eq!(shell_code(&ExitStatus::Code(3)), 3);
        let killed = ExitStatus::Signal { signal: 9, core_dumped: false, out_of_memory: false };
        assert_eq!(shell_code(&killed), 137);
    }

    #[test]
    fn a_failed_step_is_named() {
        let words = in_words(&std::io::Error::from_raw_os_error(5));
        assert_eq!(spawn_step("chdir", 5, None), format!("chdir failed: {words}"));
        assert_eq!(spawn_step("clone", 5, None), format!("no process could be made: {words}"));
    }
}
