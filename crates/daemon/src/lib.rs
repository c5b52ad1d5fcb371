//! The shell around the core: engine, probes, logs, store and API.

pub mod api;
pub mod convert;
pub mod message;
pub mod notify;
pub mod options;
pub mod probe;
pub mod store;
pub mod trace;
