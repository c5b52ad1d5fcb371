//! The process that the terminal, systemd or the SCM sees: parent of every service and of the daemon. It holds what must
//! not be lost and decides nothing.

pub mod codec;
pub mod link;
pub mod protocol;
