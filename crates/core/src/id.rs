//! Names of services, runs and probes.

use alloc::sync::Arc;
use core::fmt;

use serde::{Deserialize, Serialize};

/// One instance of a service. Instances count from 1; a service without `instances` is its own instance 1.
/// Shown as `web`, or `web@2` for the second instance and on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ServiceId {
    /// The service's name in the configuration.
    pub name: Arc<str>,
    /// From 1.
    pub instance: u16,
}

impl ServiceId {
    /// Instance `instance` of `name`.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, instance: u16) -> Self {
        Self { name: name.into(), instance }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instance {
            1 => f.write_str(&self.name),
            n => write!(f, "{}@{n}", self.name),
        }
    }
}

/// One process that keepwell started, or tried to start: a service's main process or one of its hooks. Never used
/// twice in the life of an anchor, so a late completion is known by it and dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// One attempt of one probe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct ProbeId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}", self.0)
    }
}
