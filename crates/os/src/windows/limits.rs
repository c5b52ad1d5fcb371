//! Limits of a process as Unix has them. Windows has none of them: what a tree may use is its job's.

use std::io;

use crate::types::{Resource, Rlimit};

/// A limit of this process.
///
/// # Errors
/// Always: there is none.
pub fn get(_: Resource) -> io::Result<Rlimit> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "there are no resource limits of a process on Windows"))
}
