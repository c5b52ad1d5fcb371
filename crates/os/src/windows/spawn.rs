//! Starts processes, each born in its jobs, with a hidden console of its own and nothing inherited but what it is given. It
//! never waits for them and never chooses what to start.
#![expect(unsafe_code, reason = "CreateProcess with attributes has no safe form in the standard library")]

mod account;
mod attributes;
pub(crate) mod command;

use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{
    ERROR_BAD_EXE_FORMAT, ERROR_CANCELLED, ERROR_DIRECTORY, ERROR_INVALID_PARAMETER, HANDLE,
};
use windows_sys::Win32::System::Console::{
    GetStdHandle, STD_ERROR_HANDLE, STD_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE,
};
use windows_sys::Win32::System::Threading::{
    ABOVE_NORMAL_PRIORITY_CLASS, BELOW_NORMAL_PRIORITY_CLASS, CREATE_NO_WINDOW, CREATE_SUSPENDED,
    CREATE_UNICODE_ENVIRONMENT, CreateProcessAsUserW, CreateProcessW, EXTENDED_STARTUPINFO_PRESENT,
    GetProcessAffinityMask, HIGH_PRIORITY_CLASS, IDLE_PRIORITY_CLASS, NORMAL_PRIORITY_CLASS,
    PROCESS_CREATION_FLAGS, PROCESS_INFORMATION, ResumeThread, STARTF_USESTDHANDLES, STARTUPINFOEXW,
    SetProcessAffinityMask, TerminateProcess,
};

use self::attributes::Attributes;
use super::ipc::BorrowedHandle;
use super::program;
use super::sys::{self, check, owned, wide_path};
use super::tree::job::Job;
use crate::types::{Processors, SpawnRequest};

pub use crate::step::{SpawnFailure, Step};

/// Where a child's output goes.
#[derive(Clone, Copy, Debug)]
pub struct Stdio<'a> {
    /// Standard output.
    pub stdout: BorrowedHandle<'a>,
    /// Standard error.
    pub stderr: BorrowedHandle<'a>,
}

/// A process of keepwell's own, started from its open program file. It may outlive this one.
#[derive(Clone, Copy, Debug)]
pub struct Helper<'a> {
    /// The program, opened once: its file may have been renamed since.
    pub program: BorrowedHandle<'a>,
    /// `None`: it shares this process's console and output.
    pub detached: Option<Detached<'a>>,
}

/// How a helper lives that has nothing to do with the terminal.
#[derive(Clone, Copy, Debug)]
pub struct Detached<'a> {
    /// Becomes its standard input.
    pub channel: BorrowedHandle<'a>,
    /// Standard error.
    pub stderr: BorrowedHandle<'a>,
}

/// What a test makes the host refuse: nothing, as there is one way only to start a process here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {}

/// The error number of a start that keepwell itself refused.
pub const CANCELED: i32 = ERROR_CANCELLED.cast_signed();

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: OwnedHandle,
    pub(crate) pid: u32,
}

/// Starts processes.
#[derive(Debug)]
pub(crate) struct Spawner {
    stdin: File,
}

impl Spawner {
    pub(crate) fn new() -> io::Result<Spawner> {
        Ok(Spawner { stdin: File::options().read(true).write(true).open("NUL")? })
    }

    /// The same for a process that reads this.
    pub(crate) fn reading(stdin: File) -> Spawner {
        Spawner { stdin }
    }

    /// Starts a process in these jobs, each inside the one before it.
    pub(crate) fn spawn(
        &self,
        request: &SpawnRequest,
        stdio: Stdio<'_>,
        jobs: &[&Job],
    ) -> Result<Started, SpawnFailure> {
        let refuse = |step, number: u32| SpawnFailure { step, errno: number.cast_signed() };
        let account = request.identity.as_deref().and_then(|identity| identity.account.as_deref());
        let token = account.map(account::log_on).transpose();
        let token =
            token.map_err(|e| SpawnFailure { step: Step::User, errno: e.raw_os_error().unwrap_or(0) })?;
        let program = text(&request.program)?;
        let arguments = request.argv.iter().map(|a| text(a)).collect::<Result<Vec<_>, _>>()?;
        let raw = request.line.as_deref().map(text).transpose()?;
        let (program, line) = command::line(Path::new(program), &arguments, raw)
            .ok_or_else(|| refuse(Step::Request, ERROR_INVALID_PARAMETER))?;
        let cwd = text(&request.cwd)?;
        self.create(&Plan {
            program: &wide_path(&program),
            line,
            environment: environment(&request.env)?,
            cwd: (!cwd.is_empty()).then(|| sys::wide(cwd)),
            stdin: self.stdin.as_raw_handle(),
            stdout: stdio.stdout.raw(),
            stderr: stdio.stderr.raw(),
            jobs,
            flags: CREATE_NO_WINDOW | priority(request.nice),
            affinity: request.affinity.as_deref(),
            token: token.as_ref(),
        })
    }

