//! Trees for real: in cgroups where this host lets us make some, else by descent and mark.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keepwell_os::spawn::Faults;
use keepwell_os::tree::layout::Layout;
use keepwell_os::tree::{self, Batch, Cgroup, Limits, TreeRoot, TreeWatch, process};
use keepwell_os::{Measure, Measures};

/// A guardian of this test's own.
fn guardian(name: &str) -> String {
    format!("test{}{name}", std::process::id())
}

/// Where there is no cgroup that may be written there is nothing to test here; the marks have tests of their own.
fn root(name: &str) -> Option<TreeRoot> {
    let root = TreeRoot::open(&guardian(name));
    (root.containment() == "cgroup").then_some(root)
}

/// A shell in the cgroup of a slot, with its script's first word written when it is there.
fn start_in(tree: &std::path::Path, script: &str) -> Child {
    let script = format!("echo $$ > {}/cgroup.procs; {script}", tree.display());
    Command::new("/bin/sh").args(["-c", &script]).stdout(Stdio::null()).spawn().unwrap()
}

fn folder(tree: &impl AsFd) -> std::path::PathBuf {
    let number = std::os::fd::AsRawFd::as_raw_fd(&tree.as_fd());
    std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_tree_is_killed_whole_by_every_means() {
    let ways = [
        Faults::default(),
        Faults { cgroup_kill: Some(libc::ENOENT), ..Faults::default() },
        Faults { cgroup_kill: Some(libc::ENOENT), cgroup_freeze: Some(libc::ENOENT), ..Faults::default() },
    ];
    for (i, way) in ways.into_iter().enumerate() {
        let Some(mut root) = root(&format!("kill{i}")) else { return };
        let held = root.make("web", &Limits::default()).unwrap();
        let dir = held.handle().unwrap();
        let tree = Cgroup::new(dir, way);
        assert!(tree.is_empty());
        let script = "trap '' TERM; setsid -f sleep 1000; sleep 1000 & (sleep 1000 & sleep 1000)";
        let mut child = start_in(&folder(&dir), script);
        until("five processes", || tree.pids().len() >= 5);
        assert!(!tree.is_empty());
        let watch = TreeWatch::new().unwrap();
        let id = watch.add(dir).unwrap();
        tree.kill().unwrap();
        child.wait().unwrap();
        until("empty", || tree.is_empty());
        let mut told = false;
        until("told", || {
            watch.take(|news| told |= news == Some(id));
            told
        });
        let path = folder(&dir);
        root.remove(&held);
        assert!(!path.exists());
        assert!(tree.is_empty(), "a tree whose folder is gone is empty");
        root.close();
        assert!(!path.parent().unwrap().exists());
    }
}

#[test]
fn a_frozen_tree_stands_still_and_can_be_killed() {
    for fault in [None, Some(libc::ENOENT)] {
        let Some(mut root) = root("freeze") else { return };
        let web = root.make("web", &Limits::default()).unwrap();
        let dir = web.handle().unwrap();
        let tree = Cgroup::new(dir, Faults { cgroup_freeze: fault, ..Faults::default() });
        let folder = folder(&dir);
        let mut child = start_in(&folder, "while :; do :; done");
        let usage = || {
            root.usage(&web, None, None, Measures::of(&[Measure::Cpu]), &Batch::default()).cpu_usec.unwrap()
        };
        until("work", || !tree.is_empty() && usage() > 1000);
        tree.freeze(true).unwrap();
        until("stillness", || {
            let before = usage();
            std::thread::sleep(Duration::from_millis(30));
            usage() == before
        });
        tree.freeze(false).unwrap();
        let before = usage();
        until("work again", || usage() > before + 1000);
        tree.freeze(true).unwrap();
        tree.kill().unwrap();
        child.wait().unwrap();
        until("empty", || tree.is_empty());
        root.close();
    }
}

#[test]
fn limits_are_held_by_what_there_is_and_said() {
    let name = guardian("limits");
    let limits = Limits { memory: Some(64 << 20), cpu_millis: Some(500), tasks: Some(20) };
    // Nothing to write: resource limits stand in, and the one that cannot be held is said.
    let mut root = TreeRoot::with_layout(&name, Layout::default());
    assert_eq!(root.containment(), "mark");
    let held = root.make("web", &limits).unwrap();
    assert_eq!(held.rlimits().len(), 2);
    assert_eq!(
        held.limits(),
        [
            "memory: address space of each process (cgroup v2 is not mounted)",
            "cpu: not held (cgroup v2 is not mounted)",
            "tasks: processes of its user (cgroup v2 is not mounted)",
        ]
    );
    assert_eq!(
        root.mechanisms(),
        [
            "trees: descent and mark (cgroup v2 is not mounted)",
            "limits: resource limits (cgroup v2 is not mounted)",
        ]
    );
    // Hierarchies that are there and may not be written hold nothing; a folder without `cgroup.procs` stands for them.
    let there = tempfile::tempdir().unwrap();
    let closed = Some(there.path().to_owned());
    let layout = Layout { unified: closed.clone(), memory: closed, ..Layout::default() };
    let told = TreeRoot::with_layout(&name, layout).mechanisms();
    let why = format!("open {}/cgroup.procs: no such file or directory", there.path().display());
    assert_eq!(
        told,
        [format!("trees: descent and mark ({why})"), format!("limits: resource limits ({why})")]
    );
    // What this host has.
    let mut root = TreeRoot::open(&name);
    let held = root.make("web", &limits).unwrap();
    assert_eq!(held.limits().len(), 3);
    println!("{:?} {}", held.limits(), root.mechanisms().join(", "));
    for file in held.join() {
        assert!(std::fs::metadata(String::from_utf8(file.clone()).unwrap()).is_ok());
    }
    assert_eq!(
        held.rlimits().len() + held.join().len(),
        held.limits().iter().filter(|h| !h.ends_with("v2") && !h.contains("not held")).count()
    );
    // A later configuration without limits takes them back.
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    if let Some(file) =
        held.join().iter().map(|f| String::from_utf8(f.clone()).unwrap()).find(|f| f.contains("/pids/"))
    {
        let max = file.replace("cgroup.procs", "pids.max");
        assert_eq!(read(&max), "20\n");
        root.make("web", &Limits::default()).unwrap();
        assert_eq!(read(&max), "max\n");
    }
    root.close();
}

#[test]
fn leftovers_of_a_dead_guardian_are_found_and_ended() {
    let name = guardian("left");
    let marked = |run: u64| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM HUP; setsid -f sleep 1000; sleep 1000 & wait"]);
        command.env(tree::MARK, format!("{name}/{run}")).spawn().unwrap()
    };
    let mut children = vec![marked(1), marked(2)];
    let mut stranger =
        Command::new("sleep").arg("1000").env(tree::MARK, format!("{name}x/1")).spawn().unwrap();
    let of_this = |p: &process::Process| !p.zombie && process::mark(p.pid).is_some_and(|(g, _)| g == name);
    until("six", || process::all().iter().filter(|p| of_this(p)).count() == 6);
    let mut root = TreeRoot::open(&name);
    if root.containment() == "cgroup" {
        // One that has washed its environment, but is in the guardian's group.
        let web = root.make("web", &Limits::default()).unwrap();
        let dir = web.handle().unwrap();
        children.push(start_in(&folder(&dir), "exec env -i sleep 1000"));
        until("in the tree", || !Cgroup::new(dir, Faults::default()).is_empty());
    }
    let notes = root.end_leftovers();
    assert_eq!(
        notes,
        [format!("ended {} processes that an earlier guardian had left running", 4 + children.len())]
    );
    for mut child in children {
        child.wait().unwrap();
    }
    assert_eq!(process::all().iter().filter(|p| of_this(p)).count(), 0);
    assert!(stranger.try_wait().unwrap().is_none(), "another guardian's process was hit");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(root.end_leftovers(), [""; 0]);
    root.close();
}

