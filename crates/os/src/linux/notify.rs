//! `notify`: see the crate's page.
