//! The ladder of a service that goes on failing, and the standby that stands in for it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::effect::Role;
use crate::escalation::Then;
use crate::event::{EventKind, ExitClass};
use crate::service::{Cause, GaveUp, Origin, Phase, ServiceSnapshot, Stage};
use crate::spec::Policy;
use crate::supervisor::Supervisor;
use crate::time::{Human, Now};

impl Supervisor {
    /// A run failed and nothing of it is left: takes the step of the ladder that is due. True if something runs for that, after
    /// whose end the restart is decided.
    pub(crate) fn escalate(&mut self, i: usize, now: Now) -> bool {
        if !self.escalates(i) {
            return false;
        }
        let Some((rung, then)) = self.climb(i, now) else { return false };
        let Phase::Ending(e) = &mut self.services[i].s.phase else { return false };
        e.stage = Stage::Escalating;
        match then {
            Then::Restart => {}
            Then::RestartDependents => self.restart_dependents(i, now),
            Then::Run { .. } => {
                let rung = u8::try_from(rung).unwrap_or(u8::MAX);
                self.start_hook(i, Role::Escalation(rung), now);
                return true;
            }
            Then::FailOver => {
                if let Some(incident) = &mut self.services[i].s.incident {
                    incident.failed_over = true;
                }
            }
            // The end of its run is the last one.
            Then::Stop => {}
        }
        false
    }

    /// It has a ladder, failed, and would be tried again.
    fn escalates(&self, i: usize) -> bool {
        let s = &self.services[i].s;
        let Phase::Ending(e) = &s.phase else { return false };
        let failed = match &e.cause {
            Cause::Exit(class) => *class == ExitClass::Retry,
            Cause::Failed(_) | Cause::NotSpawned { .. } => true,
            Cause::Stop
            | Cause::Restart
            | Cause::Reload
            | Cause::Bound(_)
            | Cause::MainBack(_)
            | Cause::Shutdown
            | Cause::Removed => false,
        };
        let spec = self.spec(i);
        let tried_again = s.desired && !s.removed && !e.again && !self.guardian.shutting_down;
        failed && tried_again && spec.restart.policy != Policy::Never && !spec.escalation.is_empty()
    }

    /// The step that is due, by its number from 0.
    fn climb(&mut self, i: usize, now: Now) -> Option<(usize, Then)> {
        let ladder = self.spec(i).escalation.clone();
        let incident = self.services[i].s.incident.as_mut()?;
        let (at, used) = &mut incident.rung;
        // A reload may have made the ladder shorter.
        *at = (*at).min(ladder.len().saturating_sub(1));
        let mut new = *used == 0;
        while *at + 1 < ladder.len() && *used >= ladder[*at].times {
            (*at, *used, new) = (*at + 1, 0, true);
        }
        *used = used.saturating_add(1);
        let (rung, then) = (*at, ladder.get(*at)?.then);
        // Where somebody began it anew, it has not come so far.
        incident.failed_over &= ladder.iter().take(rung + 1).any(|rung| rung.then == Then::FailOver);
        if then != Then::Restart {
            incident.acted(&action(then));
        }
        // Where it begins with what would be done anyway nothing has changed yet.
        if new && (rung, then) != (0, Then::Restart) {
            let (step, of) = (rung + 1, ladder.len());
            self.tell(now, Some(i), None, EventKind::Escalated { step, of, then });
        }
        self.touch(i);
        Some((rung, then))
    }

    /// Stops what runs and depends on it; it starts again when this is back.
    fn restart_dependents(&mut self, i: usize, now: Now) {
        let group = self.services[i].group;
        let name = Arc::clone(&self.services[i].id.name);
        for dependent in self.graph.dependents(&BTreeSet::from([group]), |edge| edge.required) {
            if dependent == group {
                continue;
            }
            for j in self.graph.groups[dependent].instances.clone() {
                let s = &mut self.services[j].s;
                if s.has_process() && s.hold.is_none() && !matches!(s.phase, Phase::Ending(_)) {
                    s.origin = Origin::Bound(Arc::clone(&name));
                    self.stop_and_start(j, Cause::Bound(Arc::clone(&name)), now);
                }
            }
        }
    }

