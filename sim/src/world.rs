//! The world: one clock, one host, one daemon that may die at any effect, and everything that is planned to go wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use keepwell_core::effect::Record;
use keepwell_core::event::EventKind;
use keepwell_core::spec::Purpose;
use keepwell_core::supervisor::{Outcome, Persisted};
use keepwell_core::{
    By, Command, CommandError, Effect, Event, HostLoad, Input, Mono, Now, Plan, ProbeId, Role, RunId,
    ServiceId, Specs, Supervisor, Wall,
};

pub use crate::deed::{Deed, Director, Saying};
use crate::host::Host;
use crate::ledger::{Ledger, Look};
use crate::plant::Plant;
use crate::program::ProbeTrouble;

/// A process of this age passes every check that goes on, unless it never starts up.
const OLD: Duration = Duration::from_secs(120);

/// Everything.
pub struct World<D> {
    /// Both clocks.
    pub now: Now,
    /// The anchor and the processes.
    pub host: Host,
    /// The living daemon.
    pub sup: Option<Supervisor>,
    /// What is on disk.
    pub store: Persisted,
    /// Who chooses behaviours.
    pub director: D,
    /// What is planned from outside.
    pub script: BTreeMap<(Mono, u64), Deed>,
    /// The second book.
    pub ledger: Ledger,
    /// All events, for timelines.
    pub events: Vec<Event>,
    /// Answers to commands, for timelines.
    pub answers: Vec<(Now, Command, Result<Plan, CommandError>)>,
    /// What is printed when a case is replayed.
    pub trace: Option<Vec<String>>,
    /// A bug that was planted.
    pub plant: Plant,
    /// The first invariant that was broken.
    pub broken: Option<String>,
    /// A `Deed::Pause` was reached.
    pub paused: bool,
    notes: BTreeMap<(Mono, u64), Input>,
    ticket: u64,
    dies: Option<(usize, Duration)>,
    reborn_at: Option<Mono>,
    disk_full: bool,
    outside_gone: bool,
    checks_fail: bool,
    late: Duration,
    doubled: Option<Duration>,
    swapped: bool,
    seed: u64,
}

/// What a turn begins with.
struct Turn {
    /// The second book before it, if it will be cut off.
    before: Option<Ledger>,
    /// A new configuration is put first.
    config: Option<Specs>,
    /// An operator asked.
    command: bool,
}

/// What comes next.
enum Next {
    Deed,
    Happening,
    Report,
    Note,
    Deadline,
    Rebirth,
}

impl<D: Director> World<D> {
    /// A world in which `up` was just run.
    pub fn new(specs: Specs, director: D, seed: u64, plant: Plant, trace: bool) -> Self {
        let mut world = Self {
            now: Now { mono: Mono(1_000_000_000), wall: Wall(1_700_000_000_000) },
            host: Host::new(specs),
            sup: None,
            store: Persisted::default(),
            director,
            script: BTreeMap::new(),
            ledger: Ledger::default(),
            events: Vec::new(),
            answers: Vec::new(),
            trace: trace.then(Vec::new),
            plant,
            broken: None,
            paused: false,
            notes: BTreeMap::new(),
            ticket: 0,
            dies: None,
            reborn_at: None,
            disk_full: false,
            outside_gone: false,
            checks_fail: false,
            late: Duration::ZERO,
            doubled: None,
            swapped: false,
            seed,
        };
        world.birth();
        world
    }

    /// Plans a deed.
    pub fn plan(&mut self, at: Mono, deed: Deed) {
        self.ticket += 1;
        self.script.insert((at, self.ticket), deed);
    }

    /// The daemon's state, unless it is dead.
    pub fn status(&self) -> Vec<keepwell_core::supervisor::ServiceStatus> {
        self.sup.as_ref().map(|s| s.status(self.now)).unwrap_or_default()
    }

