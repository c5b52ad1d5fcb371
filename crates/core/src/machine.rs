//! What makes one machine of many services: slots and numbers, the queue of services whose surroundings changed, and the
//! end of a turn, when all that is derived is brought up to date.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::command::By;
use crate::effect::{Effect, Hold};
use crate::event::{Event, EventKind, State};
use crate::graph::{Edge, Graph};
use crate::id::{RunId, ServiceId};
use crate::incident::IncidentEnd;
use crate::service::{
    Alive, Cause, Facet, GaveUp, KILL_AGAIN, Origin, Phase, Service, ServiceSnapshot, Stage,
};
use crate::spec::{Condition, Kind, ServiceSpec, Specs};
use crate::strain::Strain;
use crate::supervisor::{Census, GuardianSnapshot, Supervisor};
use crate::time::{Mono, Now, Wall};

/// Numbers are leased in blocks, so that a new run does not change the guardian's piece of the snapshot each time.
const LEASE: u64 = 1024;

/// Starts that are decided at once, so that the first programs start while the next are being decided, and nobody who asks
/// waits for a thousand starts.
const STARTS_A_TURN: usize = 32;

impl Supervisor {
    pub(crate) fn empty(specs: Specs, guardian: GuardianSnapshot) -> Self {
        Self {
            specs,
            no_spec: ServiceSpec::default(),
            next_id: guardian.lease,
            guardian,
            services: Vec::new(),
            vacant: Vec::new(),
            index: BTreeMap::new(),
            graph: Graph::default(),
            runs: BTreeMap::new(),
            probes: BTreeMap::new(),
            blind_until: Mono(0),
            strain: Strain::default(),
            timers: BTreeSet::new(),
            queue: VecDeque::new(),
            touched: Vec::new(),
            parked: BTreeSet::new(),
            park_ticket: 0,
            census: Census::default(),
            effects: VecDeque::new(),
            starts: 0,
            events: VecDeque::new(),
            dirty: VecDeque::new(),
            removed: VecDeque::new(),
            guardian_dirty: true,
            unborn: false,
            adoption: None,
        }
    }

    /// The settings of an instance: those of its present run, else those in force.
    pub(crate) fn spec(&self, i: usize) -> &ServiceSpec {
        let service = &self.services[i];
        if let Some(spec) = &service.s.spec {
            return spec;
        }
        self.specs.services.get(&service.id.name).unwrap_or(&self.no_spec)
    }

    /// Whether `up` starts a service: the file's word, unless an operator has said otherwise.
    pub(crate) fn is_enabled(&self, name: &str) -> bool {
        let file = || self.specs.services.get(name).is_some_and(|s| s.enabled);
        self.guardian.enabled.get(name).copied().unwrap_or_else(file)
    }

    /// How many instances a service is to have.
    pub(crate) fn instances_of(&self, name: &str, spec: &ServiceSpec) -> u16 {
        self.guardian.scaled.get(name).copied().unwrap_or(spec.instances).max(1)
    }

    /// Every instance that the configuration asks for.
    pub(crate) fn wanted_instances(&self) -> Vec<ServiceId> {
        let mut ids = Vec::new();
        for (name, spec) in &self.specs.services {
            ids.extend((1..=self.instances_of(name, spec)).map(|n| ServiceId::new(Arc::clone(name), n)));
        }
        ids
    }

    /// Makes an instance, down for now. The graph must be built after.
    pub(crate) fn add_instance(&mut self, id: &ServiceId, now: Now) -> usize {
        let service = Service {
            id: id.clone(),
            group: usize::MAX,
            s: ServiceSnapshot { since: now.wall, ..ServiceSnapshot::default() },
            facet: Facet::default(),
            watches: None,
            timer: None,
            parked: None,
            dirty: false,
            queued: false,
            vacant: false,
        };
        let i = match self.vacant.pop() {
            Some(i) => {
                self.services[i] = service;
                i
            }
            None => {
                self.services.push(service);
                self.services.len() - 1
            }
        };
        self.index.insert(id.clone(), i);
        i
    }