#[test]
fn empty_folders_of_dead_guardians_are_removed_and_no_others() {
    let Some(mut dead) = root("dead") else { return };
    let (Some(mut alive), Some(young)) = (root("alive"), root("young")) else { return };
    let Some(mut busy) = root("busy") else { return };
    let path = |root: &mut TreeRoot| {
        let web = root.make("web", &Limits::default()).unwrap();
        folder(&web.handle().unwrap()).parent().unwrap().to_owned()
    };
    let paths = [path(&mut dead), path(&mut alive), path(&mut busy)];
    let mut child = start_in(&paths[2].join("web"), "exec sleep 1000");
    let procs = || std::fs::read_to_string(paths[2].join("web/cgroup.procs")).unwrap();
    until("one at work", || !procs().is_empty());
    for path in &paths {
        let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::open(path).unwrap().set_modified(hour_ago).unwrap();
    }
    // What the anchor keeps is as good as a daemon.
    let kept = alive.claim().unwrap().try_clone_to_owned().unwrap();
    let young_path = paths[0].with_file_name(format!("keepwell-{}", guardian("young")));
    drop((dead, alive, young, busy));
    let other = root("other").unwrap();
    assert_eq!(other.end_leftovers(), [""; 0]);
    let there = |path: &std::path::Path| path.exists();
    assert!(!there(&paths[0]), "a dead guardian's stays");
    assert!(there(&paths[1].join("web")), "a living guardian's is gone");
    assert!(there(&young_path), "one that was made just now is gone");
    assert!(there(&paths[2].join("web")) && child.try_wait().unwrap().is_none(), "what runs was hit");
    drop(kept);
    child.kill().unwrap();
    child.wait().unwrap();
    until("no one at work", || procs().is_empty());
    assert_eq!(other.end_leftovers(), [""; 0]);
    assert!(!there(&paths[1]) && !there(&paths[2]));
    std::fs::remove_dir(young_path).unwrap();
    other.close();
}

