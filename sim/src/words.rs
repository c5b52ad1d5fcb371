//! Events in words, for timelines and traces.

use keepwell_core::event::{EventKind, ExitStatus};
use keepwell_core::incident::Incident;
use keepwell_core::time::Human;

/// One event in a line.
#[must_use]
pub fn event(kind: &EventKind) -> String {
    match kind {
        EventKind::StateChanged { from, to, reason } => format!("{from} → {to}: {reason}"),
        EventKind::Started { pid: _, role } => format!("{role:?} started"),
        EventKind::SpawnFailed(error, role) => format!("{role:?} could not be started: {}", error.text),
        EventKind::Exited { status, class, role, ran_for, was_ready, expected } => {
            let how = match status {
                ExitStatus::Code(code) => format!("exit code {code}"),
                ExitStatus::Signal { out_of_memory: true, .. } => "killed for memory".into(),
                ExitStatus::Signal { signal, .. } => format!("signal {signal}"),
                ExitStatus::Unknown => "ended unseen".into(),
            };
            let ready = if *was_ready { ", was ready" } else { "" };
            let expected = if *expected { ", expected" } else { "" };
            format!("{role:?} ended: {how} after {} ({class:?}{ready}{expected})", Human(*ran_for))
        }
        EventKind::Ready { after } => format!("ready after {}", Human(*after)),
        EventKind::ReadyTimedOut { timeout, last } => format!("not ready within {}: {last}", Human(*timeout)),
        EventKind::WatchdogExpired { timeout } => format!("no life sign for {}", Human(*timeout)),
        EventKind::ProbeFailed { purpose, probe, failures, last } => {
            format!("{} check {probe} failed {failures} times: {last}", purpose.name())
        }
        EventKind::ProbeRecovered { purpose, probe, after } => {
            format!("{} check {probe} passes again after {}", purpose.name(), Human(*after))
        }
        EventKind::HealingHeld { budget } => format!("left running: {budget} is spent"),
        EventKind::HeartbeatLost { after } => format!("no heartbeat for {}", Human(*after)),
        EventKind::GuardTripped { rule, value, then } => format!("over its guard {rule}: {value} ({then:?})"),
        EventKind::GuardCleared { rule, value } => format!("below its guard {rule} again: {value}"),
        EventKind::LeakForeseen { text }
        | EventKind::LeakOver { text }
        | EventKind::UsageStepped { text } => text.clone(),
        EventKind::RestartScheduled { attempt, delay, .. } => {
            format!("attempt {attempt} in {}", Human(*delay))
        }
        EventKind::CrashLooped { evidence } => format!("crash loop: {evidence}"),
        EventKind::GaveUp { reason } => format!("gave up: {reason}"),
        EventKind::StopStepTaken { step, action } => format!("stop step {step}: {action}"),
        EventKind::StopStepFailed { step, reason } => format!("stop step {step} failed: {reason}"),
        EventKind::LeftoversKilled => "what is left of its tree is killed".into(),
        EventKind::StopStuck { waited } => {
            format!("still there {} after its kill; killed again", Human(*waited))
        }
        EventKind::HookFailed { role, reason } => format!("{role:?} hook failed: {reason}"),
        EventKind::DependencyChanged { lost: Some(cause) } => format!("dependency lost: {cause}"),
        EventKind::DependencyChanged { lost: None } => "dependencies are back".into(),
        EventKind::Commanded { by, what } => format!("{by} asked: {what}"),
        EventKind::ConfigApplied { changes } => format!("new configuration: {}", changes.join("; ")),
        EventKind::ConfigRejected { text } => format!("configuration refused: {text}"),
        EventKind::Adopted { runs, missed_exits } => {
            format!("a new daemon took over {runs} runs and {missed_exits} missed exits")
        }
        EventKind::IncidentOpened { id, cause } => format!("incident {id} opened: {cause}"),
        EventKind::EvidenceTaken { outcome: Ok(name) } => format!("evidence taken: {name}"),
        EventKind::EvidenceTaken { outcome: Err(why) } => format!("no evidence: {why}"),
        EventKind::Escalated { step, of, then } => format!("escalated to step {step} of {of}: {then}"),
        EventKind::Paged { reason } => format!("paged: {reason}"),
        EventKind::StandbyStarted { main } => format!("stands in for {main}"),
        EventKind::StandbyStopped { main } => format!("no longer stands in for {main}"),
        EventKind::IncidentClosed(closed) => {
            let Incident { id, failures, restarts, .. } = &closed.incident;
            let (end, lasted) = (closed.end, Human(closed.lasted));
            format!("incident {id} closed: {end:?} after {lasted}, failures {failures}, restarts {restarts}")
        }
        EventKind::GuardianStarted => "keepwell started".into(),
        EventKind::GuardianStopping { reason } => format!("keepwell goes down: {reason}"),
        EventKind::Told { level, text } => format!("{level:?}: {text}"),
    }
}
