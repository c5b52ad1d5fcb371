//! The anchor's loop on a host that is not there: hours pass in milliseconds, and the daemon dies wherever it hurts.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a failure is a failed test")]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use keepwell_anchor::protocol::*;
use keepwell_core::Mono;
use keepwell_os::stop;
use proptest::prelude::*;

mod common;

use common::{Daemon, SECOND, run, seq};

#[test]
fn a_daemon_is_told_what_is_in_a_tree_what_nobody_could_hear_and_what_ran_out_of_memory() {
    let (mut daemon, mut heard, mut step): (Option<Daemon>, Vec<Report>, _) = (None, Vec::new(), 0);
    let (code, ..) = run(move |world| {
        if let Some(mut born) = Daemon::born(world) {
            born.hello();
            born.open_slot(1);
            born.spawn(10, 1, 0, "fake:sleep");
            born.spawn(11, 1, 2, "fake:sleep");
            born.say(&Request::Measure(Measure { question: 7, slots: vec![1, 99] }));
            world.unreachable.insert(77);
            daemon = Some(born);
            return true;
        }
        let daemon = daemon.as_mut().unwrap();
        heard.append(&mut daemon.hear());
        let pids: Vec<u32> = heard
            .iter()
            .filter_map(|r| match r {
                Report::Spawned(s) => Some(s.pid),
                _ => None,
            })
            .collect();
        step += 1;
        match step {
            1 => {
                let trees = heard.iter().find_map(|r| match r {
                    Report::Measured(m) => Some((m.question, m.trees.clone())),
                    _ => None,
                });
                let (question, trees) = trees.unwrap();
                assert_eq!((question, trees.len()), (7, 2));
                assert_eq!((&trees[0].pids, trees[0].cpu_usec), (&pids, Some(1000)));
                assert!(trees[1].pids.is_empty());
                daemon.say(&Request::Signal(Signal { run: 10, signal: 77, to: 0 }));
                true
            }
            2 => {
                let failed = heard
                    .iter()
                    .any(|r| matches!(r, Report::SignalFailed(f) if f.run == 10 && f.signal == 77));
                assert!(failed, "{heard:?}");
                world.out_of_memory.insert(1);
                world.exit(pids[0], 3);
                true
            }
            3 => {
                let exited = heard.iter().find_map(|r| match r {
                    Report::Exited(e) if e.run == 10 => Some(e.status),
                    _ => None,
                });
                let exited = exited.unwrap();
                assert_eq!((exited.code, exited.out_of_memory), (Some(3), true));
                daemon.say(&Request::Finish(Finish { code: 4, text: String::new() }));
                true
            }
            _ => false,
        }
    });
    assert_eq!(code, 4);
}

#[test]
fn a_silent_daemon_is_ended_after_ten_seconds_or_a_little_more() {
    let (mut births, mut daemon) = (Vec::new(), None);
    let (code, said, _) = run(move |world| {
        if let Some(born) = Daemon::born(world) {
            births.push(world.now);
            daemon = Some(born);
            return true;
        }
        if births.len() == 3 {
            let life = births[1].since(births[0]);
            assert!((10 * SECOND..12 * SECOND).contains(&life), "{life:?}");
            let daemon = daemon.as_mut().unwrap();
            daemon.hello();
            daemon.say(&Request::Finish(Finish { code: 0, text: String::new() }));
            births.push(world.now);
            return true;
        }
        false
    });
    assert_eq!(code, 0);
    assert_eq!(said.matches("has not answered for 10 s").count(), 2, "{said}");
}

#[test]
fn a_daemon_that_cannot_start_is_tried_for_ever_once_there_is_something_to_hold() {
    let mut daemon: Option<Daemon> = None;
    let (mut stage, mut attempts) = (0, 0);
    let mut began = Mono(0);
    let (code, said, _) = run(move |world| {
        match stage {
            0 => {
                let Some(mut born) = Daemon::born(world) else { return false };
                born.hello();
                born.open_slot(1);
                born.spawn(1, 1, 0, "fake:sleep");
                born.say(&Request::Up("up".into()));
                daemon = Some(born);
            }
            1 => {
                let daemon = daemon.as_mut().unwrap();
                let reports = daemon.hear();
                let last = reports.iter().filter_map(seq).max();
                daemon.say(&Request::Ack(last.unwrap()));
            }
            2 => {
                let pid = daemon.take().unwrap().pid;
                world.refuse_helpers = true;
                world.exit(pid, 1);
                began = world.now;
            }
            3 => {
                // Ten minutes without a daemon: the service is there all the time.
                assert_eq!(world.processes.len(), 1);
                attempts += 1;
                if world.now.since(began) < 600 * SECOND {
                    return false;
                }
                assert!((120..200).contains(&attempts), "{attempts}");
                world.refuse_helpers = false;
            }
            _ => {
                let Some(mut born) = Daemon::born(world) else { return false };
                born.hello();
                born.say(&Request::Finish(Finish { code: 3, text: "bye\n".into() }));
            }
        }
        stage += 1;
        true
    });
    assert_eq!(code, 3);
    assert!(said.contains("the daemon cannot be started"), "{said}");
}

