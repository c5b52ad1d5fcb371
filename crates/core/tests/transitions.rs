//! Every state meets every input: the whole table, as a page that a reviewer can read. A row's cell is the state that
//! follows and the effects, in short; `·` is neither.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::event::{ExitStatus, SpawnError, SpawnErrorKind, State};
use keepwell_core::spec::{
    Asking, Condition, Dependency, Hook, Hooks, Limit, Policy, Readiness, RestartPolicy, StopAction,
    StopStep, To,
};
use keepwell_core::supervisor::{Outcome, Persisted};
use keepwell_core::{
    By, Command, Effect, HostEvent, HostLoad, Input, Mono, Now, ProbeId, Role, RunId, ServiceId, ServiceSpec,
    Specs, Supervisor, Wall,
};

/// A supervisor, its clock, and the runs of `web` that it asked for.
struct Story {
    sup: Supervisor,
    now: Now,
    main: RunId,
    hook: RunId,
    probe: ProbeId,
    said: Vec<String>,
}

impl Story {
    fn new(web: ServiceSpec) -> Self {
        let db =
            ServiceSpec { ready: Readiness::Signalled { timeout: Duration::from_secs(3600) }, ..exact() };
        let services = BTreeMap::from([(Arc::from("db"), db), (Arc::from("web"), web)]);
        let specs = Specs { services, ..Specs::default() };
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(0) };
        let sup = Supervisor::new(specs, Persisted::default(), 1, now);
        let mut story =
            Self { sup, now, main: RunId(0), hook: RunId(0), probe: ProbeId(0), said: Vec::new() };
        story.listen();
        story
    }

    fn id(&self) -> ServiceId {
        ServiceId::new("web", 1)
    }

    fn listen(&mut self) {
        self.sup.check_invariants();
        while let Some(effect) = self.sup.poll_effect() {
            let word = match effect {
                Effect::Spawn { run, service, role } if &*service.name == "web" => {
                    if role == Role::Main {
                        self.main = run;
                    } else {
                        self.hook = run;
                    }
                    format!("spawn {role:?}")
                }
                Effect::RunToStop { run, .. } => {
                    self.hook = run;
                    "run its command".into()
                }
                Effect::RunOnEvent { run, event, .. } => {
                    self.hook = run;
                    format!("tell its hook of {event}")
                }
                Effect::AskToStop { .. } => "ask by HTTP".into(),
                Effect::TakeEvidence { .. } => "take evidence".into(),
                Effect::Spawn { run, .. } => {
                    self.sup.handle(self.now, Input::Spawned { run, pid: 2 });
                    continue;
                }
                Effect::Signal { signal, .. } => format!("signal {signal}"),
                Effect::Kill { run } if run == self.hook => "kill hook".into(),
                Effect::Kill { .. } => "kill".into(),
                Effect::Freeze { .. } => "freeze".into(),
                Effect::Thaw { .. } => "thaw".into(),
                Effect::Probe { probe, .. } => {
                    self.probe = probe;
                    "probe".into()
                }
                Effect::Look { probe, .. } => {
                    self.probe = probe;
                    "look".into()
                }
                Effect::LookAtHost => {
                    self.sup.handle(self.now, Input::HostLoad(HostLoad::default()));
                    continue;
                }
                Effect::WatchProgram(_) => "watch".into(),
                Effect::UnwatchProgram(_) => "unwatch".into(),
                Effect::Commit(_) => "commit".into(),
            };
            self.said.push(word);
        }
        while self.sup.poll_event().is_some() {}
        while self.sup.poll_snapshot().is_some() {}
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono = self.now.mono + time;
        self.sup.handle_timeout(self.now);
        self.listen();
        if let Some((at, why)) = self.sup.next_deadline() {
            assert!(at > self.now.mono, "{why:?} is still due");
        }
    }

    fn hear(&mut self, input: Input) {
        self.sup.handle(self.now, input);
        self.listen();
    }

    fn order(&mut self, command: Command) -> bool {
        let accepted = self.sup.command(self.now, &By("anna".into()), &command).is_ok();
        self.listen();
        accepted
    }

    fn spawned(&mut self) {
        let run = self.main;
        self.hear(Input::Spawned { run, pid: 1 });
    }

    fn exited(&mut self, code: i32, tree_empty: bool) {
        let run = self.main;
        self.hear(Input::Exited { run, status: ExitStatus::Code(code), tree_empty });
    }

    fn state(&self) -> State {
        self.sup.status(self.now).into_iter().find(|s| s.id == self.id()).expect("web is there").state
    }

    /// Becomes ready at once.
    fn ready(mut self) -> Self {
        self.spawned();
        self.pass(Duration::ZERO);
        let probe = self.probe;
        self.hear(Input::Probe { probe, outcome: Outcome::Pass });
        self
    }
}

