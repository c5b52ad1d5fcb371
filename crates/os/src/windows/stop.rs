//! The ways to ask a process to end, by the names that people know from signals. Windows has no signals: what stands for
//! them is said at each number. It decides nothing.
//!
//! A Ctrl event reaches all that share a console, and a process can be attached to one console only. So it is sent by a
//! short-lived process of our own, which leaves its console, attaches itself to the child's, and sends it there.
#![expect(unsafe_code, reason = "consoles and windows have no safe form in the standard library")]

use std::collections::BTreeSet;
use std::io;
use std::os::windows::io::OwnedHandle;
use std::os::windows::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr;
use std::time::{Duration, Instant};

use keepwell_core::spec::{CLOSE, CTRL_BREAK, CTRL_C};
use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, HWND, LPARAM};
use windows_sys::Win32::System::Console::{
    AttachConsole, CTRL_BREAK_EVENT, CTRL_C_EVENT, FreeConsole, GenerateConsoleCtrlEvent,
    GetConsoleProcessList, SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Threading::DETACHED_PROCESS;
use windows_sys::core::BOOL;

use super::sys::{self, check};

/// Ctrl+C, at the console of the process.
pub const INT: i32 = 2;
/// Ctrl+Break, at the console of the process.
pub const BREAK: i32 = 21;
/// The console is closed; to another process: asks its windows to close.
pub const HUP: i32 = 1;
/// Asks a process to end: Ctrl+C and closing its windows, as it has the one or the other.
pub const TERM: i32 = 15;
/// Ends it.
pub const KILL: i32 = 9;
const QUIT: i32 = 3;

/// Names as people write them, without `SIG`. What has no meaning here has no name.
const SIGNALS: [(&str, i32); 9] = [
    ("TERM", TERM),
    ("KILL", KILL),
    ("INT", INT),
    ("BREAK", BREAK),
    ("QUIT", QUIT),
    ("HUP", HUP),
    ("CTRL_C", CTRL_C),
    ("CTRL_BREAK", CTRL_BREAK),
    ("CLOSE", CLOSE),
];

/// The number of `TERM`, `SIGTERM`, `term`, `15`; `None` if there is no such signal here.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = short.parse::<i32>() {
        return SIGNALS.iter().any(|(_, known)| *known == number).then_some(number);
    }
    SIGNALS.iter().find(|(known, _)| *known == short).map(|(_, number)| *number)
}

/// `SIGTERM` for 15, or `signal 99`.
#[must_use]
pub fn signal_name(number: i32) -> String {
    let found = SIGNALS.iter().find(|(_, known)| *known == number);
    found.map_or_else(|| format!("signal {number}"), |(name, _)| format!("SIG{name}"))
}

/// All names, for "did you mean".
pub fn signal_names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(name, _)| *name)
}

/// The one argument of the process that sends an event, and the variable that says what and to whom: `2 4711,4712`.
const WORD: &str = "keepwell_event";
const VARIABLE: &str = "KEEPWELL_EVENT";
/// For a console to be there, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(10);
/// More than these are not asked at once: their numbers fill half of the longest environment.
const MOST: usize = 2000;
/// Its exit codes when nobody was asked.
const NO_CONSOLE: i32 = 3;
const NO_WINDOW: i32 = 4;
const UNKNOWN: i32 = 5;

/// Sends an event to processes that the caller holds, by a process of its own, whose exit code says how it went.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn send(pids: &[u32], signal: i32) -> io::Result<(u32, OwnedHandle)> {
    let nobody = Stdio::null;
    let pids: Vec<String> = pids.iter().take(MOST).map(u32::to_string).collect();
    let sender = Command::new(std::env::current_exe()?)
        .arg(WORD)
        .env(VARIABLE, format!("{signal} {}", pids.join(",")))
        .creation_flags(DETACHED_PROCESS)
        .stdin(nobody())
        .stdout(nobody())
        .stderr(nobody())
        .spawn()?;
    Ok((sender.id(), OwnedHandle::from(sender)))
}

/// Why nobody was asked, by the sender's exit code; `None`: somebody was.
pub(crate) fn refusal(code: u32) -> Option<&'static str> {
    match code.cast_signed() {
        0 => None,
        NO_CONSOLE => Some("it has no console that could be reached"),
        NO_WINDOW => Some("it has no window"),
        UNKNOWN => Some("there is no such signal on Windows"),
        _ => Some("the process that was to send it failed"),
    }
}

/// If this process was started to send an event, sends it and gives the exit code. To be asked first of all by every
/// program that has a host.
#[must_use]
pub fn run_as_sender() -> Option<i32> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|word| word != WORD) {
        return None;
    }
    let task = std::env::var(VARIABLE).ok()?;
    let (signal, pids) = task.split_once(' ')?;
    let pids: Vec<u32> = pids.split(',').filter_map(|pid| pid.parse().ok()).collect();
    Some(send_here(&pids, signal.parse().ok()?))
}

