//! A real anchor with real processes; its daemon is a toy whose end of the link the test holds.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a failure is a failed test")]

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keepwell_anchor::link::Link;
use keepwell_anchor::protocol::*;
use keepwell_os::ipc::Channel;
use keepwell_os::tree::layout::Layout;
use keepwell_os::tree::{Limits, TreeRoot, process};
use keepwell_os::{Handle, SpawnRequest, pipe, stop};

/// Long enough for a busy machine, short enough for a test that hangs.
const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    folder: tempfile::TempDir,
    anchor: std::process::Child,
    control: UnixListener,
    root: TreeRoot,
}

/// A daemon as the test plays it: the link, the toy process, and all that the anchor said.
struct Daemon {
    link: Link,
    pid: u32,
    said: Vec<(Report, VecDeque<Handle>)>,
}

impl Bench {
    fn start(words: &[&str]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let control = UnixListener::bind(folder.path().join("control")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_anchor-toy"));
        command.arg("anchor").arg(folder.path()).args(words).stderr(Stdio::piped());
        let anchor = command.spawn().unwrap();
        let root = TreeRoot::open(&guardian_of(folder.path()));
        Bench { folder, anchor, control, root }
    }

    /// One whose services are held by descent and mark alone.
    fn start_without_cgroups() -> Bench {
        let mut bench = Bench::start(&[]);
        bench.root.close();
        bench.root = TreeRoot::with_layout(&bench.guardian(), Layout::default());
        bench
    }

    fn daemon(&self) -> Daemon {
        let (control, _) = self.control.accept().unwrap();
        let control = Channel::from_handle(control.into()).unwrap();
        let (mut bytes, mut handles) = (Vec::new(), VecDeque::new());
        until("a daemon", || {
            let _ = control.recv(&mut bytes, &mut handles);
            bytes.len() == 4 && handles.len() == 1
        });
        let pid = u32::from_le_bytes(bytes.try_into().unwrap());
        let channel = Channel::from_handle(handles.pop_front().unwrap()).unwrap();
        let mut daemon = Daemon { link: Link::new(channel), pid, said: Vec::new() };
        daemon.say(Request::Hello(Hello { version: VERSION, pid }));
        daemon
    }

    /// A daemon that has taken everything in and is up.
    fn up(&self) -> Daemon {
        let mut daemon = self.daemon();
        daemon.until("synced", |r| matches!(r, Report::Ping(_)));
        daemon.acknowledge();
        daemon.say(Request::Up("2 services".into()));
        daemon
    }

    /// Opens a slot, in a cgroup where there can be one. Returns the reading end of its output.
    fn open_slot(&mut self, daemon: &mut Daemon, slot: u32) -> Handle {
        let tree = self.root.make(&format!("s{slot}"), &Limits::default()).unwrap();
        let (read, write) = pipe::pipe().unwrap();
        let name = format!("s{slot}");
        let open =
            OpenSlot { slot, name, tree: tree.handle().is_some(), separate: false, drain_limit: 100_000 };
        let handles: Vec<BorrowedFd<'_>> =
            tree.handle().into_iter().chain([read.as_fd(), write.as_fd()]).collect();
        daemon.link.send(&Request::OpenSlot(open), &handles);
        daemon.link.flush();
        read
    }

    fn wait(&mut self) -> (i32, String) {
        let mut status = None;
        until("the anchor's end", || {
            status = self.anchor.try_wait().unwrap();
            status.is_some()
        });
        let mut words = String::new();
        self.anchor.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        (status.unwrap().code().unwrap_or(-1), words)
    }

    fn guardian(&self) -> String {
        guardian_of(self.folder.path())
    }

    /// Live processes that carry this guardian's mark.
    fn alive(&self) -> Vec<u32> {
        let guardian = self.guardian();
        let of_ours =
            |p: &process::Process| !p.zombie && process::mark(p.pid).is_some_and(|(g, _)| g == guardian);
        process::all().into_iter().filter(of_ours).map(|p| p.pid).collect()
    }

    fn script(&self, run: u64, script: &str) -> SpawnRequest {
        let mark = format!("KEEPWELL_RUN={}/{run}", self.guardian());
        SpawnRequest {
            program: b"/bin/sh".into(),
            argv: vec![b"sh".into(), b"-c".into(), script.into()],
            env: vec![b"PATH=/usr/bin:/bin".into(), mark.into_bytes()],
            cwd: b"/".into(),
            ..SpawnRequest::default()
        }
    }

    fn spawn(&self, daemon: &mut Daemon, run: u64, slot: u32, script: &str) -> u32 {
        let request = self.script(run, script);
        daemon.say(Request::Spawn(Spawn { run, slot, role: 0, request }));
        match daemon.until("spawned", |r| matches!(r, Report::Spawned(s) if s.run == run)) {
            Report::Spawned(s) => s.pid,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
        let _ = self.root.kill_all();
        self.root.close();
    }
}

impl Daemon {
    fn say(&mut self, request: Request) {
        self.link.send(&request, &[]);
        self.link.flush();
    }

    fn hear(&mut self) {
        self.said.extend(self.link.recv().unwrap());
    }

    fn until(&mut self, what: &str, mut is: impl FnMut(&Report) -> bool) -> Report {
        let mut found = None;
        until(what, || {
            self.hear();
            found = self.said.iter().map(|(r, _)| r).find(|r| is(r)).cloned();
            found.is_some()
        });
        found.unwrap()
    }

    fn acknowledge(&mut self) {
        self.hear();
        let last = self.said.iter().filter_map(|(r, _)| seq(r)).max();
        self.say(Request::Ack(last.unwrap()));
    }

    fn exited(&mut self, run: u64) -> Exited {
        match self.until("exited", |r| matches!(r, Report::Exited(e) if e.run == run)) {
            Report::Exited(e) => e,
            other => panic!("{other:?}"),
        }
    }

    fn count(&mut self, is: impl Fn(&Report) -> bool) -> usize {
        self.hear();
        self.said.iter().filter(|(r, _)| is(r)).count()
    }

    /// As `kill -9` would.
    fn die(self) {
        stop::signal(self.pid, stop::KILL).unwrap();
    }
}

/// As the toy names itself: no two tests that run at the same time have the same name, be it in a pid namespace.
fn guardian_of(folder: &std::path::Path) -> String {
    format!("toy{}", folder.to_str().unwrap().rsplit(['/', '.']).next().unwrap())
}

fn seq(report: &Report) -> Option<u64> {
    match report {
        Report::Spawned(r) => Some(r.seq),
        Report::SpawnFailed(r) => Some(r.seq),
        Report::Exited(r) => Some(r.seq),
        Report::TreeEmpty(r) => Some(r.seq),
        Report::StopRequested(r) => Some(r.seq),
        Report::Drained(r) => Some(r.seq),
        Report::SignalFailed(r) => Some(r.seq),
        Report::Ping(seq) => Some(*seq),
        Report::Asked(r) => Some(r.seq),
        Report::Welcome(_)
        | Report::Value(_)
        | Report::Kept(_)
        | Report::Slot(_)
        | Report::Run(_)
        | Report::Measured(_)
        | Report::Synced => None,
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn read_some(pipe: &Handle) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 20];
    let n = pipe::read(pipe.as_fd(), &mut buffer).unwrap_or(0);
    buffer.truncate(n);
    buffer
}

fn gone(pid: u32) -> bool {
    process::look(pid).is_none_or(|p| p.zombie)
}

fn finish(code: i32, text: &str) -> Request {
    Request::Finish(Finish { code, text: text.into() })
}

#[test]
fn a_program_runs_speaks_and_its_end_is_told() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    let Report::Welcome(welcome) = &daemon.said[0].0 else { panic!("{:?}", daemon.said[0].0) };
    assert_eq!((welcome.version, welcome.pid, welcome.rebirths), (VERSION, bench.anchor.id(), 0));
    assert_eq!((welcome.options.as_slice(), welcome.release.as_str()), (b"opaque".as_slice(), "1.2.3"));
    assert!(welcome.mechanisms.iter().any(|m| m.starts_with("spawn: ")));
    let most = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = text.lines().find(|l| l.starts_with("Max open files")).unwrap().to_owned();
        line.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap()
    };
    assert!(most(daemon.pid) < most(bench.anchor.id()), "the daemon is the one that runs out of room");
    let output = bench.open_slot(&mut daemon, 1);
    bench.spawn(&mut daemon, 10, 1, "echo hello; exit 3");
    let end = daemon.exited(10);
    assert_eq!((end.status.code, end.status.signal, end.tree_empty), (Some(3), None, true));
    assert_eq!(read_some(&output), b"hello\n");
    // What cannot be started is told by its step.
    let mut request = bench.script(11, "");
    request.program = b"/no/such/program".into();
    daemon.say(Request::Spawn(Spawn { run: 11, slot: 1, role: 0, request }));
    let failed = daemon.until("the failure", |r| matches!(r, Report::SpawnFailed(_)));
    assert!(matches!(failed, Report::SpawnFailed(f) if f.step == "exec" && f.run == 11));
    daemon.say(finish(7, "bye\n"));
    assert_eq!(bench.wait(), (7, "bye\n".into()));
}

