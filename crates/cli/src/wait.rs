//! Waiting until services are as a command wants them: what counts as done, as failed, and as still going on.

use std::collections::BTreeMap;
use std::time::Duration;

use keepwell_sdk::exit;
use keepwell_sdk::wire::{Action, Event, Status};
use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::{Failure, Result};
use crate::guardian::{Follow, Guardian};
use crate::interrupt::Interrupt;
use crate::output::events::Lines;
use crate::output::json::{self, UpLine};
use crate::output::{self, human, talk};
use crate::time::{Clock, rough};
use keepwell_sdk::client::{EventQuery, Events};

/// What a command wants of what it touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Goal {
    /// Up.
    Up,
    /// Nothing of it is left.
    Down,
    /// As its plan says, action by action.
    AsPlanned,
}

/// What one instance is to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Up; the first failed attempt ends the wait, since an operator is looking.
    Up,
    /// Up, with the others of an `up`; what is tried again soon may still come.
    UpTogether,
    /// Nothing of it is left.
    Down,
}

/// How far one instance is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// As wanted.
    Done,
    /// On its way. Time alone may make it done, after this long.
    Going(Option<Duration>),
    /// It did not get there, because.
    Failed(String),
}

/// A service without a readiness check counts as up when it has been alive this long (`keepwell_core::spec::UP_AFTER`).
const UP_AFTER: Duration = Duration::from_secs(1);
/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(20);

impl Goal {
    /// What the instances of a plan are to become.
    pub(crate) fn of(self, actions: &[Action]) -> BTreeMap<String, Wanted> {
        let wanted = |a: &Action| match (self, a.action.as_str()) {
            (_, "start" | "restart" | "new") => Some(Wanted::Up),
            (_, "stop") => Some(Wanted::Down),
            (Goal::Up, "nothing") => Some(Wanted::Up),
            (Goal::Down, "nothing") => Some(Wanted::Down),
            _ => None,
        };
        actions.iter().filter_map(|a| Some((a.service.clone(), wanted(a)?))).collect()
    }
}

/// How far `s` is on the way to what is wanted.
pub(crate) fn progress(s: &Status, wanted: Wanted, all: &[Status], clock: &Clock) -> Progress {
    match wanted {
        Wanted::Down => down(s),
        Wanted::Up | Wanted::UpTogether => up(s, wanted, all, clock),
    }
}

fn down(s: &Status) -> Progress {
    match s.state.as_str() {
        "stopping" => Progress::Going(None),
        "stopped" | "completed" | "gave_up" => Progress::Done,
        _ if s.desired_up => Progress::Failed("it was started again meanwhile".into()),
        _ if s.pid.is_some() => Progress::Going(None),
        _ => Progress::Done,
    }
}

fn up(s: &Status, wanted: Wanted, all: &[Status], clock: &Clock) -> Progress {
    let because = || if s.reason.is_empty() { s.state.replace('_', " ") } else { s.reason.clone() };
    match s.state.as_str() {
        "ready" | "completed" | "degraded" => Progress::Done,
        "running" if s.kind == "oneshot" => Progress::Going(None),
        "running" => {
            let alive = s.since.as_deref().and_then(|at| clock.ago(at)).unwrap_or(UP_AFTER);
            match UP_AFTER.checked_sub(alive) {
                None | Some(Duration::ZERO) => Progress::Done,
                left => Progress::Going(left),
            }
        }
        "backing_off" if wanted == Wanted::UpTogether => Progress::Going(None),
        "backing_off" | "crash_looping" => {
            let next = s.next_attempt.as_deref().and_then(|at| clock.due(at));
            let next = next.map(|n| format!("; next attempt {n}")).unwrap_or_default();
            Progress::Failed(format!("{}{next}", because()))
        }
        "gave_up" => Progress::Failed(because()),
        "paused" => Progress::Failed(format!("it is held; keepwell resume {} lets it go on", s.id())),
        "stopped" if !s.desired_up => Progress::Failed("it was stopped meanwhile".into()),
        "waiting" => match hopeless(s, all) {
            Some(why) => Progress::Failed(why),
            None => Progress::Going(None),
        },
        _ => Progress::Going(None),
    }
}

