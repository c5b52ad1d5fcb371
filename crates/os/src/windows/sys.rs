//! What every file here needs: answers to errors, wide text, events.
#![expect(unsafe_code, reason = "handles come from the system as bare numbers")]

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr;

use windows_sys::Win32::Foundation::{
    DUPLICATE_SAME_ACCESS, DuplicateHandle, HANDLE, INVALID_HANDLE_VALUE, WAIT_OBJECT_0,
};
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};
use windows_sys::Win32::System::Threading::{CreateEventW, GetCurrentProcess, WaitForSingleObject};

/// A system call's answer: 0 is an error.
pub(crate) fn check(answer: i32) -> io::Result<()> {
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A handle that a call has made.
///
/// # Safety
/// Nobody else owns it; or it is null or invalid, and then the call has failed.
pub(crate) unsafe fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// An error of the system by its number.
pub(crate) fn error(number: u32) -> io::Error {
    io::Error::from_raw_os_error(number.cast_signed())
}

/// Whether it is this error of the system.
pub(crate) fn is(error: &io::Error, number: u32) -> bool {
    error.raw_os_error() == Some(number.cast_signed())
}

/// As the system wants text: wide, with a zero at its end.
pub(crate) fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// A path that may be longer than 260 characters. One with a prefix of its own, or a relative one, stays as it is.
pub(crate) fn wide_path(path: &Path) -> Vec<u16> {
    let text: Vec<u16> = path.as_os_str().encode_wide().collect();
    let (slash, colon) = (u16::from(b'\\'), u16::from(b':'));
    let plain = |c: &u16| if *c == u16::from(b'/') { slash } else { *c };
    let text: Vec<u16> = text.iter().map(plain).collect();
    let dots = text.split(|c| *c == slash).any(|part| part == [46] || part == [46, 46]);
    let prefix: &str = match text.as_slice() {
        _ if text.len() < 240 || dots => "",
        [_, c, s, ..] if *c == colon && *s == slash => r"\\?\",
        [a, b, c, ..] if *a == slash && *b == slash && *c != u16::from(b'?') && *c != u16::from(b'.') => {
            return r"\\?\UNC".encode_utf16().chain(text.into_iter().skip(1)).chain([0]).collect();
        }
        _ => "",
    };
    prefix.encode_utf16().chain(text).chain([0]).collect()
}

/// A function of one of the system's libraries, which is loaded by this: a program that is linked to it has it, and what that
/// is linked to, in the memory of all its processes.
///
/// # Safety
/// `F` is the function's type.
pub(crate) unsafe fn function<F: Copy>(library: &str, name: &CStr) -> io::Result<F> {
    const { assert!(size_of::<F>() == size_of::<unsafe extern "system" fn() -> isize>()) };
    let file = wide(library);
    // SAFETY: both names end with a zero; the rest is the caller's promise.
    unsafe {
        let library = LoadLibraryExW(file.as_ptr(), ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32);
        if library.is_null() {
            return Err(io::Error::last_os_error());
        }
        let found = GetProcAddress(library, name.as_ptr().cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(std::mem::transmute_copy(&found))
    }
}

/// An event that stays as it is set, and is not inherited.
pub(crate) fn event(set: bool) -> io::Result<OwnedHandle> {
    // SAFETY: no pointers; a handle that is returned is new and ours.
    unsafe { owned(CreateEventW(ptr::null(), 1, i32::from(set), ptr::null())) }
}

/// Whether something that can be waited for is signalled.
pub(crate) fn is_signalled(handle: &impl AsRawHandle) -> bool {
    // SAFETY: an open handle; does not wait.
    unsafe { WaitForSingleObject(handle.as_raw_handle(), 0) == WAIT_OBJECT_0 }
}

/// Another handle of the same thing in this process.
pub(crate) fn duplicate(handle: HANDLE, inherit: bool) -> io::Result<OwnedHandle> {
    let mut copy: HANDLE = ptr::null_mut();
    // SAFETY: `copy` is filled by the call; the pseudo handle of this process needs no care.
    unsafe {
        let me = GetCurrentProcess();
        check(DuplicateHandle(me, handle, me, &raw mut copy, 0, i32::from(inherit), DUPLICATE_SAME_ACCESS))?;
        owned(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(wide: &[u16]) -> String {
        String::from_utf16(wide.split_last().unwrap().1).unwrap()
    }

    #[test]
    fn long_paths_get_the_prefix_that_lets_them_be_long() {
        let long = "x".repeat(250);
        assert_eq!(text(&wide_path(Path::new(r"C:\a/b"))), r"C:\a\b");
        assert_eq!(text(&wide_path(Path::new(&format!("C:/{long}")))), format!(r"\\?\C:\{long}"));
        assert_eq!(
            text(&wide_path(Path::new(&format!(r"\\srv\s\{long}")))),
            format!(r"\\?\UNC\srv\s\{long}")
        );
        assert_eq!(text(&wide_path(Path::new(&format!(r"\\?\C:\{long}")))), format!(r"\\?\C:\{long}"));
        assert_eq!(text(&wide_path(Path::new(&format!(r"C:\..\{long}")))), format!(r"C:\..\{long}"));
    }
}
