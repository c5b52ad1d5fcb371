//! Ending what lives because something says that it does not work: only as far as the budgets allow.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::event::EventKind;
use crate::service::{Cause, Phase};
use crate::spec::Limit;
use crate::supervisor::Supervisor;
use crate::time::{Human, Mono, Now};

impl Supervisor {
    /// Ends a living run for this reason, or leaves it as it is when a budget is spent; that is told when it is `new`.
    /// Whoever asks asks again as long as the reason stands.
    pub(crate) fn heal(&mut self, i: usize, words: String, new: bool, now: Now) {
        let Phase::Alive(a) = &self.services[i].s.phase else { return };
        let run = a.run;
        match self.spent_budget(i, now) {
            Some(budget) => {
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
        let spec = self.spec(i);
        let own = spec
            .restart
            .limit
            .filter(|l| self.services[i].s.tracker.recent(&spec.restart, now.mono) >= l.max as usize);
        if let Some(limit) = own {
            return Some(in_words("its own limit", limit));
        }
        let spent = |(name, limit): &(Arc<str>, Limit)| {
            let made = self.guardian.healed.get(name).map_or(0, |made| recent(made, *limit, now.mono));
            made >= limit.max as usize
        };
        self.budgets(i).into_iter().find(spent).map(|(name, limit)| match &*name {
            "" => in_words("the budget of this host", limit),
            group => in_words(&format!("the budget of the group {group}"), limit),
        })
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
