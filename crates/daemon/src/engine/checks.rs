//! The checks of what runs, understood once and kept: an attempt must not read files of settings, nor of certificates.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepwell_core::ServiceId;

use super::spawn::ReadyCheck;
use crate::probe::Check;

/// A check by network or file, or by a program.
#[derive(Clone)]
enum Kept {
    Network(Arc<Check>),
    Exec,
}

/// By instance, and which of its checks; `None`: the one that makes it ready.
#[derive(Default)]
pub(super) struct Checks(BTreeMap<ServiceId, BTreeMap<Option<usize>, Kept>>);

impl Checks {
    pub(super) fn get(&self, id: &ServiceId, listed: Option<usize>) -> Option<ReadyCheck> {
        self.0.get(id)?.get(&listed).map(|kept| match kept {
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
        self.0.entry(id.clone()).or_default().insert(listed, kept);
    }

    /// A new run of it may have other settings.
    pub(super) fn forget(&mut self, id: &ServiceId) {
        self.0.remove(id);
    }

    /// There is a new configuration.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
