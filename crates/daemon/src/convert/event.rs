//! Events as the wire has them: kind, level, and the one line that a person reads.

use std::time::Duration;

use keepwell_core::event::{Event, EventKind, ExitClass, ExitStatus, Level, SpawnError, State};
use keepwell_core::guard::Then;
use keepwell_core::time::Human;
use keepwell_core::{By, Role, ServiceId, Wall};
use keepwell_sdk::wire;

use super::{class, exit_text, incident, millis, numbers, role, state_words, time};

/// Every kind of event and what it tells; docs/api.md is held to this list by a test.
pub const KINDS: [(&str, &str); 39] = [
    ("state_changed", "a service's state changed: `from`, `state`, `reason`"),
    ("started", "a process was started: `pid`, `role`"),
    ("spawn_failed", "a process could not be started: `exit.text`, `role`"),
    ("exited", "a process ended: `exit`, `role`"),
    ("ready", "a service became ready"),
    ("ready_timed_out", "a service did not become ready in time"),
    ("guard_tripped", "a service uses more than a guard allows: `reason` has what it uses"),
    ("guard_cleared", "it uses well less again: `reason` has what it uses"),
    ("leak_foreseen", "what a service uses will reach the bound of a guard, or its limit"),
    ("leak_over", "it no longer looks so"),
    ("usage_stepped", "what a service uses has jumped to a new level"),
    ("watchdog_expired", "no life sign came in time"),
    ("probe_failed", "a check that goes on failed as often in a row as its threshold says: `reason`"),
    ("probe_recovered", "it passes again"),
    ("healing_held", "a service that is ill is left running, since a budget is spent: `reason`"),
    ("heartbeat_lost", "no heartbeat came in time"),
    ("restart_scheduled", "a restart was decided: `next_attempt`"),
    ("crash_looped", "too many restarts"),
    ("gave_up", "no further attempt by itself"),
    ("stop_step_taken", "a step of the stop ladder was taken"),
    (
        "stop_step_failed",
        "it reached nobody, was refused or was not over in time (`reason`); the next one follows at once",
    ),
    ("leftovers_killed", "what a service left behind is being ended"),
    ("stop_stuck", "a tree does not die; the kill is repeated"),
    ("hook_failed", "a hook failed: `role`"),
    ("dependency_changed", "what a service depends on went away or came back"),
    ("commanded", "an operator's command was accepted"),
    ("config_applied", "a new configuration was taken on"),
    ("config_rejected", "a new configuration was refused: `reason` has the diagnostics"),
    ("adopted", "a daemon took over from an earlier one"),
    ("incident_opened", "a service began to fail: `incident`, `reason`"),
    (
        "evidence_taken",
        "what failed was looked at before it was ended: `evidence`, or `reason` why it was not",
    ),
    ("escalated", "a service goes on failing: the next step of its ladder is taken"),
    ("paged", "its ladder has come to its end, and somebody is to be woken: `reason`"),
    ("standby_started", "a standby is started, since what it stands in for is down"),
    ("standby_stopped", "it is no longer needed"),
    (
        "incident_closed",
        "it has been well for long enough, or ended otherwise: `incident`, `incident_report`",
    ),
    ("guardian_started", "keepwell came up"),
    ("guardian_stopping", "keepwell goes down"),
    ("told", "anything else that keepwell has to say"),
];

/// The fact as it crosses the API, under its number.
#[must_use]
pub fn event(e: &Event, seq: u64) -> wire::Event {
    let mut out = wire::Event {
        seq,
        at: time(e.at.wall),
        service: e.service.as_ref().map(ToString::to_string),
        run: e.run.map(|r| r.0),
        incident: e.incident,
        kind: kind_name(&e.kind).to_owned(),
        level: level_name(level(&e.kind)).to_owned(),
        text: text(e.service.as_ref(), &e.kind),
        ..wire::Event::default()
    };
    details(&mut out, &e.kind, e.at.wall);
    out
}

