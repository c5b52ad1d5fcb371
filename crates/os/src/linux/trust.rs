//! The authorities that this host trusts to say who is who.

use std::io;

/// Their certificates, in DER: those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or where the distribution keeps them. Reads a few
/// hundred KiB of files.
///
/// # Errors
/// When there is none.
pub fn authorities() -> io::Result<Vec<Vec<u8>>> {
    let found = rustls_native_certs::load_native_certs();
    let all: Vec<Vec<u8>> = found.certs.iter().map(|cert| cert.to_vec()).collect();
    match found.errors.into_iter().next() {
        Some(e) if all.is_empty() => Err(io::Error::other(e.to_string())),
        Some(_) | None if all.is_empty() => {
            Err(io::Error::new(io::ErrorKind::NotFound, "this host has no file of authorities"))
        }
        // Some of many that cannot be read are no reason to trust none.
        Some(_) | None => Ok(all),
    }
}
