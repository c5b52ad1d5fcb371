//! The SCM behind [`crate::manager::Host`], and what starts at logon beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Access, Manager, ManagerAccess, facts, rights};
use crate::error::Error;
use crate::manager::access::{Lack, Needs};
use crate::manager::audit::Kept;
use crate::manager::definition::{Account, ServiceDefinition, StartMode};
use crate::manager::difference::start;
use crate::manager::host::{Found, Installed, Scope};
use crate::manager::logon::{EACH_USERS, Logon};
use crate::manager::status::Status;
use crate::state::State;

/// See the module.
#[derive(Debug)]
pub(crate) enum System {
    /// The SCM. Connected to at each question, since what one may do differs.
    Scm,
    /// The registry's `Run` keys.
    Logon(Logon),
}

impl System {
    pub(crate) fn new(scope: Scope) -> Result<Self, Error> {
        Ok(match scope {
            Scope::System => System::Scm,
            Scope::User => System::Logon(Logon::User),
            Scope::AllUsers => System::Logon(Logon::AllUsers),
        })
    }

    pub(crate) fn drives(&self) -> bool {
        match self {
            System::Scm => true,
            System::Logon(_) => false,
        }
    }

    pub(crate) fn supervises(&self) -> bool {
        self.drives()
    }

    pub(crate) fn install(&self, definition: &ServiceDefinition) -> Result<Installed, Error> {
        match self {
            System::Scm => Manager::connect(ManagerAccess::Change)?.install(definition),
            System::Logon(logon) => logon.install(definition),
        }
    }

    pub(crate) fn uninstall(&self, name: &str, timeout: Duration) -> Result<(), Error> {
        match self {
            System::Scm => Manager::connect(ManagerAccess::Look)?.remove(name, timeout),
            System::Logon(logon) => logon.uninstall(name),
        }
    }

    pub(crate) fn start(&self, name: &str, timeout: Duration) -> Result<Status, Error> {
        self.driven(name)?;
        Manager::connect(ManagerAccess::Look)?.open(name, Access::Drive)?.start(&[], timeout)
    }

    pub(crate) fn stop(&self, name: &str, timeout: Duration) -> Result<Status, Error> {
        self.driven(name)?;
        Manager::connect(ManagerAccess::Look)?.open(name, Access::Drive)?.stop(timeout)
    }

    pub(crate) fn status(&self, name: &str) -> Result<Status, Error> {
        self.driven(name)?;
        Manager::connect(ManagerAccess::Look)?.open(name, Access::Look)?.status()
    }

    fn driven(&self, name: &str) -> Result<(), Error> {
        match self {
            System::Scm => Ok(()),
            System::Logon(_) => Err(Error::NoManager(format!(
                "`{name}` is started at logon, and no service manager drives it"
            ))),
        }
    }

    pub(crate) fn show(&self, name: &str) -> Result<Vec<(&'static str, String)>, Error> {
        let logon = match self {
            System::Scm => return show_service(name),
            System::Logon(logon) => logon,
        };
        Ok(vec![("key", logon.key().to_owned()), ("command", logon.line(name)?)])
    }

    pub(crate) fn command(&self, name: &str) -> Result<Vec<String>, Error> {
        match self {
            System::Scm => {
                let manager = Manager::connect(ManagerAccess::Look)?;
                Ok(words(&manager.open(name, Access::Look)?.read_basic()?))
            }
            System::Logon(logon) => Ok(logon.command(&logon.line(name)?)),
        }
    }