#[test]
fn a_process_knows_its_tree() {
    let name = guardian("contains");
    let mut root = TreeRoot::open(&name);
    let held = root.make("web@2", &Limits::default()).unwrap();
    let mut child = match held.handle() {
        Some(dir) => start_in(&folder(&dir), "exec sleep 1000"),
        None => Command::new("sleep").arg("1000").env(tree::MARK, format!("{name}/7")).spawn().unwrap(),
    };
    let pid = child.id();
    until("there", || root.contains(&held, 7, None, pid));
    let other = root.make("web", &Limits::default()).unwrap();
    assert!(!root.contains(&other, 8, None, pid));
    assert!(!root.contains(&held, 7, None, std::process::id()));
    let asked = [Measure::Memory, Measure::Descriptors, Measure::Threads, Measure::Processes];
    let usage = || root.usage(&held, Some(pid), None, Measures::of(&asked), &Batch::default());
    until("usage", || usage().memory_bytes.is_some_and(|m| m > 0));
    let usage = usage();
    assert!(usage.descriptors > Some(0) && usage.descriptors_of_one == usage.descriptors, "{usage:?}");
    assert_eq!((usage.threads, usage.processes), (Some(1), Some(1)));
    let plain = TreeRoot::with_layout(&name, Layout::default());
    assert!(plain.contains(&held, 0, Some(std::process::id()), pid), "a descendant belongs to the tree");
    child.kill().unwrap();
    child.wait().unwrap();
    root.close();
}

#[test]
fn a_signal_never_reaches_a_process_that_came_later() {
    for faults in [Faults::default(), Faults::all(libc::ENOSYS)] {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let now = process::look(child.id()).unwrap();
        let earlier = process::Process { started: now.started - 1, ..now };
        process::signal(&earlier, libc::SIGKILL, faults);
        std::thread::sleep(Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none());
        process::signal(&now, libc::SIGKILL, faults);
        child.wait().unwrap();
    }
}

#[test]
fn a_fork_bomb_ends_at_its_limit_and_is_killed() {
    let Some(mut root) = root("bomb") else { return };
    let held = root.make("bomb", &Limits { tasks: Some(30), ..Limits::default() }).unwrap();
    if held.rlimits().len() == 1 {
        return;
    }
    let dir = held.handle().unwrap();
    let tree = Cgroup::new(dir, Faults::default());
    let mut script = String::new();
    for file in held.join() {
        script += &format!("echo $$ > {}; ", str::from_utf8(file).unwrap());
    }
    script += "f() { while :; do sleep 1000 & done; }; f 2>/dev/null & f 2>/dev/null & f 2>/dev/null & wait";
    let mut child = start_in(&folder(&dir), &script);
    until("the limit", || tree.pids().len() >= 25);
    for _ in 0..20 {
        assert!(tree.pids().len() <= 30);
    }
    tree.kill().unwrap();
    child.wait().unwrap();
    until("empty", || tree.is_empty());
    root.close();
}
