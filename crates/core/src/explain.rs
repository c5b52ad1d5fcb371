//! `keepwell explain`: the causal chain of one instance in plain words, for somebody who was woken by it. In this order:
//! what is wrong, why, what happens next by itself, what can be done.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::command::By;
use crate::event::State;
use crate::incident::{Incident, OpenIncident};
use crate::service::{Alive, Ending, GaveUp, LastAnswer, Origin, Phase, Stage};
use crate::spec::{AfterWait, Kind, Limit, Policy, Purpose, Readiness};
use crate::supervisor::{DeadlineReason, Explanation, StepOutcome, StepRecord, Supervisor};
use crate::time::{Human, Now, Wall};
use crate::words;

/// Links of a chain of waiting services that are told; a longer one is no longer read.
const CHAIN: usize = 8;

/// The lines of one explanation, as they are collected.
struct Lines {
    facts: Vec<(String, String)>,
    try_next: Vec<(String, String)>,
}

impl Lines {
    fn fact(&mut self, label: &str, text: impl Into<String>) {
        self.facts.push((label.to_string(), text.into()));
    }

    fn offer(&mut self, phrase: impl Into<String>, command: impl Into<String>) {
        self.try_next.push((phrase.into(), command.into()));
    }
}

impl Supervisor {
    pub(crate) fn explain_one(&self, i: usize, now: Now) -> Explanation {
        let mut lines = Lines { facts: Vec::new(), try_next: Vec::new() };
        self.explain_causes(i, now, &mut lines);
        self.explain_incident(i, now, &mut lines);
        self.explain_escalation(i, &mut lines);
        self.explain_next(i, now, &mut lines);
        self.explain_limit(i, now, &mut lines);
        self.explain_exits(i, now, &mut lines);
        self.explain_last_stop(i, now, &mut lines);
        for (label, line) in self.guard_lines(i, now) {
            lines.fact(label, line);
        }
        self.explain_commands(i, now, &mut lines);
        self.offer_commands(i, &mut lines);
        let headline = format!("{}.", self.headline(i));
        Explanation { headline, facts: lines.facts, try_next: lines.try_next }
    }

    fn headline(&self, i: usize) -> String {
        let service = &self.services[i];
        let (id, s) = (&service.id, &service.s);
        let reason = self.reason(i);
        match s.state(self.spec(i).kind == Kind::Oneshot) {
            State::Stopped => match &s.stopped_by {
                Some(by) if !s.desired => format!("{id} is stopped by {by}"),
                Some(_) | None => format!("{id} is stopped: {reason}"),
            },
            State::Waiting => match self.chain(i) {
                Some(chain) => format!("{id} is waiting because {chain}"),
                // The reason says it in the same words.
                None if self.services[i].s.wait.is_some() => format!("{id} {reason}"),
                None => format!("{id} is waiting because {reason}"),
            },
            State::Starting => format!("{id} is starting: {reason}"),
            State::Running => format!("{id} is running: {reason}"),
            State::Ready => format!("{id} is ready: {reason}"),
            State::Degraded => format!("{id} runs, but is degraded because {reason}"),
            State::Paused => format!("{id} is {reason}"),
            State::Stopping => format!("{id} is stopping: {reason}"),
            State::BackingOff => format!("{id} is waiting for its next attempt: {reason}"),
            State::CrashLooping => format!("{id} is crash-looping: {reason}"),
            State::GaveUp => format!("{id} has given up: {reason}"),
            State::Completed => format!("{id} has completed: it ended well"),
        }
    }

    /// `api is waiting, because db is stopped by anna`: from blocker to blocker to the root.
    fn chain(&self, i: usize) -> Option<String> {
        let mut links: Vec<String> = Vec::new();
        let mut at = i;
        while links.len() < CHAIN {
            let blockers = self.blockers(at);
            let Some((id, words)) = blockers.first() else { break };
            links.push(words.clone());
            let Some(next) = self.index.get(id) else { break };
            at = *next;
            if !matches!(self.services[at].s.phase, Phase::Waiting) {
                break;
            }
        }
        (!links.is_empty()).then(|| links.join(", because "))
    }