fn exact() -> ServiceSpec {
    ServiceSpec { restart: RestartPolicy { jitter: 0, ..RestartPolicy::default() }, ..ServiceSpec::default() }
}

fn probed() -> ServiceSpec {
    let ready = Readiness::Probe { period: Duration::from_secs(1), timeout: Duration::from_secs(30) };
    ServiceSpec { ready, ..exact() }
}

fn web() -> Vec<String> {
    vec!["web".into()]
}

fn stop() -> Command {
    Command::Stop { services: web(), with_dependents: false }
}

fn pause(freeze: bool) -> Command {
    Command::Pause { services: web(), freeze, stop_after: None }
}

fn needs_db() -> Vec<Dependency> {
    vec![Dependency { on: Arc::from("db"), condition: Condition::Ready, required: true, bind: false }]
}

fn hooked(hooks: Hooks) -> ServiceSpec {
    ServiceSpec { hooks, ..probed() }
}

fn hook() -> Option<Hook> {
    Some(Hook { timeout: Duration::from_secs(5), may_fail: false })
}

fn step(action: StopAction) -> StopStep {
    StopStep { action, to: To::Main, wait: Duration::from_secs(10) }
}

fn term() -> StopStep {
    step(StopAction::Signal(15))
}

fn request() -> StopStep {
    step(StopAction::Http(Asking { id: 1, words: "HTTP POST http://127.0.0.1:8080/stop".into() }))
}

fn command() -> StopStep {
    step(StopAction::Command(Asking { id: 2, words: "command nginx".into() }))
}

/// Each state, reached by its own short story.
fn states() -> Vec<(&'static str, Beginning)> {
    vec![
        ("stopped", || {
            let mut s = Story::new(probed()).ready();
            s.order(stop());
            s.exited(0, true);
            s
        }),
        ("waiting", || Story::new(ServiceSpec { depends_on: needs_db(), ..probed() })),
        ("starting: pre_start", || Story::new(hooked(Hooks { pre_start: hook(), ..Hooks::default() }))),
        ("starting: spawning", || Story::new(probed())),
        ("starting: not ready", || {
            let mut s = Story::new(probed());
            s.spawned();
            s.pass(Duration::ZERO);
            s
        }),
        ("running", || {
            let mut s = Story::new(exact());
            s.spawned();
            s
        }),
        ("ready", || Story::new(probed()).ready()),
        ("ready: post_start", || {
            Story::new(hooked(Hooks { post_start: hook(), ..Hooks::default() })).ready()
        }),
        ("ready: on_resume", || {
            let mut s = Story::new(hooked(Hooks { on_resume: hook(), ..Hooks::default() })).ready();
            s.hear(Input::Host(HostEvent::Resume));
            s
        }),
        ("degraded", || {
            let mut s = Story::new(ServiceSpec { depends_on: needs_db(), ..probed() });
            let db = RunId(1);
            s.hear(Input::Ready { run: db });
            s = s.ready();
            s.hear(Input::Exited { run: db, status: ExitStatus::Code(1), tree_empty: true });
            s
        }),
        ("paused", || {
            let mut s = Story::new(probed()).ready();
            s.order(pause(false));
            s
        }),
        ("paused: frozen", || {
            let mut s = Story::new(probed()).ready();
            s.order(pause(true));
            s
        }),
        ("paused: down", || {
            let mut s = Story::new(probed()).ready();
            s.order(pause(false));
            s.exited(1, true);
            s
        }),
        ("stopping: pre_stop", || {
            let mut s = Story::new(hooked(Hooks { pre_stop: hook(), ..Hooks::default() })).ready();
            s.order(stop());
            s
        }),
        ("stopping: TERM", || {
            let mut s = Story::new(probed()).ready();
            s.order(stop());
            s
        }),
        ("stopping: HTTP", || {
            let mut s = Story::new(ServiceSpec { stop: vec![request(), term()], ..probed() }).ready();
            s.order(stop());
            s
        }),
        ("stopping: command", || {
            let mut s = Story::new(ServiceSpec { stop: vec![command(), term()], ..probed() }).ready();
            s.order(stop());
            s
        }),
        ("stopping: killed", || {
            let mut s = Story::new(probed()).ready();
            s.order(stop());
            s.pass(Duration::from_secs(10));
            s
        }),
        ("stopping: post_stop", || {
            let mut s = Story::new(hooked(Hooks { post_stop: hook(), ..Hooks::default() })).ready();
            s.exited(3, true);
            s
        }),
        ("stopping: leftovers", || {
            let mut s = Story::new(probed()).ready();
            s.exited(3, false);
            s
        }),
        ("backing_off", || {
            let mut s = Story::new(probed());
            s.spawned();
            s.exited(3, true);
            s
        }),
        ("crash_looping", || {
            let mut spec = probed();
            spec.restart.limit = Some(Limit { max: 0, window: Duration::from_secs(60) });
            let mut s = Story::new(spec);
            s.spawned();
            s.exited(3, true);
            s
        }),
        ("gave_up", || {
            let mut spec = probed();
            spec.restart.policy = Policy::Never;
            let mut s = Story::new(spec);
            s.spawned();
            s.exited(3, true);
            s
        }),
        ("gave_up: config", || {
            let mut s = Story::new(probed());
            s.spawned();
            s.exited(78, true);
            s
        }),
        ("completed", || {
            let mut spec = probed();
            spec.restart.policy = Policy::OnFailure;
            let mut s = Story::new(spec).ready();
            s.exited(0, true);
            s
        }),
    ]
}

