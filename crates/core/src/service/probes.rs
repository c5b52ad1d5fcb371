//! Checks that go on while an instance lives: when each is tried, and what its answers add up to.
//!
//! An attempt changes nothing that a new daemon has to know, so it touches the timer and not the snapshot; only a
//! change of health does. A new daemon counts anew.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::effect::Effect;
use crate::event::{EventKind, Level};
use crate::id::ProbeId;
use crate::service::health::{ANSWER_LOST_AFTER, GRACE, slept_over};
use crate::service::restart::random;
use crate::service::start::first_check;
use crate::service::{Alive, LastAnswer, Phase, Probed};
use crate::spec::{Kind, Probe, Purpose, Readiness};
use crate::strain::{HostSays, PATIENCE, Waiting};
use crate::supervisor::{Outcome, Supervisor};
use crate::time::{Human, Mono, Now};

/// Checks that are due within so long of each other are made together. Of a period under 5 s it is a hundredth.
const SHARED: Duration = Duration::from_millis(50);
/// A shorter one would be a busy loop.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

impl Probed {
    /// Nothing is known of any of them yet.
    pub(crate) fn of(probes: &[Probe]) -> Vec<Probed> {
        let fresh = |probe: &Probe| Probed {
            purpose: probe.purpose,
            next: None,
            in_flight: None,
            passes: 0,
            failures: 0,
            ill: None,
            passed: false,
            last: LastAnswer::None,
        };
        probes.iter().map(fresh).collect()
    }

    /// What was under way is lost; what was found stays.
    pub(crate) fn forget(&mut self) {
        self.next = None;
        self.in_flight = None;
        self.passes = 0;
        self.failures = 0;
    }

    /// Whether it is tried now.
    fn is_on(&self, up: bool, started_up: bool) -> bool {
        match self.purpose {
            Purpose::Startup => !self.passed,
            Purpose::Ready => up && started_up,
            Purpose::Live => started_up,
        }
    }
}

impl Alive {
    /// Its startup checks have passed, if it has some.
    pub(crate) fn started_up(&self) -> bool {
        self.probes.iter().all(|p| p.purpose != Purpose::Startup || p.passed)
    }
}

impl Supervisor {
    /// Sets the first attempt of each check that is to be tried from now on, and ends those that are not.
    pub(crate) fn begin_probes(&mut self, i: usize, now: Now) {
        if !matches!(&self.services[i].s.phase, Phase::Alive(a) if !a.probes.is_empty()) {
            return;
        }
        let probes = self.spec(i).probes.clone();
        let draws: Vec<u64> = probes.iter().map(|_| self.draw()).collect();
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let (up, started_up) = (a.up.is_some(), a.started_up());
        for ((p, probe), draw) in a.probes.iter_mut().zip(&probes).zip(draws) {
            if !p.is_on(up, started_up) {
                p.next = None;
            } else if p.due().is_none() {
                let from = (a.started + probe.initial_delay).max(now.mono);
                // Wherever many start at once their checks must not stay in step. What starts up is looked at at once.
                p.next = Some(match p.purpose {
                    Purpose::Startup => from,
                    Purpose::Ready | Purpose::Live => {
                        together(from + within(probe.period, draw), probe.period)
                    }
                });
            }
        }
    }

    /// A number that looks random and never comes twice in the life of a guardian.
    fn draw(&mut self) -> u64 {
        let key = self.new_id();
        random(self.guardian.seed, key)
    }

    /// Does what is due of one check that goes on; false if nothing is.
    pub(crate) fn listed_due(&mut self, i: usize, now: Now) -> bool {
        let Phase::Alive(a) = &self.services[i].s.phase else { return false };
        let due = |p: &Probed| p.due().filter(|at| *at <= now.mono);
        let first = a.probes.iter().enumerate().filter_map(|(k, p)| due(p).map(|at| (at, k))).min();
        let Some((at, k)) = first else { return false };
        if let Some((probe, _)) = a.probes[k].in_flight {
            self.on_listed(i, probe, Outcome::Fail("no answer".into()), now);
            return true;
        }
        if slept_over(at, now) {
            self.go_blind(at, now);
        }
        self.try_listed(i, k, at, now);
        self.retime(i);
        true
    }

