//! Short stories that cross several parts: what an operator does, and what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::effect::Record;
use keepwell_core::event::{ExitStatus, SpawnError, SpawnErrorKind, State};
use keepwell_core::spec::{Condition, Dependency, Kind, Policy, Readiness, RestartPolicy, To};
use keepwell_core::supervisor::{DeadlineReason, Finished, Outcome, Persisted, Snapshot};
use keepwell_core::{
    By, Command, Effect, Input, Mono, Now, Progress, Role, RunId, ServiceSpec, Specs, Supervisor, Wall,
};

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) }
}

fn effects(s: &mut Supervisor) -> Vec<Effect> {
    s.check_invariants();
    std::iter::from_fn(|| s.poll_effect()).collect()
}

#[test]
fn a_service_is_started_restarted_and_stopped() {
    let specs =
        Specs { services: BTreeMap::from([(Arc::from("web"), ServiceSpec::default())]), ..Specs::default() };
    let mut s = Supervisor::new(specs, Persisted::default(), 1, at(0));
    let id = s.resolve("web").unwrap().remove(0);
    let spawn = |n| Effect::Spawn { run: RunId(n), service: id.clone(), role: Role::Main };
    assert_eq!(effects(&mut s), [spawn(1)]);
    s.handle(at(1), Input::Spawned { run: RunId(1), pid: 10 });
    assert_eq!(s.status(at(1))[0].state, State::Running);
    s.handle(at(200), Input::Exited { run: RunId(1), status: ExitStatus::Code(3), tree_empty: true });
    assert_eq!(effects(&mut s), []);
    let status = s.status(at(200)).remove(0);
    assert_eq!((status.state, &*status.reason), (State::BackingOff, "exit code 3 after 199 ms"));
    let (due, _) = s.next_deadline().unwrap();
    let delay = due.since(at(200).mono);
    assert!(delay >= Duration::from_millis(750) && delay <= Duration::from_millis(1250), "{delay:?}");
    s.handle_timeout(Now { mono: due, wall: Wall(2000) });
    assert_eq!(effects(&mut s), [spawn(2)]);
    s.handle(at(2001), Input::Spawned { run: RunId(2), pid: 11 });
    let stop = Command::Stop { services: vec!["web".into()], with_dependents: false };
    s.command(at(3000), &By("anna".into()), &stop).unwrap();
    let sent = effects(&mut s);
    assert!(matches!(sent[0], Effect::Commit(_)));
    assert_eq!(sent[1], Effect::Signal { run: RunId(2), signal: 15, to: To::Main });
    s.handle(
        at(3100),
        Input::Exited {
            run: RunId(2),
            status: ExitStatus::Signal { signal: 15, core_dumped: false, out_of_memory: false },
            tree_empty: true,
        },
    );
    let status = s.status(at(3100)).remove(0);
    assert_eq!((status.state, &*status.reason), (State::Stopped, "stopped by anna"));
    assert_eq!(s.next_deadline(), None);
}

/// What the store would hold after these effects.
fn keep(store: &mut Persisted, effects: &[Effect]) {
    for effect in effects {
        match effect {
            Effect::Commit(Record::Desired { service, up, by, at }) => {
                store.desired.insert(service.clone(), (*up, by.clone(), *at));
            }
            Effect::Commit(Record::Paused { service, hold: Some(hold) }) => {
                store.holds.insert(service.clone(), hold.clone());
            }
            _ => {}
        }
    }
}

fn needs(on: &str, required: bool) -> ServiceSpec {
    let depends_on =
        vec![Dependency { on: Arc::from(on), condition: Condition::Started, required, bind: false }];
    ServiceSpec { depends_on, ..ServiceSpec::default() }
}

fn pair(dependent: ServiceSpec) -> Specs {
    let services = BTreeMap::from([(Arc::from("db"), ServiceSpec::default()), (Arc::from("web"), dependent)]);
    Specs { services, ..Specs::default() }
}

fn states(s: &Supervisor, now: Now) -> Vec<State> {
    s.status(now).into_iter().map(|s| s.state).collect()
}

#[test]
fn what_was_stopped_together_comes_back_together_after_everything_was_killed() {
    let anna = By("anna".into());
    let mut store = Persisted::default();
    let mut s = Supervisor::new(pair(needs("db", true)), Persisted::default(), 1, at(0));
    let stop = Command::Stop { services: vec!["db".into()], with_dependents: true };
    s.command(at(5), &anna, &stop).unwrap();
    keep(&mut store, &effects(&mut s));
    let mut s = Supervisor::new(pair(needs("db", true)), store, 2, at(10));
    assert_eq!(effects(&mut s), [], "stopped stays stopped");
    assert_eq!(s.nothing_left(), None, "what an operator stopped keeps the guardian up");
    assert_eq!(s.status(at(10))[1].reason, "stopped by anna, with db");
    let start = Command::Start { services: vec!["db".into()], ignore_dependencies: false };
    let plan = s.command(at(20), &anna, &start).unwrap();
    assert_eq!(plan.actions.len(), 2, "{plan:?}");
    assert_eq!(states(&s, at(20)), [State::Starting, State::Waiting]);
}

