//! keepwell's API for programs: the wire types of version 1, the exit codes, and a client.

pub mod client;
pub mod exit;
pub mod wire;