fn send_here(pids: &[u32], signal: i32) -> i32 {
    let code = |reached: bool, otherwise| if reached { 0 } else { otherwise };
    match signal {
        INT | CTRL_C => code(event(pids, CTRL_C_EVENT), NO_CONSOLE),
        BREAK | QUIT | CTRL_BREAK => code(event(pids, CTRL_BREAK_EVENT), NO_CONSOLE),
        HUP | CLOSE => code(close_windows(pids).is_ok(), NO_WINDOW),
        TERM => {
            let (closed, sent) = (close_windows(pids).is_ok(), event(pids, CTRL_C_EVENT));
            code(closed || sent, NO_CONSOLE)
        }
        _ => UNKNOWN,
    }
}

/// Sends it at each console that one of these processes has, once. Whether there was one.
fn event(pids: &[u32], event: u32) -> bool {
    let (mut asked, mut reached) = (BTreeSet::new(), false);
    for pid in pids {
        if asked.contains(pid) {
            continue;
        }
        // SAFETY: no pointers. Without a console of its own this process may attach itself to another's; it ignores what
        // it sends, because it is sent to all that are attached.
        let sent = unsafe {
            FreeConsole();
            attach(*pid).and_then(|()| {
                SetConsoleCtrlHandler(None, 1);
                check(GenerateConsoleCtrlEvent(event, 0))
            })
        };
        if sent.is_ok() {
            reached = true;
            asked.extend(attached());
        }
    }
    reached
}

/// A process that has just been started has its console a moment later.
fn attach(pid: u32) -> io::Result<()> {
    let began = Instant::now();
    loop {
        // SAFETY: no pointers.
        match check(unsafe { AttachConsole(pid) }) {
            // There is no such process any more.
            Err(e) if sys::is(&e, ERROR_INVALID_PARAMETER) => return Err(e),
            Err(_) if began.elapsed() < PATIENCE => std::thread::sleep(RETRY),
            answer => return answer,
        }
    }
}

/// The processes that are attached to the console of this one; none where the system does not tell, as under Wine.
fn attached() -> Vec<u32> {
    let mut pids = vec![0; MOST];
    // SAFETY: `pids` has room for that many.
    let count = unsafe { GetConsoleProcessList(pids.as_mut_ptr(), MOST as u32) } as usize;
    // A count beyond the room means that nothing was written.
    pids.truncate(if count <= MOST { count } else { 0 });
    pids
}

type EnumWindows = unsafe extern "system" fn(unsafe extern "system" fn(HWND, LPARAM) -> BOOL, LPARAM) -> BOOL;
type GetWindowThreadProcessId = unsafe extern "system" fn(HWND, *mut u32) -> u32;
type PostMessage = unsafe extern "system" fn(HWND, u32, usize, LPARAM) -> BOOL;

const WM_CLOSE: u32 = 0x10;

struct Search<'a> {
    pids: &'a [u32],
    owner: GetWindowThreadProcessId,
    post: PostMessage,
    found: u32,
}

/// user32 is loaded here and nowhere else: a process that has it is not told of the end of a session by console events.
fn close_windows(pids: &[u32]) -> io::Result<()> {
    // SAFETY: the three functions have the types that are said.
    let (each, owner, post) = unsafe {
        let each: EnumWindows = sys::function("user32.dll", c"EnumWindows")?;
        let owner: GetWindowThreadProcessId = sys::function("user32.dll", c"GetWindowThreadProcessId")?;
        let post: PostMessage = sys::function("user32.dll", c"PostMessageW")?;
        (each, owner, post)
    };
    let mut search = Search { pids, owner, post, found: 0 };
    // SAFETY: `search` lives through the call, which calls `close` with it.
    unsafe { each(close, ptr::from_mut(&mut search).expose_provenance() as LPARAM) };
    if search.found > 0 { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

unsafe extern "system" fn close(window: HWND, search: LPARAM) -> BOOL {
    // SAFETY: the parameter is the `Search` that `close_windows` lends; the window is asked about and sent a message.
    unsafe {
        let search = &mut *ptr::with_exposed_provenance_mut::<Search<'_>>(search as usize);
        let mut pid = 0;
        (search.owner)(window, &raw mut pid);
        if search.pids.contains(&pid) && (search.post)(window, WM_CLOSE, 0, 0) != 0 {
            search.found += 1;
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("int", 2), ("sigkill", 9), ("15", 15), ("BREAK", 21)]
        {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        for text in ["", "USR1", "0", "-1", "64"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(99), "signal 99");
    }

    #[test]
    fn what_has_no_windows_is_told() {
        assert_eq!(close_windows(&[std::process::id()]).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(run_as_sender(), None);
        let me = [std::process::id()];
        assert_eq!(refusal(send_here(&me, CLOSE).cast_unsigned()), Some("it has no window"));
        let why = refusal(send_here(&me, 10).cast_unsigned());
        assert_eq!(why, Some("there is no such signal on Windows"));
        assert_eq!(refusal(0), None);
    }
}
