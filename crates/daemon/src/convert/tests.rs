use std::collections::BTreeSet;
use std::time::Duration;

use keepwell_core::effect::Hold;
use keepwell_core::escalation::Then as Escalate;
use keepwell_core::event::{Event, EventKind, Level, SpawnError, SpawnErrorKind};
use keepwell_core::guard::Then;
use keepwell_core::incident::IncidentEnd;
use keepwell_core::spec::Purpose;
use keepwell_core::{By, Mono, Now, RunId};

use super::*;

const NOON: Wall = Wall(1_782_907_200_000);

fn now() -> Now {
    Now { mono: Mono(5), wall: NOON }
}

fn killed(signal: i32) -> ExitStatus {
    ExitStatus::Signal { signal, core_dumped: false, out_of_memory: false }
}

fn exited(status: ExitStatus, class: ExitClass, role: Role, was_ready: bool, expected: bool) -> EventKind {
    EventKind::Exited { status, class, role, ran_for: Duration::from_millis(1_200), was_ready, expected }
}

pub(crate) fn told_of_a_service() -> Vec<EventKind> {
    let changed =
        |to, reason: &str| EventKind::StateChanged { from: State::Starting, to, reason: reason.into() };
    let missing = || SpawnError { kind: SpawnErrorKind::Permanent, text: "program not found: /opt/x".into() };
    vec![
        changed(State::Ready, ""),
        changed(State::Waiting, "db is starting"),
        changed(State::BackingOff, "exit 3 after 1.2 s"),
        changed(State::CrashLooping, "6 starts in 60 s"),
        changed(State::GaveUp, "exit code 2 is fatal"),
        changed(State::Completed, ""),
        EventKind::Started { pid: 4121, role: Role::Main },
        EventKind::Started { pid: 4122, role: Role::PreStart },
        EventKind::SpawnFailed(missing(), Role::Main),
        EventKind::SpawnFailed(missing(), Role::PostStop),
        exited(ExitStatus::Code(3), ExitClass::Retry, Role::Main, true, false),
        exited(ExitStatus::Code(3), ExitClass::Retry, Role::Main, false, false),
        exited(ExitStatus::Code(0), ExitClass::Success, Role::Main, false, false),
        exited(ExitStatus::Code(78), ExitClass::ConfigError, Role::Main, false, false),
        exited(ExitStatus::Code(9), ExitClass::Fatal, Role::Main, true, false),
        exited(killed(15), ExitClass::Retry, Role::Main, true, true),
        exited(ExitStatus::Code(1), ExitClass::Retry, Role::PreStart, false, false),
        EventKind::Ready { after: Duration::from_millis(340) },
        EventKind::ReadyTimedOut { timeout: Duration::from_secs(10), last: "connection refused".into() },
        EventKind::ReadyTimedOut { timeout: Duration::from_secs(10), last: String::new() },
        EventKind::GuardTripped {
            rule: "memory > 800 MB for 2 min".into(),
            value: "812 MB".into(),
            then: Then::Restart,
        },
        EventKind::GuardTripped { rule: "threads > 500".into(), value: "501".into(), then: Then::Alert },
        EventKind::GuardCleared { rule: "threads > 500".into(), value: "440".into() },
        EventKind::LeakForeseen { text: "memory reaches 800 MB in about 34 min (95 %: 25–50)".into() },
        EventKind::LeakOver { text: "memory no longer grows to 800 MB".into() },
        EventKind::UsageStepped { text: "memory rose at once from 310 MB to 520 MB".into() },
        EventKind::WatchdogExpired { timeout: Duration::from_secs(30) },
        EventKind::ProbeFailed {
            purpose: Purpose::Live,
            probe: "http 127.0.0.1:8080/live".into(),
            failures: 3,
            last: "connection refused by 127.0.0.1:8080".into(),
        },
        EventKind::ProbeFailed {
            purpose: Purpose::Ready,
            probe: "tcp x:1".into(),
            failures: 1,
            last: "reset".into(),
        },
        EventKind::ProbeRecovered {
            purpose: Purpose::Ready,
            probe: "tcp x:1".into(),
            after: Duration::from_secs(90),
        },
        EventKind::HealingHeld { budget: "the budget of this host (10 in 10 min)".into() },
        EventKind::HeartbeatLost { after: Duration::from_secs(15) },
        EventKind::RestartScheduled { attempt: 2, at: NOON, delay: Duration::from_secs(2) },
        EventKind::RestartScheduled { attempt: 1, at: NOON, delay: Duration::ZERO },
        EventKind::CrashLooped { evidence: "6 starts in 60 s; its policy allows 5".into() },
        EventKind::GaveUp { reason: "exit code 9 is fatal".into() },
        EventKind::StopStepTaken { step: 1, action: "SIGTERM to the main process".into() },
        EventKind::StopStepFailed { step: 2, reason: "it has no window".into() },
        EventKind::LeftoversKilled,
        EventKind::StopStuck { waited: Duration::from_secs(10) },
        EventKind::HookFailed { role: Role::PreStop, reason: "exit code 1".into() },
        EventKind::DependencyChanged { lost: Some("db is backing off".into()) },
        EventKind::DependencyChanged { lost: None },
        EventKind::Commanded { by: By("anna".into()), what: "pause --freeze".into() },
        EventKind::EvidenceTaken { outcome: Ok("12-web-run7.txt".into()) },
        EventKind::EvidenceTaken { outcome: Err("the disk is full".into()) },
        EventKind::Escalated { step: 2, of: 4, then: Escalate::RestartDependents },
        EventKind::Escalated { step: 3, of: 4, then: Escalate::Run { timeout: Duration::from_secs(30) } },
        EventKind::Paged { reason: "exit code 3 after 1.2 s".into() },
        EventKind::StandbyStarted { main: "web".into() },
        EventKind::StandbyStopped { main: "web".into() },
        EventKind::IncidentOpened { id: 12, cause: "exit code 3 after 1.2 s".into() },
        EventKind::IncidentClosed(Box::new(super::incident::tests::sample(IncidentEnd::Recovered))),
        EventKind::IncidentClosed(Box::new(super::incident::tests::sample(IncidentEnd::Stopped))),
        EventKind::Told { level: Level::Warn, text: "12 lines were dropped".into() },
    ]
}

