//! Which Windows this is, and whether keepwell can run on it.
#![expect(unsafe_code, reason = "the version of the system has no safe form in the standard library")]

use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::System::SystemInformation::{OSVERSIONINFOEXW, OSVERSIONINFOW};

/// The first whose processes can be born in their job (`PROC_THREAD_ATTRIBUTE_JOB_LIST`), which all containment here stands on.
const FIRST: u32 = 10;
/// `VER_NT_WORKSTATION`.
const WORKSTATION: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Version {
    major: u32,
    minor: u32,
    build: u32,
    server: bool,
}

/// Why keepwell does not run on this system, in words; `None`: it does.
#[must_use]
pub fn unsupported() -> Option<String> {
    refusal(version()?)
}

/// What the system itself says: other calls tell a program what its manifest wants to hear.
fn version() -> Option<Version> {
    let size = size_of::<OSVERSIONINFOEXW>() as u32;
    let mut info = OSVERSIONINFOEXW { dwOSVersionInfoSize: size, ..OSVERSIONINFOEXW::default() };
    // SAFETY: `info` has the size that it says, which names its form, and is filled by the call.
    let status = unsafe { RtlGetVersion((&raw mut info).cast::<OSVERSIONINFOW>()) };
    // It is documented never to fail; if it does, what is missing will be told by what is tried.
    (status == 0).then_some(Version {
        major: info.dwMajorVersion,
        minor: info.dwMinorVersion,
        build: info.dwBuildNumber,
        server: info.wProductType != WORKSTATION,
    })
}

fn refusal(version: Version) -> Option<String> {
    (version.major < FIRST).then(|| {
        format!(
            "keepwell needs Windows 10 or Windows Server 2016, and this is {}: a process there cannot be started within its job, \
             so nobody could vouch that all of it ends",
            name(version)
        )
    })
}

fn name(Version { major, minor, build, server }: Version) -> String {
    let known = match (major, minor, server) {
        (6, 0, false) => "Windows Vista",
        (6, 0, true) => "Windows Server 2008",
        (6, 1, false) => "Windows 7",
        (6, 1, true) => "Windows Server 2008 R2",
        (6, 2, false) => "Windows 8",
        (6, 2, true) => "Windows Server 2012",
        (6, 3, false) => "Windows 8.1",
        (6, 3, true) => "Windows Server 2012 R2",
        _ => "Windows",
    };
    format!("{known} ({major}.{minor}, build {build})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_ones_are_refused_by_name() {
        let of = |major, minor, build, server| refusal(Version { major, minor, build, server });
        assert!(of(6, 3, 9600, true).unwrap().contains("this is Windows Server 2012 R2 (6.3, build 9600): "));
        assert!(of(6, 1, 7601, false).unwrap().contains("Windows 7 (6.1, build 7601)"));
        assert!(of(5, 2, 3790, true).unwrap().contains("this is Windows (5.2, build 3790)"));
        // Server 2016, 2019, 2022, 2025; Windows 10, 11.
        for (build, server) in
            [(14393, true), (17763, true), (20348, true), (26100, true), (19045, false), (22631, false)]
        {
            assert_eq!(of(10, 0, build, server), None);
        }
    }

    #[test]
    fn this_one_will_do() {
        assert!(version().unwrap().build > 0);
        assert_eq!(unsupported(), None);
    }
}
