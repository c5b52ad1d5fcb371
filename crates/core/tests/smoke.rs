//! The shortest story: start, crash, restart, stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::event::{ExitStatus, State};
use keepwell_core::spec::To;
use keepwell_core::supervisor::Persisted;
use keepwell_core::{
    By, Command, Effect, Input, Mono, Now, Role, RunId, ServiceSpec, Specs, Supervisor, Wall,
};

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) }
}

fn effects(s: &mut Supervisor) -> Vec<Effect> {
    s.check_invariants();
    std::iter::from_fn(|| s.poll_effect()).collect()
}

#[test]
fn a_service_is_started_restarted_and_stopped() {
    let specs = Specs {
        services: BTreeMap::from([(Arc::from("web"), ServiceSpec::default())]),
        max_parallel_starts: None,
    };
    let mut s = Supervisor::new(specs, Persisted::default(), 1, at(0));
    let id = s.resolve("web").unwrap().remove(0);
    let spawn = |n| Effect::Spawn { run: RunId(n), service: id.clone(), role: Role::Main };
    assert_eq!(effects(&mut s), [spawn(1)]);
    s.handle(at(1), Input::Spawned { run: RunId(1), pid: 10 });
    assert_eq!(s.status(at(1))[0].state, State::Running);
    s.handle(at(200), Input::Exited { run: RunId(1), status: ExitStatus::Code(3), tree_empty: true });
    assert_eq!(effects(&mut s), []);
    let status = s.status(at(200)).remove(0);
    assert_eq!((status.state, &*status.reason), (State::BackingOff, "exit code 3 after 199 ms"));
    let (due, _) = s.next_deadline().unwrap();
    let delay = due.since(at(200).mono);
    assert!(delay >= Duration::from_millis(750) && delay <= Duration::from_millis(1250), "{delay:?}");
    s.handle_timeout(Now { mono: due, wall: Wall(2000) });
    assert_eq!(effects(&mut s), [spawn(2)]);
    s.handle(at(2001), Input::Spawned { run: RunId(2), pid: 11 });
    let stop = Command::Stop { services: vec!["web".into()], with_dependents: false };
    s.command(at(3000), &By("anna".into()), &stop).unwrap();
    let sent = effects(&mut s);
    assert!(matches!(sent[0], Effect::Commit(_)));
    assert_eq!(sent[1], Effect::Signal { run: RunId(2), signal: 15, to: To::Main });
    s.handle(
        at(3100),
        Input::Exited {
            run: RunId(2),
            status: ExitStatus::Signal { signal: 15, core_dumped: false, out_of_memory: false },
            tree_empty: true,
        },
    );
    let status = s.status(at(3100)).remove(0);
    assert_eq!((status.state, &*status.reason), (State::Stopped, "stopped by anna"));
    assert_eq!(s.next_deadline(), None);
}