#[test]
fn without_any_daemon_a_stop_needs_none() {
    let mut births = Vec::new();
    let (code, _, took) = run(move |world| {
        if let Some(born) = Daemon::born(world) {
            births.push(born);
            world.stop(stop::TERM);
            return true;
        }
        assert_eq!(births.len(), 1);
        false
    });
    // The one that is starting gets its time; it never says a word.
    assert_eq!(code, 1);
    assert!(took <= 15 * SECOND, "{took:?}");
}

#[test]
fn a_start_that_is_on_its_way_is_told_in_order() {
    let mut daemon: Option<Daemon> = None;
    let mut reports = Vec::new();
    let mut stage = 0;
    let (code, ..) = run(move |world| {
        if stage == 0 {
            let Some(mut born) = Daemon::born(world) else { return false };
            born.hello();
            born.open_slot(1);
            born.spawn(1, 1, 0, "fake:gated:exit:4");
            born.spawn(2, 9, 0, "fake:sleep");
            born.spawn(3, 1, 7, "fake:gated:nothing");
            daemon = Some(born);
            stage = 1;
            return true;
        }
        let daemon = daemon.as_mut().unwrap();
        reports.extend(daemon.hear());
        let of = |run: u64| {
            let is = move |r: &&Report| match r {
                Report::Spawned(r) => r.run == run,
                Report::SpawnFailed(r) => r.run == run,
                Report::Exited(r) => r.run == run,
                _ => false,
            };
            reports.iter().filter(is).cloned().collect::<Vec<_>>()
        };
        if of(1).len() < 2 || of(3).is_empty() {
            return false;
        }
        if stage == 1 {
            assert!(
                matches!(of(1)[..], [Report::Spawned(_), Report::Exited(ref e)] if e.status.code == Some(4))
            );
            assert!(matches!(of(2)[..], [Report::SpawnFailed(ref f)] if f.step == "slot"));
            assert!(matches!(of(3)[..], [Report::SpawnFailed(ref f)] if f.step == "exec"));
            daemon.say(&Request::Finish(Finish::default()));
            stage = 2;
            return true;
        }
        false
    });
    assert_eq!(code, 0);
}

/// One thing that may happen.
#[derive(Clone, Debug)]
enum Happening {
    /// The daemon starts a run in a slot, if it believes that it is free.
    Start(u32, &'static str),
    /// It kills the run of a slot.
    Kill(u32),
    /// A process ends by itself, or is killed from outside.
    End(u32, bool),
    /// The daemon reads, and acknowledges or not.
    Read(bool),
    /// The daemon dies; what it had written is still read.
    Die,
    /// Time passes.
    Wait,
}

fn happening() -> impl Strategy<Value = Happening> {
    let programs = prop::sample::select(vec![
        "fake:sleep",
        "fake:stubborn",
        "fake:exit:1",
        "fake:leaves:2",
        "fake:gated:sleep",
        "fake:gated:exit:0",
        "fake:gated:none",
        "fake:none",
    ]);
    prop_oneof![
        4 => (0_u32..4, programs).prop_map(|(slot, program)| Happening::Start(slot, program)),
        2 => (0_u32..4).prop_map(Happening::Kill),
        2 => (any::<u32>(), any::<bool>()).prop_map(|(which, kill)| Happening::End(which, kill)),
        4 => any::<bool>().prop_map(Happening::Read),
        1 => Just(Happening::Die),
        2 => Just(Happening::Wait),
    ]
}

/// What daemon after daemon knows, from acknowledged reports and from what the anchor said at their birth.
#[derive(Default)]
struct Ledger {
    asked: BTreeMap<u64, u32>,
    started: BTreeMap<u64, u32>,
    failed: BTreeMap<u64, u32>,
    exited: BTreeMap<u64, (u32, bool)>,
    emptied: BTreeMap<u64, u32>,
    busy: BTreeMap<u32, u64>,
    last_seq: u64,
}

impl Ledger {
    /// Takes a report in, once.
    fn take(&mut self, report: &Report) {
        let Some(seq) = seq(report) else { return };
        if seq <= self.last_seq {
            return;
        }
        self.last_seq = seq;
        let over = match report {
            Report::Spawned(r) => {
                *self.started.entry(r.run).or_default() += 1;
                None
            }
            Report::SpawnFailed(r) => {
                *self.failed.entry(r.run).or_default() += 1;
                Some(r.run)
            }
            Report::Exited(r) => {
                let entry = self.exited.entry(r.run).or_default();
                *entry = (entry.0 + 1, r.tree_empty);
                r.tree_empty.then_some(r.run)
            }
            Report::TreeEmpty(r) => {
                *self.emptied.entry(r.run).or_default() += 1;
                Some(r.run)
            }
            _ => None,
        };
        if let Some(run) = over {
            self.busy.retain(|_, r| *r != run);
        }
    }

