//! The second book: what was told to the core and what it did, kept without asking it, and the safety invariants over
//! both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::incidents::{Incidents, check_standby_stays};
use crate::trials::Trials;
use keepwell_core::effect::Record;
use keepwell_core::event::{EventKind, SpawnErrorKind, State};
use keepwell_core::spec::{Condition, Limit, UP_AFTER};
use keepwell_core::supervisor::ServiceStatus;
use keepwell_core::{Effect, Event, Input, Mono, Now, Role, RunId, ServiceId, Specs, Supervisor};

/// For so long after a sleep no failed check counts.
const AFTER_SLEEP: Duration = Duration::from_secs(5);

/// What was told of one run.
#[derive(Clone, PartialEq, Debug)]
struct Told {
    service: ServiceId,
    role: Role,
    asked: Mono,
    spawned: Option<Mono>,
    exited: bool,
    tree_gone: bool,
    /// The last step of the ladder that was taken.
    step: u32,
    /// The same step was taken again for what the main process had left behind.
    rest_asked: bool,
    killed: Option<Mono>,
}

impl Told {
    fn new(service: &ServiceId, role: Role, asked: Mono) -> Self {
        Self {
            asked,
            service: service.clone(),
            role,
            spawned: None,
            rest_asked: false,
            exited: false,
            tree_gone: role != Role::Main,
            step: 0,
            killed: None,
        }
    }

    fn over(&self) -> bool {
        self.exited && self.tree_gone
    }
}

/// A turn, as the world has seen it.
#[derive(Debug)]
pub struct Look<'a> {
    /// When.
    pub now: Now,
    /// The core after it.
    pub sup: &'a Supervisor,
    /// The settings that the core should go by.
    pub specs: &'a Specs,
    /// What it told.
    pub events: &'a [Event],
    /// It was an operator's command.
    pub command: bool,
}

/// What the checks of a turn look at.
struct Seen<'a> {
    now: Now,
    statuses: &'a [ServiceStatus],
    specs: &'a Specs,
    events: &'a [Event],
    /// It had a cause that no budget counts.
    by_hand: bool,
}

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ledger {
    runs: BTreeMap<RunId, Told>,
    /// Operators stopped these.
    pub stopped: BTreeSet<ServiceId>,
    /// Operators did not want these to wait for their dependencies.
    ignoring: BTreeSet<ServiceId>,
    /// Restarts by the policy alone.
    restarts: BTreeMap<ServiceId, Vec<Mono>>,
    /// When living runs were ended because of a probe.
    healed: Vec<Mono>,
    /// Told to have lost their heartbeats, and none has come since. After a daemon's death that is known of none.
    silent: BTreeSet<RunId>,
    /// The host is starved, and says so when it is asked.
    pub short_since: Option<Mono>,
    /// When the host woke from a sleep so long that every check was due in it.
    pub woke: Option<Mono>,
    /// The states before the turn.
    states: BTreeMap<ServiceId, State>,
    /// A hold, a reload or a fault moved the bound on parallel starts.
    pub parallel_excused: bool,
    /// The next turn is an operator's, or has another cause of its own.
    by_hand: bool,
    /// The guardian goes down.
    pub shutting_down: bool,
    incidents: Incidents,
    trials: Trials,
}

impl Ledger {
    /// Before the core hears it.
    pub fn tell(&mut self, now: Now, input: &Input) {
        self.trials.tell(input);
        match input {
            Input::Spawned { run, .. } | Input::Adopted { run, .. } => {
                if let Some(told) = self.runs.get_mut(run) {
                    told.spawned.get_or_insert(now.mono);
                }
            }
            Input::SpawnFailed { run, error } => {
                if let Some(told) = self.runs.get_mut(run) {
                    told.exited = true;
                    told.tree_gone = true;
                    if error.kind == SpawnErrorKind::Permanent {
                        self.restarts.remove(&told.service);
                    }
                }
            }
            Input::Exited { run, tree_empty, .. } => {
                if let Some(told) = self.runs.get_mut(run) {
                    told.exited = true;
                    told.tree_gone |= *tree_empty;
                }
            }
            Input::TreeEmpty { run } => {
                if let Some(told) = self.runs.get_mut(run) {
                    told.tree_gone = true;
                }
            }
            Input::AdoptionDone | Input::ProgramChanged(_) => {
                self.restarts.clear();
                self.by_hand = true;
            }
            Input::SignalFailed { .. }
            | Input::AskedToStop { .. }
            | Input::EvidenceTaken { .. }
            | Input::Host(_)
            | Input::HostLoad(_)
            | Input::Probe { .. }
            | Input::Ready { .. }
            | Input::Stopping { .. }
            | Input::Alive { .. }
            | Input::Beat { .. }
            | Input::Usage { .. }
            | Input::WatchdogTriggered { .. }
            | Input::ExtendTimeout { .. }
            | Input::SetWatchdog { .. } => {}
        }
    }