    /// What holds it, or what it misses.
    fn explain_causes(&self, i: usize, now: Now, lines: &mut Lines) {
        let s = &self.services[i].s;
        for (id, words) in self.blockers(i) {
            let label = if matches!(s.phase, Phase::Waiting) { "waits for" } else { "misses" };
            let more = self.index.get(&id).map(|b| self.outlook(*b, now)).unwrap_or_default();
            lines.fact(label, format!("{words}{more}"));
        }
        match &s.phase {
            Phase::Waiting if self.services[i].parked.is_some() => {
                let (max, starting) = (self.specs.max_parallel_starts.unwrap_or(0), self.census.starting);
                lines.fact(
                    "waits for",
                    format!("{starting} services are starting; at most {max} may at a time"),
                );
            }
            Phase::Waiting if s.wait.is_some() => self.explain_wait(i, now, lines),
            Phase::Alive(a) => {
                if a.up.is_none() && a.started_up() {
                    self.explain_check(i, a, lines);
                }
                self.explain_probes(i, a, now, lines);
            }
            Phase::Ending(e) => self.explain_ending(i, e, lines),
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. } => {}
        }
        if matches!(s.phase, Phase::PreStart | Phase::Spawning { .. } | Phase::Alive(_)) && s.hold.is_some() {
            lines.fact("started", self.reason_start(i));
        }
    }

    /// What is not there yet, and for how long that may go on.
    fn explain_wait(&self, i: usize, now: Now, lines: &mut Lines) {
        let Some(spec) = &self.spec(i).wait_for else { return };
        let Some(wait) = &self.services[i].s.wait else { return };
        match &wait.last {
            Some(missing) => lines.fact("waits for", missing.clone()),
            None => lines.fact("waits for", spec.names.join(", ")),
        }
        if let Some(at) = wait.deadline {
            let then = match spec.then {
                AfterWait::Fail => "the start has failed",
                AfterWait::StartAnyway => "it starts without",
                AfterWait::Run { .. } => "its fallback command decides",
            };
            lines.fact("if not", format!("{then} in {}", Human(at.since(now.mono))));
        }
    }

    fn explain_check(&self, i: usize, a: &Alive, lines: &mut Lines) {
        let what = match &self.spec(i).ready {
            Readiness::None if self.spec(i).kind == Kind::Oneshot => return,
            Readiness::None => "it counts as up when it has run for 1 s".to_string(),
            Readiness::Delay(delay) => format!("it counts as ready {} after its start", Human(*delay)),
            Readiness::Probe { period, timeout } => {
                format!("its check is tried every {}, for {} at most", Human(*period), Human(*timeout))
            }
            Readiness::Signalled { timeout } => {
                format!("it has to say that it is ready within {}", Human(*timeout))
            }
        };
        lines.fact("readiness", what);
        match &a.check.last {
            LastAnswer::None | LastAnswer::Passed => {}
            LastAnswer::Failed(why) => lines.fact("last check", why.clone()),
            LastAnswer::Unknown(why) => lines.fact("last check", format!("could not be made: {why}")),
        }
    }

    /// A line for each check that goes on: how it is known, and what it says.
    fn explain_probes(&self, i: usize, a: &Alive, now: Now, lines: &mut Lines) {
        for (probe, p) in self.spec(i).probes.iter().zip(&a.probes) {
            let says = match &p.last {
                LastAnswer::None if p.purpose == Purpose::Startup => "not tried yet".into(),
                LastAnswer::None if !a.started_up() => "waits for the startup check".into(),
                LastAnswer::None => "not tried yet".into(),
                LastAnswer::Passed => "passes".into(),
                LastAnswer::Failed(why) if p.failures == 0 => {
                    format!("fails, which does not count yet: {why}")
                }
                LastAnswer::Failed(why) => {
                    format!(
                        "failed {} times in a row, {} make it ill: {why}",
                        p.failures, probe.failure_threshold
                    )
                }
                LastAnswer::Unknown(why) => format!("could not be made: {why}"),
            };
            lines.fact(&format!("{} check", p.purpose.name()), format!("{}: {says}", probe.name));
            if p.purpose == Purpose::Live
                && p.ill.is_some()
                && let Some(budget) = self.spent_budget(i, now)
            {
                lines
                    .fact("left running", format!("{budget} is spent; it is ended when there is room again"));
            }
        }
    }

    fn explain_ending(&self, i: usize, e: &Ending, lines: &mut Lines) {
        let steps = self.spec(i).stop.len();
        let text = match &e.stage {
            Stage::AwaitSpawn => "its start is not confirmed yet; it is ended as soon as it is".into(),
            Stage::Evidence { .. } => "evidence of what is wrong with it is being taken".into(),
            Stage::AfterDependents => "what depends on it stops first".into(),
            Stage::PreStop => "its pre_stop hook runs".into(),
            Stage::Step { index, .. } => {
                format!("step {} of {steps} of its stop ladder, then the kill", index + 1)
            }
            Stage::Killed { .. } => "its whole tree was killed and is not empty yet".into(),
            Stage::Hooks => "its hooks are being ended".into(),
            Stage::PostStop => "its post_stop hook runs".into(),
            Stage::Escalating => "the command of its escalation ladder runs".into(),
        };
        lines.fact("now", text);
    }

    /// What another instance will do by itself, as an appendix to its state.
    fn outlook(&self, i: usize, now: Now) -> String {
        let s = &self.services[i].s;
        match &s.phase {
            Phase::BackingOff { until } | Phase::CrashLooping { until } if s.hold.is_none() => {
                let next = Human(until.since(now.mono));
                format!(" ({}), next attempt in {next}", self.last_exit(i))
            }
            Phase::GaveUp(why) => format!(": {}", self.reason_gave_up(i, *why)),
            Phase::Waiting => match self.blockers(i).first() {
                Some((_, words)) => format!(" for its part: {words}"),
                None => String::new(),
            },
            Phase::Stopped
            | Phase::Completed
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => String::new(),
        }
    }

    /// What happens by itself, when, and why.
    fn explain_next(&self, i: usize, now: Now, lines: &mut Lines) {
        let s = &self.services[i].s;
        if let Some((at, why)) = s.next_told(self.spec(i).restart.reset_after) {
            let wait = Human(at.since(now.mono));
            let attempt = s.tracker.attempt();
            lines.fact(
                "next",
                match why {
                    DeadlineReason::Restart if s.watching => {
                        format!("attempt {attempt} in {wait}, or as soon as its program file changes")
                    }
                    DeadlineReason::Restart => format!("attempt {attempt} in {wait}"),
                    DeadlineReason::Probe if matches!(&s.phase, Phase::Alive(a) if a.up.is_some() || !a.started_up()) => {
                        format!("it is checked again in {wait}")
                    }
                    // Not told here: see below, and `explain_wait`.
                    DeadlineReason::Look | DeadlineReason::WaitEnds => return,
                    DeadlineReason::Probe => format!("its readiness is checked again in {wait}"),
                    DeadlineReason::ReadyTimeout => format!("it has failed if it is not ready in {wait}"),
                    DeadlineReason::Up => format!("it counts as up in {wait}"),
                    DeadlineReason::ResetCount => format!("its count of restarts begins anew in {wait}"),
                    DeadlineReason::StopStep => format!("the next step of its stop ladder in {wait}"),
                    DeadlineReason::HookTimeout => format!("its hook is ended in {wait} if it still runs"),
                    DeadlineReason::Watchdog => format!("a life sign is due in {wait}"),
                    DeadlineReason::Heartbeat => {
                        format!("it has failed if no heartbeat comes in {wait}")
                    }
                    DeadlineReason::HoldEnds => {
                        format!("it is stopped in {wait} unless it is resumed before")
                    }
                    DeadlineReason::KillAgain => format!("it is killed again in {wait}"),
                    DeadlineReason::IncidentEnds => {
                        format!("its incident is over in {wait} if nothing fails before")
                    }
                },
            );
            return;
        }
        let text = match &s.phase {
            Phase::Stopped if s.desired || s.stopped_by.is_some() => "stays so until somebody starts it",
            Phase::Stopped => "stays so: `up` does not start it, since it is disabled",
            Phase::Completed if self.spec(i).kind == Kind::Oneshot => "nothing; it runs once an `up`",
            Phase::Completed => "nothing; its policy restarts it after failures only",
            Phase::GaveUp(GaveUp::ConfigError) => {
                "tried again when its program file or its configuration changes"
            }
            Phase::GaveUp(_) => "nothing by itself",
            Phase::Waiting | Phase::BackingOff { .. } | Phase::CrashLooping { .. } if s.hold.is_some() => {
                "starts when it is resumed"
            }
            Phase::Waiting if s.wait.as_ref().is_some_and(|wait| wait.next.is_some()) => {
                let next = s.wait.as_ref().and_then(|wait| wait.next).unwrap_or(now.mono);
                lines.fact("next", format!("it is looked for again in {}", Human(next.since(now.mono))));
                return;
            }
            Phase::Waiting => match self.root_blocker(i).filter(|_| self.services[i].facet.absent) {
                Some((root, _)) => {
                    // What waits for its own next attempt comes some day; the rest needs somebody.
                    let text = if self.will_try(&root) {
                        format!("starts when {root} is up")
                    } else {
                        format!("nothing by itself: {root} is not coming by itself")
                    };
                    lines.fact("next", text);
                    return;
                }
                None => "starts as soon as nothing holds it back",
            },
            Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => return,
        };
        lines.fact("next", text);
    }

    /// The open incident, and where its story stands.
    fn explain_incident(&self, i: usize, now: Now, lines: &mut Lines) {
        let Some(OpenIncident { incident, lasted, .. }) = self.open_incident(i, now) else { return };
        let Incident { id, cause, failures, restarts, .. } = incident;
        let of = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (failures, restarts) = (of(failures, "failure"), of(restarts, "restart"));
        let since = Human(lasted);
        lines
            .fact("incident", format!("{id}, since {since}, {failures}, {restarts}; it began with: {cause}"));
        lines.offer("its whole story", format!("keepwell incidents {id}"));
    }

    fn explain_escalation(&self, i: usize, lines: &mut Lines) {
        for (label, text) in self.escalation_lines(i) {
            lines.fact(label, text);
        }
    }

    fn explain_limit(&self, i: usize, now: Now, lines: &mut Lines) {
        let s = &self.services[i].s;
        let restart = &self.spec(i).restart;
        let Some(Limit { max, window }) = restart.limit else { return };
        if restart.policy == Policy::Never || s.tracker.is_fresh() {
            return;
        }
        let recent = s.tracker.recent(restart, now.mono);
        let restarts = if recent == 1 { "restart" } else { "restarts" };
        let mut text = format!("{recent} {restarts} in the last {}; its limit is {max}", Human(window));
        if s.tracker.is_looping() {
            let slowest = Human(restart.max_delay.max(crate::spec::CRASH_LOOP_MAX_DELAY));
            text = format!("{text}. Over it, it is tried more and more slowly, every {slowest} in the end");
        }
        lines.fact("restarts", text);
    }

    fn explain_exits(&self, i: usize, now: Now, lines: &mut Lines) {
        let checked = self.spec(i).ready != Readiness::None;
        for (nth, record) in self.services[i].s.exits.iter().rev().enumerate() {
            let label = if nth == 0 { "last exit" } else { "before" };
            lines.fact(label, format!("{}, {}", words::exit_long(record, checked), ago(record.at, now)));
        }
    }

    /// Which steps the last way down the ladder took, and which of them worked.
    fn explain_last_stop(&self, i: usize, now: Now, lines: &mut Lines) {
        let Some(record) = &self.services[i].s.last_stop else { return };
        for (nth, StepRecord { action, outcome, took }) in record.steps.iter().enumerate() {
            let label = if nth == 0 { "last stop" } else { "then" };
            let text = match outcome {
                StepOutcome::Worked => {
                    format!("{action}: worked after {}, {}", Human(*took), ago(record.at, now))
                }
                StepOutcome::NotEnough if took.is_zero() => format!("{action}: under way"),
                StepOutcome::NotEnough => format!("{action}: not enough in {}", Human(*took)),
                StepOutcome::Failed(why) => format!("{action}: failed: {why}"),
            };
            lines.fact(label, text);
        }
    }

    fn explain_commands(&self, i: usize, now: Now, lines: &mut Lines) {
        let s = &self.services[i].s;
        if let Some(hold) = &s.hold {
            let how = if hold.freeze { "frozen" } else { "paused" };
            lines.fact("held", format!("{how} by {}", hold.by));
        }
        if let Some((by, what, at)) = &s.last_command {
            lines.fact("last asked", format!("{what} by {by}, {}", ago(*at, now)));
        }
        if s.ignore_dependencies {
            lines.fact("started", "without waiting for what it depends on");
        }
        let up = matches!(s.phase, Phase::Alive(_));
        if up && s.origin == Origin::Boot && s.exits.is_empty() {
            lines.fact("history", "never ended since keepwell came up");
        }
    }

    fn offer_commands(&self, i: usize, lines: &mut Lines) {
        let service = &self.services[i];
        let (id, s) = (&service.id, &service.s);
        let logs = format!("keepwell logs {id}");
        match s.state(self.spec(i).kind == Kind::Oneshot) {
            State::Stopped => match s.stopped_by.as_ref().and_then(By::stopped_with) {
                Some(with) => {
                    lines.offer(format!("start it together with {with}"), format!("keepwell start {with}"))
                }
                None => lines.offer("start it", format!("keepwell start {id}")),
            },
            State::Waiting => {
                if let Some((root, words)) = self.root_blocker(i) {
                    lines.offer(words, format!("keepwell explain {root}"));
                    if self.index_of(&root).is_some_and(|r| !self.services[r].s.has_process()) {
                        lines.offer("try now", format!("keepwell start {root}"));
                    }
                    lines.offer(
                        format!("start without {root}"),
                        format!("keepwell start {id} --ignore-dependencies"),
                    );
                }
            }
            State::Degraded => {
                if let Some((root, words)) = self.root_blocker(i) {
                    lines.offer(words, format!("keepwell explain {root}"));
                }
            }
            State::Starting => lines.offer("what it says", logs),
            State::Running | State::Ready | State::Completed => {}
            State::Paused => lines.offer("let it go on", format!("keepwell resume {id}")),
            State::Stopping => {
                if matches!(&s.phase, Phase::Ending(Ending { stage: Stage::Killed { .. }, .. })) {
                    lines.offer("what still runs", format!("keepwell status {id}"));
                }
            }
            State::BackingOff | State::CrashLooping => {
                lines.offer("what it said", logs);
                lines.offer("try now", format!("keepwell start {id}"));
                lines.offer("stop trying", format!("keepwell stop {id}"));
            }
            State::GaveUp => {
                lines.offer("what it said", logs);
                lines.offer("try again", format!("keepwell start {id}"));
            }
        }
    }

    fn index_of(&self, shown: &str) -> Option<usize> {
        self.find(shown).ok()?.into_iter().next()
    }

    /// The end of the chain of what it waits for.
    fn will_try(&self, shown: &str) -> bool {
        let phase = self.services.iter().find(|e| e.id.to_string() == shown).map(|e| &e.s.phase);
        matches!(phase, Some(Phase::BackingOff { .. } | Phase::CrashLooping { .. }))
    }

    fn root_blocker(&self, i: usize) -> Option<(String, String)> {
        let mut root = None;
        let mut at = i;
        for _ in 0..CHAIN {
            let blockers = self.blockers(at);
            let Some((id, _)) = blockers.first() else { break };
            root = Some((id.to_string(), format!("why {id} is not there")));
            let Some(next) = self.index.get(id) else { break };
            at = *next;
        }
        root
    }
}

/// How long ago, by the wall clock, which may have jumped.
fn ago(at: Wall, now: Now) -> String {
    match u64::try_from(now.wall.0.saturating_sub(at.0)) {
        Ok(0..1_000) => "just now".into(),
        Ok(ms) => format!("{} ago", Human(Duration::from_millis(ms))),
        Err(_) => "in what the clock now calls the future".into(),
    }
}
