//! From wanted to running: the gates before a start, the start itself, and its answer.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::time::Duration;

use crate::effect::{Effect, Role};
use crate::escalation;
use crate::event::{EventKind, ExitClass, ExitStatus, SpawnError, SpawnErrorKind};
use crate::guard::Then;
use crate::id::RunId;
use crate::service::{
    Alive, Cause, Check, EXITS_KEPT, Ending, HookEnd, HookRun, KILL_AGAIN, MainRun, Origin, Phase, Probed,
    Stage,
};
use crate::spec::{AfterWait, Hook, Kind, Purpose, Readiness, UP_AFTER};
use crate::supervisor::{ExitRecord, Supervisor};
use crate::time::Now;

impl Supervisor {
    /// Starts a waiting instance unless something holds it back.
    pub(crate) fn try_start(&mut self, i: usize, now: Now) {
        let missing = self.missing(i).next().map(|e| Arc::clone(&self.graph.groups[e.group].name));
        let blocked = self.blocking(i).next().is_some();
        let full = self.starts_are_full();
        let shutting_down = self.guardian.shutting_down;
        let s = &mut self.services[i].s;
        if !s.desired || s.removed || shutting_down {
            s.phase = Phase::Stopped;
        } else if s.hold.is_some() || blocked {
            s.phase = Phase::Waiting;
            s.lost = missing;
            self.unpark(i);
            self.forget_wait(i);
        } else if self.must_wait(i, now) {
            let s = &mut self.services[i].s;
            s.phase = Phase::Waiting;
            s.lost = missing;
            self.unpark(i);
        } else if full {
            let s = &mut self.services[i].s;
            s.phase = Phase::Waiting;
            self.park(i);
        } else {
            self.services[i].s.lost = missing;
            self.unpark(i);
            self.launch(i, now);
        }
        self.touch(i);
    }

    fn launch(&mut self, i: usize, now: Now) {
        let asks = self.services[i].s.wait.as_ref().is_some_and(|wait| wait.asks);
        self.begin_attempt(i, now);
        if asks {
            self.services[i].s.phase = Phase::PreStart;
            self.start_hook(i, Role::WaitFor, now);
        } else {
            self.prepare_main(i, now);
        }
    }

    /// Counts the attempt that begins.
    pub(crate) fn begin_attempt(&mut self, i: usize, now: Now) {
        let mut tracker = core::mem::take(&mut self.services[i].s.tracker);
        let counted = tracker.launched(&self.spec(i).restart, now.mono);
        let s = &mut self.services[i].s;
        s.tracker = tracker;
        if counted || matches!(s.origin, Origin::Bound(_) | Origin::Program) {
            s.restarts = s.restarts.saturating_add(1);
            if let Some(incident) = &mut s.incident {
                incident.restarts = incident.restarts.saturating_add(1);
                incident.acted("restarted");
            }
        }
        s.touched = false;
        self.services[i].s.program = self.spec(i).fingerprint;
    }

    /// The hook before the program, or the program.
    fn prepare_main(&mut self, i: usize, now: Now) {
        if self.spec(i).hooks.pre_start.is_some() {
            self.services[i].s.phase = Phase::PreStart;
            self.start_hook(i, Role::PreStart, now);
        } else {
            self.spawn_main(i, now);
        }
    }

    pub(crate) fn spawn_main(&mut self, i: usize, now: Now) {
        let run = self.new_run(i);
        let s = &mut self.services[i].s;
        s.phase = Phase::Spawning { run, asked: now.mono, ready: false };
        s.tree_gone = false;
        s.frozen = false;
        let service = self.services[i].id.clone();
        self.effect(Effect::Spawn { run, service, role: Role::Main });
        self.touch(i);
    }

