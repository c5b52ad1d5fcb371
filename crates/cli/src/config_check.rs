//! Looking at a configuration without starting anything: what `check` prints, and what `up` refuses to begin with.

use std::env;
use std::path::{Path, PathBuf};

use keepwell_config::{Config, Context, Diagnostic, Diagnostics, Severity, Source};

use crate::failure::{Failure, Result};
use crate::locate::Home;
use crate::output::{Look, talk};

/// What was found.
pub(crate) struct Findings {
    /// How many services there are, if that can be said.
    pub(crate) services: usize,
    /// Errors and warnings.
    pub(crate) all: Vec<Diagnostic>,
}

impl Findings {
    /// How many of them are errors.
    pub(crate) fn errors(&self) -> usize {
        self.all.iter().filter(|d| d.severity == Severity::Error).count()
    }
}

/// Text, programs and users.
pub(crate) fn look_at(home: &Home) -> Findings {
    let cx = context(home);
    match load(home, &cx) {
        Ok((sources, config)) => {
            let mut is_program = |path: &Path| keepwell_os::program::check(path).map_err(|e| e.to_string());
            let mut all = config.check_host(&sources, &cx, &mut is_program);
            all.extend(config.warnings.iter().cloned());
            Findings { services: config.services.len(), all }
        }
        Err(Diagnostics(all)) => Findings { services: 0, all },
    }
}

/// Refuses a configuration that no daemon would accept, before anything is made. A program that is not there is no reason:
/// it may come.
///
/// # Errors
/// A silent one: the diagnostics have been printed.
pub(crate) fn must_load(home: &Home, look: &Look) -> Result<()> {
    let (findings, failure) = match load(home, &context(home)) {
        Ok((_, config)) => (Diagnostics(config.warnings), None),
        Err(errors) => (errors, Some(Failure::silent(keepwell_sdk::exit::USAGE))),
    };
    tell(&findings, look);
    failure.map_or(Ok(()), Err)
}

/// Prints findings to stderr.
pub(crate) fn tell(findings: &Diagnostics, look: &Look) {
    let text = findings.render(look.color, !look.unicode);
    if !text.is_empty() {
        talk(text.trim_end());
    }
}

fn load(home: &Home, cx: &Context) -> std::result::Result<(Vec<Source>, Config), Diagnostics> {
    let sources = keepwell_config::read_sources(&shown(&home.config))?;
    let config = keepwell_config::load(&sources, cx)?;
    Ok((sources, config))
}

/// As the daemon will see it: a variable that is no text cannot be named in a configuration.
fn context(home: &Home) -> Context {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Context {
        base: home.config.parent().map(PathBuf::from).unwrap_or_default(),
        state_dir: home.state.clone(),
        env: env::vars_os().filter_map(text).collect(),
    }
}

/// Relative to the working folder where that is shorter.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let here = env::current_dir().ok();
    here.and_then(|h| path.strip_prefix(h).ok()).map_or_else(|| path.to_owned(), Path::to_owned)
}