#[test]
fn a_new_daemon_gets_everything_and_the_program_runs_on() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    bench.open_slot(&mut daemon, 2);
    let pid = bench.spawn(&mut daemon, 10, 1, "echo one; exec sleep 1000");
    bench.spawn(&mut daemon, 20, 2, "echo two; exec sleep 1000");
    daemon.acknowledge();
    let file = std::fs::File::open("/dev/zero").unwrap();
    daemon.link.send(&Request::Keep(b"file".to_vec()), &[file.as_fd()]);
    daemon.say(Request::Put(Put { key: b"a".to_vec(), value: b"1".to_vec() }));
    daemon.say(Request::Put(Put { key: b"b".to_vec(), value: vec![7; 600_000] }));
    daemon.say(Request::Put(Put { key: b"a".to_vec(), value: b"2".to_vec() }));
    daemon.say(Request::Put(Put { key: b"c".to_vec(), value: b"3".to_vec() }));
    daemon.say(Request::Delete(b"c".to_vec()));
    // What was asked for in the last moment is done, and what happens without a daemon is told to the next.
    daemon.say(Request::Spawn(Spawn { run: 11, slot: 1, role: 1, request: bench.script(11, "exit 5") }));
    daemon.die();
    stop::signal(pid, stop::KILL).unwrap();

    let mut daemon = bench.up();
    let end = daemon.exited(10);
    assert_eq!((end.status.signal, end.tree_empty), (Some(stop::KILL), true));
    assert_eq!(daemon.exited(11).status.code, Some(5));
    let Report::Welcome(welcome) = &daemon.said[0].0 else { panic!() };
    assert_eq!(welcome.rebirths, 1);
    let mut values = BTreeMap::new();
    let (mut kept, mut slots, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for (report, handles) in &daemon.said {
        match report {
            Report::Value(put) => drop(values.insert(put.key.clone(), put.value.clone())),
            Report::Kept(key) => kept.push((key.clone(), handles.len())),
            Report::Slot(slot) => slots.push((slot.slot, handles.len() - usize::from(slot.tree))),
            Report::Run(run) => runs.push(run.run),
            _ => {}
        }
    }
    assert_eq!(values.len(), 2);
    assert_eq!(
        (values[b"a".as_slice()].as_slice(), values[b"b".as_slice()].len()),
        (b"2".as_slice(), 600_000)
    );
    assert_eq!(kept, [(b"file".to_vec(), 1), (b"lock".to_vec(), 1)]);
    assert_eq!(slots, [(1, 2), (2, 2)]);
    // The end of run 10 may have been reported after the list was written, as news.
    assert!(runs.contains(&20) && !runs.contains(&11), "{runs:?}");
    let order: Vec<u64> = daemon.said.iter().filter_map(|(r, _)| seq(r)).collect();
    assert!(order.is_sorted(), "{order:?}");
    daemon.say(finish(0, ""));
    assert_eq!(bench.wait().0, 0);
    assert_eq!(bench.alive(), [0; 0]);
}