    fn next(&self) -> Option<(Mono, Next)> {
        let mut best: Option<(Mono, Next)> = None;
        let mut offer = |at: Option<Mono>, what: Next| {
            if let Some(at) = at
                && best.as_ref().is_none_or(|(b, _)| at < *b)
            {
                best = Some((at, what));
            }
        };
        offer(self.host.agenda.first().map(|(at, _, _)| *at), Next::Happening);
        offer(self.script.first_key_value().map(|((at, _), _)| *at), Next::Deed);
        if let Some(sup) = &self.sup {
            let late = self.late;
            offer(self.host.reports.front().map(|(at, _)| *at + late), Next::Report);
            offer(self.notes.first_key_value().map(|((at, _), _)| *at), Next::Note);
            offer(sup.next_deadline().map(|(at, _)| at), Next::Deadline);
        }
        offer(self.reborn_at, Next::Rebirth);
        best
    }

    /// Delivers the next thing, if it comes before `until`. False when there is none, or an invariant is broken.
    pub fn step(&mut self, until: Mono) -> bool {
        let Some((at, what)) = self.next() else { return false };
        if at > until || self.broken.is_some() || self.paused {
            return false;
        }
        self.advance_to(at);
        match what {
            Next::Deed => {
                if let Some((_, deed)) = self.script.pop_first() {
                    self.log(|| format!("· {deed:?}"));
                    self.deed(deed);
                }
            }
            Next::Happening => {
                if let Some((_, _, what)) = self.host.agenda.pop_first() {
                    self.log(|| format!("· {what:?}"));
                    if let Some(note) = self.host.happen(self.now.mono, what) {
                        self.note(Duration::from_millis(1), note);
                    }
                }
            }
            Next::Report => self.hear_report(),
            Next::Note => {
                if let Some((_, input)) = self.notes.pop_first() {
                    self.hear(input);
                }
            }
            Next::Deadline => {
                let plant = self.plant;
                self.turn(None, |sup, now| sup.handle_timeout(plant.clock(now)));
                let due = self.sup.as_ref().and_then(Supervisor::next_deadline);
                // At 0 stand starts beyond those of one turn.
                if let Some((at, why)) = due.filter(|(at, _)| *at <= self.now.mono && *at > Mono(0)) {
                    self.fail(format!("{why:?} at {} is still due after handle_timeout", at.0));
                }
            }
            Next::Rebirth => self.rebirth(),
        }
        self.broken.is_none()
    }

    /// Steps on until a time.
    pub fn run_until(&mut self, until: Mono) {
        while self.step(until) {}
        if self.broken.is_none() && !self.paused {
            self.advance_to(until);
        }
    }

    fn advance_to(&mut self, at: Mono) {
        let passed = at.since(self.now.mono);
        if at > self.now.mono {
            self.now.mono = at;
            // Whole milliseconds of the boot clock, so that the wall clock does not drift.
            let before = self.now.mono.0 - u64::try_from(passed.as_nanos()).unwrap_or(0);
            let ms = self.now.mono.0 / 1_000_000 - before / 1_000_000;
            self.now.wall.0 += i64::try_from(ms).unwrap_or(0);
        }
    }

