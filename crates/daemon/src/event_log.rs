//! What of all that happens stands in Windows' event log, for a guardian that runs as a service there, and under which id.
//!
//! An id never gets another meaning: people filter by it, and programs wake others by it. docs/event-log.md lists them and is held to
//! this by a test.

use std::sync::Arc;
use std::time::Duration;

use keepwell_core::Role;
use keepwell_core::event::{EventKind, ExitClass, State};
use keepwell_sdk::wire;
use keepwell_service::eventlog::{Level, Log, MessageTable};

use crate::errands::Errands;

/// What a viewer calls keepwell.
pub const SOURCE: &str = "keepwell";
/// Reports that wait for the system: more than a start of a thousand services makes at once.
const WAITING: usize = 4096;

/// One kind of report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// For ever.
    pub id: u16,
    /// How much it matters.
    pub level: Level,
    /// When it is reported.
    pub when: &'static str,
}

macro_rules! kinds { ($($name:ident = $id:literal $level:ident $when:literal,)*) => {
    $(const $name: Kind = Kind { id: $id, level: Level::$level, when: $when };)*
    /// All, by their ids.
    pub const KINDS: &[Kind] = &[$($name),*];
} }

kinds! {
    UP = 1 Information "the guardian came up",
    ENDING = 2 Information "the guardian goes down",
    REBORN = 3 Warning "keepwell's daemon was started anew; the services went on",
    CANNOT_START = 4 Error "the guardian cannot start: its configuration, its folders",
    CONFIG_APPLIED = 10 Information "a new configuration was taken on",
    CONFIG_REJECTED = 11 Warning "a new configuration was refused; what ran runs on",
    NOTED = 20 Warning "something to look at tomorrow: a disk that is full, a clock that was set",
    ALARMED = 21 Error "something to look at now: what was written may be lost",
    STARTED = 100 Information "a service's program was started",
    STOPPED = 101 Information "a service was stopped",
    COMPLETED = 102 Information "a service ended well and is not to be restarted",
    CRASHED = 110 Warning "a service's program ended and should not have",
    NOT_STARTED = 111 Warning "a service's program could not be started",
    RETRIED = 112 Warning "a restart was decided, with the time until then",
    NOT_READY = 113 Warning "a service did not become ready in time",
    SILENT = 114 Warning "no life sign of a service came in time",
    HOOK_FAILED = 115 Warning "a hook of a service failed",
    STUCK = 116 Warning "processes of a service do not die",
    ILL = 117 Warning "a check of a service failed as often in a row as its threshold says",
    OVER_GUARD = 118 Warning "a service uses more than a guard allows",
    LEAKING = 119 Warning "what a service uses will reach the bound of a guard, or its limit",
    CRASH_LOOPED = 120 Error "a service was restarted too often and is tried slowly",
    GAVE_UP = 121 Error "a service is not tried again by itself",
    LEFT_ILL = 122 Error "a service whose check fails is left as it is, since a budget of restarts is spent",
    INCIDENT_OPENED = 130 Warning "a service began to fail: an incident was opened",
    INCIDENT_CLOSED = 131 Information "an incident of a service is over",
    ESCALATED = 133 Warning "a service goes on failing: the next step of its escalation is taken",
    PAGED = 134 Error "the escalation of a service has come to its end: somebody is needed",
    STANDBY_STARTED = 135 Warning "a standby runs, since the service that it stands in for is down",
    STANDBY_STOPPED = 136 Information "a standby is no longer needed",
}

