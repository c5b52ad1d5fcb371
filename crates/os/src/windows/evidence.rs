//! What can be seen of a process before it is ended, without stopping it. Its environment and its arguments are never read, since
//! secrets stand there.
#![expect(unsafe_code, reason = "foreign calls, each in a safe wrapper")]

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::time::{Duration, Instant};

use keepwell_core::guard::bytes;
use windows_sys::Win32::Foundation::{FILETIME, HANDLE};
use windows_sys::Win32::Storage::FileSystem::FILE_SHARE_READ;
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
};
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS_EX};
use windows_sys::Win32::System::Threading::{
    GetProcessHandleCount, GetProcessIoCounters, GetProcessTimes, IO_COUNTERS, OpenProcess,
    PROCESS_NAME_WIN32, PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION, PROCESS_VM_READ,
    QueryFullProcessImageNameW,
};

use super::Handle;
use super::sys::{check, function, owned};

/// Threads of one process that are shown; the rest is counted.
const ROWS: usize = 256;

/// The figures of the tree's job are the anchor's to ask.
#[must_use]
pub fn of_tree(_: u32) -> String {
    String::new()
}

/// One process: its program, memory, times, handles, input and output, threads. Ends early at `until`.
#[must_use]
pub fn of_process(pid: u32, until: Instant) -> String {
    let mut out = String::new();
    // SAFETY: no pointers; a handle that is returned is new and ours.
    let Ok(process) = (unsafe { owned(OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid)) }) else {
        return "it is gone, or may not be looked at\n".to_owned();
    };
    let raw = process.as_raw_handle();
    if let Some(program) = image(raw) {
        let _ = writeln!(out, "program: {program}");
    }
    memory(raw, &mut out);
    times(raw, &mut out);
    let mut handles = 0;
    // SAFETY: `handles` is filled by the call.
    if check(unsafe { GetProcessHandleCount(raw, &raw mut handles) }).is_ok() {
        let _ = writeln!(out, "handles: {handles}");
    }
    let mut io = IO_COUNTERS::default();
    // SAFETY: `io` is filled by the call.
    if check(unsafe { GetProcessIoCounters(raw, &raw mut io) }).is_ok() {
        let IO_COUNTERS { ReadOperationCount: reads, WriteOperationCount: writes, .. } = io;
        let IO_COUNTERS { ReadTransferCount: read, WriteTransferCount: written, .. } = io;
        let _ = writeln!(out, "read: {read} bytes in {reads} calls");
        let _ = writeln!(out, "written: {written} bytes in {writes} calls");
    }
    if Instant::now() >= until {
        out.push_str("… the time for evidence was over\n");
        return out;
    }
    threads(pid, &mut out);
    out
}

fn image(process: HANDLE) -> Option<String> {
    let mut name = [0_u16; 1024];
    let mut length = name.len() as u32;
    // SAFETY: `name` has the length that is said, which is replaced by that of the name.
    let done = unsafe {
        QueryFullProcessImageNameW(process, PROCESS_NAME_WIN32, name.as_mut_ptr(), &raw mut length)
    };
    check(done).ok()?;
    Some(String::from_utf16_lossy(name.get(..length as usize)?))
}

fn memory(process: HANDLE, out: &mut String) {
    let mut counters = PROCESS_MEMORY_COUNTERS_EX::default();
    let size = size_of_val(&counters) as u32;
    // SAFETY: `counters` has the size that is said, which names its form, and is filled by the call.
    if check(unsafe { K32GetProcessMemoryInfo(process, (&raw mut counters).cast(), size) }).is_ok() {
        let _ = writeln!(
            out,
            "working set: {} bytes, at most {}",
            counters.WorkingSetSize, counters.PeakWorkingSetSize
        );
        let _ = writeln!(out, "private: {} bytes", counters.PrivateUsage);
        let _ = writeln!(out, "page faults: {}", counters.PageFaultCount);
    }
}

fn times(process: HANDLE, out: &mut String) {
    let mut times = [FILETIME::default(); 4];
    let [begun, ended, kernel, user] = &mut times;
    // SAFETY: all four are filled by the call.
    if check(unsafe { GetProcessTimes(process, begun, ended, kernel, user) }).is_ok() {
        let ms = |t: &FILETIME| (u64::from(t.dwHighDateTime) << 32 | u64::from(t.dwLowDateTime)) / 10_000;
        let _ = writeln!(
            out,
            "processor time: {} ms, {} ms of it in the system",
            ms(user) + ms(kernel),
            ms(kernel)
        );
    }
}

