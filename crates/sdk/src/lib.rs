//! keepwell for programs: the API's wire types of version 1, its exit codes and a client (the feature `api`); and what a guarded
//! program says of itself ([`heartbeat`]).

#[cfg(feature = "api")]
pub mod client;
pub mod exit;
pub mod heartbeat;
pub mod wire;
