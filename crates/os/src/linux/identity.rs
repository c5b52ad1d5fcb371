//! `identity`: see the crate's page.