fn kind_name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::StateChanged { .. } => "state_changed",
        EventKind::Started { .. } => "started",
        EventKind::SpawnFailed(..) => "spawn_failed",
        EventKind::Exited { .. } => "exited",
        EventKind::Ready { .. } => "ready",
        EventKind::ReadyTimedOut { .. } => "ready_timed_out",
        EventKind::GuardTripped { .. } => "guard_tripped",
        EventKind::GuardCleared { .. } => "guard_cleared",
        EventKind::LeakForeseen { .. } => "leak_foreseen",
        EventKind::LeakOver { .. } => "leak_over",
        EventKind::UsageStepped { .. } => "usage_stepped",
        EventKind::WatchdogExpired { .. } => "watchdog_expired",
        EventKind::ProbeFailed { .. } => "probe_failed",
        EventKind::ProbeRecovered { .. } => "probe_recovered",
        EventKind::HealingHeld { .. } => "healing_held",
        EventKind::HeartbeatLost { .. } => "heartbeat_lost",
        EventKind::RestartScheduled { .. } => "restart_scheduled",
        EventKind::CrashLooped { .. } => "crash_looped",
        EventKind::GaveUp { .. } => "gave_up",
        EventKind::StopStepTaken { .. } => "stop_step_taken",
        EventKind::StopStepFailed { .. } => "stop_step_failed",
        EventKind::LeftoversKilled => "leftovers_killed",
        EventKind::StopStuck { .. } => "stop_stuck",
        EventKind::HookFailed { .. } => "hook_failed",
        EventKind::DependencyChanged { .. } => "dependency_changed",
        EventKind::Commanded { .. } => "commanded",
        EventKind::ConfigApplied { .. } => "config_applied",
        EventKind::ConfigRejected { .. } => "config_rejected",
        EventKind::Adopted { .. } => "adopted",
        EventKind::IncidentOpened { .. } => "incident_opened",
        EventKind::EvidenceTaken { .. } => "evidence_taken",
        EventKind::Escalated { .. } => "escalated",
        EventKind::Paged { .. } => "paged",
        EventKind::StandbyStarted { .. } => "standby_started",
        EventKind::StandbyStopped { .. } => "standby_stopped",
        EventKind::IncidentClosed(_) => "incident_closed",
        EventKind::GuardianStarted => "guardian_started",
        EventKind::GuardianStopping { .. } => "guardian_stopping",
        EventKind::Told { .. } => "told",
    }
}