    /// A heartbeat came, whatever the core makes of it.
    pub fn beats(&mut self, run: RunId) {
        self.silent.remove(&run);
    }

    /// The daemon died in this turn: what was not acknowledged was not heard, and what was not sent was not done.
    pub fn fall_back(&mut self, before: Ledger) {
        let after = std::mem::replace(self, before);
        self.trials.cut_off(&after.trials);
    }

    /// Nobody can hold the budget against an operator's command or a reload.
    pub fn excuse(&mut self) {
        self.healed.clear();
        self.restarts.clear();
        self.by_hand = true;
    }

    /// These are started whatever they depend on.
    pub fn ignore_dependencies(&mut self, services: impl IntoIterator<Item = ServiceId>) {
        self.ignoring.extend(services);
    }

    /// What a new daemon knows of the operators' will and of old runs.
    pub fn begin_anew(&mut self, sup: &Supervisor, now: Now) {
        let statuses = sup.status(now);
        let by_operator = |s: &ServiceStatus| !s.desired_up && s.reason.starts_with("stopped by");
        self.stopped = statuses.into_iter().filter(by_operator).map(|s| s.id).collect();
        self.restarts.clear();
        self.states.clear();
        self.silent = self.runs.keys().copied().collect();
        // A new daemon begins its checks anew.
        self.woke = None;
        self.incidents.begin_anew(sup, now);
    }

    /// All runs are over, and forgotten.
    pub fn forget_runs(&mut self) {
        // What a budget has spent goes with the anchor.
        self.healed.clear();
        self.trials = Trials::default();
        self.runs.clear();
    }

    /// Whether the core was told that this run lives.
    fn lives(&self, id: &ServiceId) -> Option<&Told> {
        self.runs
            .values()
            .rev()
            .find(|t| t.service == *id && t.role == Role::Main && t.spawned.is_some() && !t.exited)
    }

    /// Looks at one turn: its events and effects, in their order.
    ///
    /// # Errors
    /// The invariant that was broken, in words.
    pub fn check(&mut self, turn: &Look<'_>, effects: &[Effect]) -> Result<(), String> {
        let Look { now, sup, specs, events, command } = *turn;
        effects.iter().for_each(|effect| self.trials.note(effect, specs));
        let by_hand = std::mem::take(&mut self.by_hand) || command;
        if events.is_empty() && effects.is_empty() {
            return Ok(());
        }
        let statuses = &sup.status(now);
        let seen = &Seen { now, statuses, specs, events, by_hand };
        self.incidents.check(sup, now, events)?;
        if !self.shutting_down {
            check_standby_stays(sup, now, events)?;
        }
        self.check_events(seen)?;
        // A turn tells of states last: whom the last of a budget ended stands behind those who found it spent.
        events.iter().for_each(|event| self.trials.held(event));
        let mut done = false;
        for effect in effects {
            if let Effect::Commit(record) = effect {
                if done && command {
                    return Err(format!("{record:?} is committed after other effects"));
                }
                self.note_record(record);
                continue;
            }
            done = true;
            self.check_effect(seen, effect)?;
        }
        self.states = statuses.iter().map(|s| (s.id.clone(), s.state)).collect();
        // What left the configuration and comes back begins anew.
        self.stopped.retain(|id| self.states.contains_key(id));
        self.check_parallel(statuses, specs)
    }

