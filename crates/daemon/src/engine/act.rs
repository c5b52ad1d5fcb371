//! Carries out the core's effects. Nothing here waits: what takes time comes back as a report or a message.

use keepwell_anchor::protocol::{Exited, Freeze, Request, Signal, Spawn, SpawnFailed};
use keepwell_core::event::{ExitStatus, Level, SpawnError, SpawnErrorKind};
use keepwell_core::spec::To;
use keepwell_core::{Effect, Input, Now, Outcome, ProbeId, Role, RunId, ServiceId, Wall};

use keepwell_os::SpawnRequest;

use super::{Engine, ExecProbe, LiveRun, describe, spawn};
use crate::probe::Since;

/// Exec probes are runs of their own; this bit keeps their numbers apart from the core's.
const EXEC_PROBE: u64 = 1 << 63;
/// What a shell answers for a command that it cannot start (POSIX sh, 2.8.2).
const NOT_STARTED: i32 = 127;
/// What a check that goes on answers when it cannot tell. One that makes ready has its time, and no third answer.
const CANNOT_TELL: i32 = 2;
/// `Spawn.role` of an exec probe; those of other runs are `number`'s.
const PROBE: u8 = 5;
/// `Spawn.role` of the first guard's command; the others follow, and there are at most 32.
const GUARD: u8 = 64;
/// That of the command of the first step of an escalation ladder, which has 16 at most.
const ESCALATION: u8 = 128;

/// `Spawn.role`: 0 owns the tree, the rest is for the next daemon to know.
fn number(role: Role) -> u8 {
    match role {
        Role::Main => 0,
        Role::PreStart => 1,
        Role::PostStart => 2,
        Role::PreStop => 3,
        Role::PostStop => 4,
        Role::Stop => 6,
        Role::OnSuspend => 7,
        Role::OnResume => 8,
        Role::OnPowerChange => 9,
        Role::OnSession => 10,
        Role::WaitFor => 11,
        Role::Guard(rule) => GUARD.saturating_add(rule),
        Role::Escalation(rung) => ESCALATION.saturating_add(rung),
    }
}

/// The reverse of `number`; `None` for a probe.
pub(super) fn role(number: u8) -> Option<Role> {
    match number {
        0 => Some(Role::Main),
        1 => Some(Role::PreStart),
        2 => Some(Role::PostStart),
        3 => Some(Role::PreStop),
        4 => Some(Role::PostStop),
        6 => Some(Role::Stop),
        7 => Some(Role::OnSuspend),
        8 => Some(Role::OnResume),
        9 => Some(Role::OnPowerChange),
        10 => Some(Role::OnSession),
        ESCALATION.. => Some(Role::Escalation(number - ESCALATION)),
        11 => Some(Role::WaitFor),
        GUARD.. => Some(Role::Guard(number - GUARD)),
        _ => None,
    }
}

