//! The daemon's side of trees: makes, limits, measures and removes the control groups of one guardian's services.
//!
//! In each hierarchy, below this process's own group: `keepwell-<guardian>/<service>`. The guardian's own processes stay
//! outside of it, so that all of it can be killed at once; where controllers must be enabled (pure version 2), a group with
//! enabled controllers may hold no process, and they move into `keepwell-<guardian>.self`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::ipc::{BorrowedHandle, Handle};
use super::super::spawn::Faults;
use super::cgroup::Cgroup;
use super::claim;
use super::layout::Layout;
use super::leftover;
use super::limit::{Limit, Limits, wanted};
use super::process;
use crate::types::Rlimit;

/// How one service instance's tree is held.
#[derive(Debug, Default)]
pub struct TreeDir {
    name: String,
    handle: Option<Handle>,
    join: Vec<Vec<u8>>,
    rlimits: Vec<Rlimit>,
    limits: Vec<String>,
}

impl TreeDir {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The directory of its cgroup, for the anchor; `None`: it is held by descent and mark.
    #[must_use]
    pub fn handle(&self) -> Option<BorrowedHandle<'_>> {
        self.handle.as_ref().map(AsFd::as_fd)
    }

    /// For `SpawnRequest::join`.
    #[must_use]
    pub fn join(&self) -> &[Vec<u8>] {
        &self.join
    }

    /// For `SpawnRequest::rlimits`.
    #[must_use]
    pub fn rlimits(&self) -> &[Rlimit] {
        &self.rlimits
    }

    /// For `SpawnRequest::tree_limits`: none, since the groups hold them.
    #[must_use]
    pub fn tree_limits(&self) -> Limits {
        Limits::default()
    }

    /// For each limit asked for, how it is held, in words: `memory: cgroup v1`.
    #[must_use]
    pub fn limits(&self) -> &[String] {
        &self.limits
    }
}

/// A control group that could not be made or limited.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}: {}", .path.display(), crate::in_words(.source))]
pub struct TreeError {
    /// `create`, `open`, `limit`.
    pub step: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Where one guardian's trees are.
#[derive(Debug)]
pub struct TreeRoot {
    guardian: String,
    layout: Layout,
    /// `keepwell-<guardian>` of version 2, if it could be made.
    unified: Option<PathBuf>,
    /// Held while this guardian lives.
    claim: Option<fs::File>,
    /// Why not.
    why_not: Option<String>,
    /// Controllers of version 2 are enabled below `unified`; told once tried.
    controllers: Option<Result<(), String>>,
    /// This guardian has groups of version 1, of now or of earlier.
    in_v1: bool,
}

const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
impl TreeRoot {
    /// Finds out how trees can be held here, and makes the guardian's own folder. Never fails: descent and mark always work.
    #[must_use]
    pub fn open(guardian: &str) -> TreeRoot {
        TreeRoot::with_layout(guardian, Layout::current())
    }

    /// The same in a layout of the caller's choice, for tests.
    #[must_use]
    pub fn with_layout(guardian: &str, mut layout: Layout) -> TreeRoot {
        let name = root_name(guardian);
        // A daemon that is born after its anchor moved finds itself in the leaf.
        let leaf = format!("{name}.self");
        if let Some(own) = layout.unified.as_mut().filter(|p| p.ends_with(&leaf)) {
            own.pop();
        }
        let made = match &layout.unified {
            None => Err("cgroup v2 is not mounted".to_owned()),
            Some(own) => make_root(own, &name).map_err(|e| e.to_string()),
        };
        let (unified, why_not) = match made {
            Ok(path) => (Some(path), None),
            Err(why) => (None, Some(why)),
        };
        let guardian = guardian.to_owned();
        let claim = unified.as_deref().and_then(claim::claim);
        let mut root =
            TreeRoot { guardian, layout, unified, claim, why_not, controllers: None, in_v1: false };
        root.in_v1 = CONTROLLERS.into_iter().filter_map(|c| root.v1(c)).any(|path| path.is_dir());
        root
    }

    /// What says that this guardian's groups are not abandoned, for the anchor to keep over the daemon's end; `None`: there
    /// are none.
    #[must_use]
    pub fn claim(&self) -> Option<BorrowedHandle<'_>> {
        self.claim.as_ref().map(AsFd::as_fd)
    }

