//! Many services fail at once by one cause: the budget holds, one restart is tried when there is room, and what works is left
//! alone.

use std::sync::Arc;
use std::time::Duration;

use keepwell_core::event::ExitStatus;
use keepwell_core::spec::{Healing, Limit, Probe, Purpose, RestartPolicy};
use keepwell_core::supervisor::{Outcome, Persisted};
use keepwell_core::{
    Effect, HostLoad, Input, Mono, Now, Role, ServiceId, ServiceSpec, Specs, Supervisor, Wall,
};
use keepwell_sim::plant::Plant;
use keepwell_sim::prng::Prng;
use keepwell_sim::program::Behaviour;
use keepwell_sim::world::{Deed, Director, World};

const WINDOW: Duration = Duration::from_secs(600);

/// What all of them need is gone for a while, whoever is restarted.
struct Outage {
    from: Duration,
    until: Duration,
    /// A restart helps.
    cured_by_restart: bool,
    starts: Vec<(ServiceId, Mono)>,
}

impl Director for Outage {
    fn behaviour(&mut self, service: &ServiceId, role: Role, at: Mono) -> Behaviour {
        assert_eq!(role, Role::Main);
        let again = self.starts.iter().any(|(id, _)| id == service);
        self.starts.push((service.clone(), at));
        let age_at = |moment: Duration| moment.saturating_sub(at.since(Mono(0)));
        let sick = (age_at(self.from), age_at(self.until));
        Behaviour {
            sick: Some(sick).filter(|_| !(again && self.cured_by_restart)),
            ready_in: Some(Duration::ZERO),
            ..Behaviour::default()
        }
    }
}

fn specs(services: usize, max: u32) -> Specs {
    let probe = Probe {
        purpose: Purpose::Live,
        name: "http".into(),
        period: Duration::from_secs(30),
        timeout: Duration::from_secs(1),
        initial_delay: Duration::ZERO,
        success_threshold: 1,
        failure_threshold: 2,
    };
    let spec = ServiceSpec {
        probes: vec![probe],
        restart: RestartPolicy { limit: None, ..RestartPolicy::default() },
        ..ServiceSpec::default()
    };
    let name = |n| Arc::from(format!("s{n:03}").as_str());
    let limit = Some(Limit { max, window: WINDOW });
    Specs {
        services: (0..services).map(|n| (name(n), spec.clone())).collect(),
        healing: Healing { limit, ..Healing::default() },
        ..Specs::default()
    }
}

/// When services were restarted.
fn play(
    seed: u64,
    specs: &Specs,
    outage: Outage,
    deeds: &[(Duration, Deed)],
    end: Duration,
) -> Vec<Duration> {
    let services = specs.services.len();
    let mut world = World::new(specs.clone(), outage, seed, Plant::Nothing, false);
    let start = world.now.mono;
    for (at, deed) in deeds {
        world.plan(start + *at, deed.clone());
    }
    while world.step(start + end) {}
    assert_eq!(world.broken, None, "seed {seed}");
    world.director.starts.iter().skip(services).map(|(_, at)| at.since(start)).collect()
}

fn outage(from: u64, until: u64) -> Outage {
    let (from, until) = (Duration::from_secs(from), Duration::from_secs(until));
    Outage { from, until, cured_by_restart: false, starts: vec![] }
}

