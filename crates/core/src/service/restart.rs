//! When a service that ended is tried again: the restart tracker. It counts and chooses delays; it never looks at a
//! process, a clock or another service.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{ExitClass, ExitStatus};
use crate::spec::{CRASH_LOOP_MAX_DELAY, ExitCodes, OnCrashLoop, RestartPolicy};
use crate::time::{Human, Mono};

/// The shortest trial of a crash-looping service and of a program that cannot be started, so that `max_delay = "0s"`
/// makes no busy loop of them.
const SHORTEST_TRIAL: Duration = Duration::from_secs(1);
/// A start that the host refused for want of something waits at least this long even where `delay = "0s"`: asking
/// again at once would only burn the processor that the host is short of.
const SHORTEST_RETRY_OF_SPAWN: Duration = Duration::from_millis(100);

/// The history that decides.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tracker {
    /// Restarts in a row, since the last long healthy spell or the last operator's start.
    attempt: u32,
    /// Restarts in a row that ended before they were healthy.
    unhealthy: u32,
    /// When restarts were made, oldest first; never more than the limit allows to count.
    recent: VecDeque<Mono>,
    /// The delay of the last trial, while it crash-loops.
    trial: Option<Duration>,
    /// The delay of the last try of a program that cannot be started.
    slow: Option<Duration>,
    /// The next launch is a restart, which counts.
    scheduled: bool,
    /// When the first of the row was scheduled, for the evidence.
    row_began: Option<Mono>,
}

/// How a run ended, as far as the tracker cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spell {
    /// It was ready; without a check: it lived for `reset_after`.
    pub(crate) healthy: bool,
    /// It was healthy for `reset_after`.
    pub(crate) rested: bool,
}

/// Never healthy at all.
pub(crate) const NO_SPELL: Spell = Spell { healthy: false, rested: false };

/// What follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Another attempt after this long.
    Restart { delay: Duration },
    /// A slow trial after this long; evidence when the loop was found just now.
    Trial { delay: Duration, found: Option<String> },
    /// None: the policy says to give up.
    GiveUp { evidence: String },
}

impl Tracker {
    /// Forgets everything: an operator's start.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// A run became healthy: it leaves a crash loop, and a row of failures ends.
    pub(crate) fn became_healthy(&mut self) {
        self.unhealthy = 0;
        self.trial = None;
        self.slow = None;
        self.row_began = None;
    }

    /// A run was healthy for `reset_after`: the count starts anew. The sliding window does not, since it forgets by
    /// itself.
    pub(crate) fn rested(&mut self) {
        self.became_healthy();
        self.attempt = 0;
    }

    /// Nothing that [`Tracker::rested`] would change.
    pub(crate) fn is_fresh(&self) -> bool {
        self.attempt == 0 && self.unhealthy == 0 && self.trial.is_none() && self.slow.is_none()
    }

    /// Over its limit, until a trial becomes healthy.
    pub(crate) fn is_looping(&self) -> bool {
        self.trial.is_some()
    }

    /// The restart in a row that runs now or comes next.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Restarts within the window that ends now.
    pub(crate) fn recent(&self, policy: &RestartPolicy, now: Mono) -> usize {
        let Some(limit) = policy.limit else { return 0 };
        self.recent.iter().filter(|at| now.since(**at) < limit.window).count()
    }

    /// A launch is made now. True if it is a restart by the tracker's own decision.
    pub(crate) fn launched(&mut self, policy: &RestartPolicy, now: Mono) -> bool {
        let restart = core::mem::take(&mut self.scheduled);
        if let (true, Some(limit)) = (restart, policy.limit) {
            // One more than the limit is all that the decision ever needs.
            while self.recent.len() > limit.max as usize {
                self.recent.pop_front();
            }
            self.recent.push_back(now);
        }
        restart
    }

    /// The next launch is not the tracker's: an operator's, or one that follows a dependency.
    pub(crate) fn unschedule(&mut self) {
        self.scheduled = false;
    }

    /// The main process was started.
    pub(crate) fn spawned(&mut self) {
        self.slow = None;
    }

