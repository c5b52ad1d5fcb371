//! The anchor under a service manager, on a host that is not there: what it is told, and when, and that a manager without
//! patience is told nothing that is not so.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a failure is a failed test")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use keepwell_anchor::protocol::*;
use keepwell_anchor::{Control, Loudness, Manager, Options, RunningWhen, Standing};
use keepwell_core::{HostEvent, Mono};
use keepwell_os::fake::World;
use keepwell_os::stop;
use keepwell_os::wait::Waker;

#[expect(dead_code, reason = "another test uses the rest")]
mod common;

use common::{Daemon, SECOND, options, run_with, seq};

/// What a manager has heard, and what it is about to ask.
#[derive(Default)]
struct Desk {
    told: Vec<Standing>,
    notes: Vec<(Loudness, String)>,
    asks: VecDeque<Control>,
    waker: Option<Waker>,
}

#[derive(Clone, Default)]
struct Played(Rc<RefCell<Desk>>);

impl Played {
    fn ask(&self, control: Control) {
        self.0.borrow_mut().asks.push_back(control);
        self.0.borrow().waker.as_ref().unwrap().wake();
    }

    /// What it was told since this was last asked.
    fn told(&self) -> Vec<Standing> {
        std::mem::take(&mut self.0.borrow_mut().told)
    }
}

impl Manager for Played {
    fn attach(&mut self, waker: Waker) {
        self.0.borrow_mut().waker = Some(waker);
    }

    fn take(&mut self) -> Option<Control> {
        self.0.borrow_mut().asks.pop_front()
    }

    fn tell(&mut self, standing: Standing, within: Duration) {
        assert!(within >= 20 * SECOND && within <= 60 * SECOND, "{within:?}");
        self.0.borrow_mut().told.push(standing);
    }

    fn note(&mut self, loudness: Loudness, text: &str) {
        self.0.borrow_mut().notes.push((loudness, text.to_owned()));
    }
}

/// The daemon, when it has been born and has nothing unanswered, and what it was told besides.
#[derive(Default)]
struct Stage {
    daemon: Option<Daemon>,
    heard: Vec<Report>,
    /// Number of the next step of a story.
    step: u32,
    since: Mono,
    finished: bool,
}

impl Stage {
    /// True when something had to be answered first.
    fn attends(&mut self, world: &mut World) -> bool {
        if let Some(mut born) = Daemon::born(world) {
            born.hello();
            self.daemon = Some(born);
            return true;
        }
        let reports = self.daemon.as_mut().map(Daemon::hear).unwrap_or_default();
        let Some(last) = reports.iter().filter_map(seq).max() else {
            self.heard.extend(reports);
            return false;
        };
        self.heard.extend(reports);
        self.say(&Request::Ack(last));
        true
    }

    fn say(&mut self, request: &Request) {
        self.daemon.as_mut().unwrap().say(request);
    }

    fn next(&mut self, world: &World) -> bool {
        (self.step, self.since) = (self.step + 1, world.now);
        true
    }

    /// The last word; then nothing but time goes by.
    fn finish(&mut self) -> bool {
        if std::mem::replace(&mut self.finished, true) {
            return false;
        }
        self.say(&Request::Finish(Finish { code: 7, text: String::new() }));
        true
    }
}

fn stops(heard: &[Report]) -> Vec<(String, bool)> {
    let stop = |r: &Report| match r {
        Report::StopRequested(r) => Some((r.why.clone(), r.urgent)),
        _ => None,
    };
    heard.iter().filter_map(stop).collect()
}

/// Plays a story under a manager.
fn play(
    options: Options,
    mut story: impl FnMut(&mut Stage, &Played, &mut World) -> bool + 'static,
) -> (i32, Played) {
    let manager = Played::default();
    let (seen, mut stage) = (manager.clone(), Stage::default());
    let script = move |world: &mut World| stage.attends(world) || story(&mut stage, &seen, world);
    let (code, ..) = run_with(options, Some(Box::new(manager.clone())), script);
    (code, manager)
}

fn up() -> Request {
    Request::Up("1 services".into())
}

fn progress(left: u32, until: Mono) -> Request {
    Request::Progress(Progress { left, until: until.0, ..Progress::default() })
}

