//! The second book of incidents: what was told of them, held against what the core says is open.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_core::event::{EventKind, State};
use keepwell_core::incident::OpenIncident;
use keepwell_core::supervisor::ServiceStatus;
use keepwell_core::{Event, Now, ServiceId, Supervisor};

/// See the module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Incidents {
    open: BTreeMap<ServiceId, u64>,
    last: u64,
}

impl Incidents {
    /// What a new daemon knows from before.
    pub fn begin_anew(&mut self, sup: &Supervisor, now: Now) {
        self.open = sup.incidents(now).into_iter().map(|o| (o.service, o.incident.id)).collect();
        self.last = self.open.values().copied().max().unwrap_or(0);
    }

    /// Looks at the events of one turn, and at what is open after it.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn check(&mut self, sup: &Supervisor, now: Now, events: &[Event]) -> Result<(), String> {
        for event in events {
            let Some(service) = &event.service else { continue };
            match &event.kind {
                EventKind::IncidentOpened { id, .. } => {
                    if let Some(other) = self.open.insert(service.clone(), *id) {
                        return Err(format!("{service}: incident {id} is opened while {other} is open"));
                    }
                    if *id <= self.last {
                        return Err(format!("{service}: incident {id} comes after {}", self.last));
                    }
                    self.last = *id;
                }
                EventKind::IncidentClosed(closed) => {
                    let id = closed.incident.id;
                    if self.open.remove(service) != Some(id) {
                        return Err(format!("{service}: incident {id} is closed and was not open"));
                    }
                    if closed.incident.failures == 0 {
                        return Err(format!("{service}: incident {id} has no failure"));
                    }
                }
                _ => {}
            }
        }
        let open: BTreeMap<_, _> =
            sup.incidents(now).into_iter().map(|o| (o.service, o.incident.id)).collect();
        if open != self.open {
            return Err(format!("the incidents {open:?} are open, and told of were {:?}", self.open));
        }
        Ok(())
    }
}

/// A standby runs on until the incident of what it stands in for is over, unless somebody has a hand in it.
///
/// # Errors
/// The standby that was stopped too soon.
pub fn check_standby_stays(sup: &Supervisor, now: Now, events: &[Event]) -> Result<(), String> {
    for event in events {
        let (Some(standby), EventKind::StandbyStopped { main }) = (&event.service, &event.kind) else {
            continue;
        };
        if is_needed(sup, now, main, &standby.name) {
            return Err(format!("{standby} no longer stands in for {main}, whose incident is open"));
        }
    }
    Ok(())
}

fn is_needed(sup: &Supervisor, now: Now, main: &str, standby: &str) -> bool {
    let spec = sup.specs().services.get(main);
    if spec.is_none_or(|spec| spec.fallback.as_deref() != Some(standby)) {
        return false;
    }
    let open = |s: &ServiceStatus| sup.incidents(now).iter().any(|o| o.service == s.id);
    // An instance that leaves the configuration needs nobody any more.
    let stays = |s: &ServiceStatus| s.desired_up && s.hold.is_none() && !s.reason.starts_with("removed");
    let ill = |s: &ServiceStatus| *s.id.name == *main && stays(s) && open(s);
    sup.status(now).iter().any(ill)
}

/// When nothing more happens, a standby runs for what is down and has failed, or did so lately, and for nothing else.
///
/// # Errors
/// The standby that runs in vain, or does not run.
pub fn check_standby(sup: &Supervisor, now: Now) -> Result<(), String> {
    let all = sup.status(now);
    let failing: BTreeSet<ServiceId> = sup.incidents(now).into_iter().map(|o| o.service).collect();
    for (name, spec) in sup.specs().services.iter().filter(|(_, spec)| spec.fallback.is_some()) {
        let fallback = spec.fallback.as_deref().unwrap_or_default();
        // Whom an operator had a hand on is his.
        let own = |s: &&ServiceStatus| *s.id.name == *fallback && !s.enabled && s.last_command.is_none();
        let standing = all.iter().filter(own).any(|s| s.desired_up);
        let ill = |s: &ServiceStatus| {
            let spec = sup.specs().services.get(&s.id.name);
            let has_it = spec.is_some_and(|spec| spec.fallback.as_deref() == Some(fallback));
            has_it && failing.contains(&s.id) && s.desired_up && s.hold.is_none()
        };
        if standing && !all.iter().any(ill) {
            return Err(format!("{fallback} stands in for nobody, not even {name}"));
        }
        let waits = |s: &ServiceStatus| {
            matches!(s.state, State::CrashLooping | State::GaveUp) && s.desired_up && s.hold.is_none()
        };
        let needed = all.iter().any(|s| s.id.name == *name && ill(s) && waits(s));
        let there = all.iter().any(|s| own(&s));
        if needed && spec.escalation.is_empty() && there && !standing {
            return Err(format!("{name} is down, and {fallback} does not stand in"));
        }
    }
    Ok(())
}

/// A heartbeat is owed and does not come. As long as a budget forbids the restart it is asked for again each time that it
/// is due.
pub fn is_silent(sup: &Supervisor, now: Now, status: &ServiceStatus) -> bool {
    let beats = sup.specs().services.get(&status.id.name).is_some_and(|spec| spec.heartbeat.is_some());
    let well = matches!(status.state, State::Ready | State::Running) && status.hold.is_none();
    let open = |o: &OpenIncident| o.service == status.id && o.closes.is_none();
    beats && well && sup.incidents(now).iter().any(open)
}

/// When nothing more happens, what is well has no incident, or one that is about to end.
///
/// # Errors
/// The incident that would stay open for ever.
pub fn check_rest(sup: &Supervisor, now: Now) -> Result<(), String> {
    let states: BTreeMap<ServiceId, (State, bool)> =
        sup.status(now).into_iter().map(|s| (s.id, (s.state, s.hold.is_some()))).collect();
    for open in sup.incidents(now) {
        let id = open.incident.id;
        match states.get(&open.service) {
            Some((State::Ready | State::Running, false)) if open.closes.is_none() => {
                return Err(format!("{} is well, and its incident {id} never ends", open.service));
            }
            Some((State::Stopped | State::Completed, _)) | None => {
                return Err(format!("{} is down, and its incident {id} is open", open.service));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
