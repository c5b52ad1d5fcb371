//! One contract, held against the real host by every means that it has and against the fake one.
#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a failure is a failed test")]

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use keepwell_core::Mono;
use keepwell_os::fake::FakeHost;
use keepwell_os::host::{Host, HostEvent, Place, TreeRef};
use keepwell_os::spawn::{SpawnFailure, Stdio, Step};
use keepwell_os::tree::{Limits, TreeDir, TreeRoot};
use keepwell_os::{AsHandle, Handle, ProcessStatus, SpawnRequest, pipe, stop};

#[cfg(target_os = "linux")]
#[path = "contract/linux.rs"]
mod real;
#[cfg(windows)]
#[path = "contract/windows.rs"]
mod real;

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
    /// Hooks and checks that run.
    others: Vec<u32>,
    /// What programs write is read by nobody, but there is somebody who could.
    output: Vec<Handle>,
}

/// Where everything is started.
const SLOT: u32 = 5;

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

fn fake(gated: bool) -> Stage<FakeHost> {
    let mut root = real::no_trees("fake");
    let tree = root.make("web", &Limits::default()).unwrap();
    let host = FakeHost::new(Box::new(|_| false)).unwrap();
    Stage {
        host,
        real: false,
        guardian: "fake".into(),
        root,
        tree,
        gated,
        seen: Vec::new(),
        others: Vec::new(),
        output: Vec::new(),
    }
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
        real::request(self, run, act)
    }

    fn spawn(&mut self, run: u64, act: Act) -> Result<u32, SpawnFailure> {
        let request = self.request(run, act);
        let (read, write) = pipe::pipe().unwrap();
        self.output.push(read);
        let stdio = Stdio { stdout: write.as_handle(), stderr: write.as_handle() };
        let place = Place { slot: SLOT, tree: self.tree.handle() };
        let child = self.host.spawn(&request, stdio, place)?;
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
        let tree = TreeRef { slot: SLOT, handle: self.tree.handle(), run, main, others: &self.others };
        act(&mut self.host, &tree)
    }

    fn is_empty(&mut self, run: u64, main: u32) -> bool {
        self.with_tree(run, main, |host, tree| host.tree_is_empty(tree))
    }
}

fn contract<H: Host>(mut stage: Stage<H>) {
    starts_and_ends(&mut stage);
    signals(&mut stage);
    hooks(&mut stage);
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
    let obeyed = ProcessStatus { signal: Some(stop::TERM), ..ProcessStatus::default() };
    let status = stage.exited(a);
    assert!(status == obeyed || real::ends_by_itself(status), "{status:?}");
    let b = stage.spawn(11, Act::Stubborn).unwrap();
    let c = stage.spawn(12, Act::Sleep).unwrap();
    // Without its trap it would be as any other; give it the time to set it.
    if stage.real {
        std::thread::sleep(real::START);
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
    stage.with_tree(21, b, |host, tree| host.watch_tree(SLOT, tree));
    // They ignore TERM, and stand still when they are told to; KILL ends them all the same.
    stage.with_tree(21, b, |host, tree| host.freeze_tree(tree, true));
    stage.with_tree(21, b, |host, tree| host.freeze_tree(tree, false));
    assert!(!stage.is_empty(21, b));
    stage.seen.clear();
    stage.with_tree(21, b, |host, tree| host.kill_tree(tree));
    while !stage.is_empty(21, b) {
        stage.until("a word of the tree", |e| matches!(e, HostEvent::TreeChanged { slot: SLOT }));
        stage.seen.clear();
    }
    stage.host.unwatch_tree(SLOT);
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

/// What hooks and checks start is not of the tree while they run. What they leave behind is, where the tree holds all that
/// was born in it.
fn hooks<H: Host>(stage: &mut Stage<H>) {
    let main = stage.spawn(50, Act::Sleep).unwrap();
    let hook = stage.spawn(51, Act::Stubborn).unwrap();
    stage.others.push(hook);
    assert!(!stage.is_empty(50, main));
    stage.host.signal_group(main, stop::KILL);
    stage.exited(main);
    // Nobody tells of the end of what an earlier test killed, as long as the hook keeps the tree's group from being empty.
    let limit = stage.host.now() + LIMIT;
    while !stage.is_empty(50, main) {
        assert!(stage.host.now() < limit, "a hook counts as its tree");
        let soon = stage.host.now() + Duration::from_millis(10);
        let mut events = Vec::new();
        stage.host.wait(Some(soon), &mut events).unwrap();
        stage.seen.append(&mut events);
    }
    assert!(!stage.seen.iter().any(|e| matches!(e, HostEvent::Exited { pid, .. } if *pid == hook)));
    stage.host.signal_group(hook, stop::KILL);
    assert_eq!(stage.exited(hook).signal, Some(stop::KILL));
    stage.others.clear();
    if !stage.real || !real::holds_leftovers(stage) {
        return;
    }
    let main = stage.spawn(52, Act::Sleep).unwrap();
    let hook = stage.spawn(53, Act::Leave).unwrap();
    assert_eq!(stage.exited(hook).code, Some(0));
    stage.host.signal_group(main, stop::KILL);
    stage.exited(main);
    assert!(!stage.is_empty(52, main));
    stage.with_tree(52, main, |host, tree| host.kill_tree(tree));
    wait_empty(stage, 52, main);
}

/// A process may be told of a moment before its tree is seen to be empty.
fn wait_empty<H: Host>(stage: &mut Stage<H>, run: u64, main: u32) {
    stage.with_tree(run, main, |host, tree| host.watch_tree(SLOT, tree));
    while !stage.is_empty(run, main) {
        stage.until("a word of the tree", |e| matches!(e, HostEvent::TreeChanged { slot: SLOT }));
        stage.seen.clear();
    }
    stage.host.unwatch_tree(SLOT);
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
    let (read, write) = pipe::pipe().unwrap();
    stage.host.watch(read.as_handle(), 77).unwrap();
    File::from(write).write_all(b"x").unwrap();
    stage.seen.clear();
    stage.until("the pipe", |e| matches!(e, HostEvent::Ready { token: 77, readable: true, .. }));
    stage.host.unwatch(read.as_handle());
}

fn stops<H: Host>(stage: &mut Stage<H>) {
    if !stage.real {
        return;
    }
    real::stops(stage);
    let a = stage.spawn(30, Act::Sleep).unwrap();
    if stage.host.watch_process(a) {
        stage.host.signal(a, stop::KILL);
        stage.until("its end", |e| matches!(e, HostEvent::Exited { pid, .. } if *pid == a));
    }
}

#[test]
fn the_fake_host() {
    contract(fake(false));
    contract(fake(true));
}