fn level(kind: &EventKind) -> Level {
    match kind {
        EventKind::CrashLooped { .. }
        | EventKind::GaveUp { .. }
        | EventKind::Paged { .. }
        | EventKind::HealingHeld { .. } => Level::Error,
        // The event of the cause is the one to wake somebody; this one only says what it led to.
        EventKind::StateChanged { to, .. } => match to {
            State::BackingOff | State::CrashLooping | State::GaveUp | State::Degraded => Level::Warn,
            State::Stopped
            | State::Waiting
            | State::Starting
            | State::Running
            | State::Ready
            | State::Paused
            | State::Stopping
            | State::Completed => Level::Info,
        },
        EventKind::Exited { expected: true, .. } | EventKind::Exited { class: ExitClass::Success, .. } => {
            Level::Info
        }
        EventKind::DependencyChanged { lost: None } => Level::Info,
        EventKind::Exited { .. }
        | EventKind::SpawnFailed(..)
        | EventKind::ReadyTimedOut { .. }
        | EventKind::WatchdogExpired { .. }
        | EventKind::ProbeFailed { .. }
        | EventKind::HeartbeatLost { .. }
        | EventKind::GuardTripped { .. }
        | EventKind::LeakForeseen { .. }
        | EventKind::EvidenceTaken { outcome: Err(_) }
        | EventKind::Escalated { .. }
        | EventKind::StandbyStarted { .. }
        | EventKind::StopStuck { .. }
        | EventKind::HookFailed { .. }
        | EventKind::DependencyChanged { lost: Some(_) }
        | EventKind::ConfigRejected { .. }
        | EventKind::Adopted { .. } => Level::Warn,
        EventKind::Started { .. }
        | EventKind::GuardCleared { .. }
        | EventKind::LeakOver { .. }
        | EventKind::UsageStepped { .. }
        | EventKind::Ready { .. }
        | EventKind::ProbeRecovered { .. }
        | EventKind::RestartScheduled { .. }
        | EventKind::StopStepTaken { .. }
        | EventKind::StopStepFailed { .. }
        | EventKind::LeftoversKilled
        | EventKind::Commanded { .. }
        | EventKind::ConfigApplied { .. }
        | EventKind::IncidentOpened { .. }
        | EventKind::EvidenceTaken { outcome: Ok(_) }
        | EventKind::StandbyStopped { .. }
        | EventKind::IncidentClosed(_)
        | EventKind::GuardianStarted
        | EventKind::GuardianStopping { .. } => Level::Info,
        EventKind::Told { level, .. } => *level,
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// The fields that only some kinds have.
fn details(out: &mut wire::Event, kind: &EventKind, at: Wall) {
    match kind {
        EventKind::StateChanged { from, to, reason } => {
            out.from = Some(from.name().to_owned());
            out.state = Some(to.name().to_owned());
            out.reason = Some(reason.clone());
        }
        EventKind::Started { pid, role: r } => {
            out.pid = Some(*pid);
            out.role = Some(role(*r).to_owned());
        }
        EventKind::SpawnFailed(error, r) => {
            out.role = Some(role(*r).to_owned());
            out.exit = Some(wire::Exit {
                at: time(at),
                text: error.text.clone(),
                class: class(ExitClass::Retry).to_owned(),
                ..wire::Exit::default()
            });
        }
        EventKind::Exited { status, class: c, role: r, ran_for, was_ready, expected } => {
            let (code, signal) = numbers(status);
            out.role = Some(role(*r).to_owned());
            out.exit = Some(wire::Exit {
                at: time(at),
                code,
                signal,
                text: exit_text(status),
                class: class(*c).to_owned(),
                ran_for_ms: millis(*ran_for),
                was_ready: *was_ready,
                expected: *expected,
            });
        }
        EventKind::RestartScheduled { at, .. } => out.next_attempt = Some(time(*at)),
        EventKind::HookFailed { role: r, reason } => {
            out.role = Some(role(*r).to_owned());
            out.reason = Some(reason.clone());
        }
        EventKind::StopStepFailed { reason, .. } => out.reason = Some(reason.clone()),
        EventKind::ProbeFailed { last, .. } => out.reason = Some(last.clone()),
        EventKind::HealingHeld { budget } => out.reason = Some(format!("{budget} is spent")),
        EventKind::GaveUp { reason }
        | EventKind::Paged { reason }
        | EventKind::GuardianStopping { reason } => out.reason = Some(reason.clone()),
        EventKind::ConfigRejected { text } => out.reason = Some(text.clone()),
        EventKind::GuardTripped { value, .. } | EventKind::GuardCleared { value, .. } => {
            out.reason = Some(value.clone());
        }
        EventKind::EvidenceTaken { outcome: Ok(name) } => out.evidence = Some(incident::evidence(name)),
        EventKind::EvidenceTaken { outcome: Err(why) } => out.reason = Some(why.clone()),
        EventKind::IncidentOpened { cause, .. } => out.reason = Some(cause.clone()),
        EventKind::IncidentClosed(closed) => {
            let service = out.service.clone().unwrap_or_default();
            out.incident_report = Some(Box::new(incident::closed(service, closed)));
        }
        EventKind::Escalated { .. }
        | EventKind::StandbyStarted { .. }
        | EventKind::StandbyStopped { .. }
        | EventKind::Ready { .. }
        | EventKind::ReadyTimedOut { .. }
        | EventKind::WatchdogExpired { .. }
        | EventKind::ProbeRecovered { .. }
        | EventKind::HeartbeatLost { .. }
        | EventKind::LeakForeseen { .. }
        | EventKind::LeakOver { .. }
        | EventKind::UsageStepped { .. }
        | EventKind::CrashLooped { .. }
        | EventKind::StopStepTaken { .. }
        | EventKind::LeftoversKilled
        | EventKind::StopStuck { .. }
        | EventKind::DependencyChanged { .. }
        | EventKind::Commanded { .. }
        | EventKind::ConfigApplied { .. }
        | EventKind::Adopted { .. }
        | EventKind::GuardianStarted
        | EventKind::Told { .. } => {}
    }
}

fn text(service: Option<&ServiceId>, kind: &EventKind) -> String {
    let who = service.map_or_else(|| "keepwell".to_owned(), ToString::to_string);
    match kind {
        EventKind::StateChanged { to, reason, .. } => state_changed(&who, *to, reason),
        EventKind::Started { pid, role: Role::Main } => format!("{who} started, pid {pid}"),
        EventKind::Started { pid, role: r } => format!("{who}: {} started, pid {pid}", beside(*r)),
        EventKind::SpawnFailed(error, r) => spawn_failed(&who, error, *r),
        EventKind::Exited { status, class, role, ran_for, was_ready, expected } => {
            exited(&who, *status, *class, *role, *ran_for, Phase::of(*was_ready, *expected))
        }
        EventKind::Ready { after } => format!("{who} is ready after {}", Human(*after)),
        EventKind::ReadyTimedOut { timeout, last } => {
            with_reason(format!("{who} did not become ready within {}", Human(*timeout)), last)
        }
        EventKind::WatchdogExpired { timeout } => {
            format!("{who} gave no sign of life for {}", Human(*timeout))
        }
        EventKind::ProbeFailed { purpose, probe, failures, last } => {
            let times = match failures {
                1 => "once".to_owned(),
                n => format!("{n} times in a row"),
            };
            with_reason(format!("{who}: its {} check ({probe}) failed {times}", purpose.name()), last)
        }
        EventKind::ProbeRecovered { purpose, probe, after } => {
            format!("{who}: its {} check ({probe}) passes again after {}", purpose.name(), Human(*after))
        }
        EventKind::HealingHeld { budget } => {
            format!("{who} is ill and is left as it is: {budget} is spent")
        }
        EventKind::HeartbeatLost { after } => format!("{who} sent no heartbeat for {}", Human(*after)),
        EventKind::GuardTripped { rule, value, then } => {
            let follows = match then {
                Then::Alert => "",
                Then::Restart => "; it is restarted",
                Then::Run { .. } => "; its command runs",
            };
            format!("{who} is over its guard {rule}: {value}{follows}")
        }
        EventKind::GuardCleared { rule, value } => format!("{who} is below its guard {rule} again: {value}"),
        EventKind::LeakForeseen { text }
        | EventKind::LeakOver { text }
        | EventKind::UsageStepped { text } => {
            format!("{who}: {text}")
        }
        EventKind::RestartScheduled { attempt, delay, .. } if delay.is_zero() => {
            format!("{who}: next attempt at once (attempt {attempt})")
        }
        EventKind::RestartScheduled { attempt, delay, .. } => {
            format!("{who}: next attempt in {} (attempt {attempt})", Human(*delay))
        }
        EventKind::CrashLooped { evidence } => with_reason(format!("{who} is crash-looping"), evidence),
        EventKind::GaveUp { reason } => with_reason(format!("{who} gave up"), reason),
        EventKind::StopStepTaken { step, action } => format!("{who}: stop step {step}: {action}"),
        EventKind::StopStepFailed { step, reason } => {
            with_reason(format!("{who}: stop step {step} failed"), reason)
        }
        EventKind::LeftoversKilled => format!("{who}: the processes that it left behind are being ended"),
        EventKind::StopStuck { waited } => {
            format!("{who} still has processes {} after the kill; it is repeated", Human(*waited))
        }
        EventKind::HookFailed { role: r, reason } => {
            with_reason(format!("{who}: {} hook failed", role(*r)), reason)
        }
        EventKind::DependencyChanged { lost: Some(cause) } => {
            format!("{who} lost what it depends on: {cause}")
        }
        EventKind::DependencyChanged { lost: None } => format!("{who} has all that it depends on again"),
        EventKind::Commanded { by, what } => commanded(service, by, what),
        EventKind::ConfigApplied { changes } => config_applied(changes),
        EventKind::ConfigRejected { text } => {
            with_reason("configuration refused, nothing was changed".to_owned(), first_line(text))
        }
        EventKind::Adopted { runs, missed_exits } => format!(
            "keepwell's daemon was replaced; {} taken over, {} caught up on",
            counted(*runs, "running process", "running processes"),
            counted(*missed_exits, "exit", "exits")
        ),
        EventKind::IncidentOpened { id, cause } => with_reason(format!("{who}: incident {id} began"), cause),
        EventKind::EvidenceTaken { outcome: Ok(name) } => {
            format!("{who}: evidence was taken: {}", incident::evidence(name))
        }
        EventKind::EvidenceTaken { outcome: Err(why) } => {
            with_reason(format!("{who}: no evidence was taken"), why)
        }
        EventKind::Escalated { step, of, then } => {
            format!("{who} goes on failing: step {step} of {of} of its escalation: {then}")
        }
        EventKind::Paged { reason } => {
            with_reason(format!("{who} needs somebody: its escalation has come to its end"), reason)
        }
        EventKind::StandbyStarted { main } => format!("{who} stands in for {main}, which is down"),
        EventKind::StandbyStopped { main } => format!("{who} no longer stands in for {main}"),
        EventKind::IncidentClosed(closed) => incident::closing_words(&who, closed),
        EventKind::GuardianStarted => "keepwell is up".to_owned(),
        EventKind::GuardianStopping { reason } => with_reason("keepwell is stopping".to_owned(), reason),
        EventKind::Told { text, .. } => match service {
            Some(id) => format!("{id}: {text}"),
            None => text.clone(),
        },
    }
}

fn state_changed(who: &str, to: State, reason: &str) -> String {
    let head = match to {
        State::Completed => format!("{who} completed"),
        State::GaveUp => format!("{who} has given up"),
        State::Stopped
        | State::Waiting
        | State::Starting
        | State::Running
        | State::Ready
        | State::Degraded
        | State::Paused
        | State::Stopping
        | State::BackingOff
        | State::CrashLooping => format!("{who} is {}", state_words(to)),
    };
    with_reason(head, reason)
}

/// What runs beside the main program: `pre_stop hook`, `stop command`.
fn beside(r: Role) -> String {
    match r {
        Role::Main | Role::Stop | Role::WaitFor | Role::Guard(_) | Role::Escalation(_) => {
            format!("{} command", role(r))
        }
        Role::PreStart
        | Role::PostStart
        | Role::PreStop
        | Role::PostStop
        | Role::OnSuspend
        | Role::OnResume
        | Role::OnPowerChange
        | Role::OnSession => format!("{} hook", role(r)),
    }
}

fn spawn_failed(who: &str, error: &SpawnError, r: Role) -> String {
    if r == Role::Main {
        return format!("{who} could not be started: {}", error.text);
    }
    format!("{who}: {} could not be started: {}", beside(r), error.text)
}

/// Where in its life a process ended.
#[derive(Clone, Copy)]
enum Phase {
    BeingStopped,
    BeforeReady,
    Ready,
}

impl Phase {
    fn of(was_ready: bool, expected: bool) -> Self {
        match (expected, was_ready) {
            (true, _) => Phase::BeingStopped,
            (false, false) => Phase::BeforeReady,
            (false, true) => Phase::Ready,
        }
    }
}

fn exited(
    who: &str,
    status: ExitStatus,
    class: ExitClass,
    r: Role,
    ran_for: Duration,
    phase: Phase,
) -> String {
    let how = format!("exited: {} after {}", exit_text(&status), Human(ran_for));
    if r != Role::Main {
        return format!("{who}: {} {how}", beside(r));
    }
    let mut line = format!("{who} {how}");
    match (phase, class) {
        (Phase::BeingStopped, _) => line.push_str(", while it was being stopped"),
        (Phase::BeforeReady, ExitClass::Retry | ExitClass::ConfigError | ExitClass::Fatal) => {
            line.push_str(", before it was ready");
        }
        (Phase::BeforeReady, ExitClass::Success) | (Phase::Ready, _) => {}
    }
    match class {
        ExitClass::ConfigError => line.push_str("; it means a configuration error"),
        ExitClass::Fatal => line.push_str("; it means that no retry helps"),
        ExitClass::Success | ExitClass::Retry => {}
    }
    line
}

fn commanded(service: Option<&ServiceId>, by: &By, what: &str) -> String {
    match service {
        Some(id) => format!("{id}: {what}, asked by {}", by.0),
        None => format!("{what}, asked by {}", by.0),
    }
}

fn config_applied(changes: &[String]) -> String {
    // The line stays readable; `reload` printed the whole plan to who asked for it.
    const SHOWN: usize = 5;
    if changes.is_empty() {
        return "configuration accepted, nothing changes".to_owned();
    }
    let mut line = format!("configuration accepted: {}", changes[..changes.len().min(SHOWN)].join("; "));
    if changes.len() > SHOWN {
        line.push_str(&format!("; and {} more", changes.len() - SHOWN));
    }
    line
}

fn with_reason(head: String, reason: &str) -> String {
    match first_line(reason) {
        "" => head,
        reason => format!("{head}: {reason}"),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default()
}

fn counted(n: u32, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
