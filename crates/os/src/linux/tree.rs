//! `tree`: see the crate's page.
