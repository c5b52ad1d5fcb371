//! A running instance: is it ready, does it give life signs, for how long has it been well?

use core::time::Duration;

use crate::effect::{Effect, Role};
use crate::event::EventKind;
use crate::id::{ProbeId, RunId};
use crate::service::start::first_check;
use crate::service::{Alive, Cause, Check, LastAnswer, Origin, Phase, Probed, Stage};
use crate::spec::{Kind, Purpose, Readiness, StopStep};
use crate::strain::{HostSays, PATIENCE, Waiting};
use crate::supervisor::{DeadlineReason, Outcome, Supervisor};
use crate::time::{Human, Mono, Now};

/// The shortest bound of one attempt: a slow answer is an answer.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);
/// The shell bounds an attempt itself; an answer that is this much later was lost.
pub(crate) const ANSWER_LOST_AFTER: Duration = Duration::from_secs(1);
/// How long a program that says `STOPPING=1` has where its stop ladder has no step.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// A deadline that is noticed this late was slept over: the host was suspended, or there was no daemon. The program may
/// not have had its time either, or its sign may still be on the way.
const SLEPT_OVER: Duration = Duration::from_secs(2);
/// What it gets then.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn slept_over(at: Mono, now: Now) -> bool {
    now.mono.since(at) >= SLEPT_OVER
}

impl Supervisor {
    fn alive_of(&mut self, run: RunId) -> Option<(usize, &mut Alive)> {
        let i = self.runs.get(&run).copied()?;
        match &mut self.services[i].s.phase {
            Phase::Alive(a) if a.run == run => Some((i, a)),
            Phase::Alive(_)
            | Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Ending(_) => None,
        }
    }

    /// What is due of one instance. Every arm moves a deadline on.
    pub(crate) fn due(&mut self, i: usize, now: Now) {
        let reset_after = self.spec(i).restart.reset_after;
        // Life signs move a deadline without touching the queue, so its entry may be out of date.
        self.retime(i);
        let Some((at, why)) = self.services[i].s.next_deadline(reset_after) else { return };
        if at > now.mono {
            return;
        }
        if why == DeadlineReason::Probe && self.listed_due(i, now) {
            return;
        }
        self.touched.push(i);
        let s = &mut self.services[i].s;
        match why {
            DeadlineReason::Restart => {
                s.origin = Origin::Policy;
                s.phase = Phase::Waiting;
                self.try_start(i, now);
            }
            DeadlineReason::Probe => self.probe_due(i, now),
            DeadlineReason::Look => self.look_due(i, now),
            DeadlineReason::WaitEnds => self.wait_ends(i, now),
            DeadlineReason::ReadyTimeout => self.ready_timeout(i, now),
            DeadlineReason::Up => self.become_up(i, now),
            DeadlineReason::ResetCount => {
                s.tracker.rested();
                self.trial_passed(i);
                self.touch(i);
            }
            DeadlineReason::StopStep => self.stop_step_due(i, now),
            DeadlineReason::HookTimeout | DeadlineReason::KillAgain => self.kill_due(i, why, now),
            DeadlineReason::Watchdog => self.watchdog_due(i, now),
            DeadlineReason::Heartbeat => self.heartbeat_due(i, now),
            DeadlineReason::HoldEnds => self.hold_ends(i, now),
            DeadlineReason::IncidentEnds => self.incident_due(i, now),
        }
    }