    /// The hook's settings, if there is one of this role.
    pub(crate) fn hook_spec(&self, i: usize, role: Role) -> Option<Hook> {
        let spec = self.spec(i);
        match role {
            Role::Main | Role::Stop => None,
            Role::WaitFor => match spec.wait_for.as_ref()?.then {
                AfterWait::Run { timeout } => Some(Hook { timeout, may_fail: false }),
                AfterWait::Fail | AfterWait::StartAnyway => None,
            },
            Role::PreStart => spec.hooks.pre_start.clone(),
            Role::PostStart => spec.hooks.post_start.clone(),
            Role::PreStop => spec.hooks.pre_stop.clone(),
            Role::PostStop => spec.hooks.post_stop.clone(),
            Role::OnSuspend => spec.hooks.on_suspend.clone(),
            Role::OnResume => spec.hooks.on_resume.clone(),
            Role::OnPowerChange => spec.hooks.on_power_change.clone(),
            Role::OnSession => spec.hooks.on_session.clone(),
            Role::Escalation(rung) => match spec.escalation.get(usize::from(rung))?.then {
                escalation::Then::Run { timeout } => Some(Hook { timeout, may_fail: true }),
                escalation::Then::Restart
                | escalation::Then::RestartDependents
                | escalation::Then::FailOver
                | escalation::Then::Stop => None,
            },
            Role::Guard(rule) => match spec.guards.get(usize::from(rule))?.then {
                Then::Run { timeout } => Some(Hook { timeout, may_fail: true }),
                Then::Alert | Then::Restart => None,
            },
        }
    }

    /// Starts a hook. No other hook of the instance runs.
    pub(crate) fn start_hook(&mut self, i: usize, role: Role, now: Now) {
        let timeout = self.hook_spec(i, role).map_or(Duration::ZERO, |h| h.timeout);
        let run = self.new_run(i);
        let s = &mut self.services[i].s;
        s.hook = Some(HookRun {
            run,
            role,
            pid: None,
            started: now.mono,
            until: now.mono + timeout,
            ended_by: HookEnd::Itself,
        });
        let service = self.services[i].id.clone();
        self.effect(Effect::Spawn { run, service, role });
        self.touch(i);
    }

    /// Ends a hook that is no longer wanted.
    pub(crate) fn cancel_hook(&mut self, i: usize, end: HookEnd, now: Now) {
        let Some(hook) = &mut self.services[i].s.hook else { return };
        if hook.ended_by == HookEnd::Itself {
            hook.ended_by = end;
        }
        hook.until = now.mono + KILL_AGAIN;
        let run = hook.run;
        self.effect(Effect::Kill { run });
        self.touch(i);
    }

