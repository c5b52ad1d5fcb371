//! All that keepwell asks of the operating system, alike on every one. `linux/` and `windows/` hold the same files with
//! the same functions; nothing above this crate knows which it is on.

#[cfg(feature = "fake")]
pub mod fake;
pub mod folder;
pub mod host;
mod step;
pub mod types;
mod words;

pub use types::*;
pub use words::in_words;

#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;

#[cfg(windows)]
#[path = "windows/mod.rs"]
mod system;

pub use system::*;