    /// Every run has exactly one beginning and one end.
    fn check(&self) {
        for run in self.asked.keys() {
            let started = self.started.get(run).copied().unwrap_or(0);
            let failed = self.failed.get(run).copied().unwrap_or(0);
            assert_eq!(started + failed, 1, "run {run}: {started} starts, {failed} failures");
            let (exits, empty) = self.exited.get(run).copied().unwrap_or_default();
            assert_eq!(exits, started, "run {run}: {exits} exits of {started} starts");
            let emptied = self.emptied.get(run).copied().unwrap_or(0);
            assert_eq!(emptied, u32::from(started == 1 && !empty), "run {run}");
        }
    }
}

/// Plays `happenings`, then lets the last daemon end everything, and checks the books.
fn play(happenings: Vec<Happening>) {
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    let books = Rc::clone(&ledger);
    let mut todo: VecDeque<Happening> = happenings.into();
    let mut daemon: Option<Daemon> = None;
    let mut next_run = 1;
    let mut unread: Vec<Report> = Vec::new();
    let mut closing = 0;
    let (code, ..) = run(move |world| {
        let mut books = books.borrow_mut();
        if let Some(mut born) = Daemon::born(world) {
            born.hello();
            if books.asked.is_empty() {
                (0..4).for_each(|slot| born.open_slot(slot));
            }
            born.say(&Request::Up(String::new()));
            daemon = Some(born);
            unread.clear();
            return true;
        }
        // The anchor may have ended it: it owed an answer for too long.
        daemon.take_if(|d| !world.processes.contains_key(&d.pid));
        let Some(living) = daemon.as_mut() else { return false };
        let Some(what) = todo.pop_front() else {
            // All is told, all is ended, then it is over.
            closing += 1;
            assert!(closing < 10_000, "it never ends: {:?}", books.busy);
            unread.extend(living.hear());
            let some = !unread.is_empty();
            unread.drain(..).for_each(|r| books.take(&r));
            let last = books.last_seq;
            living.say(&Request::Ack(last));
            if books.busy.is_empty() {
                living.say(&Request::Finish(Finish::default()));
            } else {
                for run in books.busy.values() {
                    living.say(&Request::Kill(*run));
                }
            }
            return some || closing % 50 != 0;
        };
        match what {
            Happening::Start(slot, program) => {
                if books.busy.contains_key(&slot) {
                    return true;
                }
                books.busy.insert(slot, next_run);
                books.asked.insert(next_run, slot);
                living.spawn(next_run, slot, 0, program);
                next_run += 1;
            }
            Happening::Kill(slot) => {
                if let Some(run) = books.busy.get(&slot) {
                    let run = *run;
                    living.say(&Request::Kill(run));
                }
            }
            Happening::End(which, kill) => {
                let pids: Vec<u32> = world.processes.keys().copied().filter(|p| *p != living.pid).collect();
                if let Some(pid) = pids.get(which as usize % pids.len().max(1)) {
                    if kill { world.kill(*pid) } else { world.exit(*pid, 5) }
                }
            }
            Happening::Read(acknowledge) => {
                unread.extend(living.hear());
                if acknowledge {
                    unread.drain(..).for_each(|r| books.take(&r));
                    let last = books.last_seq;
                    living.say(&Request::Ack(last));
                }
            }
            Happening::Die => {
                // With all that it had said; what it had read but not acknowledged is the next one's.
                let pid = living.pid;
                daemon = None;
                world.kill(pid);
            }
            Happening::Wait => world.now = world.now + 3 * SECOND,
        }
        true
    });
    assert_eq!(code, 0);
    ledger.borrow().check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_run_is_lost_or_doubled_whatever_happens(happenings in prop::collection::vec(happening(), 0..60)) {
        play(happenings);
    }
}
