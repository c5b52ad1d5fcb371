//! From the settings in force to new ones with the fewest restarts. The plan is pure; taking it on does exactly that plan.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::effect::{Effect, Record};
use crate::event::EventKind;
use crate::id::ServiceId;
use crate::service::{Cause, Origin, Phase, ServiceSnapshot};
use crate::spec::{ServiceSpec, Specs};
use crate::supervisor::{ReloadAction, ReloadPlan, Supervisor};
use crate::time::Now;

impl Supervisor {
    pub(crate) fn reload_plan(&self, specs: &Specs) -> ReloadPlan {
        let mut changes: BTreeMap<ServiceId, ReloadAction> = BTreeMap::new();
        let mut untouched = 0;
        for (id, i) in &self.index {
            let s = &self.services[*i].s;
            let kept =
                specs.services.get(&id.name).filter(|spec| id.instance <= self.instances_after(id, spec));
            match (kept, s.removed) {
                (None, true) => {}
                (None, false) => {
                    changes.insert(id.clone(), ReloadAction::Remove);
                }
                (Some(spec), true) => {
                    changes.insert(id.clone(), self.new_action(id, spec));
                }
                (Some(spec), false) => match self.change_of(*i, spec) {
                    Some(action) => {
                        changes.insert(id.clone(), action);
                    }
                    None => untouched += 1,
                },
            }
        }
        for (name, spec) in &specs.services {
            let first = ServiceId::new(Arc::clone(name), 1);
            for n in 1..=self.instances_after(&first, spec) {
                let id = ServiceId::new(Arc::clone(name), n);
                if !self.index.contains_key(&id) {
                    let action = self.new_action(&id, spec);
                    changes.insert(id, action);
                }
            }
        }
        untouched -= self.add_bound(specs, &mut changes);
        ReloadPlan { changes: changes.into_iter().collect(), untouched }
    }

    /// How many instances there will be: an operator's word holds until the file's changes.
    fn instances_after(&self, id: &ServiceId, spec: &ServiceSpec) -> u16 {
        let old = self.specs.services.get(&id.name);
        let scaled = self.guardian.scaled.get(&*id.name);
        match (scaled, old) {
            (Some(n), Some(old)) if old.instances == spec.instances => (*n).max(1),
            (Some(_) | None, _) => spec.instances.max(1),
        }
    }

    fn enabled_after(&self, name: &str, spec: &ServiceSpec) -> bool {
        self.guardian.enabled.get(name).copied().unwrap_or(spec.enabled)
    }

    pub(crate) fn new_action(&self, id: &ServiceId, spec: &ServiceSpec) -> ReloadAction {
        // It comes back before it was gone: an operator's stop still counts.
        let stopped = |i: &usize| self.services[*i].s.stopped_by.is_some() && !self.services[*i].s.desired;
        if self.index.get(id).is_some_and(stopped) {
            return ReloadAction::NewDisabled;
        }
        let siblings =
            ServiceId::new(Arc::clone(&id.name), 1)..=ServiceId::new(Arc::clone(&id.name), u16::MAX);
        let mut up =
            self.index.range(siblings).map(|(_, i)| &self.services[*i].s).filter(|s| !s.removed).peekable();
        // What stands in for another is not wanted for itself; if another instance is needed for that, it is started then.
        let itself = |s: &ServiceSnapshot| s.desired && s.stands_in.is_none();
        let wanted = if up.peek().is_some() { up.any(itself) } else { self.enabled_after(&id.name, spec) };
        if wanted { ReloadAction::New } else { ReloadAction::NewDisabled }
    }