#[test]
fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    bench.spawn(&mut daemon, 10, 1, "exit 1");
    daemon.exited(10);
    daemon.acknowledge();
    bench.spawn(&mut daemon, 11, 1, "exit 2");
    daemon.exited(11);
    daemon.die();
    let mut daemon = bench.up();
    assert_eq!(daemon.exited(11).status.code, Some(2));
    assert_eq!(daemon.count(|r| matches!(r, Report::Exited(e) if e.run == 10)), 0);
    daemon.die();
    let mut daemon = bench.up();
    assert_eq!(daemon.count(|r| matches!(r, Report::Exited(_))), 0);
}

#[test]
fn a_tree_is_empty_only_when_its_last_process_is_gone() {
    for start in [|| Bench::start(&[]), Bench::start_without_cgroups] {
        let mut bench = start();
        let mut daemon = bench.up();
        bench.open_slot(&mut daemon, 1);
        bench.open_slot(&mut daemon, 2);
        let other = bench.spawn(&mut daemon, 20, 2, "sleep 1000 & setsid -f sleep 1000; sleep 1000");
        // One that left the session, one that holds the pipe, one that washed its environment.
        let script = "trap '' TERM; setsid -f sleep 1000; sleep 1000 & env -i sleep 1000 & sleep 0.1; exit 0";
        bench.spawn(&mut daemon, 10, 1, script);
        let end = daemon.exited(10);
        assert_eq!((end.status.code, end.tree_empty), (Some(0), false));
        assert_eq!(daemon.count(|r| matches!(r, Report::TreeEmpty(_))), 0);
        // Until then the slot takes no other main run: never two of one service.
        let request = bench.script(11, "exit 0");
        daemon.say(Request::Spawn(Spawn { run: 11, slot: 1, role: 0, request }));
        daemon
            .until("the refusal", |r| matches!(r, Report::SpawnFailed(f) if f.run == 11 && f.step == "run"));
        daemon.say(Request::Kill(10));
        daemon.until("empty", |r| matches!(r, Report::TreeEmpty(t) if t.run == 10));
        until("only another service's four", || bench.alive().len() == 4);
        bench.spawn(&mut daemon, 12, 1, "exit 0");
        assert!(daemon.exited(12).tree_empty);
        daemon.say(Request::Kill(20));
        daemon.exited(20);
        until("nothing is left", || bench.alive().is_empty() && gone(other));
        daemon.acknowledge();
        assert_eq!(daemon.count(|r| matches!(r, Report::TreeEmpty(t) if t.run == 10)), 1);
    }
}

