//! `stop`: see the crate's page.
