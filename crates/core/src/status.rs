//! What is said of one instance in a line.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::effect::Role;
use crate::event::State;
use crate::graph::Edge;
use crate::id::ServiceId;
use crate::service::{Cause, Ending, GaveUp, Origin, Phase, Stage};
use crate::spec::{Condition, Kind};
use crate::supervisor::{ServiceStatus, Supervisor};
use crate::time::Now;
use crate::words;

impl Supervisor {
    pub(crate) fn status_of(&self, i: usize, now: Now) -> ServiceStatus {
        let service = &self.services[i];
        let s = &service.s;
        let spec = self.spec(i);
        let next = s.next_told(spec.restart.reset_after);
        let next_attempt = match s.phase {
            Phase::BackingOff { until } | Phase::CrashLooping { until } if s.hold.is_none() => Some(until),
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => None,
        };
        ServiceStatus {
            id: service.id.clone(),
            state: s.state(spec.kind == Kind::Oneshot),
            reason: self.reason(i),
            since: s.since,
            run: s.main().map(|(run, _)| run),
            pid: s.main().map(|(_, pid)| pid).filter(|pid| *pid != 0),
            restarts: s.restarts,
            attempt: s.tracker.attempt(),
            next: next.map(|(at, why)| (now.wall_of(at), why)),
            next_attempt: next_attempt.map(|at| now.wall_of(at)),
            desired_up: s.desired,
            enabled: self.is_enabled(&service.id.name),
            hold: s.hold.clone(),
            last_command: s.last_command.clone(),
            exits: s.exits.clone(),
            blockers: self.blockers(i),
            warnings: self.warnings(i, now),
        }
    }

    /// What it waits for, or misses while it runs, each in words.
    pub(crate) fn blockers(&self, i: usize) -> Vec<(ServiceId, String)> {
        let edges: Vec<&Edge> = match &self.services[i].s.phase {
            Phase::Waiting => self.blocking(i).collect(),
            Phase::BackingOff { .. } | Phase::CrashLooping { .. } | Phase::Alive(_) => {
                self.missing(i).collect()
            }
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Ending(_) => Vec::new(),
        };
        edges.into_iter().flat_map(|edge| self.culprits(edge)).collect()
    }

    /// The instances of a dependency that do not meet its condition.
    fn culprits(&self, edge: &Edge) -> Vec<(ServiceId, String)> {
        let unmet = |i: &&usize| {
            let facet = &self.services[**i].facet;
            facet.counted
                && !match edge.condition {
                    Condition::Started => facet.started,
                    Condition::Ready => facet.well,
                    Condition::Completed => facet.completed,
                }
        };
        let instances = self.graph.groups[edge.group].instances.iter().filter(unmet);
        instances.map(|i| (self.services[*i].id.clone(), self.in_words(*i))).collect()
    }

    /// One instance and its state: `db is backing off`, `db is stopped by anna`.
    pub(crate) fn in_words(&self, i: usize) -> String {
        let service = &self.services[i];
        let s = &service.s;
        let id = &service.id;
        let what = match s.state(self.spec(i).kind == Kind::Oneshot) {
            State::Stopped => match &s.stopped_by {
                Some(by) => return format!("{id} is stopped by {by}"),
                None if !self.is_enabled(&id.name) => "disabled",
                None => "stopped",
            },
            State::Waiting => "waiting",
            State::Starting if s.origin == Origin::Policy => {
                return format!("{id} is starting again ({})", self.last_exit(i));
            }
            State::Starting => "starting",
            State::Running => "running, and not up yet",
            State::Ready => "ready",
            State::Degraded if matches!(&s.phase, Phase::Alive(a) if a.unready()) => "not ready any more",
            State::Degraded => "degraded",
            State::Paused => "paused",
            State::Stopping => "stopping",
            State::BackingOff => "backing off",
            State::CrashLooping => "crash-looping",
            State::GaveUp => return format!("{id} has given up"),
            State::Completed => return format!("{id} has completed"),
        };
        format!("{id} is {what}")
    }

    /// The first instance of a service that is not well.
    pub(crate) fn group_in_words(&self, name: &str) -> String {
        let group = self.graph.group(name).map(|g| &self.graph.groups[g]);
        let worst = group.and_then(|g| g.instances.iter().find(|i| !self.services[**i].facet.well));
        match worst {
            Some(i) => self.in_words(*i),
            None => format!("{name} is missing"),
        }
    }