    fn try_listed(&mut self, i: usize, k: usize, at: Mono, now: Now) {
        let Some(probe) = self.spec(i).probes.get(k) else { return };
        let (period, timeout) = (probe.period.max(SHORTEST_PERIOD), probe.timeout.max(SHORTEST_PERIOD));
        let startup = probe.purpose == Purpose::Startup;
        // Its place in the period stays, unless some were missed. A startup check finds its place after its first attempt.
        let draw = self.draw();
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let p = &mut a.probes[k];
        let next = match startup && p.last == LastAnswer::None {
            true => together(at + period / 2 + within(period / 2, draw), period),
            false => at + period,
        };
        p.next = Some(if next <= now.mono { together(now.mono + period, period) } else { next });
        let run = a.run;
        let id = ProbeId(self.new_id());
        if let Phase::Alive(a) = &mut self.services[i].s.phase {
            a.probes[k].in_flight = Some((id, now.mono + timeout + ANSWER_LOST_AFTER));
        }
        self.probes.insert(id, i);
        let service = self.services[i].id.clone();
        self.effect(Effect::Probe { probe: id, listed: Some(k), run, service, timeout });
    }

    /// The host or this daemon slept: what failed meanwhile, or fails in the next moments, may have failed by that.
    fn go_blind(&mut self, since: Mono, now: Now) {
        if now.mono >= self.blind_until {
            let slept = Human(now.mono.since(since));
            let text = format!(
                "nothing was checked for {slept}: the host was suspended or too busy; failed checks do not count for {}",
                Human(GRACE)
            );
            self.tell(now, None, None, EventKind::Told { level: Level::Info, text });
        }
        self.blind_until = now.mono + GRACE;
    }

    /// The answer of an attempt.
    pub(crate) fn on_listed(&mut self, i: usize, id: ProbeId, outcome: Outcome, now: Now) {
        self.probes.remove(&id);
        let blind = now.mono < self.blind_until;
        let held = self.services[i].s.hold.is_some();
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let Some(k) = a.probes.iter().position(|p| p.in_flight.is_some_and(|(probe, _)| probe == id)) else {
            return;
        };
        let up = a.up.is_some();
        // Whoever holds it knows; and one that is not up yet has the time of its readiness.
        let counts = !held && (up || a.probes[k].purpose == Purpose::Startup);
        let lost = a.probes[k].in_flight.map_or(now.mono, |(_, lost)| lost);
        // It was on its way while the host slept, and is heard before anything that was due then.
        let blind = blind || slept_over(lost, now);
        let mut short = None;
        if let Outcome::Fail(why) = &outcome
            && counts
            && !blind
        {
            match self.host_says(now) {
                HostSays::Well => {}
                HostSays::Short(what) => short = Some(what),
                HostSays::NotYet => {
                    self.wait_for_host(Waiting::Probe(i, id, why.clone()));
                    self.probes.insert(id, i);
                    if let Phase::Alive(a) = &mut self.services[i].s.phase {
                        a.probes[k].in_flight = Some((id, lost.max(now.mono + PATIENCE)));
                    }
                    self.retime(i);
                    return;
                }
            }
        }
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let p = &mut a.probes[k];
        p.in_flight = None;
        // Where an attempt took longer than the period, the next one follows at once.
        p.next = p.next.map(|at| at.max(now.mono));
        match outcome {
            Outcome::Pass => {
                p.failures = 0;
                p.passes = p.passes.saturating_add(1);
                p.last = LastAnswer::Passed;
                self.listed_passed(i, k, now);
            }
            Outcome::Unknown(why) => p.last = LastAnswer::Unknown(why),
            Outcome::Fail(why) if blind => {
                p.last = LastAnswer::Unknown(format!("{why}, just after the host or keepwell slept"));
            }
            Outcome::Fail(why) if short.is_some() => {
                let what = short.unwrap_or_default();
                p.last = LastAnswer::Unknown(format!("{why}, while the host {what}"));
            }
            Outcome::Fail(why) => {
                p.passes = 0;
                if counts {
                    p.failures = p.failures.saturating_add(1);
                }
                p.last = LastAnswer::Failed(why.clone());
                self.listed_failed(i, k, why, now);
            }
        }
        self.retime(i);
    }