/// Why a waiting service will not start soon: something it waits for does not come by itself, or only slowly.
fn hopeless(s: &Status, all: &[Status]) -> Option<String> {
    let stuck = |o: &Status| match o.state.as_str() {
        "crash_looping" | "gave_up" | "paused" => true,
        "stopped" => !o.desired_up || !o.enabled,
        // The configuration has no cycles, so this ends.
        "waiting" => o.id() != s.id() && hopeless(o, all).is_some(),
        _ => false,
    };
    let named = |o: &Status, name: &str| o.name == name || o.id() == name;
    let culprit = s.blockers.iter().find(|b| all.iter().any(|o| named(o, &b.service) && stuck(o)))?;
    Some(format!("it waits: {}", culprit.text))
}

/// How a wait is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Telling {
    /// Only failures.
    pub(crate) quiet: bool,
    /// One object a line.
    pub(crate) json: bool,
}

/// One wait.
#[derive(Debug)]
pub(crate) struct Wait {
    /// What the operator asked, for words.
    pub(crate) verb: String,
    /// Which instances, and what they are to become.
    pub(crate) goals: BTreeMap<String, Wanted>,
    /// Which events are the consequences.
    pub(crate) from: EventQuery,
    /// Give up the wait after this long.
    pub(crate) timeout: Option<Duration>,
    /// What is shown on the way.
    pub(crate) telling: Telling,
}

/// The last state of each that was shown, and its text.
type Shown = BTreeMap<String, (String, String)>;

/// What a look at all of them says.
#[derive(PartialEq, Eq, Debug)]
enum Sum {
    Done,
    /// `missing`: all that are not as wanted, with those that will not get there.
    Going {
        left: Vec<String>,
        missing: Vec<String>,
        recheck: Option<Duration>,
    },
    Failed(Vec<(String, String)>),
}

impl Wait {
    /// Prints every change on the way.
    ///
    /// # Errors
    /// What did not get there and why; that the time is over; that the guardian has ended.
    pub(crate) async fn until_done(self, guardian: &Guardian, lines: &mut Lines) -> Result<i32> {
        if self.goals.is_empty() {
            return Ok(exit::DONE);
        }
        let deadline = self.timeout.map(|t| Instant::now() + t);
        let interrupt = Interrupt::listen()?;
        let mut events = guardian.follow_events(self.from.clone()).await?;
        let mut shown = Shown::default();
        loop {
            let Ok(all) = guardian.services(&[]).await else {
                // What it still says, it said before it went.
                self.show_news(&mut events, lines, &mut shown, GATHER).await?;
                return Err(self.left_alone(&shown));
            };
            let (left, missing, recheck) = match self.sum(&all, &Clock::real()) {
                Sum::Going { left, missing, recheck } => (left, missing, recheck),
                end => {
                    self.show_news(&mut events, lines, &mut shown, GATHER).await?;
                    self.show_rest(&all, lines, &shown)?;
                    return self.ended(end);
                }
            };
            tokio::select! {
                news = events.next() => match news? {
                    Some(event) => {
                        self.show(&event, lines, &mut shown)?;
                        self.show_news(&mut events, lines, &mut shown, GATHER).await?;
                    }
                    None => return Err(self.left_alone(&shown)),
                },
                () = pause(recheck) => {}
                () = until(deadline) => return Err(self.too_late(&missing)),
                () = interrupt.happened() => {
                    talk(&self.goes_on(&left));
                    return Err(Failure::silent(INTERRUPTED));
                }
            }
        }
    }