    pub(crate) fn apply_persisted(
        &mut self,
        i: usize,
        desired: Option<&(bool, By, Wall)>,
        hold: Option<&Hold>,
        now: Now,
    ) {
        let enabled = self.is_enabled(&self.services[i].id.name);
        let s = &mut self.services[i].s;
        s.desired = enabled;
        if let Some((up, by, at)) = desired {
            s.desired &= *up;
            s.stopped_by = (!up).then(|| by.clone());
            s.last_command = Some((by.clone(), if *up { "start" } else { "stop" }.into(), *at));
        }
        if let Some(hold) = hold {
            s.hold_until = hold.stop_at.map(|at| {
                let left = u64::try_from(at.0.saturating_sub(now.wall.0)).unwrap_or(0);
                now.mono + core::time::Duration::from_millis(left)
            });
            s.hold = Some(hold.clone());
        }
    }

    /// Builds the graph and lets every wanted instance try to start, in the order of waves.
    pub(crate) fn begin(&mut self, now: Now) {
        self.build_graph();
        for group in self.graph.start_order() {
            for i in self.graph.groups[group].instances.clone() {
                if self.services[i].s.desired {
                    self.services[i].s.phase = Phase::Waiting;
                }
                self.touch(i);
                self.enqueue(i);
            }
        }
        self.settle(now);
    }

    /// Builds the graph anew, with the counts of all groups.
    pub(crate) fn build_graph(&mut self) {
        let leaving = self.services.iter().filter(|s| !s.vacant).filter_map(|s| {
            let spec = s.s.spec.as_deref()?;
            Some((&s.id.name, spec))
        });
        self.graph = Graph::new(&self.specs, leaving);
        self.census = Census::default();
        for i in self.index.values() {
            let service = &mut self.services[*i];
            // A removed instance without settings of its own can only be one whose run is over.
            let Some(group) = self.graph.group(&service.id.name) else { continue };
            service.group = group;
            self.graph.groups[group].instances.push(*i);
            self.graph.groups[group].counts.change(Facet::default(), service.facet);
            self.census.change(Facet::default(), service.facet);
        }
    }