fn going(left: u32, until: Mono) -> Request {
    Request::Progress(Progress { stopping: true, left, until: until.0, ..Progress::default() })
}

#[test]
fn a_stop_is_told_as_long_as_it_goes_on_and_asked_twice_it_is_no_more_urgent() {
    use Standing::{Running, Starting, Stopping};
    let (code, _) = play(options(), |stage, manager, world| match stage.step {
        0 => {
            stage.say(&up());
            stage.next(world)
        }
        1 => {
            assert_eq!(manager.told(), [Starting, Running]);
            assert!(world.manager.contains(&"READY=1".to_owned()), "{:?}", world.manager);
            manager.ask(Control::Stop("the service control manager".into()));
            stage.next(world)
        }
        2 => {
            assert_eq!(stops(&stage.heard), [("the service control manager".to_owned(), false)]);
            assert_eq!(manager.told(), [Stopping]);
            manager.ask(Control::Stop("the system shuts down".into()));
            world.stop(stop::TERM);
            stage.say(&going(2, world.now + 60 * SECOND));
            stage.next(world)
        }
        // A minute goes by; a step is made after half of it.
        3 if world.now.since(stage.since) < 30 * SECOND => false,
        3 => {
            assert_eq!(stops(&stage.heard).len(), 1, "{:?}", stage.heard);
            let told = manager.told();
            assert!((3..=5).contains(&told.len()) && told.iter().all(|s| *s == Stopping), "{told:?}");
            stage.say(&going(1, world.now + 10 * SECOND));
            stage.next(world)
        }
        4 if world.now.since(stage.since) < SECOND => false,
        4 => {
            let told = manager.told();
            assert!((1..=2).contains(&told.len()) && told[0] == Stopping, "a step is told at once: {told:?}");
            stage.next(world)
        }
        _ => stage.finish(),
    });
    assert_eq!(code, 7);
}

#[test]
fn a_stop_that_makes_no_progress_is_not_praised() {
    let mut asked = Mono(0);
    let (code, _) = play(options(), move |stage, manager, world| match stage.step {
        0 => {
            stage.say(&up());
            stage.next(world)
        }
        1 => {
            manager.ask(Control::Stop("somebody".into()));
            asked = world.now;
            stage.next(world)
        }
        2 => {
            stage.say(&going(1, world.now + 10 * SECOND));
            // Something wakes the anchor now and then.
            stage.next(world)
        }
        3..100 => {
            world.now = world.now + 2 * SECOND;
            manager.0.borrow().waker.as_ref().unwrap().wake();
            stage.next(world)
        }
        100 => {
            let told = manager.told();
            assert!(world.now.since(asked) > 180 * SECOND);
            assert!((3..=6).contains(&told.len()), "{told:?}");
            stage.next(world)
        }
        _ => stage.finish(),
    });
    assert_eq!(code, 7);
}

#[test]
fn who_has_dependents_runs_when_all_is_ready() {
    let ready = Options { running_when: RunningWhen::Ready, ..options() };
    let (_, manager) = play(ready, |stage, manager, world| match stage.step {
        0 => {
            stage.say(&up());
            stage.say(&progress(2, world.now + 120 * SECOND));
            stage.next(world)
        }
        1 if world.now.since(stage.since) < 100 * SECOND => false,
        1 => {
            let told = manager.told();
            assert!(told.len() >= 10 && told.iter().all(|s| *s == Standing::Starting), "{told:?}");
            assert!(!world.manager.contains(&"READY=1".to_owned()));
            stage.say(&progress(0, Mono(0)));
            stage.next(world)
        }
        2 => {
            assert_eq!(manager.told(), [Standing::Running]);
            assert!(world.manager.contains(&"READY=1".to_owned()));
            stage.next(world)
        }
        _ => stage.finish(),
    });
    assert_eq!(manager.0.borrow().notes, []);
}

