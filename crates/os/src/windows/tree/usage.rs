//! What a tree uses, by asking each of its processes.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::os::windows::io::AsRawHandle;
use std::ptr;
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, FILETIME, HANDLE};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS_EX};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_DWORD, RegGetValueW};
use windows_sys::Win32::System::Threading::{
    GR_GDIOBJECTS, GR_USEROBJECTS, GetProcessHandleCount, GetProcessIoCounters, GetProcessTimes, IO_COUNTERS,
    OpenProcess, PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION,
};

use super::super::ipc::Handle;
use super::super::sys::{check, function, owned, wide};
use super::{TreeDir, TreeRoot};
use crate::types::{Measure, Measures, Members, Usage, main_first};

/// What several questions at the same time share: the system's list of all processes.
#[derive(Debug, Default)]
pub struct Batch {
    threads: OnceCell<BTreeMap<u32, u64>>,
}

impl TreeRoot {
    /// What a service instance uses, given what the anchor said of its tree. Its memory is what its processes have for
    /// themselves, which is what the limit is on.
    #[must_use]
    pub fn usage(
        &self,
        _: &TreeDir,
        main: Option<u32>,
        members: Option<&Members>,
        wanted: Measures,
        batch: &Batch,
    ) -> Usage {
        let pids = members.map_or_else(|| main.into_iter().collect(), |m| m.pids.clone());
        let mut usage = Usage::default();
        let of_job = members.and_then(|m| m.cpu_usec);
        for process in pids.iter().filter_map(|pid| open(*pid)) {
            if wanted.has(Measure::Memory) {
                Usage::add(&mut usage.memory_bytes, memory(&process));
            }
            if wanted.has(Measure::Cpu) && of_job.is_none() {
                Usage::add(&mut usage.cpu_usec, cpu_usec(&process));
            }
            if wanted.has(Measure::Io) {
                Usage::add(&mut usage.io_bytes, io_bytes(&process));
            }
            if wanted.has(Measure::Descriptors) {
                let open = handles(&process);
                Usage::add(&mut usage.descriptors, open);
                Usage::most(&mut usage.descriptors_of_one, open);
            }
        }
        if wanted.has(Measure::Cpu) {
            usage.cpu_usec = of_job.or(usage.cpu_usec);
        }
        if wanted.has(Measure::Gui) {
            for (gdi, user) in pids.iter().filter_map(|pid| gui(*pid)) {
                Usage::most(&mut usage.gdi, Some(gdi));
                Usage::most(&mut usage.user, Some(user));
            }
        }
        if wanted.has(Measure::Threads) {
            let all = batch.threads.get_or_init(threads);
            pids.iter().for_each(|pid| Usage::add(&mut usage.threads, all.get(pid).copied()));
        }
        if wanted.has(Measure::Processes) {
            usage.processes = members.map(|m| m.pids.len() as u64);
        }
        usage
    }

    /// The processes of a tree, its main process first, given what the anchor said of it.
    #[must_use]
    pub fn members(&self, _: &TreeDir, main: u32, members: Option<&Members>) -> Vec<u32> {
        main_first(main, members.map_or(&[], |m| &m.pids))
    }

    /// How many GDI and USER objects a process of this host may have
    /// (<https://learn.microsoft.com/windows/win32/sysinfo/gdi-objects>).
    #[must_use]
    pub fn gui_limits(&self) -> Option<(u64, u64)> {
        const USUAL: u64 = 10_000;
        let quota = |name| quota(name).filter(|n| *n > 0).unwrap_or(USUAL);
        Some((quota("GDIProcessHandleQuota"), quota("USERProcessHandleQuota")))
    }
}

/// What one process uses, without those that it has started.
#[must_use]
pub fn of_process(pid: u32) -> Usage {
    let Some(process) = open(pid) else { return Usage::default() };
    Usage {
        memory_bytes: memory(&process),
        cpu_usec: cpu_usec(&process),
        descriptors: handles(&process),
        threads: threads().remove(&pid),
        ..Usage::default()
    }
}

fn open(pid: u32) -> Option<Handle> {
    // SAFETY: no pointers; a handle that is returned is new and ours.
    unsafe { owned(OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid)) }.ok()
}

fn handles(process: &Handle) -> Option<u64> {
    let mut count = 0;
    // SAFETY: `count` is filled by the call.
    check(unsafe { GetProcessHandleCount(process.as_raw_handle(), &raw mut count) }).ok()?;
    Some(u64::from(count))
}

type GetGuiResources = unsafe extern "system" fn(HANDLE, u32) -> u32;

/// GDI and USER objects; 0 is also the answer about another session's process. user32 is loaded by the first question: a
/// guardian whose services have no guards has no need of it.
fn gui(pid: u32) -> Option<(u64, u64)> {
    static ASK: OnceLock<Option<GetGuiResources>> = OnceLock::new();
    // SAFETY: the function has this type.
    let ask = (*ASK.get_or_init(|| unsafe { function("user32.dll", c"GetGuiResources") }.ok()))?;
    // SAFETY: no pointers; a handle that is returned is new and ours.
    let process = unsafe { owned(OpenProcess(PROCESS_QUERY_INFORMATION, 0, pid)) }.ok()?;
    // SAFETY: an open process with the right that this asks for; no pointers.
    let count = |what| u64::from(unsafe { ask(process.as_raw_handle(), what) });
    Some((count(GR_GDIOBJECTS), count(GR_USEROBJECTS)))
}

