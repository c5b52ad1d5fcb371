//! One contract, held against the real host by every means that it has and against the fake one.
#![expect(unsafe_code, reason = "each case runs in a process of its own, as a host must")]
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a failure is a failed test")]

use std::io::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use keepwell_core::Mono;
use keepwell_os::fake::FakeHost;
use keepwell_os::host::{Host, HostEvent, TreeRef};
use keepwell_os::spawn::{Faults, SpawnFailure, Stdio, Step};
use keepwell_os::tree::layout::Layout;
use keepwell_os::tree::{Limits, MARK, TreeDir, TreeRoot};
use keepwell_os::{ProcessStatus, SpawnRequest, SystemHost, stop};

/// What a test wants a program to do.
#[derive(Clone, Copy)]
enum Act {
    Sleep,
    Stubborn,
    Exit(i32),
    /// End with 0 and leave three stubborn processes, by every trick there is.
    Leave,
    Missing,
}

/// A host and how to make programs for it.
struct Stage<H: Host> {
    host: H,
    real: bool,
    guardian: String,
    root: TreeRoot,
    tree: TreeDir,
    /// Every start goes through a gate.
    gated: bool,
    seen: Vec<HostEvent>,
}

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

fn real(faults: Faults, cgroups: bool, gated: bool) -> Stage<SystemHost> {
    let guardian = format!("contract{}", std::process::id());
    let layout = if cgroups { Layout::current() } else { Layout::default() };
    let mut root = TreeRoot::with_layout(&guardian, layout);
    let limits = Limits { tasks: gated.then_some(100), ..Limits::default() };
    let tree = root.make("web", &limits).unwrap();
    let host = SystemHost::new(&guardian, faults).unwrap();
    Stage { host, real: true, guardian, root, tree, gated, seen: Vec::new() }
}

fn fake(gated: bool) -> Stage<FakeHost> {
    let mut root = TreeRoot::with_layout("fake", Layout::default());
    let tree = root.make("web", &Limits::default()).unwrap();
    let host = FakeHost::new(Box::new(|_| false)).unwrap();
    Stage { host, real: false, guardian: "fake".into(), root, tree, gated, seen: Vec::new() }
}

impl<H: Host> Stage<H> {
    fn request(&self, run: u64, act: Act) -> SpawnRequest {
        if !self.real {
            let program = match act {
                Act::Sleep => "sleep".to_owned(),
                Act::Stubborn => "stubborn".to_owned(),
                Act::Exit(code) => format!("exit:{code}"),
                Act::Leave => "leaves:3".to_owned(),
                Act::Missing => "missing".to_owned(),
            };
            let gate = if self.gated { "gated:" } else { "" };
            let program = format!("fake:{gate}{program}").into_bytes();
            return SpawnRequest { program, argv: vec![b"x".into()], ..SpawnRequest::default() };
        }
        let script = match act {
            Act::Sleep => "exec sleep 1000".to_owned(),
            Act::Stubborn => "trap '' TERM INT HUP; while :; do sleep 1; done".to_owned(),
            Act::Exit(code) => format!("exit {code}"),
            // Out of the session, with the pipe held, out of the environment.
            Act::Leave => "trap '' TERM; setsid -f sleep 1000; sleep 1000 & env -i sleep 1000 & \
                           while [ $(cat /proc/[0-9]*/stat 2>/dev/null | grep -c '(sleep)') -lt 3 ]; do :; done; exit 0"
                .to_owned(),
            Act::Missing => String::new(),
        };
        let program = if matches!(act, Act::Missing) { "/no/such/program" } else { "/bin/sh" };
        SpawnRequest {
            program: program.into(),
            argv: vec![b"sh".into(), b"-c".into(), script.into_bytes()],
            env: vec![b"PATH=/usr/bin:/bin".into(), format!("{MARK}={}/{run}", self.guardian).into_bytes()],
            cwd: b"/".into(),
            join: if self.gated { self.tree.join().to_vec() } else { Vec::new() },
            ..SpawnRequest::default()
        }
    }

    fn spawn(&mut self, run: u64, act: Act) -> Result<u32, SpawnFailure> {
        let request = self.request(run, act);
        let (_, write) = std::io::pipe().unwrap();
        let stdio = Stdio { stdout: write.as_fd(), stderr: write.as_fd() };
        let child = self.host.spawn(&request, stdio, self.tree.handle())?;
        if !child.loaded {
            let told = |e: &HostEvent| matches!(e, HostEvent::Loaded { pid, .. } if *pid == child.pid);
            match self.until("loaded", told) {
                HostEvent::Loaded { outcome, .. } => outcome?,
                other => panic!("{other:?}"),
            }
        }
        Ok(child.pid)
    }