pub(crate) fn told_of_the_guardian() -> Vec<EventKind> {
    vec![
        EventKind::Commanded { by: By("anna".into()), what: "shutdown".into() },
        EventKind::ConfigApplied { changes: vec![] },
        EventKind::ConfigApplied { changes: (1..=7).map(|n| format!("web@{n} restart")).collect() },
        EventKind::ConfigRejected { text: "error: unknown key `restrat`\n  ┌ keepwell.toml:7:1\n".into() },
        EventKind::Adopted { runs: 1, missed_exits: 2 },
        EventKind::GuardianStarted,
        EventKind::GuardianStopping { reason: "SIGTERM".into() },
        EventKind::Told { level: Level::Error, text: "the store is gone".into() },
    ]
}

fn all() -> Vec<wire::Event> {
    let web = told_of_a_service().into_iter().map(|kind| Event {
        at: now(),
        service: Some(ServiceId::new("web", 1)),
        run: Some(RunId(7)),
        incident: None,
        kind,
    });
    let guardian = told_of_the_guardian().into_iter().map(|kind| Event {
        at: now(),
        service: None,
        run: None,
        incident: None,
        kind,
    });
    web.chain(guardian).zip(1..).map(|(e, seq)| event(&e, seq)).collect()
}

#[test]
fn every_kind_has_one_plain_line() {
    let lines: Vec<String> =
        all().iter().map(|e| format!("{:<5} {:<18} {}", e.level, e.kind, e.text)).collect();
    assert!(lines.iter().all(|l| !l.contains('\n')));
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn kinds_are_listed_and_none_is_missing() {
    let listed: BTreeSet<&str> = KINDS.iter().map(|(k, _)| *k).collect();
    let events = all();
    let seen: BTreeSet<&str> = events.iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(listed, seen);
    assert_eq!(listed.len(), KINDS.len());
}

#[test]
fn an_exit_event_carries_numbers() {
    let e = Event {
        at: now(),
        service: Some(ServiceId::new("web", 2)),
        run: Some(RunId(7)),
        incident: Some(12),
        kind: exited(killed(9), ExitClass::Retry, Role::Main, false, false),
    };
    insta::assert_snapshot!(serde_json::to_string_pretty(&event(&e, 41)).unwrap());
}

#[test]
fn ends_have_meaning() {
    let oom = ExitStatus::Signal { signal: 9, core_dumped: false, out_of_memory: true };
    let core = ExitStatus::Signal { signal: 11, core_dumped: true, out_of_memory: false };
    let table = [
        (ExitStatus::Code(3), "exit code 3"),
        (killed(9), "killed by SIGKILL"),
        (killed(36), "killed by SIGRTMIN+2"),
        (core, "killed by SIGSEGV, core dumped"),
        (oom, "killed by the kernel for memory"),
        (ExitStatus::Unknown, "ended while keepwell was down"),
    ];
    for (status, text) in table {
        assert_eq!(exit_text(&status), text);
    }
}

#[test]
fn times_are_rfc_3339_and_read_back() {
    assert_eq!(time(Wall(0)), "1970-01-01T00:00:00.000Z");
    assert_eq!(time(Wall(1_782_915_120_257)), "2026-07-01T14:12:00.257Z");
    assert_eq!(time(Wall(i64::MAX)), "9999-12-30T22:00:00.999Z");
    assert_eq!(instant("2026-07-01T16:12:00.257+02:00"), Ok(Wall(1_782_915_120_257)));
    assert_eq!(instant("yesterday").unwrap_err().code, "invalid");
}

fn status_of(state: State) -> ServiceStatus {
    ServiceStatus {
        id: ServiceId::new("web", 1),
        state,
        reason: "exit 3 after 1.2 s".into(),
        since: NOON,
        run: None,
        pid: None,
        restarts: 2,
        attempt: 3,
        next: Some((Wall(NOON.0 + 2_000), DeadlineReason::Restart)),
        next_attempt: Some(Wall(NOON.0 + 2_000)),
        desired_up: true,
        enabled: true,
        hold: Some(Hold { freeze: true, stop_at: None, by: By("anna".into()) }),
        last_command: Some((By("anna".into()), "stop".into(), NOON)),
        exits: vec![ExitRecord {
            at: NOON,
            outcome: Err(SpawnError {
                kind: SpawnErrorKind::Permanent,
                text: "program not found: /opt/x".into(),
            }),
            class: ExitClass::Retry,
            ran_for: Duration::ZERO,
            was_ready: false,
            expected: false,
        }],
        blockers: vec![(ServiceId::new("db", 2), "db@2 is starting".into())],
        warnings: vec!["threads > 500: now 501".into()],
    }
}

#[test]
fn a_status_keeps_the_contract() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&status(&status_of(State::BackingOff))).unwrap());
}