    /// An effect of a turn that was cut off, which was sent all the same.
    pub fn note_sent(&mut self, now: Now, effect: &Effect) {
        match effect {
            Effect::Spawn { run, service, role } => {
                self.runs.insert(*run, Told::new(service, *role, now.mono));
            }
            Effect::RunToStop { run, service, .. } => {
                self.runs.insert(*run, Told::new(service, Role::Stop, now.mono));
            }
            Effect::RunOnEvent { run, service, event } => {
                self.runs.insert(*run, Told::new(service, event.role(), now.mono));
            }
            Effect::Commit(record) => self.note_record(record),
            Effect::AskToStop { .. }
            | Effect::TakeEvidence { .. }
            | Effect::Signal { .. }
            | Effect::Kill { .. }
            | Effect::Freeze { .. }
            | Effect::Thaw { .. }
            | Effect::Probe { .. }
            | Effect::Look { .. }
            | Effect::LookAtHost
            | Effect::WatchProgram(_)
            | Effect::UnwatchProgram(_) => {}
        }
    }

    fn note_record(&mut self, record: &Record) {
        if let Record::Desired { service, up, .. } = record {
            if *up {
                self.stopped.remove(service);
            } else {
                self.stopped.insert(service.clone());
            }
        }
    }

    fn check_events(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen { statuses, specs, .. } = *seen;
        for event in seen.events {
            let Some(id) = &event.service else { continue };
            match &event.kind {
                EventKind::StopStepTaken { step, action } => {
                    let Some(told) = event.run.and_then(|run| self.runs.get_mut(&run)) else {
                        return Err(format!("{id}: {action} is a step for an unknown run"));
                    };
                    if *step == told.step && told.exited && !told.rest_asked {
                        told.rest_asked = true;
                    } else if *step <= told.step {
                        return Err(format!("{id}: step {step} after step {}", told.step));
                    }
                    told.step = *step;
                }
                EventKind::RestartScheduled { delay, .. } => {
                    let looping = statuses.iter().any(|s| s.id == *id && s.state == State::CrashLooping);
                    let policy = specs.services.get(&id.name).map(|s| &s.restart);
                    if let (true, Some(policy)) = (looping, policy) {
                        let shortest = policy.max_delay / 100 * (100 - u32::from(policy.jitter.min(100)));
                        if *delay < shortest {
                            return Err(format!("{id}: a trial of a crash loop after {delay:?}"));
                        }
                    }
                }
                EventKind::HeartbeatLost { .. } => self.silent.extend(event.run),
                EventKind::StateChanged { to: State::Stopping, reason, .. }
                    if ["its live check", "no heartbeat"].iter().any(|why| reason.starts_with(why)) =>
                {
                    let silent = event.run.is_none_or(|run| self.silent.contains(&run));
                    if reason.starts_with("no heartbeat") && !silent {
                        return Err(format!("{id}: it beats, and was ended for want of heartbeats"));
                    }
                    // What was started since has no check that was due in the sleep.
                    let told = event.run.and_then(|run| self.runs.get(&run));
                    let just_woke = self.woke.zip(told).is_some_and(|(woke, told)| {
                        seen.now.mono.since(woke) < AFTER_SLEEP && told.asked < woke
                    });
                    if reason.starts_with("its live check") && just_woke {
                        return Err(format!("{id}: it was ended by a check just after the host woke up"));
                    }
                    self.check_healed(seen, id)?;
                }
                EventKind::StateChanged { to, .. } => {
                    if matches!(to, State::Ready | State::Running | State::Completed | State::Degraded) {
                        self.excuse_dependents(specs, id);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A living run is ended for its health.
    fn check_healed(&mut self, seen: &Seen<'_>, id: &ServiceId) -> Result<(), String> {
        let now = seen.now.mono;
        self.trials.ended(id, now, seen.specs)?;
        self.healed.push(now);
        // What the host said a moment before it was short of something still holds.
        if self.short_since.is_some_and(|at| now.since(at) > Duration::from_secs(2)) {
            return Err(format!("{id}: it was ended for its health while the host was starved"));
        }
        if let Some(Limit { max, window }) = seen.specs.healing.limit {
            self.healed.retain(|at| now.since(*at) < window);
            if self.healed.len() > max as usize {
                let n = self.healed.len();
                return Err(format!("{id}: {n} were ended for their health, and the budget is {max}"));
            }
        }
        Ok(())
    }

    /// What waited for this one is retried at once when it is back.
    fn excuse_dependents(&mut self, specs: &Specs, on: &ServiceId) {
        self.restarts.retain(|id, _| {
            let spec = specs.services.get(&id.name);
            spec.is_some_and(|s| s.depends_on.iter().all(|d| d.on != on.name))
        });
    }

    fn check_effect(&mut self, seen: &Seen<'_>, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Spawn { run, service, role } => self.check_spawn(seen, *run, service, *role),
            Effect::RunToStop { run, service, .. } => {
                let beside =
                    |(_, t): (&RunId, &Told)| t.service == *service && t.role == Role::Main && !t.over();
                if !self.runs.iter().any(beside) {
                    return Err(format!("{effect:?}: there is nothing to stop"));
                }
                self.check_spawn(seen, *run, service, Role::Stop)
            }
            Effect::RunOnEvent { run, service, event } => {
                if self.lives(service).is_none() {
                    return Err(format!("{effect:?}: it does not run"));
                }
                self.check_spawn(seen, *run, service, event.role())
            }
            Effect::AskToStop { run, .. } => {
                if self.living(*run, effect)?.killed.is_some() {
                    return Err(format!("{effect:?} after a kill"));
                }
                self.check_stop_order(seen, *run)
            }
            Effect::Signal { run, .. } => {
                let told = self.living(*run, effect)?;
                let step =
                    |e: &Event| e.run == Some(*run) && matches!(e.kind, EventKind::StopStepTaken { .. });
                // An operator may send what he likes; the ladder may not.
                if !seen.events.iter().any(step) {
                    return Ok(());
                }
                if told.killed.is_some() {
                    return Err(format!("{effect:?} after a kill"));
                }
                self.check_stop_order(seen, *run)
            }
            Effect::Kill { run } => {
                if !self.runs.contains_key(run) {
                    // A stranger that an anchor named: it is ended, not kept.
                    return Ok(());
                }
                self.living(*run, effect)?.killed.get_or_insert(seen.now.mono);
                Ok(())
            }
            Effect::TakeEvidence { run, .. }
            | Effect::Freeze { run }
            | Effect::Thaw { run }
            | Effect::Probe { run, .. } => self.living(*run, effect).map(|_| ()),
            Effect::Look { service, .. } => match self.alive_of(service) {
                None => Ok(()),
                Some(run) => Err(format!("{service} waits for what is outside while its run {run} lives")),
            },
            Effect::Commit(_) | Effect::LookAtHost | Effect::WatchProgram(_) | Effect::UnwatchProgram(_) => {
                Ok(())
            }
        }
    }

    /// The main run of an instance that lives.
    fn alive_of(&self, service: &ServiceId) -> Option<RunId> {
        let lives = |told: &Told| told.service == *service && told.role == Role::Main && !told.over();
        self.runs.iter().find(|(_, told)| lives(told)).map(|(run, _)| *run)
    }

    fn living(&mut self, run: RunId, effect: &Effect) -> Result<&mut Told, String> {
        match self.runs.get_mut(&run) {
            Some(told) if !told.over() => Ok(told),
            Some(_) => Err(format!("{effect:?}: that run is over")),
            None => Err(format!("{effect:?}: there was never such a run")),
        }
    }

    fn check_spawn(
        &mut self,
        seen: &Seen<'_>,
        run: RunId,
        service: &ServiceId,
        role: Role,
    ) -> Result<(), String> {
        let Seen { now, statuses, specs, .. } = *seen;
        if self.runs.insert(run, Told::new(service, role, now.mono)).is_some() {
            return Err(format!("{run} is used twice"));
        }
        let Some(status) = statuses.iter().find(|s| s.id == *service) else {
            return Err(format!("{service} is started and is no service"));
        };
        if !matches!(role, Role::Main | Role::PreStart) {
            return Ok(());
        }
        // What it stands in for came up in the same turn: it is ended as soon as its start is confirmed.
        let stands_down = |e: &Event| {
            e.service.as_ref() == Some(service) && matches!(e.kind, EventKind::StandbyStopped { .. })
        };
        if seen.events.iter().any(stands_down) {
            return Ok(());
        }
        if self.stopped.contains(service) || !status.desired_up {
            return Err(format!("{service} is started, and an operator stopped it"));
        }
        if status.hold.is_some() {
            return Err(format!("{service} is started while it is held"));
        }
        if self.shutting_down {
            return Err(format!("{service} is started while keepwell goes down"));
        }
        let pre_start = specs.services.get(&service.name).is_some_and(|s| s.hooks.pre_start.is_some());
        if pre_start == (role == Role::PreStart) {
            self.check_dependencies(seen, service)?;
            if !seen.by_hand {
                self.check_budget(seen, service)?;
            }
        }
        Ok(())
    }

    fn check_dependencies(&self, seen: &Seen<'_>, id: &ServiceId) -> Result<(), String> {
        let Seen { now, statuses, specs, .. } = *seen;
        let Some(spec) = specs.services.get(&id.name) else { return Ok(()) };
        if self.ignoring.contains(id) {
            return Ok(());
        }
        for dep in spec.depends_on.iter().filter(|d| d.required) {
            // Further instances may be newcomers, which nobody waits for.
            let on = ServiceId::new(dep.on.clone(), 1);
            let Some(status) = statuses.iter().find(|s| s.id == on) else { continue };
            let lives = self.lives(&on);
            let checked =
                specs.services.get(&on.name).is_some_and(|s| s.ready != keepwell_core::spec::Readiness::None);
            let old = |t: &Told| now.mono.since(t.asked) >= UP_AFTER;
            let met = match (dep.condition, status.state) {
                (_, State::Completed) => true,
                (Condition::Completed, _) => false,
                (Condition::Started, _) => lives.is_some(),
                (Condition::Ready, State::Degraded) if status.reason.starts_with("not ready any more") => {
                    false
                }
                (Condition::Ready, State::Ready | State::Degraded | State::Stopping) => lives.is_some(),
                (Condition::Ready, State::Running | State::Paused) => {
                    lives.is_some_and(|t| checked || old(t))
                }
                (
                    Condition::Ready,
                    State::Stopped
                    | State::Waiting
                    | State::Starting
                    | State::BackingOff
                    | State::CrashLooping
                    | State::GaveUp,
                ) => false,
            };
            if !met {
                return Err(format!("{id} is started, and {on} is {}", status.state));
            }
        }
        Ok(())
    }

    fn check_budget(&mut self, seen: &Seen<'_>, id: &ServiceId) -> Result<(), String> {
        let Seen { now, specs, events, .. } = *seen;
        let at_once = events.iter().any(|e| {
            e.service.as_ref() == Some(id)
                && matches!(e.kind, EventKind::RestartScheduled { delay, .. } if delay.is_zero())
        });
        let before = self.states.get(id).copied();
        if before != Some(State::BackingOff) && !at_once {
            return Ok(());
        }
        let Some(Limit { max, window }) = specs.services.get(&id.name).and_then(|s| s.restart.limit) else {
            return Ok(());
        };
        let restarts = self.restarts.entry(id.clone()).or_default();
        restarts.push(now.mono);
        restarts.retain(|at| now.mono.since(*at) < window);
        if restarts.len() > max as usize {
            return Err(format!("{id}: {} restarts in {window:?}, and its limit is {max}", restarts.len()));
        }
        Ok(())
    }

    fn check_stop_order(&self, seen: &Seen<'_>, run: RunId) -> Result<(), String> {
        let Seen { now, specs, .. } = *seen;
        if !self.shutting_down {
            return Ok(());
        }
        let Some(told) = self.runs.get(&run).filter(|t| t.role == Role::Main && t.step <= 1) else {
            return Ok(());
        };
        for (name, spec) in &specs.services {
            if spec.depends_on.iter().all(|d| d.on != told.service.name) {
                continue;
            }
            for other in self.runs.values().filter(|t| t.service.name == *name && t.role == Role::Main) {
                let stuck = other.killed.is_some_and(|at| now.mono.since(at) >= Duration::from_secs(10));
                if !other.over() && !stuck && other.spawned.is_some() {
                    return Err(format!("{} is stopped before {}", told.service, other.service));
                }
            }
        }
        Ok(())
    }

    fn check_parallel(&self, statuses: &[ServiceStatus], specs: &Specs) -> Result<(), String> {
        let Some(max) = specs.max_parallel_starts else { return Ok(()) };
        let starting = statuses.iter().filter(|s| s.state == State::Starting).count();
        if !self.parallel_excused && starting > max as usize {
            return Err(format!("{starting} services are starting, and max_parallel_starts is {max}"));
        }
        Ok(())
    }
}
