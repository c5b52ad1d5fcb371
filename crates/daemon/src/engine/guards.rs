//! What services with guards or limits use, measured now and then. A guardian of which no service has any never wakes for
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::guard::{Figure, Usage};
use keepwell_core::spec::ServiceSpec;
use keepwell_core::{Input, Mono, Now, RunId, ServiceId};
use keepwell_os::{Measure, Measures};

use super::Engine;
use crate::meter::{Asked, Places, Question, Wanted};

/// An answer that has not come for so long does not come: it found no room.
const LOST: Duration = Duration::from_secs(30);

/// When to measure, and what is needed for it.
#[derive(Default)]
pub(super) struct Sampling {
    /// Next; `None`: nothing is measured.
    pub(super) at: Option<Mono>,
    /// An answer is awaited since then. A host that is slow to answer is not asked more.
    asked: Option<Mono>,
    /// The folders of each run, filled in once: that may read a file.
    folders: BTreeMap<RunId, Places>,
}

impl Engine {
    /// The configuration in force is another one.
    pub(super) fn set_sampling(&mut self, now: Now) {
        let specs = self.supervisor.specs();
        let measured = specs.services.values().any(ServiceSpec::is_measured);
        let next = now.mono + specs.sample_every;
        let sampling = &mut self.sampling;
        sampling.at = measured.then(|| sampling.at.map_or(next, |at| at.min(next)));
        sampling.folders.clear();
    }

    /// Asks for the figures of all that runs and has guards or limits, if it is time; they come back as inputs.
    pub(super) fn sample(&mut self, now: Now) {
        if self.sampling.at.is_none_or(|at| now.mono < at) {
            return;
        }
        self.sampling.at = Some(now.mono + self.supervisor.specs().sample_every);
        if self.sampling.asked.is_some_and(|at| now.mono.since(at) < LOST) {
            return;
        }
        let measured: Vec<_> = self.supervisor.measured().collect();
        let (mut runs, mut looks, mut folders) = (Vec::new(), Vec::new(), BTreeMap::new());
        for run in measured {
            let Some(id) = self.supervisor.service_of(run) else { continue };
            let Some(look) = self.slots.look(id) else { continue };
            let Some(spec) = self.supervisor.specs().services.get(&id.name) else { continue };
            let of_run = match self.sampling.folders.remove(&run) {
                Some(known) => known,
                None if spec.guards.iter().any(|guard| guard.folder.is_some()) => self.folders(id),
                None => Arc::default(),
            };
            if !of_run.is_empty() {
                folders.insert(run, Arc::clone(&of_run));
            }
            runs.push(Wanted { run, measures: measures(spec), folders: of_run });
            looks.push(Some(look));
        }
        self.sampling.folders = folders;
        if !runs.is_empty() {
            self.sampling.asked = Some(now.mono);
            let profile = self.config.guardian.profile;
            let engine = self.handle.clone();
            self.measure(Question { looks, asked: Asked::Usage { runs, profile, engine } });
        }
    }

    /// The answer.
    pub(super) fn take_usage(&mut self, now: Now, all: Vec<(RunId, Box<Usage>)>) {
        self.sampling.asked = None;
        for (run, usage) in all {
            self.supervisor.handle(now, Input::Usage { run, usage });
        }
    }

    /// Where the folders are that the guards of an instance look at. What cannot be filled in was told at its start.
    fn folders(&self, id: &ServiceId) -> Places {
        self.resolve(id).map(|resolved| resolved.folders.into()).unwrap_or_default()
    }
}

/// What has to be measured of a service: the least that its guards and limits need.
fn measures(spec: &ServiceSpec) -> Measures {
    let figures = spec.guards.iter().map(|guard| guard.figure);
    let all = figures.chain(spec.ceilings.iter().map(|(figure, _)| *figure));
    all.fold(Measures::default(), |sum, figure| {
        sum.with(match figure {
            Figure::Memory => Measure::Memory,
            Figure::Pss => Measure::Pss,
            Figure::Cpu => Measure::Cpu,
            Figure::Io => Measure::Io,
            Figure::Disk => return sum,
            Figure::Descriptors | Figure::DescriptorsOfOne => Measure::Descriptors,
            Figure::Gdi | Figure::User => Measure::Gui,
            Figure::Threads => Measure::Threads,
            Figure::Processes => Measure::Processes,
        })
    })
}
