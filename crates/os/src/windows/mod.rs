//! Windows, from Server 2016 and Windows 10 on.

pub mod clock;
pub mod errors;
pub mod evidence;
pub mod files;
pub mod held;
mod host;
pub mod identity;
pub mod ipc;
pub mod limits;
pub mod local;
pub mod lock;
pub mod memory;
pub mod notify;
#[cfg(feature = "fake")]
pub mod own;
pub mod pipe;
pub mod ports;
pub mod program;
mod random;
pub mod release;
mod security;
pub mod session;
pub mod signals;
pub mod spawn;
pub mod stop;
pub mod strain;
mod sys;
pub mod tree;
pub mod trust;
pub mod voice;
pub mod wait;
pub mod watch;

pub use errors::{is_shortage, is_unknown_name};

/// What kind of host this is.
pub const SYSTEM: keepwell_core::spec::System = keepwell_core::spec::System::Windows;

pub use host::WindowsHost as SystemHost;
#[cfg(feature = "fake")]
pub(crate) use host::waiting_connection;
pub use ipc::{AsHandle, BorrowedHandle, Handle};
