//! What load balancers and monitoring ask: whether a service can be used, and how much of each budget is left.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::command::CommandError;
use crate::guard::{Ceiling, Watch};
use crate::id::ServiceId;
use crate::service::heal::recent;
use crate::spec::Limit;
use crate::supervisor::Supervisor;
use crate::time::{Mono, Now};

/// Whether an instance can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which.
    pub id: ServiceId,
    /// It is up, and no check has taken its readiness away; or it is a oneshot that ended well. That something it depends on
    /// is gone does not count: its own checks know better.
    pub usable: bool,
    /// In plain words: `db is backing off`.
    pub words: String,
}

/// A budget of restarts of what lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Budget {
    /// The group; `None`: the host's.
    pub group: Option<Arc<str>>,
    /// What it allows.
    pub limit: Limit,
    /// Restarts within its window.
    pub used: usize,
}

/// What a guard of an instance sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuardStanding {
    /// The rule: `memory > 800 MB for 2 min`; or a limit that is watched: `memory limit 1.0 GB`.
    pub rule: String,
    /// It has tripped.
    pub tripped: bool,
    /// A leak is foreseen: when its bound is reached.
    pub reached: Option<Mono>,
}

impl Supervisor {
    /// Of each guard and each limit of the run that lives.
    #[must_use]
    pub fn guard_standings(&self, id: &ServiceId) -> Vec<GuardStanding> {
        let Some(i) = self.index.get(id) else { return Vec::new() };
        let standing = |watch: &Watch| GuardStanding {
            rule: format!("{}", watch.guard),
            tripped: watch.tripped,
            reached: watch.forecast().map(|f| f.at),
        };
        let limit = |ceiling: &Ceiling| GuardStanding {
            rule: format!("{} limit {}", ceiling.figure.name(), ceiling.figure.amount(ceiling.at)),
            tripped: false,
            reached: ceiling.forecast().map(|f| f.at),
        };
        let Some(watches) = self.watches(*i) else { return Vec::new() };
        watches.rules.iter().map(standing).chain(watches.ceilings.iter().map(limit)).collect()
    }

    /// Of each instance that `name` (`web` or `web@2`) means.
    ///
    /// # Errors
    /// When there is none.
    pub fn standing(&self, name: &str) -> Result<Vec<Standing>, CommandError> {
        let of = |i: usize| {
            let id = self.services[i].id.clone();
            Standing { id, usable: self.usable_at(i), words: self.in_words(i) }
        };
        Ok(self.find(name)?.into_iter().map(of).collect())
    }

    /// See [`Standing::usable`].
    #[must_use]
    pub fn is_usable(&self, id: &ServiceId) -> bool {
        self.index.get(id).is_some_and(|i| self.usable_at(*i))
    }

    fn usable_at(&self, i: usize) -> bool {
        self.services[i].facet.well
    }

    /// Whether an incident of it is open.
    #[must_use]
    pub fn has_incident(&self, id: &ServiceId) -> bool {
        self.index.get(id).is_some_and(|i| self.services[*i].s.incident.is_some())
    }

    /// Every instance.
    #[must_use]
    pub fn ids(&self) -> Vec<&ServiceId> {
        self.index.keys().collect()
    }

    /// Whether keepwell goes down.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.guardian.shutting_down
    }

    /// The budgets that the configuration sets, the host's first.
    #[must_use]
    pub fn healing_budgets(&self, now: Now) -> Vec<Budget> {
        let healing = &self.specs.healing;
        let host = healing.limit.map(|limit| (None, limit));
        let groups = healing.groups.iter().map(|(name, limit)| (Some(Arc::clone(name)), *limit));
        let budget = |(group, limit): (Option<Arc<str>>, Limit)| {
            let made = self.guardian.healed.get(group.as_deref().unwrap_or(""));
            let used = made.map_or(0, |made| recent(made, limit, now.mono));
            Budget { group, limit, used }
        };
        host.into_iter().chain(groups).map(budget).collect()
    }
}
