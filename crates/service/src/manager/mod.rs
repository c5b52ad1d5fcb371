//! Registers services with the host's service manager and drives them: the SCM on Windows, systemd on Linux.
//!
//! [`Host`] is the same everywhere: install (in place, as often as one likes), uninstall, start, stop, status, list, of
//! services that a [`ServiceDefinition`] describes. On Windows, `scm` has all of the SCM beside it. What systemd is told is
//! text that [`mod@unit`] makes.

mod access;
#[cfg(any(windows, test))]
mod acl;
pub mod audit;
pub mod command_line;
mod definition;
mod difference;
mod guid;
mod host;
#[cfg(any(windows, test))]
mod outsiders;
pub mod registry;
mod status;
pub mod unit;

#[cfg(windows)]
mod logon;
#[cfg(windows)]
pub mod scm;
#[cfg(unix)]
mod systemd;
#[cfg(unix)]
mod users;

pub use access::{Lack, Needs, ask_secret};
pub use definition::{
    Account, ErrorControl, Invalid, Privileges, Recovery, RecoveryAction, RecoveryKind, Secret,
    ServiceDefinition, SidType, StartMode, SystemdSettings, Trigger, TriggerAction, TriggerKind,
    WindowsSettings,
};
pub use difference::{Change, differences};
pub use host::{Found, Host, Installed, Scope};
pub use status::Status;

pub use crate::error::Error;
pub use crate::state::State;
