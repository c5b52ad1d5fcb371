//! Where guardians live: which state folders and configuration files a command means. Looks at names, talks to nobody.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Failure, Result};

/// The file that makes a folder a project.
pub(crate) const CONFIG: &str = "keepwell.toml";
/// The API's endpoint in a state folder.
pub(crate) const SOCKET: &str = "keepwell.sock";

/// Chooses a guardian. Without any of these: the nearest project's, else the user's, else the system's.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(
    next_help_heading = "Which guardian (default: the nearest keepwell.toml's, then the user's, then the system's)"
)]
pub(crate) struct Target {
    /// The one of this configuration file's folder
    #[arg(short, long, value_name = "FILE", group = "which")]
    pub(crate) file: Option<PathBuf>,
    /// The one with this state folder
    #[arg(long, value_name = "DIR", group = "which")]
    pub(crate) state: Option<PathBuf>,
    /// The one that listens on this socket
    #[arg(long, value_name = "PATH", group = "which")]
    pub(crate) socket: Option<PathBuf>,
    /// The nearest keepwell.toml's, and no other
    #[arg(long, group = "which")]
    pub(crate) project: bool,
    /// The user's
    #[arg(long, group = "which")]
    pub(crate) user: bool,
    /// The system's
    #[arg(long, group = "which")]
    pub(crate) system: bool,
}

impl Target {
    /// Nothing was chosen.
    pub(crate) fn is_open(&self) -> bool {
        *self == Target::default()
    }
}

/// Whose programs a guardian keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// A folder's.
    Project,
    /// A person's.
    User,
    /// The host's.
    System,
}

/// What names are resolved against, so that tests need no environment.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Working folder.
    pub(crate) cwd: PathBuf,
    /// Home folder, if any.
    pub(crate) home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub(crate) state_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub(crate) config_home: Option<PathBuf>,
}

/// Where a guardian may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Whose; nothing when only a socket was named.
    pub(crate) scope: Option<Scope>,
    /// The service of the host that it is.
    pub(crate) service: Option<ServiceName>,
    /// Its API.
    pub(crate) socket: PathBuf,
    /// The operator named it, so that it need not be said which one it is.
    pub(crate) chosen: bool,
}

/// A service of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServiceName {
    /// Its name.
    pub(crate) name: String,
    /// What is typed beside it: `--user`, or nothing.
    pub(crate) option: &'static str,
}

/// What `up` is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Home {
    /// Whose.
    pub(crate) scope: Scope,
    /// Its configuration; absolute.
    pub(crate) config: PathBuf,
    /// Its state folder; absolute.
    pub(crate) state: PathBuf,
}

impl Scope {
    /// The word of the API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scope::Project => "project",
            Scope::User => "user",
            Scope::System => "system",
        }
    }
}

impl Place {
    /// The one that listens there, which the operator named.
    pub(crate) fn named(socket: PathBuf) -> Self {
        Self { scope: None, service: None, socket, chosen: true }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.option {
            "" => f.write_str(&self.name),
            option => write!(f, "{} {option}", self.name),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            return write!(f, "the guardian of the service {} ({})", service.name, self.socket.display());
        }
        match self.scope {
            Some(Scope::Project) => write!(f, "the project's guardian ({})", self.socket.display()),
            Some(Scope::User) => write!(f, "the user's guardian ({})", self.socket.display()),
            Some(Scope::System) => write!(f, "the system's guardian ({})", self.socket.display()),
            None => write!(f, "the guardian at {}", self.socket.display()),
        }
    }
}

impl Surroundings {
    /// The process's own.
    ///
    /// # Errors
    /// When the working folder is gone.
    pub(crate) fn here() -> Result<Self> {
        let cwd = env::current_dir().map_err(|e| {
            Failure::failed(format!("the working folder cannot be used: {}", crate::failure::io_words(&e)))
                .hint("change to a folder that exists")
        })?;
        // The XDG base directory specification: a relative path is to be ignored.
        let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        Ok(Self {
            cwd,
            home: env::home_dir().filter(|h| h.is_absolute()),
            state_home: folder("XDG_STATE_HOME"),
            config_home: folder("XDG_CONFIG_HOME"),
        })
    }

