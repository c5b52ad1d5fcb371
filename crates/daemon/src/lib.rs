//! The shell around the core: engine, probes, logs, store and API.

pub mod convert;
pub mod message;
pub mod options;
pub mod store;
pub mod trace;