    /// `cgroup` or `mark`: how trees are held here.
    #[must_use]
    pub fn containment(&self) -> &'static str {
        if self.unified.is_some() { "cgroup" } else { "mark" }
    }

    /// The same in lines for people, with the reasons.
    #[must_use]
    pub fn mechanisms(&self) -> Vec<String> {
        let trees = match (&self.unified, &self.why_not) {
            (Some(path), _) => format!("trees: cgroup v2, {}", path.display()),
            (None, why) => format!("trees: descent and mark ({})", why.as_deref().unwrap_or("no cgroup")),
        };
        let v1 = CONTROLLERS.into_iter().filter(|c| self.may_use_v1(c)).collect::<Vec<_>>().join(", ");
        let limits = match (&self.controllers, &self.why_not) {
            (Some(Ok(())), _) => Some("limits: cgroup v2".to_owned()),
            (Some(Err(_)) | None, _) if !v1.is_empty() => Some(format!("limits: cgroup v1 ({v1})")),
            // The first reason is the one that a user can do something about.
            (_, Some(why)) | (Some(Err(why)), None) => Some(format!("limits: resource limits ({why})")),
            (None, None) => None,
        };
        [Some(trees), limits].into_iter().flatten().collect()
    }

    /// Makes a service instance's control groups and sets its limits; again for the same name only sets them.
    ///
    /// # Errors
    /// When a group that should be there cannot be made or opened, or refuses a limit.
    pub fn make(&mut self, name: &str, limits: &Limits) -> Result<TreeDir, TreeError> {
        let mut tree = TreeDir { name: name.to_owned(), ..TreeDir::default() };
        let mut fresh = false;
        if let Some(root) = &self.unified {
            let path = root.join(folder_name(name));
            fresh = make(&path)?;
            let dir = fs::File::open(&path).map_err(|e| error("open", &path, e))?;
            tree.handle = Some(dir.into());
        }
        self.set(&mut tree, limits, fresh)?;
        Ok(tree)
    }

    /// Takes over the tree of an instance from the anchor, with the handle that an earlier daemon gave it. Limits that
    /// cannot be set again are as they were.
    #[must_use]
    pub fn adopt(&mut self, name: &str, handle: Option<Handle>, limits: &Limits) -> TreeDir {
        let mut tree = TreeDir { name: name.to_owned(), handle, ..TreeDir::default() };
        if let Err(e) = self.limit(&mut tree, limits) {
            tree.limits.push(e.to_string());
        }
        tree
    }

    /// Sets other limits on a tree; processes that run keep those of version 1 and resource limits until their next start.
    ///
    /// # Errors
    /// When a group refuses a limit.
    pub fn limit(&mut self, tree: &mut TreeDir, limits: &Limits) -> Result<(), TreeError> {
        self.set(tree, limits, false)
    }

    /// `fresh`: its group of version 2 was made just now, so nothing limits it.
    fn set(&mut self, tree: &mut TreeDir, limits: &Limits, fresh: bool) -> Result<(), TreeError> {
        (tree.join, tree.rlimits, tree.limits) = (Vec::new(), Vec::new(), Vec::new());
        self.lift(&tree.name, limits, fresh);
        for limit in wanted(limits) {
            self.hold(limit, tree)?;
        }
        Ok(())
    }

    /// Removes a service instance's groups. What still runs in them keeps them; the next start ends it.
    pub fn remove(&self, tree: &TreeDir) {
        let name = folder_name(&tree.name);
        for root in self.roots() {
            remove_tree(&root.join(&name));
        }
    }

    /// Removes all that this guardian made.
    pub fn close(&self) {
        for root in self.roots() {
            remove_tree(&root);
        }
    }

    /// Trees are looked into from here; the anchor need not be asked.
    #[must_use]
    pub fn asks_anchor(&self) -> bool {
        false
    }

    /// Whether a process belongs to this instance's tree. `run` and `main`: its present run.
    #[must_use]
    pub fn contains(&self, tree: &TreeDir, run: u64, main: Option<u32>, pid: u32) -> bool {
        if let Some(root) = &self.unified {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let path = text.lines().find_map(|l| l.strip_prefix("0::"));
            let tail = Path::new(root.file_name().unwrap_or(OsStr::new(""))).join(folder_name(&tree.name));
            return path.is_some_and(|p| Path::new(p).ancestors().any(|a| a.ends_with(&tail)));
        }
        process::mark(pid).is_some_and(|(g, r)| g == self.guardian && r == run)
            || main.is_some_and(|main| process::descends_from(pid, main))
    }

    /// This guardian's folder in each hierarchy.
    pub(super) fn roots(&self) -> impl Iterator<Item = PathBuf> {
        let v1 = CONTROLLERS.into_iter().filter_map(|c| self.v1(c));
        self.unified.clone().into_iter().chain(v1)
    }

    /// Kills every process of this guardian's services and waits until they are gone, at most some 10 s. Returns how many
    /// could not be ended.
    #[must_use]
    pub fn kill_all(&self) -> usize {
        leftover::kill_all(self)
    }

    /// The same for what an earlier guardian of this name left, wherever in the host's control groups it was; its groups
    /// are removed, and those of other guardians that are dead, where they are empty. Returns what is worth telling.
    #[must_use]
    pub fn end_leftovers(&self) -> Vec<String> {
        leftover::end_leftovers(self)
    }

    /// Where hierarchies of version 1 have a guardian's folder beside this one's.
    pub(super) fn beside(&self) -> Vec<&Path> {
        let Layout { memory, cpu, pids, .. } = &self.layout;
        [memory, cpu, pids].into_iter().flatten().map(PathBuf::as_path).collect()
    }

    pub(super) fn guardian(&self) -> &str {
        &self.guardian
    }

    pub(super) fn v1(&self, controller: &str) -> Option<PathBuf> {
        let own = match controller {
            "memory" => &self.layout.memory,
            "cpu" => &self.layout.cpu,
            _ => &self.layout.pids,
        };
        Some(own.as_ref()?.join(root_name(&self.guardian)))
    }

    /// Whether limits can be held there; asked without making anything.
    fn may_use_v1(&self, controller: &str) -> bool {
        let Some(root) = self.v1(controller) else { return false };
        let own = root.parent().map(|own| own.join("cgroup.procs"));
        own.is_some_and(|procs| fs::File::options().write(true).open(procs).is_ok())
    }

    /// Takes back what an earlier configuration limited and this one does not, where there is something to take back.
    fn lift(&self, name: &str, limits: &Limits, fresh: bool) {
        // Most guardians limit nothing, and a start of a thousand services looks for a thousand times these files.
        if fresh && !self.in_v1 {
            return;
        }
        /// Controller, file of version 1 or 2, the word for no limit.
        const FILES: [(&str, &str, &str); 6] = [
            ("memory", "memory.max", "max"),
            ("memory", "memory.memsw.limit_in_bytes", "-1"),
            ("memory", "memory.limit_in_bytes", "-1"),
            ("cpu", "cpu.max", "max"),
            ("cpu", "cpu.cfs_quota_us", "-1"),
            ("pids", "pids.max", "max"),
        ];
        let name = folder_name(name);
        let kept: Vec<_> = wanted(limits).map(Limit::controller).collect();
        for (controller, file, text) in FILES.into_iter().filter(|(c, ..)| !kept.contains(c)) {
            let roots = self.unified.clone().into_iter().chain(self.v1(controller));
            for path in roots.map(|root| root.join(&name).join(file)).filter(|path| path.exists()) {
                // A limit that stays is no reason not to start; the next start tries again.
                let _ = fs::write(path, text);
            }
        }
    }

    /// Holds one limit by the best means there is, and says by which.
    fn hold(&mut self, limit: Limit, tree: &mut TreeDir) -> Result<(), TreeError> {
        let name = folder_name(&tree.name);
        let word = limit.word();
        let controller = limit.controller();
        if let Some(root) = self.unified.clone() {
            let enabled = self.enable_controllers().clone();
            let dir = root.join(&name);
            if enabled.is_ok() && dir.join(limit.file()).exists() {
                write(&dir.join(limit.file()), &limit.value())?;
                tree.limits.push(format!("{word}: cgroup v2"));
                return Ok(());
            }
        }
        if let Some(root) = self.v1(controller).filter(|root| make(root).is_ok()) {
            self.in_v1 = true;
            let dir = root.join(&name);
            make(&dir)?;
            limit.set_v1(&dir)?;
            tree.join.push(dir.join("cgroup.procs").into_os_string().into_encoded_bytes());
            tree.limits.push(format!("{word}: cgroup v1"));
            return Ok(());
        }
        let why = match &self.controllers {
            Some(Err(why)) => why.clone(),
            _ => self.why_not.clone().unwrap_or_else(|| format!("no {controller} controller")),
        };
        match limit.rlimit() {
            Some((rlimit, name)) => {
                tree.rlimits.push(rlimit);
                tree.limits.push(format!("{word}: {name} ({why})"));
            }
            None => tree.limits.push(format!("{word}: not held ({why})")),
        }
        Ok(())
    }

    /// Version 2 gives controllers to a group's children only while the group itself holds no process.
    fn enable_controllers(&mut self) -> &Result<(), String> {
        let (own, root) = (self.layout.unified.clone(), self.unified.clone());
        let guardian = &self.guardian;
        self.controllers.get_or_insert_with(|| {
            let (Some(own), Some(root)) = (own, root) else { return Err("no cgroup v2".to_owned()) };
            let offered = fs::read_to_string(own.join("cgroup.controllers")).unwrap_or_default();
            let usable: Vec<_> =
                CONTROLLERS.into_iter().filter(|c| offered.split_whitespace().any(|o| o == *c)).collect();
            if usable.is_empty() {
                return Err("cgroup v2 has no controllers here".to_owned());
            }
            let missing = |dir: &Path| {
                let on = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
                usable.iter().any(|c| !on.split_whitespace().any(|o| o == *c))
            };
            if missing(&own) && own.join("cgroup.type").exists() {
                let leaf = own.join(format!("{}.self", root_name(guardian)));
                move_own_processes(&own, &leaf)?;
            }
            for dir in [&own, &root] {
                for controller in &usable {
                    let file = dir.join("cgroup.subtree_control");
                    fs::write(&file, format!("+{controller}"))
                        .map_err(|e| format!("{}: {}", file.display(), crate::in_words(&e)))?;
                }
            }
            Ok(())
        })
    }
}

