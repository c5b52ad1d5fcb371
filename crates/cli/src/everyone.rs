//! Every guardian that this host may have: those of its services, and those whose state folders are where keepwell puts them.
//! Looks at names, talks to nobody.

use std::fs;
use std::path::{Path, PathBuf};

use keepwell_service::manager::{Host, Scope as HostScope};

use crate::command::service::place::Place as Installed;
use crate::hold::NAME;
use crate::locate::{Place, SOCKET, Scope, ServiceName, Surroundings};

/// So many folders of former guardians are looked at; more are nobody's doing.
const MOST_FOLDERS: usize = 1_000;

/// A guardian that may run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    /// What people call it.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its state folder.
    pub(crate) state: PathBuf,
    /// Its configuration, where that is known without asking.
    pub(crate) config: Option<PathBuf>,
}

/// What a guardian is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The user's own.
    User,
    /// The system's own.
    System,
    /// A service of the host.
    Service,
    /// The user's service.
    UserService,
    /// Each user's.
    EachUsersService,
    /// Only its state folder is known.
    Folder,
}

impl Kind {
    /// As it is shown.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::System => "system",
            Kind::Service => "service",
            Kind::UserService | Kind::EachUsersService => "user service",
            Kind::Folder => "folder",
        }
    }
}

impl Known {
    /// Where it would answer.
    pub(crate) fn place(&self) -> Place {
        let service = |option| (None, Some(ServiceName { name: self.name.clone(), option }));
        let (scope, service) = match self.kind {
            Kind::User => (Some(Scope::User), None),
            Kind::System => (Some(Scope::System), None),
            Kind::Service => service(""),
            Kind::UserService => service("--user"),
            Kind::EachUsersService => service("--all-users"),
            Kind::Folder => (None, None),
        };
        Place { scope, service, chosen: false, ..Place::named(self.state.join(SOCKET)) }
    }
}

/// The services of this host, and of this user, that are keepwell's. A host without a service manager has none.
pub(crate) fn services() -> Vec<Known> {
    let mut all = Vec::new();
    let scopes = [
        (HostScope::System, Kind::Service),
        (HostScope::User, Kind::UserService),
        (HostScope::AllUsers, Kind::EachUsersService),
    ];
    for (scope, kind) in scopes {
        let wanted = |command: &[String]| Installed::of("", command).is_some();
        let registered = Host::new(scope).and_then(|host| host.registered(&wanted)).unwrap_or_default();
        for (name, command) in registered {
            let Some(place) = Installed::of(&name, &command) else { continue };
            all.push(Known { name, kind, state: place.state, config: Some(place.config) });
        }
    }
    all
}

/// The guardians of the services that are installed with this configuration.
pub(crate) fn services_of(config: &Path) -> Vec<Place> {
    let with = |known: &Known| known.config.as_deref().is_some_and(|own| same(own, config));
    services().iter().filter(|known| with(known)).map(Known::place).collect()
}

/// All, each once: services by their names, then the user's and the system's, then what else has a state folder.
pub(crate) fn all(here: &Surroundings) -> Vec<Known> {
    let mut all = services();
    let system = keepwell_os::files::system_state();
    let known = |name: &str, kind, state: &Path| Known {
        name: name.to_owned(),
        kind,
        state: state.to_owned(),
        config: None,
    };
    let user = here.user_state().ok();
    all.extend(user.as_deref().map(|state| known("user", Kind::User, state)));
    all.push(known("system", Kind::System, &system));
    for base in user.as_deref().into_iter().chain([system.as_path()]) {
        all.extend(folders(base).into_iter().filter_map(|state| {
            let name = state.file_name()?.to_string_lossy().into_owned();
            Some(Known { name, kind: Kind::Folder, state, config: None })
        }));
    }
    let mut each: Vec<Known> = Vec::new();
    for known in all {
        if !each.iter().any(|other| same(&other.state, &known.state)) {
            each.push(known);
        }
    }
    each
}

/// Those below that have had a guardian, by name.
fn folders(base: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(base).into_iter().flatten().filter_map(Result::ok).take(MOST_FOLDERS);
    let mut all: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.join(NAME).is_file()).collect();
    all.sort();
    all
}

/// Whether two paths lead to the same; what is not there is compared by name.
fn same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_folders_are_found_once_and_others_are_left_out() {
        let home = tempfile::tempdir().unwrap();
        let base = home.path().join("keepwell");
        for name in ["b", "a", "empty"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        for name in ["a", "b"] {
            fs::write(base.join(name).join(NAME), "x").unwrap();
        }
        let here = Surroundings {
            cwd: home.path().into(),
            home: None,
            state_home: Some(home.path().into()),
            config_home: None,
        };
        let found = all(&here);
        let own: Vec<(&str, Kind)> =
            found.iter().filter(|k| k.state.starts_with(&base)).map(|k| (k.name.as_str(), k.kind)).collect();
        assert_eq!(own, [("user", Kind::User), ("a", Kind::Folder), ("b", Kind::Folder)]);
        assert!(same(&base.join("a"), &base.join("b/../a")));
    }
}