/// What an event is in the event log; `None`: nothing that belongs there.
#[must_use]
pub fn kind(event: &EventKind) -> Option<Kind> {
    Some(match event {
        EventKind::GuardianStarted => UP,
        EventKind::GuardianStopping { .. } => ENDING,
        EventKind::Adopted { .. } => REBORN,
        EventKind::ConfigApplied { .. } => CONFIG_APPLIED,
        EventKind::ConfigRejected { .. } => CONFIG_REJECTED,
        EventKind::Told { level, .. } => match level {
            keepwell_core::event::Level::Info => return None,
            keepwell_core::event::Level::Warn => NOTED,
            keepwell_core::event::Level::Error => ALARMED,
        },
        EventKind::Started { role: Role::Main, .. } => STARTED,
        EventKind::StateChanged { to, .. } => match to {
            State::Stopped => STOPPED,
            State::Completed => COMPLETED,
            // An event of its own says why.
            State::Waiting
            | State::Starting
            | State::Running
            | State::Ready
            | State::Degraded
            | State::Paused
            | State::Stopping
            | State::BackingOff
            | State::CrashLooping
            | State::GaveUp => return None,
        },
        EventKind::Exited { role: Role::Main, expected: false, class, .. } => match class {
            ExitClass::Success => return None,
            ExitClass::Retry | ExitClass::ConfigError | ExitClass::Fatal => CRASHED,
        },
        EventKind::SpawnFailed(_, Role::Main) => NOT_STARTED,
        EventKind::RestartScheduled { .. } => RETRIED,
        EventKind::ReadyTimedOut { .. } => NOT_READY,
        EventKind::ProbeFailed { .. } => ILL,
        EventKind::HealingHeld { .. } => LEFT_ILL,
        EventKind::WatchdogExpired { .. } | EventKind::HeartbeatLost { .. } => SILENT,
        EventKind::HookFailed { .. } => HOOK_FAILED,
        EventKind::GuardTripped { .. } => OVER_GUARD,
        EventKind::LeakForeseen { .. } => LEAKING,
        EventKind::StopStuck { .. } => STUCK,
        EventKind::CrashLooped { .. } => CRASH_LOOPED,
        EventKind::GaveUp { .. } => GAVE_UP,
        EventKind::IncidentOpened { .. } => INCIDENT_OPENED,
        EventKind::IncidentClosed(_) => INCIDENT_CLOSED,
        EventKind::Escalated { .. } => ESCALATED,
        EventKind::Paged { .. } => PAGED,
        EventKind::StandbyStarted { .. } => STANDBY_STARTED,
        EventKind::StandbyStopped { .. } => STANDBY_STOPPED,
        // What hooks do is told when they fail; the rest is for `keepwell events`.
        EventKind::Started { .. }
        | EventKind::Exited { .. }
        | EventKind::SpawnFailed(..)
        | EventKind::Ready { .. }
        | EventKind::ProbeRecovered { .. }
        | EventKind::GuardCleared { .. }
        | EventKind::LeakOver { .. }
        | EventKind::UsageStepped { .. }
        | EventKind::StopStepTaken { .. }
        | EventKind::StopStepFailed { .. }
        | EventKind::LeftoversKilled
        | EventKind::EvidenceTaken { .. }
        | EventKind::DependencyChanged { .. }
        | EventKind::Commanded { .. } => return None,
    })
}

/// The messages around the texts: `%1` is the guardian's service, `%2` what happened, `%3` the service that it happened to.
#[must_use]
pub fn messages() -> MessageTable {
    KINDS.iter().fold(MessageTable::new(), |table, kind| {
        let of_a_service = if kind.id >= STARTED.id { "\r\nService: %3" } else { "" };
        table.message(kind.id, format!("%2\r\n\r\nGuardian: %1{of_a_service}"))
    })
}

/// Tells that there is no guardian, and why. Where there is no event log nobody is told here.
pub fn cannot_start(guardian: &str, why: &str) {
    if let Ok(log) = Log::open(SOURCE) {
        // It is also in the last words of the anchor.
        let _ = log.report(CANNOT_START.level, CANNOT_START.id, &[guardian, &lines(why)]);
    }
}

/// One event on its way.
struct Report {
    kind: Kind,
    line: Arc<wire::Event>,
}

/// The way there: on another thread, since the system may take its time.
pub(crate) struct EventLog {
    way: Option<Errands<Report>>,
    lost: u64,
}

impl EventLog {
    /// Of a guardian that runs as this service of Windows; for others it takes everything and tells nobody.
    pub(crate) fn of(service: Option<&str>) -> EventLog {
        let log = service.and_then(|name| Log::open(SOURCE).ok().map(|log| (log, name.to_owned())));
        log.map_or(EventLog { way: None, lost: 0 }, |(log, name)| EventLog::into(log, name))
    }

