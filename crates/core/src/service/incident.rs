//! Incidents: when one begins, what belongs to it, and when it is over. Nothing here changes what becomes of a service.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::effect::Role;
use crate::event::{EventKind, ExitClass};
use crate::id::RunId;
use crate::incident::{ClosedIncident, Incident, IncidentEnd, OpenIncident};
use crate::service::{Alive, Phase, ServiceSnapshot};
use crate::supervisor::Supervisor;
use crate::time::{Human, Mono, Now};
use crate::words;

impl Supervisor {
    /// What is told may be a failure: the first one opens an incident. Returns what is to be told of that.
    pub(crate) fn note_failure(
        &mut self,
        i: usize,
        run: Option<RunId>,
        kind: &EventKind,
        now: Now,
    ) -> Option<EventKind> {
        if let EventKind::ProbeRecovered { .. } = kind {
            if let Some(incident) = &mut self.services[i].s.incident {
                incident.calm_since = now.mono;
            }
            return None;
        }
        self.failed(i, run, failure(kind)?, now)
    }

    /// This instance failed, for the reason given in words.
    pub(crate) fn failed(
        &mut self,
        i: usize,
        run: Option<RunId>,
        cause: String,
        now: Now,
    ) -> Option<EventKind> {
        let s = &self.services[i].s;
        // What is on its way out by somebody's wish harms nobody when it stumbles there.
        if !s.desired || s.removed || self.guardian.shutting_down {
            return None;
        }
        let opened = s.incident.is_none().then(|| {
            self.guardian.incidents += 1;
            self.guardian_dirty = true;
            let id = self.guardian.incidents;
            self.services[i].s.incident = Some(Incident::new(id, cause.clone(), now.wall, now.mono));
            EventKind::IncidentOpened { id, cause }
        });
        if let Some(incident) = &mut self.services[i].s.incident {
            incident.calm_since = now.mono;
            if incident.failures == 0 || (run.is_some() && incident.last_run != run) {
                incident.failures = incident.failures.saturating_add(1);
            }
            incident.last_run = run.or(incident.last_run);
            self.touched.push(i);
        }
        opened
    }

    /// Something is done about an open incident.
    pub(crate) fn acted(&mut self, i: usize, what: &str) {
        if let Some(incident) = &mut self.services[i].s.incident {
            incident.acted(what);
            self.touched.push(i);
        }
    }

    /// It has been well for long enough.
    pub(crate) fn incident_due(&mut self, i: usize, now: Now) {
        self.close_incident(i, IncidentEnd::Recovered, now);
        self.touch(i);
    }

    /// An instance that is down by somebody's wish, or done, has no incident.
    pub(crate) fn settle_incident(&mut self, i: usize, now: Now) {
        let s = &self.services[i].s;
        let end = match &s.phase {
            _ if s.incident.is_none() => return,
            Phase::Completed => IncidentEnd::Completed,
            Phase::Stopped if self.guardian.shutting_down => IncidentEnd::GuardianStopped,
            Phase::Stopped => IncidentEnd::Stopped,
            Phase::GaveUp(_) | Phase::Waiting | Phase::BackingOff { .. } | Phase::CrashLooping { .. }
                if self.guardian.shutting_down =>
            {
                IncidentEnd::GuardianStopped
            }
            Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_)
            | Phase::Ending(_) => return,
        };
        self.close_incident(i, end, now);
    }

    pub(crate) fn close_incident(&mut self, i: usize, end: IncidentEnd, now: Now) {
        let well = self.services[i].s.calm_from().filter(|_| end == IncidentEnd::Recovered);
        let Some(incident) = self.services[i].s.incident.take() else { return };
        let until = well.unwrap_or(now.mono);
        let lasted = until.since(incident.began);
        let closed = ClosedIncident { incident: *incident, end, until: now.wall_of(until), lasted };
        let run = self.services[i].s.main_run();
        self.tell_in(
            now,
            Some(i),
            run,
            Some(closed.incident.id),
            EventKind::IncidentClosed(Box::new(closed)),
        );
    }

    /// The open incidents, in the order of the services' names.
    #[must_use]
    pub fn incidents(&self, now: Now) -> Vec<OpenIncident> {
        let open = |i: &usize| self.open_incident(*i, now);
        self.index.values().filter_map(open).collect()
    }

    pub(crate) fn open_incident(&self, i: usize, now: Now) -> Option<OpenIncident> {
        let service = &self.services[i];
        let incident = (**service.s.incident.as_ref()?).clone();
        let lasted = now.mono.since(incident.began);
        let reset_after = self.spec(i).restart.reset_after;
        let closes = service.s.incident_ends(reset_after).map(|at| now.wall_of(at));
        Some(OpenIncident { service: service.id.clone(), incident, lasted, closes })
    }
}