#[test]
fn an_explanation_keeps_its_lines() {
    let e = Explanation {
        headline: "web waits.".into(),
        facts: vec![("next".into(), "in 2 s".into())],
        try_next: vec![("try now".into(), "keepwell start web".into())],
    };
    let out = explanation(&status_of(State::Waiting), &e);
    assert_eq!((out.service.as_str(), out.state.as_str()), ("web", "waiting"));
    assert_eq!((out.facts, out.try_next, out.exits.len()), (e.facts, e.try_next, 1));
}

#[test]
fn plans_are_told_in_order() {
    let web = ServiceId::new("web", 2);
    let plan =
        Plan { actions: vec![(web.clone(), PlannedAction::Stop)], notes: vec!["worker runs on".into()] };
    let out = reply(&plan, 9);
    assert_eq!((out.actions[0].service.as_str(), out.actions[0].action.as_str()), ("web@2", "stop"));
    assert_eq!((out.notes, out.after_seq), (plan.notes, 9));

    let plan = ReloadPlan { changes: vec![(web, ReloadAction::NewDisabled)], untouched: 41 };
    let out = reload_with(&plan, |id| format!("{id} is new"), 9);
    assert_eq!(
        (out.actions[0].action.as_str(), out.actions[0].why.as_str()),
        ("new_disabled", "web@2 is new")
    );
    assert_eq!((out.untouched, out.after_seq), (41, 9));
}