    /// Starts a process of keepwell's own with the request's `argv` and `env`.
    pub(crate) fn helper(&self, request: &SpawnRequest, helper: Helper<'_>) -> Result<Started, SpawnFailure> {
        let path = program::path_of(helper.program)
            .map_err(|e| SpawnFailure { step: Step::Exec, errno: e.raw_os_error().unwrap_or(0) })?;
        let arguments = request.argv.iter().map(|a| text(a)).collect::<Result<Vec<_>, _>>()?;
        let null = self.stdin.as_raw_handle();
        let (stdin, stdout, stderr, flags) = match helper.detached {
            Some(d) => (d.channel.raw(), null, d.stderr.raw(), CREATE_NO_WINDOW),
            None => {
                (own(STD_INPUT_HANDLE, null), own(STD_OUTPUT_HANDLE, null), own(STD_ERROR_HANDLE, null), 0)
            }
        };
        self.create(&Plan {
            program: &wide_path(&path),
            line: command::quoted(&arguments),
            environment: environment(&request.env)?,
            cwd: None,
            stdin,
            stdout,
            stderr,
            jobs: &[],
            flags,
            affinity: None,
            token: None,
        })
    }

    fn create(&self, plan: &Plan<'_>) -> Result<Started, SpawnFailure> {
        let files = |e: io::Error| SpawnFailure { step: Step::Files, errno: e.raw_os_error().unwrap_or(0) };
        let inherit = |handle| sys::duplicate(handle, true).map_err(files);
        let (stdin, stdout, stderr) = (inherit(plan.stdin)?, inherit(plan.stdout)?, inherit(plan.stderr)?);
        let handles = [stdin.as_raw_handle(), stdout.as_raw_handle(), stderr.as_raw_handle()];
        let jobs: Vec<HANDLE> = plan.jobs.iter().map(|job| job.raw()).collect();
        let attributes = Attributes::new(&handles, &jobs).map_err(files)?;
        let mut startup = STARTUPINFOEXW { lpAttributeList: attributes.raw(), ..STARTUPINFOEXW::default() };
        startup.StartupInfo.cb = size_of::<STARTUPINFOEXW>() as u32;
        startup.StartupInfo.dwFlags = STARTF_USESTDHANDLES;
        [startup.StartupInfo.hStdInput, startup.StartupInfo.hStdOutput, startup.StartupInfo.hStdError] =
            handles;
        let held = if plan.affinity.is_some() { CREATE_SUSPENDED } else { 0 };
        let flags = plan.flags | held | CREATE_UNICODE_ENVIRONMENT | EXTENDED_STARTUPINFO_PRESENT;
        let cwd = plan.cwd.as_ref().map_or(ptr::null(), |cwd| cwd.as_ptr());
        let mut line = plan.line.clone();
        let mut desktop = [0_u16];
        if plan.token.is_some() {
            // The desktop of this account's logon: that of the guardian's is closed to it, and without one hardly a program loads.
            startup.StartupInfo.lpDesktop = desktop.as_mut_ptr();
        }
        let mut made = PROCESS_INFORMATION::default();
        // SAFETY: all text ends with a zero, `line` may be written to, the environment ends with two zeroes; what the
        // attributes point to lives through the call. Both handles that are returned are new and ours.
        unsafe {
            let (program, environment, info) =
                (plan.program.as_ptr(), plan.environment.as_ptr(), &raw mut made);
            let none = ptr::null();
            let (line, environment, startup) =
                (line.as_mut_ptr(), environment.cast(), (&raw const startup).cast());
            let answer = match plan.token {
                None => CreateProcessW(program, line, none, none, 1, flags, environment, cwd, startup, info),
                Some(token) => {
                    let token = token.as_raw_handle();
                    CreateProcessAsUserW(
                        token,
                        program,
                        line,
                        none,
                        none,
                        1,
                        flags,
                        environment,
                        cwd,
                        startup,
                        info,
                    )
                }
            };
            check(answer).map_err(|e| failure(&e))?;
            let thread = owned(made.hThread);
            let process = owned(made.hProcess).map_err(|e| failure(&e))?;
            if let Some(processors) = plan.affinity {
                // It has not run yet, so nothing that it starts is elsewhere.
                bind(&process, processors).and_then(|()| resume(&thread?)).map_err(|e| {
                    TerminateProcess(process.as_raw_handle(), 1);
                    SpawnFailure { step: Step::Affinity, errno: e.raw_os_error().unwrap_or(0) }
                })?;
            }
            Ok(Started { process, pid: made.dwProcessId })
        }
    }
}

struct Plan<'a> {
    program: &'a [u16],
    line: Vec<u16>,
    environment: Vec<u16>,
    cwd: Option<Vec<u16>>,
    stdin: HANDLE,
    stdout: HANDLE,
    stderr: HANDLE,
    jobs: &'a [&'a Job],
    flags: PROCESS_CREATION_FLAGS,
    affinity: Option<&'a Processors>,
    /// Of another account.
    token: Option<&'a OwnedHandle>,
}

