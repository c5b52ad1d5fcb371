//! A case from a seed: services, programs, operators and faults by chance; then calm, in which everything must come
//! right; then the way down, after which nothing may be left.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::escalation::{Rung, Then};
use keepwell_core::event::{ExitStatus, SpawnErrorKind, State};
use keepwell_core::spec::{
    AfterWait, Asking, Condition, Dependency, Hook, Hooks, Kind, Limit, OnCrashLoop, Policy, Probe, Purpose,
    Readiness, RestartPolicy, StopAction, StopStep, To, WaitFor,
};
use keepwell_core::supervisor::{DeadlineReason, ServiceStatus};
use keepwell_core::{By, Command, HostEvent, Mono, Role, ServiceId, ServiceSpec, SessionEvent, Specs};

use crate::host::Happening;
use crate::plant::Plant;
use crate::prng::Prng;
use crate::program::{Asked, Behaviour, ProbeTrouble};
use crate::world::{Deed, Director, Saying, World};

/// How long faults go on.
const STORM: Duration = Duration::from_secs(300);
/// Within this everything must be well or have given up once the faults end: the longest way is a kill that is repeated,
/// a trial of a crash loop after 5 min and a quarter, and another one after a dependency did the same.
const CALM: Duration = Duration::from_secs(3000);
/// Within this nothing may be left after a shutdown: the longest ladder and hooks, for a chain of all services.
const DOWN: Duration = Duration::from_secs(1200);

const NAMES: [&str; 7] = ["db", "api", "cache", "worker", "mail", "migrate", "proxy"];

/// Runs while another is down, and nobody depends on it.
const STANDBY: &str = "standby";

/// How a case went.
#[derive(Debug)]
pub struct Report {
    /// The broken invariant.
    pub broken: Option<String>,
    /// One line a step, if asked for.
    pub trace: Vec<String>,
    /// How many processes were started.
    pub spawns: usize,
}

/// Runs the case of a seed.
#[must_use]
pub fn run(seed: u64, plant: Plant, trace: bool) -> Report {
    let mut dice = Prng::new(seed);
    let specs = specs(&mut dice);
    let chance = Chance { dice: Prng::new(dice.draw()), calm_from: Mono(u64::MAX), cursed: BTreeSet::new() };
    let mut world: Option<World<Chance>> = None;
    // The core's own check panics; with the hook that the caller sets, that is told like any other broken invariant.
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let world = world.insert(World::new(specs.clone(), chance, seed, plant, trace));
        story(world, &specs, &mut dice);
    }));
    let panicked = caught.err().map(|p| {
        let text = p.downcast_ref::<String>().cloned();
        text.or_else(|| p.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    });
    let Some(world) = world else { return Report { broken: panicked, trace: vec![], spawns: 0 } };
    Report {
        broken: world.broken.or(panicked),
        trace: world.trace.unwrap_or_default(),
        spawns: world.host.asked.len(),
    }
}

fn story(world: &mut World<Chance>, specs: &Specs, dice: &mut Prng) {
    let begin = world.now.mono;
    let calm = begin + STORM;
    world.director.calm_from = calm;
    for name in specs.services.keys() {
        if dice.percent(10) {
            world.director.cursed.insert(name.to_string());
        }
    }
    plan_faults(world, specs, dice, begin);
    world.run_until(calm);
    if world.broken.is_some() {
        return;
    }
    world.calm_down();
    let until = world.now.mono + CALM;
    let mut steps = 0_u32;
    while world.step(until) {
        steps += 1;
        if steps.is_multiple_of(16) && is_quiet(world) {
            break;
        }
        if steps > 200_000 {
            world.fail("it never comes to rest".into());
        }
    }
    if world.broken.is_none() {
        check_liveness(world);
    }
    if world.broken.is_none() {
        shutdown(world);
    }
}

