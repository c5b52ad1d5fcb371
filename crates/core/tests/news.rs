//! What happens to the host reaches the hooks of what runs: in order, one at a time, and a few at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::event::{EventKind, ExitStatus};
use keepwell_core::spec::{Hook, Hooks, Readiness};
use keepwell_core::supervisor::{Persisted, Snapshot};
use keepwell_core::{
    By, Command, Effect, HostEvent, Input, Mono, Now, RunId, ServiceSpec, SessionEvent, Specs, Supervisor,
    Wall,
};

const LOCK: HostEvent = HostEvent::Session(SessionEvent::Lock, 3);

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) }
}

fn specs(ready: Readiness) -> Specs {
    let hook = || Some(Hook { timeout: Duration::from_secs(5), may_fail: false });
    let hooks = Hooks { on_suspend: hook(), on_resume: hook(), on_session: hook(), ..Hooks::default() };
    let web = ServiceSpec { hooks, ready, ..ServiceSpec::default() };
    let services = BTreeMap::from([(Arc::from("db"), ServiceSpec::default()), (Arc::from("web"), web)]);
    Specs { services, ..Specs::default() }
}

/// Both run; `web` is run 2.
fn running(ready: Readiness) -> Supervisor {
    let mut s = Supervisor::new(specs(ready), Persisted::default(), 1, at(0));
    for run in [1, 2] {
        s.handle(at(1), Input::Spawned { run: RunId(run), pid: 10 });
    }
    seen(&mut s);
    s
}

/// Hooks that are started or killed, and what is told of the host and of hooks.
fn seen(s: &mut Supervisor) -> Vec<String> {
    s.check_invariants();
    let mut all = Vec::new();
    while let Some(effect) = s.poll_effect() {
        match effect {
            Effect::RunOnEvent { run, service, event } => all.push(format!("{service}: {run} hears {event}")),
            Effect::Kill { run } => all.push(format!("{run} is killed")),
            _ => {}
        }
    }
    while let Some(event) = s.poll_event() {
        match event.kind {
            EventKind::Told { text, .. } => all.push(text),
            EventKind::HookFailed { role, reason } => all.push(format!("{role:?} failed: {reason}")),
            _ => {}
        }
    }
    all
}

fn ended(run: u64, code: i32) -> Input {
    Input::Exited { run: RunId(run), status: ExitStatus::Code(code), tree_empty: true }
}

#[test]
fn who_has_a_hook_hears_of_it_one_thing_after_the_other() {
    let mut s = running(Readiness::None);
    s.handle(at(10), Input::Host(HostEvent::Suspend));
    s.handle(at(11), Input::Host(HostEvent::Resume));
    s.handle(at(12), Input::Host(LOCK));
    assert_eq!(
        seen(&mut s),
        [
            "web: run 3 hears suspend",
            "the host goes to sleep",
            "the host has woken up",
            "session 3: it was locked"
        ]
    );
    s.handle(at(20), ended(3, 1));
    assert_eq!(seen(&mut s), ["web: run 4 hears resume", "OnSuspend failed: exit code 1"]);
    s.handle_timeout(at(5_020));
    assert_eq!(seen(&mut s), ["run 4 is killed"]);
    s.handle(at(5_030), ended(4, 137));
    assert_eq!(seen(&mut s), ["web: run 5 hears lock 3", "OnResume failed: did not end within 5 s"]);
    s.handle(at(5_040), ended(5, 0));
    assert_eq!(seen(&mut s), Vec::<String>::new());
    s.handle(at(5_050), Input::Host(HostEvent::PowerChange));
    assert_eq!(seen(&mut s), Vec::<String>::new(), "no hook hears of it, and it is no news to people");
}

#[test]
fn more_than_a_few_are_passed_over_and_that_is_told() {
    let mut s = running(Readiness::None);
    (0..8).for_each(|_| s.handle(at(10), Input::Host(LOCK)));
    seen(&mut s);
    s.handle(at(11), Input::Host(HostEvent::Resume));
    assert_eq!(
        seen(&mut s),
        ["the host has woken up", "OnResume failed: 8 events wait already; `resume` is passed over"]
    );
}

#[test]
fn who_is_not_up_yet_hears_of_it_then_and_who_stops_no_more() {
    let mut s = running(Readiness::Signalled { timeout: Duration::from_secs(60) });
    s.handle(at(10), Input::Host(HostEvent::Resume));
    assert_eq!(seen(&mut s), ["the host has woken up"]);
    s.handle(at(20), Input::Ready { run: RunId(2) });
    assert_eq!(seen(&mut s), ["web: run 3 hears resume"]);
    s.handle(at(21), Input::Host(LOCK));
    seen(&mut s);
    let stop = Command::Stop { services: vec!["web".into()], with_dependents: false };
    s.command(at(30), &By("anna".into()), &stop).unwrap();
    assert_eq!(seen(&mut s), ["run 3 is killed"]);
    s.handle(at(40), ended(3, 137));
    s.handle(at(41), Input::Host(LOCK));
    assert_eq!(seen(&mut s), ["session 3: it was locked"]);
}

#[test]
fn a_frozen_service_hears_of_it_when_it_goes_on() {
    let mut s = running(Readiness::None);
    let pause = Command::Pause { services: vec!["web".into()], freeze: true, stop_after: None };
    s.command(at(10), &By("anna".into()), &pause).unwrap();
    s.handle(at(11), Input::Host(HostEvent::Suspend));
    assert_eq!(seen(&mut s), ["the host goes to sleep"]);
    s.command(at(12), &By("anna".into()), &Command::Resume { services: vec!["web".into()] }).unwrap();
    assert_eq!(seen(&mut s), ["web: run 3 hears suspend"]);
}

#[test]
fn a_new_daemon_goes_on_with_what_waits() {
    for started in [true, false] {
        let mut s = running(Readiness::None);
        s.handle(at(10), Input::Host(HostEvent::Suspend));
        s.handle(at(11), Input::Host(HostEvent::Resume));
        let (mut guardian, mut services) = (None, BTreeMap::new());
        while let Some(piece) = s.poll_snapshot() {
            match piece {
                Snapshot::Guardian(g) => guardian = Some(g),
                Snapshot::Service(id, piece) => drop(services.insert(id, piece)),
                Snapshot::Removed(id) => drop(services.remove(&id)),
            }
        }
        let mut s = Supervisor::restore(specs(Readiness::None), guardian.unwrap(), services, at(20));
        for run in [1, 2].into_iter().chain(started.then_some(3)) {
            s.handle(at(20), Input::Adopted { run: RunId(run), pid: 10 });
        }
        s.handle(at(20), Input::AdoptionDone);
        let first = seen(&mut s);
        if started {
            assert_eq!(first, Vec::<String>::new());
            s.handle(at(30), ended(3, 0));
            assert!(seen(&mut s)[0].ends_with("hears resume"));
        } else {
            assert!(first.len() == 1 && first[0].ends_with("hears suspend"), "{first:?}");
        }
    }
}