type Act = fn(&mut Story);
type Beginning = fn() -> Story;

/// Everything that can come.
fn acts() -> Vec<(&'static str, Act)> {
    vec![
        ("spawned", |s| s.spawned()),
        ("spawn refused", |s| {
            let (run, kind) = (s.main, SpawnErrorKind::Transient);
            s.hear(Input::SpawnFailed { run, error: SpawnError { kind, text: "no process is free".into() } });
        }),
        ("program missing", |s| {
            let (run, kind) = (s.main, SpawnErrorKind::Permanent);
            s.hear(Input::SpawnFailed { run, error: SpawnError { kind, text: "program not found".into() } });
        }),
        ("exit 0", |s| s.exited(0, true)),
        ("exit 3", |s| s.exited(3, true)),
        ("exit 3, tree left", |s| s.exited(3, false)),
        ("tree empty", |s| {
            let run = s.main;
            s.hear(Input::TreeEmpty { run });
        }),
        ("hook exits 0", |s| {
            let run = s.hook;
            s.hear(Input::Exited { run, status: ExitStatus::Code(0), tree_empty: true });
        }),
        ("hook exits 1", |s| {
            let run = s.hook;
            s.hear(Input::Exited { run, status: ExitStatus::Code(1), tree_empty: true });
        }),
        ("HTTP 200", |s| {
            let run = s.main;
            s.hear(Input::AskedToStop { run, step: 1, outcome: Ok(()) });
        }),
        ("HTTP 403", |s| {
            let (run, outcome) = (s.main, Err("answered 403 Forbidden".into()));
            s.hear(Input::AskedToStop { run, step: 1, outcome });
        }),
        ("probe passes", |s| {
            let probe = s.probe;
            s.hear(Input::Probe { probe, outcome: Outcome::Pass });
        }),
        ("probe fails", |s| {
            let probe = s.probe;
            s.hear(Input::Probe { probe, outcome: Outcome::Fail("refused".into()) });
        }),
        ("STOPPING=1", |s| {
            let run = s.main;
            s.hear(Input::Stopping { run });
        }),
        ("WATCHDOG=trigger", |s| {
            let run = s.main;
            s.hear(Input::WatchdogTriggered { run });
        }),
        ("program changes", |s| {
            let id = s.id();
            s.hear(Input::ProgramChanged(id));
        }),
        ("host wakes up", |s| s.hear(Input::Host(HostEvent::Resume))),
        ("db is ready", |s| s.hear(Input::Ready { run: RunId(1) })),
        ("a stranger exits", |s| {
            s.hear(Input::Exited { run: RunId(999), status: ExitStatus::Code(0), tree_empty: true });
        }),
        ("5 s pass", |s| s.pass(Duration::from_secs(5))),
        ("10 s pass", |s| {
            s.pass(Duration::from_secs(5));
            s.pass(Duration::from_secs(5));
        }),
        ("start", |s| {
            s.order(Command::Start { services: web(), ignore_dependencies: false });
        }),
        ("start, ignoring db", |s| {
            s.order(Command::Start { services: web(), ignore_dependencies: true });
        }),
        ("stop", |s| {
            s.order(stop());
        }),
        ("restart", |s| {
            s.order(Command::Restart { services: web() });
        }),
        ("pause", |s| {
            s.order(pause(false));
        }),
        ("pause --freeze", |s| {
            if !s.order(pause(true)) {
                s.said.push("refused".into());
            }
        }),
        ("resume", |s| {
            s.order(Command::Resume { services: web() });
        }),
        ("signal HUP", |s| {
            if !s.order(Command::Signal { services: web(), signal: 1, to: To::Main }) {
                s.said.push("refused".into());
            }
        }),
        ("scale to 2", |s| {
            s.order(Command::Scale { service: "web".into(), instances: 2 });
        }),
        ("reload, other program", |s| {
            let mut specs = s.sup.specs().clone();
            specs.services.get_mut("web").expect("web is there").fingerprint = 7;
            s.sup.reload(s.now, specs);
            s.listen();
        }),
        ("reload, gone", |s| {
            let mut specs = s.sup.specs().clone();
            specs.services.remove("web");
            s.sup.reload(s.now, specs);
            s.listen();
        }),
        ("shutdown", |s| {
            s.order(Command::Shutdown);
        }),
    ]
}

