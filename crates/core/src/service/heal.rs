//! Ending what lives because something says that it does not work: only as far as the budgets allow.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::event::EventKind;
use crate::id::ServiceId;
use crate::service::{Cause, Phase};
use crate::spec::Limit;
use crate::supervisor::Supervisor;
use crate::time::{Human, Mono, Now};

/// A budget that was spent is half open: when there is room again, one restart is tried, and only when that helped may others
/// follow. Where it did not, the next one has to wait for a whole window.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// None before.
    from: Mono,
    /// Who was restarted, and when. One that says nothing for a window is no trial any more.
    under: Option<(ServiceId, Mono)>,
}

impl Supervisor {
    /// Ends a living run for this reason, or leaves it as it is when a budget is spent; that is told when it is `new`.
    /// Whoever asks asks again as long as the reason stands.
    pub(crate) fn heal(&mut self, i: usize, words: String, new: bool, now: Now) {
        let Phase::Alive(a) = &self.services[i].s.phase else { return };
        let run = a.run;
        self.trial_failed(i, now);
        match self.refused(i, now) {
            Some((name, budget)) => {
                // From now on what fails there may fail by one cause.
                if let Some(name) = name.filter(|name| !self.guardian.trials.contains_key(name)) {
                    self.guardian.trials.insert(name, Trial { from: now.mono, under: None });
                    self.guardian_dirty = true;
                }
                if new {
                    self.tell(now, Some(i), Some(run), EventKind::HealingHeld { budget });
                }
            }
            None => {
                self.spend(i, now);
                self.begin_stop(i, Cause::Failed(words), now);
                if let Some(incident) = &mut self.services[i].s.incident {
                    incident.healed = incident.healed.saturating_add(1);
                }
            }
        }
    }

    /// The first budget that allows no further restart, in words.
    pub(crate) fn spent_budget(&self, i: usize, now: Now) -> Option<String> {
        self.refused(i, now).map(|(_, words)| words)
    }

    /// The same with its name; a service's own limit has none.
    fn refused(&self, i: usize, now: Now) -> Option<(Option<Arc<str>>, String)> {
        let spec = self.spec(i);
        let own = spec
            .restart
            .limit
            .filter(|l| self.services[i].s.tracker.recent(&spec.restart, now.mono) >= l.max as usize);
        if let Some(limit) = own {
            return Some((None, in_words("its own limit", limit)));
        }
        let id = &self.services[i].id;
        let spent = |(name, limit): &(Arc<str>, Limit)| {
            let made = self.guardian.healed.get(name).map_or(0, |made| recent(made, *limit, now.mono));
            let waits = |t: &Trial| {
                let others = |(on, at): &(ServiceId, Mono)| on != id && now.mono.since(*at) < limit.window;
                now.mono < t.from || t.under.as_ref().is_some_and(others)
            };
            made >= limit.max as usize || self.guardian.trials.get(name).is_some_and(waits)
        };
        let (name, limit) = self.budgets(i).into_iter().find(spent)?;
        let words = match &*name {
            "" => in_words("the budget of this host", limit),
            group => in_words(&format!("the budget of the group {group}"), limit),
        };
        Some((Some(name), words))
    }

    /// One that was restarted for trial fails again: the next trial has to wait.
    fn trial_failed(&mut self, i: usize, now: Now) {
        for (name, limit) in self.budgets(i) {
            let id = &self.services[i].id;
            if let Some(trial) = self.guardian.trials.get_mut(&name)
                && trial.under.as_ref().is_some_and(|(on, _)| on == id)
            {
                *trial = Trial { from: now.mono + limit.window, under: None };
                self.guardian_dirty = true;
            }
        }
    }

    /// It works. Where it was restarted for trial, a restart helps: the budget is open again.
    pub(crate) fn trial_passed(&mut self, i: usize) {
        if self.guardian.trials.is_empty() {
            return;
        }
        let (id, before) = (&self.services[i].id, self.guardian.trials.len());
        self.guardian.trials.retain(|_, trial| trial.under.as_ref().is_none_or(|(on, _)| on != id));
        self.guardian_dirty |= self.guardian.trials.len() != before;
    }

    /// The budgets that a restart of this instance draws on, besides its own.
    fn budgets(&self, i: usize) -> Vec<(Arc<str>, Limit)> {
        let healing = &self.specs.healing;
        let group = |name: &Arc<str>| healing.groups.get(name).map(|limit| (Arc::clone(name), *limit));
        let host = healing.limit.map(|limit| (Arc::from(""), limit));
        self.spec(i).healing.iter().filter_map(group).chain(host).collect()
    }

    fn spend(&mut self, i: usize, now: Now) {
        for (name, limit) in self.budgets(i) {
            if let Some(trial) = self.guardian.trials.get_mut(&name) {
                trial.under = Some((self.services[i].id.clone(), now.mono));
            }
            let made = self.guardian.healed.entry(name).or_default();
            made.push_back(now.mono);
            while made.len() > limit.max as usize {
                made.pop_front();
            }
        }
        self.guardian_dirty = true;
    }
}

pub(crate) fn recent(made: &VecDeque<Mono>, limit: Limit, now: Mono) -> usize {
    made.iter().filter(|at| now.since(**at) < limit.window).count()
}

fn in_words(whose: &str, limit: Limit) -> String {
    let window = Human(limit.window).to_string();
    format!("{whose} ({} in {window})", limit.max)
}