/// Without the second book of the simulated world, which looks at every service after every step.
#[test]
fn five_hundred_that_fail_at_once_make_no_storm() {
    let mut now = Now { mono: Mono(0), wall: Wall(0) };
    let mut sup = Supervisor::new(specs(500, 10), Persisted::default(), 1, now);
    let (mut starts, end) = (Vec::new(), Mono(0) + Duration::from_secs(3_700));
    while now.mono < end {
        sup.handle_timeout(now);
        while let Some(effect) = sup.poll_effect() {
            match effect {
                Effect::Spawn { run, .. } => {
                    starts.push(now.mono);
                    sup.handle(now, Input::Spawned { run, pid: 1 });
                }
                Effect::Signal { run, signal, .. } => {
                    let status = ExitStatus::Signal { signal, core_dumped: false, out_of_memory: false };
                    sup.handle(now, Input::Exited { run, status, tree_empty: true });
                }
                Effect::Probe { probe, .. } => {
                    let ill = now.mono.since(Mono(0)) > Duration::from_secs(60);
                    let outcome = if ill { Outcome::Fail("no database".into()) } else { Outcome::Pass };
                    sup.handle(now, Input::Probe { probe, outcome });
                }
                Effect::LookAtHost => sup.handle(now, Input::HostLoad(HostLoad::default())),
                Effect::TakeEvidence { run, .. } => {
                    sup.handle(now, Input::EvidenceTaken { run, outcome: Ok(String::new()) })
                }
                other => assert!(matches!(other, Effect::Commit(_)), "{other:?}"),
            }
        }
        while sup.poll_event().is_some() {}
        while sup.poll_snapshot().is_some() {}
        now.mono = sup.next_deadline().map_or(end, |(at, _)| at.max(now.mono));
    }
    let restarts = &starts[500..];
    for at in restarts {
        let within = restarts.iter().filter(|r| **r <= *at && at.since(**r) < WINDOW).count();
        assert!(within <= 10, "{within} restarts in one window");
    }
    assert!((13..=16).contains(&restarts.len()), "ten, and a trial each window: {restarts:?}");
}

#[test]
fn restarts_never_exceed_the_budget_and_one_is_tried_when_there_is_room() {
    for seed in 0..3 {
        let mut dice = Prng::new(seed);
        let max = u32::try_from(dice.range(1, 10)).unwrap();
        let restarts = play(seed, &specs(24, max), outage(60, 100_000), &[], Duration::from_secs(3_700));
        for at in &restarts {
            let within = restarts.iter().filter(|r| **r <= *at && *at - **r < WINDOW).count();
            assert!(
                within <= max as usize,
                "seed {seed}: {within} restarts in one window, {max} are allowed"
            );
        }
        let later = restarts.iter().filter(|at| **at > Duration::from_secs(400)).count();
        assert!(restarts.len() - later == max as usize, "seed {seed}: {restarts:?}");
        assert!((3..=6).contains(&later), "seed {seed}: {later} trials in an hour: {restarts:?}");
    }
}

#[test]
fn when_a_trial_helps_the_others_follow_as_far_as_the_budget_goes() {
    for seed in 0..2 {
        let cured = Outage { cured_by_restart: true, ..outage(60, 100_000) };
        let restarts = play(seed, &specs(24, 10), cured, &[], Duration::from_secs(6_000));
        assert_eq!(restarts.len(), 24, "seed {seed}: each needed one: {restarts:?}");
    }
}

#[test]
fn what_recovers_by_itself_is_left_alone() {
    for seed in 0..2 {
        let restarts = play(seed, &specs(24, 10), outage(60, 300), &[], Duration::from_secs(3_000));
        assert_eq!(restarts.len(), 10, "seed {seed}: {restarts:?}");
    }
}

#[test]
fn failures_of_a_starved_or_sleeping_host_restart_nobody() {
    let starved =
        [(Duration::from_secs(50), Deed::Starved(true)), (Duration::from_secs(400), Deed::Starved(false))];
    let slept = [(Duration::from_secs(65), Deed::Suspend(Duration::from_secs(3_600)))];
    for seed in 0..3 {
        let (all, end) = (specs(24, 10), Duration::from_secs(1_000));
        assert_eq!(play(seed, &all, outage(60, 350), &starved, end), [], "seed {seed}");
        // They are ill until a second after the host woke up.
        assert_eq!(play(seed, &all, outage(64, 3_667), &slept, 5 * end), [], "seed {seed}");
    }
}

#[test]
fn one_that_fails_now_and_then_is_not_ended() {
    struct Flapping;
    impl Director for Flapping {
        fn behaviour(&mut self, _: &ServiceId, _: Role, _: Mono) -> Behaviour {
            // Every second attempt fails.
            Behaviour { flaps: 2, ready_in: Some(Duration::ZERO), ..Behaviour::default() }
        }
    }
    let mut world = World::new(specs(20, 10), Flapping, 1, Plant::Nothing, false);
    let end = world.now.mono + Duration::from_secs(170);
    while world.step(end) {}
    assert_eq!(world.broken, None);
    assert!(world.status().iter().all(|s| s.restarts == 0));
}