impl ServiceSnapshot {
    /// From when on nothing has been wrong with it; `None` while something is.
    fn calm_from(&self) -> Option<Mono> {
        let incident = self.incident.as_ref()?;
        let Phase::Alive(a) = &self.phase else { return None };
        let Alive { silent, heartbeat, leaving, .. } = a;
        // A reload may have ended what it owed.
        let owes = *silent && heartbeat.is_some();
        if a.ill().is_some() || owes || leaving.is_some() {
            return None;
        }
        a.healthy_since().map(|at| at.max(incident.calm_since))
    }

    /// When the open incident is over unless something fails before.
    pub(crate) fn incident_ends(&self, reset_after: Duration) -> Option<Mono> {
        let held = self.hold.is_some();
        self.calm_from().filter(|_| !held).map(|at| at + reset_after)
    }
}

/// What is a failure, and how it is called as the cause of an incident.
fn failure(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::Exited { role: Role::Main, expected: false, class, status, ran_for, .. } => match class {
            ExitClass::Success => return None,
            ExitClass::Retry | ExitClass::ConfigError | ExitClass::Fatal => {
                format!("{} after {}", words::exit(*status), Human(*ran_for))
            }
        },
        EventKind::SpawnFailed(error, Role::Main) => format!("could not be started: {}", error.text),
        EventKind::ReadyTimedOut { timeout, last } => format!("not ready within {}: {last}", Human(*timeout)),
        EventKind::WatchdogExpired { timeout } => format!("no life sign for {}", Human(*timeout)),
        EventKind::HeartbeatLost { after } => format!("no heartbeat for {}", Human(*after)),
        EventKind::ProbeFailed { purpose, last, .. } => {
            format!("its {} check failed: {last}", purpose.name())
        }
        EventKind::CrashLooped { evidence } => format!("crash loop: {evidence}"),
        EventKind::GaveUp { reason } => reason.to_string(),
        EventKind::Exited { .. }
        | EventKind::SpawnFailed(..)
        | EventKind::StateChanged { .. }
        | EventKind::Started { .. }
        | EventKind::Ready { .. }
        | EventKind::ProbeRecovered { .. }
        | EventKind::HealingHeld { .. }
        | EventKind::RestartScheduled { .. }
        | EventKind::StopStepTaken { .. }
        | EventKind::StopStepFailed { .. }
        | EventKind::LeftoversKilled
        | EventKind::StopStuck { .. }
        | EventKind::HookFailed { .. }
        | EventKind::DependencyChanged { .. }
        | EventKind::Commanded { .. }
        | EventKind::ConfigApplied { .. }
        | EventKind::ConfigRejected { .. }
        | EventKind::Adopted { .. }
        | EventKind::GuardianStarted
        | EventKind::GuardianStopping { .. }
        | EventKind::GuardTripped { .. }
        | EventKind::GuardCleared { .. }
        | EventKind::LeakForeseen { .. }
        | EventKind::LeakOver { .. }
        | EventKind::UsageStepped { .. }
        | EventKind::IncidentOpened { .. }
        | EventKind::EvidenceTaken { .. }
        | EventKind::Escalated { .. }
        | EventKind::Paged { .. }
        | EventKind::StandbyStarted { .. }
        | EventKind::StandbyStopped { .. }
        | EventKind::IncidentClosed(_)
        | EventKind::Told { .. } => return None,
    })
}
