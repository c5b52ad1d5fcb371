//! What services with guards use, measured now and then. A guardian without guards never wakes for it.

use keepwell_core::Now;
use keepwell_core::guard::{Figure, SAMPLED_EVERY};

use super::Engine;
use crate::meter::{Asked, Question};

impl Engine {
    /// The configuration in force is another one.
    pub(super) fn set_sampling(&mut self, now: Now) {
        let guarded = self.supervisor.specs().services.values().any(|spec| !spec.guards.is_empty());
        self.sample_at = match (guarded, self.sample_at) {
            (true, None) => Some(now.mono + SAMPLED_EVERY),
            (true, at @ Some(_)) => at,
            (false, _) => None,
        };
    }

    /// Asks for the figures of all that has guards and runs, if it is time; they come back as inputs.
    pub(super) fn sample(&mut self, now: Now) {
        if self.sample_at.is_none_or(|at| now.mono < at) {
            return;
        }
        self.sample_at = Some(now.mono + SAMPLED_EVERY);
        let (mut runs, mut looks) = (Vec::new(), Vec::new());
        for run in self.supervisor.guarded() {
            let Some(id) = self.supervisor.service_of(run) else { continue };
            let Some(look) = self.slots.look(id) else { continue };
            let spec = self.supervisor.specs().services.get(&id.name);
            // To count them a folder of the kernel's is read for each process: only for those who ask.
            let counts = spec.is_some_and(|spec| {
                spec.guards.iter().any(|g| matches!(g.figure, Figure::Descriptors | Figure::Threads))
            });
            runs.push((run, counts));
            looks.push(Some(look));
        }
        if !runs.is_empty() {
            self.measure(Question { looks, asked: Asked::Usage { runs, engine: self.handle.clone() } });
        }
    }
}
