//! Services under the service control manager in memory: what they are told, what they tell, and that a broken rule shows.

#![expect(clippy::unwrap_used, reason = "a test fails by them")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use keepwell_service::testing::{Instance, Scm};
use keepwell_service::{
    Accept, Answer, Cause, Control, Error, Event, Exit, Failure, Power, Progress, Runner, Running,
    SessionChange, SessionReason, Shutdown, StartReason, Starting, State, Status, UserCode, code,
};

const SOON: Duration = Duration::from_secs(5);

fn waits_for_its_stop(starting: Starting) -> Result<(), Failure> {
    let _ = starting.running(Accept::STOP_AND_SHUTDOWN).stop_token().wait();
    Ok(())
}

fn states(instance: &Instance) -> Vec<State> {
    instance.statuses().iter().map(Status::state).collect()
}

fn refused(answer: Result<Status, Error>) -> u32 {
    answer.unwrap_err().code().unwrap()
}

#[test]
fn a_service_starts_runs_and_stops() {
    let started = Scm::new().start("ping", &[], waits_for_its_stop);
    assert_eq!(started.wait_for(State::Running), Status::Running(Accept::STOP_AND_SHUTDOWN));
    started.stop().unwrap();
    started.wait_for(State::Stopped);
    assert_eq!(states(&started), [State::StartPending, State::Running, State::StopPending, State::Stopped]);
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn a_service_is_told_its_name_its_arguments_and_why_it_was_started() {
    let (sender, told) = mpsc::channel();
    let reason = StartReason::RESTART_ON_FAILURE;
    let started = Scm::new().start_reason(reason).start("web", &["-v", "a b"], move |starting: Starting| {
        sender.send((starting.name().to_owned(), starting.arguments().to_vec(), starting.reason()))?;
        Ok(())
    });
    let arguments = vec!["-v".into(), "a b".into()];
    assert_eq!(told.recv().unwrap(), ("web".into(), arguments, Some(reason)));
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn a_stop_has_a_cause_and_a_deadline_and_a_shutdown_leaves_less_time() {
    let cause_and_time = |scm: Scm, accept, shut_down: bool| {
        let (sender, told) = mpsc::channel();
        let runner = Runner::new("web").stop_within(Duration::from_secs(60));
        let started = scm.start_runner(runner, "web", &[], move |starting: Starting| {
            let stop = starting.running(accept).stop_token().wait();
            sender.send((stop.cause, stop.remaining().as_secs_f64()))?;
            Ok(())
        });
        started.wait_for(State::Running);
        let answer = if shut_down { started.shut_down() } else { started.stop() };
        answer.unwrap();
        let told = told.recv().unwrap();
        started.wait();
        told
    };
    let scm = Scm::new().time_to_end(Duration::from_secs(20));
    let (cause, left) = cause_and_time(scm.clone(), Accept::STOP, false);
    assert!(cause == Cause::Stop && left > 50.0 && left <= 60.0, "{cause:?}, {left}");
    let (cause, left) = cause_and_time(scm.clone(), Accept::STOP | Accept::SHUTDOWN, true);
    assert!(cause == Cause::Shutdown && left > 10.0 && left <= 18.0, "{cause:?}, {left}");
    let (cause, _) = cause_and_time(scm, Accept::SHUTDOWN | Accept::PRESHUTDOWN, true);
    assert_eq!(cause, Cause::Preshutdown);
}

#[test]
fn a_panic_is_error_1064_and_the_end_is_told_once() {
    let started = Scm::new().start("web", &[], |starting: Starting| {
        let _running = starting.running(Accept::STOP);
        panic!("a broken invariant");
    });
    started.wait_for(State::Stopped);
    assert_eq!(started.words(), ["web: panicked: a broken invariant"]);
    assert_eq!(states(&started), [State::StartPending, State::Running, State::Stopped]);
    assert_eq!(started.wait(), Exit::Win32(1064));
}

#[test]
fn a_failure_has_its_number_and_its_words() {
    let started = Scm::new().start("web", &[], |_: Starting| {
        std::fs::read("/no/such/file").map_err(|error| Failure::from(error).with(Exit::Specific(78)))?;
        Ok(())
    });
    started.wait_for(State::Stopped);
    let words = started.words();
    assert!(words.len() == 1 && words[0].starts_with("web: "), "{words:?}");
    assert_eq!(started.wait(), Exit::Specific(78));
}

#[test]
fn a_service_pauses_and_continues_and_a_stop_ends_its_pause() {
    fn run(mut running: Running) -> Result<(), Failure> {
        loop {
            match running.next() {
                Event::Pause => {
                    let pausing = running.pausing(SOON);
                    pausing.step(SOON);
                    let paused = pausing.paused();
                    match paused.next() {
                        Event::Continue => running = paused.continuing(SOON).running(),
                        Event::Stop(_) => return Ok(()),
                        other => return Err(Failure::new(format!("{other:?}"))),
                    }
                }
                Event::Stop(_) => return Ok(()),
                other => return Err(Failure::new(format!("{other:?}"))),
            }
        }
    }
    let accept = Accept::STOP | Accept::PAUSE_CONTINUE;
    let started = Scm::new().start("web", &[], move |starting: Starting| run(starting.running(accept)));
    started.wait_for(State::Running);
    started.control(Control::Continue).unwrap(); // in vain: it is not paused
    started.control(Control::Pause).unwrap();
    started.wait_for(State::Paused);
    started.control(Control::Continue).unwrap();
    started.wait_for(State::Running);
    started.control(Control::Pause).unwrap();
    started.wait_for(State::Paused);
    started.stop().unwrap();
    started.wait_for(State::Stopped);
    let seen = states(&started);
    assert_eq!(
        seen[1..7],
        [
            State::Running,
            State::PausePending,
            State::PausePending,
            State::Paused,
            State::ContinuePending,
            State::Running
        ]
    );
    let on_the_way: Vec<Accept> = started.statuses()[2..4].iter().map(Status::accepted).collect();
    assert_eq!(on_the_way, [Accept::STOP; 2]);
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn events_come_in_their_order_with_what_belongs_to_them_and_a_stop_overtakes_them() {
    let (sender, told) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let number = UserCode::new(200).unwrap();
    let accept = Accept::STOP
        | Accept::SESSION_CHANGE
        | Accept::POWER_EVENT
        | Accept::PARAM_CHANGE
        | Accept::user(number);
    let started = Scm::new().start("web", &[], move |starting: Starting| {
        let running = starting.running(accept);
        wait.recv()?;
        loop {
            match running.next() {
                Event::Stop(stop) => {
                    sender.send(format!("{:?}", stop.cause))?;
                    return Ok(());
                }
                event => sender.send(format!("{event:?}"))?,
            }
        }
    });
    started.wait_for(State::Running);
    let locked = SessionChange { reason: SessionReason::Lock, session: 2 };
    started.control(Control::Session(locked)).unwrap();
    started.control(Control::Power(Power::Suspend)).unwrap();
    started.control(Control::User(number)).unwrap();
    let other = UserCode::new(201).unwrap();
    assert_eq!(refused(started.control(Control::User(other))), code::NOT_IMPLEMENTED);
    go.send(()).unwrap();
    let lines: Vec<String> = told.iter().take(3).collect();
    assert_eq!(lines[0], "Session(SessionChange { reason: Lock, session: 2 })");
    assert_eq!(lines[1..], ["Power(Suspend)", "User(UserCode(200))"]);
    started.control(Control::ParamChange).unwrap();
    assert!(told.recv().unwrap().starts_with("Reload("));
    started.stop().unwrap();
    assert_eq!(told.recv().unwrap(), "Stop");
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn the_manager_sends_only_what_the_state_allows() {
    let (go, wait) = mpsc::channel::<()>();
    let (end, until) = mpsc::channel::<()>();
    let started = Scm::new().start("web", &[], move |starting: Starting| {
        wait.recv()?;
        let running = starting.running(Accept::STOP);
        let _ = running.stop_token().wait();
        until.recv()?;
        Ok(())
    });
    assert_eq!(refused(started.stop()), code::NOT_NOW, "it starts");
    go.send(()).unwrap();
    started.wait_for(State::Running);
    assert_eq!(refused(started.control(Control::Pause)), code::NOT_ACCEPTED);
    assert_eq!(refused(started.shut_down()), code::NOT_ACCEPTED);
    started.stop().unwrap();
    started.wait_for(State::StopPending);
    assert_eq!(refused(started.stop()), code::NOT_NOW, "it stops");
    end.send(()).unwrap();
    started.wait_for(State::Stopped);
    assert_eq!(refused(started.stop()), code::NOT_ACTIVE);
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn a_long_start_shows_its_progress_and_nothing_else_moves_the_checkpoint() {
    let (sender, late) = mpsc::channel::<Progress>();
    let started = Scm::new().start("web", &[], move |starting: Starting| {
        for _table in 0..3 {
            starting.step(Duration::from_secs(9));
        }
        sender.send(starting.progress())?;
        waits_for_its_stop(starting)
    });
    started.wait_for(State::Running);
    assert!(!late.recv().unwrap().step(SOON), "a start that is over has no progress");
    let checkpoints: Vec<u32> =
        started.statuses().iter().filter_map(Status::pending).map(|pending| pending.checkpoint).collect();
    assert_eq!(checkpoints, [0, 1, 2, 3]);
    started.stop().unwrap();
    started.wait();
}

#[test]
fn phases_of_the_end_move_the_checkpoint_and_one_that_hangs_is_named() {
    let (_keep, never) = mpsc::channel::<()>();
    let started = Scm::new().start("web", &[], move |starting: Starting| {
        let shutdown = Shutdown::new();
        shutdown.phase("stop the intake", 10, SOON, |_| Ok(()));
        shutdown.phase("in flight", 20, Duration::from_millis(20), move |_| {
            let _ = never.recv();
            Ok(())
        });
        shutdown.phase("close the database", 30, SOON, |_| Ok(()));
        let running = starting.running(Accept::STOP);
        while !matches!(running.next(), Event::Stop(_)) {}
        running.stopping().run(&shutdown).check()
    });
    started.wait_for(State::Running);
    started.stop().unwrap();
    started.wait_for(State::Stopped);
    let words = started.words();
    assert_eq!(words[0], "in flight hangs: it did not end within 20.0ms");
    let pending = |status: &Status| status.pending().filter(|_| status.state() == State::StopPending);
    let statuses = started.statuses();
    let hints: Vec<(u32, u64)> = statuses
        .iter()
        .filter_map(pending)
        .map(|pending| (pending.checkpoint, pending.wait_hint.as_millis().try_into().unwrap()))
        .collect();
    assert_eq!(hints, [(1, 30_000), (2, 5000), (3, 20), (4, 5000)]);
    assert_eq!(started.wait(), Exit::Specific(1));
}

#[test]
fn a_part_of_the_service_can_end_it() {
    let started = Scm::new().start("web", &[], |starting: Starting| {
        let running = starting.running(Accept::STOP);
        let handle = running.handle();
        std::thread::spawn(move || handle.stop());
        match running.next() {
            Event::Stop(stop) if stop.cause == Cause::Own => Ok(()),
            other => Err(Failure::new(format!("{other:?}"))),
        }
    });
    started.wait_for(State::Stopped);
    assert!(states(&started).contains(&State::StopPending));
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn a_wait_for_an_event_ends_in_its_time() {
    let started = Scm::new().start("web", &[], |starting: Starting| {
        let running = starting.running(Accept::STOP);
        let begun = Instant::now();
        assert!(running.next_for(Duration::from_millis(30)).is_none());
        assert!(begun.elapsed() >= Duration::from_millis(30));
        Ok(())
    });
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn events_and_the_stop_are_awaited_without_a_thread() {
    let (sender, told) = mpsc::channel();
    let started = Scm::new().start("web", &[], move |starting: Starting| {
        let running = starting.running(Accept::STOP | Accept::PARAM_CHANGE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(async {
            // One that is dropped before it is ready has taken nothing.
            let dropped = tokio::time::timeout(Duration::from_millis(5), running.event()).await;
            assert!(dropped.is_err());
            sender.send("waits".to_owned())?;
            let event = running.event().await;
            sender.send(format!("{event:?}"))?;
            let stop = tokio::spawn(running.stop_token()).await?;
            assert!(matches!(running.event().await, Event::Stop(same) if same == stop));
            Ok(())
        })
    });
    assert_eq!(told.recv().unwrap(), "waits");
    started.control(Control::ParamChange).unwrap();
    assert!(told.recv().unwrap().starts_with("Reload("));
    started.stop().unwrap();
    assert_eq!(started.wait(), Exit::Success);
}

#[test]
fn a_program_with_a_loop_of_its_own_takes_the_lower_entry() {
    let (sender, controls) = mpsc::sync_channel(4);
    let handler = move |control| match sender.try_send(control) {
        Ok(()) => Answer::Taken,
        Err(_) => Answer::Refused(code::BUSY),
    };
    let started = Scm::new().dispatch("guardian", &["-x"], handler, move |service| {
        assert_eq!((service.name.to_str(), service.arguments.len()), (Some("guardian"), 1));
        service.status.starting(SOON).unwrap();
        service.status.running(Accept::STOP | Accept::PARAM_CHANGE).unwrap();
        while controls.recv().unwrap() != Control::Stop {}
        service.status.stopping(SOON).unwrap();
        service.status.stopping(SOON).unwrap();
        assert!(matches!(
            service.status.running(Accept::STOP),
            Err(Error::Transition { from: State::StopPending, to: State::Running })
        ));
        Exit::Specific(3)
    });
    started.wait_for(State::Running);
    started.control(Control::ParamChange).unwrap();
    started.stop().unwrap();
    assert_eq!(started.wait_for(State::Stopped), Status::Stopped(Exit::Specific(3)));
    assert_eq!(started.wait(), Exit::Specific(3));
}

/// The words with which a test of such a service fails.
fn broken(test: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(test).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn a_handler_that_does_the_work_itself_fails_the_test() {
    let text = broken(|| {
        let (_keep, never) = mpsc::channel::<()>();
        let never = std::sync::Mutex::new(never);
        let scm = Scm::new().handler_limit(Duration::from_millis(20));
        let (end, until) = mpsc::channel::<()>();
        let handler = move |_| {
            let _ = never.lock().unwrap().recv();
            Answer::Taken
        };
        let started = scm.dispatch("slow", &[], handler, move |service| {
            service.status.running(Accept::STOP).unwrap();
            let _ = until.recv();
            Exit::Success
        });
        started.wait_for(State::Running);
        assert_eq!(refused(started.stop()), code::NO_ANSWER);
        drop(end);
        started.wait();
    });
    assert_eq!(text, "the service: its control handler did not return within 20ms from Stop");
}

#[test]
fn a_start_that_hangs_fails_the_test() {
    let (_keep, never) = mpsc::channel::<()>();
    let never = std::panic::AssertUnwindSafe(never);
    let text = broken(move || {
        let scm = Scm::new().patience(Duration::ZERO);
        let started = scm.start("web", &[], move |starting: Starting| {
            let never = never;
            starting.step(Duration::from_millis(20));
            let _ = never.recv();
            Ok(())
        });
        started.wait_for(State::Running);
    });
    assert_eq!(text, "the service: it is starting and hangs: it has made no step in time");
}

#[test]
fn a_stop_that_never_ends_fails_the_test() {
    let (_keep, never) = mpsc::channel::<()>();
    let never = std::panic::AssertUnwindSafe(never);
    let text = broken(move || {
        let scm = Scm::new().wait_limit(Duration::from_millis(100));
        let started = scm.start("web", &[], move |starting: Starting| {
            let never = never;
            let _running = starting.running(Accept::STOP);
            let _ = never.recv();
            Ok(())
        });
        started.wait_for(State::Running);
        started.stop().unwrap();
        started.wait();
    });
    assert_eq!(text, "the service: 100ms were not enough until it has ended");
}

#[test]
fn a_test_that_leaves_its_service_running_fails() {
    let text = broken(|| {
        let started = Scm::new().start("web", &[], waits_for_its_stop);
        started.wait_for(State::Running);
    });
    assert_eq!(text, "the service: its test has ended, and it still runs");
}