    fn probe_due(&mut self, i: usize, now: Now) {
        let ready = self.spec(i).ready.clone();
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        if let Some((probe, lost)) = a.check.in_flight {
            if lost <= now.mono {
                self.probes.remove(&probe);
                a.check.in_flight = None;
                a.check.last = LastAnswer::Failed("no answer".into());
                a.check.next = Some(now.mono);
                self.touch(i);
            }
            return;
        }
        let Readiness::Probe { period, .. } = ready else {
            a.check.next = None;
            return;
        };
        let period = period.max(Duration::from_millis(1));
        let left = a.check.deadline.map_or(SHORTEST_ATTEMPT, |at| at.since(now.mono));
        let timeout = period.max(SHORTEST_ATTEMPT).min(left).max(Duration::from_millis(1));
        let run = a.run;
        a.check.next = Some(now.mono + period);
        let probe = ProbeId(self.new_id());
        if let Phase::Alive(a) = &mut self.services[i].s.phase {
            a.check.in_flight = Some((probe, now.mono + timeout + ANSWER_LOST_AFTER));
        }
        self.probes.insert(probe, i);
        let service = self.services[i].id.clone();
        self.effect(Effect::Probe { probe, listed: None, run, service, timeout });
        self.touch(i);
    }

    /// Drops the attempt under way, whose answer no longer matters.
    fn forget_probe(&mut self, i: usize) {
        if let Phase::Alive(a) = &mut self.services[i].s.phase
            && let Some((probe, _)) = a.check.in_flight.take()
        {
            self.probes.remove(&probe);
        }
    }

    /// Drops all attempts under way.
    pub(crate) fn forget_probes(&mut self, i: usize) {
        self.forget_probe(i);
        if let Phase::Alive(a) = &mut self.services[i].s.phase {
            for (probe, _) in a.probes.iter_mut().filter_map(|p| p.in_flight.take()) {
                self.probes.remove(&probe);
            }
        }
    }

    pub(crate) fn on_probe(&mut self, now: Now, probe: ProbeId, outcome: Outcome) {
        let Some(i) = self.probes.remove(&probe) else { return };
        let Phase::Alive(a) = &mut self.services[i].s.phase else {
            return self.looked(i, probe, outcome, now);
        };
        if a.check.in_flight.is_none_or(|(p, _)| p != probe) {
            self.on_listed(i, probe, outcome, now);
            return;
        }
        a.check.in_flight = None;
        // Where an attempt took longer than the period, the next one follows at once.
        a.check.next = a.check.next.map(|at| at.max(now.mono));
        match outcome {
            Outcome::Pass => self.become_up(i, now),
            Outcome::Fail(why) => {
                a.check.last = LastAnswer::Failed(why);
                if a.check.overtime {
                    a.check.deadline = Some(now.mono);
                }
            }
            Outcome::Unknown(why) => a.check.last = LastAnswer::Unknown(why),
        }
        self.touch(i);
    }