    /// The first event that is so, now or from before.
    fn until(&mut self, what: &str, is: impl Fn(&HostEvent) -> bool) -> HostEvent {
        let limit = self.host.now() + LIMIT;
        let mut events = Vec::new();
        loop {
            if let Some(found) = self.seen.iter().find(|e| is(e)) {
                return found.clone();
            }
            assert!(self.host.now() < limit, "never: {what}; {:?}", self.seen);
            self.host.wait(Some(limit), &mut events).unwrap();
            self.seen.append(&mut events);
        }
    }

    fn exited(&mut self, wanted: u32) -> ProcessStatus {
        match self.until("exited", |e| matches!(e, HostEvent::Exited { pid, .. } if *pid == wanted)) {
            HostEvent::Exited { status, .. } => status,
            other => panic!("{other:?}"),
        }
    }

    fn with_tree<R>(&mut self, run: u64, main: u32, act: impl FnOnce(&mut H, &TreeRef<'_>) -> R) -> R {
        act(&mut self.host, &TreeRef { handle: self.tree.handle(), run, main, others: &[] })
    }

    fn is_empty(&mut self, run: u64, main: u32) -> bool {
        self.with_tree(run, main, |host, tree| host.tree_is_empty(tree))
    }
}

fn contract<H: Host>(mut stage: Stage<H>) {
    starts_and_ends(&mut stage);
    signals(&mut stage);
    trees(&mut stage);
    time_and_handles(&mut stage);
    stops(&mut stage);
    assert_eq!(stage.root.kill_all(), 0);
    stage.root.close();
}

fn starts_and_ends<H: Host>(stage: &mut Stage<H>) {
    let a = stage.spawn(1, Act::Exit(0)).unwrap();
    let b = stage.spawn(2, Act::Exit(7)).unwrap();
    assert_ne!(a, b);
    assert_eq!(stage.exited(b), ProcessStatus { code: Some(7), ..ProcessStatus::default() });
    assert_eq!(stage.exited(a).code, Some(0));
    let failure = stage.spawn(3, Act::Missing).unwrap_err();
    assert_eq!(failure.step, Step::Exec);
    // A start that failed leaves nothing to be told.
    let c = stage.spawn(4, Act::Exit(1)).unwrap();
    stage.exited(c);
    let ends = stage.seen.iter().filter(|e| matches!(e, HostEvent::Exited { .. })).count();
    assert_eq!(ends, 3, "{:?}", stage.seen);
}

fn signals<H: Host>(stage: &mut Stage<H>) {
    let a = stage.spawn(10, Act::Sleep).unwrap();
    stage.host.signal(a, stop::TERM);
    assert_eq!(stage.exited(a), ProcessStatus { signal: Some(stop::TERM), ..ProcessStatus::default() });
    let b = stage.spawn(11, Act::Stubborn).unwrap();
    let c = stage.spawn(12, Act::Sleep).unwrap();
    // Without its trap it would be as any other; give it the time to set it.
    if stage.real {
        std::thread::sleep(Duration::from_millis(100));
    }
    stage.host.signal(b, stop::TERM);
    stage.host.signal(c, stop::TERM);
    stage.exited(c);
    assert!(!stage.seen.iter().any(|e| matches!(e, HostEvent::Exited { pid, .. } if *pid == b)));
    stage.host.signal_group(b, stop::KILL);
    assert_eq!(stage.exited(b).signal, Some(stop::KILL));
    // To one that is gone: nothing.
    stage.host.signal(b, stop::KILL);
}

fn trees<H: Host>(stage: &mut Stage<H>) {
    let a = stage.spawn(20, Act::Sleep).unwrap();
    assert!(!stage.is_empty(20, a));
    stage.with_tree(20, a, |host, tree| host.kill_tree(tree));
    stage.exited(a);
    wait_empty(stage, 20, a);
    let b = stage.spawn(21, Act::Leave).unwrap();
    assert_eq!(stage.exited(b).code, Some(0));
    assert!(!stage.is_empty(21, b));
    stage.with_tree(21, b, |host, tree| host.watch_tree(5, tree));
    // They ignore TERM, and stand still when they are told to; KILL ends them all the same.
    stage.with_tree(21, b, |host, tree| host.freeze_tree(tree, true));
    stage.with_tree(21, b, |host, tree| host.freeze_tree(tree, false));
    assert!(!stage.is_empty(21, b));
    stage.seen.clear();
    stage.with_tree(21, b, |host, tree| host.kill_tree(tree));
    while !stage.is_empty(21, b) {
        stage.until("a word of the tree", |e| matches!(e, HostEvent::TreeChanged { slot: 5 }));
        stage.seen.clear();
    }
    stage.host.unwatch_tree(5);
    // The next runs live in the same tree as if nothing had been, and can be killed as those before.
    for run in 30..33 {
        let main = stage.spawn(run, Act::Stubborn).unwrap();
        assert!(!stage.is_empty(run, main));
        stage.with_tree(run, main, |host, tree| host.kill_tree(tree));
        assert_eq!(stage.exited(main).signal, Some(stop::KILL));
        wait_empty(stage, run, main);
        let main = stage.spawn(run + 10, Act::Exit(3)).unwrap();
        assert_eq!(stage.exited(main).code, Some(3));
    }
    let c = stage.spawn(22, Act::Exit(0)).unwrap();
    stage.exited(c);
    wait_empty(stage, 22, c);
}

/// A process may be told of a moment before its tree is seen to be empty.
fn wait_empty<H: Host>(stage: &mut Stage<H>, run: u64, main: u32) {
    stage.with_tree(run, main, |host, tree| host.watch_tree(6, tree));
    while !stage.is_empty(run, main) {
        stage.until("a word of the tree", |e| matches!(e, HostEvent::TreeChanged { slot: 6 }));
        stage.seen.clear();
    }
    stage.host.unwatch_tree(6);
}

fn time_and_handles<H: Host>(stage: &mut Stage<H>) {
    let mut events = Vec::new();
    let at = stage.host.now() + Duration::from_millis(20);
    while stage.host.now() < at {
        stage.host.wait(Some(at), &mut events).unwrap();
        assert!(events.iter().all(|e| !matches!(e, HostEvent::Exited { .. })), "{events:?}");
    }
    // A deadline in the past does not wait.
    stage.host.wait(Some(Mono(0)), &mut events).unwrap();
    let (read, mut write) = std::io::pipe().unwrap();
    stage.host.watch(read.as_fd(), 77).unwrap();
    write.write_all(b"x").unwrap();
    stage.seen.clear();
    stage.until("the pipe", |e| matches!(e, HostEvent::Ready { token: 77, readable: true, .. }));
    stage.host.unwatch(read.as_fd());
}

fn stops<H: Host>(stage: &mut Stage<H>) {
    if !stage.real {
        return;
    }
    for name in ["INT", "TERM", "HUP", "QUIT"] {
        let number = stop::signal_number(name).unwrap();
        stop::signal(std::process::id(), number).unwrap();
        stage.until(name, |e| *e == HostEvent::Stop { signal: number });
    }
    for name in ["TSTP", "TTIN", "TTOU", "PIPE", "USR1", "USR2"] {
        stop::signal(std::process::id(), stop::signal_number(name).unwrap()).unwrap();
    }
    let a = stage.spawn(30, Act::Sleep).unwrap();
    if stage.host.watch_process(a) {
        stage.host.signal(a, stop::KILL);
        stage.until("its end", |e| matches!(e, HostEvent::Exited { pid, .. } if *pid == a));
    }
}

/// A host changes its whole process: signals, limits, who inherits orphans. In a process of its own, with one thread.
fn alone(case: impl FnOnce()) {
    // SAFETY: the child has one thread, this one; it runs the case and ends without returning.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = i32::from(catch_unwind(AssertUnwindSafe(case)).is_err());
        // SAFETY: ends the child without the parent's clean-up.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is filled by the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
}

#[test]
fn the_fake_host() {
    contract(fake(false));
    contract(fake(true));
}

#[test]
fn the_real_host_by_the_best_means() {
    alone(|| contract(real(Faults::default(), true, false)));
}

#[test]
fn the_real_host_with_version_1_limits() {
    alone(|| contract(real(Faults::default(), true, true)));
}

#[test]
fn the_real_host_without_cgroups() {
    alone(|| contract(real(Faults::default(), false, false)));
}

#[test]
fn the_real_host_on_an_old_kernel() {
    for cgroups in [true, false] {
        alone(|| contract(real(Faults::all(libc::ENOSYS), cgroups, false)));
    }
}

#[test]
fn the_real_host_under_a_filter() {
    for cgroups in [true, false] {
        alone(|| contract(real(Faults::all(libc::EPERM), cgroups, false)));
    }
    let clone3 = Faults { clone3: Some(libc::EPERM), ..Faults::default() };
    alone(|| contract(real(clone3, true, false)));
}

#[test]
fn the_real_host_as_an_ordinary_user() {
    alone(|| {
        // SAFETY: no pointers; without the right to do so it fails, and then this is an ordinary user already.
        unsafe { (libc::setgid(65_534), libc::setuid(65_534)) };
        // The system makes a process that changed its user unreadable for that user; a program would be loaded anew.
        // SAFETY: no pointers.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1 as libc::c_long, 0, 0, 0) };
        contract(real(Faults::default(), true, false));
    });
}
