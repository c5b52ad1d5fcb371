//! A new daemon: from the pieces that its predecessor left, and what the anchor tells of the runs, to going on as if
//! nothing had happened. A predecessor may have died at any point, so an effect may never have been sent although the
//! snapshot stands as if it was.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::effect::{Effect, Role};
use crate::event::{EventKind, ExitStatus};
use crate::id::{RunId, ServiceId};
use crate::service::{Asked, Cause, Ending, HookEnd, Origin, Phase, Probed, ServiceSnapshot, Stage};
use crate::supervisor::{Adoption, Input, ReloadAction, Supervisor};
use crate::time::Now;

impl Supervisor {
    /// Takes up the pieces. An instance that the configuration asks for and that has none was added in a turn that was
    /// never finished: it begins afresh.
    pub(crate) fn take_up(&mut self, services: BTreeMap<ServiceId, ServiceSnapshot>, now: Now) {
        let mut fresh = Vec::new();
        for id in self.wanted_instances() {
            if !services.contains_key(&id) {
                let i = self.add_instance(&id, now);
                self.apply_persisted(i, None, None, now);
                fresh.push(i);
            }
        }
        for (id, mut s) in services {
            // The probes of the old daemon died with it.
            if let Phase::Alive(a) = &mut s.phase {
                if a.check.in_flight.take().is_some() {
                    a.check.next = Some(now.mono);
                }
                a.probes.iter_mut().for_each(Probed::forget);
            }
            // A request to stop is not sent again, as no signal is: the next step comes by itself.
            if s.hook.as_ref().is_none_or(|h| h.role != Role::Stop)
                && let Phase::Ending(Ending { stage: Stage::Step { asked: asked @ Asked::Open, .. }, .. }) =
                    &mut s.phase
            {
                *asked = Asked::Done;
            }
            let i = self.add_instance(&id, now);
            self.services[i].s = s;
        }
        self.finish_reload(now);
        self.build_graph();
        for i in self.index.values().copied().collect::<Vec<_>>() {
            let s = &self.services[i].s;
            let hook = s.hook.as_ref().map(|h| h.run);
            for run in s.main_run().into_iter().chain(hook) {
                self.runs.insert(run, i);
            }
            if self.services[i].s.watching {
                let id = self.services[i].id.clone();
                self.effect(Effect::WatchProgram(id));
            }
        }
        for i in fresh {
            if self.services[i].s.desired {
                self.services[i].s.phase = Phase::Waiting;
            }
        }
        // In this order what others see of an instance is known before it is asked for.
        for group in self.graph.start_order() {
            for i in self.graph.groups[group].instances.clone() {
                self.touch(i);
            }
        }
        let known = self.runs.keys().copied().collect();
        self.adoption = Some(Adoption { known, ..Adoption::default() });
    }

    /// A predecessor may have left a new configuration, and not all that followed from it: what is no longer in it goes, and
    /// what is in it again comes back.
    fn finish_reload(&mut self, now: Now) {
        let again = |id: &ServiceId| {
            let i = *self.index.get(id)?;
            let spec = self.specs.services.get(&id.name).filter(|_| self.services[i].s.removed)?;
            Some((id.clone(), self.new_action(id, spec)))
        };
        let back: Vec<_> = self.wanted_instances().iter().filter_map(again).collect();
        for (id, action) in back {
            let i = self.add_beside(&id, now);
            let s = &mut self.services[i].s;
            s.desired = action == ReloadAction::New;
            s.origin = Origin::Reload;
            if let Phase::Ending(e) = &mut s.phase {
                e.again = true;
            }
        }
        let gone: Vec<usize> = self
            .index
            .iter()
            .filter(|(id, _)| {
                let spec = self.specs.services.get(&id.name);
                spec.is_none_or(|spec| id.instance > self.instances_of(&id.name, spec))
            })
            .map(|(_, i)| *i)
            .collect();
        for i in gone {
            let in_force = self.specs.services.contains_key(&self.services[i].id.name);
            let s = &mut self.services[i].s;
            s.removed = true;
            if !in_force && s.spec.is_none() {
                s.spec = Some(Box::default());
            }
        }
    }