#[test]
fn a_hold_and_its_end_outlive_everything() {
    let mut store = Persisted::default();
    let specs = || Specs {
        services: BTreeMap::from([(Arc::from("web"), ServiceSpec::default())]),
        ..Specs::default()
    };
    let mut s = Supervisor::new(specs(), Persisted::default(), 1, at(0));
    let pause = Command::Pause {
        services: vec!["web".into()],
        freeze: false,
        stop_after: Some(Duration::from_secs(60)),
    };
    s.command(at(1_000), &By("anna".into()), &pause).unwrap();
    keep(&mut store, &effects(&mut s));
    let mut s = Supervisor::new(specs(), store, 2, at(31_000));
    assert_eq!(effects(&mut s), [], "held: nothing is started");
    assert_eq!(states(&s, at(31_000)), [State::Paused]);
    let due = at(61_000);
    assert_eq!(s.next_deadline(), Some((due.mono, DeadlineReason::HoldEnds)));
    s.handle_timeout(due);
    assert_eq!(states(&s, due), [State::Stopped]);
}

#[test]
fn what_is_not_required_is_waited_for_only_while_it_is_coming() {
    let mut s = Supervisor::new(pair(needs("db", false)), Persisted::default(), 1, at(0));
    assert_eq!(states(&s, at(0)), [State::Starting, State::Waiting], "db is coming");
    let error = SpawnError { kind: SpawnErrorKind::Transient, text: "no process is free".into() };
    s.handle(at(1), Input::SpawnFailed { run: RunId(1), error });
    assert_eq!(states(&s, at(1)), [State::BackingOff, State::Waiting], "db is still coming");
    let stop = Command::Stop { services: vec!["db".into()], with_dependents: false };
    s.command(at(2), &By("anna".into()), &stop).unwrap();
    assert_eq!(states(&s, at(2)), [State::Stopped, State::Starting]);
}

#[test]
fn a_failed_oneshot_lets_up_end_with_a_failure() {
    let mut migrate = ServiceSpec { kind: Kind::Oneshot, ..ServiceSpec::default() };
    migrate.restart.policy = Policy::Never;
    for (code, failed) in [(0, false), (1, true)] {
        let services = BTreeMap::from([(Arc::from("migrate"), migrate.clone())]);
        let specs = Specs { services, ..Specs::default() };
        let mut s = Supervisor::new(specs, Persisted::default(), 1, at(0));
        assert_eq!(s.nothing_left(), None);
        s.handle(at(1), Input::Spawned { run: RunId(1), pid: 7 });
        s.handle(at(2), Input::Exited { run: RunId(1), status: ExitStatus::Code(code), tree_empty: true });
        assert_eq!(s.nothing_left(), Some(Finished { failed }));
        assert_eq!(s.next_deadline(), None);
    }
}

#[test]
fn a_refused_command_changes_nothing() {
    let mut s = Supervisor::new(pair(ServiceSpec::default()), Persisted::default(), 1, at(0));
    effects(&mut s);
    while s.poll_event().is_some() || s.poll_snapshot().is_some() {}
    let anna = By("anna".into());
    let names = || vec!["web".into(), "wbe".into()];
    let refused = [
        Command::Start { services: names(), ignore_dependencies: false },
        Command::Stop { services: names(), with_dependents: true },
        Command::Restart { services: names() },
        Command::Pause { services: names(), freeze: false, stop_after: None },
        Command::Scale { service: "web".into(), instances: 0 },
        Command::Scale { service: "web@1".into(), instances: 2 },
        Command::Signal { services: vec!["web".into()], signal: 1, to: To::Main },
        Command::Pause { services: vec!["db".into(), "db@2".into()], freeze: true, stop_after: None },
    ];
    for command in refused {
        assert!(s.command(at(1), &anna, &command).is_err(), "{command:?}");
        assert_eq!((s.poll_effect(), s.poll_event(), s.poll_snapshot()), (None, None, None), "{command:?}");
    }
}

