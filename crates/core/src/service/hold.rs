//! Held by an operator: left without restarts, or frozen; for a time, or until resumed.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::command::{By, CommandError, Plan, PlannedAction};
use crate::effect::{Effect, Hold, Record};
use crate::service::{Cause, Origin, Phase};
use crate::supervisor::Supervisor;
use crate::time::{Human, Now, Wall};

impl Supervisor {
    pub(crate) fn obey_pause(
        &mut self,
        now: Now,
        by: &By,
        services: &[String],
        freeze: bool,
        stop_after: Option<Duration>,
    ) -> Result<Plan, CommandError> {
        let targets = self.find_all(services)?;
        if freeze {
            for i in &targets {
                let s = &self.services[*i].s;
                if !matches!(s.phase, Phase::Alive(_) | Phase::Spawning { .. }) {
                    return Err(CommandError::NotRunning(self.services[*i].id.clone()));
                }
            }
        }
        let stop_at = stop_after.map(|d| {
            let ms = i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
            Wall(now.wall.0.saturating_add(ms))
        });
        let mut plan = Plan::default();
        for i in &targets {
            let service = self.services[*i].id.clone();
            let hold = Some(Hold { freeze, stop_at, by: by.clone() });
            self.effect(Effect::Commit(Record::Paused { service, hold }));
        }
        for i in targets {
            let id = self.services[i].id.clone();
            if !self.services[i].s.desired {
                plan.notes.push(format!("{id} is stopped, and stays so while it is paused"));
            }
            let what = match (freeze, stop_after) {
                (true, _) => "pause --freeze".into(),
                (false, Some(d)) => format!("pause, stop after {}", Human(d)),
                (false, None) => String::from("pause"),
            };
            self.commanded(i, by, &what, now);
            self.hold(i, Hold { freeze, stop_at, by: by.clone() }, stop_after, now);
            plan.actions.push((id, PlannedAction::Pause));
        }
        Ok(plan)
    }

    fn hold(&mut self, i: usize, hold: Hold, stop_after: Option<Duration>, now: Now) {
        let freeze = hold.freeze;
        let s = &mut self.services[i].s;
        let was_frozen = s.hold.replace(hold).is_some_and(|h| h.freeze);
        s.hold_until = stop_after.map(|d| now.mono + d);
        if let Phase::Alive(a) = &s.phase {
            let run = a.run;
            if freeze && !was_frozen {
                s.frozen = true;
                self.effect(Effect::Freeze { run });
            } else if was_frozen && !freeze {
                self.effect(Effect::Thaw { run });
                self.rearm(i, now);
            }
        }
        // Nothing waits for its turn to start while it is held.
        self.unpark(i);
        self.touch(i);
    }

    /// Ends a hold, if there is one.
    pub(crate) fn release(&mut self, i: usize, now: Now) -> bool {
        let s = &mut self.services[i].s;
        s.hold_until = None;
        let Some(hold) = s.hold.take() else { return false };
        if let (true, Phase::Alive(a)) = (hold.freeze, &s.phase) {
            let run = a.run;
            self.effect(Effect::Thaw { run });
        }
        self.rearm(i, now);
        self.touch(i);
        true
    }

    pub(crate) fn obey_resume(
        &mut self,
        now: Now,
        by: &By,
        services: &[String],
    ) -> Result<Plan, CommandError> {
        let targets = self.find_all(services)?;
        let mut plan = Plan::default();
        for i in &targets {
            if self.services[*i].s.hold.is_some() {
                let service = self.services[*i].id.clone();
                self.effect(Effect::Commit(Record::Paused { service, hold: None }));
            }
        }
        for i in targets {
            let id = self.services[i].id.clone();
            if !self.release(i, now) {
                plan.actions.push((id, PlannedAction::Nothing));
                continue;
            }
            self.commanded(i, by, "resume", now);
            let s = &mut self.services[i].s;
            if matches!(s.phase, Phase::Waiting | Phase::BackingOff { .. } | Phase::CrashLooping { .. }) {
                s.origin = Origin::Resumed;
                self.wait_to_start(i);
            }
            plan.actions.push((id, PlannedAction::Resume));
        }
        Ok(plan)
    }

    /// Its time as a paused service is over: it is stopped, as the operator asked.
    pub(crate) fn hold_ends(&mut self, i: usize, now: Now) {
        let service = self.services[i].id.clone();
        let s = &mut self.services[i].s;
        s.hold_until = None;
        let Some(hold) = s.hold.take() else { return };
        let by = hold.by;
        s.desired = false;
        s.stopped_by = Some(by.clone());
        s.last_command = Some((by.clone(), "stop at the end of the pause".into(), now.wall));
        self.effect(Effect::Commit(Record::Paused { service: service.clone(), hold: None }));
        self.effect(Effect::Commit(Record::Desired { service, up: false, by, at: now.wall }));
        self.go_down(i, Cause::Stop, now);
    }
}