    pub(crate) fn on_spawned(&mut self, now: Now, run: RunId, pid: u32) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let s = &mut self.services[i].s;
        if let Some(hook) = &mut s.hook
            && hook.run == run
        {
            if hook.pid.is_none() {
                hook.pid = Some(pid);
                hook.started = now.mono;
                s.touched = true;
                let role = hook.role;
                self.tell(now, Some(i), Some(run), EventKind::Started { pid, role });
                self.touch(i);
            }
            return;
        }
        match &mut s.phase {
            Phase::Spawning { run: asked, ready, .. } if *asked == run => {
                let ready = *ready;
                self.become_alive(i, run, pid, ready, now);
            }
            Phase::Ending(Ending { main: Some(main), stage: stage @ Stage::AwaitSpawn, .. })
                if main.run == run =>
            {
                main.pid = pid;
                main.started = now.mono;
                *stage = Stage::AfterDependents;
                s.touched = true;
                self.tell(now, Some(i), Some(run), EventKind::Started { pid, role: Role::Main });
                self.touch(i);
                self.advance(i, now);
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
    }

    pub(crate) fn become_alive(&mut self, i: usize, run: RunId, pid: u32, ready: bool, now: Now) {
        let spec = self.spec(i);
        let has_startup = spec.probes.iter().any(|p| p.purpose == Purpose::Startup);
        let checked = spec.ready != Readiness::None || has_startup;
        let oneshot = spec.kind == Kind::Oneshot;
        let check = if has_startup { Check::default() } else { first_check(&spec.ready, oneshot, now) };
        let from_now = |interval: Option<Duration>| {
            interval.filter(|_| !checked).map(|interval| (interval, now.mono + interval))
        };
        let (watchdog, heartbeat) = (from_now(spec.watchdog), from_now(spec.heartbeat));
        let spec_probes = spec.probes.clone();
        let service = &mut self.services[i];
        let s = &mut service.s;
        s.phase = Phase::Alive(Alive {
            run,
            pid,
            started: now.mono,
            checked,
            up: None,
            check,
            watchdog,
            heartbeat,
            silent: false,
            leaving: None,
            said_ready: false,
            probes: Probed::of(&spec_probes),
            mended: false,
        });
        s.touched = true;
        s.tracker.spawned();
        let freeze = s.hold.as_ref().is_some_and(|h| h.freeze);
        s.frozen = freeze;
        if core::mem::take(&mut s.watching) {
            let id = service.id.clone();
            self.effect(Effect::UnwatchProgram(id));
        }
        if freeze {
            self.effect(Effect::Freeze { run });
        }
        self.tell(now, Some(i), Some(run), EventKind::Started { pid, role: Role::Main });
        if !checked && self.spec(i).hooks.post_start.is_some() {
            self.start_hook(i, Role::PostStart, now);
        }
        self.begin_probes(i, now);
        self.touch(i);
        if ready {
            self.on_ready(now, run);
        }
    }

    pub(crate) fn on_spawn_failed(&mut self, now: Now, run: RunId, error: SpawnError) {
        let Some(i) = self.runs.remove(&run) else { return };
        let s = &mut self.services[i].s;
        if let Some(hook) = &s.hook
            && hook.run == run
        {
            let role = hook.role;
            let reason = error.text.clone();
            self.tell(now, Some(i), Some(run), EventKind::SpawnFailed(error, role));
            self.hook_over(i, Some(reason), now);
            return;
        }
        let expected = matches!(s.phase, Phase::Ending(_));
        let permanent = error.kind == SpawnErrorKind::Permanent;
        let ended = Ending {
            cause: Cause::NotSpawned { permanent },
            main: None,
            stage: Stage::Hooks,
            healthy: false,
            rested: false,
            again: false,
            kill_at: None,
            step_at: now.mono,
        };
        match &mut s.phase {
            Phase::Spawning { run: asked, .. } if *asked == run => s.phase = Phase::Ending(ended),
            Phase::Ending(e) if e.stage == Stage::AwaitSpawn && e.main.is_some_and(|m| m.run == run) => {
                e.main = None;
                e.stage = Stage::Hooks;
            }
            // A failure after the start was confirmed cannot be; the exit will come.
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => {
                self.runs.insert(run, i);
                return;
            }
        }
        let record = ExitRecord {
            at: now.wall,
            outcome: Err(error.clone()),
            class: ExitClass::Retry,
            ran_for: Duration::ZERO,
            was_ready: false,
            expected,
        };
        self.services[i].s.failure = None;
        self.record_exit(i, record);
        self.tell(now, Some(i), Some(run), EventKind::SpawnFailed(error, Role::Main));
        self.touch(i);
        self.advance(i, now);
    }

    pub(crate) fn on_exited(&mut self, now: Now, run: RunId, status: ExitStatus, tree_empty: bool) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let reset_after = self.spec(i).restart.reset_after;
        let s = &self.services[i].s;
        if s.hook.as_ref().is_some_and(|h| h.run == run) {
            self.hook_exited(i, run, status, now);
            return;
        }
        let tree_empty = tree_empty || s.tree_gone;
        match &s.phase {
            Phase::Spawning { asked, .. } => {
                // The start was never confirmed, but it must have been: it ended.
                let main = MainRun { run, pid: 0, started: *asked, was_ready: false, exited: false };
                self.main_ended(i, main, (false, false), status, tree_empty, now);
            }
            Phase::Alive(a) => {
                let spell = a.spell(now.mono, reset_after);
                let main =
                    MainRun { run, pid: a.pid, started: a.started, was_ready: a.up.is_some(), exited: false };
                self.main_ended(i, main, (spell.healthy, spell.rested), status, tree_empty, now);
            }
            Phase::Ending(Ending { main: Some(main), .. }) if main.run == run => {
                let main = *main;
                self.main_ended_in_stop(i, main, status, tree_empty, now);
            }
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Ending(_) => {}
        }
    }