    /// Where the guardians are that a command may mean, the nearest first.
    ///
    /// # Errors
    /// When what was asked for cannot be.
    pub(crate) fn places(&self, target: &Target) -> Result<Vec<Place>> {
        let chosen = |scope, state: PathBuf| vec![Place { scope, ..Place::named(state.join(SOCKET)) }];
        if let Some(socket) = &target.socket {
            return Ok(vec![Place::named(self.cwd.join(socket))]);
        }
        if let Some(state) = &target.state {
            return Ok(chosen(None, self.cwd.join(state)));
        }
        if let Some(file) = &target.file {
            return Ok(chosen(Some(Scope::Project), project_state(&self.config_path(file))));
        }
        if target.project {
            let config = self.nearest_config().ok_or_else(|| self.no_config())?;
            return Ok(chosen(Some(Scope::Project), project_state(&config)));
        }
        if target.user {
            return Ok(chosen(Some(Scope::User), self.user_state()?));
        }
        if target.system {
            return Ok(chosen(Some(Scope::System), system_state()));
        }
        let project = self.nearest_config().map(|c| (Scope::Project, project_state(&c)));
        let user = self.user_state().ok().map(|s| (Scope::User, s));
        let all = [project, user, Some((Scope::System, system_state()))];
        let place = |(scope, state): (Scope, PathBuf)| Place {
            scope: Some(scope),
            chosen: false,
            ..Place::named(state.join(SOCKET))
        };
        Ok(all.into_iter().flatten().map(place).collect())
    }

    /// The configuration whose guardian is meant: the one that was named, or the nearest. Nothing when another guardian was
    /// chosen.
    pub(crate) fn meant_config(&self, target: &Target) -> Option<PathBuf> {
        match &target.file {
            Some(file) => Some(self.config_path(file)),
            None if target.project || target.is_open() => self.nearest_config(),
            None => None,
        }
    }

    /// Which configuration `up` runs, and where its state goes.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn home(&self, target: &Target) -> Result<Home> {
        if target.socket.is_some() {
            return Err(Failure::usage("`--socket` chooses a guardian that runs; `up` starts one")
                .hint("name its state folder with --state DIR"));
        }
        if target.user {
            let config = self.user_config()?;
            return existing(Home { scope: Scope::User, config, state: self.user_state()? });
        }
        if target.system {
            let config = keepwell_os::files::system_config().join(CONFIG);
            return existing(Home { scope: Scope::System, config, state: system_state() });
        }
        let config = match &target.file {
            Some(file) => self.config_path(file),
            None => self.nearest_config().ok_or_else(|| self.no_config())?,
        };
        let state = target.state.as_ref().map_or_else(|| project_state(&config), |s| self.cwd.join(s));
        existing(Home { scope: Scope::Project, config, state })
    }

    /// The nearest `keepwell.toml`, here or in a folder above.
    pub(crate) fn nearest_config(&self) -> Option<PathBuf> {
        self.cwd.ancestors().map(|folder| folder.join(CONFIG)).find(|file| file.is_file())
    }

    /// A named configuration, absolute. A folder means the file in it.
    pub(crate) fn config_path(&self, file: &Path) -> PathBuf {
        let path = self.cwd.join(file);
        let path = if path.is_dir() { path.join(CONFIG) } else { path };
        // Symbolic links stay as they are: state belongs beside the name that the operator uses.
        std::path::absolute(&path).unwrap_or(path)
    }

    fn no_config(&self) -> Failure {
        Failure::usage(format!("there is no {CONFIG} in {} or in a folder above it", self.cwd.display()))
            .hint("keepwell init writes one; -f FILE names another")
    }

    /// The state folder of the user's guardian.
    ///
    /// # Errors
    /// When there is no home folder.
    pub(crate) fn user_state(&self) -> Result<PathBuf> {
        let base = self.state_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/state")));
        Ok(base.ok_or_else(no_home)?.join("keepwell"))
    }

    /// The configuration of the user's guardian.
    ///
    /// # Errors
    /// When there is no home folder.
    pub(crate) fn user_config(&self) -> Result<PathBuf> {
        let base = self.config_home.clone().or_else(|| Some(self.home.as_ref()?.join(".config")));
        Ok(base.ok_or_else(no_home)?.join("keepwell").join(CONFIG))
    }
}

fn no_home() -> Failure {
    Failure::usage("there is no home folder: HOME is not set").hint("use --state DIR, or --system")
}

fn project_state(config: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("/")).join(".keepwell")
}