/// A service may be named like a file of the kernel's; no file of the kernel's begins with `_`.
pub(super) fn folder_name(name: &str) -> String {
    let safe = name.replace('/', "_");
    if safe.contains('.') || safe.starts_with('_') { format!("_{safe}") } else { safe }
}

/// How the folders of all guardians begin.
pub(super) const ROOT_PREFIX: &str = "keepwell-";

/// The folder of all that a guardian guards.
pub(super) fn root_name(guardian: &str) -> String {
    format!("{ROOT_PREFIX}{}", guardian.replace('/', "_"))
}

fn make_root(own: &Path, name: &str) -> Result<PathBuf, TreeError> {
    let procs = own.join("cgroup.procs");
    // A process is moved, or born elsewhere, only by one who may write this file in the group that both are below.
    fs::File::options().write(true).open(&procs).map_err(|e| error("open", &procs, e))?;
    let root = own.join(name);
    make(&root)?;
    Ok(root)
}

/// Whether it was not there before.
fn make(path: &Path) -> Result<bool, TreeError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(error("create", path, e)),
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), TreeError> {
    fs::write(path, text).map_err(|e| error("limit", path, e))
}

fn error(step: &'static str, path: &Path, source: io::Error) -> TreeError {
    TreeError { step, path: path.to_owned(), source }
}

