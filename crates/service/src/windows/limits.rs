//! What the system says about a service: why it was started, and how long it may take to end.
#![expect(unsafe_code, reason = "system calls")]

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RegGetValueW};
use windows_sys::Win32::System::Services::{
    CloseServiceHandle, OpenSCManagerW, OpenServiceW, QueryServiceConfig2W, SC_HANDLE, SC_MANAGER_CONNECT,
    SERVICE_CONFIG_PRESHUTDOWN_INFO, SERVICE_DYNAMIC_INFORMATION_LEVEL_START_REASON,
    SERVICE_PRESHUTDOWN_INFO, SERVICE_QUERY_CONFIG, SERVICE_STATUS_HANDLE,
};
use windows_sys::core::w;

use crate::state::StartReason;

/// What Windows 10 waits at a shutdown where nothing is set.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// What Windows waits before a shutdown where nothing is set, since Windows 10 1703.
const PRESHUTDOWN: Duration = Duration::from_secs(10);

/// `QueryServiceDynamicInformation`. It is looked up, since not every system has it (Windows 8, Server 2012; Wine 8 none).
pub(super) fn start_reason(handle: SERVICE_STATUS_HANDLE) -> Option<StartReason> {
    type Query = unsafe extern "system" fn(SERVICE_STATUS_HANDLE, u32, *mut *mut c_void) -> i32;
    // SAFETY: the names end with a zero; advapi32 is loaded, since this program is linked to it.
    let found = unsafe {
        GetProcAddress(
            GetModuleHandleA(c"advapi32.dll".as_ptr().cast()),
            c"QueryServiceDynamicInformation".as_ptr().cast(),
        )
    };
    // SAFETY: the function has this signature.
    let query = unsafe { mem::transmute::<unsafe extern "system" fn() -> isize, Query>(found?) };
    let mut answer: *mut c_void = ptr::null_mut();
    // SAFETY: the handle is the manager's; the answer is memory that we are to free.
    if unsafe { query(handle, SERVICE_DYNAMIC_INFORMATION_LEVEL_START_REASON, &raw mut answer) } == 0
        || answer.is_null()
    {
        return None;
    }
    // SAFETY: `SERVICE_START_REASON` is one number.
    let reason = unsafe { answer.cast::<u32>().read() };
    // SAFETY: nobody reads it any more.
    unsafe { LocalFree(answer) };
    Some(StartReason::from_bits(reason))
}

/// `WaitToKillServiceTimeout`: how long a shutdown waits for services.
pub(super) fn shutdown() -> Duration {
    let mut text = [0_u16; 32];
    let mut bytes = u32::try_from(mem::size_of_val(&text)).unwrap_or(0);
    // SAFETY: the names end with zeros; the value is written to a buffer of `bytes` bytes.
    let answer = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            w!(r"SYSTEM\CurrentControlSet\Control"),
            w!("WaitToKillServiceTimeout"),
            RRF_RT_REG_SZ,
            ptr::null_mut(),
            text.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if answer != 0 {
        return SHUTDOWN;
    }
    let text = String::from_utf16_lossy(&text);
    text.trim_end_matches('\0').trim().parse().map_or(SHUTDOWN, Duration::from_millis)
}

/// `SERVICE_PRESHUTDOWN_INFO` of this service: how long the system waits before it begins to shut down.
pub(super) fn preshutdown(name: &[u16]) -> Duration {
    // SAFETY: no machine and no database named means this one's own.
    let manager = Closed(unsafe { OpenSCManagerW(ptr::null(), ptr::null(), SC_MANAGER_CONNECT) });
    if manager.0.is_null() {
        return PRESHUTDOWN;
    }
    // SAFETY: the name ends with a zero.
    let service = Closed(unsafe { OpenServiceW(manager.0, name.as_ptr(), SERVICE_QUERY_CONFIG) });
    if service.0.is_null() {
        return PRESHUTDOWN;
    }
    let mut info = SERVICE_PRESHUTDOWN_INFO { dwPreshutdownTimeout: 0 };
    let mut needed = 0;
    // SAFETY: the answer is written to a structure of this size.
    let answer = unsafe {
        QueryServiceConfig2W(
            service.0,
            SERVICE_CONFIG_PRESHUTDOWN_INFO,
            (&raw mut info).cast(),
            u32::try_from(mem::size_of_val(&info)).unwrap_or(0),
            &raw mut needed,
        )
    };
    if answer == 0 { PRESHUTDOWN } else { Duration::from_millis(u64::from(info.dwPreshutdownTimeout)) }
}

struct Closed(SC_HANDLE);

impl Drop for Closed {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it was opened here, and nobody else closes it.
            unsafe { CloseServiceHandle(self.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_says_how_long_its_shutdown_waits() {
        let limit = shutdown();
        assert!(limit >= Duration::from_secs(1) && limit <= Duration::from_secs(600), "{limit:?}");
    }

    #[test]
    fn a_service_that_is_not_installed_has_the_systems_own_limit() {
        assert_eq!(preshutdown(&super::super::wide("keepwell-none".as_ref())), PRESHUTDOWN);
    }
}