fn threads(pid: u32, out: &mut String) {
    // SAFETY: no pointers; a handle that is returned is new and ours.
    let Ok(snapshot) = (unsafe { owned(CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0)) }) else { return };
    let mut entry = THREADENTRY32 { dwSize: size_of::<THREADENTRY32>() as u32, ..Default::default() };
    let mut all = Vec::new();
    // SAFETY: `entry` says its size and is filled by the call.
    let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &raw mut entry) };
    while more != 0 {
        if entry.th32OwnerProcessID == pid {
            all.push((entry.th32ThreadID, entry.tpBasePri));
        }
        // SAFETY: as above.
        more = unsafe { Thread32Next(snapshot.as_raw_handle(), &raw mut entry) };
    }
    let _ = writeln!(out, "\nthreads: {}", all.len());
    for (id, priority) in all.iter().take(ROWS) {
        let _ = writeln!(out, "  {id} priority {priority}");
    }
    if all.len() > ROWS {
        let _ = writeln!(out, "  … and {} more", all.len() - ROWS);
    }
}

/// Windows has no debugger of its own that could be asked; a minidump has all stacks.
///
/// # Errors
/// Always.
pub fn stacks(_: u32, _: Duration) -> Result<String, String> {
    Err("there is no debugger to ask on this system; `dump` writes a minidump".to_owned())
}

type WriteDump = unsafe extern "system" fn(HANDLE, u32, HANDLE, i32, *const (), *const (), *const ()) -> i32;

/// A minidump at `path` (`MiniDumpWriteDump`), with all threads and their stacks; one of more than `max` bytes is not kept. It cannot
/// be broken off.
///
/// # Errors
/// In words; nothing is left then.
pub fn dump(pid: u32, path: &Path, max: u64, _: Duration) -> Result<(), String> {
    /// `MiniDumpWithThreadInfo | MiniDumpWithHandleData`.
    const KIND: i32 = 0x1000 | 0x4;
    let words = |e: std::io::Error| crate::in_words(&e);
    let access = PROCESS_QUERY_INFORMATION | PROCESS_VM_READ;
    // SAFETY: no pointers; a handle that is returned is new and ours.
    let process: Handle = unsafe { owned(OpenProcess(access, 0, pid)) }.map_err(words)?;
    // SAFETY: the type is that of the function's page.
    let write: WriteDump = unsafe { function("dbghelp.dll", c"MiniDumpWriteDump") }.map_err(words)?;
    drop(super::files::open_private(path).map_err(words)?);
    let mut options = OpenOptions::new();
    let file = options.write(true).share_mode(FILE_SHARE_READ).open(path).map_err(words)?;
    let none = std::ptr::null();
    // SAFETY: both handles are open; the three that may be missing are.
    let done = unsafe { write(process.as_raw_handle(), pid, file.as_raw_handle(), KIND, none, none, none) };
    let done = check(done).map_err(words).and_then(|_| match file.metadata().map_err(words)?.len() {
        size if size > max => Err(format!("it has {}, and a dump may have {}", bytes(size), bytes(max))),
        _ => Ok(()),
    });
    drop(file);
    if done.is_err() {
        // Nothing may be there.
        let _ = std::fs::remove_file(path);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_process_is_seen_with_its_threads_and_handles() {
        let seen = of_process(std::process::id(), soon());
        for text in ["program: ", "working set: ", "handles: ", "processor time: ", "threads: "] {
            assert!(seen.contains(text), "`{text}` is not in:\n{seen}");
        }
        assert!(of_process(u32::MAX - 3, soon()).starts_with("it is gone"));
        assert!(of_process(std::process::id(), Instant::now()).contains("the time for evidence was over"));
    }

    #[test]
    fn a_dump_is_written_or_nothing_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.dmp");
        let mut child = std::process::Command::new("cmd.exe");
        let mut child = child.args(["/c", "pause"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let done = dump(child.id(), &path, 64 << 20, Duration::from_secs(60));
        let larger = dump(child.id(), &path.with_extension("large"), 1, Duration::from_secs(60));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(larger.is_err() && !path.with_extension("large").exists(), "{larger:?}");
        match done {
            Ok(()) => assert!(std::fs::read(&path).unwrap().starts_with(b"MDMP")),
            Err(why) => assert!(!why.is_empty() && !path.exists(), "{why}"),
        }
        assert!(dump(u32::MAX - 3, &path, 64 << 20, Duration::from_secs(60)).is_err());
    }
}
