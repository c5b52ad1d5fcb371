//! `lock`: see the crate's page.
