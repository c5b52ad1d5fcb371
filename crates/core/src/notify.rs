//! What people are told by message, and when: which events are worth one, what goes together in one, what was said already,
//! how often is too often, and when a receiver that did not take it is tried again. One outbox a receiver.
//!
//! A notice waits a moment for others of its kind, so that a failure of many is one message. The same about the same is said
//! once in [`QUIET`]; repetitions are counted. What a receiver did not take is tried again, with the same number, until it is
//! [`TOO_OLD`]. What finds no room is counted, and the next message says how many.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind};
use crate::time::{Mono, Now, Wall};

/// The first notice waits so long for others.
pub const GATHER: Duration = Duration::from_secs(2);
/// The same about the same is not said again for so long.
pub const QUIET: Duration = Duration::from_secs(600);
/// Messages to one receiver in [`SPAN`] at most; more wait, and are one message then.
pub const MESSAGES: usize = 20;
/// See [`MESSAGES`].
pub const SPAN: Duration = Duration::from_secs(600);
/// Notices that wait at most; the oldest make room. A message of more nobody reads.
pub const WAITING: usize = 100;
/// The first wait before another attempt; it doubles.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest, also where the receiver asks for more.
pub const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// A message that is older is given up: whoever reads it tomorrow has heard of it otherwise.
pub const TOO_OLD: Duration = Duration::from_secs(24 * 3600);
/// An answer that has not come by then will not: the sender bounds each attempt well below it.
pub const ANSWER_LOST: Duration = Duration::from_secs(120);

/// What a notice quotes may be long, and this is read on a telephone.
const LONGEST_TEXT: usize = 500;

/// What a notice is about. The names are a contract.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Topic {
    /// A service is restarted over and over.
    CrashLoop,
    /// A service is not tried any more.
    GaveUp,
    /// The escalation of a service has come to the step that calls for somebody.
    Paged,
    /// An incident began.
    IncidentOpened,
    /// An incident is over.
    IncidentClosed,
    /// A budget of restarts is spent, so something ill is left running.
    BudgetSpent,
    /// What a service uses will reach a bound.
    LeakForeseen,
    /// What a service uses is over a bound.
    GuardTripped,
    /// Nothing has happened; somebody tries the way.
    Test,
}

impl Topic {
    /// Those that happen.
    pub const ALL: [Topic; 8] = [
        Topic::CrashLoop,
        Topic::GaveUp,
        Topic::Paged,
        Topic::IncidentOpened,
        Topic::IncidentClosed,
        Topic::BudgetSpent,
        Topic::LeakForeseen,
        Topic::GuardTripped,
    ];

    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Topic::CrashLoop => "crash_loop",
            Topic::GaveUp => "gave_up",
            Topic::Paged => "paged",
            Topic::IncidentOpened => "incident_opened",
            Topic::IncidentClosed => "incident_closed",
            Topic::BudgetSpent => "budget_spent",
            Topic::LeakForeseen => "leak_foreseen",
            Topic::GuardTripped => "guard_tripped",
            Topic::Test => "test",
        }
    }

    /// Of an event, if it is worth a message.
    #[must_use]
    pub fn of(kind: &EventKind) -> Option<Topic> {
        Some(match kind {
            EventKind::CrashLooped { .. } => Topic::CrashLoop,
            EventKind::GaveUp { .. } => Topic::GaveUp,
            EventKind::Paged { .. } => Topic::Paged,
            EventKind::IncidentOpened { .. } => Topic::IncidentOpened,
            EventKind::IncidentClosed(_) => Topic::IncidentClosed,
            EventKind::HealingHeld { .. } => Topic::BudgetSpent,
            EventKind::LeakForeseen { .. } => Topic::LeakForeseen,
            EventKind::GuardTripped { .. } => Topic::GuardTripped,
            EventKind::StateChanged { .. }
            | EventKind::Started { .. }
            | EventKind::SpawnFailed(..)
            | EventKind::Exited { .. }
            | EventKind::Ready { .. }
            | EventKind::ReadyTimedOut { .. }
            | EventKind::WatchdogExpired { .. }
            | EventKind::ProbeFailed { .. }
            | EventKind::ProbeRecovered { .. }
            | EventKind::HeartbeatLost { .. }
            | EventKind::RestartScheduled { .. }
            | EventKind::StopStepTaken { .. }
            | EventKind::StopStepFailed { .. }
            | EventKind::LeftoversKilled
            | EventKind::StopStuck { .. }
            | EventKind::HookFailed { .. }
            | EventKind::DependencyChanged { .. }
            | EventKind::Commanded { .. }
            | EventKind::ConfigApplied { .. }
            | EventKind::ConfigRejected { .. }
            | EventKind::Adopted { .. }
            | EventKind::GuardCleared { .. }
            | EventKind::LeakOver { .. }
            | EventKind::UsageStepped { .. }
            | EventKind::EvidenceTaken { .. }
            | EventKind::Escalated { .. }
            | EventKind::StandbyStarted { .. }
            | EventKind::StandbyStopped { .. }
            | EventKind::GuardianStarted
            | EventKind::GuardianStopping { .. }
            | EventKind::Told { .. } => return None,
        })
    }
}

