//! What is remembered of an incident: from the first failure of an instance to its stable health.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{RunId, ServiceId};
use crate::time::{Mono, Wall};

/// What was done in one incident has few names; an escalation has a handful of its own.
const ACTIONS_KEPT: usize = 16;

/// Names of evidence; the files themselves have a bound of their own.
const EVIDENCE_KEPT: usize = 8;

/// One incident of one instance. At most one of an instance is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Incident {
    /// Counts up over all services and over restarts of keepwell.
    pub id: u64,
    /// The first failure, in words: `exit code 3 after 1.2 s`.
    pub cause: String,
    /// When it began.
    pub opened: Wall,
    pub(crate) began: Mono,
    /// The last failure, or the end of one that lasted: the calm is counted from here.
    pub(crate) calm_since: Mono,
    /// The run that failed last: more trouble with it is the same failure.
    pub(crate) last_run: Option<RunId>,
    /// The step of the escalation ladder, from 0, and how often it was taken.
    pub(crate) rung: (usize, u32),
    /// The ladder failed over to the standby.
    pub(crate) failed_over: bool,
    /// Runs that failed, and starts that did.
    pub failures: u32,
    /// Restarts that the policy made.
    pub restarts: u32,
    /// Restarts that were drawn on the healing budgets.
    pub healed: u32,
    /// What keepwell did, and how often, in the order of the first time.
    pub actions: Vec<(String, u32)>,
    /// Names of the evidence that was taken, newest last.
    pub evidence: Vec<String>,
}

/// How an incident ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum IncidentEnd {
    /// It was healthy for `reset_after` without a failure.
    Recovered,
    /// It ended well, for good.
    Completed,
    /// Somebody stopped it.
    Stopped,
    /// It is no longer in the configuration.
    Removed,
    /// keepwell went down.
    GuardianStopped,
}

/// An incident that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedIncident {
    /// All of it.
    pub incident: Incident,
    /// How it ended.
    pub end: IncidentEnd,
    /// When the health began that lasted, or when it ended otherwise.
    pub until: Wall,
    /// From the first failure until then.
    pub lasted: Duration,
}

/// An open one, as those who ask see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenIncident {
    /// Whose.
    pub service: ServiceId,
    /// What is known of it.
    pub incident: Incident,
    /// How long it has lasted.
    pub lasted: Duration,
    /// When it is over unless something fails before.
    pub closes: Option<Wall>,
}

impl Incident {
    pub(crate) fn new(id: u64, cause: String, opened: Wall, began: Mono) -> Box<Self> {
        let (failures, restarts, healed) = (0, 0, 0);
        let (last_run, actions, evidence) = (None, Vec::new(), Vec::new());
        let calm_since = began;
        let (rung, failed_over) = ((0, 0), false);
        Box::new(Self {
            rung,
            failed_over,
            id,
            cause,
            opened,
            began,
            calm_since,
            last_run,
            failures,
            restarts,
            healed,
            actions,
            evidence,
        })
    }

    pub(crate) fn keep_evidence(&mut self, name: String) {
        if self.evidence.len() >= EVIDENCE_KEPT {
            self.evidence.remove(0);
        }
        self.evidence.push(name);
    }

    /// Counts an action by its name.
    pub(crate) fn acted(&mut self, what: &str) {
        if let Some((_, times)) = self.actions.iter_mut().find(|(name, _)| name == what) {
            *times = times.saturating_add(1);
        } else if self.actions.len() < ACTIONS_KEPT {
            self.actions.push((what.into(), 1));
        }
    }
}