#[test]
fn what_is_left_behind_may_also_end_by_itself() {
    for start in [|| Bench::start(&[]), Bench::start_without_cgroups] {
        let mut bench = start();
        let mut daemon = bench.up();
        bench.open_slot(&mut daemon, 1);
        let go = bench.folder.path().join("go");
        let left = format!("setsid -f sh -c 'while [ ! -e {} ]; do sleep 0.01; done'; exit 0", go.display());
        bench.spawn(&mut daemon, 10, 1, &left);
        assert!(!daemon.exited(10).tree_empty);
        assert_eq!(daemon.count(|r| matches!(r, Report::TreeEmpty(_))), 0);
        std::fs::write(&go, "").unwrap();
        daemon.until("empty", |r| matches!(r, Report::TreeEmpty(t) if t.run == 10));
        // A check that runs on is none of the service's processes.
        let request = bench.script(30, "exec sleep 1000");
        daemon.say(Request::Spawn(Spawn { run: 30, slot: 1, role: 200, request }));
        daemon.until("the check", |r| matches!(r, Report::Spawned(s) if s.run == 30));
        bench.spawn(&mut daemon, 11, 1, "exit 0");
        assert!(daemon.exited(11).tree_empty);
        daemon.say(Request::Kill(30));
        assert_eq!(daemon.exited(30).status.signal, Some(stop::KILL));
    }
}

#[test]
fn a_start_behind_a_gate_is_told_when_it_is_through() {
    let mut bench = Bench::start(&[]);
    let limits = Limits { tasks: Some(50), ..Limits::default() };
    let tree = bench.root.make("gated", &limits).unwrap();
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    let mut request = bench.script(10, "exit 6");
    request.join = tree.join().to_vec();
    let gated = !request.join.is_empty();
    daemon.say(Request::Spawn(Spawn { run: 10, slot: 1, role: 0, request }));
    assert_eq!(daemon.exited(10).status.code, Some(6));
    let order: Vec<_> =
        daemon.said.iter().filter(|(r, _)| seq(r).is_some()).map(|(r, _)| r.clone()).collect();
    let started = order.iter().position(|r| matches!(r, Report::Spawned(s) if s.run == 10));
    assert!(started.unwrap() < order.iter().position(|r| matches!(r, Report::Exited(_))).unwrap());
    // One that fails behind the gate was never a run.
    let mut request = bench.script(11, "");
    request.join = tree.join().to_vec();
    request.cwd = b"/no/such/folder".into();
    daemon.say(Request::Spawn(Spawn { run: 11, slot: 1, role: 0, request }));
    daemon.until("the failure", |r| matches!(r, Report::SpawnFailed(f) if f.run == 11 && f.step == "chdir"));
    bench.spawn(&mut daemon, 12, 1, "exit 0");
    daemon.exited(12);
    assert_eq!(daemon.count(|r| matches!(r, Report::Exited(e) if e.run == 11)), 0);
    println!("gated: {gated}");
}

#[test]
fn as_the_first_process_of_a_container_it_reaps_all_and_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let control = UnixListener::bind(folder.path().join("control")).unwrap();
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        env!("CARGO_BIN_EXE_anchor-toy"),
        "anchor",
    ]);
    let Ok(unshare) = command.arg(folder.path()).stderr(Stdio::piped()).spawn() else { return };
    control.set_nonblocking(true).unwrap();
    let root = TreeRoot::with_layout(&guardian_of(folder.path()), Layout::default());
    let mut bench = Bench { folder, anchor: unshare, control, root };
    let limit = Instant::now() + LIMIT;
    while bench.anchor.try_wait().unwrap().is_none()
        && process::all().iter().all(|p| p.parent != bench.anchor.id())
    {
        assert!(Instant::now() < limit);
    }
    if bench.anchor.try_wait().unwrap().is_some() {
        // Not ours to have namespaces here.
        return;
    }
    let first = process::all().into_iter().find(|p| p.parent == bench.anchor.id()).unwrap().pid;
    bench.control.set_nonblocking(false).unwrap();
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    let request =
        bench.script(10, "for i in 1 2 3; do setsid -f sh -c 'sleep 0.0$1' - $i; done; exec sleep 1000");
    daemon.say(Request::Spawn(Spawn { run: 10, slot: 1, role: 0, request }));
    daemon.until("spawned", |r| matches!(r, Report::Spawned(_)));
    let children = || process::all().into_iter().filter(|p| p.parent == first).collect::<Vec<_>>();
    // Daemon and main process: what was left to it is reaped.
    until("only two children", || children().len() == 2 && children().iter().all(|p| !p.zombie));
    stop::signal(first, stop::TERM).unwrap();
    daemon.until("asked", |r| matches!(r, Report::StopRequested(s) if s.why == "SIGTERM"));
    daemon.say(finish(5, ""));
    assert_eq!(bench.wait().0, 5);
}