    fn sum(&self, all: &[Status], clock: &Clock) -> Sum {
        let (mut left, mut missing, mut failed, mut recheck) = (vec![], vec![], vec![], None);
        for (id, wanted) in &self.goals {
            let Some(s) = all.iter().find(|s| s.id() == *id) else {
                // A reload or a smaller scale took it away, which is as down as can be.
                if *wanted != Wanted::Down {
                    missing.push(format!("{id} (removed)"));
                    failed.push((id.clone(), "it is no longer in the configuration".to_owned()));
                }
                continue;
            };
            let words = format!("{id} ({})", human::state_words(&s.state));
            match progress(s, *wanted, all, clock) {
                Progress::Done => {}
                Progress::Going(time) => {
                    left.push(words.clone());
                    missing.push(words);
                    recheck = match (recheck, time) {
                        (Some(a), Some(b)) => Some(Duration::min(a, b)),
                        (a, b) => a.or(b),
                    };
                }
                Progress::Failed(why) => {
                    missing.push(words);
                    failed.push((id.clone(), why));
                }
            }
        }
        // Whoever waits for several wants to hear of all: a failure ends the wait when nothing else is on its way.
        match (left.is_empty(), failed.is_empty()) {
            (false, _) => Sum::Going { left, missing, recheck },
            (true, true) => Sum::Done,
            (true, false) => Sum::Failed(failed),
        }
    }

    fn show(&self, event: &Event, lines: &mut Lines, shown: &mut Shown) -> Result<()> {
        let Some(service) = event.service.as_deref().filter(|s| self.goals.contains_key(*s)) else {
            return Ok(());
        };
        if let Some(state) = &event.state {
            shown.insert(service.to_owned(), (state.clone(), event.text.clone()));
        }
        match (self.telling, lines.progress(event)) {
            (Telling { json: true, .. }, _) => output::print(&json::line(&UpLine::Event(event))?),
            (Telling { quiet: true, .. }, _) | (_, None) => Ok(()),
            (_, Some(line)) => output::print(&line),
        }
    }

    /// Shows what is there or comes within a moment.
    async fn show_news(
        &self,
        events: &mut Follow<Events>,
        lines: &mut Lines,
        shown: &mut Shown,
        moment: Duration,
    ) -> Result<()> {
        let end = Instant::now() + moment;
        while let Ok(Some(event)) = timeout_at(end, events.next()).await.unwrap_or(Ok(None)) {
            self.show(&event, lines, shown)?;
        }
        Ok(())
    }

    /// Shows the state of those that had no change to show: they were as wanted already.
    fn show_rest(&self, all: &[Status], lines: &mut Lines, shown: &Shown) -> Result<()> {
        if self.telling != Telling::default() {
            return Ok(());
        }
        for s in all.iter().filter(|s| self.goals.contains_key(&s.id())) {
            if shown.get(&s.id()).is_none_or(|(state, _)| *state != s.state) {
                output::print(&lines.state(&s.id(), &s.state, None, &s.reason))?;
            }
        }
        Ok(())
    }

    fn ended(&self, end: Sum) -> Result<i32> {
        let Sum::Failed(failed) = end else {
            return Ok(exit::DONE);
        };
        let text: Vec<String> =
            failed.iter().map(|(id, why)| format!("{id} {}: {why}", self.missed(id))).collect();
        let first = failed.first().map(|(id, _)| id.as_str()).unwrap_or_default();
        Err(Failure::failed(first_few(&text, "\n       ")).hint(format!("keepwell explain {first}")))
    }

    /// The guardian has ended; what its last events said of those that should be up.
    fn left_alone(&self, shown: &Shown) -> Failure {
        let up = self.goals.iter().filter(|(_, wanted)| **wanted != Wanted::Down);
        let missing = up.filter_map(|(id, _)| match shown.get(id) {
            Some((state, _)) if ["ready", "degraded", "completed", "running"].contains(&state.as_str()) => {
                None
            }
            Some((_, text)) => Some(text.clone()),
            None => Some(format!("{id} never came up")),
        });
        let missing: Vec<String> = missing.collect();
        let ended = "keepwell has ended meanwhile";
        if missing.is_empty() {
            return Failure::not_running(ended);
        }
        Failure::not_running(format!("{ended}: {}", first_few(&missing, "\n       ")))
    }

    fn missed(&self, id: &str) -> &'static str {
        match self.goals.get(id) {
            Some(Wanted::Down) => "did not stay down",
            _ => "is not up",
        }
    }

    fn too_late(&self, missing: &[String]) -> Failure {
        let after = self.timeout.map(rough).unwrap_or_default();
        Failure::timed_out(format!("after {after} this is not done: {}", first_few(missing, ", ")))
            .hint("it goes on in the background; keepwell status shows how it goes")
    }

    fn goes_on(&self, left: &[String]) -> String {
        format!(
            "\n{} goes on in the background: {}; keepwell status shows how it goes",
            self.verb,
            first_few(left, ", ")
        )
    }
}

