//! Programs of others as services. `cargo xtask test clients` fetches those that the machine lacks and names their folder in
//! KEEPWELL_CLIENTS; other runs are without the feature that these tests need.
//!
//! What can be shown by an example of the documentation is.

mod gdb;
mod python;
mod systemd_notify;

use std::path::PathBuf;

use keepwell_e2e::Guardian;

/// Goes on when what is tried has ended, and with it the guardian.
const OTHER: &str = "[services.other]\ncommand = 'CHILD hang'\n";

/// A guardian that finds what was fetched; it does not run yet.
fn guardian(config: &str) -> Guardian {
    let home: PathBuf =
        std::env::var_os("KEEPWELL_CLIENTS").expect("cargo xtask test clients sets it").into();
    let mut g = Guardian::new(config);
    let path = std::env::var("PATH").unwrap_or_default();
    g.set_env("PATH", &format!("{path}:{}", home.join("bin").display()));
    g.set_env("PYTHONPATH", &home.join("python").display().to_string());
    g.set_env("PYTHONDONTWRITEBYTECODE", "1");
    g
}

/// Writes a script that `sh` and others may run by its name.
fn script(g: &Guardian, name: &str, text: &str) {
    g.write(name, &format!("#!/bin/sh\n{text}\n"));
    keepwell_e2e::sys::set_mode(&g.path(name), 0o755).expect("own file");
}

/// How often a line was written to a file.
fn lines(g: &Guardian, name: &str) -> usize {
    g.read(name).lines().count()
}

/// Whether an event of this service says this.
fn told(g: &Guardian, service: &str, words: &str) -> bool {
    g.events().iter().any(|e| e.service.as_deref() == Some(service) && e.text.contains(words))
}