/// Nothing will happen by itself but life signs.
fn is_quiet(world: &World<Chance>) -> bool {
    let Some(sup) = &world.sup else { return false };
    let idle = |s: &ServiceStatus| {
        // A check that goes on makes it well, or ends it once a budget has room. `next` does not show it where a life sign
        // is due before.
        let checked = s.state == State::Degraded
            && ["not ready any more", "its live check failed"].iter().any(|why| s.reason.starts_with(why));
        // Nor is it at rest until its ladder is done, or while it waits for what is outside or owes a heartbeat.
        let ill = checked
            || matches!(s.state, State::Starting | State::Stopping)
            || s.reason.starts_with("waits for ")
            || crate::incidents::is_silent(sup, world.now, s);
        let next = s.next.is_none_or(|(_, why)| {
            matches!(why, DeadlineReason::Watchdog | DeadlineReason::Heartbeat | DeadlineReason::HoldEnds)
        });
        next && !ill
    };
    world.host.reports.is_empty()
        && world
            .host
            .agenda
            .iter()
            .all(|(_, _, what)| matches!(what, Happening::Ping(_) | Happening::Beat(_) | Happening::Uses(_)))
        && world.status().iter().all(idle)
}

fn check_liveness(world: &mut World<Chance>) {
    let all = world.status();
    let suffers = who_suffers(world);
    for s in &all {
        let dependent_of = |state: State| {
            s.blockers.iter().any(|(id, _)| all.iter().any(|o| o.id == *id && (o.state == state)))
        };
        let stuck_on = [
            State::Stopped,
            State::GaveUp,
            State::Paused,
            State::Waiting,
            State::CrashLooping,
            State::BackingOff,
            State::Completed,
            State::Starting,
        ]
        .iter()
        .any(|state| dependent_of(*state));
        let cursed = suffers.contains(&*s.id.name);
        let fine = match s.state {
            State::Ready | State::Running | State::Completed => true,
            State::GaveUp => !s.reason.is_empty(),
            State::Stopped => !s.desired_up,
            State::Paused => s.hold.is_some(),
            State::Waiting | State::Degraded => stuck_on || cursed,
            // What is wrong with these programs does not end with the faults.
            State::BackingOff | State::CrashLooping | State::Starting | State::Stopping => cursed,
        };
        if !fine {
            world.fail(format!("{} is {} for ever: {} ({:?})", s.id, s.state, s.reason, s.next));
            return;
        }
    }
    let incidents = world.sup.as_ref().map(|sup| crate::incidents::check_rest(sup, world.now));
    if let Some(Err(broken)) = incidents {
        world.fail(broken);
    }
    let standby = world.sup.as_ref().map(|sup| crate::incidents::check_standby(sup, world.now));
    if let Some(Err(broken)) = standby {
        world.fail(broken);
    }
}

/// The broken programs, and all that depends on them.
fn who_suffers(world: &World<Chance>) -> BTreeSet<String> {
    let mut suffers = world.director.cursed.clone();
    // Names stand in the order in which they may depend on each other, so one pass reaches everybody.
    for name in NAMES {
        let specs = world.host.config.as_ref().map(|c| &c.services);
        let spec = specs.and_then(|s| s.get(name));
        if spec.is_some_and(|s| s.depends_on.iter().any(|d| suffers.contains(&*d.on))) {
            suffers.insert(name.to_owned());
        }
    }
    // And what stands in for one of them comes and goes with each of its incidents.
    let specs = world.host.config.iter().flat_map(|c| &c.services);
    let main = |(name, spec): (&Arc<str>, &ServiceSpec)| spec.fallback.is_some() && suffers.contains(&**name);
    if specs.into_iter().any(main) {
        suffers.insert(STANDBY.to_owned());
    }
    suffers
}

