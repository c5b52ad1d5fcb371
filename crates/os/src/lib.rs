//! All that keepwell asks of the operating system, alike on every one. `linux/` and (later) `windows/` hold the same
//! files with the same functions; nothing above this crate knows which it is on.

#[cfg(feature = "fake")]
pub mod fake;
pub mod host;
pub mod types;

pub use types::*;

#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;

pub use system::*;
