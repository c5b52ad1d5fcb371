//! Bugs to plant between core and world, to see that the invariants catch them.

use keepwell_core::supervisor::Snapshot;
use keepwell_core::{Effect, Input, Mono, Now, Role, RunId, Specs};

use crate::host::{Host, Process};

/// Which bug; each is one that a change of the core could bring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Plant {
    /// None.
    #[default]
    Nothing,
    /// Every hundredth run is started twice.
    DoubleStart,
    /// No kill is ever sent.
    LostKill,
    /// An exit of an old run is taken for one of the present run.
    StaleExit,
    /// A changed service is not written down.
    ForgottenPiece,
    /// Dependencies are not looked at.
    NoDependencies,
    /// Timers fire an hour early.
    HastyTimers,
    /// The ladder's last step comes first.
    KillFirst,
    /// Limits of restarts are not looked at.
    NoLimit,
    /// Budgets of probes are not looked at.
    NoBudget,
    /// What was silent for a while is never heard to beat again.
    DeafAfterSilence,
    /// An operator's command is committed after its effects.
    LateCommit,
}

impl Plant {
    /// What the daemon hears instead.
    pub fn input(self, input: Input, now: Mono, host: &Host) -> Input {
        match (self, &input) {
            (Plant::DeafAfterSilence, Input::Beat { run }) => {
                let silent =
                    |p: &Process| p.behaviour.silent.is_some_and(|(from, _)| now.since(p.started) >= from);
                let deaf = host.processes.get(run).is_some_and(silent);
                if deaf { Input::Alive { run: *run } } else { input }
            }
            (Plant::StaleExit, Input::Exited { run, status, tree_empty }) => {
                let newest = host.processes.iter().rev().find(|(r, p)| p.role == Role::Main && **r > *run);
                Input::Exited {
                    run: newest.map_or(*run, |(r, _)| *r),
                    status: *status,
                    tree_empty: *tree_empty,
                }
            }
            _ => input,
        }
    }

    /// What is done instead.
    pub fn effects(self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut out = Vec::new();
        for effect in effects {
            match (self, effect) {
                (Plant::LostKill, Effect::Kill { .. }) => {}
                (Plant::DoubleStart, Effect::Spawn { run, service, role }) => {
                    if run.0 % 100 == 7 {
                        let twin = RunId(run.0 + 1_000_000);
                        out.push(Effect::Spawn { run: twin, service: service.clone(), role });
                    }
                    out.push(Effect::Spawn { run, service, role });
                }
                (Plant::KillFirst, Effect::Signal { run, signal, to }) => {
                    out.push(Effect::Kill { run });
                    out.push(Effect::Signal { run, signal, to });
                }
                (_, effect) => out.push(effect),
            }
        }
        if self == Plant::LateCommit {
            out.sort_by_key(|e| matches!(e, Effect::Commit(_)));
        }
        out
    }

    /// Whether a piece is written down.
    pub fn piece(self, piece: &Snapshot) -> bool {
        self != Plant::ForgottenPiece || !matches!(piece, Snapshot::Service(id, _) if id.name.len() % 2 == 0)
    }

    /// The clock that the core sees.
    pub fn clock(self, now: Now) -> Now {
        match self {
            Plant::HastyTimers => Now { mono: now.mono + std::time::Duration::from_secs(3600), ..now },
            _ => now,
        }
    }

    /// The settings that the core sees.
    pub fn specs(self, mut specs: Specs) -> Specs {
        if self == Plant::NoBudget {
            specs.healing.limit = None;
        }
        for spec in specs.services.values_mut() {
            if self == Plant::NoDependencies {
                spec.depends_on.clear();
            }
            if self == Plant::NoLimit {
                spec.restart.limit = None;
            }
        }
        specs
    }
}
