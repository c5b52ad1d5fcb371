//! `limits`: see the crate's page.
