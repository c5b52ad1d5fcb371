//! The ladder of a stop: requests, commands and signals, what each may come to, and who hears the next one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::event::{EventKind, ExitStatus, SpawnError, SpawnErrorKind, State};
use keepwell_core::spec::{Asking, RestartPolicy, StopAction, StopStep, To};
use keepwell_core::supervisor::{Persisted, Snapshot};
use keepwell_core::{By, Command, Effect, Input, Mono, Now, RunId, ServiceSpec, Specs, Supervisor, Wall};

const MAIN: RunId = RunId(1);

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) }
}

fn step(action: StopAction, wait: u64) -> StopStep {
    StopStep { action, to: To::Main, wait: Duration::from_secs(wait) }
}

fn http(wait: u64) -> StopStep {
    step(StopAction::Http(Asking { id: 7, words: "HTTP POST http://127.0.0.1:1/stop".into() }), wait)
}

fn command(id: u64, wait: u64) -> StopStep {
    step(StopAction::Command(Asking { id, words: format!("command quit{id}").into() }), wait)
}

fn term(wait: u64) -> StopStep {
    step(StopAction::Signal(15), wait)
}

fn specs(stop: Vec<StopStep>) -> Specs {
    let restart = RestartPolicy { jitter: 0, ..RestartPolicy::default() };
    let web = ServiceSpec { stop, restart, ..ServiceSpec::default() };
    Specs { services: BTreeMap::from([(Arc::from("web"), web)]), ..Specs::default() }
}

/// What is done, in short, and what is told of the ladder.
fn seen(s: &mut Supervisor) -> Vec<String> {
    s.check_invariants();
    let mut all = Vec::new();
    while let Some(effect) = s.poll_effect() {
        all.push(match effect {
            Effect::AskToStop { run, step, id, timeout, .. } => {
                format!("{run} is asked: step {step}, {id}, {timeout:?}")
            }
            Effect::RunToStop { run, id, .. } => format!("{run} runs command {id}"),
            Effect::Signal { run, signal, to } => format!("{run} gets {signal} to {to:?}"),
            Effect::Kill { run } => format!("{run} is killed"),
            _ => continue,
        });
    }
    while let Some(event) = s.poll_event() {
        match event.kind {
            EventKind::StopStepTaken { step, action } => all.push(format!("{step}: {action}")),
            EventKind::StopStepFailed { step, reason } => all.push(format!("{step} failed: {reason}")),
            _ => {}
        }
    }
    all
}

/// Running for a while, and just asked to stop at 10 s.
fn stopping(stop: Vec<StopStep>) -> Supervisor {
    let mut s = Supervisor::new(specs(stop), Persisted::default(), 1, at(0));
    s.handle(at(1), Input::Spawned { run: MAIN, pid: 10 });
    seen(&mut s);
    let stop = Command::Stop { services: vec!["web".into()], with_dependents: false };
    s.command(at(10_000), &By("anna".into()), &stop).expect("it is there");
    s
}

fn exited(run: RunId, code: i32) -> Input {
    Input::Exited { run, status: ExitStatus::Code(code), tree_empty: true }
}

fn last_stop(s: &Supervisor, now: Now) -> Vec<String> {
    let id = s.resolve("web").expect("it is there").remove(0);
    let facts = s.explain(now, &id).expect("it is there").facts;
    facts.into_iter().filter(|(label, _)| label == "last stop" || label == "then").map(|f| f.1).collect()
}

fn state(s: &Supervisor, now: Now) -> State {
    s.status(now)[0].state
}

#[test]
fn a_request_that_works_leaves_the_program_its_time() {
    let mut s = stopping(vec![http(10), term(5)]);
    assert_eq!(seen(&mut s), ["run 1 is asked: step 1, 7, 10s", "1: HTTP POST http://127.0.0.1:1/stop"]);
    s.handle(at(10_200), Input::AskedToStop { run: MAIN, step: 1, outcome: Ok(()) });
    assert_eq!(seen(&mut s), Vec::<String>::new());
    s.handle(at(14_000), exited(MAIN, 0));
    assert_eq!(state(&s, at(14_000)), State::Stopped);
    assert_eq!(last_stop(&s, at(14_000)), ["HTTP POST http://127.0.0.1:1/stop: worked after 4 s, just now"]);
}

