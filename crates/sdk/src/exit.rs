//! Exit codes of the command line; a contract.

/// Done.
pub const DONE: i32 = 0;
/// It failed; of a check-like command: there are findings.
pub const FAILED: i32 = 1;
/// Wrong use or wrong configuration; nothing was touched.
pub const USAGE: i32 = 2;
/// No guardian runs.
pub const NOT_RUNNING: i32 = 3;
/// It did not happen in time; it may still.
pub const TIMED_OUT: i32 = 4;
