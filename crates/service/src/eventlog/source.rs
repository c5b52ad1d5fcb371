//! The registration of a source: which file has its messages.

use std::path::PathBuf;

use crate::error::Error;
use crate::system::eventlog as system;

/// A source of events in the log "Application". To register it takes administrator rights; to write by it takes none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// What a viewer calls it: the "provider".
    pub name: String,
    /// The file with its messages; absolute. Variables (`%SystemRoot%`) are filled in by the viewer.
    pub messages: PathBuf,
}

impl Source {
    /// A source with a file of messages of its own.
    pub fn new(name: impl Into<String>, messages: impl Into<PathBuf>) -> Source {
        Source { name: name.into(), messages: messages.into() }
    }

    /// A source without a file of its own: EventCreate.exe, which every Windows has, knows the ids 1 to 1000, each with the message
    /// `%1`.
    pub fn plain(name: impl Into<String>) -> Source {
        Source::new(name, r"%SystemRoot%\System32\EventCreate.exe")
    }

    /// Registers it, or changes the registration of that name.
    ///
    /// # Errors
    /// [`Error::NoEventLog`] where there is none; a name that cannot be one; the system's refusal.
    pub fn install(&self) -> Result<(), Error> {
        named(&self.name)?;
        system::install(&self.name, &self.messages)
    }

    /// Takes a registration away; events that are in the log stay, without their messages. False: there was none.
    ///
    /// # Errors
    /// As [`Source::install`].
    pub fn remove(name: &str) -> Result<bool, Error> {
        named(name)?;
        system::remove(name)
    }

    /// What is registered under a name.
    ///
    /// # Errors
    /// As [`Source::install`].
    pub fn read(name: &str) -> Result<Option<Source>, Error> {
        named(name)?;
        Ok(system::read(name)?.map(|messages| Source { name: name.to_owned(), messages }))
    }
}

/// It becomes the name of a key of the registry: without one, a whole log would be changed.
fn named(name: &str) -> Result<(), Error> {
    const INVALID_NAME: u32 = 123;
    if name.is_empty() || name.len() > 200 || name.contains(['\\', '\0']) {
        return Err(Error::system(format!("name a source of events {name:?}"), INVALID_NAME));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_reaches_beyond_its_key() {
        for name in ["", r"..\System", "a\0", &"x".repeat(201)] {
            assert!(Source::remove(name).is_err_and(|e| e.code() == Some(123)), "{name:?}");
            assert!(Source::new(name, "x").install().is_err_and(|e| e.code() == Some(123)));
        }
    }
}
