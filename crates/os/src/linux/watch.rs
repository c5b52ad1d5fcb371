//! `watch`: see the crate's page.