    /// A run failed, or ended under a policy that restarts it. `random` moves the delay.
    pub(crate) fn ended(&mut self, policy: &RestartPolicy, spell: Spell, now: Mono, random: u64) -> Verdict {
        if spell.rested {
            self.rested();
        } else if spell.healthy {
            self.became_healthy();
        } else if self.attempt > 0 {
            self.unhealthy += 1;
        }
        if policy.limit.is_none() {
            // A reload took the limit away.
            self.trial = None;
        }
        let began = *self.row_began.get_or_insert(now);
        self.attempt = self.attempt.saturating_add(1);
        if let Some(evidence) = self.over(policy, now, began) {
            let found = self.trial.is_none();
            if found && policy.on_crash_loop == OnCrashLoop::GiveUp {
                return Verdict::GiveUp { evidence };
            }
            let delay = next_slow(self.trial, policy.max_delay);
            self.trial = Some(delay);
            self.scheduled = true;
            return Verdict::Trial {
                delay: jittered(delay, policy.jitter, random),
                found: found.then_some(evidence),
            };
        }
        self.scheduled = true;
        if spell.rested {
            return Verdict::Restart { delay: Duration::ZERO };
        }
        let doubled = policy.delay.saturating_mul(1 << (self.attempt - 1).min(24));
        Verdict::Restart { delay: jittered(doubled.min(policy.max_delay), policy.jitter, random) }
    }

    /// The host could not start it now; it may in a moment.
    pub(crate) fn spawn_refused(&mut self, policy: &RestartPolicy, now: Mono, random: u64) -> Verdict {
        let verdict = self.ended(policy, NO_SPELL, now, random);
        match verdict {
            Verdict::Restart { delay } => {
                let shortest = SHORTEST_RETRY_OF_SPAWN
                    .saturating_mul(1 << (self.attempt - 1).min(24))
                    .min(policy.max_delay.max(SHORTEST_TRIAL));
                Verdict::Restart { delay: if policy.delay.is_zero() { shortest } else { delay } }
            }
            Verdict::Trial { .. } | Verdict::GiveUp { .. } => verdict,
        }
    }

    /// The program is not there or may not be run: slow tries, without any other bound.
    pub(crate) fn spawn_impossible(&mut self, policy: &RestartPolicy, random: u64) -> Duration {
        self.attempt = self.attempt.saturating_add(1);
        let delay = next_slow(self.slow, policy.max_delay);
        self.slow = Some(delay);
        self.scheduled = true;
        jittered(delay, policy.jitter, random)
    }

    /// The evidence, if this end goes over the limit or comes from a trial that never became healthy.
    fn over(&self, policy: &RestartPolicy, now: Mono, began: Mono) -> Option<String> {
        let limit = policy.limit?;
        let recent = self.recent.iter().filter(|at| now.since(**at) < limit.window).count();
        if recent >= limit.max as usize {
            let first = self.recent.iter().find(|at| now.since(**at) < limit.window).copied().unwrap_or(now);
            return Some(format!(
                "ended again after {recent} restarts in {}; its limit is {} in {}",
                Human(now.since(first)),
                limit.max,
                Human(limit.window)
            ));
        }
        if self.unhealthy >= limit.max {
            return Some(format!(
                "{} attempts in a row within {} ended before it was healthy; its limit is {}",
                self.unhealthy,
                Human(now.since(began)),
                limit.max
            ));
        }
        self.trial.map(|_| String::from("the trial ended before it was healthy"))
    }
}

/// Doubling from `max_delay` to [`CRASH_LOOP_MAX_DELAY`].
fn next_slow(last: Option<Duration>, max_delay: Duration) -> Duration {
    let first = max_delay.max(SHORTEST_TRIAL);
    match last {
        None => first,
        Some(d) => d.saturating_mul(2).min(CRASH_LOOP_MAX_DELAY).max(first),
    }
}

/// `delay` moved by up to `percent` of itself, either way.
fn jittered(delay: Duration, percent: u8, random: u64) -> Duration {
    let percent = u64::from(percent.min(100));
    let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    let span = nanos / 100 * percent;
    if span == 0 {
        return delay;
    }
    // The modulo's bias is below 1 in 2^20 for any delay that people write.
    let moved = random % (span.saturating_mul(2).saturating_add(1));
    Duration::from_nanos((nanos - span).saturating_add(moved))
}

impl ExitCodes {
    /// What an end means. The narrower classes win over `success`, which a file inherits from the defaults.
    #[must_use]
    pub fn class(&self, status: ExitStatus) -> ExitClass {
        let ExitStatus::Code(code) = status else { return ExitClass::Retry };
        if self.fatal.contains(&code) {
            ExitClass::Fatal
        } else if self.config_error.contains(&code) {
            ExitClass::ConfigError
        } else if self.success.contains(&code) && !self.retry.contains(&code) {
            ExitClass::Success
        } else {
            ExitClass::Retry
        }
    }
}

/// A number that looks random, from the guardian's seed and something that never comes twice (splitmix64).
pub(crate) fn random(seed: u64, key: u64) -> u64 {
    let mut z = seed.wrapping_add(key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "restart_tests.rs"]
mod tests;