#[test]
fn signals_reach_whom_they_are_for() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    let output = bench.open_slot(&mut daemon, 1);
    let script = "trap 'echo main' USR1; (trap 'echo child' USR1; while :; do sleep 0.01; done) & \
                  echo ready; while :; do sleep 0.01; done";
    bench.spawn(&mut daemon, 10, 1, script);
    let mut text = String::new();
    let mut heard = |what: &str, wanted: &str| {
        until(what, || {
            text.push_str(&String::from_utf8_lossy(&read_some(&output)));
            text.contains(wanted)
        });
        text.clear();
    };
    heard("ready", "ready");
    let usr1 = stop::signal_number("USR1").unwrap();
    daemon.say(Request::Signal(Signal { run: 10, signal: usr1, to: 0 }));
    heard("main alone", "main\n");
    // The child has its trap by now or later: ask until it answers.
    until("the group", || {
        daemon.say(Request::Signal(Signal { run: 10, signal: usr1, to: 1 }));
        std::thread::sleep(Duration::from_millis(30));
        String::from_utf8_lossy(&read_some(&output)).contains("child")
    });
    // To a run that is over, or never was: nothing.
    daemon.say(Request::Signal(Signal { run: 99, signal: stop::KILL, to: 2 }));
    daemon.say(Request::Kill(99));
    daemon.say(Request::Freeze(Freeze { slot: 1, on: true }));
    daemon.say(Request::Kill(10));
    daemon.exited(10);
    until("nothing is left", || bench.alive().is_empty());
}

#[test]
fn another_process_can_become_the_main_one() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    let output = bench.open_slot(&mut daemon, 1);
    // As a classic daemon does: the first process forks, says who is the main one, and goes.
    let (told, go) = (bench.folder.path().join("told"), bench.folder.path().join("go"));
    let until_there =
        |path: &std::path::Path| format!("while [ ! -e {} ]; do sleep 0.01; done", path.display());
    let script = format!("sh -c 'echo $$; {}; exit 42' & {}; exit 0", until_there(&go), until_there(&told));
    let leader = bench.spawn(&mut daemon, 10, 1, &script);
    let mut text = String::new();
    until("its pid", || {
        text.push_str(&String::from_utf8_lossy(&read_some(&output)));
        text.ends_with('\n')
    });
    let pid = text.trim().parse().unwrap();
    daemon.say(Request::MainPid(MainPid { run: 10, pid }));
    // An answer to what was asked after it: now it is known.
    bench.open_slot(&mut daemon, 2);
    bench.spawn(&mut daemon, 20, 2, "exit 0");
    daemon.exited(20);
    std::fs::write(&told, "").unwrap();
    until("the leader's end", || gone(leader));
    std::fs::write(&go, "").unwrap();
    let end = daemon.exited(10);
    assert_eq!((end.status.code, end.tree_empty), (Some(42), true));
    assert_eq!(daemon.count(|r| matches!(r, Report::Exited(e) if e.run == 10)), 1);
}

#[test]
fn a_daemon_that_hangs_is_ended_and_replaced() {
    let mut bench = Bench::start(&["impatient"]);
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    let pid = bench.spawn(&mut daemon, 10, 1, "exec sleep 1000");
    daemon.acknowledge();
    // Nothing to answer: it may be as silent as it likes.
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!gone(daemon.pid));
    bench.open_slot(&mut daemon, 2);
    bench.spawn(&mut daemon, 20, 2, "exit 0");
    until("the end of the daemon that owes an answer", || gone(daemon.pid));
    drop(daemon);
    let mut daemon = bench.up();
    assert!(!gone(pid));
    daemon.say(finish(0, ""));
    let (code, words) = bench.wait();
    assert_eq!(code, 0);
    assert!(words.contains("has not answered"), "{words}");
}