    /// What was to be restarted or removed, and was not when the predecessor died.
    fn go_on_with_reload(&mut self, i: usize, now: Now) {
        let other_program = self.services[i].s.program != self.spec(i).fingerprint;
        let s = &mut self.services[i].s;
        if s.removed {
            self.remove_instance(i, now);
            return;
        }
        if !other_program || !s.desired {
            return;
        }
        match &s.phase {
            Phase::PreStart | Phase::Spawning { .. } | Phase::Alive(_) => {
                s.tracker.reset();
                s.origin = Origin::Reload;
                self.stop_and_start(i, Cause::Reload, now);
            }
            Phase::BackingOff { .. } | Phase::CrashLooping { .. } | Phase::GaveUp(_) => {
                s.tracker.reset();
                s.origin = Origin::Reload;
                self.wait_to_start(i);
            }
            Phase::Stopped | Phase::Completed | Phase::Waiting | Phase::Ending(_) => {}
        }
    }

    /// Remembers which runs the anchor still knows of.
    pub(crate) fn note_named(&mut self, input: &Input) {
        let Some(Adoption { named, alive, exits, .. }) = &mut self.adoption else { return };
        match input {
            Input::Adopted { run, .. } => {
                *alive += u32::from(named.insert(*run));
            }
            Input::Exited { run, .. } => {
                named.insert(*run);
                *exits += 1;
            }
            Input::Spawned { run, .. } | Input::SpawnFailed { run, .. } | Input::TreeEmpty { run } => {
                named.insert(*run);
            }
            Input::SignalFailed { .. }
            | Input::AskedToStop { .. }
            | Input::EvidenceTaken { .. }
            | Input::Probe { .. }
            | Input::Ready { .. }
            | Input::Stopping { .. }
            | Input::Alive { .. }
            | Input::Beat { .. }
            | Input::Usage { .. }
            | Input::WatchdogTriggered { .. }
            | Input::ExtendTimeout { .. }
            | Input::SetWatchdog { .. }
            | Input::AdoptionDone
            | Input::ProgramChanged(_)
            | Input::Host(_)
            | Input::HostLoad(_) => {}
        }
    }

    pub(crate) fn on_adopted(&mut self, now: Now, run: RunId, pid: u32) {
        if self.adoption.is_none() {
            return;
        }
        if self.runs.contains_key(&run) {
            // Its start may not have been told yet.
            if pid != 0 {
                self.on_spawned(now, run, pid);
            }
        } else {
            // No service of ours has such a run: it must not go on unseen.
            self.effect(Effect::Kill { run });
        }
    }

    pub(crate) fn on_adoption_done(&mut self, now: Now) {
        let Some(adoption) = self.adoption.take() else { return };
        let kind = EventKind::Adopted { runs: adoption.alive, missed_exits: adoption.exits };
        self.tell(now, None, None, kind);
        let lost: Vec<(RunId, usize)> = self
            .runs
            .iter()
            .filter(|(run, _)| !adoption.named.contains(run))
            .map(|(r, i)| (*r, *i))
            .collect();
        for (run, i) in lost {
            self.run_is_lost(i, run, now);
        }
        for i in self.index.values().copied().collect::<Vec<_>>() {
            self.repeat_effects(i);
            if let Phase::Alive(a) = &mut self.services[i].s.phase {
                // Life signs were taken in without being written down.
                a.renew_signs(now.mono);
            }
            // A predecessor may have left new settings, and not what they meant for the checks.
            let purposes = self.spec(i).probes.iter().map(|p| p.purpose);
            if matches!(&self.services[i].s.phase, Phase::Alive(a) if !a.probes.iter().map(|p| p.purpose).eq(purposes))
            {
                self.rearm(i, now);
            }
            self.begin_probes(i, now);
            self.go_on_with_reload(i, now);
            if self.services[i].vacant {
                continue;
            }
            if self.guardian.shutting_down {
                self.go_down(i, Cause::Shutdown, now);
            }
            self.touch(i);
            self.enqueue(i);
        }
    }

