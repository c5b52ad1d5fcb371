//! Operators' commands. Each is checked as a whole, then committed, then done: the records stand before all other
//! effects.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::command::{By, Command, CommandError, Plan, PlannedAction};
use crate::effect::{Effect, Record};
use crate::event::EventKind;
use crate::id::ServiceId;
use crate::service::{Cause, Origin, Phase};
use crate::spec::To;
use crate::supervisor::Supervisor;
use crate::time::Now;
use crate::words;

impl Supervisor {
    pub(crate) fn obey(&mut self, now: Now, by: &By, command: &Command) -> Result<Plan, CommandError> {
        match command {
            Command::Start { services, ignore_dependencies } => {
                self.obey_start(now, by, services, *ignore_dependencies)
            }
            Command::Stop { services, with_dependents } => {
                self.obey_stop(now, by, services, *with_dependents)
            }
            Command::Restart { services } => self.obey_restart(now, by, services),
            Command::Signal { services, signal, to } => self.obey_signal(now, by, services, *signal, *to),
            Command::Pause { services, freeze, stop_after } => {
                self.obey_pause(now, by, services, *freeze, *stop_after)
            }
            Command::Resume { services } => self.obey_resume(now, by, services),
            Command::Enable { services } => self.obey_enable(now, by, services, Switch::On),
            Command::Disable { services } => self.obey_enable(now, by, services, Switch::Off),
            Command::Scale { service, instances } => self.obey_scale(now, by, service, *instances),
            Command::Shutdown => Ok(self.obey_shutdown(now, by)),
        }
    }

    /// The instances that a name means.
    pub(crate) fn find(&self, name: &str) -> Result<Vec<usize>, CommandError> {
        let there = |i: &&usize| !self.services[**i].s.removed;
        if let Some(group) = self.graph.group(name) {
            let group = &self.graph.groups[group];
            let mut found: Vec<usize> = group.instances.iter().filter(there).copied().collect();
            found.sort_by_key(|i| self.services[*i].id.instance);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let one = name.rsplit_once('@').and_then(|(name, instance)| {
            let id = ServiceId::new(name, instance.parse().ok()?);
            self.index.get(&id).filter(there).copied()
        });
        match one {
            Some(i) => Ok(Vec::from([i])),
            None => Err(CommandError::UnknownService {
                name: name.into(),
                known: self.names().iter().map(ToString::to_string).collect(),
            }),
        }
    }

    pub(crate) fn find_all(&self, names: &[String]) -> Result<BTreeSet<usize>, CommandError> {
        let mut all = BTreeSet::new();
        for name in names {
            all.extend(self.find(name)?);
        }
        Ok(all)
    }

    fn refuse_when_going_down(&self) -> Result<(), CommandError> {
        if self.guardian.shutting_down { Err(CommandError::ShuttingDown) } else { Ok(()) }
    }

    /// These instances, what they depend on first.
    fn in_start_order(&self, chosen: &BTreeSet<usize>) -> Vec<usize> {
        let order = self.graph.start_order();
        let rank: BTreeMap<usize, usize> = order.into_iter().enumerate().map(|(at, g)| (g, at)).collect();
        let mut chosen: Vec<usize> = chosen.iter().copied().collect();
        chosen.sort_by_key(|i| (rank.get(&self.services[*i].group).copied(), self.services[*i].id.instance));
        chosen
    }

    fn in_stop_order(&self, chosen: &BTreeSet<usize>) -> Vec<usize> {
        let mut order = self.in_start_order(chosen);
        order.reverse();
        order
    }

    fn groups_of(&self, chosen: &BTreeSet<usize>) -> BTreeSet<usize> {
        chosen.iter().map(|i| self.services[*i].group).collect()
    }

    fn obey_start(
        &mut self,
        now: Now,
        by: &By,
        services: &[String],
        ignore_dependencies: bool,
    ) -> Result<Plan, CommandError> {
        self.refuse_when_going_down()?;
        let targets = self.find_all(services)?;
        let mut plan = Plan::default();
        let mut chosen = targets.clone();
        let names: BTreeSet<Arc<str>> =
            targets.iter().map(|i| Arc::clone(&self.services[*i].id.name)).collect();
        chosen.extend(self.index.values().filter(|i| {
            let with = self.services[**i].s.stopped_by.as_ref().and_then(By::stopped_with);
            with.is_some_and(|with| names.contains(with))
        }));
        if !ignore_dependencies {
            self.choose_dependencies(&mut chosen, &mut plan.notes);
        }
        let order = self.in_start_order(&chosen);
        for i in &order {
            self.commit_up(*i, by, now);
        }
        for i in order {
            let action = self.start_by_command(i, by, targets.contains(&i), ignore_dependencies, now);
            self.commanded(i, by, "start", now);
            plan.actions.push((self.services[i].id.clone(), action));
        }
        Ok(plan)
    }

    /// Adds what these require and nobody holds down; what an operator stopped is named instead.
    fn choose_dependencies(&self, chosen: &mut BTreeSet<usize>, notes: &mut Vec<String>) {
        let mut open: Vec<usize> = chosen.iter().copied().collect();
        while let Some(i) = open.pop() {
            let deps = &self.graph.groups[self.services[i].group].deps;
            for edge in deps.iter().filter(|e| e.required) {
                for dep in &self.graph.groups[edge.group].instances {
                    let service = &self.services[*dep];
                    let s = &service.s;
                    if chosen.contains(dep) || s.removed {
                        continue;
                    }
                    if let (Some(by), false) = (&s.stopped_by, s.desired) {
                        let (id, dep) = (&self.services[i].id, &service.id);
                        notes
                            .push(format!("{id} waits for {dep}, which is stopped by {by}: start {dep} too"));
                    } else if !s.desired || matches!(s.phase, Phase::GaveUp(_)) {
                        chosen.insert(*dep);
                        open.push(*dep);
                    }
                }
            }
        }
    }

    /// Records that an operator wants it up, and not held.
    fn commit_up(&mut self, i: usize, by: &By, now: Now) {
        let service = self.services[i].id.clone();
        if self.services[i].s.hold.is_some() {
            self.effect(Effect::Commit(Record::Paused { service: service.clone(), hold: None }));
        }
        self.effect(Effect::Commit(Record::Desired { service, up: true, by: by.clone(), at: now.wall }));
    }

    fn start_by_command(&mut self, i: usize, by: &By, named: bool, ignore: bool, now: Now) -> PlannedAction {
        let was_held = self.release(i, now);
        let s = &mut self.services[i].s;
        s.desired = true;
        s.stopped_by = None;
        s.stands_in = None;
        s.begin_ladder_anew();
        s.tracker.reset();
        s.restarts = 0;
        s.ignore_dependencies = named && ignore;
        let action = match &mut s.phase {
            Phase::PreStart | Phase::Spawning { .. } | Phase::Alive(_) => {
                if was_held {
                    PlannedAction::Resume
                } else {
                    PlannedAction::Nothing
                }
            }
            Phase::Ending(e) => {
                e.again = true;
                s.origin = Origin::Operator(format!("started by {by}"));
                PlannedAction::Start
            }
            Phase::Completed if !named => PlannedAction::Nothing,
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. } => {
                s.origin = Origin::Operator(format!("started by {by}"));
                self.wait_to_start(i);
                PlannedAction::Start
            }
        };
        self.touch(i);
        action
    }