/// 128 + SIGINT, as shells have it.
pub(crate) const INTERRUPTED: i32 = 130;

async fn pause(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// As many as a person reads, and how many more there are.
fn first_few(texts: &[String], separator: &str) -> String {
    const READ: usize = 10;
    let mut few = texts.iter().take(READ).cloned().collect::<Vec<_>>().join(separator);
    if let Some(more) = texts.len().checked_sub(READ).filter(|more| *more > 0) {
        few.push_str(&format!("{separator}and {more} more"));
    }
    few
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepwell_sdk::wire::Blocker;

    const NOW: &str = "2026-01-31T14:00:00Z";

    fn status(name: &str, state: &str) -> Status {
        Status {
            name: name.into(),
            instance: 1,
            state: state.into(),
            reason: "exit code 3 after 0.2 s".into(),
            desired_up: true,
            enabled: true,
            kind: "service".into(),
            ..Status::default()
        }
    }

    fn one(s: &Status, wanted: Wanted) -> Progress {
        progress(s, wanted, std::slice::from_ref(s), &Clock::fixed(NOW))
    }

    #[test]
    fn up_is_ready_or_alive_for_a_second() {
        assert_eq!(one(&status("a", "ready"), Wanted::Up), Progress::Done);
        assert_eq!(one(&status("a", "starting"), Wanted::Up), Progress::Going(None));
        let running = |since: &str, kind: &str| Status {
            since: Some(since.into()),
            kind: kind.into(),
            ..status("a", "running")
        };
        let left = Progress::Going(Some(Duration::from_millis(750)));
        assert_eq!(one(&running("2026-01-31T13:59:59.75Z", "service"), Wanted::Up), left);
        assert_eq!(one(&running("2026-01-31T13:59:58Z", "service"), Wanted::Up), Progress::Done);
        assert_eq!(one(&running("2026-01-31T13:59:58Z", "oneshot"), Wanted::Up), Progress::Going(None));
    }

    #[test]
    fn a_failed_attempt_ends_the_wait() {
        let s = Status { next_attempt: Some("2026-01-31T14:00:02Z".into()), ..status("a", "backing_off") };
        let why = "exit code 3 after 0.2 s; next attempt in 2 s".to_owned();
        assert_eq!(one(&s, Wanted::Up), Progress::Failed(why));
        // An `up` has time: flaky programs come in the end.
        assert_eq!(one(&s, Wanted::UpTogether), Progress::Going(None));
        for wanted in [Wanted::Up, Wanted::UpTogether] {
            assert!(matches!(one(&status("a", "crash_looping"), wanted), Progress::Failed(_)));
        }
    }

    #[test]
    fn a_held_instance_is_resumed_by_its_own_name() {
        let held = Status { instance: 2, ..status("a", "paused") };
        let why = "it is held; keepwell resume a@2 lets it go on".to_owned();
        assert_eq!(one(&held, Wanted::Up), Progress::Failed(why));
    }

    #[test]
    fn what_waits_for_the_next_attempt_of_another_is_on_its_way() {
        let blockers = vec![Blocker { service: "a".into(), text: "a is backing off".into() }];
        let all = [Status { blockers, ..status("b", "waiting") }, status("a", "backing_off")];
        for wanted in [Wanted::Up, Wanted::UpTogether] {
            assert_eq!(progress(&all[0], wanted, &all, &Clock::fixed(NOW)), Progress::Going(None));
        }
    }

    #[test]
    fn waiting_for_the_hopeless_is_hopeless() {
        let waits = |name: &str, on: &str| Status {
            blockers: vec![Blocker { service: on.into(), text: format!("{on} is not ready") }],
            ..status(name, "waiting")
        };
        let chain = [waits("c", "b"), waits("b", "a"), status("a", "crash_looping")];
        let clock = Clock::fixed(NOW);
        let look = |s| progress(s, Wanted::Up, &chain, &clock);
        assert_eq!(look(&chain[0]), Progress::Failed("it waits: b is not ready".into()));
        let chain = [waits("c", "b"), waits("b", "a"), status("a", "starting")];
        assert_eq!(progress(&chain[0], Wanted::Up, &chain, &clock), Progress::Going(None));
    }

    #[test]
    fn down_is_when_nothing_is_left() {
        let down = |state: &str, pid| Status { desired_up: false, pid, ..status("a", state) };
        assert_eq!(one(&down("stopping", Some(7)), Wanted::Down), Progress::Going(None));
        assert_eq!(one(&down("stopped", None), Wanted::Down), Progress::Done);
        assert_eq!(one(&down("paused", Some(7)), Wanted::Down), Progress::Going(None));
        assert!(matches!(one(&status("a", "ready"), Wanted::Down), Progress::Failed(_)));
    }

    fn wait(goals: &[(&str, Wanted)]) -> Wait {
        let goals = goals.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect();
        Wait {
            verb: "start".into(),
            goals,
            from: EventQuery::default(),
            timeout: Some(Duration::from_secs(5)),
            telling: Telling::default(),
        }
    }

    #[test]
    fn all_are_heard_before_the_wait_ends() {
        let wait = wait(&[("a", Wanted::Up), ("b", Wanted::Up), ("gone", Wanted::Down)]);
        let clock = Clock::fixed(NOW);
        let all = [status("a", "gave_up"), status("b", "starting")];
        let missing = vec!["a (gave up)".to_owned(), "b (starting)".to_owned()];
        let going = Sum::Going { left: vec!["b (starting)".into()], missing: missing.clone(), recheck: None };
        assert_eq!(wait.sum(&all, &clock), going);
        let late = wait.too_late(&missing);
        assert_eq!(late.text, "after 5 s this is not done: a (gave up), b (starting)");
        assert_eq!(late.code, exit::TIMED_OUT);
        let all = [status("a", "gave_up"), status("b", "ready")];
        let failed = wait.ended(wait.sum(&all, &clock)).unwrap_err();
        assert_eq!(failed.text, "a is not up: exit code 3 after 0.2 s");
        assert_eq!((failed.code, failed.hint.as_deref()), (exit::FAILED, Some("keepwell explain a")));
    }

    #[test]
    fn a_thousand_that_are_late_are_counted() {
        let wait = wait(&[("a", Wanted::Up)]);
        let missing: Vec<String> = (0..12).map(|n| format!("s{n} (starting)")).collect();
        let text = wait.too_late(&missing).text;
        assert!(text.ends_with("s9 (starting), and 2 more"), "{text}");
        assert!(wait.too_late(&missing[..10]).text.ends_with("s9 (starting)"));
    }

    #[test]
    fn a_guardian_that_ends_leaves_names_behind() {
        let wait =
            wait(&[("a", Wanted::Up), ("b", Wanted::Up), ("c", Wanted::UpTogether), ("d", Wanted::Down)]);
        let heard = |id: &str, state: &str, text: &str| (id.to_owned(), (state.to_owned(), text.to_owned()));
        let mut shown = Shown::from([
            heard("a", "gave_up", "a has given up: exit code 7 after 0.2 s"),
            heard("b", "completed", "b completed"),
        ]);
        let failure = wait.left_alone(&shown);
        let named =
            "keepwell has ended meanwhile: a has given up: exit code 7 after 0.2 s\n       c never came up";
        assert_eq!((failure.code, failure.text.as_str()), (exit::NOT_RUNNING, named));
        shown.extend([heard("a", "ready", "a is ready"), heard("c", "running", "c is running")]);
        assert_eq!(wait.left_alone(&shown).text, "keepwell has ended meanwhile");
    }

    #[test]
    fn a_plan_becomes_goals() {
        let action = |service: &str, action: &str| Action {
            service: service.into(),
            action: action.into(),
            why: String::new(),
        };
        let plan = [action("a", "start"), action("b", "stop"), action("c", "nothing"), action("d", "update")];
        let goals: Vec<_> = Goal::Up.of(&plan).into_iter().collect();
        assert_eq!(goals, [("a".into(), Wanted::Up), ("b".into(), Wanted::Down), ("c".into(), Wanted::Up)]);
        assert_eq!(Goal::AsPlanned.of(&plan).len(), 2);
    }
}
