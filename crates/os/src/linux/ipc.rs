//! `ipc`: see the crate's page.