    pub(crate) fn on_ready(&mut self, now: Now, run: RunId) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        if !matches!(self.spec(i).ready, Readiness::Signalled { .. }) {
            return;
        }
        match &mut self.services[i].s.phase {
            // The news overtook the confirmation of the start.
            Phase::Spawning { run: asked, ready, .. } if *asked == run => {
                *ready = true;
                self.touch(i);
            }
            // Its startup check comes first.
            Phase::Alive(a) if a.run == run && !a.started_up() => a.said_ready = true,
            Phase::Alive(a) if a.run == run && a.up.is_none() => self.become_up(i, now),
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => {}
        }
    }

    /// It is ready, or has lived long enough to count as up.
    pub(crate) fn become_up(&mut self, i: usize, now: Now) {
        self.forget_probe(i);
        let (watchdog, heartbeat) = (self.spec(i).watchdog, self.spec(i).heartbeat);
        let has_hook = self.spec(i).hooks.post_start.is_some();
        let s = &mut self.services[i].s;
        let Phase::Alive(a) = &mut s.phase else { return };
        if a.up.is_some() {
            return;
        }
        s.newcomer = false;
        a.up = Some(now.mono);
        a.check = Check::default();
        let (run, checked) = (a.run, a.checked);
        let after = now.mono.since(a.started);
        if checked {
            let interval = a.watchdog.map(|(interval, _)| interval).or(watchdog);
            a.watchdog = interval.map(|interval| (interval, now.mono + interval));
            a.heartbeat = heartbeat.map(|interval| (interval, now.mono + interval));
            s.tracker.became_healthy();
            self.tell(now, Some(i), Some(run), EventKind::Ready { after });
            if has_hook && self.services[i].s.hook.is_none() {
                self.start_hook(i, Role::PostStart, now);
            }
        }
        self.begin_probes(i, now);
        self.hear_news(i, now);
        self.touch(i);
    }

    fn ready_timeout(&mut self, i: usize, now: Now) {
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        if a.check.deadline.is_some_and(|at| slept_over(at, now)) {
            a.check.deadline = Some(now.mono + GRACE);
            self.touch(i);
            return;
        }
        let timeout = now.mono.since(a.started);
        let last = match &a.check.last {
            // What cannot be said never counts against a service: it has until the next answer.
            LastAnswer::Unknown(_) => {
                a.check.deadline = Some(now.mono + SHORTEST_ATTEMPT);
                a.check.overtime = true;
                self.touch(i);
                return;
            }
            LastAnswer::Failed(why) => why.clone(),
            LastAnswer::None | LastAnswer::Passed => "no sign of readiness came".into(),
        };
        let run = a.run;
        self.tell(now, Some(i), Some(run), EventKind::ReadyTimedOut { timeout, last: last.clone() });
        let words = alloc::format!("not ready within {}: {last}", Human(timeout));
        self.begin_stop(i, Cause::Failed(words), now);
    }

    pub(crate) fn on_stopping(&mut self, now: Now, run: RunId) {
        let Some((i, _)) = self.alive_of(run) else { return };
        let within = self.spec(i).stop.first().map_or(LEAVE_WITHIN, |StopStep { wait, .. }| *wait);
        if let Some((_, a)) = self.alive_of(run)
            && a.leaving.is_none()
        {
            a.leaving = Some(now.mono + within);
            a.watchdog = None;
            a.heartbeat = None;
        }
        self.touch(i);
    }

    /// A life sign. It touches neither timer nor snapshot, since it may come often: the deadline is looked at again when
    /// it is due, and a new daemon begins a new interval.
    pub(crate) fn on_alive(&mut self, now: Now, run: RunId) {
        if let Some((_, a)) = self.alive_of(run)
            && let Some((interval, at)) = &mut a.watchdog
        {
            *at = now.mono + *interval;
        }
    }

    /// A heartbeat, treated as a life sign is.
    pub(crate) fn on_beat(&mut self, now: Now, run: RunId) {
        if let Some((_, a)) = self.alive_of(run)
            && let Some((interval, at)) = &mut a.heartbeat
        {
            *at = now.mono + *interval;
            if core::mem::take(&mut a.silent)
                && let Some(i) = self.runs.get(&run).copied()
            {
                if let Some(incident) = &mut self.services[i].s.incident {
                    incident.calm_since = now.mono;
                }
                self.touch(i);
            }
        }
    }

    pub(crate) fn on_set_watchdog(&mut self, now: Now, run: RunId, interval: Duration) {
        let Some((i, a)) = self.alive_of(run) else { return };
        a.watchdog = (!interval.is_zero()).then(|| (interval, now.mono + interval));
        self.touch(i);
    }

    pub(crate) fn on_watchdog_triggered(&mut self, now: Now, run: RunId) {
        let Some((i, _)) = self.alive_of(run) else { return };
        if self.services[i].s.hold.is_none() {
            self.begin_stop(i, Cause::Failed("it said itself that it is broken".into()), now);
        }
    }

    pub(crate) fn watchdog_due(&mut self, i: usize, now: Now) {
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let Some((timeout, at)) = a.watchdog else { return };
        if slept_over(at, now) {
            a.watchdog = Some((timeout, now.mono + timeout));
            self.touch(i);
            return;
        }
        let run = a.run;
        match self.host_says(now) {
            HostSays::Well => {}
            HostSays::Short(_) => return self.put_off(i, now.mono + timeout, |a| &mut a.watchdog),
            HostSays::NotYet => {
                let until = now.mono + PATIENCE;
                self.wait_for_host(Waiting::Sign(i, run, until));
                return self.put_off(i, until, |a| &mut a.watchdog);
            }
        }
        self.tell(now, Some(i), Some(run), EventKind::WatchdogExpired { timeout });
        let words = alloc::format!("no life sign for {}", Human(timeout));
        self.begin_stop(i, Cause::Failed(words), now);
    }

    pub(crate) fn heartbeat_due(&mut self, i: usize, now: Now) {
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        let Some((after, at)) = a.heartbeat else { return };
        if slept_over(at, now) {
            a.heartbeat = Some((after, now.mono + after));
            self.touch(i);
            return;
        }
        let run = a.run;
        match self.host_says(now) {
            HostSays::Well => {}
            HostSays::Short(_) => return self.put_off(i, now.mono + after, |a| &mut a.heartbeat),
            HostSays::NotYet => {
                let until = now.mono + PATIENCE;
                self.wait_for_host(Waiting::Sign(i, run, until));
                return self.put_off(i, until, |a| &mut a.heartbeat);
            }
        }
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        // Where a budget is spent it is left as it is, and looked at again.
        a.heartbeat = Some((after, now.mono + after));
        let (run, new) = (a.run, !core::mem::replace(&mut a.silent, true));
        if new {
            self.tell(now, Some(i), Some(run), EventKind::HeartbeatLost { after });
        }
        self.heal(i, alloc::format!("no heartbeat for {}", Human(after)), new, now);
        self.touch(i);
    }

    /// A sign that did not come is looked at again then.
    fn put_off(&mut self, i: usize, until: Mono, sign: impl Fn(&mut Alive) -> &mut Option<(Duration, Mono)>) {
        if let Phase::Alive(a) = &mut self.services[i].s.phase
            && let Some((_, due)) = sign(a)
        {
            *due = until;
        }
        self.touch(i);
    }

    /// It is no longer held: what was not counted while it was begins anew.
    pub(crate) fn rearm(&mut self, i: usize, now: Now) {
        self.forget_probes(i);
        let spec = self.spec(i);
        let check = first_check(&spec.ready, spec.kind == Kind::Oneshot, now);
        let mut probes = Probed::of(&spec.probes);
        let has_startup = spec.probes.iter().any(|p| p.purpose == Purpose::Startup);
        let checked = spec.ready != Readiness::None || has_startup;
        let Phase::Alive(a) = &mut self.services[i].s.phase else { return };
        // What has started up once does not do so again.
        let started_up = a.up.is_some() || (has_startup && a.started_up());
        probes.iter_mut().filter(|p| p.purpose == Purpose::Startup).for_each(|p| p.passed = started_up);
        a.probes = probes;
        if a.up.is_none() {
            a.checked = checked;
            a.check = if a.started_up() { check } else { Check::default() };
        }
        a.renew_signs(now.mono);
        self.begin_probes(i, now);
        self.hear_news(i, now);
        self.touch(i);
    }

    pub(crate) fn on_extend_timeout(&mut self, now: Now, run: RunId, by: Duration) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let until = now.mono + by;
        match &mut self.services[i].s.phase {
            Phase::Alive(a) if a.run == run => {
                if let Some(leaving) = &mut a.leaving {
                    *leaving = (*leaving).max(until);
                } else if let Some(deadline) = &mut a.check.deadline {
                    *deadline = (*deadline).max(until);
                    a.check.overtime = false;
                }
            }
            Phase::Ending(e) if e.main.is_some_and(|m| m.run == run) => {
                if let Stage::Step { until: step, .. } = &mut e.stage {
                    *step = (*step).max(until);
                }
            }
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => {}
        }
        self.touch(i);
    }
}
