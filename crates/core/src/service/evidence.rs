//! What failed and lives is looked at before it is ended: asked for, and waited for no longer than its time.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::effect::Effect;
use crate::event::EventKind;
use crate::id::RunId;
use crate::service::{Ending, LastAnswer, Phase, Stage};
use crate::supervisor::Supervisor;
use crate::time::Now;

impl Supervisor {
    /// Asks for evidence of a living run that is ended for this reason.
    pub(crate) fn take_evidence(&mut self, i: usize, run: RunId, words: &str, timeout: Duration) {
        let notes = self.evidence_notes(i, words);
        let service = self.services[i].id.clone();
        let incident = self.services[i].s.incident.as_ref().map(|incident| incident.id);
        self.effect(Effect::TakeEvidence { run, service, incident, notes, timeout });
    }

    /// What its checks said last, a line each.
    fn evidence_notes(&self, i: usize, words: &str) -> Vec<String> {
        let mut notes = vec![format!("it is ended: {words}")];
        let Phase::Alive(a) = &self.services[i].s.phase else { return notes };
        for (probe, p) in self.spec(i).probes.iter().zip(&a.probes) {
            let says = match &p.last {
                LastAnswer::None => "not tried yet".into(),
                LastAnswer::Passed => "passed".into(),
                LastAnswer::Failed(why) => format!("failed {} times in a row: {why}", p.failures),
                LastAnswer::Unknown(why) => format!("could not be made: {why}"),
            };
            notes.push(format!("{} check {}: {says}", p.purpose.name(), probe.name));
        }
        match &a.check.last {
            LastAnswer::None | LastAnswer::Passed => {}
            LastAnswer::Failed(why) => notes.push(format!("ready check: failed: {why}")),
            LastAnswer::Unknown(why) => notes.push(format!("ready check: could not be made: {why}")),
        }
        if a.heartbeat.is_some() {
            notes.push(format!("heartbeats: {}", if a.silent { "none in time" } else { "in time" }));
        }
        notes
    }

    /// It was looked at, or cannot be: the way down goes on.
    pub(crate) fn on_evidence_taken(&mut self, now: Now, run: RunId, outcome: Result<String, String>) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let s = &mut self.services[i].s;
        let mut waits = false;
        if let Phase::Ending(Ending { main: Some(main), stage: stage @ Stage::Evidence { .. }, .. }) =
            &mut s.phase
            && main.run == run
        {
            *stage = Stage::AfterDependents;
            waits = true;
        }
        // What comes too late is evidence all the same; that there will be none is known by then.
        if waits || outcome.is_ok() {
            if let (Ok(name), Some(incident)) = (&outcome, &mut s.incident) {
                incident.keep_evidence(name.clone());
            }
            self.tell(now, Some(i), Some(run), EventKind::EvidenceTaken { outcome });
            self.touch(i);
        }
        if waits {
            self.advance(i, now);
        }
    }
}