#[test]
fn a_request_that_is_refused_gives_way_to_the_next_step_at_once() {
    let mut s = stopping(vec![http(10), term(5)]);
    seen(&mut s);
    let outcome = Err("answered 500 Internal Server Error".to_owned());
    s.handle(at(10_200), Input::AskedToStop { run: MAIN, step: 1, outcome: outcome.clone() });
    assert_eq!(
        seen(&mut s),
        [
            "run 1 gets 15 to Main",
            "1 failed: answered 500 Internal Server Error",
            "2: SIGTERM to the main process"
        ]
    );
    s.handle(at(10_300), Input::AskedToStop { run: MAIN, step: 1, outcome });
    assert_eq!(seen(&mut s), Vec::<String>::new(), "an answer counts once");
    s.handle(at(11_200), exited(MAIN, 0));
    assert_eq!(
        last_stop(&s, at(11_200)),
        [
            "HTTP POST http://127.0.0.1:1/stop: failed: answered 500 Internal Server Error",
            "SIGTERM to the main process: worked after 1 s, just now"
        ]
    );
}

#[test]
fn a_request_without_an_answer_has_the_time_of_its_step_and_no_more() {
    let mut s = stopping(vec![http(10), term(5)]);
    seen(&mut s);
    s.handle(at(15_000), Input::ExtendTimeout { run: MAIN, by: Duration::from_secs(6) });
    s.handle_timeout(at(20_000));
    assert_eq!(seen(&mut s), Vec::<String>::new(), "the program asked for more");
    s.handle_timeout(at(21_000));
    assert_eq!(
        seen(&mut s),
        ["run 1 gets 15 to Main", "1 failed: no answer within 11 s", "2: SIGTERM to the main process"]
    );
    s.handle(at(21_100), Input::AskedToStop { run: MAIN, step: 1, outcome: Err("late".into()) });
    assert_eq!(seen(&mut s), Vec::<String>::new(), "its step is over");
}

#[test]
fn a_command_that_ends_well_leaves_the_program_its_time() {
    let mut s = stopping(vec![command(3, 10), term(5)]);
    assert_eq!(seen(&mut s), ["run 2 runs command 3", "1: command quit3"]);
    s.handle(at(10_010), Input::Spawned { run: RunId(2), pid: 11 });
    s.handle(at(10_100), exited(RunId(2), 0));
    s.handle_timeout(at(19_999));
    assert_eq!(seen(&mut s), Vec::<String>::new());
    s.handle_timeout(at(20_000));
    assert_eq!(seen(&mut s), ["run 1 gets 15 to Main", "2: SIGTERM to the main process"]);
    s.handle(at(20_100), exited(MAIN, 0));
    let told = last_stop(&s, at(20_100));
    assert_eq!(told[0], "command quit3: not enough in 10 s");
}

#[test]
fn a_command_that_fails_or_cannot_be_started_gives_way_at_once() {
    let ways = [
        (exited(RunId(2), 1), "exit code 1"),
        (
            Input::SpawnFailed {
                run: RunId(2),
                error: SpawnError { kind: SpawnErrorKind::Permanent, text: "no such program: quit".into() },
            },
            "no such program: quit",
        ),
    ];
    for (way, reason) in ways {
        let mut s = stopping(vec![command(3, 10), term(5)]);
        seen(&mut s);
        s.handle(at(10_100), way);
        let failed = format!("1 failed: {reason}");
        assert_eq!(seen(&mut s), ["run 1 gets 15 to Main", &failed, "2: SIGTERM to the main process"]);
    }
}

#[test]
fn a_command_that_hangs_is_ended_with_its_step_and_the_next_command_waits_for_that() {
    let mut s = stopping(vec![command(3, 10), command(4, 10)]);
    seen(&mut s);
    s.handle(at(10_010), Input::Spawned { run: RunId(2), pid: 11 });
    s.handle_timeout(at(20_000));
    assert_eq!(
        seen(&mut s),
        ["run 2 is killed", "1 failed: did not end within 10 s", "2: command quit4"],
        "there are never two at a time"
    );
    s.handle(at(20_030), exited(RunId(2), 137));
    assert_eq!(seen(&mut s), ["run 3 runs command 4"]);
    s.handle(at(20_100), exited(RunId(3), 0));
    s.handle(at(20_200), exited(MAIN, 0));
    assert_eq!(state(&s, at(20_200)), State::Stopped);
}