/// One thing worth saying.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// What kind.
    pub topic: Topic,
    /// Whom it concerns; empty: keepwell itself.
    pub service: String,
    /// The incident that it belongs to.
    pub incident: Option<u64>,
    /// When it happened.
    pub at: Wall,
    /// In plain words.
    pub text: String,
    /// How often it was said within [`QUIET`] before without being told.
    pub repeated: u32,
}

impl Notice {
    /// Of an event, if it is worth one; `text` is how people are told of it.
    #[must_use]
    pub fn of(event: &Event, text: &str) -> Option<Notice> {
        Some(Notice {
            topic: Topic::of(&event.kind)?,
            service: event.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            incident: event.incident,
            at: event.at.wall,
            text: text.chars().take(LONGEST_TEXT).collect(),
            repeated: 0,
        })
    }

    /// The same about the same: two incidents are two, and whatever else happens of a kind to a service is one.
    fn subject(&self) -> Subject {
        let one_each = matches!(self.topic, Topic::IncidentOpened | Topic::IncidentClosed | Topic::Test);
        (self.service.clone(), self.topic, self.incident.filter(|_| one_each))
    }
}

type Subject = (String, Topic, Option<u64>);

/// What a receiver is to be sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Counts up; the same at each attempt, so that a receiver can know a message that comes twice.
    pub number: u64,
    /// Oldest first.
    pub notices: Vec<Notice>,
    /// So many found no room before it.
    pub dropped: u64,
}

/// What a receiver did with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It has it.
    Taken,
    /// Not now; and when it asks to be tried again, if it says.
    Later(Option<Duration>),
    /// Never: the same again would be refused again.
    Never,
}

