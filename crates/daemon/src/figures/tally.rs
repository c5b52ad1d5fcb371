//! What is counted from events and answers of checks. The engine has one while figures are served.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keepwell_core::event::{Event, EventKind, ExitStatus};
use keepwell_core::{Mono, Outcome, ProbeId, Role, ServiceId};
use keepwell_sdk::wire;

use crate::convert;

/// Upper bounds of the histogram, in seconds. One is the 800 ms that the rules ask about.
pub(super) const BOUNDS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2];
/// So many exit codes of an instance have a series of their own; a program that ends with random ones shall not fill the
/// memory of who watches it.
const CODES: usize = 16;
const OTHER: &str = "other";
/// An attempt whose answer has not come so long after its time was given up with its run.
const LOST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Default)]
pub struct Tally {
    pub(super) exits: BTreeMap<ServiceId, BTreeMap<Exit, u64>>,
    pub(super) events: BTreeMap<(String, String), u64>,
    pub(super) probes: BTreeMap<Probe, Answers>,
    pub(super) incidents: BTreeMap<ServiceId, Incidents>,
    under_way: BTreeMap<ProbeId, Attempt>,
}

/// An instance's incidents.
#[derive(Clone, Copy, Default)]
pub(super) struct Incidents {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) seconds: f64,
}

/// How a main process ended.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exit {
    pub(super) class: &'static str,
    pub(super) code: String,
    pub(super) expected: bool,
}

/// A check of an instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Whose.
    pub service: ServiceId,
    /// `ready`, `live`, `startup`.
    pub purpose: &'static str,
    /// How people know it.
    pub name: String,
}

/// What it answered so far.
#[derive(Clone, Default)]
pub(super) struct Answers {
    /// By bound; what took longer than all of them is only in the sum of results.
    pub(super) buckets: [u64; BOUNDS.len()],
    pub(super) seconds: f64,
    pub(super) pass: u64,
    pub(super) fail: u64,
    pub(super) unknown: u64,
}

#[derive(Clone)]
struct Attempt {
    probe: Probe,
    began: Mono,
    lost: Mono,
}

impl Tally {
    /// An event was told; `line` is what others are told of it.
    pub fn told(&mut self, event: &Event, line: &wire::Event) {
        *self.events.entry((line.kind.clone(), line.level.clone())).or_default() += 1;
        if let (Some(id), EventKind::IncidentOpened { .. }) = (&event.service, &event.kind) {
            self.incidents.entry(id.clone()).or_default().opened += 1;
        }
        if let (Some(id), EventKind::IncidentClosed(closed)) = (&event.service, &event.kind) {
            let all = self.incidents.entry(id.clone()).or_default();
            all.closed += 1;
            all.seconds += closed.lasted.as_secs_f64();
        }
        if let (Some(id), EventKind::Exited { status, class, role: Role::Main, expected, .. }) =
            (&event.service, &event.kind)
        {
            let all = self.exits.entry(id.clone()).or_default();
            let mut exit = Exit { class: convert::class(*class), code: code(status), expected: *expected };
            if all.len() >= CODES && !all.contains_key(&exit) {
                OTHER.clone_into(&mut exit.code);
            }
            *all.entry(exit).or_default() += 1;
        }
    }

    /// An attempt of a check begins, and has so long.
    pub fn begun(&mut self, id: ProbeId, probe: Probe, now: Mono, timeout: Duration) {
        self.under_way.insert(id, Attempt { probe, began: now, lost: now + timeout + LOST });
    }

    /// Its answer came.
    pub fn answered(&mut self, id: ProbeId, outcome: &Outcome, now: Mono) {
        let Some(Attempt { probe, began, .. }) = self.under_way.remove(&id) else { return };
        let took = now.since(began).as_secs_f64();
        let answers = self.probes.entry(probe).or_default();
        answers.seconds += took;
        if let Some(at) = BOUNDS.iter().position(|bound| took <= *bound) {
            answers.buckets[at] += 1;
        }
        match outcome {
            Outcome::Pass => answers.pass += 1,
            Outcome::Fail(_) => answers.fail += 1,
            Outcome::Unknown(_) => answers.unknown += 1,
        }
    }

    /// Forgets instances that are gone, and attempts whose answers will not come.
    pub fn keep(&mut self, services: &BTreeSet<&ServiceId>, now: Mono) {
        self.exits.retain(|id, _| services.contains(id));
        self.incidents.retain(|id, _| services.contains(id));
        self.probes.retain(|probe, _| services.contains(&probe.service));
        self.under_way.retain(|_, attempt| attempt.lost > now);
    }

    /// Without what only this thread needs.
    #[must_use]
    pub fn shown(&self) -> Tally {
        Tally {
            exits: self.exits.clone(),
            events: self.events.clone(),
            probes: self.probes.clone(),
            incidents: self.incidents.clone(),
            under_way: BTreeMap::new(),
        }
    }
}

impl Answers {
    pub(super) fn count(&self) -> u64 {
        self.pass + self.fail + self.unknown
    }
}

fn code(status: &ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => code.to_string(),
        ExitStatus::Signal { out_of_memory: true, .. } => "out_of_memory".to_owned(),
        ExitStatus::Signal { signal, .. } => convert::signal_name(*signal),
        ExitStatus::Unknown => "unknown".to_owned(),
    }
}
