//! What keepwell ends because a check fails is back as soon as what ended by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::event::ExitStatus;
use keepwell_core::spec::{Healing, Probe, Purpose, RestartPolicy};
use keepwell_core::supervisor::{Outcome, Persisted};
use keepwell_core::{Effect, HostLoad, Input, Mono, Now, ServiceSpec, Specs, Supervisor, Wall};

fn at(mono: Mono) -> Now {
    Now { mono, wall: Wall(i64::try_from(mono.0 / 1_000_000).unwrap_or(0)) }
}

fn specs(evidence: Option<Duration>) -> Specs {
    let probe = Probe {
        purpose: Purpose::Live,
        name: "http".into(),
        period: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        initial_delay: Duration::ZERO,
        success_threshold: 1,
        failure_threshold: 1,
    };
    let restart = RestartPolicy { jitter: 0, ..RestartPolicy::default() };
    let web = ServiceSpec { probes: vec![probe], restart, ..ServiceSpec::default() };
    let healing = Healing { evidence, ..Healing::default() };
    Specs { services: BTreeMap::from([(Arc::from("web"), web)]), healing, ..Specs::default() }
}

#[derive(Clone, Copy, PartialEq)]
enum Fails {
    /// Its check, at the first attempt from then on; it ends as soon as it is asked to.
    Check,
    /// It ends in the moment in which that check would be answered.
    Itself,
}

/// How long after each of these failures (each so long after the start of a run) it was started again.
fn play(fails: Fails, lives: &[u64], specs: Specs, evidence_comes: bool) -> Vec<Duration> {
    let mut s = Supervisor::new(specs, Persisted::default(), 1, at(Mono(0)));
    let (mut now, mut lives) = (at(Mono(0)), lives.iter());
    let (mut ill_from, mut failed, mut waits) = (Mono(u64::MAX), None, Vec::new());
    loop {
        while let Some(effect) = s.poll_effect() {
            match effect {
                Effect::Spawn { run, .. } => {
                    waits.extend(failed.take().map(|since: Mono| now.mono.since(since)));
                    let Some(life) = lives.next() else { return waits };
                    ill_from = now.mono + Duration::from_secs(*life);
                    s.handle(now, Input::Spawned { run, pid: 1 });
                }
                Effect::Probe { probe, run, .. } if now.mono >= ill_from => {
                    failed = Some(now.mono);
                    match fails {
                        Fails::Check => {
                            s.handle(now, Input::Probe { probe, outcome: Outcome::Fail("500".into()) });
                        }
                        Fails::Itself => s.handle(now, exited(run, ExitStatus::Code(1))),
                    }
                }
                Effect::Probe { probe, .. } => s.handle(now, Input::Probe { probe, outcome: Outcome::Pass }),
                Effect::Signal { run, signal, .. } => {
                    let status = ExitStatus::Signal { signal, core_dumped: false, out_of_memory: false };
                    s.handle(now, exited(run, status));
                }
                Effect::LookAtHost => s.handle(now, Input::HostLoad(HostLoad::default())),
                Effect::TakeEvidence { run, .. } if evidence_comes => {
                    s.handle(now, Input::EvidenceTaken { run, outcome: Ok("1-web".into()) });
                }
                Effect::TakeEvidence { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        now = at(s.next_deadline().expect("something always comes").0.max(now.mono));
        s.handle_timeout(now);
    }
}

fn exited(run: keepwell_core::RunId, status: ExitStatus) -> Input {
    Input::Exited { run, status, tree_empty: true }
}

/// After a long life, after short ones, after one that begins the count anew.
const LIVES: [u64; 7] = [100, 5, 5, 5, 70, 5, 5];

#[test]
fn what_a_check_ends_is_started_as_soon_as_what_ends_by_itself() {
    let by_itself = play(Fails::Itself, &LIVES, specs(None), true);
    let seconds: Vec<u64> = by_itself.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 2, 4, 8, 0, 2, 4], "{by_itself:?}");
    assert_eq!(play(Fails::Check, &LIVES, specs(None), true), by_itself);
    assert_eq!(play(Fails::Check, &LIVES, specs(Some(Duration::from_secs(2))), true), by_itself);
}

#[test]
fn evidence_that_does_not_come_delays_it_by_its_bound_and_no_more() {
    let bound = Duration::from_millis(1_500);
    let by_itself = play(Fails::Itself, &LIVES, specs(None), true);
    let late: Vec<Duration> = by_itself.iter().map(|wait| *wait + bound).collect();
    assert_eq!(play(Fails::Check, &LIVES, specs(Some(bound)), false), late);
}

#[test]
fn an_answer_that_was_on_its_way_while_the_host_slept_does_not_count() {
    let mut s = Supervisor::new(specs(None), Persisted::default(), 1, at(Mono(0)));
    s.handle(at(Mono(0)), Input::Spawned { run: keepwell_core::RunId(1), pid: 1 });
    while s.poll_effect().is_some() {}
    // Long enough to be up, since what fails before does not count anyway.
    let mut now = at(Mono(1_500_000_000));
    let probe = loop {
        s.handle_timeout(now);
        let probes = std::iter::from_fn(|| s.poll_effect()).filter_map(|effect| match effect {
            Effect::Probe { probe, .. } => Some(probe),
            _ => None,
        });
        if let Some(probe) = probes.last() {
            break probe;
        }
        now = at(s.next_deadline().expect("a check is due").0);
    };
    now = at(now.mono + Duration::from_secs(3_600));
    s.handle(now, Input::Probe { probe, outcome: Outcome::Fail("no answer within 1 s".into()) });
    s.handle(now, Input::HostLoad(HostLoad::default()));
    let ended = std::iter::from_fn(|| s.poll_effect()).any(|effect| matches!(effect, Effect::Signal { .. }));
    assert!(!ended);
}