#[test]
fn a_command_that_still_runs_when_the_tree_is_empty_has_a_last_moment() {
    let mut s = stopping(vec![command(3, 60)]);
    seen(&mut s);
    s.handle(at(10_010), Input::Spawned { run: RunId(2), pid: 11 });
    s.handle(at(12_000), exited(MAIN, 0));
    assert_eq!(state(&s, at(12_000)), State::Stopping);
    s.handle_timeout(at(12_999));
    assert_eq!(seen(&mut s), Vec::<String>::new());
    s.handle_timeout(at(13_000));
    assert_eq!(seen(&mut s), ["run 2 is killed"]);
    s.handle(at(13_010), exited(RunId(2), 137));
    assert_eq!(seen(&mut s), Vec::<String>::new(), "nothing failed");
    assert_eq!(state(&s, at(13_010)), State::Stopped);
    assert_eq!(last_stop(&s, at(13_010)), ["command quit3: worked after 2 s, 1 s ago"]);
}

#[test]
fn the_deadline_over_all_ends_a_command_too() {
    let mut all = specs(vec![command(3, 60), term(60)]);
    all.services.get_mut("web").unwrap().stop_timeout = Some(Duration::from_secs(5));
    let mut s = Supervisor::new(all, Persisted::default(), 1, at(0));
    s.handle(at(1), Input::Spawned { run: MAIN, pid: 10 });
    let stop = Command::Stop { services: vec!["web".into()], with_dependents: false };
    s.command(at(10_000), &By("anna".into()), &stop).unwrap();
    seen(&mut s);
    s.handle_timeout(at(15_000));
    assert_eq!(
        seen(&mut s),
        [
            "run 2 is killed",
            "run 1 is killed",
            "1 failed: did not end within 5 s",
            "3: kill of the whole tree"
        ]
    );
}

#[test]
fn what_a_main_process_leaves_behind_after_a_request_hears_the_next_signal() {
    let mut s = stopping(vec![http(10), term(5), term(5)]);
    seen(&mut s);
    s.handle(at(10_100), Input::AskedToStop { run: MAIN, step: 1, outcome: Ok(()) });
    s.handle(at(11_000), Input::Exited { run: MAIN, status: ExitStatus::Code(0), tree_empty: false });
    assert_eq!(seen(&mut s), Vec::<String>::new(), "they may be on their way, too");
    s.handle_timeout(at(20_000));
    assert_eq!(seen(&mut s), ["run 1 gets 15 to Tree", "2: SIGTERM to the whole tree"]);
    s.handle_timeout(at(25_000));
    assert_eq!(seen(&mut s), ["run 1 is killed", "4: kill of the whole tree"], "a second time is no use");
}

/// The supervisor that a new daemon has after this one died.
fn reborn(s: &mut Supervisor, stop: Vec<StopStep>, now: Now, alive: &[RunId]) -> Supervisor {
    let (mut guardian, mut services) = (None, BTreeMap::new());
    while let Some(piece) = s.poll_snapshot() {
        match piece {
            Snapshot::Guardian(g) => guardian = Some(g),
            Snapshot::Service(id, piece) => drop(services.insert(id, piece)),
            Snapshot::Removed(id) => drop(services.remove(&id)),
        }
    }
    let mut new = Supervisor::restore(specs(stop), guardian.expect("it is there"), services, now);
    for run in alive {
        new.handle(now, Input::Adopted { run: *run, pid: 10 });
    }
    new.handle(now, Input::AdoptionDone);
    new
}

#[test]
fn a_new_daemon_sends_no_request_again_and_goes_on_with_the_ladder() {
    let ladder = || vec![http(10), term(5)];
    let mut s = stopping(ladder());
    let mut s = reborn(&mut s, ladder(), at(11_000), &[MAIN]);
    assert_eq!(seen(&mut s), Vec::<String>::new(), "the program may be on its way down");
    s.handle_timeout(at(20_000));
    assert_eq!(seen(&mut s), ["run 1 gets 15 to Main", "2: SIGTERM to the main process"]);
}

#[test]
fn a_new_daemon_keeps_a_command_that_runs_and_starts_one_that_was_never_started() {
    let ladder = || vec![command(3, 10), term(5)];
    let mut old = stopping(ladder());
    let mut s = reborn(&mut old, ladder(), at(11_000), &[MAIN, RunId(2)]);
    assert_eq!(seen(&mut s), Vec::<String>::new());
    s.handle(at(11_100), exited(RunId(2), 1));
    assert_eq!(seen(&mut s)[1], "1 failed: exit code 1");

    let mut old = stopping(ladder());
    let mut s = reborn(&mut old, ladder(), at(11_000), &[MAIN]);
    let again = seen(&mut s);
    assert!(again.len() == 1 && again[0].ends_with("runs command 3"), "{again:?}");
}
