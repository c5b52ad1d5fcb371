//! One process through its handle.
#![expect(unsafe_code, reason = "processes of others have no safe form in the standard library")]

use std::os::windows::io::{AsRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{HANDLE, WAIT_TIMEOUT};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, OpenProcess, PROCESS_SUSPEND_RESUME, PROCESS_SYNCHRONIZE, TerminateProcess,
    WaitForSingleObject,
};

use super::super::sys::owned;

/// A child that runs.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) handle: OwnedHandle,
    /// The last thing that it was asked.
    pub(super) asked: Option<i32>,
}

pub(super) fn terminate(process: &OwnedHandle, code: u32) {
    // SAFETY: an open process; one that has ended refuses.
    unsafe { TerminateProcess(process.as_raw_handle(), code) };
}

pub(super) fn exit_code(process: &OwnedHandle) -> u32 {
    let mut code = 0;
    // SAFETY: an open process; `code` is filled by the call.
    unsafe { GetExitCodeProcess(process.as_raw_handle(), &raw mut code) };
    code
}

/// It has not ended.
pub(super) fn is_alive(process: &OwnedHandle) -> bool {
    // SAFETY: an open process.
    unsafe { WaitForSingleObject(process.as_raw_handle(), 0) == WAIT_TIMEOUT }
}

/// Something to wait for the end of a process by.
pub(super) fn open_to_wait(pid: u32) -> Option<OwnedHandle> {
    // SAFETY: no pointers; a handle that is returned is new and ours.
    unsafe { owned(OpenProcess(PROCESS_SYNCHRONIZE, 0, pid)) }.ok()
}

/// Stops a process from being scheduled, or lets it go on. The system counts: each stop wants its own start.
pub(super) fn suspend(pid: u32, on: bool) {
    // SAFETY: no pointers; a handle that is returned is new and ours, and open through the second call.
    unsafe {
        let Ok(process) = owned(OpenProcess(PROCESS_SUSPEND_RESUME, 0, pid)) else { return };
        let handle = process.as_raw_handle();
        if on {
            NtSuspendProcess(handle)
        } else {
            NtResumeProcess(handle)
        };
    }
}

#[link(name = "ntdll")]
unsafe extern "system" {
    fn NtSuspendProcess(process: HANDLE) -> i32;
    fn NtResumeProcess(process: HANDLE) -> i32;
}
