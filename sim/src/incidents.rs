//! The second book of incidents: what was told of them, held against what the core says is open.

use std::collections::BTreeMap;

use keepwell_core::event::{EventKind, State};
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