#[test]
fn what_will_not_become_ready_can_still_be_stopped() {
    let ready = Options { running_when: RunningWhen::Ready, ..options() };
    let (_, manager) = play(ready, |stage, manager, world| match stage.step {
        0 => {
            stage.say(&up());
            stage.say(&progress(1, Mono(0)));
            stage.next(world)
        }
        1 if !manager.0.borrow().told.contains(&Standing::Running) => {
            assert!(world.now.since(stage.since) < 120 * SECOND);
            false
        }
        1 => {
            assert!(world.now.since(stage.since) > 55 * SECOND);
            let starting = manager.told().len() - 1;
            assert!(starting <= 4, "{starting}");
            stage.next(world)
        }
        _ => stage.finish(),
    });
    let notes = manager.0.borrow().notes.clone();
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].0 == Loudness::Warning && notes[0].1.starts_with("1 services are still not ready"),
        "{notes:?}"
    );
}

#[test]
fn a_pause_is_told_when_the_daemon_has_taken_it() {
    use Standing::{Continuing, Paused, Pausing, Running, Starting};
    play(options(), |stage, manager, world| match stage.step {
        0 => {
            stage.say(&up());
            stage.next(world)
        }
        1 => {
            manager.ask(Control::Pause);
            stage.next(world)
        }
        2 => {
            assert!(stage.heard.iter().any(|r| matches!(r, Report::Asked(a) if a.what == Asked::PAUSE)));
            assert_eq!(manager.told(), [Starting, Running, Pausing, Paused]);
            manager.ask(Control::Continue);
            stage.next(world)
        }
        3 => {
            assert_eq!(manager.told(), [Continuing, Running]);
            manager.ask(Control::Reload);
            manager.ask(Control::News(HostEvent::Resume));
            stage.next(world)
        }
        4 => {
            let asked: Vec<_> = stage
                .heard
                .iter()
                .filter_map(|r| match r {
                    Report::Asked(a) => Some((a.what, a.text.as_str())),
                    _ => None,
                })
                .collect();
            assert_eq!(
                asked,
                [(Asked::PAUSE, ""), (Asked::CONTINUE, ""), (Asked::RELOAD, ""), (Asked::NEWS, "resume")]
            );
            assert_eq!(manager.told(), []);
            stage.next(world)
        }
        _ => stage.finish(),
    });
}

#[test]
fn with_no_daemon_the_manager_is_answered_all_the_same() {
    let (code, manager) = play(options(), |stage, manager, world| match stage.step {
        0 => {
            let daemon = stage.daemon.as_mut().unwrap();
            daemon.open_slot(1);
            daemon.spawn(1, 1, 0, "fake:stubborn");
            stage.say(&up());
            stage.next(world)
        }
        1 => {
            world.refuse_helpers = true;
            world.exit(stage.daemon.take().unwrap().pid, 1);
            stage.next(world)
        }
        2 if world.now.since(stage.since) < 5 * SECOND => false,
        2 => {
            manager.told();
            manager.ask(Control::Stop("somebody".into()));
            stage.next(world)
        }
        _ => false,
    });
    assert_eq!(code, 0, "a stop that was asked for is no failure");
    let desk = manager.0.borrow();
    assert!(desk.told.len() >= 2 && desk.told.iter().all(|s| *s == Standing::Stopping), "{:?}", desk.told);
    assert!(desk.notes.iter().any(|(_, text)| text.starts_with("the daemon ended")), "{:?}", desk.notes);
}

#[test]
fn systemd_hears_that_the_loop_turns() {
    let mut watched = options();
    watched.timing.watchdog = Some(20 * SECOND);
    let mut stage = Stage::default();
    let script = move |world: &mut World| {
        if stage.attends(world) {
            return true;
        }
        match stage.step {
            0 => {
                stage.say(&up());
                stage.next(world)
            }
            1 if world.now.since(stage.since) < 100 * SECOND => false,
            1 => {
                let signs = world.manager.iter().filter(|w| *w == "WATCHDOG=1").count();
                assert!((10..=12).contains(&signs), "{signs}");
                assert!(world.manager.contains(&"STATUS=1 services".to_owned()), "{:?}", world.manager);
                world.stop(stop::TERM);
                stage.next(world)
            }
            2 => {
                let told = |word: &str| world.manager.iter().filter(|w| w.starts_with(word)).count();
                assert_eq!(
                    (told("READY=1"), told("STOPPING=1"), told("EXTEND_TIMEOUT_USEC=30000000")),
                    (1, 1, 2)
                );
                stage.next(world)
            }
            _ => stage.finish(),
        }
    };
    let (code, ..) = run_with(watched, None, script);
    assert_eq!(code, 7);
}