    /// Its present step is the end.
    pub(crate) fn ladder_ends(&self, i: usize) -> bool {
        let rung = self.services[i].s.incident.as_ref().map(|incident| incident.rung.0);
        let then = rung.and_then(|rung| self.spec(i).escalation.get(rung)).map(|rung| rung.then);
        then == Some(Then::Stop)
    }

    /// Its ladder has come to its end.
    pub(crate) fn stop_and_page(&mut self, i: usize, now: Now) {
        self.give_up(i, GaveUp::Escalated, now);
        let reason = self.reason(i);
        self.tell(now, Some(i), None, EventKind::Paged { reason });
    }

    /// Where this service has a standby: does it run as it should?
    pub(crate) fn stand_in(&mut self, i: usize, now: Now) {
        if self.services[i].vacant || self.adoption.is_some() {
            return;
        }
        self.stand_down_if_idle(i, now);
        let name = Arc::clone(&self.services[i].id.name);
        let Some(fallback) = self.fallback_of(&name).cloned() else { return };
        let wanted = self.is_stood_in_for(&name);
        let Some(group) = self.graph.group(&fallback) else { return };
        for j in self.graph.groups[group].instances.clone() {
            let s = &mut self.services[j].s;
            let stands = s.stands_in.as_ref() == Some(&name);
            if wanted && !stands && !s.desired && s.stopped_by.is_none() && !s.removed {
                s.desired = true;
                s.stands_in = Some(Arc::clone(&name));
                s.origin = Origin::StandsIn(Arc::clone(&name));
                self.bring_up(j);
                let words = format!("failed over to {fallback}");
                self.acted(i, &words);
                // It belongs to the story of what it stands in for.
                let incident = self.services[i].s.incident.as_ref().map(|open| open.id);
                let started = EventKind::StandbyStarted { main: name.to_string() };
                self.tell_in(now, Some(j), None, incident, started);
            } else if !wanted && stands {
                self.hand_over(j, Arc::clone(&name), now);
            }
        }
    }

    /// What it stood in for needs it no more: the next one that does has it, or it ends.
    fn hand_over(&mut self, j: usize, main: Arc<str>, now: Now) {
        let own = Arc::clone(&self.services[j].id.name);
        match self.next_to_stand_in_for(&own) {
            Some(other) => {
                self.services[j].s.stands_in = Some(other);
                self.touch(j);
            }
            None => self.stand_down(j, main, now),
        }
    }

    /// Another that has the same standby, and needs it.
    fn next_to_stand_in_for(&self, fallback: &Arc<str>) -> Option<Arc<str>> {
        let same = self.specs.services.iter().filter(|(_, spec)| spec.fallback.as_ref() == Some(fallback));
        same.map(|(name, _)| name).find(|name| self.is_stood_in_for(name)).cloned()
    }

    fn stand_down(&mut self, j: usize, main: Arc<str>, now: Now) {
        let s = &mut self.services[j].s;
        s.desired = false;
        s.stands_in = None;
        self.tell(now, Some(j), None, EventKind::StandbyStopped { main: main.to_string() });
        self.go_down(j, Cause::MainBack(main), now);
    }

    /// A new configuration may have taken away what it stands in for.
    fn stand_down_if_idle(&mut self, j: usize, now: Now) {
        let Some(main) = self.services[j].s.stands_in.clone() else { return };
        let own = &self.services[j].id.name;
        if self.fallback_of(&main) != Some(own) {
            self.hand_over(j, main, now);
        }
    }