#[test]
fn a_daemon_that_accepts_nobody_is_replaced() {
    let mut bench = Bench::start(&["impatient"]);
    let path = bench.folder.path().join("api");
    let listener = UnixListener::bind(&path).unwrap();
    let mut daemon = bench.up();
    daemon.acknowledge();
    daemon.link.send(&Request::Keep(b"api".to_vec()), &[listener.as_fd()]);
    daemon.link.flush();
    // One who is accepted, soon or at last, is no sign of anything.
    let _first = UnixStream::connect(&path).unwrap();
    std::thread::sleep(Duration::from_millis(800));
    let _accepted = listener.accept().unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!gone(daemon.pid));
    let _waits = UnixStream::connect(&path).unwrap();
    until("its end", || gone(daemon.pid));
    drop(daemon);
    // The one who waits is the next daemon's.
    let mut daemon = bench.up();
    let kept = daemon.said.iter_mut().find(|(r, _)| *r == Report::Kept(b"api".to_vec())).unwrap();
    let listener = UnixListener::from(kept.1.pop_front().unwrap());
    let _accepted = listener.accept().unwrap();
    daemon.acknowledge();
    daemon.say(finish(0, ""));
    assert!(bench.wait().1.contains("has not accepted a connection"));
}

#[test]
fn a_daemon_that_speaks_nonsense_is_replaced() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    let pid = bench.spawn(&mut daemon, 10, 1, "exec sleep 1000");
    let mut bytes = Vec::new();
    keepwell_anchor::codec::encode(&Request::Ack(0), 0, &mut bytes);
    bytes[0] = 0xff;
    bytes[3] = 0xff;
    // Through a second end of the same link.
    let raw = Channel::from_handle(daemon.link.handle().try_clone_to_owned().unwrap()).unwrap();
    raw.send(&bytes, &[]).unwrap();
    drop(raw);
    until("its end", || gone(daemon.pid));
    drop(daemon);
    let daemon = bench.up();
    assert!(!gone(pid));
    drop(daemon);
}

#[test]
fn without_a_daemon_output_is_saved_to_a_limit_and_counted() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    let output = bench.open_slot(&mut daemon, 1);
    let script = "while [ ! -e $0 ]; do sleep 0.01; done; \
                  i=100000; while [ $i -lt 130000 ]; do echo $i; i=$((i+1)); done; echo done >&2; : > $1; exec sleep 1000";
    let (go, written) = (bench.folder.path().join("go"), bench.folder.path().join("written"));
    let mut request = bench.script(10, script);
    request.argv.extend([&go, &written].map(|path| path.as_os_str().as_encoded_bytes().to_vec()));
    daemon.say(Request::Spawn(Spawn { run: 10, slot: 1, role: 0, request }));
    daemon.until("spawned", |r| matches!(r, Report::Spawned(_)));
    daemon.acknowledge();
    std::fs::write(bench.folder.path().join("fail"), "no daemon today\n").unwrap();
    daemon.die();
    std::fs::write(&go, "").unwrap();
    // 210 kB against a pipe of 64: it ends only if somebody reads.
    until("all to be written", || written.exists());
    std::fs::remove_file(bench.folder.path().join("fail")).unwrap();
    let mut daemon = bench.up();
    let mut saved = Vec::new();
    let mut dropped = 0;
    for (report, _) in &daemon.said {
        if let Report::Drained(d) = report {
            assert_eq!((d.slot, d.stream), (1, 0));
            saved.extend_from_slice(&d.bytes);
            dropped += d.dropped;
        }
    }
    assert_eq!(saved.len(), 100_000);
    let mut rest = Vec::new();
    until("the last line", || {
        rest.extend(read_some(&output));
        rest.ends_with(b"done\n") || dropped > 0 && saved.len() as u64 + dropped == 30_000 * 7 + 5
    });
    assert_eq!(saved.len() as u64 + dropped + rest.len() as u64, 30_000 * 7 + 5);
    let expected: String = (100_000..130_000).map(|i| format!("{i}\n")).collect();
    assert!(expected.as_bytes().starts_with(&saved));
    daemon.acknowledge();
    // What is acknowledged is not told again.
    daemon.die();
    let mut daemon = bench.up();
    assert_eq!(daemon.count(|r| matches!(r, Report::Drained(_))), 0);
    daemon.say(finish(0, ""));
    let (_, words) = bench.wait();
    assert!(words.contains("no daemon today"), "{words}");
}

#[test]
fn a_first_signal_asks_and_a_second_ends_it_at_once() {
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut bench = Bench::start(&[]);
        let mut daemon = bench.up();
        bench.open_slot(&mut daemon, 1);
        bench.spawn(
            &mut daemon,
            10,
            1,
            "trap '' TERM INT HUP; setsid -f sleep 1000; while :; do sleep 1; done",
        );
        let number = stop::signal_number(name).unwrap();
        stop::signal(bench.anchor.id(), stop::signal_number("TSTP").unwrap()).unwrap();
        stop::signal(bench.anchor.id(), number).unwrap();
        let asked = daemon.until("asked", |r| matches!(r, Report::StopRequested(_)));
        assert!(matches!(asked, Report::StopRequested(s) if s.why == format!("SIG{name}") && !s.urgent));
        daemon.acknowledge();
        until("three processes", || bench.alive().len() == 3);
        stop::signal(bench.anchor.id(), number).unwrap();
        daemon.until("asked again", |r| matches!(r, Report::StopRequested(s) if s.urgent));
        daemon.exited(10);
        assert_eq!(bench.wait().0, code);
        assert_eq!(bench.alive(), [0; 0]);
    }
}