fn shutdown(world: &mut World<Chance>) {
    let at = world.now.mono;
    world.plan(at, Deed::Command(By("anna".into()), Command::Shutdown));
    let until = at + DOWN;
    while world.step(until) {
        let down = world.sup.as_ref().is_some_and(|s| s.nothing_left().is_some());
        if down && world.host.processes.is_empty() {
            return;
        }
    }
    if world.broken.is_some() {
        return;
    }
    let left: Vec<_> =
        world.host.processes.iter().map(|(r, p)| format!("{} {r} {:?}", p.service, p.role)).collect();
    world.fail(format!("after the shutdown {left:?} is left; nothing_left says {:?}", {
        world.sup.as_ref().map(keepwell_core::Supervisor::nothing_left)
    }));
}

/// Behaviours by chance.
#[derive(Debug)]
pub struct Chance {
    dice: Prng,
    calm_from: Mono,
    /// Programs that are broken for good.
    cursed: BTreeSet<String>,
}

impl Director for Chance {
    fn behaviour(&mut self, service: &ServiceId, role: Role, at: Mono) -> Behaviour {
        let d = &mut self.dice;
        let calm = at >= self.calm_from;
        let mut b = Behaviour { pings: None, ..Behaviour::default() };
        if role != Role::Main {
            let fails = !calm && d.percent(20);
            let after = Duration::from_millis(d.range(1, if calm { 400 } else { 3_000 }));
            b.ends = Some((after, ExitStatus::Code(i32::from(fails))));
            if !calm && d.percent(5) {
                b.ends = None;
            }
            if !calm && d.percent(5) {
                b.refused = Some((SpawnErrorKind::Permanent, "program not found: /opt/hook".into()));
            }
            return b;
        }
        b.pings = Some(Duration::from_millis(d.range(1_000, 4_000)));
        b.ready_in = Some(Duration::from_millis(d.range(0, 3_000)));
        b.starts_in = Duration::from_millis(d.range(0, 5));
        // Migrations are oneshots in every case.
        if &*service.name == "migrate" {
            b.ends = Some((Duration::from_millis(d.range(10, 5_000)), ExitStatus::Code(0)));
        }
        if self.cursed.contains(&*service.name) {
            if d.percent(20) {
                b.refused = Some((SpawnErrorKind::Permanent, "program not found: /opt/x".into()));
            }
            b.ends = Some((Duration::from_millis(d.range(0, 4_000)), ExitStatus::Code(1)));
        }
        if !calm {
            trouble(d, &mut b);
        }
        b
    }

    fn troubles_evidence(&self) -> bool {
        true
    }
}

fn trouble(d: &mut Prng, b: &mut Behaviour) {
    if d.percent(50) {
        return;
    }
    match d.range(0, 10) {
        0 => b.refused = Some((SpawnErrorKind::Transient, "no process is free".into())),
        1 => b.refused = Some((SpawnErrorKind::Permanent, "permission denied on /opt/x".into())),
        2..=5 => {
            let status = match d.range(0, 8) {
                0 => ExitStatus::Code(78),
                1 => ExitStatus::Code(0),
                2 => ExitStatus::Signal { signal: 9, core_dumped: false, out_of_memory: true },
                3 => ExitStatus::Signal { signal: 11, core_dumped: true, out_of_memory: false },
                4 => ExitStatus::Code(99),
                _ => ExitStatus::Code(1),
            };
            let longest = *d.pick(&[5, 2_000, 20_000, 90_000]);
            b.ends = Some((Duration::from_millis(d.range(0, longest)), status));
        }
        _ => {}
    }
    b.obeys_in = match d.range(0, 4) {
        0 => None,
        1 => Some(Duration::from_millis(d.range(1, 15_000))),
        _ => b.obeys_in,
    };
    if d.percent(15) {
        b.deaf_to.push(15);
    }
    b.asked = match d.range(0, 4) {
        0 => Asked::Refused("answered 403 Forbidden".into()),
        1 => Asked::Silence,
        _ => b.asked.clone(),
    };
    if d.percent(20) {
        b.unkillable = Duration::from_secs(d.range(0, 60));
    }
    b.dies_in = Duration::from_millis(*d.pick(&[0, 1, 100, 12_000]));
    if d.percent(25) {
        b.leaves = Some(Duration::from_millis(d.range(0, 60_000)));
    }
    if d.percent(20) {
        b.ready_in = None;
    }
    b.flaps = d.range(0, 4);
    if d.percent(30) {
        let from = millis(d, 0, 20_000);
        b.sick = Some((from, from + millis(d, 500, 60_000)));
    }
    if d.percent(20) {
        b.probe_trouble = Some(*d.pick(&[ProbeTrouble::Lost, ProbeTrouble::Late, ProbeTrouble::Unknown]));
    }
    if d.percent(40) {
        let from = millis(d, 0, 30_000);
        b.silent = Some((from, from + millis(d, 5_000, 60_000)));
    }
    b.announces_end = d.percent(30);
    if d.percent(20) {
        b.pings = None;
    }
}

