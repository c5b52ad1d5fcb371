//! Looking at a configuration without starting anything: what `check` prints, and what `up` refuses to begin with.

use std::collections::BTreeSet;
use std::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use keepwell_config::{Account, Config, Context, Diagnostic, Diagnostics, Host, Severity, Source};

use keepwell_service::manager::Needs;

use crate::failure::{Failure, Result, io_words};
use crate::hold::guardian_of;
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

/// Text, programs, folders, users and ports; those of `running` services are theirs.
pub(crate) fn look_at(home: &Home, running: &BTreeSet<String>) -> Findings {
    let cx = context(home);
    match load(home, &cx) {
        Ok((sources, config)) => {
            let mut all = config.check_host(&sources, &cx, &mut ThisHost);
            all.extend(ports(home, &sources, &config, &cx, running));
            all.extend(config.warnings.iter().cloned());
            Findings { services: config.services.len(), all }
        }
        Err(Diagnostics(all)) => Findings { services: 0, all },
    }
}

struct ThisHost;

impl Host for ThisHost {
    fn program(&mut self, path: &Path) -> std::result::Result<(), String> {
        // Its folder is known; what is added to its name is the system's custom.
        let found = keepwell_os::program::find(&path.to_string_lossy(), "", Path::new(""));
        found.map(drop).map_err(|e| without(path, &e.to_string()))
    }

    fn folder(&mut self, path: &Path) -> std::result::Result<(), String> {
        match path.metadata() {
            Ok(m) if m.is_dir() => Ok(()),
            Ok(_) => Err("it is not a folder".to_owned()),
            Err(e) if e.kind() == ErrorKind::NotFound => Err("there is no such folder".to_owned()),
            Err(e) => Err(io_words(&e)),
        }
    }

    fn accounts(
        &mut self,
        user: Option<&Account>,
        group: Option<&Account>,
    ) -> std::result::Result<(), String> {
        let bare = |account: &Account| match account {
            Account::Name(name) => name.to_string(),
            Account::Id(id) => id.to_string(),
        };
        let (user, group) = (user.map(bare), group.map(bare));
        let no_group = group.as_deref().and_then(|g| keepwell_os::identity::group_id(g).err());
        // With another group in the place of one that is not known, only the user can be wrong.
        let with = group.as_deref().map(|g| if no_group.is_some() { "0" } else { g });
        let no_user = user.as_deref().and_then(|u| keepwell_os::identity::lookup(u, with).err());
        let mut unknown: Vec<String> =
            [no_user, no_group].into_iter().flatten().map(|e| e.to_string()).collect();
        unknown.dedup();
        if unknown.is_empty() { Ok(()) } else { Err(unknown.join(", and ")) }
    }
}

