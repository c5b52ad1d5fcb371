//! How far the start or the stop of everything has come: for service managers, which lose patience without news.

use crate::service::{Phase, Stage};
use crate::supervisor::Supervisor;
use crate::time::Mono;

/// See [`Supervisor::progress`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Everything is to go down; else what is wanted is to come up.
    pub stopping: bool,
    /// Instances that are not there yet, without the failed ones.
    pub left: u32,
    /// Instances that nobody should wait for: they crash-loop, gave up, or wait for one that did.
    pub failed: u32,
    /// The last of the deadlines that run for those that are left. One without a deadline adds none.
    pub until: Option<Mono>,
}

impl Supervisor {
    /// How far it has come. What nobody wants, or an operator holds, is not waited for.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut progress = Progress { stopping: self.guardian.shutting_down, ..Progress::default() };
        for i in self.index.values().copied() {
            let stands = if progress.stopping { self.way_down(i) } else { self.way_up(i) };
            match stands {
                Stands::There => {}
                Stands::Failed => progress.failed += 1,
                Stands::Under { until } => {
                    progress.left += 1;
                    progress.until = progress.until.max(until);
                }
            }
        }
        progress
    }

    fn way_down(&self, i: usize) -> Stands {
        let service = &self.services[i];
        if !service.facet.active {
            return Stands::There;
        }
        let hook = service.s.hook.as_ref().map(|hook| hook.until);
        let step = match &service.s.phase {
            Phase::Ending(e) => match e.stage {
                Stage::Step { until, .. } => Some(until),
                Stage::Killed { again, .. } => Some(again),
                Stage::Evidence { until } => Some(until),
                Stage::AwaitSpawn
                | Stage::AfterDependents
                | Stage::PreStop
                | Stage::Hooks
                | Stage::PostStop
                | Stage::Escalating => None,
            },
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Alive(_) => None,
        };
        Stands::Under { until: hook.max(step) }
    }

    fn way_up(&self, i: usize) -> Stands {
        let service = &self.services[i];
        let (s, facet) = (&service.s, service.facet);
        if !s.desired || s.hold.is_some() || facet.up || facet.completed {
            return Stands::There;
        }
        let until = match &s.phase {
            Phase::Stopped | Phase::Completed => return Stands::There,
            Phase::GaveUp(_) | Phase::CrashLooping { .. } => return Stands::Failed,
            Phase::Waiting if self.waits_in_vain(i) => return Stands::Failed,
            Phase::PreStart | Phase::Spawning { .. } | Phase::Alive(_) if facet.absent => {
                return Stands::Failed;
            }
            Phase::Alive(alive) => alive.check.deadline.or(alive.check.next),
            Phase::PreStart => s.hook.as_ref().map(|hook| hook.until),
            Phase::Waiting | Phase::BackingOff { .. } | Phase::Spawning { .. } | Phase::Ending(_) => None,
        };
        Stands::Under { until }
    }
}

enum Stands {
    /// It is where it is to be.
    There,
    /// It will not be there by itself soon.
    Failed,
    /// On its way.
    Under {
        /// When its next step is due at the latest.
        until: Option<Mono>,
    },
}
