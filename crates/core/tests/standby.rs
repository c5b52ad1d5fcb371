//! A standby runs from the failure of its main service until that is well for good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::escalation::{Rung, Then};
use keepwell_core::event::{EventKind, ExitStatus};
use keepwell_core::spec::RestartPolicy;
use keepwell_core::supervisor::Persisted;
use keepwell_core::{Effect, Input, Mono, Now, RunId, ServiceSpec, Specs, Supervisor, Wall};

fn at(seconds: u64) -> Now {
    Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(seconds as i64 * 1000) }
}

fn specs(escalation: Vec<Rung>) -> Specs {
    let reset_after = Duration::from_secs(30);
    let restart = RestartPolicy { jitter: 0, reset_after, limit: None, ..RestartPolicy::default() };
    let main =
        ServiceSpec { restart, escalation, fallback: Some(Arc::from("spare")), ..ServiceSpec::default() };
    let spare = ServiceSpec { enabled: false, ..ServiceSpec::default() };
    let services = BTreeMap::from([(Arc::from("main"), main), (Arc::from("spare"), spare)]);
    Specs { services, ..Specs::default() }
}

/// Starts what is to be started until then; the main service lives for so long each time. When the standby was started and
/// stopped.
fn play(s: &mut Supervisor, from: Now, until: Now, lives: Duration) -> Vec<(&'static str, u64)> {
    let (mut now, mut ends, mut seen) = (from, BTreeMap::<Mono, RunId>::new(), Vec::new());
    loop {
        while let Some(effect) = s.poll_effect() {
            match effect {
                Effect::Spawn { run, service, .. } => {
                    s.handle(now, Input::Spawned { run, pid: 1 });
                    if &*service.name == "main" {
                        ends.insert(now.mono + lives, run);
                    }
                }
                Effect::Signal { run, .. } => exit(s, now, run),
                other => assert!(matches!(other, Effect::Commit(_)), "{other:?}"),
            }
        }
        s.check_invariants();
        while let Some(event) = s.poll_event() {
            match event.kind {
                EventKind::StandbyStarted { .. } => seen.push(("starts", now.mono.0 / 1_000_000_000)),
                EventKind::StandbyStopped { .. } => seen.push(("stops", now.mono.0 / 1_000_000_000)),
                _ => {}
            }
        }
        let end = ends.first_key_value().map(|(at, _)| *at);
        let due = s.next_deadline().map(|(at, _)| at);
        let next = end.into_iter().chain(due).min().filter(|next| *next <= until.mono);
        let Some(next) = next else { return seen };
        now.mono = next.max(now.mono);
        match ends.first_entry().filter(|_| end == Some(next)) {
            Some(entry) => exit(s, now, entry.remove()),
            None => s.handle_timeout(now),
        }
    }
}

fn exit(s: &mut Supervisor, now: Now, run: RunId) {
    s.handle(now, Input::Exited { run, status: ExitStatus::Code(1), tree_empty: true });
}

#[test]
fn one_that_lives_for_some_seconds_each_time_keeps_its_standby() {
    let mut s = Supervisor::new(specs(vec![]), Persisted::default(), 1, at(0));
    let seen = play(&mut s, at(0), at(600), Duration::from_secs(10));
    assert_eq!(seen, [("starts", 10)]);
}

#[test]
fn the_standby_ends_with_the_incident() {
    let mut s = Supervisor::new(specs(vec![]), Persisted::default(), 1, at(0));
    play(&mut s, at(0), at(10), Duration::from_secs(10));
    // The second life begins a second later, and health counts from the start of a service without a check.
    let seen = play(&mut s, at(10), at(600), Duration::from_secs(10_000));
    assert_eq!(seen, [("stops", 11 + 30)]);
    assert_eq!(s.incidents(at(600)), []);
}

#[test]
fn a_step_that_fails_over_keeps_the_standby_likewise() {
    let ladder = [(Then::Restart, 2), (Then::FailOver, 1)];
    let rungs = ladder.map(|(then, times)| Rung { then, times }).to_vec();
    let mut s = Supervisor::new(specs(rungs), Persisted::default(), 1, at(0));
    // It fails at 10, 21 and 33.
    assert_eq!(play(&mut s, at(0), at(600), Duration::from_secs(10)), [("starts", 33)]);
}

#[test]
fn a_reload_takes_the_standby_away_while_its_main_service_is_being_stopped() {
    let ladder = vec![Rung { then: Then::FailOver, times: 1 }];
    let mut s = Supervisor::new(specs(ladder.clone()), Persisted::default(), 1, at(0));
    assert_eq!(play(&mut s, at(0), at(15), Duration::from_secs(10)), [("starts", 10)]);
    let mut alone = specs(ladder);
    let main = alone.services.get_mut("main").expect("it is there");
    (main.fallback, main.fingerprint) = (None, 7);
    s.reload(at(15), alone);
    assert_eq!(play(&mut s, at(15), at(16), Duration::from_secs(10)), [("stops", 15)]);
}

#[test]
fn an_instance_that_a_reload_adds_to_a_standby_ends_with_it() {
    let mut s = Supervisor::new(specs(vec![]), Persisted::default(), 1, at(0));
    play(&mut s, at(0), at(10), Duration::from_secs(10));
    let mut two = specs(vec![]);
    two.services.get_mut("spare").expect("it is there").instances = 2;
    s.reload(at(10), two);
    let seen = play(&mut s, at(10), at(600), Duration::from_secs(10_000));
    assert_eq!(seen, [("starts", 10), ("stops", 41), ("stops", 41)]);
    assert!(s.status(at(600)).iter().all(|one| one.desired_up == (&*one.id.name == "main")));
}

#[test]
fn another_that_needs_it_has_the_standby_of_one_that_a_reload_takes_it_from() {
    let with_other = |mut specs: Specs| {
        let mut other = specs.services["main"].clone();
        other.restart.exit_codes.fatal = vec![1];
        other.fallback = Some(Arc::from("spare"));
        specs.services.insert(Arc::from("other"), other);
        specs
    };
    let mut s = Supervisor::new(with_other(specs(vec![])), Persisted::default(), 1, at(0));
    play(&mut s, at(0), at(15), Duration::from_secs(10));
    // It gives up at once, while the standby runs for the first.
    let id = s.resolve("other").expect("it is there").remove(0);
    let run = s.status(at(15)).into_iter().find(|one| one.id == id).and_then(|one| one.run);
    exit(&mut s, at(15), run.expect("it runs"));
    let mut alone = with_other(specs(vec![]));
    alone.services.get_mut("main").expect("it is there").fallback = None;
    s.reload(at(15), alone);
    assert_eq!(play(&mut s, at(15), at(600), Duration::from_secs(10)), []);
}
