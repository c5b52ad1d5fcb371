//! `clock`: see the crate's page.