/// What became of a message that was not delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setback {
    /// It is tried again; this was the first attempt.
    Delayed,
    /// So many notices are lost with it.
    Lost(usize),
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outbox {
    waiting: VecDeque<Notice>,
    /// When what waits is sent at the earliest, by its own age.
    gathered: Option<Mono>,
    current: Option<Current>,
    /// What was said, until when it is not said again, and how often it was kept back since.
    said: BTreeMap<Subject, (Mono, u32)>,
    /// Until when each message counts that was made within [`SPAN`].
    made: VecDeque<Mono>,
    dropped: u64,
    /// All that ever found no room.
    lost: u64,
    number: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Current {
    message: Message,
    /// Then it is [`TOO_OLD`].
    until: Mono,
    attempts: u32,
    /// An attempt is under way, or the next one is due.
    under_way: bool,
    next: Mono,
}

impl Outbox {
    /// Something is worth saying.
    pub fn push(&mut self, notice: Notice, now: Mono) {
        let subject = notice.subject();
        let mut notice = notice;
        if let Some((until, again)) = self.said.get_mut(&subject) {
            if now >= *until {
                notice.repeated = *again;
                (*until, *again) = (now + QUIET, 0);
                return self.add(notice, now);
            }
            *again = again.saturating_add(1);
            if let Some(same) = self.waiting.iter_mut().find(|n| n.subject() == subject) {
                same.repeated = same.repeated.saturating_add(1);
            }
            return;
        }
        self.said.retain(|_, (until, _)| now < *until);
        // Who is told of more things at once hears some of them twice.
        if self.said.len() < 4 * WAITING {
            self.said.insert(subject, (now + QUIET, 0));
        }
        self.add(notice, now);
    }

    fn add(&mut self, notice: Notice, now: Mono) {
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
            self.dropped = self.dropped.saturating_add(1);
            self.lost = self.lost.saturating_add(1);
        }
        self.waiting.push_back(notice);
        self.gathered.get_or_insert(now + GATHER);
    }

    /// A message to send now. [`Outbox::answered`] is to follow.
    pub fn poll(&mut self, now: Mono) -> Option<Message> {
        if self.next_deadline().is_none_or(|at| at > now) {
            return None;
        }
        if self.current.is_none() {
            self.number += 1;
            let notices = core::mem::take(&mut self.waiting).into();
            let message =
                Message { number: self.number, notices, dropped: core::mem::take(&mut self.dropped) };
            self.gathered = None;
            while self.made.len() >= MESSAGES {
                self.made.pop_front();
            }
            self.made.push_back(now + SPAN);
            self.current =
                Some(Current { message, until: now + TOO_OLD, attempts: 0, under_way: false, next: now });
        }
        let current = self.current.as_mut()?;
        current.under_way = true;
        current.attempts = current.attempts.saturating_add(1);
        current.next = now + ANSWER_LOST;
        Some(current.message.clone())
    }

    /// What became of the attempt. Answers of attempts that are not the present one change nothing.
    pub fn answered(&mut self, number: u64, answer: &Answer, now: Mono) -> Option<Setback> {
        let current = self.current.as_mut().filter(|c| c.under_way && c.message.number == number)?;
        let wait = match answer {
            Answer::Taken => {
                self.current = None;
                return None;
            }
            Answer::Never => return Some(self.give_up()),
            Answer::Later(asked) => {
                let doubled = FIRST_RETRY * 2_u32.saturating_pow(current.attempts.saturating_sub(1).min(16));
                doubled.max(asked.unwrap_or_default()).min(LONGEST_RETRY)
            }
        };
        if now + wait >= current.until {
            return Some(self.give_up());
        }
        current.under_way = false;
        current.next = now + wait;
        (current.attempts == 1).then_some(Setback::Delayed)
    }

    fn give_up(&mut self) -> Setback {
        Setback::Lost(self.current.take().map_or(0, |c| c.message.notices.len()))
    }

    /// A new daemon goes on: whether the attempt that was under way arrived nobody knows, so it is made again at once, with
    /// its number.
    pub fn resume(&mut self, now: Mono) {
        if let Some(current) = self.current.as_mut().filter(|c| c.under_way) {
            current.under_way = false;
            current.next = now;
        }
    }

    /// The same when the whole guardian has ended meanwhile, and perhaps the host: its clock begins anew then, so what is left
    /// of each time is counted by the calendar. `then` is when the outbox was stored.
    #[must_use]
    pub fn revive(mut self, then: Now, now: Now) -> Outbox {
        let away = u64::try_from(now.wall.0.saturating_sub(then.wall.0)).unwrap_or(0);
        let away = Duration::from_millis(away);
        let moved = |at: Mono| now.mono + at.since(then.mono).saturating_sub(away);
        self.said = self.said.into_iter().map(|(what, (until, n))| (what, (moved(until), n))).collect();
        self.made = self.made.into_iter().map(moved).collect();
        self.gathered = self.gathered.map(moved);
        if let Some(current) = &mut self.current {
            (current.until, current.next) = (moved(current.until), moved(current.next));
        }
        self.resume(now.mono);
        self
    }

    /// The guardian ends: what is to be said is said now, unless it would be one message too many. What is not taken then is left.
    pub fn hurry(&mut self, now: Mono) {
        match &mut self.current {
            Some(current) if !current.under_way => current.next = now,
            Some(_) => {}
            None => self.gathered = self.gathered.map(|_| now),
        }
    }

    /// Whether the answer to an attempt is outstanding.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.current.as_ref().is_some_and(|c| c.under_way)
    }

    /// When [`Outbox::poll`] has something, unless something happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        if let Some(current) = &self.current {
            return Some(current.next);
        }
        let gathered = self.gathered?;
        match self.made.front() {
            Some(first) if self.made.len() >= MESSAGES => Some(gathered.max(*first)),
            Some(_) | None => Some(gathered),
        }
    }

    /// Notices that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Notices that are not delivered yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.len() + self.current.as_ref().map_or(0, |c| c.message.notices.len())
    }
}

#[cfg(test)]
mod tests;
