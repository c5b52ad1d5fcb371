//! What an error number of the system means to decisions; its words are the standard library's.

/// Whether the host, or a limit of this process or its user, ran out of something (processes, descriptors, memory,
/// room): the same call may succeed later, and says nothing of what it was about.
#[must_use]
pub fn is_shortage(number: i32) -> bool {
    matches!(
        number,
        libc::EAGAIN
            | libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::ENOSPC
            | libc::EDQUOT
    )
}

/// Whether nothing has the name that was looked up. Here a look-up does not fail by such a number.
#[must_use]
pub fn is_unknown_name(_: i32) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thing_is_no_shortage() {
        for number in [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN] {
            assert!(is_shortage(number));
        }
        for number in [0, libc::ENOENT, libc::EACCES, libc::ECONNREFUSED, libc::ENOEXEC] {
            assert!(!is_shortage(number));
        }
    }
}
