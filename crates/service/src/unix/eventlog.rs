//! There is no event log here.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::eventlog::Record;

/// Never made.
#[derive(Debug)]
pub(crate) enum Open {}

impl Open {
    pub(crate) fn new(_: &str) -> Result<Open, Error> {
        Err(Error::NoEventLog)
    }

    pub(crate) fn report(&self, _: &Record) -> Result<(), Error> {
        match *self {}
    }
}

pub(crate) fn install(_: &str, _: &Path) -> Result<(), Error> {
    Err(Error::NoEventLog)
}

pub(crate) fn remove(_: &str) -> Result<bool, Error> {
    Err(Error::NoEventLog)
}

pub(crate) fn read(_: &str) -> Result<Option<PathBuf>, Error> {
    Err(Error::NoEventLog)
}