impl Engine {
    pub(super) fn act(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Commit(record) => self.records.push(record),
            Effect::Spawn { run, service, role } => {
                let prepared = self.prepare(&service, role, run);
                self.spawn(now, run, service, role, prepared);
            }
            Effect::RunToStop { run, service, id } => {
                let prepared = self.prepare_stop(&service, id, run);
                self.spawn(now, run, service, Role::Stop, prepared);
            }
            Effect::RunOnEvent { run, service, event } => {
                let prepared = self.prepare_on_event(&service, event, run);
                self.spawn(now, run, service, event.role(), prepared);
            }
            Effect::AskToStop { run, service, step, id, timeout } => match self.stop_request(&service, id) {
                Ok(request) => self.prober.ask_to_stop(run, step, request, timeout),
                Err(why) => self.findings.push(Input::AskedToStop { run, step, outcome: Err(why) }),
            },
            Effect::Signal { run, signal, to } => self.signal(run, signal, to),
            Effect::Kill { run } => self.link.send(&Request::Kill(run.0), &[]),
            Effect::Freeze { run } => self.freeze(run, true),
            Effect::Thaw { run } => self.freeze(run, false),
            Effect::Probe { probe, listed, run, service, timeout } => {
                let deadline = now.mono + timeout;
                self.count_attempt(now, probe, listed, &service, timeout);
                match self.check_of(&service, listed, run, self.began(run, now)) {
                    spawn::ReadyCheck::Exec => self.exec_probe(probe, listed, &service, deadline),
                    spawn::ReadyCheck::Network(check) => self.prober.start(probe, check, timeout),
                    spawn::ReadyCheck::None(why) => {
                        self.findings.push(Input::Probe { probe, outcome: Outcome::Unknown(why) });
                    }
                }
            }
            Effect::TakeEvidence { run, service, incident, notes, timeout } => {
                self.take_evidence(now, run, &service, incident, notes, timeout);
            }
            Effect::Look { probe, service, timeout } => match self.outside_of(&service) {
                Ok(outside) => self.prober.look(probe, outside, timeout),
                Err(why) => self.findings.push(Input::Probe { probe, outcome: Outcome::Fail(why) }),
            },
            Effect::LookAtHost => self.findings.push(Input::HostLoad(keepwell_os::strain::load())),
            Effect::WatchProgram(service) => self.watch_program(&service),
            Effect::UnwatchProgram(service) => self.unwatch_program(&service),
        }
    }

    fn spawn(
        &mut self,
        now: Now,
        run: RunId,
        service: ServiceId,
        role: Role,
        prepared: Result<(u32, SpawnRequest), SpawnError>,
    ) {
        match prepared {
            Ok((slot, request)) => {
                let spawn = Spawn { run: run.0, slot, role: number(role), request };
                if !self.link.offer(&Request::Spawn(spawn), &[]) {
                    self.run_ended(run);
                    let text = "its arguments and environment are larger than the system takes".to_owned();
                    let error = SpawnError { kind: SpawnErrorKind::Permanent, text };
                    self.findings.push(Input::SpawnFailed { run, error });
                    return;
                }
                self.runs.insert(run, LiveRun { service, role, pid: 0, began: now, status_text: None });
            }
            Err(error) => {
                if role == Role::Main {
                    self.single_exit = Some(NOT_STARTED);
                    self.never_spoke(&service, run);
                }
                self.findings.push(Input::SpawnFailed { run, error });
            }
        }
    }

    /// A start that failed has no last words, and those of the run before are not its own.
    fn never_spoke(&self, service: &ServiceId, run: RunId) {
        if let Some(slot) = self.slots.number(service) {
            self.log.run_started(slot, run);
            self.log.run_ended(slot, run);
        }
    }

    fn signal(&mut self, run: RunId, signal: i32, to: To) {
        let to = match to {
            To::Main => 0,
            To::Group => 1,
            To::Tree => 2,
        };
        self.link.send(&Request::Signal(Signal { run: run.0, signal, to }), &[]);
    }

    /// When a run was started, by the clock as it was then or as it is now, whichever says earlier: a clock that was set
    /// makes no file of this run look old.
    fn began(&self, run: RunId, now: Now) -> Since {
        let began = self.runs.get(&run).map_or(now, |r| r.began);
        let age = i64::try_from(now.mono.since(began.mono).as_millis()).unwrap_or(i64::MAX);
        Since::wall(began.wall.min(Wall(now.wall.0.saturating_sub(age))))
    }

    fn freeze(&mut self, run: RunId, on: bool) {
        let Some(slot) = self.runs.get(&run).and_then(|r| self.slots.number(&r.service)) else { return };
        self.link.send(&Request::Freeze(Freeze { slot, on }), &[]);
    }

    fn exec_probe(
        &mut self,
        probe: ProbeId,
        listed: Option<usize>,
        service: &ServiceId,
        deadline: keepwell_core::Mono,
    ) {
        let run = RunId(EXEC_PROBE | probe.0);
        match self.prepare_probe(service, listed, run.0) {
            Ok((slot, request)) => {
                let may_not_know = listed.is_some();
                self.exec_probes.insert(run, ExecProbe { probe, deadline, killed: false, may_not_know });
                self.link.send(&Request::Spawn(Spawn { run: run.0, slot, role: PROBE, request }), &[]);
            }
            Err(e) => self.findings.push(Input::Probe { probe, outcome: Outcome::Fail(e.text) }),
        }
    }

    /// Kills exec probes whose time is over; their exit is then the answer.
    pub(super) fn expire_exec_probes(&mut self, now: Now) {
        let mut late = Vec::new();
        for (run, p) in &mut self.exec_probes {
            if !p.killed && p.deadline <= now.mono {
                p.killed = true;
                late.push(run.0);
            }
        }
        for run in late {
            self.link.send(&Request::Kill(run), &[]);
        }
    }

    pub(super) fn spawn_failed(&mut self, now: Now, report: &SpawnFailed) {
        let run = RunId(report.run);
        if let Some(p) = self.exec_probes.remove(&run) {
            let text = describe::spawn_step(&report.step, report.errno, None);
            self.take_answer(now, Input::Probe { probe: p.probe, outcome: Outcome::Fail(text) });
            return;
        }
        let live = self.runs.remove(&run);
        let main = live.as_ref().is_some_and(|r| r.role == Role::Main);
        // A hook has a program of its own; the folder is the service's.
        let about = live.and_then(|r| self.resolve(&r.service).ok()).map(|mut resolved| {
            if !main {
                resolved.argv.clear();
            }
            resolved
        });
        let error = SpawnError {
            kind: if keepwell_os::is_shortage(report.errno) {
                SpawnErrorKind::Transient
            } else {
                SpawnErrorKind::Permanent
            },
            text: describe::spawn_step(&report.step, report.errno, about.as_ref()),
        };
        if main {
            self.single_exit = Some(NOT_STARTED);
            self.run_ended(run);
        }
        self.supervisor.handle(now, Input::SpawnFailed { run, error });
    }

    pub(super) fn exited(&mut self, now: Now, report: &Exited) {
        let run = RunId(report.run);
        let status = describe::status(report.status);
        if let Some(p) = self.exec_probes.remove(&run) {
            let outcome = match status {
                _ if p.killed => Outcome::Fail("the check did not end in time".into()),
                ExitStatus::Code(0) => Outcome::Pass,
                ExitStatus::Code(CANNOT_TELL) if p.may_not_know => {
                    Outcome::Unknown(format!("the check cannot tell: it ended with exit code {CANNOT_TELL}"))
                }
                ExitStatus::Code(_) | ExitStatus::Signal { .. } | ExitStatus::Unknown => {
                    Outcome::Fail(format!("the check ended with {}", crate::convert::exit_text(&status)))
                }
            };
            self.take_answer(now, Input::Probe { probe: p.probe, outcome });
            return;
        }
        self.run_ended(run);
        let live = self.runs.remove(&run);
        // Where nobody is killed for memory, a program that got none ended in its own way; that it got none is all there is.
        if report.status.out_of_memory && report.status.code.is_some() {
            let service = live.as_ref().map(|live| live.service.clone());
            let text = "its processes ran into `limits.memory` before this one ended".to_owned();
            self.tell(now, service, Level::Warn, text);
        }
        if let Some(live) = live
            && live.role == Role::Main
        {
            self.slots.set_main_pid(&live.service, None);
            self.single_exit = Some(describe::shell_code(&status));
            self.log.unwatch_line(run);
            self.notify.ended(run);
            self.heartbeats.ended(run);
        }
        self.supervisor.handle(now, Input::Exited { run, status, tree_empty: report.tree_empty });
    }
}