fn specs(d: &mut Prng) -> Specs {
    let mut specs = Specs::default();
    let count = d.range(1, NAMES.len() as u64 + 1);
    for (at, name) in NAMES.iter().enumerate().take(usize::try_from(count).unwrap_or(1)) {
        let spec = spec(d, name, at);
        specs.services.insert(Arc::from(*name), spec);
    }
    if d.percent(40) {
        stand_by(d, &mut specs);
    }
    if d.percent(25) {
        specs.max_parallel_starts = Some(u32::try_from(d.range(1, 4)).unwrap_or(1));
    }
    specs.healing.evidence = d.percent(50).then(|| Duration::from_secs(2));
    let longest = *d.pick(&[60_000, 60_000, 300_000]);
    specs.healing.limit =
        Some(Limit { max: u32::try_from(d.range(1, 5)).unwrap_or(1), window: millis(d, 5_000, longest) });
    specs
}

/// Ladders, and a standby for some.
fn stand_by(d: &mut Prng, specs: &mut Specs) {
    for spec in specs.services.values_mut().filter(|s| s.kind == Kind::Service) {
        if d.percent(50) {
            spec.fallback = Some(Arc::from(STANDBY));
        }
        for _ in 0..d.range(0, 5) {
            let then = match d.range(0, 6) {
                0 => Then::RestartDependents,
                1 => Then::Run { timeout: millis(d, 100, 5_000) },
                2 if spec.fallback.is_some() => Then::FailOver,
                3 => Then::Stop,
                _ => Then::Restart,
            };
            spec.escalation.push(Rung { then, times: u32::try_from(d.range(1, 4)).unwrap_or(1) });
            if then == Then::Stop {
                break;
            }
        }
    }
    let standby = ServiceSpec { enabled: false, ..ServiceSpec::default() };
    specs.services.insert(Arc::from(STANDBY), standby);
}

fn spec(d: &mut Prng, name: &str, at: usize) -> ServiceSpec {
    let kind = if name == "migrate" { Kind::Oneshot } else { Kind::Service };
    let mut spec = ServiceSpec {
        kind,
        enabled: d.percent(92),
        instances: if kind == Kind::Service && d.percent(15) { 2 } else { 1 },
        restart: restart(d, kind),
        fingerprint: d.range(0, 3),
        ..ServiceSpec::default()
    };
    for on in NAMES.iter().take(at) {
        if !d.percent(30) {
            continue;
        }
        let condition = match d.range(0, 4) {
            _ if *on == "migrate" => Condition::Completed,
            0 => Condition::Started,
            _ => Condition::Ready,
        };
        let (required, bind) = (d.percent(75), d.percent(25));
        spec.depends_on.push(Dependency { on: Arc::from(*on), condition, required, bind });
    }
    spec.ready = match d.range(0, 5) {
        0 => Readiness::Delay(Duration::from_millis(d.range(0, 3_000))),
        1 => Readiness::Probe { period: millis(d, 200, 2_000), timeout: millis(d, 4_000, 20_000) },
        2 => Readiness::Signalled { timeout: millis(d, 4_000, 20_000) },
        _ => Readiness::None,
    };
    if kind == Kind::Service && d.percent(15) {
        spec.watchdog = Some(millis(d, 5_000, 30_000));
    }
    if kind == Kind::Service && d.percent(25) {
        spec.heartbeat = Some(millis(d, 5_000, 30_000));
    }
    let step = |d: &mut Prng| {
        let asking = Asking { id: d.range(0, 9), words: "by its own means".into() };
        let action = match d.range(0, 4) {
            0 => StopAction::Http(asking),
            1 => StopAction::Command(asking),
            _ => StopAction::Signal(*d.pick(&[15, 2, 1])),
        };
        let to = *d.pick(&[To::Main, To::Group, To::Tree]);
        StopStep { action, to, wait: Duration::from_millis(*d.pick(&[0, 1_000, 10_000])) }
    };
    spec.stop = (0..d.range(0, 4)).map(|_| step(d)).collect();
    spec.hooks = hooks(d);
    if d.percent(12) {
        let timeout = d.percent(70).then(|| millis(d, 1_000, 60_000));
        let timeout_of_command = millis(d, 500, 8_000);
        let then = *d.pick(&[
            AfterWait::Fail,
            AfterWait::StartAnyway,
            AfterWait::Run { timeout: timeout_of_command },
        ]);
        spec.wait_for = Some(WaitFor { names: vec!["tcp db:5432".into()], timeout, then });
    }
    if kind == Kind::Service {
        spec.probes = probes(d);
    }
    spec
}