    fn into(log: Log, guardian: String) -> EventLog {
        let mut works = true;
        let work = move |Report { kind, line }: Report| {
            let told = report(&log, &guardian, kind, &line);
            if let Err(e) = &told
                && works
            {
                tracing::warn!("the event log takes nothing; keepwell events has all: {e}");
            }
            works = told.is_ok();
        };
        EventLog { way: Some(Errands::new("event-log", WAITING, work)), lost: 0 }
    }

    /// Never waits: what finds no room is counted.
    pub(crate) fn tell(&mut self, kind: Kind, line: &Arc<wire::Event>) {
        let Some(way) = &self.way else { return };
        match way.give(Report { kind, line: Arc::clone(line) }) {
            Ok(()) if self.lost == 0 => {}
            Ok(()) => {
                let lost = std::mem::take(&mut self.lost);
                tracing::warn!(lost, "events came too fast for the event log; keepwell events has all");
            }
            Err(_) => self.lost += 1,
        }
    }

    /// Waits until all is reported, so long at most. Nothing is reported afterwards.
    pub(crate) fn settle(&mut self, patience: Duration) {
        if let Some(way) = self.way.take() {
            way.settle(patience);
        }
    }
}

fn report(log: &Log, guardian: &str, kind: Kind, line: &wire::Event) -> Result<(), keepwell_service::Error> {
    // The diagnostics of a configuration are more than a line.
    let whole = match (&line.reason, kind == CONFIG_REJECTED) {
        (Some(reason), true) => lines(&format!("{}\n\n{reason}", line.text)),
        (Some(_) | None, _) => lines(&line.text),
    };
    let service = line.service.as_deref().unwrap_or_default();
    log.report(kind.level, kind.id, &[guardian, &whole, service])
}

