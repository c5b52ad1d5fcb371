//! The authorities that this host trusts to say who is who.
#![expect(
    unsafe_code,
    reason = "the system's store of certificates has no safe form in the standard library"
)]

use std::io;
use std::ptr;
use std::slice;

use windows_sys::Win32::Security::Cryptography::{CERT_CONTEXT, HCERTSTORE};

use super::sys;

type CertOpenSystemStoreW = unsafe extern "system" fn(usize, *const u16) -> HCERTSTORE;
type CertEnumCertificatesInStore =
    unsafe extern "system" fn(HCERTSTORE, *const CERT_CONTEXT) -> *mut CERT_CONTEXT;
type CertCloseStore = unsafe extern "system" fn(HCERTSTORE, u32) -> i32;

/// `CERT_CONTEXT::dwCertEncodingType` of a certificate in DER (`X509_ASN_ENCODING`).
const DER: u32 = 1;

/// Their certificates, in DER: the store `ROOT` as keepwell's user sees it, with the machine's. What Windows would fetch from its
/// update service when it is first needed is not there.
///
/// # Errors
/// When there is none.
pub fn authorities() -> io::Result<Vec<Vec<u8>>> {
    let library = "crypt32.dll";
    // SAFETY: the functions have these types (wincrypt.h).
    let (open, next, close) = unsafe {
        (
            sys::function::<CertOpenSystemStoreW>(library, c"CertOpenSystemStoreW")?,
            sys::function::<CertEnumCertificatesInStore>(library, c"CertEnumCertificatesInStore")?,
            sys::function::<CertCloseStore>(library, c"CertCloseStore")?,
        )
    };
    let mut all = Vec::new();
    // SAFETY: the name ends with a zero. Each certificate is given back to the call for the next one, which frees it; what it
    // points to lives until then, and is copied before. The store is closed once, after the last.
    unsafe {
        let store = open(0, sys::wide("ROOT").as_ptr());
        if store.is_null() {
            return Err(io::Error::last_os_error());
        }
        let mut certificate = next(store, ptr::null());
        while !certificate.is_null() {
            let CERT_CONTEXT { dwCertEncodingType: kind, pbCertEncoded: bytes, cbCertEncoded: len, .. } =
                *certificate;
            if kind & DER != 0 && !bytes.is_null() {
                all.push(slice::from_raw_parts(bytes, len as usize).to_vec());
            }
            certificate = next(store, certificate);
        }
        close(store, 0);
    }
    if all.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this host trusts no authority"));
    }
    Ok(all)
}
