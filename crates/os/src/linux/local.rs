//! `local`: see the crate's page.
