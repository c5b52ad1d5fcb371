//! The host's service manager, the same on every system.

use std::path::PathBuf;
use std::time::Duration;

use super::definition::ServiceDefinition;
use super::difference::Change;
use super::status::Status;
use crate::error::Error;

#[cfg(windows)]
use super::scm::host as system;
#[cfg(unix)]
use super::systemd as system;

/// Whose service manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The host's: services start at boot. Needs the rights of an administrator to change anything.
    System,
    /// The user's: they start when the user logs on.
    User,
    /// Each user's: they start for whoever logs on. Needs the rights of an administrator to change anything.
    AllUsers,
}

/// What [`Host::install`] did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Installed {
    /// It was not there before.
    pub created: bool,
    /// What is otherwise than before; empty when it was made, or was so already.
    pub changes: Vec<Change>,
    /// What this system does not know, and goes without.
    pub unsupported: Vec<&'static str>,
}

/// A service of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What people see.
    pub display_name: String,
    /// How it is.
    pub status: Status,
    /// Its command line, program first.
    pub command: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Host(system::System);

impl Host {
    /// The service manager of this scope.
    ///
    /// # Errors
    /// When the host has none.
    pub fn new(scope: Scope) -> Result<Self, Error> {
        Ok(Self(system::System::new(scope)?))
    }

    pub(super) fn system(&self) -> &system::System {
        &self.0
    }

    /// Whether it starts and stops services and knows how they are. On Windows, what starts at logon it only starts.
    #[must_use]
    pub fn drives(&self) -> bool {
        self.0.drives()
    }

    /// Whether a service manager starts the process and keeps it, rather than a logon that starts it and forgets.
    #[must_use]
    pub fn supervises(&self) -> bool {
        self.0.supervises()
    }

    /// A folder of each user's own for a service of this name, in the form that [`Scope::AllUsers`] takes among a definition's
    /// arguments. In command lines that are read back it is the one of this user.
    #[must_use]
    pub fn each_users_folder(name: &str) -> PathBuf {
        system::each_users_folder(name)
    }

    /// Makes the service, or what is there to be so. Does not start it, and does not restart it.
    ///
    /// # Errors
    /// Nothing is left of a service that could not be made whole.
    pub fn install(&self, definition: &ServiceDefinition) -> Result<Installed, Error> {
        definition.check()?;
        self.0.install(definition)
    }

    /// Stops it, deletes it, and waits until it is really gone.
    ///
    /// # Errors
    /// Also when it is still there after `timeout`.
    pub fn uninstall(&self, name: &str, timeout: Duration) -> Result<(), Error> {
        self.0.uninstall(name, timeout)
    }

    /// Starts it and waits until it runs.
    ///
    /// # Errors
    /// Also when it is not up after `timeout`.
    pub fn start(&self, name: &str, timeout: Duration) -> Result<Status, Error> {
        self.0.start(name, timeout)
    }

    /// Stops it and waits until it has. One that does not run is no error.
    ///
    /// # Errors
    /// Also when it still runs after `timeout`.
    pub fn stop(&self, name: &str, timeout: Duration) -> Result<Status, Error> {
        self.0.stop(name, timeout)
    }

    /// How it is.
    ///
    /// # Errors
    /// When there is none, or it may not be asked.
    pub fn status(&self, name: &str) -> Result<Status, Error> {
        self.0.status(name)
    }

    /// What the service manager was told, in words: a name and a value each.
    ///
    /// # Errors
    /// When there is none, or it may not be asked.
    pub fn show(&self, name: &str) -> Result<Vec<(&'static str, String)>, Error> {
        self.0.show(name)
    }

    /// The command line of the service, program first.
    ///
    /// # Errors
    /// When there is none, or it may not be asked.
    pub fn command(&self, name: &str) -> Result<Vec<String>, Error> {
        self.0.command(name)
    }

    /// The names and command lines of the services whose command line is wanted. Asks for nothing else, and needs no service
    /// manager that runs.
    ///
    /// # Errors
    /// When what is registered cannot be read.
    pub fn registered(
        &self,
        wanted: &dyn Fn(&[String]) -> bool,
    ) -> Result<Vec<(String, Vec<String>)>, Error> {
        self.0.registered(wanted)
    }

    /// All services whose command line is wanted.
    ///
    /// # Errors
    /// When the service manager does not say.
    pub fn list(&self, wanted: &dyn Fn(&[String]) -> bool) -> Result<Vec<Found>, Error> {
        self.0.list(wanted)
    }
}