    /// Nobody knows of this run. If its start was never confirmed, it was never sent: it is asked for again, under
    /// another number. Else the process ended unseen.
    fn run_is_lost(&mut self, i: usize, run: RunId, now: Now) {
        let s = &mut self.services[i].s;
        if let Some(hook) = &s.hook
            && hook.run == run
        {
            let (role, again) = (hook.role, hook.pid.is_none() && hook.ended_by == HookEnd::Itself);
            if again {
                self.runs.remove(&run);
                s.hook = None;
                if matches!(role, Role::PreStart | Role::WaitFor) && s.phase == Phase::PreStart {
                    self.wait_to_start(i);
                } else {
                    match role {
                        Role::Stop => self.repeat_stop_command(i, now),
                        Role::OnSuspend | Role::OnResume | Role::OnPowerChange | Role::OnSession => {
                            self.hear_news(i, now);
                        }
                        Role::Main
                        | Role::WaitFor
                        | Role::PreStart
                        | Role::PostStart
                        | Role::PreStop
                        | Role::PostStop
                        | Role::Guard(_)
                        | Role::Escalation(_) => self.start_hook(i, role, now),
                    }
                }
            } else {
                self.on_exited(now, run, ExitStatus::Unknown, true);
            }
            return;
        }
        match &mut s.phase {
            Phase::Spawning { run: asked, .. } if *asked == run => {
                // What it depends on may have gone meanwhile, so it passes the gates once more.
                self.runs.remove(&run);
                self.wait_to_start(i);
            }
            Phase::Ending(e) if e.stage == Stage::AwaitSpawn => {
                e.main = None;
                e.stage = Stage::Hooks;
                self.runs.remove(&run);
                self.advance(i, now);
            }
            Phase::Ending(e) if e.main.is_some_and(|m| m.exited) => self.on_tree_empty(now, run),
            Phase::Alive(_) | Phase::Ending(_) => self.on_exited(now, run, ExitStatus::Unknown, true),
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. } => {
                self.runs.remove(&run);
            }
        }
    }

    /// Sends again what does no harm twice and would be missed for ever. A signal of the ladder is not sent again: the
    /// next step comes by itself.
    fn repeat_effects(&mut self, i: usize) {
        let s = &self.services[i].s;
        let mut effects = Vec::new();
        if let Some(hook) = &s.hook
            && hook.ended_by != HookEnd::Itself
        {
            effects.push(Effect::Kill { run: hook.run });
        }
        let frozen = s.frozen;
        match &s.phase {
            Phase::Alive(a) if frozen => {
                let run = a.run;
                let freeze = s.hold.as_ref().is_some_and(|h| h.freeze);
                effects.push(if freeze { Effect::Freeze { run } } else { Effect::Thaw { run } });
            }
            Phase::Ending(e) => {
                if let Some(main) = e.main {
                    let run = main.run;
                    if frozen {
                        effects.push(Effect::Thaw { run });
                    }
                    if matches!(e.stage, Stage::Killed { .. }) {
                        effects.push(Effect::Kill { run });
                    }
                }
            }
            Phase::Alive(_)
            | Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. } => {}
        }
        effects.into_iter().for_each(|e| self.effect(e));
    }

    pub(crate) fn on_program_changed(&mut self, now: Now, id: &ServiceId) {
        let Some(i) = self.index.get(id).copied() else { return };
        let s = &mut self.services[i].s;
        if !s.watching || s.hold.is_some() || !s.desired {
            return;
        }
        match &s.phase {
            Phase::GaveUp(_) | Phase::BackingOff { .. } | Phase::CrashLooping { .. } => {
                s.origin = Origin::Program;
                s.tracker.reset();
                self.wait_to_start(i);
            }
            Phase::Stopped
            | Phase::Completed
            | Phase::Waiting
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => {}
        }
        let _ = now;
    }
}

/// The role of a process that a snapshot knows by this run, for the shell's own books.
impl ServiceSnapshot {
    /// The live runs that this piece knows of, with what each is to the service.
    #[must_use]
    pub fn runs(&self) -> Vec<(RunId, Role)> {
        let main = self.main_run().map(|run| (run, Role::Main));
        main.into_iter().chain(self.hook.as_ref().map(|h| (h.run, h.role))).collect()
    }
}
