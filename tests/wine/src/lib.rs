//! The harness of the end-to-end tests on Windows' binary: each test has a Wine prefix of its own, which is a Windows of its
//! own with its own services, and looks at it from outside.
//!
//! The tests themselves run on Linux. They start `keepwell.exe` and its helper `winchild.exe` under Wine, read files
//! directly, and ask keepwell's API through a bridge from a TCP port to its pipe. Waits are for levels, with a deadline.
//! Nothing here knows keepwell's inside, save the name of that pipe.
//!
//! Where Wine or the programs are missing the tests are skipped and say so, unless `KEEPWELL_WINE` is set to `required`.

mod api;
mod guardian;
pub mod http;
mod load;
mod prefix;
mod service;
mod wait;

pub use api::Api;
pub use guardian::{Guardian, windows_path};
pub use load::Load;
pub use prefix::{Answer, Prefix, Process, answer, child, is_here, keepwell};
pub use service::{Query, Service};
pub use wait::{DEADLINE, wait_some, wait_some_within, wait_until};

/// Ends a test, with a plain message, where there is no Wine.
#[macro_export]
macro_rules! needs_wine {
    () => {
        if !$crate::is_here() {
            return;
        }
    };
}

/// A file's text, whatever bytes it has; empty if there is none.
#[must_use]
pub fn read_lossy(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// A port that is free now, and that neither another test nor the kernel (which takes from 32768 on) gives to somebody else
/// before the test comes to use it: each process of tests has a few of its own.
#[must_use]
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    const FIRST: u16 = 12_000;
    const EACH: u32 = 8;
    const GROUPS: u32 = 2_500;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mine = std::process::id() % GROUPS * EACH;
    for _ in 0..EACH {
        let number = mine + NEXT.fetch_add(1, Ordering::Relaxed) % EACH;
        let port = FIRST + u16::try_from(number).expect("20,000 of them");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("none of this process's ports is free");
}
