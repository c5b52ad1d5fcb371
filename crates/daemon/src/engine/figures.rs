//! Gathers what monitoring asks for. Counting begins when somebody may ask.

use std::collections::BTreeSet;
use std::time::Duration;

use keepwell_core::{Input, Mono, Now, ProbeId, ServiceId};

use super::Engine;
use crate::figures::{Figures, GuardFigures, Health, OwnFigures, Probe, ServiceFigures, Tally};
use crate::message::Reply;
use crate::meter::{Asked, Question};

impl Engine {
    /// The configuration in force says whether and where.
    pub(super) fn serve_figures(&mut self) {
        let at = self.config.guardian.http;
        match at {
            Some(_) => drop(self.tally.get_or_insert_default()),
            None => self.tally = None,
        }
        self.served_at.send_if_modified(|old| std::mem::replace(old, at) != at);
    }

    /// An attempt of a check begins.
    pub(super) fn count_attempt(
        &mut self,
        now: Now,
        probe: ProbeId,
        listed: Option<usize>,
        service: &ServiceId,
        timeout: Duration,
    ) {
        let Some(tally) = &mut self.tally else { return };
        let Some(spec) = self.supervisor.specs().services.get(&service.name) else { return };
        // The check that makes ready goes on as the first of its purpose, if it goes on.
        let ready = || spec.probes.iter().find(|p| p.purpose == keepwell_core::spec::Purpose::Ready);
        let (purpose, name) = match listed.map_or_else(ready, |n| spec.probes.get(n)) {
            Some(p) => (p.purpose.name(), p.name.clone()),
            None => ("ready", String::new()),
        };
        tally.begun(probe, Probe { service: service.clone(), purpose, name }, now.mono, timeout);
    }

    /// What the world says; an answer of a check is counted on its way.
    pub(super) fn take_answer(&mut self, now: Now, input: Input) {
        if let (Some(tally), Input::Probe { probe, outcome }) = (&mut self.tally, &input) {
            tally.answered(*probe, outcome, now.mono);
        }
        self.supervisor.handle(now, input);
    }

    pub(super) fn health(&self) -> Health {
        let ids = self.supervisor.ids();
        let usable = ids.iter().filter(|id| self.supervisor.is_usable(id)).count();
        Health { stopping: self.supervisor.is_shutting_down(), services: ids.len(), usable }
    }

    pub(super) fn figures(&mut self, now: Now, reply: Reply<Box<Figures>>) {
        let all = self.supervisor.status(now);
        let looks = all.iter().map(|s| self.slots.look(&s.id)).collect();
        if let Some(tally) = &mut self.tally {
            tally.keep(&all.iter().map(|s| &s.id).collect::<BTreeSet<_>>(), now.mono);
        }
        let services = all.iter().map(|s| self.figures_of(now, s)).collect();
        let figures = Figures {
            services,
            tally: self.tally.as_deref().map(Tally::shown).unwrap_or_default(),
            budgets: self.supervisor.healing_budgets(now),
            receivers: self.receiver_figures(),
            own: self.own_figures(),
        };
        self.measure(Question { looks, asked: Asked::Figures { figures: Box::new(figures), reply } });
    }

    fn figures_of(&self, now: Now, s: &keepwell_core::supervisor::ServiceStatus) -> ServiceFigures {
        let began = s.run.and_then(|run| self.runs.get(&run)).map(|run| run.began);
        let age = |since: Mono| now.mono.since(since).as_secs_f64();
        let guards = self.supervisor.guard_standings(&s.id).into_iter().map(|g| GuardFigures {
            rule: g.rule,
            tripped: g.tripped,
            reached: g.reached.map(|at| now.wall_of(at)),
        });
        let pulse = self.pulse(s).map(|(pulse, _)| pulse);
        ServiceFigures {
            id: s.id.clone(),
            state: s.state,
            since: s.since,
            usable: self.supervisor.is_usable(&s.id),
            wanted: s.desired_up,
            started: began.map(|began| began.wall),
            restarts: s.restarts,
            beat_age: pulse.as_ref().and_then(|p| p.last.or(began.map(|b| b.mono))).map(age),
            beat_errors: pulse.as_ref().map(|p| p.errors),
            reported: pulse.map(|p| p.metrics).unwrap_or_default(),
            incident: self.supervisor.has_incident(&s.id),
            guards: guards.collect(),
            log_bytes: self.slots.number(&s.id).map(|slot| self.log.taken(slot)),
            usage: Default::default(),
        }
    }

    fn own_figures(&self) -> OwnFigures {
        OwnFigures {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            anchor_version: self.welcome.release.clone(),
            started: self.started,
            accepted: self.accepted,
            rebirths: self.welcome.rebirths,
            anchor_pid: self.welcome.pid,
            traffic: self.handle.traffic(),
            store_waiting: self.store.last_seq().saturating_sub(self.store.stored_seq()),
            store_lost: self.store.lost(),
            log_lost: self.log.lost(),
            ..OwnFigures::default()
        }
    }
}
