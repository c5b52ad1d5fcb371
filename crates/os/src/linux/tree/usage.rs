//! What a tree uses, from the small files that the kernel has about groups and processes (cgroups(7), proc(5)). Only those
//! are read that the question needs: a guardian may ask it of a thousand trees every five seconds. Most of what that costs
//! is the kernel's walk from the root to each file, so a group's are opened from its directory.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::cgroup::{collect_pids, count_in, read_at};
use super::process;
use super::root::{TreeDir, TreeRoot, folder_name};
use crate::types::{Measure, Measures, Members, Usage, main_first};

/// What several questions at the same time can share: nothing here.
#[derive(Debug, Default)]
pub struct Batch(());

/// More than any of the files that are read here, but lists of processes.
type Room = [u8; 8192];

impl TreeRoot {
    /// What a service instance uses. `main`: its main process, for trees without a group.
    #[must_use]
    pub fn usage(
        &self,
        tree: &TreeDir,
        main: Option<u32>,
        _: Option<&Members>,
        wanted: Measures,
        _: &Batch,
    ) -> Usage {
        let mut usage = Usage::default();
        let mut room = [0; 8192];
        let group = tree.handle().map(Folder::Open);
        if wanted.has(Measure::Memory) {
            let v2 = group.as_ref().and_then(|dir| held(&mut room, dir, c"memory.current", "inactive_file"));
            let v1 = || {
                // Where it is in none, it is looked for in vain and at length.
                let root = self.v1("memory").filter(|_| !tree.join().is_empty())?;
                let dir = Folder::At(root.join(folder_name(tree.name())));
                held(&mut room, &dir, c"memory.usage_in_bytes", "total_inactive_file")
            };
            usage.memory_bytes = v2.or_else(v1);
        }
        if wanted.has(Measure::Cpu) {
            let stat = group.as_ref().and_then(|dir| dir.read(&mut room, c"cpu.stat"));
            usage.cpu_usec = stat.and_then(|text| count_in(text, "usage_usec"));
        }
        let of_processes = Ask {
            memory: wanted.has(Measure::Memory) && usage.memory_bytes.is_none(),
            cpu: wanted.has(Measure::Cpu) && usage.cpu_usec.is_none(),
            wanted,
        };
        if of_processes.any() {
            let pids = pids(tree, main, &mut room);
            usage.processes = wanted.has(Measure::Processes).then_some(pids.len() as u64);
            for pid in pids {
                of_processes.add(&mut usage, pid, &mut room);
            }
        }
        usage
    }

    /// The processes of a tree, its main process first.
    #[must_use]
    pub fn members(&self, tree: &TreeDir, main: u32, _: Option<&Members>) -> Vec<u32> {
        main_first(main, &pids(tree, Some(main), &mut [0; 8192]))
    }

    /// How many objects of its windows a process may have: there are none here.
    #[must_use]
    pub fn gui_limits(&self) -> Option<(u64, u64)> {
        None
    }
}

/// What one process uses, without those that it has started.
#[must_use]
pub fn of_process(pid: u32) -> Usage {
    let mut room = [0; 8192];
    let stat = stat(pid, &mut room);
    Usage {
        memory_bytes: resident_bytes(pid, &mut room),
        cpu_usec: stat.map(|s| s.own_usec),
        descriptors: descriptors(pid),
        threads: stat.map(|s| s.threads),
        ..Usage::default()
    }
}

/// What is to be asked of each process.
struct Ask {
    memory: bool,
    cpu: bool,
    wanted: Measures,
}

impl Ask {
    fn any(&self) -> bool {
        const EACH: [Measure; 5] =
            [Measure::Pss, Measure::Io, Measure::Descriptors, Measure::Threads, Measure::Processes];
        self.memory || self.cpu || EACH.into_iter().any(|one| self.wanted.has(one))
    }

    /// What cannot be read is another user's that we may not look into, or gone.
    fn add(&self, usage: &mut Usage, pid: u32, room: &mut Room) {
        if self.memory {
            Usage::add(&mut usage.memory_bytes, resident_bytes(pid, room));
        }
        if self.wanted.has(Measure::Pss) {
            Usage::add(&mut usage.pss_bytes, pss_bytes(pid, room));
        }
        if self.wanted.has(Measure::Io) {
            Usage::add(&mut usage.io_bytes, io_bytes(pid, room));
        }
        if self.wanted.has(Measure::Descriptors) {
            let open = descriptors(pid);
            Usage::add(&mut usage.descriptors, open);
            Usage::most(&mut usage.descriptors_of_one, open);
        }
        if self.cpu || self.wanted.has(Measure::Threads) {
            let stat = stat(pid, room);
            if self.cpu {
                Usage::add(&mut usage.cpu_usec, stat.map(|s| s.own_usec + s.childrens_usec));
            }
            if self.wanted.has(Measure::Threads) {
                Usage::add(&mut usage.threads, stat.map(|s| s.threads));
            }
        }
    }
}

