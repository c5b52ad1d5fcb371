//! The second book of the host's budget: where it was spent, one restart at a time is tried, and others follow only once that
//! helped.

use std::collections::BTreeMap;

use keepwell_core::event::EventKind;
use keepwell_core::spec::Limit;
use keepwell_core::supervisor::Outcome;
use keepwell_core::{Effect, Event, Input, Mono, ProbeId, ServiceId, Specs};

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Trials {
    /// The budget was spent, and no trial has helped since.
    half_open: bool,
    /// Who was ended last since then.
    under: Option<(ServiceId, Mono)>,
    asked: BTreeMap<ProbeId, ServiceId>,
    /// A daemon died in a turn that was about this, so nobody knows how much of it was left.
    lost: bool,
}

impl Trials {
    /// Remembers whose checks are tried.
    pub fn note(&mut self, effect: &Effect) {
        if let Effect::Probe { probe, listed: Some(_), service, .. } = effect {
            self.asked.insert(*probe, service.clone());
        }
    }

    /// A check that passes may open the budget again.
    pub fn tell(&mut self, input: &Input) {
        let Input::Probe { probe, outcome } = input else { return };
        let service = self.asked.remove(probe);
        if *outcome == Outcome::Pass && self.under.as_ref().map(|(id, _)| id) == service.as_ref() {
            self.open();
        }
    }

    /// The budget was found spent.
    pub fn held(&mut self, event: &Event) {
        if let EventKind::HealingHeld { budget } = &event.kind {
            self.half_open |= budget.contains("this host");
        }
    }

    /// One more is ended for its health.
    ///
    /// # Errors
    /// It is too soon.
    pub fn ended(&mut self, id: &ServiceId, now: Mono, specs: &Specs) -> Result<(), String> {
        let Some(Limit { window, .. }) = specs.healing.limit else { return Ok(()) };
        if let Some((before, at)) = &self.under {
            // Health that lasts is as good as a check that passes.
            let rested = specs.services.get(&before.name).map(|spec| spec.restart.reset_after);
            let since = now.since(*at);
            if rested.is_none_or(|rested| since >= rested) {
                self.open();
            } else if since < window {
                return Err(format!("{id} was ended {since:?} after {before}, which was ended for trial"));
            }
        }
        if self.half_open && !self.lost {
            self.under = Some((id.clone(), now));
        }
        Ok(())
    }

    /// A trial has helped.
    fn open(&mut self) {
        (self.half_open, self.under) = (false, None);
    }

    /// The daemon died in the turn after which they would stand as `after` says.
    pub fn cut_off(&mut self, after: &Trials) {
        if (self.half_open, &self.under) != (after.half_open, &after.under) {
            self.open();
            self.lost = true;
        }
    }
}
