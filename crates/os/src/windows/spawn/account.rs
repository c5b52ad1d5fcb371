//! The token of another account, for a process that is to start as it.

use std::io;
use std::os::windows::io::OwnedHandle;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_LOGON_FAILURE, GetHandleInformation, HANDLE};
use windows_sys::Win32::Security::{LOGON32_LOGON_SERVICE, LOGON32_PROVIDER_WINNT50, LogonUserW};

use super::super::sys::{check, owned, wide};

/// Logs an account of services on, which needs no password: `NT AUTHORITY\LocalService`, `NT SERVICE\web`. Only LocalSystem may.
pub(super) fn log_on(account: &str) -> io::Result<OwnedHandle> {
    let (domain, name) = account.split_once('\\').unwrap_or((".", account));
    let (domain, name) = (wide(domain), wide(name));
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: names that end with zeroes and no password, which is what these accounts have; a token that is given is new and ours.
    unsafe {
        let (name, domain, password) = (name.as_ptr(), domain.as_ptr(), ptr::null());
        let (kind, provider) = (LOGON32_LOGON_SERVICE, LOGON32_PROVIDER_WINNT50);
        check(LogonUserW(name, domain, password, kind, provider, &raw mut token))?;
        // Wine says yes to all and gives what is no handle.
        let mut flags = 0;
        if GetHandleInformation(token, &raw mut flags) == 0 {
            return Err(io::Error::from_raw_os_error(ERROR_LOGON_FAILURE.cast_signed()));
        }
        owned(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_there_cannot_log_on() {
        assert!(log_on(r"NT SERVICE\no such service").is_err());
        assert!(log_on("nobody of this name").is_err());
    }
}