    fn obey_stop(
        &mut self,
        now: Now,
        by: &By,
        services: &[String],
        with_dependents: bool,
    ) -> Result<Plan, CommandError> {
        let targets = self.find_all(services)?;
        let mut plan = Plan::default();
        let mut stops: BTreeMap<usize, By> = targets.iter().map(|i| (*i, by.clone())).collect();
        for root in self.groups_of(&targets) {
            let with = by.with(&self.graph.groups[root].name);
            for group in self.graph.dependents(&BTreeSet::from([root]), |e| with_dependents || e.bind) {
                for i in &self.graph.groups[group].instances {
                    let s = &self.services[*i].s;
                    if group != root && s.desired && s.phase != Phase::Completed && !s.removed {
                        stops.entry(*i).or_insert_with(|| with.clone());
                    }
                }
            }
        }
        let chosen: BTreeSet<usize> = stops.keys().copied().collect();
        self.note_survivors(&chosen, &mut plan.notes);
        let order = self.in_stop_order(&chosen);
        for i in &order {
            let service = self.services[*i].id.clone();
            if self.services[*i].s.hold.is_some() {
                self.effect(Effect::Commit(Record::Paused { service: service.clone(), hold: None }));
            }
            let by = stops[i].clone();
            self.effect(Effect::Commit(Record::Desired { service, up: false, by, at: now.wall }));
        }
        for i in order {
            let s = &mut self.services[i].s;
            s.desired = false;
            s.stopped_by = stops.remove(&i);
            s.stands_in = None;
            s.hold = None;
            s.hold_until = None;
            s.ignore_dependencies = false;
            let action = match s.phase {
                Phase::Stopped | Phase::Completed | Phase::GaveUp(_) => PlannedAction::Nothing,
                Phase::Waiting
                | Phase::BackingOff { .. }
                | Phase::CrashLooping { .. }
                | Phase::PreStart
                | Phase::Spawning { .. }
                | Phase::Alive(_)
                | Phase::Ending(_) => PlannedAction::Stop,
            };
            if let Phase::Ending(e) = &mut s.phase {
                e.again = false;
            }
            self.commanded(i, by, "stop", now);
            self.go_down(i, Cause::Stop, now);
            plan.actions.push((self.services[i].id.clone(), action));
        }
        Ok(plan)
    }