fn probes(d: &mut Prng) -> Vec<Probe> {
    let purposes = [Purpose::Startup, Purpose::Ready, Purpose::Live, Purpose::Live];
    let mut probes = Vec::new();
    for purpose in purposes {
        if d.percent(12) {
            probes.push(Probe {
                purpose,
                name: "http 127.0.0.1:8080/".into(),
                period: millis(d, 2_000, 20_000),
                timeout: millis(d, 100, 3_000),
                initial_delay: millis(d, 0, 3_000),
                success_threshold: match purpose {
                    Purpose::Startup => 1,
                    Purpose::Ready | Purpose::Live => u32::try_from(d.range(1, 3)).unwrap_or(1),
                },
                // What has not started up by then has trouble of its own.
                failure_threshold: if purpose == Purpose::Startup {
                    30
                } else {
                    u32::try_from(d.range(1, 4)).unwrap_or(1)
                },
            });
        }
    }
    probes
}

fn millis(d: &mut Prng, low: u64, high: u64) -> Duration {
    Duration::from_millis(d.range(low, high))
}

fn hooks(d: &mut Prng) -> Hooks {
    let mut hook = || d.percent(12).then(|| Hook { timeout: millis(d, 500, 8_000), may_fail: d.percent(50) });
    let (pre_start, post_start, pre_stop, post_stop) = (hook(), hook(), hook(), hook());
    let (on_suspend, on_resume, on_power_change, on_session) = (hook(), hook(), hook(), hook());
    Hooks { pre_start, post_start, pre_stop, post_stop, on_suspend, on_resume, on_power_change, on_session }
}

fn restart(d: &mut Prng, kind: Kind) -> RestartPolicy {
    let mut restart = RestartPolicy::default();
    restart.policy = match (kind, d.range(0, 6)) {
        (Kind::Oneshot, 0..4) | (_, 0) => Policy::Never,
        (_, 1) => Policy::OnFailure,
        _ => Policy::Always,
    };
    restart.delay = Duration::from_millis(*d.pick(&[0, 100, 1_000, 1_000, 5_000]));
    restart.max_delay = Duration::from_millis(*d.pick(&[1_000, 10_000, 60_000]));
    restart.jitter = *d.pick(&[0, 25, 100]);
    restart.reset_after = Duration::from_secs(*d.pick(&[1, 10, 60]));
    restart.limit = match d.range(0, 4) {
        0 => None,
        1 => Some(Limit { max: 2, window: Duration::from_secs(10) }),
        _ => restart.limit,
    };
    if d.percent(20) {
        restart.on_crash_loop = OnCrashLoop::GiveUp;
    }
    restart.exit_codes.fatal = vec![99];
    restart
}