/// Read, written, and whatever else moved bytes between the process and devices.
fn io_bytes(process: &Handle) -> Option<u64> {
    let mut io = IO_COUNTERS::default();
    // SAFETY: `io` is filled by the call.
    check(unsafe { GetProcessIoCounters(process.as_raw_handle(), &raw mut io) }).ok()?;
    Some(io.ReadTransferCount.saturating_add(io.WriteTransferCount))
}

/// Of each process, from the system's list of all.
fn threads() -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    // SAFETY: no pointers; a handle that is returned is new and ours.
    let Ok(list) = (unsafe { owned(CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0)) }) else { return found };
    let mut entry =
        PROCESSENTRY32W { dwSize: size_of::<PROCESSENTRY32W>() as u32, ..PROCESSENTRY32W::default() };
    // SAFETY: `entry` has the size that it says, and is filled by the call.
    let mut more = unsafe { Process32FirstW(list.as_raw_handle(), &raw mut entry) } != 0;
    while more {
        found.insert(entry.th32ProcessID, u64::from(entry.cntThreads));
        // SAFETY: likewise.
        more = unsafe { Process32NextW(list.as_raw_handle(), &raw mut entry) } != 0;
    }
    found
}

fn memory(process: &Handle) -> Option<u64> {
    let mut counters = PROCESS_MEMORY_COUNTERS_EX::default();
    let size = size_of_val(&counters) as u32;
    // SAFETY: `counters` has the size that is said, which names its form, and is filled by the call.
    check(unsafe { K32GetProcessMemoryInfo(process.as_raw_handle(), (&raw mut counters).cast(), size) })
        .ok()?;
    // Wine does not count what is private.
    let private = Some(counters.PrivateUsage).filter(|bytes| *bytes > 0);
    Some(private.unwrap_or(counters.WorkingSetSize) as u64)
}

fn cpu_usec(process: &Handle) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [begun, ended, kernel, user] = &mut times;
    // SAFETY: all four are filled by the call.
    check(unsafe { GetProcessTimes(process.as_raw_handle(), begun, ended, kernel, user) }).ok()?;
    let hundreds = |t: &FILETIME| u64::from(t.dwHighDateTime) << 32 | u64::from(t.dwLowDateTime);
    Some((hundreds(kernel) + hundreds(user)) / 10)
}

/// A number that the system's administrator may have set.
fn quota(name: &str) -> Option<u64> {
    let key = wide(r"SOFTWARE\Microsoft\Windows NT\CurrentVersion\Windows");
    let (value, mut number, mut size) = (wide(name), 0_u32, size_of::<u32>() as u32);
    // SAFETY: names end with a zero; `number` has room for `size` bytes, and both are filled by the call.
    let answer = unsafe {
        let (root, none, into) = (HKEY_LOCAL_MACHINE, ptr::null_mut(), (&raw mut number).cast());
        RegGetValueW(root, key.as_ptr(), value.as_ptr(), RRF_RT_REG_DWORD, none, into, &raw mut size)
    };
    (answer == ERROR_SUCCESS).then_some(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Measure; 7] = [
        Measure::Memory,
        Measure::Cpu,
        Measure::Io,
        Measure::Descriptors,
        Measure::Gui,
        Measure::Threads,
        Measure::Processes,
    ];

    #[test]
    fn a_tree_uses_what_its_processes_do() {
        let root = TreeRoot::open("usage");
        let (tree, me, batch) = (TreeDir::default(), std::process::id(), Batch::default());
        let usage =
            |members: Option<&Members>| root.usage(&tree, Some(me), members, Measures::of(&ALL), &batch);
        let alone = usage(None);
        assert!(alone.memory_bytes.is_some_and(|m| m > 64 << 10) && alone.cpu_usec.is_some(), "{alone:?}");
        // Wine 8 counts no handles.
        assert!(alone.descriptors.is_some() && alone.threads > Some(0) && alone.gdi.is_some(), "{alone:?}");
        let members = Members { pids: vec![me, me], cpu_usec: Some(7) };
        let both = usage(Some(&members));
        assert_eq!((both.cpu_usec, both.processes), (Some(7), Some(2)));
        assert!(both.memory_bytes > alone.memory_bytes, "{both:?}");
        assert!(both.descriptors >= both.descriptors_of_one, "{both:?}");
        let nothing = root.usage(&tree, Some(me), None, Measures::default(), &batch);
        assert_eq!(nothing, Usage::default());
        let gone = root.usage(&tree, None, Some(&Members::default()), Measures::of(&ALL), &batch);
        assert_eq!(gone, Usage { processes: Some(0), ..Usage::default() });
        assert!(root.gui_limits().is_some_and(|(gdi, user)| gdi > 0 && user > 0));
    }
}