/// A folder of the kernel's.
enum Folder<'a> {
    Open(BorrowedFd<'a>),
    At(PathBuf),
}

impl Folder<'_> {
    fn read<'r>(&self, room: &'r mut Room, name: &CStr) -> Option<&'r [u8]> {
        match self {
            Folder::Open(dir) => {
                let n = read_at(*dir, name, room).ok()?;
                room.get(..n)
            }
            Folder::At(path) => read(room, &path.join(OsStr::from_bytes(name.to_bytes()))),
        }
    }
}

/// Those of its group, and of groups that its programs have made in there; without a group, those that descend from `main`.
fn pids(tree: &TreeDir, main: Option<u32>, room: &mut Room) -> Vec<u32> {
    let Some(dir) = tree.handle() else {
        return main.map(|main| process::descendants(main).into_iter().collect()).unwrap_or_default();
    };
    // A folder has two links, and one more for each in it. Most groups have none below them, and to list what is in a group
    // costs as much as all the rest.
    if has_none_below(dir)
        && let Some(text) = Folder::Open(dir).read(room, c"cgroup.procs")
        && text.len() < ALL_OF_A_LIST
    {
        let text = str::from_utf8(text).unwrap_or_default();
        return text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|pid| *pid != 0).collect();
    }
    let mut pids = Vec::new();
    collect_pids(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())), &mut pids);
    pids
}

/// One look gives at most a page of a list that goes on, and of one that is shorter all but a number.
const ALL_OF_A_LIST: usize = 4000;

fn has_none_below(dir: BorrowedFd<'_>) -> bool {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: an open descriptor, and room for the answer, which is whole if the call succeeds.
    unsafe { libc::fstat(dir.as_raw_fd(), stat.as_mut_ptr()) == 0 && stat.assume_init().st_nlink == 2 }
}

/// A group's memory, less what it has read from files and not used of late: the kernel takes that back when it needs it.
fn held(room: &mut Room, dir: &Folder<'_>, file: &CStr, reclaimable: &str) -> Option<u64> {
    let all: u64 = number(dir.read(room, file)?)?;
    let cache = dir.read(room, c"memory.stat").and_then(|text| count_in(text, reclaimable));
    Some(all.saturating_sub(cache.unwrap_or(0)))
}

/// One look, since these files are shorter than the room and come whole.
fn read<'a>(room: &'a mut Room, path: &Path) -> Option<&'a [u8]> {
    let n = File::open(path).ok()?.read(room).ok()?;
    room.get(..n)
}

fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

fn resident_bytes(pid: u32, room: &mut Room) -> Option<u64> {
    let text = str::from_utf8(read(room, Path::new(&format!("/proc/{pid}/statm")))?).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * super::page_size())
}

