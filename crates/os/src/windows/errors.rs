//! What an error number of the system means to decisions; its words are the standard library's.

use windows_sys::Win32::Foundation::{
    ERROR_COMMITMENT_LIMIT, ERROR_DISK_FULL, ERROR_MAX_THRDS_REACHED, ERROR_NO_SYSTEM_RESOURCES,
    ERROR_NONPAGED_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY, ERROR_NOT_ENOUGH_QUOTA, ERROR_OUTOFMEMORY,
    ERROR_PAGED_SYSTEM_RESOURCES, ERROR_TOO_MANY_OPEN_FILES, ERROR_WORKING_SET_QUOTA,
};

/// `WSAEMFILE` and `WSAENOBUFS` of sockets.
const SOCKETS: [u32; 2] = [10_024, 10_055];

/// Whether the host, or a limit of this process or its user, ran out of something (processes, handles, memory, room): the
/// same call may succeed later, and says nothing of what it was about.
#[must_use]
pub fn is_shortage(number: i32) -> bool {
    let number = number.cast_unsigned();
    SOCKETS.contains(&number)
        || matches!(
            number,
            ERROR_TOO_MANY_OPEN_FILES
                | ERROR_NOT_ENOUGH_MEMORY
                | ERROR_OUTOFMEMORY
                | ERROR_DISK_FULL
                | ERROR_MAX_THRDS_REACHED
                | ERROR_NO_SYSTEM_RESOURCES
                | ERROR_NONPAGED_SYSTEM_RESOURCES
                | ERROR_PAGED_SYSTEM_RESOURCES
                | ERROR_WORKING_SET_QUOTA
                | ERROR_COMMITMENT_LIMIT
                | ERROR_NOT_ENOUGH_QUOTA
        )
}

/// Whether nothing has the name that was looked up (`WSAHOST_NOT_FOUND`, `WSANO_DATA`).
#[must_use]
pub fn is_unknown_name(number: i32) -> bool {
    matches!(number, 11_001 | 11_004)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_thing_is_no_shortage() {
        for number in [ERROR_NOT_ENOUGH_MEMORY, ERROR_TOO_MANY_OPEN_FILES, 10_055] {
            assert!(is_shortage(number.cast_signed()));
        }
        for number in [0, 2, 3, 5, 193, 10_061] {
            assert!(!is_shortage(number));
        }
    }
}
