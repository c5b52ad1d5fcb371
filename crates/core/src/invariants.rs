//! What must hold between turns, for tests and simulation.

use alloc::collections::BTreeSet;

use crate::graph::Counts;
use crate::service::{Facet, Phase};
use crate::supervisor::{Census, Supervisor};

impl Supervisor {
    pub(crate) fn check(&self) {
        let mut runs = BTreeSet::new();
        let mut timers = BTreeSet::new();
        let mut parked = BTreeSet::new();
        let mut census = Census::default();
        for (id, i) in &self.index {
            let service = &self.services[*i];
            let s = &service.s;
            assert_eq!(service.id, *id, "the index names another service");
            assert!(!service.vacant, "{id} stands in the index and is vacant");
            assert_eq!(service.queued, self.queue.contains(i), "{id} was not looked at");
            runs.extend(s.main_run().map(|run| (run, *i)));
            runs.extend(s.hook.as_ref().map(|h| (h.run, *i)));
            timers.extend(service.timer.map(|at| (at, *i)));
            parked.extend(service.parked.map(|ticket| (ticket, *i)));
            census.change(Facet::default(), service.facet);
            if !service.queued {
                assert_eq!(service.facet, self.facet(*i), "{id}: what others see is out of date");
            }
            assert!(
                service.parked.is_none() || s.phase == Phase::Waiting,
                "{id} is parked and does not wait"
            );
            let reset_after = self.spec(*i).restart.reset_after;
            let due = s.next_deadline(reset_after).map(|(at, _)| at);
            assert!(service.timer <= due || service.timer == due, "{id}: a deadline was forgotten");
            assert_eq!(due.is_some(), service.timer.is_some(), "{id}: a deadline was forgotten");
            if s.removed && self.adoption.is_none() {
                assert!(s.has_process(), "{id} is removed and lingers");
            }
            if matches!(s.phase, Phase::Waiting) && self.adoption.is_none() {
                let held = service.queued
                    || s.hold.is_some()
                    || service.parked.is_some()
                    || s.wait.is_some()
                    || self.blocking(*i).next().is_some();
                assert!(held, "{id} waits for nothing");
            }
        }
        assert_eq!(runs, self.runs.iter().map(|(r, i)| (*r, *i)).collect(), "runs");
        assert_eq!(timers, self.timers, "timers");
        assert_eq!(parked, self.parked, "parked");
        assert_eq!(census, self.census, "census");
        for group in &self.graph.groups {
            let mut counts = Counts::default();
            for i in &group.instances {
                counts.change(Facet::default(), self.services[*i].facet);
            }
            assert_eq!(counts, group.counts, "counts of {}", group.name);
        }
    }
}