/// Ports on which somebody answers who is no service of this guardian.
fn ports(
    home: &Home,
    sources: &[Source],
    config: &Config,
    cx: &Context,
    running: &BTreeSet<String>,
) -> Vec<Diagnostic> {
    let own = guardian_of(&home.state);
    config.check_ports(sources, cx, &mut |service, host, port| {
        let found = keepwell_os::ports::listener(host, port).filter(|_| !running.contains(service))?;
        let stranger = found.guardian.is_none() || found.guardian != own;
        stranger.then(|| found.to_string())
    })
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

/// Refuses a configuration that no daemon would accept, before anything is made. A program that is not there is no reason:
/// it may come.
///
/// # Errors
/// A silent one: the diagnostics have been printed.
pub(crate) fn must_load(home: &Home, look: &Look) -> Result<()> {
    let (findings, failure) = match load(home, &context(home)) {
        Ok((sources, config)) => {
            let mut all = ports(home, &sources, &config, &context(home), &BTreeSet::new());
            all.extend(config.warnings);
            (Diagnostics(all), None)
        }
        Err(errors) => (errors, Some(Failure::silent(keepwell_sdk::exit::USAGE))),
    };
    tell(&findings, look);
    failure.map_or(Ok(()), Err)
}

/// The services that are to run as somebody, and as whom.
pub(crate) fn users(home: &Home) -> Vec<(String, String)> {
    let Ok((_, config)) = load(home, &context(home)) else { return Vec::new() };
    let user = |service: &keepwell_config::ServiceConfig| match service.user.as_ref()? {
        Account::Name(name) => Some((service.name.to_string(), name.to_string())),
        Account::Id(id) => Some((service.name.to_string(), id.to_string())),
    };
    config.services.values().filter_map(|service| user(service)).collect()
}

/// Refuses what `keepwell run` made of its command line, with its first error.
///
/// # Errors
/// That error.
pub(crate) fn must_mean(text: &str, base: &Path, state: &Path) -> std::result::Result<(), Box<Diagnostic>> {
    let sources = [Source { path: "keepwell run".into(), text: text.to_owned() }];
    let Err(Diagnostics(all)) = keepwell_config::load(&sources, &surroundings(base, state)) else {
        return Ok(());
    };
    all.into_iter().find(|d| d.severity == Severity::Error).map_or(Ok(()), |d| Err(Box::new(d)))
}

/// Prints findings to stderr.
pub(crate) fn tell(findings: &Diagnostics, look: &Look) {
    let text = findings.render(look.color, !look.unicode);
    if !text.is_empty() {
        talk(text.trim_end());
    }
}

/// What a guardian of this configuration uses besides its own files: all programs that it starts, and the folders that they run
/// in, and where their output goes. Programs of another user are not its account's.
pub(crate) fn needs(home: &Home) -> Needs {
    let cx = context(home);
    let mut uses = Uses::default();
    let Ok((sources, config)) = load(home, &cx) else { return uses.needs };
    config.check_host(&sources, &cx, &mut uses);
    // It is keepwell that writes what they write.
    uses.foreign = false;
    for service in config.services.values() {
        let Ok(resolved) = service.resolve(1, &cx) else { continue };
        for file in [Some(&resolved.log.stdout), resolved.log.stderr.as_ref()].into_iter().flatten() {
            let folder = file.parent().filter(|folder| !folder.starts_with(&home.state));
            if let Some(folder) = folder {
                uses.add(|needs| &mut needs.write, folder);
            }
        }
    }
    uses.needs
}

#[derive(Default)]
struct Uses {
    needs: Needs,
    /// What is looked at now runs as somebody else.
    foreign: bool,
}

impl Uses {
    fn add(&mut self, list: fn(&mut Needs) -> &mut Vec<PathBuf>, path: &Path) {
        let list = list(&mut self.needs);
        if !self.foreign && !list.iter().any(|known| known == path) {
            list.push(path.to_owned());
        }
    }
}

impl Host for Uses {
    fn program(&mut self, path: &Path) -> std::result::Result<(), String> {
        self.add(|needs| &mut needs.run, path);
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> std::result::Result<(), String> {
        self.add(|needs| &mut needs.read, path);
        Ok(())
    }

    fn accounts(&mut self, user: Option<&Account>, _: Option<&Account>) -> std::result::Result<(), String> {
        self.foreign = user.is_some();
        Ok(())
    }
}

/// How long it may take to stop all that a configuration holds; nothing for one that cannot be read.
pub(crate) fn stop_budget(home: &Home) -> std::time::Duration {
    load(home, &context(home)).map(|(_, config)| config.stop_budget()).unwrap_or_default()
}

fn load(home: &Home, cx: &Context) -> std::result::Result<(Vec<Source>, Config), Diagnostics> {
    let sources = keepwell_config::read_sources(&shown(&home.config))?;
    let config = keepwell_config::load(&sources, cx)?;
    Ok((sources, config))
}

fn context(home: &Home) -> Context {
    surroundings(home.config.parent().unwrap_or(Path::new("")), &home.state)
}

/// As the daemon will see it: a variable that is no text cannot be named in a configuration.
fn surroundings(base: &Path, state: &Path) -> Context {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Context {
        base: base.to_owned(),
        state_dir: state.to_owned(),
        env: env::vars_os().filter_map(text).collect(),
        system: keepwell_os::SYSTEM,
    }
}

/// Relative to the working folder where that is shorter.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let here = env::current_dir().ok();
    here.and_then(|h| path.strip_prefix(h).ok()).map_or_else(|| path.to_owned(), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use keepwell_config::System;

    use super::*;
    use crate::locate::Scope;

    fn findings(text: &str) -> Findings {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("keepwell.toml");
        std::fs::write(&config, text).unwrap();
        let home = Home { scope: Scope::Project, config, state: dir.path().join(".keepwell") };
        look_at(&home, &BTreeSet::new())
    }

    /// A program that is there.
    fn program() -> String {
        env::current_exe().unwrap().display().to_string()
    }

    #[test]
    fn what_only_the_host_knows_is_looked_up() {
        let found = findings(&format!(
            "[services.a]\ncommand = ['{}']\nuser = \"no-such-user\"\ngroup = \"no-such-group\"\n[services.b]\ncommand = \"no-such-program\"\n",
            program()
        ));
        let codes: Vec<&str> = found.all.iter().map(|d| d.code).collect();
        assert_eq!(codes, ["unknown-account", "missing-program"]);
        let expected = match keepwell_os::SYSTEM {
            System::Unix => {
                "there is no user `no-such-user` on this host, and there is no group `no-such-group` on this host"
            }
            System::Windows => {
                "there is no account `no-such-user`, and a program has no group of its own on Windows; leave `group` out"
            }
        };
        assert_eq!(found.all[0].message, format!("services.a: {expected}"));
        assert_eq!((found.all[0].line, found.all[1].line), (3, 6));
        assert_eq!((found.services, found.errors()), (2, 2));
    }

    #[test]
    fn a_folder_to_run_in_has_to_be_one() {
        let text = |name: &str, cwd: &str| {
            format!("[services.{name}]\ncommand = ['{}']\ncwd = '{cwd}'\n", program())
        };
        let found = findings(&(text("a", "none") + &text("b", "keepwell.toml")));
        let labels: Vec<&str> = found.all.iter().filter_map(|d| d.label.as_deref()).collect();
        let end = |name: &str| format!("{}{name}", std::path::MAIN_SEPARATOR);
        assert!(labels[0].ends_with(&end("none: there is no such folder")), "{labels:?}");
        assert!(labels[1].ends_with(&end("keepwell.toml: it is not a folder")), "{labels:?}");
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
        let expected = match keepwell_os::SYSTEM {
            System::Unix => "permission denied: it is not executable (chmod +x)",
            System::Windows => "neither a program nor a batch file",
        };
        assert_eq!(why("text"), expected);
        assert_eq!(without(Path::new("/x"), "/x: built for arm"), "built for arm");
    }

    #[test]
    fn a_good_one_has_nothing_to_find() {
        let own = keepwell_os::identity::user_name(keepwell_os::identity::own_uid());
        let group = match keepwell_os::SYSTEM {
            System::Unix => "group = 0\n",
            System::Windows => "",
        };
        let found = findings(&format!("[services.a]\ncommand = ['{}']\nuser = '{own}'\n{group}", program()));
        assert_eq!((found.services, found.errors()), (1, 0), "{:?}", found.all);
    }

    #[test]
    fn text_that_is_none_is_one_finding() {
        assert_eq!(findings("[services").errors(), 1);
    }
}