#[test]
fn refusals_teach() {
    let unknown = |name: &str, known: &[&str]| {
        problem(&CommandError::UnknownService {
            name: name.into(),
            known: known.iter().map(|s| (*s).to_owned()).collect(),
        })
    };
    let p = unknown("wbe", &["db", "web"]);
    assert_eq!((p.code.as_str(), p.message.as_str()), ("unknown_service", "there is no service `wbe`"));
    assert_eq!(p.hint.as_deref(), Some("did you mean `web`?"));
    assert_eq!(unknown("zzz", &["db", "web"]).hint.as_deref(), Some("there are: db, web"));
    assert_eq!(unknown("zzz", &[]).hint.as_deref(), Some("the configuration has no services"));
    let many: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(unknown("qq", &many).hint.unwrap().ends_with("s7 and 12 more"));
    let p = problem(&CommandError::NotRunning(ServiceId::new("web", 2)));
    assert_eq!((p.code.as_str(), p.hint.as_deref()), ("not_running", Some("keepwell start web@2")));
    assert_eq!(problem(&CommandError::ShuttingDown).code, "shutting_down");
    assert_eq!(problem(&CommandError::Invalid("no".into())).code, "invalid");
}

fn request(json: &str) -> Result<keepwell_core::Command, wire::Problem> {
    command(serde_json::from_str(json).unwrap())
}

#[test]
fn requests_become_commands() {
    use keepwell_core::Command;
    use keepwell_core::spec::To;
    let web = || vec!["web".to_owned()];
    let table = [
        (
            r#"{"verb":"start","services":["web"],"ignore_dependencies":true}"#,
            Command::Start { services: web(), ignore_dependencies: true },
        ),
        (
            r#"{"verb":"stop","services":["web"],"with_dependents":true}"#,
            Command::Stop { services: web(), with_dependents: true },
        ),
        (r#"{"verb":"restart","services":["web"]}"#, Command::Restart { services: web() }),
        (
            r#"{"verb":"signal","services":["web"],"signal":"hup","to":"tree"}"#,
            Command::Signal { services: web(), signal: 1, to: To::Tree },
        ),
        (
            r#"{"verb":"pause","services":["web"],"freeze":true,"stop_after_ms":5000}"#,
            Command::Pause { services: web(), freeze: true, stop_after: Some(Duration::from_secs(5)) },
        ),
        (r#"{"verb":"resume","services":["web"]}"#, Command::Resume { services: web() }),
        (r#"{"verb":"enable","services":["web"]}"#, Command::Enable { services: web() }),
        (r#"{"verb":"disable","services":["web"]}"#, Command::Disable { services: web() }),
        (
            r#"{"verb":"scale","services":["web"],"instances":3}"#,
            Command::Scale { service: "web".into(), instances: 3 },
        ),
        (r#"{"verb":"shutdown"}"#, Command::Shutdown),
    ];
    for (json, want) in table {
        assert_eq!(request(json), Ok(want), "{json}");
    }
}

#[test]
fn bad_requests_say_what_would_be_right() {
    let cases = [
        r#"{"verb":"strat","services":["web"]}"#,
        r#"{"verb":"explode"}"#,
        r#"{"verb":"start"}"#,
        r#"{"verb":"signal","services":["web"]}"#,
        r#"{"verb":"signal","services":["web"],"signal":"TREM"}"#,
        r#"{"verb":"signal","services":["web"],"signal":"HUP","to":"all"}"#,
        r#"{"verb":"scale","services":["web","db"],"instances":2}"#,
        r#"{"verb":"scale","services":["web"]}"#,
        r#"{"verb":"scale","services":["web"],"instances":0}"#,
        r#"{"verb":"scale","services":["web"],"instances":10001}"#,
        r#"{"verb":"signal","services":["web"],"signal":"explode"}"#,
        r#"{"verb":"shutdown","services":["web"]}"#,
        r#"{"verb":"stop","services":["web"],"freeze":true}"#,
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|json| {
            let p = request(json).unwrap_err();
            format!("{} | {}", p.message, p.hint.unwrap_or_default())
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}