/// The system says in one number what several steps may have failed at.
fn failure(e: &io::Error) -> SpawnFailure {
    let errno = e.raw_os_error().unwrap_or(0);
    let step = match errno.cast_unsigned() {
        ERROR_DIRECTORY => Step::Chdir,
        ERROR_BAD_EXE_FORMAT => Step::Exec,
        _ if super::is_shortage(errno) => Step::Fork,
        _ => Step::Exec,
    };
    SpawnFailure { step, errno }
}

/// A standard handle of this process, if it has it.
fn own(which: STD_HANDLE, null: HANDLE) -> HANDLE {
    // SAFETY: no pointers.
    let handle = unsafe { GetStdHandle(which) };
    if handle.is_null() || sys::duplicate(handle, false).is_err() { null } else { handle }
}

/// Requests hold the system's text as UTF-8; a name that is not, or holds a zero, is nothing that could be started.
fn text(bytes: &[u8]) -> Result<&str, SpawnFailure> {
    let text = str::from_utf8(bytes).ok().filter(|t| !t.contains('\0'));
    text.ok_or(SpawnFailure { step: Step::Request, errno: ERROR_INVALID_PARAMETER.cast_signed() })
}

/// The block that CreateProcessW wants: sorted, each entry with a zero, one more at the end.
fn environment(entries: &[Vec<u8>]) -> Result<Vec<u16>, SpawnFailure> {
    let mut all = entries.iter().map(|e| text(e)).collect::<Result<Vec<&str>, _>>()?;
    // Without it a program cannot load what sockets and random numbers need.
    let root = std::env::var("SystemRoot").map(|root| format!("SystemRoot={root}"));
    let has_root = all.iter().any(|e| e.to_ascii_uppercase().starts_with("SYSTEMROOT="));
    all.extend(root.iter().filter(|_| !has_root).map(String::as_str));
    // Names of the shell's own (`=C:=C:\`) begin with the sign that ends them.
    let name = |e: &&str| e.char_indices().find(|(i, c)| *i > 0 && *c == '=').map_or(e.len(), |(i, _)| i);
    all.sort_by_key(|e| e.get(..name(e)).unwrap_or(e).to_uppercase());
    let mut block: Vec<u16> = all.iter().flat_map(|e| e.encode_utf16().chain([0])).collect();
    if block.is_empty() {
        block.push(0);
    }
    block.push(0);
    Ok(block)
}

/// Lets a process run on these processors only; those that are not there do not count, as long as one is.
///
/// Those from 64 on are in other groups, into which a process of one group cannot go.
fn bind(process: &OwnedHandle, processors: &Processors) -> io::Result<()> {
    let wanted = usize::try_from(processors.first()).unwrap_or(usize::MAX);
    let (mut own, mut system) = (0, 0);
    // SAFETY: an open process; both masks are filled by the call, and the new one is a plain number.
    unsafe {
        check(GetProcessAffinityMask(process.as_raw_handle(), &raw mut own, &raw mut system))?;
        check(SetProcessAffinityMask(process.as_raw_handle(), wanted & system))
    }
}

fn resume(thread: &OwnedHandle) -> io::Result<()> {
    // SAFETY: an open thread that was made suspended.
    let before = unsafe { ResumeThread(thread.as_raw_handle()) };
    if before == u32::MAX { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The class that is nearest to a nice value.
fn priority(nice: Option<i32>) -> PROCESS_CREATION_FLAGS {
    match nice.unwrap_or(0) {
        ..=-15 => HIGH_PRIORITY_CLASS,
        -14..=-5 => ABOVE_NORMAL_PRIORITY_CLASS,
        -4..=4 => NORMAL_PRIORITY_CLASS,
        5..=14 => BELOW_NORMAL_PRIORITY_CLASS,
        15.. => IDLE_PRIORITY_CLASS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_sorted_and_has_what_programs_cannot_do_without() {
        let block =
            environment(&[b"b=2".into(), b"A=1".into(), b"systemroot=X".into(), b"=C:=C:\\".into()]).unwrap();
        let text = String::from_utf16(&block).unwrap();
        assert_eq!(text, "=C:=C:\\\0A=1\0b=2\0systemroot=X\0\0");
        let text = String::from_utf16(&environment(&[]).unwrap()).unwrap();
        assert!(text.to_lowercase().starts_with("systemroot="), "{text}");
        assert_eq!(environment(&[b"a=\xff".into()]).unwrap_err().step, Step::Request);
    }

    #[test]
    fn nice_values_become_the_nearest_class() {
        assert_eq!(priority(None), NORMAL_PRIORITY_CLASS);
        assert_eq!(priority(Some(19)), IDLE_PRIORITY_CLASS);
        assert_eq!(priority(Some(-20)), HIGH_PRIORITY_CLASS);
    }
}