    /// Writes down that an invariant is broken.
    pub fn fail(&mut self, what: String) {
        self.log(|| format!("!! {what}"));
        self.broken.get_or_insert(what);
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>14.6}  {}", self.now.mono.0 as f64 / 1e9, line()));
        }
    }

    /// No fault that is planned for "next" comes any more.
    pub fn calm_down(&mut self) {
        self.log(|| "calm".to_string());
        self.dies = None;
        self.late = Duration::ZERO;
        self.doubled = None;
        self.swapped = false;
        self.disk_full = false;
        self.outside_gone = false;
        self.checks_fail = false;
        self.ledger.short_since = None;
    }

    fn note(&mut self, after: Duration, input: Input) {
        if self.sup.is_some() {
            self.ticket += 1;
            self.notes.insert((self.now.mono + after, self.ticket), input);
        }
    }

    fn deed(&mut self, deed: Deed) {
        match deed {
            Deed::Command(by, command) => self.command(&by, &command),
            Deed::Reload(specs) => {
                if self.sup.is_none() {
                    return;
                }
                self.ledger.excuse();
                self.ledger.parallel_excused = true;
                let put = specs.clone();
                let specs = self.plant.specs(specs);
                self.turn(Some(put), |sup, now| {
                    let planned = sup.plan_reload(&specs);
                    assert_eq!(sup.reload(now, specs), planned, "what was planned is not what was done");
                });
            }
            Deed::DaemonDies { after, away } => self.dies = Some((after, away)),
            Deed::AnchorDies => {
                let config = self.host.config.take();
                self.host.die();
                self.host.config = config;
                self.notes.clear();
                self.ledger.forget_runs();
                self.reborn_at = None;
                self.birth();
            }
            Deed::ClockStep(ms) => self.now.wall.0 += ms,
            Deed::Suspend(time) => {
                self.now.mono = self.now.mono + time;
                if time > Duration::from_secs(60) {
                    self.ledger.woke = Some(self.now.mono);
                }
                self.now.wall.0 += i64::try_from(time.as_millis()).unwrap_or(0);
            }
            Deed::DiskFull(full) => self.disk_full = full,
            Deed::OutsideGone(gone) => self.outside_gone = gone,
            Deed::ChecksFail(fail) => self.checks_fail = fail,
            Deed::Host(event) => self.hear(Input::Host(event)),
            Deed::Starved(starved) => {
                self.ledger.short_since = starved.then_some(self.now.mono);
            }
            Deed::ProgramChanges(id) => self.hear(Input::ProgramChanged(id)),
            Deed::LateReports(by) => self.late = by,
            Deed::DoubledReport(after) => self.doubled = Some(after),
            Deed::SwappedReports => self.swapped = true,
            Deed::Says(id, saying) => {
                let Some(run) = self.main_run(&id) else { return };
                self.hear(match saying {
                    Saying::Broken => Input::WatchdogTriggered { run },
                    Saying::Extend(by) => Input::ExtendTimeout { run, by },
                    Saying::Watchdog(interval) => Input::SetWatchdog { run, interval },
                });
            }
            Deed::Pause => self.paused = true,
        }
    }

    /// The main process of an instance, as the host knows it.
    #[must_use]
    pub fn main_run(&self, id: &ServiceId) -> Option<RunId> {
        let main =
            |(_, p): &(&RunId, &crate::host::Process)| p.service == *id && p.role == Role::Main && p.alive;
        self.host.processes.iter().find(main).map(|(run, _)| *run)
    }

    fn command(&mut self, by: &By, command: &Command) {
        if self.sup.is_none() {
            return;
        }
        self.ledger.excuse();
        match command {
            Command::Start { services, ignore_dependencies: true } => {
                let sup = self.sup.as_ref();
                let ids = services.iter().filter_map(|s| sup?.resolve(s).ok()).flatten();
                let ids: Vec<ServiceId> = ids.collect();
                self.ledger.ignore_dependencies(ids);
            }
            Command::Shutdown => self.ledger.shutting_down = true,
            Command::Pause { .. } | Command::Scale { .. } => self.ledger.parallel_excused = true,
            Command::Start { .. }
            | Command::Stop { .. }
            | Command::Restart { .. }
            | Command::Signal { .. }
            | Command::Resume { .. }
            | Command::Enable { .. }
            | Command::Disable { .. } => {}
        }
        let before = self.book_before();
        let turn = Turn { before, config: None, command: true };
        let answer = self.turn_from(turn, |sup, now| sup.command(now, by, command));
        if let Some(answer) = answer {
            self.log(|| format!("  answer {answer:?}"));
            self.answers.push((self.now, command.clone(), answer));
        }
    }

    fn hear_report(&mut self) {
        self.late = Duration::ZERO;
        if self.swapped && self.host.reports.len() > 1 {
            self.swapped = false;
            self.host.reports.swap(0, 1);
        }
        let Some((_, input)) = self.host.reports.front().cloned() else { return };
        if let Some(after) = self.doubled.take() {
            self.note(after, input.clone());
        }
        let dies = self.dies.is_some();
        self.hear(input);
        // What was not acknowledged is told to the next daemon.
        if !(dies && self.sup.is_none()) {
            self.host.reports.pop_front();
        }
    }

    fn hear(&mut self, input: Input) {
        if self.sup.is_none() {
            return;
        }
        let before = self.book_before();
        if let Input::Beat { run } = &input {
            self.ledger.beats(*run);
        }
        let input = self.plant.input(input, self.now.mono, &self.host);
        self.log(|| format!("→ {input:?}"));
        self.ledger.tell(self.now, &input);
        self.turn_from(Turn { before, config: None, command: false }, |sup, now| sup.handle(now, input));
    }

    fn book_before(&self) -> Option<Ledger> {
        self.dies.is_some().then(|| self.ledger.clone())
    }

    fn turn<R>(&mut self, config: Option<Specs>, f: impl FnOnce(&mut Supervisor, Now) -> R) -> Option<R> {
        let before = self.book_before();
        self.turn_from(Turn { before, config, command: false }, f)
    }

    /// One turn of the engine: the core's answer, the pieces, the effects; whole, or cut off where the daemon dies.
    fn turn_from<R>(&mut self, turn: Turn, f: impl FnOnce(&mut Supervisor, Now) -> R) -> Option<R> {
        let Turn { before, config, command } = turn;
        let now = self.now;
        let sup = self.sup.as_mut()?;
        let answer = f(sup, now);
        sup.check_invariants();
        let pieces: Vec<_> = std::iter::from_fn(|| sup.poll_snapshot()).collect();
        let effects: Vec<_> = std::iter::from_fn(|| sup.poll_effect()).collect();
        let events: Vec<_> = std::iter::from_fn(|| sup.poll_event()).collect();
        let pieces: Vec<_> = pieces.into_iter().filter(|p| self.plant.piece(p)).collect();
        let effects = self.plant.effects(effects);
        for event in &events {
            let service = event.service.as_ref().map(ToString::to_string).unwrap_or_default();
            self.log(|| format!("    {service}: {}", crate::words::event(&event.kind)));
            if let EventKind::IncidentOpened { id, .. } = event.kind {
                self.store.incidents = self.store.incidents.max(id);
            }
        }
        let no_specs = Specs::default();
        let specs = config.as_ref().or(self.host.config.as_ref()).unwrap_or(&no_specs);
        if let Some(sup) = &self.sup {
            let look = Look { now: self.now, sup, specs, events: &events, command };
            if let Err(broken) = self.ledger.check(&look, &effects) {
                self.fail(broken);
            }
        }
        self.events.extend(events);
        let messages = usize::from(config.is_some()) + pieces.len() + effects.len();
        let dies = self.dies.take();
        let mut left = dies.map_or(usize::MAX, |(after, _)| after % (messages + 1));
        let mut sent = || {
            let send = left > 0;
            left = left.saturating_sub(1);
            send
        };
        if let Some(config) = config
            && sent()
        {
            self.host.config = Some(config);
        }
        for piece in pieces {
            if sent() {
                self.put(piece);
            }
        }
        if let Some(before) = before {
            self.ledger.fall_back(before);
        }
        for effect in effects {
            if sent() {
                self.log(|| format!("  ← {effect:?}"));
                if dies.is_some() {
                    self.ledger.note_sent(self.now, &effect);
                }
                self.effect(effect);
            }
        }
        if let Some((_, away)) = dies {
            // Pieces that were cut off disagree for a moment about what is being started.
            self.ledger.parallel_excused = true;
            self.log(|| "daemon dies".to_string());
            self.sup = None;
            self.notes.clear();
            self.reborn_at = Some(self.now.mono + away);
            return None;
        }
        Some(answer)
    }

    fn put(&mut self, piece: keepwell_core::supervisor::Snapshot) {
        use keepwell_core::supervisor::Snapshot;
        match piece {
            Snapshot::Guardian(guardian) => self.host.guardian = Some(guardian),
            Snapshot::Service(id, piece) => {
                self.host.pieces.insert(id, piece);
            }
            Snapshot::Removed(id) => {
                self.host.pieces.remove(&id);
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        let now = self.now.mono;
        match effect {
            Effect::Commit(record) => self.commit(record),
            Effect::Spawn { run, service, role } => {
                let behaviour = self.director.behaviour(&service, role, now);
                if let Err(broken) = self.host.spawn(now, run, &service, role, behaviour) {
                    self.fail(broken);
                }
            }
            Effect::RunToStop { run, service, .. } => {
                let behaviour = self.director.behaviour(&service, Role::Stop, now);
                if let Err(broken) = self.host.spawn(now, run, &service, Role::Stop, behaviour) {
                    self.fail(broken);
                }
            }
            Effect::RunOnEvent { run, service, event } => {
                let behaviour = self.director.behaviour(&service, event.role(), now);
                if let Err(broken) = self.host.spawn(now, run, &service, event.role(), behaviour) {
                    self.fail(broken);
                }
            }
            Effect::AskToStop { run, step, .. } => {
                if let Some(outcome) = self.host.ask(now, run) {
                    self.note(Duration::from_millis(5), Input::AskedToStop { run, step, outcome });
                }
            }
            Effect::TakeEvidence { run, service, incident, notes: _, timeout } => {
                let name = format!("{}-{service}-{run}", incident.unwrap_or(0));
                // Now and then a word is lost, late, or no good.
                let (after, outcome) = match run.0 % 8 {
                    5 if self.director.troubles_evidence() => return,
                    6 if self.director.troubles_evidence() => (timeout * 2, Ok(name)),
                    7 if self.director.troubles_evidence() => (timeout / 4, Err("disk full".into())),
                    _ => (Duration::from_millis(5), Ok(name)),
                };
                self.note(after, Input::EvidenceTaken { run, outcome });
            }
            Effect::Signal { run, signal, to } => self.host.signal(now, run, signal, to),
            Effect::Kill { run } => self.host.kill(now, run),
            Effect::Freeze { run } => self.host.freeze(now, run, true),
            Effect::Thaw { run } => self.host.freeze(now, run, false),
            Effect::Probe { probe, listed, run, timeout, .. } => {
                self.probe(probe, listed, run, timeout);
            }
            Effect::Look { probe, service, .. } => {
                let outcome =
                    if self.outside_gone { Outcome::Fail(self.missing(&service)) } else { Outcome::Pass };
                self.note(Duration::from_millis(20), Input::Probe { probe, outcome });
            }
            Effect::LookAtHost => {
                let memory_stalls = self.ledger.short_since.map(|_| 60);
                let load = HostLoad { memory_stalls, ..HostLoad::default() };
                self.note(Duration::ZERO, Input::HostLoad(load));
            }
            Effect::WatchProgram(_) | Effect::UnwatchProgram(_) => {}
        }
    }

    fn missing(&self, id: &ServiceId) -> String {
        let spec = self.host.config.as_ref().and_then(|c| c.services.get(&id.name));
        let names = spec.and_then(|s| s.wait_for.as_ref()).map(|w| w.names.join(", "));
        format!("{}: connection refused", names.unwrap_or_default())
    }

    fn commit(&mut self, record: Record) {
        if self.disk_full {
            return;
        }
        match record {
            Record::Desired { service, up, by, at } => {
                self.store.desired.insert(service, (up, by, at));
            }
            Record::Enabled { service, enabled } => {
                self.store.enabled.insert(service, enabled);
            }
            Record::Paused { service, hold: Some(hold) } => {
                self.store.holds.insert(service, hold);
            }
            Record::Paused { service, hold: None } => {
                self.store.holds.remove(&service);
            }
            Record::Scaled { service, instances } => {
                self.store.scaled.insert(service, instances);
            }
        }
    }

    fn probe(&mut self, probe: ProbeId, listed: Option<usize>, run: RunId, timeout: Duration) {
        let now = self.now.mono;
        let mut trouble = None;
        let mut outcome = Outcome::Fail("connection refused".into());
        let name = self.host.processes.get(&run).map(|p| p.service.name.clone());
        let specs = self.host.config.as_ref().zip(name).and_then(|(c, name)| c.services.get(&name));
        let check = specs.zip(listed).and_then(|(spec, n)| spec.probes.get(n));
        let starts_up = check.is_some_and(|c| c.purpose == Purpose::Startup);
        if let Some(process) = self.host.processes.get_mut(&run) {
            process.probes += 1;
            let b = &process.behaviour;
            let age = now.since(process.started);
            let sick = listed.is_some() && b.sick.is_some_and(|(from, until)| age >= from && age < until);
            // Nobody restarts what only is not ready any more, so that must end by itself.
            let old = listed.is_some() && age > OLD;
            let shared = self.checks_fail && listed.is_some() && !starts_up;
            let ready = b.ready_in.map_or(old && !starts_up, |after| age >= after) && !sick && !shared;
            let flaps = b.flaps > 0 && process.probes % b.flaps == 0 && !old;
            if ready && !flaps && process.alive && !process.frozen {
                outcome = Outcome::Pass;
            }
            trouble = b.probe_trouble.filter(|_| process.probes % 2 == 1 && !old);
        }
        let soon = Duration::from_millis(5);
        match trouble {
            None => self.note(soon, Input::Probe { probe, outcome }),
            Some(ProbeTrouble::Lost) => {}
            Some(ProbeTrouble::Late) => {
                self.note(timeout + Duration::from_secs(3), Input::Probe { probe, outcome });
            }
            Some(ProbeTrouble::Unknown) => {
                let outcome = Outcome::Unknown("no descriptor is free".into());
                self.note(soon, Input::Probe { probe, outcome });
            }
        }
    }

    /// `up`: nothing runs, nothing is known but what is on disk.
    fn birth(&mut self) {
        let specs = self.plant.specs(self.host.config.clone().unwrap_or_default());
        self.sup = Some(Supervisor::new(specs, self.store.clone(), self.seed, self.now));
        self.ledger.shutting_down = false;
        self.adopt_will();
        self.turn(None, |_, _| ());
    }

    /// A new daemon beside the old anchor.
    fn rebirth(&mut self) {
        self.reborn_at = None;
        self.log(|| "daemon is reborn".to_string());
        let Some(guardian) = self.host.guardian.clone() else {
            self.host.pieces.clear();
            self.birth();
            return;
        };
        let specs = self.plant.specs(self.host.config.clone().unwrap_or_default());
        let sup = Supervisor::restore(specs, guardian, self.host.pieces.clone(), self.now);
        self.sup = Some(sup);
        self.adopt_will();
        let live: Vec<RunId> = self.host.processes.keys().copied().collect();
        for run in live {
            let pid = u32::try_from(run.0 % 30_000).unwrap_or(1) + 1;
            self.hear(Input::Adopted { run, pid });
        }
        while self.sup.is_some() && self.broken.is_none() && !self.host.reports.is_empty() {
            self.hear_report();
        }
        self.hear(Input::AdoptionDone);
    }

    fn adopt_will(&mut self) {
        if let Some(sup) = &self.sup {
            self.ledger.begin_anew(sup, self.now);
        }
    }
}