fn pss_bytes(pid: u32, room: &mut Room) -> Option<u64> {
    let text = str::from_utf8(read(room, Path::new(&format!("/proc/{pid}/smaps_rollup")))?).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn io_bytes(pid: u32, room: &mut Room) -> Option<u64> {
    let text = read(room, Path::new(&format!("/proc/{pid}/io")))?;
    Some(count_in(text, "read_bytes:")? + count_in(text, "write_bytes:")?)
}

fn descriptors(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    // Since Linux 6.2 their number is the folder's size.
    match fs::metadata(&folder).ok()?.size() {
        0 => Some(fs::read_dir(&folder).ok()?.count() as u64),
        count => Some(count),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    /// Processor time of all its threads, in microseconds.
    own_usec: u64,
    /// Of the children that it has waited for.
    childrens_usec: u64,
    threads: u64,
}

fn stat(pid: u32, room: &mut Room) -> Option<Stat> {
    parse_stat(read(room, Path::new(&format!("/proc/{pid}/stat")))?)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    /// Microseconds of a tick: the kernel tells in hundredths of a second, whatever it counts in (`USER_HZ`).
    const TICK: u64 = 10_000;
    let end = text.iter().rposition(|b| *b == b')')?;
    let fields = str::from_utf8(text.get(end + 2..)?).ok()?.split(' ').skip(11);
    // Priorities may be below zero.
    let mut fields = fields.map_while(|field| field.parse::<i64>().ok());
    let mut next = || u64::try_from(fields.next()?).ok();
    let own_usec = (next()? + next()?) * TICK;
    let childrens_usec = (next()? + next()?) * TICK;
    Some(Stat { own_usec, childrens_usec, threads: u64::try_from(fields.nth(2)?).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Measure; 7] = [
        Measure::Memory,
        Measure::Pss,
        Measure::Cpu,
        Measure::Io,
        Measure::Descriptors,
        Measure::Threads,
        Measure::Processes,
    ];

    #[test]
    fn what_is_asked_for_is_measured_and_nothing_else() {
        let root = TreeRoot::with_layout(
            &format!("usage-{}", std::process::id()),
            super::super::layout::Layout::default(),
        );
        let (tree, me) = (TreeDir::default(), Some(std::process::id()));
        let all = root.usage(&tree, me, None, Measures::of(&ALL), &Batch::default());
        assert!(all.memory_bytes > Some(64 << 10) && all.pss_bytes > Some(64 << 10), "{all:?}");
        assert!(all.cpu_usec.is_some() && all.io_bytes.is_some() && all.threads > Some(0), "{all:?}");
        assert!(all.descriptors > Some(2) && all.descriptors_of_one <= all.descriptors, "{all:?}");
        assert!(all.processes > Some(0) && all.gdi.is_none() && root.gui_limits().is_none(), "{all:?}");
        for one in ALL {
            let only = root.usage(&tree, me, None, Measures::of(&[one]), &Batch::default());
            let known = [
                only.memory_bytes,
                only.pss_bytes,
                only.cpu_usec,
                only.io_bytes,
                only.descriptors,
                only.threads,
                only.processes,
            ];
            assert_eq!(known.iter().flatten().count(), 1, "{one:?}: {only:?}");
        }
        assert_eq!(root.usage(&tree, me, None, Measures::default(), &Batch::default()), Usage::default());
        let gone = root.usage(&tree, None, None, Measures::of(&ALL), &Batch::default());
        assert_eq!(gone, Usage { processes: Some(0), ..Usage::default() });
    }

    #[test]
    fn open_files_are_counted() {
        let me = std::process::id();
        let before = descriptors(me).unwrap();
        let held: Vec<_> = (0..500).map(|_| File::open("/dev/null").unwrap()).collect();
        let after = descriptors(me).unwrap();
        // Other tests open and close some meanwhile.
        assert!((400..700).contains(&(after - before)), "{before} {after}");
        drop(held);
    }

    #[test]
    fn times_are_those_of_all_threads_and_of_children() {
        let text = b"42 (a) b (c) S 7 42 9 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 1000 1\n";
        let stat = Stat { own_usec: 110_000, childrens_usec: 150_000, threads: 3 };
        assert_eq!(parse_stat(text), Some(stat));
        assert_eq!(parse_stat(b"42 (a) R 7 42 9 0 -1 0 1 2 3 4 5 6 7 8 -20 -5 3 0 1"), Some(stat));
        for broken in [&b""[..], b"42 (a)", b"42 (a) S 7 42 9 0 -1 4194560 1 2 3 4 5 6"] {
            assert_eq!(parse_stat(broken), None);
        }
    }

    #[test]
    fn cache_that_can_be_taken_back_is_not_held() {
        let dir = tempfile::tempdir().unwrap();
        let mut room = [0; 8192];
        fs::write(dir.path().join("memory.current"), "5000\n").unwrap();
        let folder = Folder::At(dir.path().to_owned());
        assert_eq!(held(&mut room, &folder, c"memory.current", "inactive_file"), Some(5000));
        fs::write(dir.path().join("memory.stat"), "anon 3000\nfile 2000\ninactive_file 1500\n").unwrap();
        assert_eq!(held(&mut room, &folder, c"memory.current", "inactive_file"), Some(3500));
        let open = File::open(dir.path()).unwrap();
        let open = Folder::Open(std::os::fd::AsFd::as_fd(&open));
        assert_eq!(held(&mut room, &open, c"memory.current", "inactive_file"), Some(3500));
        assert_eq!(held(&mut room, &open, c"memory.usage_in_bytes", "total_inactive_file"), None);
    }
}