    /// The main process ended by itself.
    fn main_ended(
        &mut self,
        i: usize,
        main: MainRun,
        (healthy, rested): (bool, bool),
        status: ExitStatus,
        tree_empty: bool,
        now: Now,
    ) {
        let class = self.tell_exit(i, main, status, false, now);
        self.forget_probes(i);
        self.forget_news(i);
        let s = &mut self.services[i].s;
        s.touched = true;
        // What was held against the run before is an old story.
        s.failure = None;
        let mut ending = Ending {
            cause: Cause::Exit(class),
            main: None,
            stage: Stage::Hooks,
            healthy,
            rested,
            again: false,
            kill_at: None,
            step_at: now.mono,
        };
        if tree_empty {
            self.runs.remove(&main.run);
        } else {
            ending.main = Some(MainRun { exited: true, ..main });
            ending.stage = Stage::Killed { since: now.mono, again: now.mono + KILL_AGAIN };
        }
        s.phase = Phase::Ending(ending);
        if !tree_empty {
            self.tell(now, Some(i), Some(main.run), EventKind::LeftoversKilled);
            self.effect(Effect::Kill { run: main.run });
        }
        if self.services[i].s.hook.is_some() {
            self.cancel_hook(i, HookEnd::Cancelled, now);
        }
        self.touch(i);
        self.advance(i, now);
    }

    /// The main process ended while it was being stopped.
    fn main_ended_in_stop(
        &mut self,
        i: usize,
        main: MainRun,
        status: ExitStatus,
        tree_empty: bool,
        now: Now,
    ) {
        if !main.exited {
            // What is ended because it failed has failed; only what somebody asked to stop is expected to end.
            let failed =
                matches!(&self.services[i].s.phase, Phase::Ending(e) if matches!(e.cause, Cause::Failed(_)));
            self.tell_exit(i, main, status, !failed, now);
        }
        if let Phase::Ending(e) = &mut self.services[i].s.phase {
            if tree_empty {
                e.main = None;
                self.runs.remove(&main.run);
                self.step_worked(i, now);
            } else {
                e.main = Some(MainRun { exited: true, ..main });
                if e.stage == Stage::AwaitSpawn {
                    e.stage = Stage::AfterDependents;
                }
                if let Stage::Step { index, .. } = e.stage
                    && !main.exited
                {
                    self.ask_the_rest(i, main.run, index, now);
                }
            }
        }
        self.touch(i);
        self.advance(i, now);
    }

    fn tell_exit(
        &mut self,
        i: usize,
        main: MainRun,
        status: ExitStatus,
        expected: bool,
        now: Now,
    ) -> ExitClass {
        let class = self.spec(i).restart.exit_codes.class(status);
        let ran_for = now.mono.since(main.started);
        let was_ready = main.was_ready;
        let record = ExitRecord { at: now.wall, outcome: Ok(status), class, ran_for, was_ready, expected };
        self.record_exit(i, record);
        let role = Role::Main;
        let kind = EventKind::Exited { status, class, role, ran_for, was_ready, expected };
        self.tell(now, Some(i), Some(main.run), kind);
        class
    }

    pub(crate) fn record_exit(&mut self, i: usize, record: ExitRecord) {
        let exits = &mut self.services[i].s.exits;
        if exits.len() >= EXITS_KEPT {
            exits.remove(0);
        }
        exits.push(record);
    }

