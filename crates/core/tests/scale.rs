//! A thousand services: what one of them costs, and that nothing looks at all of them for the sake of one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keepwell_core::event::{EventKind, ExitStatus, State};
use keepwell_core::spec::{Condition, Dependency, RestartPolicy};
use keepwell_core::supervisor::{Persisted, ServiceSnapshot};
use keepwell_core::{By, Command, Effect, Input, Mono, Now, RunId, ServiceSpec, Specs, Supervisor, Wall};

const SERVICES: u64 = 1_000;

fn specs(depends_on_first: bool) -> Specs {
    let mut specs = Specs::default();
    let first: Arc<str> = Arc::from("service-0000");
    for n in 0..SERVICES {
        let depends_on = (depends_on_first && n > 0).then(|| Dependency {
            on: Arc::clone(&first),
            condition: Condition::Started,
            required: true,
            bind: false,
        });
        let restart = RestartPolicy { delay: Duration::ZERO, limit: None, ..RestartPolicy::default() };
        let spec =
            ServiceSpec { restart, depends_on: depends_on.into_iter().collect(), ..ServiceSpec::default() };
        specs.services.insert(Arc::from(format!("service-{n:04}")), spec);
    }
    specs
}

fn drain(sup: &mut Supervisor) -> Vec<Effect> {
    while sup.poll_event().is_some() {}
    while sup.poll_snapshot().is_some() {}
    std::iter::from_fn(|| sup.poll_effect()).collect()
}

fn spawned(effects: &[Effect]) -> Vec<RunId> {
    let run = |e: &Effect| if let Effect::Spawn { run, .. } = e { Some(*run) } else { None };
    effects.iter().filter_map(run).collect()
}

fn up(specs: Specs) -> (Supervisor, Vec<RunId>, Now) {
    let now = Now { mono: Mono(1_000_000_000), wall: Wall(0) };
    let mut sup = Supervisor::new(specs, Persisted::default(), 1, now);
    let mut live = Vec::new();
    loop {
        let runs = spawned(&drain(&mut sup));
        if runs.is_empty() {
            return (sup, live, now);
        }
        for run in &runs {
            sup.handle(now, Input::Spawned { run: *run, pid: 1 });
        }
        live.extend(runs);
    }
}

#[test]
fn many_starts_are_decided_bit_by_bit_and_nobody_is_told_to_wait() {
    let now = Now { mono: Mono(1_000_000_000), wall: Wall(0) };
    let mut sup = Supervisor::new(specs(false), Persisted::default(), 1, now);
    let (mut turns, mut started) = (0, 0);
    loop {
        sup.check_invariants();
        while let Some(event) = sup.poll_event() {
            let waits = matches!(event.kind, EventKind::StateChanged { to: State::Waiting, .. });
            assert!(!waits, "{event:?}");
        }
        let runs = spawned(&drain(&mut sup));
        if runs.is_empty() {
            break;
        }
        assert!(runs.len() <= 32, "{} starts in one turn", runs.len());
        (turns, started) = (turns + 1, started + runs.len());
        // Nobody reports anything, and still the rest is started, at once.
        let due = sup.next_deadline().filter(|(at, _)| *at <= now.mono);
        assert_eq!(due.is_some(), started < 1_000, "after {started}");
        sup.handle_timeout(now);
    }
    assert_eq!((turns, started), (32, 1_000));
}

#[test]
fn a_restart_costs_microseconds_among_a_thousand() {
    let (mut sup, mut live, mut now) = up(specs(false));
    assert_eq!(live.len(), 1_000);
    let begin = Instant::now();
    let rounds = 20_000;
    for n in 0..rounds {
        now.mono = now.mono + Duration::from_millis(1);
        let at = n % live.len();
        let run = live[at];
        sup.handle(now, Input::Exited { run, status: ExitStatus::Code(1), tree_empty: true });
        let runs = spawned(&drain(&mut sup));
        assert_eq!(runs.len(), 1);
        sup.handle(now, Input::Spawned { run: runs[0], pid: 1 });
        drain(&mut sup);
        assert!(sup.next_deadline().is_some());
        live[at] = runs[0];
    }
    sup.check_invariants();
    let each = begin.elapsed() / u32::try_from(rounds).unwrap();
    // A look at every service would take a hundred times as long; the bound leaves room for a busy machine.
    assert!(each < Duration::from_micros(100), "{each:?} a restart");
}

#[test]
fn a_thousand_dependents_go_down_before_what_they_depend_on() {
    let (mut sup, live, now) = up(specs(true));
    let begin = Instant::now();
    sup.command(now, &By("anna".into()), &Command::Shutdown).unwrap();
    let signals = drain(&mut sup).len();
    assert_eq!(signals, 999, "the one they depend on waits");
    for run in &live[1..] {
        sup.handle(now, Input::Exited { run: *run, status: ExitStatus::Code(0), tree_empty: true });
    }
    assert_eq!(drain(&mut sup).len(), 1);
    sup.handle(now, Input::Exited { run: live[0], status: ExitStatus::Code(0), tree_empty: true });
    assert!(sup.nothing_left().is_some());
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn an_idle_guardian_has_nothing_due() {
    let (mut sup, _, mut now) = up(specs(false));
    now.mono = now.mono + Duration::from_secs(2);
    sup.handle_timeout(now);
    assert_eq!(sup.next_deadline(), None);
}

#[test]
fn one_service_is_small() {
    // What is allocated besides: five exits of 72 bytes at most, and the times of restarts.
    assert!(size_of::<ServiceSnapshot>() <= 768, "{} bytes", size_of::<ServiceSnapshot>());
}