    /// Of a user's account, unless it is managed or was given before.
    pub(crate) fn wants_password(&self, definition: &ServiceDefinition) -> Result<bool, Error> {
        match (self, &definition.account) {
            (System::Scm, Account::User { name, password: None }) if !name.ends_with('$') => {}
            _ => return Ok(false),
        }
        match Manager::connect(ManagerAccess::Look)?.open(&definition.name, Access::Look) {
            Ok(service) => {
                let now = service.read_basic()?.account_name();
                Ok(!now.eq_ignore_ascii_case(&definition.account_name()))
            }
            Err(Error::NoSuchService(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// What starts at logon runs as whoever logs on.
    pub(crate) fn lacks(&self, definition: &ServiceDefinition, needs: &Needs) -> Result<Vec<Lack>, Error> {
        match self {
            System::Scm => rights::lacks(definition, needs),
            System::Logon(_) => Ok(Vec::new()),
        }
    }

    #[expect(clippy::unused_self, reason = "other systems have other answers")]
    pub(crate) fn grant(&self, definition: &ServiceDefinition, lack: &Lack) -> Result<(), Error> {
        rights::grant(definition, lack)
    }

    /// What starts at logon keeps its state in the user's own folders.
    pub(crate) fn is_trusted(&self, definition: &ServiceDefinition, path: &Path) -> Result<bool, Error> {
        match self {
            System::Scm => rights::is_trusted(definition, path),
            System::Logon(_) => Ok(true),
        }
    }

    pub(crate) fn own_folder(&self, definition: &ServiceDefinition, folder: &Path) -> Result<(), Error> {
        match self {
            System::Scm => rights::own_folder(definition, folder),
            System::Logon(_) => Ok(()),
        }
    }

    pub(crate) fn registered(
        &self,
        wanted: &dyn Fn(&[String]) -> bool,
    ) -> Result<Vec<(String, Vec<String>)>, Error> {
        // The manager is asked for the command lines; how the services are comes with their names.
        Ok(self.list(wanted)?.into_iter().map(|f| (f.name, f.command)).collect())
    }

    pub(crate) fn kept(&self, name: &str) -> Result<Kept, Error> {
        self.driven(name)?;
        facts::kept(name)
    }

    pub(crate) fn added(&self) -> Result<Vec<String>, Error> {
        match self {
            System::Scm => facts::added(),
            System::Logon(logon) => Ok(logon.all()?.into_iter().map(|(name, _)| name).collect()),
        }
    }

    pub(crate) fn outsiders(&self, path: &Path) -> Vec<String> {
        facts::outsiders(path)
    }

    pub(crate) fn start_of(&self, service: &str) -> Option<StartMode> {
        facts::start_of(service)
    }

    pub(crate) fn list(&self, wanted: &dyn Fn(&[String]) -> bool) -> Result<Vec<Found>, Error> {
        let logon = match self {
            System::Scm => return list_services(wanted),
            System::Logon(logon) => logon,
        };
        let found = |(name, line): (String, String)| {
            let command = logon.command(&line);
            let status = Status::of(State::Stopped);
            wanted(&command).then(|| Found { display_name: name.clone(), name, status, command })
        };
        Ok(logon.all()?.into_iter().filter_map(found).collect())
    }
}

pub(crate) fn each_users_folder(name: &str) -> PathBuf {
    PathBuf::from(format!(r"{EACH_USERS}\keepwell\{name}"))
}

fn words(definition: &ServiceDefinition) -> Vec<String> {
    let program = definition.program.display().to_string();
    std::iter::once(program).chain(definition.arguments.iter().cloned()).collect()
}

fn list_services(wanted: &dyn Fn(&[String]) -> bool) -> Result<Vec<Found>, Error> {
    let manager = Manager::connect(ManagerAccess::Look)?;
    let mut all = Vec::new();
    for entry in manager.list()? {
        // One that is being deleted, or that may not be looked at, is not ours to list.
        let Ok(service) = manager.open(&entry.name, Access::Look) else { continue };
        let Ok(definition) = service.read_basic() else { continue };
        let command = words(&definition);
        if wanted(&command) {
            let (name, display_name, status) = (entry.name, entry.display_name, entry.status);
            all.push(Found { name, display_name, status, command });
        }
    }
    Ok(all)
}

fn show_service(name: &str) -> Result<Vec<(&'static str, String)>, Error> {
    let manager = Manager::connect(ManagerAccess::Look)?;
    let service = manager.open(name, Access::Look)?;
    let (definition, unknown) = service.read()?;
    let dependents = service.dependents(false).unwrap_or_default();
    let nothing = ServiceDefinition::new(name, "");
    let list = |list: &[String]| list.join(", ");
    let mut all = vec![
        ("display name", definition.display_name.clone()),
        ("description", definition.description.clone()),
        ("command", definition.image()),
        ("account", definition.account_name()),
        ("start", start(definition.start).to_owned()),
        ("depends on", list(&definition.depends_on)),
        ("needed by", list(&dependents)),
        ("stop timeout", format!("{} s", definition.stop_timeout.as_secs_f64())),
    ];
    // The rest in the words that a change is told in.
    let rest = [
        "recovery",
        "recovery on errors",
        "service SID",
        "privileges",
        "triggers",
        "security",
        "error control",
    ];
    for change in crate::manager::differences(&nothing, &definition) {
        if let Some(what) = rest.into_iter().find(|what| *what == change.what) {
            all.push((what, change.to));
        }
    }
    all.retain(|(what, value)| !value.is_empty() && !unknown.contains(what));
    Ok(all)
}
