//! The checks of what runs, understood once and kept: an attempt must not read files of settings, nor of certificates.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepwell_core::ServiceId;

use super::spawn::ReadyCheck;
use crate::probe::{Check, Outside};

/// A check by network or file, or by a program.
#[derive(Clone)]
enum Kept {
    Network(Arc<Check>),
    Exec,
}

/// By instance, and which of its checks; `None`: the one that makes it ready.
#[derive(Default)]
pub(super) struct Checks {
    tried: BTreeMap<ServiceId, BTreeMap<Option<usize>, Kept>>,
    /// What is waited for before a start.
    outside: BTreeMap<ServiceId, Arc<Outside>>,
}

impl Checks {
    pub(super) fn get(&self, id: &ServiceId, listed: Option<usize>) -> Option<ReadyCheck> {
        self.tried.get(id)?.get(&listed).map(|kept| match kept {
            Kept::Network(check) => ReadyCheck::Network(Arc::clone(check)),
            Kept::Exec => ReadyCheck::Exec,
        })
    }

    /// What depends on the moment it is asked is not kept.
    pub(super) fn keep(&mut self, id: &ServiceId, listed: Option<usize>, check: &ReadyCheck) {
        let kept = match check {
            ReadyCheck::Network(check) if check.dates_from_the_start() => return,
            ReadyCheck::Network(check) => Kept::Network(Arc::clone(check)),
            ReadyCheck::Exec => Kept::Exec,
            ReadyCheck::None(_) => return,
        };
        self.tried.entry(id.clone()).or_default().insert(listed, kept);
    }

    pub(super) fn outside(&self, id: &ServiceId) -> Option<Arc<Outside>> {
        self.outside.get(id).cloned()
    }

    pub(super) fn keep_outside(&mut self, id: &ServiceId, outside: &Arc<Outside>) {
        self.outside.insert(id.clone(), Arc::clone(outside));
    }

    /// A new run of it may have other settings.
    pub(super) fn forget(&mut self, id: &ServiceId) {
        self.tried.remove(id);
        self.outside.remove(id);
    }

    /// There is a new configuration.
    pub(super) fn clear(&mut self) {
        self.tried.clear();
        self.outside.clear();
    }
}