#[test]
fn an_ordered_stop_goes_on_with_the_next_daemon() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    bench.spawn(&mut daemon, 10, 1, "exec sleep 1000");
    daemon.acknowledge();
    stop::signal(bench.anchor.id(), stop::TERM).unwrap();
    daemon.until("asked", |r| matches!(r, Report::StopRequested(_)));
    daemon.die();
    let mut daemon = bench.up();
    daemon.until("asked", |r| matches!(r, Report::StopRequested(_)));
    daemon.say(Request::Signal(Signal { run: 10, signal: stop::TERM, to: 0 }));
    daemon.exited(10);
    daemon.say(finish(0, "all is down\n"));
    let (code, words) = bench.wait();
    assert_eq!(code, 0);
    assert!(words.ends_with("all is down\n"), "{words}");
}

#[test]
fn without_a_daemon_a_stop_is_plain_and_complete() {
    let mut bench = Bench::start(&["impatient"]);
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    bench.open_slot(&mut daemon, 2);
    let said = bench.folder.path().join("said");
    let script = format!("echo last words; : > {}; exec sleep 1000", said.display());
    bench.spawn(&mut daemon, 10, 1, &script);
    bench.spawn(&mut daemon, 20, 2, "trap '' TERM; setsid -f sleep 1000; while :; do sleep 1; done");
    daemon.acknowledge();
    until("the last words", || said.exists());
    std::fs::write(bench.folder.path().join("fail"), "no\n").unwrap();
    daemon.die();
    until("all four", || bench.alive().len() >= 4);
    stop::signal(bench.anchor.id(), stop::TERM).unwrap();
    let (code, words) = bench.wait();
    assert_eq!(code, 1);
    let end = "keepwell: stopped everything without its daemon; 11 bytes of output that it would have written are lost\n";
    assert!(words.ends_with(end), "{words}");
    assert_eq!(bench.alive(), [0; 0]);
}

#[test]
fn a_daemon_that_never_comes_up_is_given_up_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fail"), "x".repeat(10_000) + "the reason\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_anchor-toy"));
    let output = command.arg("anchor").arg(folder.path()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(words.matches("exit code 9; its last words:").count(), 5, "{words}");
    assert!(words.contains("xthe reason\n") && words.len() < 5 * 5000);
    assert!(words.ends_with("the daemon did not come up in 5 attempts; nothing was started\n"));
}

#[test]
fn a_refusal_at_the_first_start_is_the_end() {
    let mut bench = Bench::start(&["view"]);
    let mut daemon = bench.daemon();
    daemon.until("welcome", |r| matches!(r, Report::Synced));
    daemon.say(finish(2, "error: keepwell.toml: unknown key\n"));
    assert_eq!(bench.wait(), (2, "error: keepwell.toml: unknown key\n".into()));
}

#[test]
fn a_view_that_does_not_listen_delays_nothing_for_long() {
    let mut bench = Bench::start(&["view"]);
    let mut daemon = bench.up();
    daemon.acknowledge();
    let anchor = bench.anchor.id();
    let views = || process::all().into_iter().filter(|p| p.parent == anchor && !p.zombie).count();
    until("daemon and view", || views() == 2);
    let start = Instant::now();
    daemon.say(finish(0, ""));
    assert_eq!(bench.wait().0, 0);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn nothing_survives_the_anchor_but_what_the_daemon_ends() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    bench.open_slot(&mut daemon, 1);
    let pid = bench.spawn(&mut daemon, 10, 1, "trap '' TERM HUP; while :; do sleep 1; done");
    bench.anchor.kill().unwrap();
    bench.anchor.wait().unwrap();
    // The main process dies with its parent; the rest is the daemon's to end, which sees the link close.
    until("the main process's end", || gone(pid));
    until("the closed link", || {
        daemon.hear();
        daemon.link.is_closed()
    });
    assert_eq!(bench.root.kill_all(), 0);
    assert_eq!(bench.alive(), [0; 0]);
}

#[test]
fn a_closed_slot_is_let_go() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    let output = bench.open_slot(&mut daemon, 1);
    bench.spawn(&mut daemon, 10, 1, "exec sleep 1000");
    daemon.say(Request::CloseSlot(1));
    // The last writing end is gone: that is the end of the output.
    until("the end of the output", || matches!(pipe::read(output.as_fd(), &mut [0; 10]), Ok(0)));
    until("its end", || bench.alive().is_empty());
    daemon.die();
    let mut daemon = bench.up();
    assert_eq!(daemon.count(|r| matches!(r, Report::Slot(_) | Report::Run(_))), 0);
}