    /// Why it is in its state, in short.
    pub(crate) fn reason(&self, i: usize) -> String {
        let service = &self.services[i];
        let s = &service.s;
        if let (Some(hold), true, false) = (&s.hold, s.desired, matches!(s.phase, Phase::Ending(_))) {
            let how = if hold.freeze { "frozen" } else { "paused" };
            return format!("{how} by {}", hold.by);
        }
        match &s.phase {
            Phase::Stopped => self.reason_stopped(i),
            Phase::Completed => "ended well".into(),
            Phase::GaveUp(why) => self.reason_gave_up(i, *why),
            Phase::Waiting => self.reason_waiting(i),
            Phase::BackingOff { .. } | Phase::CrashLooping { .. } => self.last_exit(i),
            Phase::PreStart if s.hook.as_ref().is_some_and(|h| h.role == Role::WaitFor) => {
                format!("its fallback command for what it waits for runs, {}", self.reason_start(i))
            }
            Phase::PreStart => format!("its pre_start hook runs, {}", self.reason_start(i)),
            Phase::Spawning { .. } => self.reason_start(i),
            Phase::Alive(a) => {
                if a.leaving.is_some() {
                    "it says that it is stopping".into()
                } else if let (Some(_), Some(words)) = (a.up, a.ill()) {
                    words.into()
                } else if let (Some(_), Some((_, words))) = (a.up, self.blockers(i).first()) {
                    words.clone()
                } else {
                    self.reason_start(i)
                }
            }
            Phase::Ending(e) => self.reason_ending(i, e),
        }
    }

    fn reason_stopped(&self, i: usize) -> String {
        let s = &self.services[i].s;
        if let (Some(by), false) = (&s.stopped_by, s.desired) {
            format!("stopped by {by}")
        } else if self.guardian.shutting_down {
            "keepwell is going down".into()
        } else if !self.is_enabled(&self.services[i].id.name) {
            "disabled".into()
        } else {
            "not started yet".into()
        }
    }

    pub(crate) fn reason_gave_up(&self, i: usize, why: GaveUp) -> String {
        let last = self.last_exit(i);
        match why {
            GaveUp::Policy => format!("{last}; its policy is not to restart it"),
            GaveUp::Fatal => format!("{last}, which its exit_codes call fatal"),
            GaveUp::ConfigError => format!("{last}, a configuration error"),
            GaveUp::CrashLoop => format!("{last}; over its limit of restarts"),
            GaveUp::Escalated => format!("{last}; nothing on its escalation ladder has helped"),
        }
    }

    fn reason_waiting(&self, i: usize) -> String {
        let blockers = self.blockers(i);
        if let (Some(wait), Some(spec)) = (&self.services[i].s.wait, &self.spec(i).wait_for) {
            return match &wait.last {
                Some(missing) => format!("waits for {missing}"),
                None => format!("waits for {}", spec.names.join(", ")),
            };
        }
        match blockers.as_slice() {
            [] => {
                let max = self.specs.max_parallel_starts.unwrap_or(0);
                format!("others are starting, and max_parallel_starts is {max}")
            }
            [(_, words)] => words.clone(),
            [(_, words), rest @ ..] => format!("{words}, and {} more", rest.len()),
        }
    }

    /// What led to the attempt that is under way.
    pub(crate) fn reason_start(&self, i: usize) -> String {
        let s = &self.services[i].s;
        match &s.origin {
            Origin::Boot => "started with keepwell".into(),
            Origin::Operator(words) => words.clone(),
            Origin::Policy => format!("restarted ({})", self.last_exit(i)),
            Origin::Back(dep) => format!("{dep} is back"),
            Origin::Bound(dep) => format!("started again with {dep}, to which it is bound"),
            Origin::StandsIn(main) => format!("stands in for {main}"),
            Origin::Reload => "new configuration".into(),
            Origin::Program => "its program changed".into(),
            Origin::Resumed => "resumed".into(),
        }
    }

    fn reason_ending(&self, i: usize, e: &Ending) -> String {
        let s = &self.services[i].s;
        let why = match &e.cause {
            Cause::Exit(_) | Cause::NotSpawned { .. } => self.last_exit(i),
            Cause::Failed(text) => text.clone(),
            Cause::Stop => match &s.stopped_by {
                Some(by) => format!("stopped by {by}"),
                None => "stopped by an operator".into(),
            },
            Cause::Restart => match &s.last_command {
                Some((by, _, _)) => format!("restarted by {by}"),
                None => "restarted by an operator".into(),
            },
            Cause::Reload => "new configuration".into(),
            Cause::Bound(dep) => format!("{dep} went down, to which it is bound"),
            Cause::MainBack(main) => format!("{main} needs no standby any more"),
            Cause::Shutdown => "keepwell is going down".into(),
            Cause::Removed => "removed".into(),
        };
        match e.stage {
            Stage::AfterDependents if e.main.is_some() => format!("{why}; its dependents stop first"),
            Stage::PostStop => format!("{why}; its post_stop hook runs"),
            Stage::Escalating => format!("{why}; the command of its escalation ladder runs"),
            Stage::Killed { .. } if e.main.is_some_and(|m| m.exited) => {
                format!("{why}; what is left of its tree is being killed")
            }
            Stage::AwaitSpawn
            | Stage::Evidence { .. }
            | Stage::AfterDependents
            | Stage::PreStop
            | Stage::Step { .. }
            | Stage::Killed { .. }
            | Stage::Hooks => why,
        }
    }

    /// Why the last run failed: what keepwell held against it, or how it ended by itself.
    pub(crate) fn last_exit(&self, i: usize) -> String {
        let s = &self.services[i].s;
        match (&s.failure, s.exits.last()) {
            (Some(failure), _) => failure.to_string(),
            (None, Some(record)) => words::exit_short(record),
            (None, None) => "it ended".into(),
        }
    }
}
