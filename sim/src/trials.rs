//! The second book of the host's budget: where it was spent, one restart at a time is tried, and others follow only once that
//! helped.

use std::collections::BTreeMap;

use keepwell_core::event::EventKind;
use keepwell_core::spec::{Limit, Purpose};
use keepwell_core::supervisor::Outcome;
use keepwell_core::{Effect, Event, Input, Mono, ProbeId, RunId, ServiceId, Specs};

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Trials {
    /// The budget was spent, and no trial has helped since.
    half_open: bool,
    /// Who was ended last since then.
    under: Option<(ServiceId, Mono)>,
    asked: BTreeMap<ProbeId, Asked>,
    /// How often in a row each check of a run has passed.
    passes: BTreeMap<(RunId, usize), u32>,
    /// A daemon died in a turn that was about this, so nobody knows how much of it was left.
    lost: bool,
}

/// An attempt whose answer is not there yet.
#[derive(Clone, PartialEq, Debug)]
struct Asked {
    service: ServiceId,
    run: RunId,
    /// Its place in the service's list.
    check: usize,
    /// So many passes in a row say that the service works; what is no `live` check never does.
    enough: Option<u32>,
}

impl Trials {
    /// Remembers whose checks are tried.
    pub fn note(&mut self, effect: &Effect, specs: &Specs) {
        if let Effect::Probe { probe, listed: Some(check), service, run, .. } = effect {
            let spec = specs.services.get(&service.name).and_then(|spec| spec.probes.get(*check));
            let enough = spec.filter(|p| p.purpose == Purpose::Live).map(|p| p.success_threshold);
            let asked = Asked { service: service.clone(), run: *run, check: *check, enough };
            self.asked.insert(*probe, asked);
        }
    }

    /// A `live` check that passes opens the budget again.
    pub fn tell(&mut self, input: &Input) {
        let Input::Probe { probe, outcome } = input else { return };
        let Some(asked) = self.asked.remove(probe) else { return };
        let passes = self.passes.entry((asked.run, asked.check)).or_default();
        match outcome {
            Outcome::Pass => *passes += 1,
            Outcome::Fail(_) => *passes = 0,
            Outcome::Unknown(_) => {}
        }
        let works = *outcome == Outcome::Pass && asked.enough.is_some_and(|enough| *passes >= enough);
        if works && self.under.as_ref().is_some_and(|(id, _)| *id == asked.service) {
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