fn system_state() -> PathBuf {
    keepwell_os::files::system_state()
}

/// The state folder of what was installed under this name.
pub(crate) fn service_state(name: &str) -> PathBuf {
    system_state().join(name)
}

fn existing(home: Home) -> Result<Home> {
    match std::fs::metadata(&home.config) {
        Ok(found) if found.is_file() => Ok(home),
        Ok(_) => Err(Failure::usage(format!("{} is not a file", home.config.display()))),
        Err(e) => {
            let why = crate::failure::io_words(&e);
            Err(Failure::usage(format!("{} cannot be read: {why}", home.config.display()))
                .hint("keepwell init writes a commented one"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(cwd: &Path) -> Surroundings {
        Surroundings { cwd: cwd.into(), home: Some("/home/anna".into()), state_home: None, config_home: None }
    }

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        std::fs::write(dir.path().join(CONFIG), "").unwrap();
        dir
    }

    fn sockets(places: &[Place]) -> Vec<PathBuf> {
        places.iter().map(|p| p.socket.clone()).collect()
    }

    fn socket_of(state: impl AsRef<Path>) -> PathBuf {
        state.as_ref().join("keepwell.sock")
    }

    #[test]
    fn the_nearest_project_comes_first() {
        let dir = project();
        let places = at(&dir.path().join("src/deep")).places(&Target::default()).unwrap();
        assert_eq!(
            sockets(&places),
            [
                socket_of(dir.path().join(".keepwell")),
                socket_of("/home/anna/.local/state/keepwell"),
                socket_of(system_state()),
            ]
        );
        assert!(places.iter().all(|p| !p.chosen));
    }

    #[test]
    fn a_named_one_is_the_only_one() {
        let dir = project();
        let here = at(dir.path());
        let one = |target: Target| sockets(&here.places(&target).unwrap());
        let other = tempfile::tempdir().unwrap();
        let (elsewhere, socket) = (other.path().to_owned(), other.path().join("x"));
        let own = socket_of(dir.path().join(".keepwell"));
        assert_eq!(one(Target { project: true, ..Target::default() }), std::slice::from_ref(&own));
        assert_eq!(one(Target { file: Some(".".into()), ..Target::default() }), [own]);
        assert_eq!(
            one(Target { state: Some(elsewhere.clone()), ..Target::default() }),
            [socket_of(elsewhere)]
        );
        assert_eq!(one(Target { socket: Some(socket.clone()), ..Target::default() }), [socket]);
        assert_eq!(one(Target { system: true, ..Target::default() }), [socket_of(system_state())]);
    }

    #[test]
    fn xdg_folders_are_heeded() {
        let dir = tempfile::tempdir().unwrap();
        let here = Surroundings { state_home: Some("/xdg".into()), ..at(dir.path()) };
        let user = Target { user: true, ..Target::default() };
        assert_eq!(sockets(&here.places(&user).unwrap()), [socket_of("/xdg/keepwell")]);
        let homeless = Surroundings { home: None, ..at(dir.path()) };
        assert!(homeless.places(&user).unwrap_err().text.contains("HOME"));
        let all = homeless.places(&Target::default()).unwrap();
        assert_eq!(all.last().unwrap().scope, Some(Scope::System));
    }

    #[test]
    fn up_takes_a_file_a_folder_or_what_is_near() {
        let dir = project();
        let home = at(&dir.path().join("src")).home(&Target::default()).unwrap();
        assert_eq!((home.config, home.state), (dir.path().join(CONFIG), dir.path().join(".keepwell")));
        let target = Target { file: Some(dir.path().into()), state: Some("s".into()), ..Target::default() };
        let home = at(Path::new("/tmp")).home(&target).unwrap();
        assert_eq!((home.config, home.state), (dir.path().join(CONFIG), PathBuf::from("/tmp/s")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let failure =
            at(empty.path()).home(&Target { file: Some("x.toml".into()), ..Target::default() }).unwrap_err();
        let why = crate::failure::io_words(&std::fs::metadata(empty.path().join("x.toml")).unwrap_err());
        assert!(failure.text.ends_with(&format!("x.toml cannot be read: {why}")), "{failure}");
        assert_eq!(failure.code, 2);
        let failure = at(empty.path()).home(&Target { project: true, ..Target::default() }).unwrap_err();
        assert!(failure.text.starts_with("there is no keepwell.toml in "), "{failure}");
    }
}
