//! Ends what a guardian left running: at the daemon's own end when its anchor is gone, and at the next start when both
//! were. The caller holds the lock on the state folder, so whatever carries this guardian's name belongs to nobody.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepwell_core::Mono;

use super::super::clock;
use super::super::spawn::Faults;
use super::cgroup::collect_pids;
use super::claim;
use super::layout::Layout;
use super::process::{self, Process};
use super::root::{ROOT_PREFIX, TreeRoot, kill_folder, remove_tree, root_name};

/// A tree that does not die in this time waits for the kernel (a lost disk); nothing more can be done about it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a tree that is dying. Only here, where there is no loop that could be woken, and for moments.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Deeper than any host nests its control groups.
const DEPTH: u32 = 12;

/// See [`TreeRoot::kill_all`].
pub(super) fn kill_all(root: &TreeRoot) -> usize {
    let folders: Vec<PathBuf> = root.roots().collect();
    end(root.guardian(), &folders)
}

/// See [`TreeRoot::end_leftovers`].
pub(super) fn end_leftovers(root: &TreeRoot) -> Vec<String> {
    let name = root_name(root.guardian());
    let mut folders: Vec<PathBuf> = root.roots().collect();
    let (mut leaves, mut others) = (Vec::new(), Vec::new());
    if let Some(mount) = Layout::current().unified_mount {
        let mut all = Vec::new();
        find(&mount, DEPTH, &mut all);
        for found in all {
            let file = found.file_name().and_then(|f| f.to_str()).unwrap_or_default();
            match file.strip_suffix(".self") {
                Some(of) if of == name => leaves.push(found),
                Some(_) => {}
                None if file == name => folders.push(found),
                None => others.push(found),
            }
        }
    }
    folders.sort();
    folders.dedup();
    let found = alive(root.guardian(), &folders).len();
    let stuck = if found > 0 { end(root.guardian(), &folders) } else { 0 };
    for folder in &folders {
        let below = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            remove_tree(&entry.path());
        }
        if !root.roots().any(|own| own == *folder) {
            remove_tree(folder);
        }
    }
    for leaf in leaves {
        // Only an empty one goes away; it may be ours.
        let _ = fs::remove_dir(leaf);
    }
    claim::sweep(&others, &root.beside());
    let mut notes = Vec::new();
    if found > 0 {
        notes.push(format!("ended {} that an earlier guardian had left running", processes(found - stuck)));
    }
    if stuck > 0 {
        notes.push(format!("{} of an earlier guardian could not be ended", processes(stuck)));
    }
    notes
}

fn processes(count: usize) -> String {
    if count == 1 { "1 process".to_owned() } else { format!("{count} processes") }
}

fn end(guardian: &str, folders: &[PathBuf]) -> usize {
    let limit = clock::mono() + PATIENCE;
    loop {
        for folder in folders {
            // Where there is no group to kill, the processes are found below.
            let _ = kill_folder(folder);
        }
        process::kill_until_none(20, Faults::default(), || alive(guardian, folders));
        let left = alive(guardian, folders).len();
        if left == 0 || clock::mono() > limit {
            return left;
        }
        wait(limit);
    }
}

fn wait(limit: Mono) {
    std::thread::sleep(LOOK_AGAIN.min(limit.since(clock::mono())));
}

/// The live processes of a guardian: in its groups, or with its mark.
fn alive(guardian: &str, folders: &[PathBuf]) -> Vec<Process> {
    let mut pids = Vec::new();
    for folder in folders {
        collect_pids(folder, &mut pids);
    }
    let me = std::process::id();
    let marked = |p: &Process| process::mark(p.pid).is_some_and(|(g, _)| g == guardian);
    let all = process::all().into_iter();
    all.filter(|p| !p.zombie && p.pid != me && (pids.contains(&p.pid) || marked(p))).collect()
}

/// The folders of all guardians, and their leaves; one may be below another's.
fn find(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        if entry.file_name().to_str().is_some_and(|f| f.starts_with(ROOT_PREFIX)) {
            found.push(entry.path());
        }
        if depth > 0 {
            find(&entry.path(), depth - 1, found);
        }
    }
}
