//! `spawn`: see the crate's page.