fn plan_faults(world: &mut World<Chance>, specs: &Specs, d: &mut Prng, begin: Mono) {
    let names: Vec<&str> = specs.services.keys().map(|n| &**n).collect();
    let storm = u64::try_from(STORM.as_millis()).unwrap_or(0);
    for _ in 0..d.range(0, 25) {
        let at = begin + Duration::from_millis(d.range(0, storm));
        let name = d.pick(&names).to_string();
        let deed = match d.range(0, 40) {
            0..12 => Deed::Command(By("anna".into()), command(d, &name)),
            12..20 => Deed::DaemonDies {
                after: usize::try_from(d.range(0, 64)).unwrap_or(0),
                away: millis(d, 0, 20_000),
            },
            20 => Deed::AnchorDies,
            21 => Deed::ClockStep(*d.pick(&[3_600_000, -3_600_000])),
            22 => Deed::Suspend(Duration::from_secs(d.range(1, 7_200))),
            23 => Deed::DiskFull(d.percent(50)),
            24 => Deed::ProgramChanges(ServiceId::new(&*name, 1)),
            25 => Deed::LateReports(millis(d, 1, 5_000)),
            28 => Deed::Starved(d.percent(60)),
            29 => Deed::SwappedReports,
            38 | 39 => Deed::ChecksFail(d.percent(60)),
            36 | 37 => Deed::OutsideGone(d.percent(60)),
            26 => Deed::DoubledReport(millis(d, 0, 30_000)),
            27 => {
                let saying = *d.pick(&[
                    Saying::Broken,
                    Saying::Extend(Duration::from_secs(30)),
                    Saying::Watchdog(Duration::from_secs(10)),
                ]);
                Deed::Says(ServiceId::new(&*name, 1), saying)
            }
            30..34 => Deed::Host(*d.pick(&[
                HostEvent::Suspend,
                HostEvent::Resume,
                HostEvent::PowerChange,
                HostEvent::Session(SessionEvent::Lock, 1),
            ])),
            _ => Deed::Reload(changed(d, specs)),
        };
        world.plan(at, deed);
    }
}

fn command(d: &mut Prng, name: &str) -> Command {
    let services = vec![name.to_owned()];
    match d.range(0, 16) {
        0..3 => Command::Start { services, ignore_dependencies: d.percent(15) },
        3..6 => Command::Stop { services, with_dependents: d.percent(40) },
        6..8 => Command::Restart { services },
        8 => Command::Signal { services, signal: 1, to: To::Main },
        9..11 => Command::Pause {
            services,
            freeze: d.percent(40),
            stop_after: d.percent(40).then(|| millis(d, 1_000, 60_000)),
        },
        11..13 => Command::Resume { services },
        13 => Command::Enable { services },
        14 => Command::Disable { services },
        _ => {
            Command::Scale { service: name.to_owned(), instances: u16::try_from(d.range(1, 4)).unwrap_or(1) }
        }
    }
}

/// The same services with some settings changed, one gone, one back.
fn changed(d: &mut Prng, old: &Specs) -> Specs {
    let mut specs = Specs::default();
    for (at, name) in NAMES.iter().enumerate() {
        let before = old.services.get(*name);
        let keep = before.is_some() && !d.percent(10);
        let back = before.is_none() && d.percent(10);
        if keep || back {
            let mut fresh = spec(d, name, at);
            if let (Some(before), false) = (before, d.percent(30)) {
                fresh = before.clone();
            } else if let (Some(before), true) = (before, d.percent(50)) {
                fresh.fingerprint = before.fingerprint;
            }
            fresh.depends_on.retain(|dep| specs.services.contains_key(&dep.on));
            specs.services.insert(Arc::from(*name), fresh);
        }
    }
    if old.services.contains_key(STANDBY) && d.percent(80) {
        stand_by(d, &mut specs);
    }
    specs.max_parallel_starts = old.max_parallel_starts;
    specs.healing = old.healing.clone();
    specs
}
