//! `pipe`: see the crate's page.