    /// Names the running dependents that are left without what is being stopped.
    fn note_survivors(&self, stopped: &BTreeSet<usize>, notes: &mut Vec<String>) {
        let groups = self.groups_of(stopped);
        for group in &groups {
            let name = &self.graph.groups[*group].name;
            for dependent in &self.graph.groups[*group].dependents {
                for i in &self.graph.groups[*dependent].instances {
                    if !stopped.contains(i) && matches!(self.services[*i].s.phase, Phase::Alive(_)) {
                        let id = &self.services[*i].id;
                        notes.push(format!("{id} depends on {name} and runs on"));
                    }
                }
            }
        }
    }

    fn obey_restart(&mut self, now: Now, by: &By, services: &[String]) -> Result<Plan, CommandError> {
        self.refuse_when_going_down()?;
        let targets = self.find_all(services)?;
        let mut chosen = targets.clone();
        for group in self.graph.dependents(&self.groups_of(&targets), |e| e.bind) {
            let bound = self.graph.groups[group].instances.iter();
            chosen.extend(bound.filter(|i| self.services[**i].s.has_process()));
        }
        // A second instance of a service that is restarted in part is no dependent of it.
        let groups = self.groups_of(&targets);
        chosen.retain(|i| targets.contains(i) || !groups.contains(&self.services[*i].group));
        let mut plan = Plan::default();
        self.note_survivors(&chosen, &mut plan.notes);
        for i in self.in_start_order(&targets) {
            self.commit_up(i, by, now);
        }
        for i in self.in_stop_order(&chosen) {
            let id = self.services[i].id.clone();
            if !targets.contains(&i) {
                let dep = self.graph.groups[self.services[i].group].deps.iter().find(|e| e.bind);
                let dep = dep
                    .map_or_else(|| Arc::clone(&id.name), |e| Arc::clone(&self.graph.groups[e.group].name));
                self.services[i].s.origin = Origin::Bound(Arc::clone(&dep));
                self.begin_stop(i, Cause::Bound(dep), now);
                plan.actions.push((id, PlannedAction::Restart));
                continue;
            }
            self.release(i, now);
            let s = &mut self.services[i].s;
            s.desired = true;
            s.stopped_by = None;
            s.stands_in = None;
            s.begin_ladder_anew();
            s.tracker.reset();
            s.restarts = 0;
            s.origin = Origin::Operator(format!("restarted by {by}"));
            self.commanded(i, by, "restart", now);
            let action = if self.services[i].s.has_process() {
                self.stop_and_start(i, Cause::Restart, now);
                PlannedAction::Restart
            } else {
                self.wait_to_start(i);
                PlannedAction::Start
            };
            plan.actions.push((id, action));
        }
        Ok(plan)
    }

    /// Ends what runs and starts it again when it is gone.
    pub(crate) fn stop_and_start(&mut self, i: usize, cause: Cause, now: Now) {
        self.begin_stop(i, cause, now);
        if let Phase::Ending(e) = &mut self.services[i].s.phase {
            e.again = true;
        }
        self.touch(i);
    }

    fn obey_signal(
        &mut self,
        now: Now,
        by: &By,
        services: &[String],
        signal: i32,
        to: To,
    ) -> Result<Plan, CommandError> {
        let targets = self.find_all(services)?;
        if !(1..=64).contains(&signal) {
            return Err(CommandError::Invalid(format!("{signal} is no signal: they go from 1 to 64")));
        }
        for i in &targets {
            if self.services[*i].s.main().is_none() {
                return Err(CommandError::NotRunning(self.services[*i].id.clone()));
            }
        }
        let mut plan = Plan::default();
        for i in targets {
            if let Some((run, _)) = self.services[i].s.main() {
                self.effect(Effect::Signal { run, signal, to });
                self.commanded(i, by, &format!("signal {}", words::signal(signal)), now);
                plan.actions.push((self.services[i].id.clone(), PlannedAction::Signal));
            }
        }
        Ok(plan)
    }

