//! Plain words for what happened, the same everywhere.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use crate::event::ExitStatus;
use crate::spec::{CLOSE, CTRL_BREAK, CTRL_C, To};
use crate::supervisor::ExitRecord;
use crate::time::Human;

/// A signal by name: `SIGTERM`; `signal 40` where it has none. Numbers are Linux's (signal(7)).
pub(crate) fn signal(number: i32) -> Cow<'static, str> {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        18 => "SIGCONT",
        19 => "SIGSTOP",
        20 => "SIGTSTP",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        28 => "SIGWINCH",
        31 => "SIGSYS",
        CTRL_C => "Ctrl+C",
        CTRL_BREAK => "Ctrl+Break",
        CLOSE => "WM_CLOSE",
        n => return Cow::Owned(format!("signal {n}")),
    };
    Cow::Borrowed(name)
}

/// Who gets a signal.
pub(crate) fn target(to: To) -> &'static str {
    match to {
        To::Main => "the main process",
        To::Group => "the process group",
        To::Tree => "the whole tree",
    }
}

/// How a process ended: `exit code 3`, `killed by SIGKILL`, `killed by the kernel for memory`.
pub(crate) fn exit(status: ExitStatus) -> Cow<'static, str> {
    match status {
        ExitStatus::Code(code) => Cow::Owned(format!("exit code {code}")),
        ExitStatus::Signal { out_of_memory: true, .. } => Cow::Borrowed("killed by the kernel for memory"),
        ExitStatus::Signal { signal: number, core_dumped: true, .. } => {
            Cow::Owned(format!("killed by {}, with a core dump", signal(number)))
        }
        ExitStatus::Signal { signal: number, .. } => Cow::Owned(format!("killed by {}", signal(number))),
        ExitStatus::Unknown => Cow::Borrowed("ended while nobody could see how"),
    }
}

/// One exit in short: `exit code 3 after 1.2 s`.
pub(crate) fn exit_short(record: &ExitRecord) -> String {
    match &record.outcome {
        Ok(status) => format!("{} after {}", exit(*status), Human(record.ran_for)),
        Err(error) => error.text.clone(),
    }
}

/// One exit with its meaning: `exit code 3 after 1.2 s, before it was ready`.
pub(crate) fn exit_long(record: &ExitRecord, checked: bool) -> String {
    let mut text = exit_short(record);
    if record.outcome.is_err() {
        return text;
    }
    if record.expected {
        text.push_str(", while it was being stopped");
    } else if checked && !record.was_ready {
        text.push_str(", before it was ready");
    }
    text
}
