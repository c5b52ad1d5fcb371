//! What the helper asks of Windows directly.
#![expect(unsafe_code, reason = "consoles and processes have no safe form in the standard library")]

use std::fs::File;
use std::os::windows::io::{AsHandle, FromRawHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use windows_sys::Win32::Foundation::{GetLastError, HANDLE, TRUE};
use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;
use windows_sys::Win32::System::Services::{
    ControlService, OpenSCManagerW, OpenServiceW, SC_MANAGER_CONNECT, SERVICE_ALL_ACCESS, SERVICE_STATUS,
};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, DETACHED_PROCESS, GetCurrentProcess, GetProcessAffinityMask, OpenProcess,
    PROCESS_SUSPEND_RESUME, PROCESS_TERMINATE, TerminateProcess,
};
use windows_sys::core::BOOL;

static CAUGHT: AtomicBool = AtomicBool::new(false);

unsafe extern "system" fn ignore(_: u32) -> BOOL {
    TRUE
}

unsafe extern "system" fn note(_: u32) -> BOOL {
    CAUGHT.store(true, Ordering::Relaxed);
    TRUE
}

/// From now on no event of the console ends this process.
pub(crate) fn ignore_ctrl() {
    // SAFETY: the handler does nothing.
    unsafe { SetConsoleCtrlHandler(Some(ignore), 1) };
}

/// From now on events of the console are only noted.
pub(crate) fn catch_ctrl() {
    // SAFETY: the handler only stores a flag.
    unsafe { SetConsoleCtrlHandler(Some(note), 1) };
}

/// Whether there was one.
pub(crate) fn caught_ctrl() -> bool {
    CAUGHT.load(Ordering::Relaxed)
}

/// Standard output, for bytes of any kind.
pub(crate) fn stdout() -> File {
    let handle = std::io::stdout().as_handle().try_clone_to_owned();
    handle.map(File::from).unwrap_or_else(|_| File::options().write(true).open("NUL").expect("NUL is there"))
}

/// A process that the console of its parent does not reach.
pub(crate) fn own_group(command: &mut Command) {
    command.creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP);
}

/// Ends a process at once; false if it may not be or is not there.
pub(crate) fn terminate(pid: u32) -> bool {
    // SAFETY: no pointers; the handle is ours and closed again.
    unsafe {
        let process = OpenProcess(PROCESS_TERMINATE, 0, pid);
        if process.is_null() {
            return false;
        }
        let done = TerminateProcess(process, 9) != 0;
        drop(OwnedHandle::from_raw_handle(process));
        done
    }
}

#[link(name = "ntdll")]
unsafe extern "system" {
    /// What debuggers and process viewers stop a program with.
    fn NtSuspendProcess(process: HANDLE) -> i32;
}

/// Stops all threads of a process, which is then there and does nothing; false if it may not be or is not there.
pub(crate) fn suspend(pid: u32) -> bool {
    // SAFETY: no pointers; the handle is ours and closed again.
    unsafe {
        let process = OpenProcess(PROCESS_SUSPEND_RESUME, 0, pid);
        if process.is_null() {
            return false;
        }
        let done = NtSuspendProcess(process) >= 0;
        drop(OwnedHandle::from_raw_handle(process));
        done
    }
}

#[link(name = "crypt32")]
unsafe extern "system" {
    fn CertOpenSystemStoreW(provider: usize, name: *const u16) -> *mut core::ffi::c_void;
    fn CertAddEncodedCertificateToStore(
        store: *mut core::ffi::c_void,
        encoding: u32,
        certificate: *const u8,
        length: u32,
        disposition: u32,
        added: *const core::ffi::c_void,
    ) -> BOOL;
    fn CertCloseStore(store: *mut core::ffi::c_void, flags: u32) -> BOOL;
}

/// From now on this Windows trusts an authority, given in DER; false if it will not.
pub(crate) fn trust(authority: &[u8]) -> bool {
    /// `X509_ASN_ENCODING` and `CERT_STORE_ADD_ALWAYS` (wincrypt.h).
    const DER: u32 = 1;
    const ALWAYS: u32 = 4;
    let name: Vec<u16> = "ROOT\0".encode_utf16().collect();
    // SAFETY: a name that ends with a zero; the bytes have the length that is said; the store is closed once.
    unsafe {
        let store = CertOpenSystemStoreW(0, name.as_ptr());
        if store.is_null() {
            return false;
        }
        let length = authority.len() as u32;
        let none = std::ptr::null();
        let done = CertAddEncodedCertificateToStore(store, DER, authority.as_ptr(), length, ALWAYS, none);
        CertCloseStore(store, 0);
        done != 0
    }
}

/// Tells a service something by its number: 0, or the error.
pub(crate) fn control(name: &str, number: u32) -> i32 {
    let wide: Vec<u16> = name.encode_utf16().chain([0]).collect();
    let mut status = SERVICE_STATUS::default();
    // SAFETY: a name that ends with a zero; `status` is filled by the call. The handles are closed with the process.
    unsafe {
        let manager = OpenSCManagerW(std::ptr::null(), std::ptr::null(), SC_MANAGER_CONNECT);
        let service = OpenServiceW(manager, wide.as_ptr(), SERVICE_ALL_ACCESS);
        match ControlService(service, number, &raw mut status) {
            0 => GetLastError().cast_signed(),
            _ => 0,
        }
    }
}

/// Ends this process as a wrong pointer does.
pub(crate) fn crash() -> ! {
    // SAFETY: there is none: that is what it is for.
    unsafe { std::ptr::null_mut::<u32>().write_volatile(1) };
    std::process::exit(99)
}

/// The processors that this process may run on, as bits.
pub(crate) fn processors() -> usize {
    let (mut own, mut system) = (0, 0);
    // SAFETY: the pseudo handle of this process; both masks are filled by the call.
    unsafe { GetProcessAffinityMask(GetCurrentProcess(), &raw mut own, &raw mut system) };
    own
}