    fn obey_enable(
        &mut self,
        now: Now,
        by: &By,
        services: &[String],
        switch: Switch,
    ) -> Result<Plan, CommandError> {
        let targets = self.find_all(services)?;
        let enabled = switch == Switch::On;
        let mut plan = Plan::default();
        for group in self.groups_of(&targets) {
            let name = self.graph.groups[group].name.to_string();
            let same = self.is_enabled(&name) == enabled;
            self.guardian.enabled.insert(name.clone(), enabled);
            self.guardian_dirty = true;
            self.effect(Effect::Commit(Record::Enabled { service: name, enabled }));
            let action = if same { PlannedAction::Nothing } else { PlannedAction::Update };
            for i in self.graph.groups[group].instances.clone() {
                self.commanded(i, by, if enabled { "enable" } else { "disable" }, now);
                plan.actions.push((self.services[i].id.clone(), action));
            }
        }
        Ok(plan)
    }

    fn obey_scale(&mut self, now: Now, by: &By, service: &str, instances: u16) -> Result<Plan, CommandError> {
        let there = self.find(service)?;
        let Some(spec) = self.specs.services.get(service) else {
            return Err(CommandError::Invalid(format!("scale a service, not one instance: {service}")));
        };
        let stop = "to have none, stop it";
        if instances == 0 {
            return Err(CommandError::Invalid(format!("{service} has at least 1 instance; {stop}")));
        }
        let grows = there.len() < usize::from(instances);
        if grows {
            self.refuse_when_going_down()?;
        }
        let before = self.instances_of(service, spec);
        let name =
            there.first().map_or_else(|| Arc::from(service), |i| Arc::clone(&self.services[*i].id.name));
        self.guardian.scaled.insert(service.into(), instances);
        self.guardian_dirty = true;
        self.effect(Effect::Commit(Record::Scaled { service: service.into(), instances }));
        let stopped_by = self.all_stopped_by(&there);
        let mut plan = Plan::default();
        let mut added = Vec::new();
        for n in 1..=instances {
            let id = ServiceId::new(Arc::clone(&name), n);
            if self.index.get(&id).is_none_or(|i| self.services[*i].s.removed) {
                added.push(self.add_beside(&id, now));
            }
        }
        self.build_graph();
        for i in added {
            let id = self.services[i].id.clone();
            self.services[i].s.origin = Origin::Operator(format!("scaled to {instances} by {by}"));
            self.commanded(i, by, &format!("scale to {instances}"), now);
            let mut action = PlannedAction::Start;
            if let Some(by) = &stopped_by {
                let s = &mut self.services[i].s;
                s.desired = false;
                s.stopped_by = Some(by.clone());
                let record = Record::Desired { service: id.clone(), up: false, by: by.clone(), at: now.wall };
                self.effect(Effect::Commit(record));
                action = PlannedAction::Nothing;
            } else {
                self.services[i].s.desired = true;
                self.bring_up(i);
            }
            self.touch(i);
            plan.actions.push((id, action));
        }
        let leaving: Vec<usize> =
            there.into_iter().filter(|i| self.services[*i].id.instance > instances).collect();
        for i in leaving {
            plan.actions.push((self.services[i].id.clone(), PlannedAction::Stop));
            self.remove_instance(i, now);
        }
        if let Some(i) = self.index.get(&ServiceId::new(name, 1)).copied() {
            self.commanded(i, by, &format!("scale {before} to {instances}"), now);
        }
        Ok(plan)
    }

    /// Who stopped them, if all are stopped.
    fn all_stopped_by(&self, instances: &[usize]) -> Option<By> {
        let mut by = None;
        for i in instances {
            let s = &self.services[*i].s;
            if s.desired {
                return None;
            }
            by = s.stopped_by.clone().or(by);
        }
        by
    }

    fn obey_shutdown(&mut self, now: Now, by: &By) -> Plan {
        let mut plan = Plan::default();
        if !self.guardian.shutting_down {
            self.guardian.shutting_down = true;
            self.guardian_dirty = true;
            let reason = format!("asked by {by}");
            self.tell(now, None, None, EventKind::GuardianStopping { reason });
        }
        let all: BTreeSet<usize> = self.index.values().copied().collect();
        for i in self.in_stop_order(&all) {
            if self.services[i].s.has_process() {
                plan.actions.push((self.services[i].id.clone(), PlannedAction::Stop));
            }
            self.go_down(i, Cause::Shutdown, now);
        }
        plan
    }

    pub(crate) fn commanded(&mut self, i: usize, by: &By, what: &str, now: Now) {
        self.services[i].s.last_command = Some((by.clone(), what.into(), now.wall));
        self.tell(now, Some(i), None, EventKind::Commanded { by: by.clone(), what: what.into() });
        self.touch(i);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}
