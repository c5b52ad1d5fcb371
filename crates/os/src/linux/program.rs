//! `program`: see the crate's page.
