//! From the core's types to the wire's, and back for requests. Every word that a person reads of an event, an exit or a
//! state is chosen here, so that it is the same in `events`, in `up`, in `explain` and in keepwell's own log.
//!
//! Pure: it reads no clock and asks nobody.

mod event;
pub(crate) mod incident;
mod request;
mod signal;

use keepwell_core::command::PlannedAction;
use keepwell_core::event::{ExitClass, ExitStatus, State};
use keepwell_core::spec::Kind;
use keepwell_core::supervisor::{
    DeadlineReason, ExitRecord, Explanation, ReloadAction, ReloadPlan, ServiceStatus,
};
use keepwell_core::{CommandError, Plan, Role, ServiceId, Wall};
use keepwell_sdk::wire;

pub use event::{KINDS, event};
pub(crate) use request::{bad, closest};
pub use request::{command, instant};
pub use signal::{signal_name, signal_number};

/// RFC 3339 in UTC with milliseconds: `2026-07-01T14:07:11.250Z`.
#[must_use]
pub fn time(at: Wall) -> String {
    // Beyond the year 9999 there is no such text; the last one there is stands for all that is later.
    let clamp = if at.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let t = jiff::Timestamp::from_millisecond(at.0).unwrap_or(clamp);
    format!("{t:.3}")
}

/// How a process ended, without its duration: `exit code 3`, `killed by SIGKILL`, `killed by the kernel for memory`.
#[must_use]
pub fn exit_text(status: &ExitStatus) -> String {
    match *status {
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal { out_of_memory: true, .. } => "killed by the kernel for memory".to_owned(),
        ExitStatus::Signal { signal, core_dumped: true, .. } => {
            format!("killed by {}, core dumped", signal_name(signal))
        }
        ExitStatus::Signal { signal, .. } => format!("killed by {}", signal_name(signal)),
        ExitStatus::Unknown => "ended while keepwell was down".to_owned(),
    }
}

/// The contract's word for a kind of service.
#[must_use]
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "service",
        Kind::Oneshot => "oneshot",
    }
}

/// The contract's word for a class of exits.
#[must_use]
pub fn class(class: ExitClass) -> &'static str {
    match class {
        ExitClass::Success => "success",
        ExitClass::Retry => "retry",
        ExitClass::ConfigError => "config_error",
        ExitClass::Fatal => "fatal",
    }
}

/// The contract's word for what a process is to its service.
#[must_use]
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Main => "main",
        Role::WaitFor => "wait_for",
        Role::PreStart => "pre_start",
        Role::PostStart => "post_start",
        Role::PreStop => "pre_stop",
        Role::PostStop => "post_stop",
        Role::Stop => "stop",
        Role::OnSuspend => "on_suspend",
        Role::OnResume => "on_resume",
        Role::OnPowerChange => "on_power_change",
        Role::OnSession => "on_session",
        Role::Guard(_) => "guard",
        Role::Escalation(_) => "escalation",
    }
}

/// What the core knows of an instance. Containment, limits, `status_text`, description, tags, kind, CPU and memory are
/// the shell's to add.
#[must_use]
pub fn status(s: &ServiceStatus) -> wire::Status {
    wire::Status {
        name: s.id.name.to_string(),
        instance: s.id.instance,
        state: s.state.name().to_owned(),
        reason: s.reason.clone(),
        pid: s.pid,
        restarts: s.restarts,
        since: Some(time(s.since)),
        next_attempt: s.next_attempt.map(time),
        attempt: s.attempt,
        next: s.next.map(|(at, why)| wire::Next { at: time(at), what: deadline(why).to_owned() }),
        desired_up: s.desired_up,
        enabled: s.enabled,
        hold: s.hold.as_ref().map(|h| if h.freeze { "frozen" } else { "paused" }.to_owned()),
        last_command: s.last_command.as_ref().map(|(by, what, at)| wire::LastCommand {
            by: by.0.clone(),
            what: what.clone(),
            at: time(*at),
        }),
        blockers: s
            .blockers
            .iter()
            .map(|(id, text)| wire::Blocker { service: id.to_string(), text: text.clone() })
            .collect(),
        warnings: s.warnings.clone(),
        exits: s.exits.iter().map(exit).collect(),
        ..wire::Status::default()
    }
}

/// One end, or one failed start.
#[must_use]
pub fn exit(e: &ExitRecord) -> wire::Exit {
    let (code, signal, text) = match &e.outcome {
        Ok(status) => {
            let (code, signal) = numbers(status);
            (code, signal, exit_text(status))
        }
        Err(error) => (None, None, error.text.clone()),
    };
    wire::Exit {
        at: time(e.at),
        code,
        signal,
        text,
        class: class(e.class).to_owned(),
        ran_for_ms: millis(e.ran_for),
        was_ready: e.was_ready,
        expected: e.expected,
    }
}

