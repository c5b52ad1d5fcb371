//! Handles, texts and errors of the SCM.
#![expect(unsafe_code, reason = "handles and texts of the SCM are bare pointers")]

use std::ffi::CStr;
use std::ptr;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_DEPENDENT_SERVICES_RUNNING, ERROR_INSUFFICIENT_BUFFER, ERROR_MORE_DATA,
    ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_DISABLED, ERROR_SERVICE_DOES_NOT_EXIST,
    ERROR_SERVICE_EXISTS, ERROR_SERVICE_MARKED_FOR_DELETE, ERROR_SERVICE_NOT_ACTIVE, GetLastError,
};
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};
use windows_sys::Win32::System::Services::{CloseServiceHandle, SC_HANDLE};

use crate::error::Error;

/// An open handle of the SCM or of a service.
#[derive(Debug)]
pub(super) struct Handle(SC_HANDLE);

// SAFETY: the SCM's handles belong to the process; any thread may use and close them.
unsafe impl Send for Handle {}
// SAFETY: as above; the SCM orders what comes at once.
unsafe impl Sync for Handle {}

impl Handle {
    /// A handle that a call has made; `None` when the call failed.
    pub(super) fn new(handle: SC_HANDLE) -> Option<Self> {
        // Made only where there is one: to close what is none would hide why.
        (!handle.is_null()).then(|| Self(handle))
    }

    pub(super) fn raw(&self) -> SC_HANDLE {
        self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it is open, and nobody else owns it.
        unsafe { CloseServiceHandle(self.0) };
    }
}

/// A function of one of the system's libraries, which is loaded by this: whoever is linked to it has it in memory for as long as
/// a service runs, and only a manager ever needs it.
///
/// # Safety
/// `F` is the function's type.
pub(super) unsafe fn function<F: Copy>(library: &str, name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<unsafe extern "system" fn() -> isize>()) };
    let file = wide(library);
    // SAFETY: both names end with a zero; the rest is the caller's promise.
    unsafe {
        let library = LoadLibraryExW(file.as_ptr(), ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32);
        if library.is_null() {
            return None;
        }
        GetProcAddress(library, name.as_ptr().cast()).map(|found| std::mem::transmute_copy(&found))
    }
}

/// With a zero at its end.
pub(super) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Several texts, each with a zero at its end, and one more after the last.
pub(super) fn wide_list(texts: &[String]) -> Vec<u16> {
    let mut all: Vec<u16> = texts.iter().flat_map(|t| t.encode_utf16().chain([0])).collect();
    if all.is_empty() {
        all.push(0);
    }
    all.push(0);
    all
}

/// The pointer to a text that may be left out.
pub(super) fn optional(text: Option<&Vec<u16>>) -> *const u16 {
    text.map_or(ptr::null(), |t| t.as_ptr())
}

/// Up to the first zero.
///
/// # Safety
/// Null, or text that ends with a zero and lives through the call.
pub(super) unsafe fn text(wide: *const u16) -> String {
    if wide.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises, there is a zero before the text's memory ends.
    let letters = unsafe {
        let len = (0..).take_while(|i| *wide.add(*i) != 0).count();
        std::slice::from_raw_parts(wide, len)
    };
    String::from_utf16_lossy(letters)
}

/// Up to an empty text.
///
/// # Safety
/// Null, or texts that end as those of `wide_list`, and live through the call.
pub(super) unsafe fn text_list(mut wide: *const u16) -> Vec<String> {
    let mut all = Vec::new();
    if wide.is_null() {
        return all;
    }
    // SAFETY: as the caller promises.
    unsafe {
        while *wide != 0 {
            let one = text(wide);
            wide = wide.add(one.encode_utf16().count() + 1);
            all.push(one);
        }
    }
    all
}

/// The number of the error that the last call left.
pub(super) fn last_error() -> u32 {
    // SAFETY: no pointers.
    unsafe { GetLastError() }
}

/// Asks with a buffer that grows until the answer fits. `ask` gets the buffer, its size and where the size that is needed
/// goes; 0 is an error. As `u64` for the alignment of what is in it.
pub(super) fn grown(mut ask: impl FnMut(*mut u8, u32, &mut u32) -> i32) -> Result<Vec<u64>, u32> {
    let mut buffer = vec![0_u64; 64];
    // A description may change between two questions, but not for ever.
    for _ in 0..8 {
        let (size, mut needed) = (size_of_val(buffer.as_slice()) as u32, 0);
        if ask(buffer.as_mut_ptr().cast(), size, &mut needed) != 0 {
            return Ok(buffer);
        }
        match last_error() {
            ERROR_INSUFFICIENT_BUFFER | ERROR_MORE_DATA if needed > size => {
                buffer = vec![0; needed as usize / 8 + 1];
            }
            error => return Err(error),
        }
    }
    Err(ERROR_INSUFFICIENT_BUFFER)
}

/// An error of the SCM as ours.
pub(super) fn failed(name: &str, step: &str, number: u32) -> Error {
    let owned = || name.to_owned();
    match number {
        ERROR_ACCESS_DENIED => Error::Denied(format!("{step} the service `{name}`")),
        ERROR_SERVICE_DOES_NOT_EXIST => Error::NoSuchService(owned()),
        ERROR_SERVICE_EXISTS => Error::Exists(owned()),
        ERROR_SERVICE_MARKED_FOR_DELETE => Error::BeingDeleted(owned()),
        ERROR_SERVICE_ALREADY_RUNNING => Error::RunsAlready(owned()),
        ERROR_SERVICE_NOT_ACTIVE => Error::DoesNotRun(owned()),
        ERROR_SERVICE_DISABLED => Error::Disabled(owned()),
        ERROR_DEPENDENT_SERVICES_RUNNING => Error::Needed { name: owned(), dependents: Vec::new() },
        number => Error::system(format!("{step} the service `{name}`"), number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_their_wide_form() {
        let list = ["näme".to_owned(), "b".to_owned()];
        // SAFETY: the buffers live through the calls.
        unsafe {
            assert_eq!(text(wide("a 🦀").as_ptr()), "a 🦀");
            assert_eq!(text(ptr::null()), "");
            assert_eq!(text_list(wide_list(&list).as_ptr()), list);
            assert!(text_list(wide_list(&[]).as_ptr()).is_empty());
        }
    }

    #[test]
    fn buffers_grow_and_give_up() {
        use windows_sys::Win32::Foundation::SetLastError;
        let refuse = |number, needed: u32| {
            move |_: *mut u8, size: u32, answer: &mut u32| {
                *answer = needed;
                // SAFETY: no pointers.
                unsafe { SetLastError(number) };
                i32::from(size >= needed && number == ERROR_MORE_DATA)
            }
        };
        assert!(grown(refuse(ERROR_MORE_DATA, 10_000)).unwrap().len() >= 1_250);
        assert_eq!(grown(refuse(ERROR_ACCESS_DENIED, 10_000)), Err(ERROR_ACCESS_DENIED));
    }
}
