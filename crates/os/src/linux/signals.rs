//! `signals`: see the crate's page.