    /// What a changed specification means for an instance that stays.
    fn change_of(&self, i: usize, new: &ServiceSpec) -> Option<ReloadAction> {
        let name = &self.services[i].id.name;
        let old = self.specs.services.get(name).unwrap_or(&self.no_spec);
        if old == new {
            return None;
        }
        let s = &self.services[i].s;
        let other_program = old.fingerprint != new.fingerprint || old.kind != new.kind;
        let tried = match &s.phase {
            Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_)
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::GaveUp(_) => true,
            Phase::Stopped | Phase::Completed | Phase::Waiting => false,
        };
        let wanted_now = !self.is_enabled(name) && self.enabled_after(name, new);
        Some(if other_program && tried && s.desired {
            ReloadAction::Restart
        } else if wanted_now && !s.desired && s.stopped_by.is_none() && s.phase == Phase::Stopped {
            ReloadAction::New
        } else if old.instances != new.instances
            && *old == (ServiceSpec { instances: old.instances, ..new.clone() })
        {
            // Only the number changed, which is no news to the instances that stay.
            return None;
        } else {
            ReloadAction::Live
        })
    }

    /// Adds the running instances that are bound to one that restarts or goes. Returns how many were untouched before.
    fn add_bound(&self, specs: &Specs, changes: &mut BTreeMap<ServiceId, ReloadAction>) -> u32 {
        let down = |a: &ReloadAction| matches!(a, ReloadAction::Restart | ReloadAction::Remove);
        let mut open: Vec<Arc<str>> =
            changes.iter().filter(|(_, a)| down(a)).map(|(id, _)| Arc::clone(&id.name)).collect();
        let mut added = 0;
        while let Some(on) = open.pop() {
            let bound =
                specs.services.iter().filter(|(_, s)| s.depends_on.iter().any(|d| d.bind && d.on == on));
            for (name, _) in bound {
                let siblings =
                    ServiceId::new(Arc::clone(name), 1)..=ServiceId::new(Arc::clone(name), u16::MAX);
                for (id, i) in self.index.range(siblings) {
                    let action = changes.get(id).copied();
                    let s = &self.services[*i].s;
                    if action.is_some_and(|a| a != ReloadAction::Live) || !s.has_process() || s.removed {
                        continue;
                    }
                    added += u32::from(action.is_none());
                    changes.insert(id.clone(), ReloadAction::Restart);
                    open.push(Arc::clone(name));
                }
            }
        }
        added
    }

    pub(crate) fn take_on(&mut self, now: Now, specs: Specs) -> ReloadPlan {
        let plan = self.reload_plan(&specs);
        self.follow_instances(&specs);
        self.retire_specs(&plan, &specs);
        let old = core::mem::replace(&mut self.specs, specs);
        let mut added = Vec::new();
        for (id, action) in &plan.changes {
            if matches!(action, ReloadAction::New | ReloadAction::NewDisabled)
                && self.index.get(id).is_none_or(|i| self.services[*i].s.removed)
            {
                added.push(self.add_beside(id, now));
            }
        }
        self.build_graph();
        for i in self.index.values().copied().collect::<Vec<_>>() {
            self.touch(i);
            self.enqueue(i);
        }
        self.do_stops(&plan, &old, now);
        self.do_starts(&plan, &old, now);
        let changes = plan.changes.iter().map(|(id, action)| format!("{id}: {}", word(*action))).collect();
        self.tell(now, None, None, EventKind::ConfigApplied { changes });
        plan
    }

    /// Where the file's number of instances changed, it wins over an operator's.
    fn follow_instances(&mut self, specs: &Specs) {
        let names: Vec<_> = self.guardian.scaled.keys().cloned().collect();
        for service in names {
            let (old, new) = (self.specs.services.get(&*service), specs.services.get(&*service));
            let (Some(old), Some(new)) = (old, new) else { continue };
            if old.instances != new.instances {
                let instances = new.instances;
                self.guardian.scaled.remove(&service);
                self.guardian_dirty = true;
                self.effect(Effect::Commit(Record::Scaled { service, instances }));
            }
        }
    }

    /// What runs is ended by the settings that it was started with, and a stop that has begun goes on as it began.
    fn retire_specs(&mut self, plan: &ReloadPlan, specs: &Specs) {
        let restarts: BTreeSet<&ServiceId> =
            plan.changes.iter().filter(|(_, a)| *a == ReloadAction::Restart).map(|(id, _)| id).collect();
        for (id, i) in &self.index {
            let gone = !specs.services.contains_key(&id.name);
            let s = &mut self.services[*i].s;
            let ending = matches!(s.phase, Phase::Ending(_));
            if (gone || ending || (restarts.contains(id) && s.has_process()))
                && s.spec.is_none()
                && let Some(old) = self.specs.services.get(&id.name)
                && specs.services.get(&id.name) != Some(old)
            {
                s.spec = Some(Box::new(old.clone()));
            }
        }
    }

    fn do_stops(&mut self, plan: &ReloadPlan, old: &Specs, now: Now) {
        let actions: BTreeMap<usize, ReloadAction> =
            plan.changes.iter().filter_map(|(id, a)| Some((*self.index.get(id)?, *a))).collect();
        let mut groups = self.graph.start_order();
        groups.reverse();
        for group in groups {
            for i in self.graph.groups[group].instances.clone() {
                match actions.get(&i) {
                    Some(ReloadAction::Remove) => self.remove_instance(i, now),
                    Some(ReloadAction::Restart) => self.reload_instance(i, old, now),
                    Some(ReloadAction::New | ReloadAction::NewDisabled | ReloadAction::Live) | None => {}
                }
            }
        }
    }

    fn reload_instance(&mut self, i: usize, old: &Specs, now: Now) {
        let name = &self.services[i].id.name;
        let (before, after) = (old.services.get(name), self.specs.services.get(name));
        let own = before.zip(after).is_some_and(|(a, b)| a.fingerprint != b.fingerprint || a.kind != b.kind);
        let s = &mut self.services[i].s;
        if own {
            s.tracker.reset();
        }
        s.origin = Origin::Reload;
        if s.has_process() {
            self.stop_and_start(i, Cause::Reload, now);
        } else {
            self.wait_to_start(i);
        }
    }

    fn do_starts(&mut self, plan: &ReloadPlan, old: &Specs, now: Now) {
        for (id, action) in &plan.changes {
            let Some(i) = self.index.get(id).copied() else { continue };
            match action {
                ReloadAction::New => {
                    self.services[i].s.desired = true;
                    self.services[i].s.origin = Origin::Reload;
                    self.bring_up(i);
                }
                ReloadAction::NewDisabled => self.services[i].s.desired = false,
                ReloadAction::Live => self.take_on_live(i, old, now),
                ReloadAction::Restart | ReloadAction::Remove => {}
            }
            self.touch(i);
        }
    }

    /// Settings that a running instance feels at once.
    fn take_on_live(&mut self, i: usize, old: &Specs, now: Now) {
        let name = &self.services[i].id.name;
        let (Some(before), Some(after)) = (old.services.get(name), self.specs.services.get(name)) else {
            return;
        };
        let check = before.ready != after.ready || before.probes != after.probes;
        let watchdog = before.watchdog != after.watchdog;
        let heartbeat = before.heartbeat != after.heartbeat;
        let from_now = |interval: Option<_>| interval.map(|d| (d, now.mono + d));
        let signs = (from_now(after.watchdog), from_now(after.heartbeat));
        if before.wait_for != after.wait_for && self.services[i].s.wait.is_some() {
            self.forget_wait(i);
            self.enqueue(i);
        }
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let owed = a.up.is_some() || !a.checked;
        if watchdog && owed {
            a.watchdog = signs.0;
        }
        if heartbeat && owed {
            a.heartbeat = signs.1;
        }
        if check {
            self.rearm(i, now);
        }
    }

    /// An instance beside others: new, or one that was on its way out.
    pub(crate) fn add_beside(&mut self, id: &ServiceId, now: Now) -> usize {
        let i = match self.index.get(id).copied() {
            Some(i) => {
                self.services[i].s.removed = false;
                i
            }
            None => self.add_instance(id, now),
        };
        let siblings =
            ServiceId::new(Arc::clone(&id.name), 1)..=ServiceId::new(Arc::clone(&id.name), u16::MAX);
        let others = self.index.range(siblings).any(|(other, j)| other != id && !self.services[*j].s.removed);
        self.services[i].s.newcomer = others;
        i
    }

    /// Starts an instance that was added.
    pub(crate) fn bring_up(&mut self, i: usize) {
        match &mut self.services[i].s.phase {
            Phase::Ending(e) => e.again = true,
            Phase::Stopped | Phase::Completed | Phase::GaveUp(_) | Phase::Waiting => self.wait_to_start(i),
            Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_) => {}
        }
        self.touch(i);
    }

    /// Stops an instance and forgets it.
    pub(crate) fn remove_instance(&mut self, i: usize, now: Now) {
        self.services[i].s.removed = true;
        self.touch(i);
        if self.services[i].s.has_process() {
            self.begin_stop(i, Cause::Removed, now);
        } else {
            self.vacate(i, now);
        }
    }
}

fn word(action: ReloadAction) -> &'static str {
    match action {
        ReloadAction::New => "new",
        ReloadAction::NewDisabled => "new, disabled",
        ReloadAction::Restart => "restart",
        ReloadAction::Live => "live",
        ReloadAction::Remove => "removed",
    }
}