#[test]
fn every_state_is_what_its_story_says() {
    for (name, story) in states() {
        let state = name.split(':').next().unwrap();
        assert_eq!(story().state().name(), state, "{name}");
    }
}

#[test]
fn every_state_meets_every_input() {
    let mut page = String::new();
    for (name, story) in states() {
        writeln!(page, "{name}").unwrap();
        for (act, doing) in acts() {
            let mut s = story();
            s.said.clear();
            let before = s.state();
            doing(&mut s);
            let after = s.sup.status(s.now).into_iter().find(|status| status.id == s.id());
            let after = after.map_or("gone", |status| status.state.name());
            let moved = if after == before.name() { "·" } else { after };
            if moved != "·" || !s.said.is_empty() {
                writeln!(page, "    {act:<22} {moved:<14} {}", s.said.join(", ")).unwrap();
            }
        }
    }
    insta::assert_snapshot!(page);
}

/// Every state survives the death of the daemon: what is put down and taken up again is the same, also through the codec.
#[test]
fn every_state_is_taken_up_as_it_was_put_down() {
    use keepwell_core::supervisor::{GuardianSnapshot, ServiceSnapshot, Snapshot};
    for (name, story) in states() {
        let mut s = story();
        // Pieces were polled along the way; a reload without a change makes all of them new.
        let specs = s.sup.specs().clone();
        s.sup.reload(s.now, specs.clone());
        s.order(Command::Enable { services: web() });
        let mut guardian: Option<GuardianSnapshot> = None;
        let mut services: BTreeMap<ServiceId, ServiceSnapshot> = BTreeMap::new();
        s.sup.reload(s.now, specs.clone());
        s.sup.command(s.now, &By("anna".into()), &Command::Enable { services: web() }).unwrap();
        while let Some(piece) = s.sup.poll_snapshot() {
            match piece {
                Snapshot::Guardian(g) => {
                    guardian = Some(postcard::from_bytes(&postcard::to_allocvec(&g).unwrap()).unwrap());
                }
                Snapshot::Service(id, piece) => {
                    let bytes = postcard::to_allocvec(&piece).unwrap();
                    assert!(bytes.len() < 1000, "{name}: {} bytes", bytes.len());
                    services.insert(id, postcard::from_bytes(&bytes).unwrap());
                }
                Snapshot::Removed(id) => {
                    services.remove(&id);
                }
            }
        }
        let runs: Vec<RunId> = services.values().flat_map(|p| p.runs()).map(|(run, _)| run).collect();
        let mut reborn = Supervisor::restore(specs, guardian.unwrap(), services, s.now);
        assert_eq!(reborn.next_deadline(), None, "nothing is due while old runs are told");
        for run in runs {
            reborn.handle(s.now, Input::Adopted { run, pid: 1 });
        }
        reborn.handle(s.now, Input::AdoptionDone);
        reborn.check_invariants();
        let (old, new) = (s.sup.status(s.now), reborn.status(s.now));
        for (old, new) in old.iter().zip(&new) {
            // A start that was not confirmed is confirmed by its adoption.
            if !name.starts_with("starting: spawning") && !name.starts_with("waiting") {
                assert_eq!((old.state, &old.reason), (new.state, &new.reason), "{name}: {}", old.id);
            }
            assert_eq!(
                (old.attempt, old.restarts, &old.exits),
                (new.attempt, new.restarts, &new.exits),
                "{name}"
            );
        }
        let spawns = std::iter::from_fn(|| reborn.poll_effect());
        let spawns: Vec<_> = spawns
            .filter(|e| {
                matches!(
                    e,
                    Effect::Spawn { .. }
                        | Effect::RunToStop { .. }
                        | Effect::RunOnEvent { .. }
                        | Effect::AskToStop { .. }
                )
            })
            .collect();
        assert_eq!(spawns, [], "{name}: nothing is started twice");
    }
}

#[test]
fn explanations_of_every_state() {
    let mut page = String::new();
    for (name, story) in states() {
        let s = story();
        let e = s.sup.explain(s.now, &s.id()).unwrap();
        writeln!(page, "# {name}\n{}", e.headline).unwrap();
        for (label, text) in e.facts.iter().chain(&e.try_next) {
            writeln!(page, "    {label:<20} {text}").unwrap();
        }
    }
    insta::assert_snapshot!(page);
}