    pub(crate) fn on_tree_empty(&mut self, now: Now, run: RunId) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let s = &mut self.services[i].s;
        if s.main_run() != Some(run) {
            return;
        }
        match &mut s.phase {
            Phase::Ending(e) if e.main.is_some_and(|m| m.exited) => {
                e.main = None;
                self.runs.remove(&run);
                self.step_worked(i, now);
                self.touch(i);
                self.advance(i, now);
            }
            // The exit of the main process, which must have come before, is on its way.
            Phase::Ending(_) | Phase::Alive(_) | Phase::Spawning { .. } => {
                s.tree_gone = true;
                self.touch(i);
            }
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart => {}
        }
    }

    fn hook_exited(&mut self, i: usize, run: RunId, status: ExitStatus, now: Now) {
        self.runs.remove(&run);
        let Some(hook) = &self.services[i].s.hook else { return };
        let (role, ended_by) = (hook.role, hook.ended_by);
        let ran_for = now.mono.since(hook.started);
        let class = if status == ExitStatus::Code(0) { ExitClass::Success } else { ExitClass::Retry };
        let expected = ended_by != HookEnd::Itself;
        let kind = EventKind::Exited { status, class, role, ran_for, was_ready: false, expected };
        self.tell(now, Some(i), Some(run), kind);
        let timeout = self.hook_spec(i, role).map_or(Duration::ZERO, |h| h.timeout);
        let failure = match (ended_by, class) {
            (HookEnd::Cancelled, _) | (HookEnd::Itself, ExitClass::Success) => None,
            (HookEnd::Timeout, _) => Some(format!("did not end within {}", crate::time::Human(timeout))),
            (HookEnd::Itself, ExitClass::Retry | ExitClass::ConfigError | ExitClass::Fatal) => {
                Some(crate::words::exit(status).to_string())
            }
        };
        self.services[i].s.touched = true;
        self.hook_over(i, failure, now);
    }

    /// A hook is over: what it was run for goes on, or fails.
    pub(crate) fn hook_over(&mut self, i: usize, failure: Option<alloc::string::String>, now: Now) {
        let Some(hook) = self.services[i].s.hook.take() else { return };
        let role = hook.role;
        if role == Role::Stop {
            self.stop_command_over(i, failure, now);
            return;
        }
        self.news_heard(i, role);
        let may_fail = self.hook_spec(i, role).is_none_or(|h| h.may_fail);
        if let Some(reason) = &failure {
            let kind = EventKind::HookFailed { role, reason: reason.clone() };
            self.tell(now, Some(i), Some(hook.run), kind);
        }
        self.touch(i);
        let failed = failure.filter(|_| !may_fail);
        match (&self.services[i].s.phase, role, failed) {
            (Phase::PreStart, Role::PreStart, None) => self.pre_start_done(i, now),
            (Phase::PreStart, Role::PreStart, Some(reason)) => {
                self.fail_before_start(i, format!("its pre_start hook failed: {reason}"), now);
            }
            (Phase::PreStart, Role::WaitFor, None) => {
                if self.held_back(i) {
                    self.wait_to_start(i);
                } else {
                    self.prepare_main(i, now);
                }
            }
            (Phase::PreStart, Role::WaitFor, Some(reason)) => {
                self.fail_before_start(
                    i,
                    format!("what it waits for is not there, and its fallback command failed: {reason}"),
                    now,
                );
            }
            (Phase::Alive(_), Role::PostStart, Some(reason)) => {
                self.begin_stop(i, Cause::Failed(format!("its post_start hook failed: {reason}")), now);
            }
            (Phase::Ending(_), _, _) => self.advance(i, now),
            (Phase::Alive(_), _, _) => self.hear_news(i, now),
            _ => {}
        }
    }

    /// Held, or a dependency was lost meanwhile.
    fn held_back(&self, i: usize) -> bool {
        self.services[i].s.hold.is_some() || self.blocking(i).next().is_some()
    }

    fn pre_start_done(&mut self, i: usize, now: Now) {
        if self.held_back(i) {
            // It waits, and begins anew.
            self.wait_to_start(i);
        } else {
            self.spawn_main(i, now);
        }
    }
}

/// The first deadlines of a readiness check that begins now.
pub(crate) fn first_check(ready: &Readiness, oneshot: bool, now: Now) -> Check {
    let at = |d: Duration| Some(now.mono + d);
    match ready {
        // A oneshot without a check is never "up"; it completes.
        Readiness::None if oneshot => Check::default(),
        Readiness::None => Check { next: at(UP_AFTER), ..Check::default() },
        Readiness::Delay(delay) => Check { next: at(*delay), ..Check::default() },
        Readiness::Probe { timeout, .. } => {
            Check { next: Some(now.mono), deadline: at(*timeout), ..Check::default() }
        }
        Readiness::Signalled { timeout } => Check { deadline: at(*timeout), ..Check::default() },
    }
}