/// Moves this guardian's own processes out of the way, if there are no others.
fn move_own_processes(own: &Path, leaf: &Path) -> Result<(), String> {
    let file = |pid: u32| fs::metadata(format!("/proc/{pid}/exe")).map(|m| (m.dev(), m.ino())).ok();
    let (me, text) =
        (file(std::process::id()), fs::read_to_string(own.join("cgroup.procs")).unwrap_or_default());
    let pids: Vec<u32> = text.lines().filter_map(|l| l.parse().ok()).collect();
    if let Some(other) = pids.iter().find(|pid| file(**pid) != me) {
        return Err(format!("process {other} shares keepwell's cgroup, so it can have no controllers"));
    }
    make(leaf).map_err(|e| e.to_string())?;
    for pid in pids {
        fs::write(leaf.join("cgroup.procs"), pid.to_string())
            .map_err(|e| format!("move process {pid}: {}", crate::in_words(&e)))?;
    }
    Ok(())
}

/// Removes a group and those below it; they cannot hold files of anybody's.
pub(super) fn remove_tree(path: &Path) {
    if fs::remove_dir(path).is_ok() {
        return;
    }
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    for entry in below.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path());
    }
    let _ = fs::remove_dir(path);
}

/// Kills all that is in a folder's group; told whether it may.
pub(super) fn kill_folder(path: &Path) -> io::Result<()> {
    let dir = fs::File::open(path)?;
    Cgroup::new(dir.as_fd(), Faults::default()).kill()
}
