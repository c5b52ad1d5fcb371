//! The way down: the order, the deadlines, what is left, and what follows. The ladder itself is in `ladder`.

use crate::effect::{Effect, Role};
use crate::event::{EventKind, ExitClass};
use crate::service::health::{GRACE, slept_over};
use crate::service::restart::{self, Spell, Verdict};
use crate::service::{Asked, Cause, Ending, GaveUp, HookEnd, KILL_AGAIN, MainRun, Origin, Phase, Stage};
use crate::spec::{Kind, Policy};
use crate::supervisor::{DeadlineReason, Supervisor};
use crate::time::Now;

impl Supervisor {
    /// Begins to end what runs of an instance, or gives what ends already another cause. Where nothing runs, nothing is
    /// done: the caller says what becomes of its phase.
    pub(crate) fn begin_stop(&mut self, i: usize, cause: Cause, now: Now) {
        let reset_after = self.spec(i).restart.reset_after;
        let looked_at = matches!(&cause, Cause::Failed(_)).then_some(self.specs.healing.evidence).flatten();
        let s = &mut self.services[i].s;
        let mut ending = Ending {
            cause,
            main: None,
            stage: Stage::Hooks,
            healthy: false,
            rested: false,
            again: false,
            kill_at: None,
            step_at: now.mono,
        };
        match &mut s.phase {
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. } => return,
            Phase::PreStart => {}
            Phase::Spawning { run, asked, .. } => {
                let main = MainRun { run: *run, pid: 0, started: *asked, was_ready: false, exited: false };
                ending.main = Some(main);
                ending.stage = Stage::AwaitSpawn;
            }
            Phase::Alive(a) => {
                let spell = a.spell(now.mono, reset_after);
                let main = MainRun {
                    run: a.run,
                    pid: a.pid,
                    started: a.started,
                    was_ready: a.up.is_some(),
                    exited: false,
                };
                ending.main = Some(main);
                ending.stage = match looked_at {
                    Some(time) => Stage::Evidence { until: now.mono + time },
                    None => Stage::AfterDependents,
                };
                ending.healthy = spell.healthy;
                ending.rested = spell.rested;
            }
            Phase::Ending(e) => {
                // A binding is no news to what goes down for a reason of its own.
                if !matches!(ending.cause, Cause::Bound(_)) {
                    e.cause = ending.cause;
                }
                // Who asks for its end waits for no evidence.
                let skips = matches!(e.stage, Stage::Evidence { .. }) && !matches!(e.cause, Cause::Failed(_));
                if skips {
                    e.stage = Stage::AfterDependents;
                }
                let moot = e.stage == Stage::Escalating && !matches!(e.cause, Cause::Failed(_));
                self.touch(i);
                if moot {
                    self.cancel_hook(i, HookEnd::Cancelled, now);
                }
                if skips {
                    self.advance(i, now);
                }
                return;
            }
        }
        self.note_cause(i, &ending.cause, now);
        if let (Cause::Failed(words), Some(time), Some(main)) = (&ending.cause, looked_at, ending.main)
            && matches!(ending.stage, Stage::Evidence { .. })
        {
            self.take_evidence(i, main.run, words, time);
        }
        self.forget_probes(i);
        self.forget_news(i);
        let s = &mut self.services[i].s;
        s.phase = Phase::Ending(ending);
        s.last_stop = None;
        if s.frozen
            && let Some(run) = s.main_run()
        {
            // What is frozen can neither hear a signal nor end.
            self.effect(Effect::Thaw { run });
        }
        self.cancel_hook(i, HookEnd::Cancelled, now);
        self.touch(i);
        self.advance(i, now);
    }

    /// What is ended because it failed has failed.
    fn note_cause(&mut self, i: usize, cause: &Cause, now: Now) {
        let Cause::Failed(words) = cause else { return };
        let run = self.services[i].s.main_run();
        let opened = self.failed(i, run, words.clone(), now);
        if let Some(kind) = opened {
            self.tell(now, Some(i), run, kind);
        }
        self.acted(i, "ended because it failed");
    }

    /// Takes the way down as far as it goes now.
    pub(crate) fn advance(&mut self, i: usize, now: Now) {
        let hook_runs = self.services[i].s.hook.is_some();
        let Phase::Ending(e) = &mut self.services[i].s.phase else { return };
        let Some(main) = e.main else {
            if !hook_runs {
                self.all_gone(i, now);
            }
            return;
        };
        match e.stage {
            Stage::AfterDependents => {
                if self.dependents_are_stopping(i) {
                    return;
                }
                let kill_at = self.spec(i).stop_timeout.map(|timeout| now.mono + timeout);
                if let Phase::Ending(e) = &mut self.services[i].s.phase
                    && e.kill_at.is_none()
                {
                    e.kill_at = kill_at;
                }
                if main.exited || self.spec(i).hooks.pre_stop.is_none() {
                    self.take_step(i, 0, now);
                } else if !hook_runs {
                    if let Phase::Ending(e) = &mut self.services[i].s.phase {
                        e.stage = Stage::PreStop;
                    }
                    self.start_hook(i, Role::PreStop, now);
                }
            }
            Stage::PreStop if !hook_runs => self.take_step(i, 0, now),
            Stage::Step { index, asked: Asked::Owed, .. } if !hook_runs => {
                self.start_stop_command(i, index, now);
            }
            Stage::PreStop
            | Stage::AwaitSpawn
            | Stage::Evidence { .. }
            | Stage::Step { .. }
            | Stage::Killed { .. }
            | Stage::Hooks
            | Stage::PostStop
            | Stage::Escalating => {}
        }
    }

    fn dependents_are_stopping(&self, i: usize) -> bool {
        let group = &self.graph.groups[self.services[i].group];
        group.dependents.iter().any(|d| self.graph.groups[*d].counts.stopping > 0)
    }

    /// A step's time is over, or that of a program which said that it is stopping.
    pub(crate) fn stop_step_due(&mut self, i: usize, now: Now) {
        match &mut self.services[i].s.phase {
            Phase::Alive(_) => {
                let words = "it said that it is stopping, and did not end".into();
                self.begin_stop(i, Cause::Failed(words), now);
            }
            Phase::Ending(Ending { main: Some(main), stage: Stage::Evidence { until }, .. })
                if *until <= now.mono =>
            {
                let (run, why) = (main.run, "it took too long".into());
                self.on_evidence_taken(now, run, Err(why));
            }
            Phase::Ending(Ending { stage: Stage::Step { until, .. }, kill_at, .. })
                if slept_over(*until, now) =>
            {
                *until = now.mono + GRACE;
                *kill_at = kill_at.map(|at| at.max(*until));
                self.touch(i);
            }
            Phase::Ending(Ending { kill_at: Some(at), stage, .. }) if *at <= now.mono => match stage {
                Stage::PreStop | Stage::Step { .. } => {
                    let last = self.spec(i).stop.len();
                    self.cancel_hook(i, HookEnd::Cancelled, now);
                    self.next_step(i, last, now);
                }
                Stage::AwaitSpawn
                | Stage::Evidence { .. }
                | Stage::AfterDependents
                | Stage::Killed { .. }
                | Stage::Hooks
                | Stage::PostStop
                | Stage::Escalating => {}
            },
            Phase::Ending(Ending { stage: Stage::Step { index, .. }, .. }) => {
                let next = *index + 1;
                self.next_step(i, next, now);
            }
            Phase::Ending(_)
            | Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. } => {}
        }
    }

    /// A hook's time is over, or something has outlived its kill.
    pub(crate) fn kill_due(&mut self, i: usize, why: DeadlineReason, now: Now) {
        if let Some(hook) = &self.services[i].s.hook
            && hook.until <= now.mono
        {
            let (run, until) = (hook.run, hook.until);
            let end = if hook.role == Role::Stop { HookEnd::Cancelled } else { HookEnd::Timeout };
            if why == DeadlineReason::KillAgain {
                let waited = now.mono.since(until) + KILL_AGAIN;
                self.tell(now, Some(i), Some(run), EventKind::StopStuck { waited });
            }
            self.cancel_hook(i, end, now);
            // A hook that cannot be killed must not keep its service from being stopped.
            if why == DeadlineReason::KillAgain
                && let Phase::Ending(Ending { stage: Stage::AfterDependents | Stage::PreStop, .. }) =
                    self.services[i].s.phase
            {
                self.take_step(i, 0, now);
            }
            return;
        }
        let Phase::Ending(Ending { main: Some(main), stage: Stage::Killed { since, again }, .. }) =
            &mut self.services[i].s.phase
        else {
            return;
        };
        *again = now.mono + KILL_AGAIN;
        let (run, waited) = (main.run, now.mono.since(*since));
        self.tell(now, Some(i), Some(run), EventKind::StopStuck { waited });
        self.effect(Effect::Kill { run });
        self.touch(i);
    }

    /// Ends what runs; where nothing does, the instance is down now.
    pub(crate) fn go_down(&mut self, i: usize, cause: Cause, now: Now) {
        self.begin_stop(i, cause, now);
        let s = &mut self.services[i].s;
        match &s.phase {
            Phase::Waiting | Phase::BackingOff { .. } | Phase::CrashLooping { .. } => {
                s.phase = Phase::Stopped;
            }
            Phase::GaveUp(_) if !s.desired => s.phase = Phase::Stopped,
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => {}
        }
        s.tracker.unschedule();
        if s.phase == Phase::Stopped && core::mem::take(&mut s.watching) {
            let id = self.services[i].id.clone();
            self.effect(Effect::UnwatchProgram(id));
        }
        self.touch(i);
    }

    /// The tree is empty and no hook runs.
    fn all_gone(&mut self, i: usize, now: Now) {
        let has_hook = self.spec(i).hooks.post_stop.is_some();
        let s = &mut self.services[i].s;
        let touched = s.touched;
        let Phase::Ending(e) = &mut s.phase else { return };
        let escalating = e.stage == Stage::Escalating;
        if e.stage != Stage::PostStop && !escalating && has_hook && touched {
            e.stage = Stage::PostStop;
            self.start_hook(i, Role::PostStop, now);
        } else if escalating || !self.escalate(i, now) {
            self.finish(i, now);
        }
    }

    /// Nothing of the run is left; what follows?
    fn finish(&mut self, i: usize, now: Now) {
        let oneshot = self.spec(i).kind == Kind::Oneshot;
        let shutting_down = self.guardian.shutting_down;
        let s = &mut self.services[i].s;
        let Phase::Ending(e) = core::mem::take(&mut s.phase) else { return };
        s.spec = None;
        s.frozen = false;
        s.failure = match &e.cause {
            Cause::Failed(text) => Some(text.as_str().into()),
            Cause::Exit(_)
            | Cause::NotSpawned { .. }
            | Cause::Stop
            | Cause::Restart
            | Cause::Reload
            | Cause::Bound(_)
            | Cause::MainBack(_)
            | Cause::Shutdown
            | Cause::Removed => None,
        };
        if s.removed {
            self.vacate(i, now);
            return;
        }
        if !s.desired || shutting_down {
            let well = oneshot && s.desired && e.cause == Cause::Exit(ExitClass::Success);
            s.phase = if well { Phase::Completed } else { Phase::Stopped };
        } else if e.again {
            self.wait_to_start(i);
        } else {
            match e.cause {
                Cause::Exit(_) | Cause::Failed(_) | Cause::NotSpawned { .. }
                    if e.stage == Stage::Escalating && self.ladder_ends(i) =>
                {
                    self.stop_and_page(i, now);
                }
                Cause::Exit(class) => self.decide(i, class, &e, now),
                Cause::Failed(_) => self.decide(i, ExitClass::Retry, &e, now),
                Cause::NotSpawned { permanent } => self.decide_unspawned(i, permanent, now),
                Cause::Stop
                | Cause::Restart
                | Cause::Reload
                | Cause::Bound(_)
                | Cause::MainBack(_)
                | Cause::Shutdown
                | Cause::Removed => self.wait_to_start(i),
            }
        }
        self.touch(i);
    }

    /// Starts when nothing holds it back, without counting as a restart of the policy's.
    pub(crate) fn wait_to_start(&mut self, i: usize) {
        let s = &mut self.services[i].s;
        s.tracker.unschedule();
        s.phase = Phase::Waiting;
        self.touch(i);
        self.enqueue(i);
    }

    /// A run ended by itself, or because it failed: again, and when?
    fn decide(&mut self, i: usize, class: ExitClass, e: &Ending, now: Now) {
        let spec = self.spec(i);
        let (policy, oneshot) = (spec.restart.policy, spec.kind == Kind::Oneshot);
        if class == ExitClass::Success && (oneshot || policy != Policy::Always) {
            let s = &mut self.services[i].s;
            s.tracker.reset();
            s.newcomer = false;
            s.phase = Phase::Completed;
            self.touch(i);
            return;
        }
        match (policy, class) {
            (Policy::Never, _) => self.give_up(i, GaveUp::Policy, now),
            (_, ExitClass::Fatal) => self.give_up(i, GaveUp::Fatal, now),
            (_, ExitClass::ConfigError) => {
                self.watch(i);
                self.give_up(i, GaveUp::ConfigError, now);
            }
            (_, ExitClass::Success | ExitClass::Retry) => {
                let spell = Spell { healthy: e.healthy, rested: e.rested };
                let mut tracker = core::mem::take(&mut self.services[i].s.tracker);
                let random = self.random(i);
                let verdict = tracker.ended(&self.spec(i).restart, spell, now.mono, random);
                self.services[i].s.tracker = tracker;
                self.follow(i, verdict, now);
            }
        }
    }

    /// It could not be started: again, and when?
    fn decide_unspawned(&mut self, i: usize, permanent: bool, now: Now) {
        if self.spec(i).restart.policy == Policy::Never {
            self.give_up(i, GaveUp::Policy, now);
            return;
        }
        let random = self.random(i);
        let mut tracker = core::mem::take(&mut self.services[i].s.tracker);
        let policy = &self.spec(i).restart;
        let verdict = if permanent {
            Verdict::Restart { delay: tracker.spawn_impossible(policy, random) }
        } else {
            tracker.spawn_refused(policy, now.mono, random)
        };
        self.services[i].s.tracker = tracker;
        if permanent {
            self.watch(i);
        }
        self.follow(i, verdict, now);
    }

    fn follow(&mut self, i: usize, verdict: Verdict, now: Now) {
        let missing = self.missing(i).next().map(|e| self.graph.groups[e.group].name.clone());
        let held = self.services[i].s.hold.is_some();
        self.services[i].s.lost = missing;
        let (delay, looping) = match verdict {
            Verdict::Restart { delay } => (delay, false),
            Verdict::Trial { delay, found } => {
                if let Some(evidence) = found {
                    self.tell(now, Some(i), None, EventKind::CrashLooped { evidence });
                }
                (delay, true)
            }
            Verdict::GiveUp { evidence } => {
                self.tell(now, Some(i), None, EventKind::CrashLooped { evidence });
                self.give_up(i, GaveUp::CrashLoop, now);
                return;
            }
        };
        let until = now.mono + delay;
        let s = &mut self.services[i].s;
        let attempt = s.tracker.attempt();
        s.origin = Origin::Policy;
        s.phase = match (looping, delay.is_zero() && !held) {
            (true, _) => Phase::CrashLooping { until },
            (false, true) => Phase::Waiting,
            (false, false) => Phase::BackingOff { until },
        };
        let at = now.wall_of(until);
        self.tell(now, Some(i), None, EventKind::RestartScheduled { attempt, at, delay });
        self.touch(i);
        if self.services[i].s.phase == Phase::Waiting && self.adoption.is_none() {
            // At once, before those that depend on it hear that it was gone: they see it starting.
            self.try_start(i, now);
        } else {
            self.enqueue(i);
        }
    }

    pub(crate) fn give_up(&mut self, i: usize, why: GaveUp, now: Now) {
        self.services[i].s.phase = Phase::GaveUp(why);
        self.touch(i);
        let reason = self.reason(i);
        self.tell(now, Some(i), None, EventKind::GaveUp { reason });
    }

    /// Differs from restart to restart and from service to service.
    fn random(&self, i: usize) -> u64 {
        restart::random(self.guardian.seed, self.next_id ^ (i as u64) << 40)
    }

    fn watch(&mut self, i: usize) {
        if !core::mem::replace(&mut self.services[i].s.watching, true) {
            let id = self.services[i].id.clone();
            self.effect(Effect::WatchProgram(id));
        }
    }
}