/// The causal chain, without the last words, which only the log knows.
#[must_use]
pub fn explanation(s: &ServiceStatus, e: &Explanation) -> wire::Explanation {
    wire::Explanation {
        service: s.id.to_string(),
        state: s.state.name().to_owned(),
        headline: e.headline.clone(),
        facts: e.facts.clone(),
        try_next: e.try_next.clone(),
        last_words: Vec::new(),
        exits: s.exits.iter().map(exit).collect(),
    }
}

/// The accepted plan of a command. `after_seq` is the last event before it.
#[must_use]
pub fn reply(plan: &Plan, after_seq: u64) -> wire::CommandReply {
    let action = |(id, what): &(ServiceId, PlannedAction)| wire::Action {
        service: id.to_string(),
        action: planned(*what).to_owned(),
        why: String::new(),
    };
    wire::CommandReply {
        actions: plan.actions.iter().map(action).collect(),
        notes: plan.notes.clone(),
        after_seq,
    }
}

/// The plan of a reload; `why` says what changed in an instance, in words.
#[must_use]
pub fn reload_with(
    plan: &ReloadPlan,
    why: impl Fn(&ServiceId) -> String,
    after_seq: u64,
) -> wire::ReloadReply {
    let action = |(id, what): &(ServiceId, ReloadAction)| wire::Action {
        service: id.to_string(),
        action: reloaded(*what).to_owned(),
        why: why(id),
    };
    wire::ReloadReply {
        actions: plan.changes.iter().map(action).collect(),
        untouched: plan.untouched,
        after_seq,
    }
}

/// Why a command was refused, and what to do.
#[must_use]
pub fn problem(e: &CommandError) -> wire::Problem {
    let (code, hint) = match e {
        CommandError::UnknownService { name, known } => ("unknown_service", Some(services_hint(name, known))),
        CommandError::NotRunning(id) => ("not_running", Some(format!("keepwell start {id}"))),
        CommandError::ShuttingDown => {
            ("shutting_down", Some("wait until it is down, then keepwell up".into()))
        }
        CommandError::Invalid(_) => ("invalid", None),
    };
    wire::Problem { code: code.to_owned(), message: e.to_string(), hint }
}

/// The state as prose has it: `backing off`.
pub(crate) fn state_words(state: State) -> &'static str {
    match state {
        State::BackingOff => "backing off",
        State::CrashLooping => "crash-looping",
        State::GaveUp => "given up",
        State::Stopped
        | State::Waiting
        | State::Starting
        | State::Running
        | State::Ready
        | State::Degraded
        | State::Paused
        | State::Stopping
        | State::Completed => state.name(),
    }
}

fn services_hint(name: &str, known: &[String]) -> String {
    if known.is_empty() {
        return "the configuration has no services".to_owned();
    }
    if let Some(near) = closest(name, known.iter().map(String::as_str)) {
        return format!("did you mean `{near}`?");
    }
    // A guardian may have a thousand services; the first few show what names look like.
    const SHOWN: usize = 8;
    let mut text = known.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if known.len() > SHOWN {
        text.push_str(&format!(" and {} more", known.len() - SHOWN));
    }
    format!("there are: {text}")
}

fn deadline(why: DeadlineReason) -> &'static str {
    match why {
        DeadlineReason::Restart => "restart",
        DeadlineReason::Probe => "probe",
        DeadlineReason::Look => "look",
        DeadlineReason::WaitEnds => "wait ends",
        DeadlineReason::ReadyTimeout => "ready timeout",
        DeadlineReason::Up => "counts as up",
        DeadlineReason::ResetCount => "restart count resets",
        DeadlineReason::StopStep => "next stop step",
        DeadlineReason::HookTimeout => "hook timeout",
        DeadlineReason::Watchdog => "watchdog",
        DeadlineReason::Heartbeat => "heartbeat lost",
        DeadlineReason::HoldEnds => "hold ends, then stop",
        DeadlineReason::KillAgain => "kill again",
        DeadlineReason::IncidentEnds => "incident ends",
    }
}

fn planned(what: PlannedAction) -> &'static str {
    match what {
        PlannedAction::Start => "start",
        PlannedAction::Stop => "stop",
        PlannedAction::Restart => "restart",
        PlannedAction::Signal => "signal",
        PlannedAction::Pause => "pause",
        PlannedAction::Resume => "resume",
        PlannedAction::Update => "update",
        PlannedAction::Nothing => "nothing",
    }
}

fn reloaded(what: ReloadAction) -> &'static str {
    match what {
        ReloadAction::New => "new",
        ReloadAction::NewDisabled => "new_disabled",
        ReloadAction::Restart => "restart",
        ReloadAction::Live => "live",
        ReloadAction::Remove => "remove",
    }
}

fn numbers(status: &ExitStatus) -> (Option<i32>, Option<i32>) {
    match *status {
        ExitStatus::Code(code) => (Some(code), None),
        ExitStatus::Signal { signal, .. } => (None, Some(signal)),
        ExitStatus::Unknown => (None, None),
    }
}

pub(crate) fn millis(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests;
