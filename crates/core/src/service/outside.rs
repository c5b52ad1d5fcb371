//! Waiting, before a start, for what is none of ours: a database on another host, a file, a mount, a service of the system.
//!
//! The shell looks at all of it at once and says what is missing; when to look, and for how long, is decided here. A wait
//! is no part of the snapshot: a new daemon begins it anew.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::effect::Effect;
use crate::event::{EventKind, ExitClass, Level, SpawnError, SpawnErrorKind};
use crate::id::ProbeId;
use crate::service::health::ANSWER_LOST_AFTER;
use crate::service::restart::random;
use crate::service::{Cause, Phase};
use crate::spec::AfterWait;
use crate::supervisor::{ExitRecord, Outcome, Supervisor};
use crate::time::{Human, Mono, Now};

/// From the first look to the second; doubles up to `SLOWEST`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What comes is found within this.
const SLOWEST: Duration = Duration::from_secs(10);
/// Of one look.
const LOOK: Duration = Duration::from_secs(5);

/// A wait under way.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Wait {
    /// When the next look is due; `None` while one is under way, and when all was there.
    pub(crate) next: Option<Mono>,
    /// The look under way, and when its answer counts as lost.
    pub(crate) in_flight: Option<(ProbeId, Mono)>,
    /// When it has been long enough.
    pub(crate) deadline: Option<Mono>,
    pause: Duration,
    /// What was missing at the last look.
    pub(crate) last: Option<String>,
    /// There is nothing to wait for any more.
    over: bool,
    /// It did not come, and a command decides.
    pub(crate) asks: bool,
}

impl Wait {
    /// When something is due of it: a look, or the answer of one counts as lost.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.in_flight.map_or(self.next, |(_, lost)| Some(lost))
    }
}

impl Supervisor {
    /// Whether an instance that may start otherwise waits for something outside; a wait that is none yet begins.
    pub(crate) fn must_wait(&mut self, i: usize, now: Now) -> bool {
        let timeout = match &self.spec(i).wait_for {
            Some(wait) if !self.services[i].s.ignore_dependencies => wait.timeout,
            Some(_) | None => {
                self.forget_wait(i);
                return false;
            }
        };
        let wait = self.services[i].s.wait.get_or_insert_with(|| {
            Box::new(Wait {
                next: Some(now.mono),
                in_flight: None,
                deadline: timeout.map(|timeout| now.mono + timeout),
                pause: FIRST_PAUSE,
                last: None,
                over: false,
                asks: false,
            })
        });
        !wait.over
    }

    /// Ends a wait whose end nobody waits for.
    pub(crate) fn forget_wait(&mut self, i: usize) {
        if let Some((probe, _)) = self.services[i].s.wait.take().and_then(|wait| wait.in_flight) {
            self.probes.remove(&probe);
        }
    }

    /// A look is due, or its answer was lost.
    pub(crate) fn look_due(&mut self, i: usize, now: Now) {
        let Some(wait) = &mut self.services[i].s.wait else { return };
        if let Some((probe, _)) = wait.in_flight {
            self.probes.remove(&probe);
            self.looked(i, probe, Outcome::Fail("no answer".into()), now);
            return;
        }
        wait.next = None;
        let probe = ProbeId(self.new_id());
        if let Some(wait) = &mut self.services[i].s.wait {
            wait.in_flight = Some((probe, now.mono + LOOK + ANSWER_LOST_AFTER));
        }
        self.probes.insert(probe, i);
        let service = self.services[i].id.clone();
        self.effect(Effect::Look { probe, service, timeout: LOOK });
        self.retime(i);
    }

    /// What a look has found.
    pub(crate) fn looked(&mut self, i: usize, probe: ProbeId, outcome: Outcome, now: Now) {
        let draw = random(self.guardian.seed, probe.0);
        let Some(wait) = &mut self.services[i].s.wait else { return };
        if wait.in_flight.is_none_or(|(asked, _)| asked != probe) {
            return;
        }
        wait.in_flight = None;
        match outcome {
            Outcome::Pass => {
                wait.over = true;
                self.try_start(i, now);
            }
            Outcome::Fail(why) | Outcome::Unknown(why) => {
                // Services that wait for the same must not ask in step.
                let spread = Duration::from_nanos(draw % (FIRST_PAUSE.as_nanos() as u64 / 2));
                wait.next = Some(now.mono + wait.pause + spread);
                wait.pause = (wait.pause * 2).min(SLOWEST);
                let news = wait.last.as_deref() != Some(&*why);
                wait.last = Some(why);
                if news {
                    self.touch(i);
                }
            }
        }
        self.retime(i);
    }

    /// It has been long enough.
    pub(crate) fn wait_ends(&mut self, i: usize, now: Now) {
        let Some(spec) = &self.spec(i).wait_for else { return };
        let (then, timeout) = (spec.then, Human(spec.timeout.unwrap_or_default()));
        let Some(wait) = &mut self.services[i].s.wait else { return };
        wait.deadline = None;
        wait.next = None;
        let missing = wait.last.clone().unwrap_or_else(|| "no answer".into());
        let text = format!("what it waits for was not there within {timeout}: {missing}");
        match then {
            AfterWait::StartAnyway => {
                wait.over = true;
                let text = format!("starts all the same: {text}");
                self.tell(now, Some(i), None, EventKind::Told { level: Level::Warn, text });
                self.try_start(i, now);
            }
            AfterWait::Fail => {
                self.begin_attempt(i, now);
                self.services[i].s.phase = Phase::PreStart;
                self.fail_before_start(i, text, now);
            }
            AfterWait::Run { .. } => {
                (wait.over, wait.asks) = (true, true);
                let text = format!("{text}; its fallback command runs");
                self.tell(now, Some(i), None, EventKind::Told { level: Level::Warn, text });
                self.try_start(i, now);
            }
        }
    }

    /// An attempt is over before its program was started.
    pub(crate) fn fail_before_start(&mut self, i: usize, text: String, now: Now) {
        let error = SpawnError { kind: SpawnErrorKind::Transient, text: text.clone() };
        let record = ExitRecord {
            at: now.wall,
            outcome: Err(error),
            class: ExitClass::Retry,
            ran_for: Duration::ZERO,
            was_ready: false,
            expected: false,
        };
        self.record_exit(i, record);
        self.begin_stop(i, Cause::Failed(text), now);
    }
}