    pub(crate) fn new_id(&mut self) -> u64 {
        if self.next_id >= self.guardian.lease {
            self.guardian.lease = self.next_id + LEASE;
            self.guardian_dirty = true;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    pub(crate) fn new_run(&mut self, i: usize) -> RunId {
        let run = RunId(self.new_id());
        self.runs.insert(run, i);
        run
    }

    pub(crate) fn tell(&mut self, now: Now, i: Option<usize>, run: Option<RunId>, kind: EventKind) {
        let opened = i.and_then(|i| self.note_failure(i, run, &kind, now));
        let incident = i.and_then(|i| Some(self.services[i].s.incident.as_ref()?.id));
        self.tell_in(now, i, run, incident, kind);
        if let Some(opened) = opened {
            self.tell_in(now, i, run, incident, opened);
        }
    }

    pub(crate) fn tell_in(
        &mut self,
        now: Now,
        i: Option<usize>,
        run: Option<RunId>,
        incident: Option<u64>,
        kind: EventKind,
    ) {
        let service = i.map(|i| self.services[i].id.clone());
        self.events.push_back(Event { at: now, service, run, incident, kind });
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.starts += usize::from(matches!(effect, Effect::Spawn { .. }));
        self.effects.push_back(effect);
    }

    /// Looks at this instance again before the turn ends, or in the next one if this one starts many.
    pub(crate) fn enqueue(&mut self, i: usize) {
        if !self.services[i].queued {
            self.services[i].queued = true;
            self.queue.push_back(i);
        }
    }

    /// Brings what others see of an instance up to date, and tells those that it concerns. To be called after every
    /// change of it.
    pub(crate) fn touch(&mut self, i: usize) {
        self.touched.push(i);
        if self.services[i].parked.is_some() && self.services[i].s.phase != Phase::Waiting {
            self.unpark(i);
        }
        if self.services[i].s.wait.is_some() && self.services[i].s.phase != Phase::Waiting {
            self.forget_wait(i);
        }
        let new = self.facet(i);
        let old = core::mem::replace(&mut self.services[i].facet, new);
        if old == new {
            return;
        }
        self.census.change(old, new);
        let group = self.services[i].group;
        self.graph.groups[group].counts.change(old, new);
        let seen = |f: Facet| (f.counted, f.started, f.up, f.well, f.completed, f.absent);
        if seen(old) != seen(new) {
            for at in 0..self.graph.groups[group].dependents.len() {
                self.enqueue_group(self.graph.groups[group].dependents[at]);
            }
        }
        if old.stopping && !new.stopping {
            for at in 0..self.graph.groups[group].deps.len() {
                self.enqueue_group(self.graph.groups[group].deps[at].group);
            }
        }
    }

    fn enqueue_group(&mut self, group: usize) {
        for at in 0..self.graph.groups[group].instances.len() {
            self.enqueue(self.graph.groups[group].instances[at]);
        }
    }

    /// What others see of an instance.
    pub(crate) fn facet(&self, i: usize) -> Facet {
        let service = &self.services[i];
        let s = &service.s;
        let none = Facet::default();
        let held = s.hold.is_some();
        let oneshot = self.spec(i).kind == Kind::Oneshot;
        let mut facet = match &s.phase {
            Phase::Stopped => Facet { absent: true, kept: s.stopped_by.is_some(), ..none },
            Phase::Completed => {
                let done = oneshot;
                Facet { started: done, up: done, well: done, completed: done, absent: !done, ..none }
            }
            Phase::GaveUp(why) => {
                Facet { absent: true, failed: true, kept: *why == GaveUp::ConfigError, ..none }
            }
            Phase::Waiting => {
                let absent = held || self.waits_in_vain(i);
                Facet { absent, kept: held, active: service.parked.is_some() || s.wait.is_some(), ..none }
            }
            Phase::BackingOff { .. } => Facet { absent: held, active: !held, kept: held, ..none },
            Phase::CrashLooping { .. } => Facet { absent: true, active: !held, kept: held, ..none },
            Phase::PreStart | Phase::Spawning { .. } => {
                Facet { active: true, starting: !held, absent: s.tracker.is_looping(), ..none }
            }
            Phase::Alive(a) => {
                let Alive { up, checked, leaving, .. } = a;
                let frozen = s.hold.as_ref().is_some_and(|h| h.freeze);
                let starting = up.is_none() && *checked && !held;
                let absent = up.is_none() && s.tracker.is_looping();
                let up = up.is_some() && leaving.is_none() && !frozen && (!oneshot || *checked);
                Facet { active: true, started: true, up, well: up && !a.unready(), absent, starting, ..none }
            }
            Phase::Ending(e) => {
                // A tree that outlives its kill holds nobody else up.
                let stuck =
                    matches!(e.stage, Stage::Killed { since, again } if again.since(since) > KILL_AGAIN);
                Facet { active: true, stopping: !stuck, absent: !s.desired, ..none }
            }
        };
        if s.removed || s.newcomer {
            let Facet { stopping, starting, active, .. } = facet;
            let kept = facet.kept && !s.removed;
            let failed = facet.failed && !s.removed;
            return Facet { stopping, starting, active, kept, failed, ..none };
        }
        facet.counted = true;
        facet
    }

    /// Waits for something that is not coming by itself.
    pub(crate) fn waits_in_vain(&self, i: usize) -> bool {
        self.blocking(i).any(|edge| self.graph.groups[edge.group].counts.in_vain > 0)
    }

    /// The dependencies that hold a start back.
    pub(crate) fn blocking(&self, i: usize) -> impl Iterator<Item = &Edge> {
        let service = &self.services[i];
        let deps: &[Edge] =
            if service.s.ignore_dependencies { &[] } else { &self.graph.groups[service.group].deps };
        deps.iter().filter(|edge| {
            let counts = &self.graph.groups[edge.group].counts;
            !counts.meet(edge.condition) && (edge.required || !counts.meet_or_absent(edge.condition))
        })
    }

    /// The dependencies that a running instance misses. One that had to complete has done its part.
    pub(crate) fn missing(&self, i: usize) -> impl Iterator<Item = &Edge> {
        self.graph.groups[self.services[i].group].deps.iter().filter(|edge| {
            edge.required
                && edge.condition != Condition::Completed
                && !self.graph.groups[edge.group].counts.meet(edge.condition)
        })
    }

    /// The first dependency that it is bound to and misses.
    fn missing_bound(&self, i: usize) -> Option<Arc<str>> {
        if self.services[i].s.ignore_dependencies {
            return None;
        }
        let deps = &self.graph.groups[self.services[i].group].deps;
        let missing = |e: &&Edge| {
            let counts = &self.graph.groups[e.group].counts;
            // What it can start without, it can run without; and nothing is ended because another is not ready for a while.
            e.bind && !counts.lives(e.condition) && (e.required || !counts.meet_or_absent(e.condition))
        };
        deps.iter().find(missing).map(|e| Arc::clone(&self.graph.groups[e.group].name))
    }

    /// The surroundings of an instance changed: does it start, degrade, recover, stop?
    fn evaluate(&mut self, i: usize, now: Now) {
        if self.services[i].vacant {
            return;
        }
        let missing = self.missing(i).next().map(|e| Arc::clone(&self.graph.groups[e.group].name));
        let s = &mut self.services[i].s;
        match &s.phase {
            Phase::Stopped | Phase::Completed | Phase::GaveUp(_) => {}
            Phase::Waiting => self.try_start(i, now),
            Phase::BackingOff { .. } | Phase::CrashLooping { .. } => {
                let before = core::mem::replace(&mut s.lost, missing.clone());
                if let (Some(back), None) = (before, missing)
                    && s.hold.is_none()
                {
                    s.origin = Origin::Back(back);
                    s.phase = Phase::Waiting;
                    self.try_start(i, now);
                }
                self.touch(i);
            }
            Phase::PreStart | Phase::Spawning { .. } | Phase::Alive(_) => {
                if let Some(dep) = self.missing_bound(i) {
                    self.services[i].s.origin = Origin::Bound(Arc::clone(&dep));
                    self.begin_stop(i, Cause::Bound(dep), now);
                } else {
                    self.set_lost(i, missing, now);
                }
            }
            Phase::Ending(_) => self.advance(i, now),
        }
    }

    fn set_lost(&mut self, i: usize, missing: Option<Arc<str>>, now: Now) {
        let s = &mut self.services[i].s;
        if s.lost == missing {
            return;
        }
        let run = s.main_run();
        let alive = matches!(s.phase, Phase::Alive(_));
        let before = core::mem::replace(&mut s.lost, missing);
        if let Phase::Alive(a) = &mut s.phase {
            a.mended = false;
        }
        let after = self.services[i].s.lost.clone();
        if alive && before.is_some() != after.is_some() {
            let lost = after.map(|name| self.group_in_words(&name));
            self.tell(now, Some(i), run, EventKind::DependencyChanged { lost });
        }
        self.touch(i);
    }

    /// Ends a turn: lets everything react to everything, then brings the derived up to date.
    pub(crate) fn settle(&mut self, now: Now) {
        loop {
            self.react(now);
            let touched = core::mem::take(&mut self.touched);
            if touched.is_empty() {
                return;
            }
            for i in &touched {
                self.conclude(*i, now);
            }
            for i in touched {
                self.stand_in(i, now);
            }
        }
    }

    fn react(&mut self, now: Now) {
        // While old runs are being told of, nobody knows yet what is up: nothing starts, stops or degrades.
        while self.adoption.is_none() && self.starts < STARTS_A_TURN {
            if let Some(i) = self.queue.pop_front() {
                self.services[i].queued = false;
                self.evaluate(i, now);
                let service = &self.services[i];
                if service.s.state(self.spec(i).kind == Kind::Oneshot) != service.s.shown {
                    self.touched.push(i);
                }
            } else if let Some(i) = self.next_parked() {
                self.unpark(i);
                self.try_start(i, now);
            } else {
                break;
            }
        }
    }

    /// The timer, the word for its state and the snapshot of one instance that was changed.
    fn conclude(&mut self, i: usize, now: Now) {
        if self.services[i].vacant {
            return;
        }
        let spec = self.spec(i);
        let oneshot = spec.kind == Kind::Oneshot;
        self.retime(i);
        let service = &mut self.services[i];
        if !service.dirty {
            service.dirty = true;
            self.dirty.push_back(i);
        }
        let state = service.s.state(oneshot);
        // One that is still to be looked at may be about to start; then waiting would be told for nothing.
        if state != service.s.shown && self.adoption.is_none() && !service.queued {
            let from = core::mem::replace(&mut service.s.shown, state);
            service.s.since = now.wall;
            let run = service.s.main_run();
            let mended = matches!(&service.s.phase, Phase::Alive(a) if a.mended);
            let reason = match (from, state) {
                // Why it was started is an old story by now.
                (State::Degraded, State::Running | State::Ready) if mended => "its checks pass again".into(),
                (State::Degraded, State::Running | State::Ready) => "all that it depends on is back".into(),
                _ => self.reason(i),
            };
            self.tell(now, Some(i), run, EventKind::StateChanged { from, to: state, reason });
        }
        self.settle_incident(i, now);
    }

    /// Its entry in the timer queue. Alone, for what a new daemon need not know: the snapshot stays as it is.
    pub(crate) fn retime(&mut self, i: usize) {
        let reset_after = self.spec(i).restart.reset_after;
        let service = &mut self.services[i];
        let timer = service.s.next_deadline(reset_after).map(|(at, _)| at);
        if timer != service.timer {
            if let Some(at) = core::mem::replace(&mut service.timer, timer) {
                self.timers.remove(&(at, i));
            }
            if let Some(at) = timer {
                self.timers.insert((at, i));
            }
        }
    }

    /// Forgets an instance that is no longer wanted and of which nothing runs.
    pub(crate) fn vacate(&mut self, i: usize, now: Now) {
        self.services[i].s.phase = Phase::Stopped;
        self.touch(i);
        let from = self.services[i].s.shown;
        if from != State::Stopped {
            let reason = "removed".into();
            self.tell(now, Some(i), None, EventKind::StateChanged { from, to: State::Stopped, reason });
        }
        self.close_incident(i, IncidentEnd::Removed, now);
        let service = &mut self.services[i];
        service.vacant = true;
        if let Some(at) = service.timer.take() {
            self.timers.remove(&(at, i));
        }
        let watching = core::mem::take(&mut service.s.watching);
        let (id, group) = (service.id.clone(), service.group);
        let instances = &mut self.graph.groups[group].instances;
        instances.retain(|at| *at != i);
        // Its last facet says no more than that nothing of it is there.
        let facet = core::mem::take(&mut self.services[i].facet);
        self.graph.groups[group].counts.change(facet, Facet::default());
        self.census.change(facet, Facet::default());
        self.index.remove(&id);
        if watching {
            self.effect(Effect::UnwatchProgram(id.clone()));
        }
        self.removed.push_back(id);
        self.vacant.push(i);
    }

    /// The first that `max_parallel_starts` held back and would no longer.
    fn next_parked(&self) -> Option<usize> {
        let (_, i) = self.parked.first()?;
        (!self.starts_are_full()).then_some(*i)
    }

    pub(crate) fn starts_are_full(&self) -> bool {
        self.specs.max_parallel_starts.is_some_and(|max| self.census.starting >= max.max(1) as usize)
    }

    pub(crate) fn park(&mut self, i: usize) {
        if self.services[i].parked.is_none() {
            self.park_ticket += 1;
            self.services[i].parked = Some(self.park_ticket);
            self.parked.insert((self.park_ticket, i));
        }
    }

    pub(crate) fn unpark(&mut self, i: usize) {
        if let Some(ticket) = self.services[i].parked.take() {
            self.parked.remove(&(ticket, i));
        }
    }
}

impl Census {
    pub(crate) fn change(&mut self, old: Facet, new: Facet) {
        let step = |n: &mut usize, was: bool, is: bool| match (was, is) {
            (false, true) => *n += 1,
            (true, false) => *n = n.saturating_sub(1),
            (true, true) | (false, false) => {}
        };
        step(&mut self.starting, old.starting, new.starting);
        step(&mut self.active, old.active, new.active);
        step(&mut self.kept, old.kept, new.kept);
        step(&mut self.failed, old.failed, new.failed);
    }
}