#[test]
fn a_daemon_killed_a_hundred_times_costs_nothing() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    for slot in 1..=5 {
        bench.open_slot(&mut daemon, slot);
    }
    let mut live: BTreeMap<u64, u32> = BTreeMap::new();
    let mut next = 1;
    let (mut started, mut ended) = (0, 0);
    for round in 0..100 {
        // Every free slot is started; some end by themselves, at any moment.
        let used: Vec<u32> = live.values().copied().collect();
        for slot in (1..=5).filter(|s| !used.contains(s)) {
            let script = if next % 3 == 0 { "exec sleep 1000" } else { "sleep 0.01; exit 7" };
            let request = bench.script(next, script);
            daemon.say(Request::Spawn(Spawn { run: next, slot, role: 0, request }));
            live.insert(next, slot);
            started += 1;
            next += 1;
        }
        for run in live.keys().filter(|r| *r % 3 == 0).copied().collect::<Vec<_>>() {
            daemon.say(Request::Kill(run));
        }
        // What this daemon saw but did not acknowledge, the next one sees again: it counts only what is acknowledged.
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(round % 20));
        }
        daemon.die();
        daemon = bench.up();
        daemon.hear();
        for (report, _) in &daemon.said {
            match report {
                Report::Exited(e) if live.remove(&e.run).is_some() => ended += 1,
                Report::Exited(e) => panic!("run {} ended twice", e.run),
                Report::SpawnFailed(f) => panic!("{f:?}"),
                _ => {}
            }
        }
    }
    for run in live.keys().copied().collect::<Vec<_>>() {
        daemon.say(Request::Kill(run));
        daemon.exited(run);
        ended += 1;
    }
    assert_eq!(started, ended);
    assert_eq!(bench.alive(), [0; 0]);
    daemon.say(finish(0, ""));
    assert_eq!(bench.wait().0, 0);
}

/// Kilobytes of a line of `smaps_rollup`.
fn memory(pid: u32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or("0 kB");
    line.trim_matches([':', ' ']).split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_thousand_services_fit_into_two_megabytes() {
    let mut bench = Bench::start(&[]);
    let mut daemon = bench.up();
    let outputs: Vec<Handle> = (1..=1000).map(|slot| bench.open_slot(&mut daemon, slot)).collect();
    let start = Instant::now();
    for slot in 1..=1000 {
        let mut request = bench.script(u64::from(slot), "");
        request.program = b"/bin/sleep".into();
        request.argv = vec![b"sleep".into(), b"1000".into()];
        let spawn = Spawn { run: u64::from(slot), slot, role: 0, request };
        daemon.link.send(&Request::Spawn(spawn), &[]);
        daemon.link.send(&Request::Put(Put { key: slot.to_le_bytes().to_vec(), value: vec![1; 200] }), &[]);
    }
    daemon.link.flush();
    until("a thousand", || daemon.count(|r| matches!(r, Report::Spawned(_))) == 1000);
    daemon.acknowledge();
    let started = start.elapsed();
    let anchor = bench.anchor.id();
    let wakeups = || {
        let status = std::fs::read_to_string(format!("/proc/{anchor}/status")).unwrap();
        status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")).unwrap().trim().to_owned()
    };
    let quiet = |time| {
        let before = wakeups();
        std::thread::sleep(time);
        before == wakeups()
    };
    until("rest after the work", || quiet(Duration::from_millis(100)));
    // Not `Private_Dirty`: pages of a program that was linked just now are dirty until the disk has them.
    let private = memory(anchor, "Anonymous");
    let before = wakeups();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(before, wakeups(), "an idle anchor sleeps");
    // The next daemon gets it all; then all is ended.
    daemon.die();
    let start = Instant::now();
    let mut daemon = bench.up();
    let adopted = start.elapsed();
    assert_eq!(daemon.count(|r| matches!(r, Report::Slot(_))), 1000);
    assert_eq!(daemon.count(|r| matches!(r, Report::Run(_))), 1000);
    let start = Instant::now();
    for run in 1..=1000 {
        daemon.link.send(&Request::Signal(Signal { run, signal: stop::TERM, to: 0 }), &[]);
    }
    daemon.link.flush();
    until("a thousand ends", || daemon.count(|r| matches!(r, Report::Exited(e) if e.tree_empty)) == 1000);
    let stopped = start.elapsed();
    println!("{private} kB, started in {started:?}, adopted in {adopted:?}, stopped in {stopped:?}");
    println!("pss {} kB, rss {} kB", memory(anchor, "Pss"), memory(anchor, "Rss"));
    assert!(private <= 2048, "{private} kB");
    drop(outputs);
}
