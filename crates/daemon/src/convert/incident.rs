//! Incidents as the wire has them.

use keepwell_core::incident::{ClosedIncident, Incident, IncidentEnd, OpenIncident};
use keepwell_core::time::Human;
use keepwell_sdk::wire;

use super::{millis, time};

/// One that is over.
pub(crate) fn closed(service: String, closed: &ClosedIncident) -> wire::Incident {
    let ClosedIncident { incident, end, until, lasted } = closed;
    wire::Incident {
        state: state(*end).to_owned(),
        ended: Some(time(*until)),
        duration_ms: millis(*lasted),
        ..common(service, incident)
    }
}

/// One that is open.
pub(crate) fn open(open: &OpenIncident) -> wire::Incident {
    let OpenIncident { service, incident, lasted, closes } = open;
    wire::Incident {
        state: "open".to_owned(),
        closes: closes.map(time),
        duration_ms: millis(*lasted),
        ..common(service.to_string(), incident)
    }
}

fn common(service: String, incident: &Incident) -> wire::Incident {
    let times = |(what, n): &(String, u32)| match n {
        1 => what.clone(),
        n => format!("{what} ({n} times)"),
    };
    wire::Incident {
        id: incident.id,
        service,
        cause: incident.cause.clone(),
        began: time(incident.opened),
        failures: incident.failures,
        restarts: incident.restarts,
        budget_used: incident.healed,
        actions: incident.actions.iter().map(times).collect(),
        evidence: incident.evidence.iter().map(|name| evidence(name)).collect(),
        ..wire::Incident::default()
    }
}

/// Where it is, from the state folder.
pub(super) fn evidence(name: &str) -> String {
    format!("{}/{name}", crate::evidence::FOLDER)
}

fn state(end: IncidentEnd) -> &'static str {
    match end {
        IncidentEnd::Recovered => "recovered",
        IncidentEnd::Completed => "completed",
        IncidentEnd::Stopped => "stopped",
        IncidentEnd::Removed => "removed",
        IncidentEnd::GuardianStopped => "guardian_stopped",
    }
}

/// `web: incident 12 is over, well again after 4 s: 1 failure, 1 restart`.
pub(super) fn closing_words(who: &str, closed: &ClosedIncident) -> String {
    let Incident { id, failures, restarts, .. } = &closed.incident;
    let lasted = Human(closed.lasted);
    let how = match closed.end {
        IncidentEnd::Recovered => format!("well again after {lasted}"),
        IncidentEnd::Completed => format!("completed after {lasted}"),
        IncidentEnd::Stopped => format!("stopped after {lasted}"),
        IncidentEnd::Removed => format!("removed after {lasted}"),
        IncidentEnd::GuardianStopped => format!("keepwell went down after {lasted}"),
    };
    let of = |n: u32, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!("{who}: incident {id} is over, {how}: {}, {}", of(*failures, "failure"), of(*restarts, "restart"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use keepwell_core::event::{ExitStatus, State};
    use keepwell_core::{Event, EventKind, Input, Mono, Now, Specs, Supervisor, Wall};

    /// An incident as the core itself makes it: two failures, then what `end` says.
    pub(crate) fn sample(end: IncidentEnd) -> ClosedIncident {
        let closed = lived().into_iter().find_map(|e| match e.kind {
            EventKind::IncidentClosed(closed) => Some(*closed),
            _ => None,
        });
        ClosedIncident { end, ..closed.unwrap() }
    }

    fn lived() -> Vec<Event> {
        let mut specs = Specs::default();
        let mut spec = keepwell_core::ServiceSpec::default();
        spec.restart.jitter = 0;
        specs.services.insert("web".into(), spec);
        let at = |s: u64| Now {
            mono: Mono(s * 1_000_000_000),
            wall: Wall(1_782_907_200_000 + s.cast_signed() * 1000),
        };
        let mut sup = Supervisor::new(specs, Default::default(), 1, at(1));
        let mut events = Vec::new();
        for s in 1..200 {
            sup.handle_timeout(at(s));
            while let Some(effect) = sup.poll_effect() {
                if let keepwell_core::Effect::Spawn { run, .. } = effect {
                    sup.handle(at(s), Input::Spawned { run, pid: 7 });
                    if s < 3 {
                        let status = ExitStatus::Code(3);
                        sup.handle(at(s + 1), Input::Exited { run, status, tree_empty: true });
                    }
                }
            }
            events.extend(std::iter::from_fn(|| sup.poll_event()));
        }
        assert_eq!(sup.status(at(200))[0].state, State::Running);
        assert!(sup.incidents(at(200)).is_empty());
        events
    }

    #[test]
    fn an_incident_that_is_over_says_all_of_itself() {
        let report = closed("web".into(), &sample(IncidentEnd::Recovered));
        insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
    }
}