/// As Windows ends them.
fn lines(text: &str) -> String {
    text.trim_end().replace('\n', "\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert;
    use crate::convert::tests::{told_of_a_service, told_of_the_guardian};
    use keepwell_core::event::Event;
    use keepwell_core::{Mono, Now, ServiceId, Wall};

    fn events() -> Vec<Event> {
        let at = Now { mono: Mono(5), wall: Wall(1_782_907_200_000) };
        let of = |service: Option<ServiceId>| {
            move |kind| Event { at, service: service.clone(), run: None, incident: None, kind }
        };
        let web = told_of_a_service().into_iter().map(of(Some(ServiceId::new("web", 2))));
        web.chain(told_of_the_guardian().into_iter().map(of(None))).collect()
    }

    #[test]
    fn each_event_has_its_id_or_none() {
        let mut told = String::new();
        for (event, seq) in events().iter().zip(1..) {
            let line = convert::event(event, seq);
            let kind = match kind(&event.kind) {
                Some(kind) => format!("{:>3} {:<11}", kind.id, format!("{:?}", kind.level)),
                None => "  – -          ".to_owned(),
            };
            told += &format!("{kind} {:<18} {}\n", line.kind, line.text);
        }
        insta::assert_snapshot!(told);
    }

    #[test]
    fn only_the_main_program_s_own_ends_count_and_only_last_states() {
        let roles = [
            Role::Main,
            Role::PreStart,
            Role::PostStart,
            Role::PreStop,
            Role::PostStop,
            Role::Stop,
            Role::OnSuspend,
            Role::OnResume,
            Role::OnPowerChange,
            Role::OnSession,
            Role::OnSuspend,
            Role::OnResume,
            Role::OnPowerChange,
            Role::OnSession,
            Role::Guard(0),
            Role::WaitFor,
        ];
        let classes = [ExitClass::Success, ExitClass::Retry, ExitClass::ConfigError, ExitClass::Fatal];
        for role in roles {
            let main = role == Role::Main;
            assert_eq!(kind(&EventKind::Started { pid: 1, role }), main.then_some(STARTED));
            let error = keepwell_core::event::SpawnError {
                kind: keepwell_core::event::SpawnErrorKind::Transient,
                text: String::new(),
            };
            assert_eq!(kind(&EventKind::SpawnFailed(error, role)), main.then_some(NOT_STARTED));
            for (class, expected, was_ready) in
                classes.into_iter().flat_map(|c| [(c, true, true), (c, false, true), (c, false, false)])
            {
                let (status, ran_for) = (keepwell_core::event::ExitStatus::Unknown, Duration::ZERO);
                let exited = EventKind::Exited { status, class, role, ran_for, was_ready, expected };
                let bad = main && !expected && class != ExitClass::Success;
                assert_eq!(kind(&exited), bad.then_some(CRASHED), "{exited:?}");
            }
        }
        let states = [
            (State::Stopped, Some(STOPPED)),
            (State::Waiting, None),
            (State::Starting, None),
            (State::Running, None),
            (State::Ready, None),
            (State::Degraded, None),
            (State::Paused, None),
            (State::Stopping, None),
            (State::BackingOff, None),
            (State::CrashLooping, None),
            (State::GaveUp, None),
            (State::Completed, Some(COMPLETED)),
        ];
        for (to, expected) in states {
            assert_eq!(
                kind(&EventKind::StateChanged { from: State::Ready, to, reason: String::new() }),
                expected
            );
        }
        use keepwell_core::event::Level as Told;
        for (level, expected) in [(Told::Info, None), (Told::Warn, Some(NOTED)), (Told::Error, Some(ALARMED))]
        {
            assert_eq!(kind(&EventKind::Told { level, text: String::new() }), expected);
        }
    }

    #[test]
    fn ids_are_told_apart_and_each_stands_in_the_documentation() {
        assert!(KINDS.is_sorted_by(|a, b| a.id < b.id));
        let page = include_str!("../../../docs/event-log.md");
        let rows: Vec<&str> =
            page.lines().filter(|l| l.starts_with("| ") && l.as_bytes()[2].is_ascii_digit()).collect();
        let expected: Vec<String> =
            KINDS.iter().map(|k| format!("| {} | {:?} | {} |", k.id, k.level, k.when)).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn each_id_has_a_message() {
        let table = messages();
        let ids: Vec<u16> = table.messages().map(|(id, _)| id).collect();
        assert_eq!(ids, KINDS.iter().map(|k| k.id).collect::<Vec<_>>());
        let of = |id| table.messages().find(|(i, _)| *i == id).unwrap().1.to_owned();
        assert_eq!(of(UP.id), "%2\r\n\r\nGuardian: %1");
        assert_eq!(of(GAVE_UP.id), "%2\r\n\r\nGuardian: %1\r\nService: %3");
    }

    #[test]
    fn what_is_told_is_reported_in_order_before_the_end() {
        let (log, records) = Log::in_memory();
        let mut way = EventLog::into(log, "shop".to_owned());
        let mut expected = Vec::new();
        for (event, seq) in events().iter().zip(1..) {
            let line = Arc::new(convert::event(event, seq));
            if let Some(kind) = kind(&event.kind) {
                way.tell(kind, &line);
                expected.push(kind.id);
            }
        }
        way.settle(Duration::from_secs(30));
        let records = records.all();
        assert_eq!(records.iter().map(|r| r.id).collect::<Vec<_>>(), expected);
        let gave_up = records.iter().find(|r| r.id == GAVE_UP.id).unwrap();
        assert_eq!(gave_up.level, Level::Error);
        assert_eq!((gave_up.texts[0].as_str(), gave_up.texts[2].as_str()), ("shop", "web@2"));
        assert!(gave_up.texts[1].starts_with("web@2 "), "{:?}", gave_up.texts);
        let rejected = records.iter().find(|r| r.id == CONFIG_REJECTED.id).unwrap();
        assert!(rejected.texts[1].contains("\r\n\r\nerror: unknown key"), "{:?}", rejected.texts);
        assert_eq!(rejected.texts[2], "");
    }

    #[test]
    fn a_guardian_that_is_no_service_of_windows_tells_nobody_and_waits_for_nobody() {
        let mut way = EventLog::of(None);
        way.tell(UP, &Arc::default());
        way.settle(Duration::MAX);
        assert_eq!(way.lost, 0);
    }
}