    fn listed_passed(&mut self, i: usize, k: usize, now: Now) {
        let Some(probe) = self.spec(i).probes.get(k) else { return };
        let (threshold, purpose, name) = (probe.success_threshold, probe.purpose, probe.name.clone());
        let spec = self.spec(i);
        let (ready, oneshot) = (spec.ready.clone(), spec.kind == Kind::Oneshot);
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let p = &mut a.probes[k];
        if p.passes < threshold {
            return;
        }
        let first = !core::mem::replace(&mut p.passed, true);
        if purpose == Purpose::Live {
            self.trial_passed(i);
        }
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let p = &mut a.probes[k];
        if let Some((since, _)) = p.ill.take() {
            a.mended = true;
            if a.ill().is_none() && a.checked {
                // Its health counts from now on.
                a.up = Some(now.mono);
            }
            let (run, after) = (a.run, now.mono.since(since));
            self.tell(now, Some(i), Some(run), EventKind::ProbeRecovered { purpose, probe: name, after });
            self.touch(i);
        }
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        if purpose == Purpose::Startup && first && a.started_up() && a.up.is_none() {
            let at_once = a.said_ready || ready == Readiness::None;
            a.check = first_check(&ready, oneshot, now);
            if at_once {
                self.become_up(i, now);
            }
            self.begin_probes(i, now);
            self.touch(i);
        }
    }

    fn listed_failed(&mut self, i: usize, k: usize, last: String, now: Now) {
        let Some(probe) = self.spec(i).probes.get(k) else { return };
        let (threshold, purpose, name) = (probe.failure_threshold.max(1), probe.purpose, probe.name.clone());
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let (run, up) = (a.run, a.up.is_some());
        let p = &mut a.probes[k];
        let failures = p.failures;
        if failures < threshold || (p.ill.is_some() && purpose == Purpose::Ready) {
            return;
        }
        let times = if failures == 1 { String::new() } else { format!(" {failures} times in a row") };
        let words = match purpose {
            Purpose::Ready => format!("not ready any more: {last}"),
            Purpose::Startup | Purpose::Live => format!("its {} check failed{times}: {last}", purpose.name()),
        };
        let new = p.ill.is_none();
        if new {
            p.ill = Some((now.mono, words.clone()));
            let kind = EventKind::ProbeFailed { purpose, probe: name, failures, last };
            self.tell(now, Some(i), Some(run), kind);
        }
        match purpose {
            Purpose::Ready => {}
            // It gets no more than its time to start, as without this check.
            Purpose::Startup if !up => self.begin_stop(i, crate::service::Cause::Failed(words), now),
            Purpose::Startup => {}
            Purpose::Live => self.heal(i, words, new, now),
        }
        if new {
            self.touch(i);
        }
    }
}

/// The next moment that the checks of all services share: to wake up for one check costs as much as the check.
fn together(at: Mono, period: Duration) -> Mono {
    let step = u64::try_from((period / 100).min(SHARED).as_nanos()).unwrap_or(0).max(1);
    Mono(at.0.div_ceil(step).saturating_mul(step))
}

/// A part of `period` that `draw` chooses.
fn within(period: Duration, draw: u64) -> Duration {
    let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos(draw % nanos)
}