    /// An instance of it has failed and is down. Once its standby runs, that stays until the incident is over, so that it
    /// does not start and stop with each short life of what goes on failing.
    fn is_stood_in_for(&self, name: &Arc<str>) -> bool {
        let Some(group) = self.graph.group(name) else { return false };
        let needs = |i: &usize| {
            let s = &self.services[*i].s;
            let Some(incident) = s.incident.as_ref().filter(|_| s.desired && !s.removed) else {
                return false;
            };
            if self.guardian.shutting_down || s.hold.is_some() {
                return false;
            }
            let standby = self.fallback_of(name).map_or(&[][..], |fallback| self.instances_named(fallback));
            let mut stands_in =
                standby.iter().filter_map(|j| self.services[*j].s.stands_in.as_ref()).peekable();
            let runs = stands_in.peek().is_some();
            if stands_in.any(|main| main == name) {
                return true;
            }
            if self.spec(*i).escalation.iter().any(|rung| rung.then == Then::FailOver) {
                return incident.failed_over && (runs || !self.services[*i].facet.up);
            }
            // A restart that comes at once needs nobody who stands in.
            let waits =
                matches!(s.phase, Phase::BackingOff { .. } | Phase::CrashLooping { .. } | Phase::GaveUp(_));
            runs || waits
        };
        self.graph.groups[group].instances.iter().any(needs)
    }

    /// By the settings in force, whatever those of its present run are: the standby itself goes by them too.
    fn fallback_of(&self, name: &str) -> Option<&Arc<str>> {
        self.specs.services.get(name)?.fallback.as_ref()
    }

    fn instances_named(&self, name: &str) -> &[usize] {
        self.graph.group(name).map_or(&[], |group| &self.graph.groups[group].instances)
    }

    /// Lines of `explain`: where its ladder stands, and whom it stands in for.
    pub(crate) fn escalation_lines(&self, i: usize) -> Vec<(&'static str, alloc::string::String)> {
        let (spec, s) = (self.spec(i), &self.services[i].s);
        let mut lines = Vec::new();
        if let Some(incident) = &s.incident
            && let Some(rung) = spec.escalation.get(incident.rung.0)
        {
            let (at, used) = incident.rung;
            let of = spec.escalation.len();
            let left = rung.times.saturating_sub(used);
            let mut text = format!("step {} of {of}: {}", at + 1, rung.then);
            if let Some(next) = spec.escalation.get(at + 1) {
                text += &match left {
                    0 => format!("; with the next failure {}", next.then),
                    1 => format!("; after 1 more failure {}", next.then),
                    n => format!("; after {n} more failures {}", next.then),
                };
            }
            lines.push(("escalation", text));
        }
        if let Some(main) = &s.stands_in {
            let wait = self.specs.services.get(main).map_or(Duration::ZERO, |spec| spec.restart.reset_after);
            lines.push(("stands in", format!("for {main}, until it has been well for {}", Human(wait))));
        }
        let name = &self.services[i].id.name;
        if let Some(fallback) = self.fallback_of(name) {
            let mut standby = self.instances_named(fallback).iter();
            if standby.any(|j| self.services[*j].s.stands_in.as_ref() == Some(name)) {
                let wait = Human(spec.restart.reset_after);
                lines.push(("standby", format!("{fallback} runs until it has been well for {wait}")));
            }
        }
        lines
    }
}

impl ServiceSnapshot {
    /// Somebody has had a look: what was tried before counts no more.
    pub(crate) fn begin_ladder_anew(&mut self) {
        if let Some(incident) = &mut self.incident {
            incident.rung = (0, 0);
        }
    }
}

/// How a step is called among the actions of an incident.
fn action(then: Then) -> alloc::string::String {
    match then {
        Then::Run { .. } => "ran the command of its ladder".to_string(),
        Then::Stop => "stopped and paged".to_string(),
        Then::Restart | Then::RestartDependents | Then::FailOver => then.to_string(),
    }
}
