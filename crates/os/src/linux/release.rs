//! Whether keepwell can run on this system.

/// Why keepwell does not run here. Every kernel that loads it has what it cannot do without; what else is missing is done in another
/// way, and `keepwell info` says so.
#[must_use]
pub fn unsupported() -> Option<String> {
    None
}
