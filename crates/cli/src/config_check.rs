//! Looking at a configuration without starting anything: what `check` prints, and what `up` refuses to begin with.

use std::env;
use std::path::{Path, PathBuf};

use keepwell_config::{Account, Config, Context, Diagnostic, Diagnostics, ServiceConfig, Severity, Source};

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
            let mut is_program =
                |path: &Path| keepwell_os::program::check(path).map_err(|e| without(path, &e.to_string()));
            let mut all = config.check_host(&sources, &cx, &mut is_program);
            all.extend(config.services.values().filter_map(|s| unknown_account(s, &home.config)));
            all.extend(config.warnings.iter().cloned());
            Findings { services: config.services.len(), all }
        }
        Err(Diagnostics(all)) => Findings { services: 0, all },
    }
}

/// Why a program cannot be run, for a line that names its path already.
fn without(path: &Path, why: &str) -> String {
    let path = path.display().to_string();
    if let Some(rest) = why.strip_prefix(&path) {
        return match rest.strip_prefix(": ") {
            Some(rest) => rest.to_owned(),
            None => format!("it{rest}"),
        };
    }
    match why.strip_suffix(&path) {
        Some("program not found: ") => "there is no such file".to_owned(),
        _ => why.replacen(&format!(" on {path}"), "", 1),
    }
}

/// A user or group that this host does not know.
fn unknown_account(service: &ServiceConfig, file: &Path) -> Option<Diagnostic> {
    let bare = |account: &Account| match account {
        Account::Name(name) => name.to_string(),
        Account::Id(id) => id.to_string(),
    };
    let (user, group) = (service.user.as_ref().map(bare), service.group.as_ref().map(bare));
    let unknown = match (&user, &group) {
        (Some(user), group) => keepwell_os::identity::lookup(user, group.as_deref()).err(),
        (None, Some(group)) => keepwell_os::identity::group_id(group).err(),
        (None, None) => None,
    }?;
    let message = format!("services.{}: {unknown}", service.name);
    let help = "names are looked up in /etc/passwd and /etc/group, then with getent";
    Some(Diagnostic::error("unknown-account", message).in_file(shown(file)).help(help))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locate::Scope;

    fn findings(text: &str) -> Findings {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("keepwell.toml");
        std::fs::write(&config, text).unwrap();
        look_at(&Home { scope: Scope::Project, config, state: dir.path().join(".keepwell") })
    }

    #[test]
    fn what_only_the_host_knows_is_looked_up() {
        let found = findings(
            "[services.a]\ncommand = \"true\"\nuser = \"no-such-user\"\n[services.b]\ncommand = \"no-such-program\"\n",
        );
        let codes: Vec<&str> = found.all.iter().map(|d| d.code).collect();
        assert_eq!(codes, ["missing-program", "unknown-account"]);
        assert_eq!(found.all[1].message, "services.a: there is no user `no-such-user` on this host");
        assert_eq!((found.services, found.errors()), (2, 2));
    }

    #[test]
    fn a_path_is_named_once() {
        let dir = tempfile::tempdir().unwrap();
        let why = |name: &str| {
            let path = dir.path().join(name);
            without(&path, &keepwell_os::program::check(&path).unwrap_err().to_string())
        };
        assert_eq!(why("none"), "there is no such file");
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        assert_eq!(why("folder"), "it is not a file");
        std::fs::write(dir.path().join("text"), "").unwrap();
        assert_eq!(why("text"), "permission denied: it is not executable (chmod +x)");
        assert_eq!(without(Path::new("/x"), "/x: built for arm"), "built for arm");
    }

    #[test]
    fn a_good_one_has_nothing_to_find() {
        let found = findings("[services.a]\ncommand = \"true\"\nuser = 0\ngroup = 0\n");
        assert_eq!((found.services, found.errors()), (1, 0), "{:?}", found.all);
    }

    #[test]
    fn text_that_is_none_is_one_finding() {
        assert_eq!(findings("[services").errors(), 1);
    }
}
