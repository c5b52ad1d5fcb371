//! Asks for evidence of what is about to be ended because it failed, with the members of its tree where only the anchor knows them.

use std::time::{Duration, Instant};

use keepwell_core::{Input, Now, RunId, ServiceId};

use super::Engine;
use crate::evidence::Case;
use crate::meter::{Asked, Question};

impl Engine {
    pub(super) fn take_evidence(
        &mut self,
        now: Now,
        run: RunId,
        service: &ServiceId,
        incident: Option<u64>,
        notes: Vec<String>,
        timeout: Duration,
    ) {
        let case = Case {
            run,
            service: service.to_string(),
            incident,
            at: now,
            until: Instant::now() + timeout,
            notes,
            look: None,
            how: self.config.evidence.clone(),
        };
        let looks = vec![self.slots.look(service)];
        self.measure(Question { looks, asked: Asked::Evidence(Box::new(case)) });
    }

    /// All is known that is needed to look.
    pub(super) fn witness(&mut self, question: Question) {
        let Question { mut looks, asked: Asked::Evidence(case) } = question else {
            return self.meter.answer(question);
        };
        let run = case.run;
        if !self.witness.take(Case { look: looks.pop().flatten(), ..*case }) {
            let outcome = Err("too many others fail at the same time".to_owned());
            self.findings.push(Input::EvidenceTaken { run, outcome });
        }
    }
}
