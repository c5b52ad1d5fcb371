//! What the account of a service has to be able to do before it can run, and who sees to it that it can.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::definition::{Secret, ServiceDefinition};
use super::host::Host;
use crate::error::Error;

/// What a service uses.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// Programs that it starts.
    pub run: Vec<PathBuf>,
    /// Files that it reads, and folders that it works in.
    pub read: Vec<PathBuf>,
    /// Folders that it writes to.
    pub write: Vec<PathBuf>,
}

/// Something that an account may not do and has to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Nobody of this name is there.
    Account(String),
    /// It has not the right to log on as a service, which Windows asks for.
    LogOn,
    /// It may not start this program.
    Run(PathBuf),
    /// It may not read this file, or work in this folder.
    Read(PathBuf),
    /// It may not write to this folder.
    Write(PathBuf),
}

/// Asks the person at the terminal for something that is not to be seen there.
///
/// # Errors
/// When there is no terminal, or this system has no such way to ask: none of its service managers wants a password.
pub fn ask_secret(question: &str) -> io::Result<Secret> {
    ask(question)
}

#[cfg(unix)]
fn ask(_: &str) -> io::Result<Secret> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(windows)]
use super::scm::ask;

impl fmt::Display for Lack {
    /// As it follows an account's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Account(why) => write!(f, "is not known to this host: {why}"),
            Lack::LogOn => f.write_str("may not log on as a service"),
            Lack::Run(path) => write!(f, "may not run {}", path.display()),
            Lack::Read(path) => write!(f, "may not use {}", path.display()),
            Lack::Write(path) => write!(f, "may not write to {}", path.display()),
        }
    }
}

impl Host {
    /// Whether this host wants a password for the service's account, and the definition has none.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub fn wants_password(&self, definition: &ServiceDefinition) -> Result<bool, Error> {
        self.system().wants_password(definition)
    }

    /// What the service's account may not do of all that it needs. What is not there yet, and what the host does not say, is
    /// not held against it.
    ///
    /// # Errors
    /// When the host cannot be asked.
    pub fn lacks(&self, definition: &ServiceDefinition, needs: &Needs) -> Result<Vec<Lack>, Error> {
        self.system().lacks(definition, needs)
    }

    /// Gives it to the account.
    ///
    /// # Errors
    /// When the caller may not, and, as [`Error::Refused`] with what to do instead, when it is nothing to give on this host.
    pub fn grant(&self, definition: &ServiceDefinition, lack: &Lack) -> Result<(), Error> {
        self.system().grant(definition, lack)
    }

    /// Whether nobody but administrators, the caller and the service's account could put something else in the place of what is
    /// in this folder.
    ///
    /// # Errors
    /// When the host does not say whose it is.
    pub fn is_trusted(&self, definition: &ServiceDefinition, folder: &Path) -> Result<bool, Error> {
        self.system().is_trusted(definition, folder)
    }

    /// Makes a folder that is the service's own, or makes one that is there so: administrators and its account may use it, and
    /// nobody else.
    ///
    /// # Errors
    /// When it cannot be made, or somebody else owns the one above it.
    pub fn own_folder(&self, definition: &ServiceDefinition, folder: &Path) -> Result<(), Error> {
        self.system().own_folder(definition, folder)
    }
}
