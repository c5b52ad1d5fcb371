//! Random bytes without bcrypt.dll. What needs TLS asks `BCryptGenRandom` for them, as its only function of that DLL; every keepwell
//! process would load it at its start, most of them for nothing, and under Wine with it the whole of GnuTLS: 2.4 MB each.

#![expect(unsafe_code, reason = "a function of the system's own form")]

use core::ffi::c_void;

use windows_sys::Win32::Security::Cryptography::ProcessPrng;

/// Takes the place of the function of this name for all that is linked with us. Fills `buffer` from where Rust's own library, and
/// since Windows 10 that function too, has its bytes
/// (<https://learn.microsoft.com/en-us/windows/win32/seccng/processprng>). No algorithm of the caller's is known.
///
/// # Safety
/// `length` bytes at `buffer` may be written.
#[unsafe(no_mangle)]
unsafe extern "system" fn BCryptGenRandom(
    algorithm: *mut c_void,
    buffer: *mut u8,
    length: u32,
    _flags: u32,
) -> i32 {
    const STATUS_SUCCESS: i32 = 0;
    const STATUS_INVALID_HANDLE: i32 = 0xC000_0008_u32.cast_signed();
    if !algorithm.is_null() {
        return STATUS_INVALID_HANDLE;
    }
    // SAFETY: the caller lends us this place. The call cannot fail.
    unsafe { ProcessPrng(buffer, length as usize) };
    STATUS_SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_filled_and_no_algorithm_is_taken() {
        let mut bytes = [0_u8; 64];
        // SAFETY: 64 bytes may be written.
        let status = unsafe { BCryptGenRandom(core::ptr::null_mut(), bytes.as_mut_ptr(), 64, 2) };
        assert_eq!(status, 0);
        assert!(bytes.iter().filter(|b| **b != 0).count() > 32, "{bytes:?}");
        let before = bytes;
        // SAFETY: likewise; the handle is not looked at.
        let status = unsafe { BCryptGenRandom(bytes.as_mut_ptr().cast(), bytes.as_mut_ptr(), 64, 0) };
        assert!(status < 0);
        assert_eq!(bytes, before);
    }
}