#[test]
fn who_waits_for_a_start_or_a_stop_hears_how_far_it_has_come() {
    let mut s = Supervisor::new(pair(needs("db", true)), Persisted::default(), 1, at(0));
    let left = |left, until: Option<u64>| Progress {
        left,
        until: until.map(|ms| at(ms).mono),
        ..Progress::default()
    };
    assert_eq!(effects(&mut s).len(), 1);
    assert_eq!(s.progress(), left(2, None));
    s.handle(at(1), Input::Spawned { run: RunId(1), pid: 10 });
    assert_eq!(effects(&mut s).len(), 1);
    s.handle(at(2), Input::Spawned { run: RunId(2), pid: 11 });
    assert_eq!(s.progress(), left(2, Some(1_002)), "without a check up means alive for a second");
    s.handle_timeout(at(1_001));
    assert_eq!(s.progress(), left(1, Some(1_002)));
    s.handle_timeout(at(1_002));
    assert_eq!(s.progress(), left(0, None));

    s.command(at(2_000), &By("anna".into()), &Command::Shutdown).unwrap();
    let down = |left_over, until: u64| Progress { stopping: true, ..left(left_over, Some(until)) };
    assert_eq!(s.progress(), down(2, 12_000), "web has ten seconds, and db waits for it");
    let ended = |run| Input::Exited { run: RunId(run), status: ExitStatus::Code(0), tree_empty: true };
    s.handle(at(3_000), ended(2));
    assert_eq!(s.progress(), down(1, 13_000));
    s.handle(at(4_000), ended(1));
    assert_eq!(s.progress(), Progress { stopping: true, ..Progress::default() });
}

#[test]
fn what_will_not_come_is_not_waited_for() {
    let never = ServiceSpec {
        restart: RestartPolicy { policy: Policy::Never, ..RestartPolicy::default() },
        ..ServiceSpec::default()
    };
    let mut specs = pair(needs("db", true));
    specs.services.insert(Arc::from("db"), never);
    specs.services.insert(Arc::from("off"), ServiceSpec { enabled: false, ..ServiceSpec::default() });
    let mut s = Supervisor::new(specs, Persisted::default(), 1, at(0));
    let error = SpawnError { kind: SpawnErrorKind::Permanent, text: "no such program".into() };
    s.handle(at(2), Input::SpawnFailed { run: RunId(1), error });
    assert_eq!(s.progress(), Progress { failed: 2, ..Progress::default() });
}

#[test]
fn what_was_on_its_way_out_comes_back_although_the_daemon_died_in_the_reload_that_has_it_again() {
    let both = || pair(needs("db", true));
    let web_alone = {
        let mut specs = both();
        specs.services.remove("db");
        specs.services.insert(Arc::from("web"), ServiceSpec::default());
        specs
    };
    let mut s = Supervisor::new(both(), Persisted::default(), 1, at(0));
    s.handle(at(1), Input::Spawned { run: RunId(1), pid: 10 });
    s.handle(at(2), Input::Spawned { run: RunId(2), pid: 11 });
    s.reload(at(5_000), web_alone);
    let (mut guardian, mut pieces) = (None, BTreeMap::new());
    while let Some(piece) = s.poll_snapshot() {
        match piece {
            Snapshot::Guardian(piece) => guardian = Some(piece),
            Snapshot::Service(id, piece) => drop(pieces.insert(id, piece)),
            Snapshot::Removed(id) => drop(pieces.remove(&id)),
        }
    }
    assert_eq!(states(&s, at(5_000)), [State::Stopping, State::Running]);

    // Of the next reload only the new configuration was left with the anchor.
    let mut s = Supervisor::restore(both(), guardian.unwrap(), pieces, at(6_000));
    s.handle(at(6_000), Input::Adopted { run: RunId(1), pid: 10 });
    s.handle(at(6_000), Input::Adopted { run: RunId(2), pid: 11 });
    s.handle(at(6_000), Input::AdoptionDone);
    s.handle(at(6_100), Input::Exited { run: RunId(1), status: ExitStatus::Code(0), tree_empty: true });
    let started = |effect: &Effect| matches!(effect, Effect::Spawn { service, .. } if &*service.name == "db");
    assert_eq!(effects(&mut s).iter().filter(|e| started(e)).count(), 1);
    assert_eq!(states(&s, at(6_100))[0], State::Starting);
}

#[test]
fn who_never_becomes_ready_fails_although_half_of_the_answers_say_nothing() {
    let second = Duration::from_secs(1);
    let ready = Readiness::Probe { period: second / 2, timeout: 10 * second };
    let web = ServiceSpec { ready, ..ServiceSpec::default() };
    let specs = Specs { services: BTreeMap::from([(Arc::from("web"), web)]), ..Specs::default() };
    let mut s = Supervisor::new(specs, Persisted::default(), 1, at(0));
    s.handle(at(0), Input::Spawned { run: RunId(1), pid: 10 });
    let mut attempts = 0;
    let mut now = at(0);
    while states(&s, now) == [State::Starting] && now.mono < at(60_000).mono {
        for effect in effects(&mut s) {
            let Effect::Probe { probe, .. } = effect else { continue };
            attempts += 1;
            let said = if attempts % 2 == 0 { Outcome::Unknown } else { Outcome::Fail };
            s.handle(now, Input::Probe { probe, outcome: said("no answer".into()) });
        }
        now.mono = s.next_deadline().unwrap().0.max(now.mono);
        s.handle_timeout(now);
    }
    assert!(now.mono <= at(11_000).mono, "it failed at {now:?}");
}
