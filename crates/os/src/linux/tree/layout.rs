//! Where this process's cgroups are: pure version 2, version 1 beside it, or nothing. Reading only.

use std::fs;
use std::path::{Path, PathBuf};

/// The folders of this process's own cgroups.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// Version 2.
    pub unified: Option<PathBuf>,
    /// Where version 2 is mounted.
    pub unified_mount: Option<PathBuf>,
    /// Version 1, by controller.
    pub memory: Option<PathBuf>,
    /// Version 1.
    pub cpu: Option<PathBuf>,
    /// Version 1.
    pub pids: Option<PathBuf>,
}

impl Layout {
    /// Of this process, now.
    #[must_use]
    pub fn current() -> Layout {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Layout::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    /// From the text of `/proc/self/cgroup` (cgroups(7)) and `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
    #[must_use]
    pub fn parse(cgroup: &str, mountinfo: &str) -> Layout {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let mut layout = Layout::default();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if controllers.is_empty() {
                let mount = mounts.iter().find(|m| m.kind == "cgroup2");
                layout.unified = mount.and_then(|m| m.folder_of(path));
                layout.unified_mount = mount.map(|m| m.point.clone());
                continue;
            }
            for controller in controllers.split(',') {
                let mount = mounts.iter().find(|m| m.kind == "cgroup" && m.has(controller));
                let folder = mount.and_then(|m| m.folder_of(path));
                match controller {
                    "memory" => layout.memory = folder,
                    "cpu" => layout.cpu = folder,
                    "pids" => layout.pids = folder,
                    _ => {}
                }
            }
        }
        layout
    }
}

struct Mount {
    root: String,
    point: PathBuf,
    kind: String,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Mount> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        if !kind.starts_with("cgroup") {
            return None;
        }
        let options = after.nth(1)?.to_owned();
        Some(Mount { root: unescape(root), point: unescape(point).into(), kind: kind.to_owned(), options })
    }

    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|o| o == controller)
    }

    /// A mount may show only a part of the hierarchy, as in a container.
    fn folder_of(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        let folder = self.point.join(below);
        folder.is_dir().then_some(folder)
    }
}

/// `\040` is a space, as in fstab(5).
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(folders: &[&str]) -> Host {
            let host = Host(tempfile::tempdir().unwrap());
            for folder in folders {
                fs::create_dir_all(host.0.path().join(folder)).unwrap();
            }
            host
        }

        fn layout(&self, cgroup: &str, mountinfo: &str) -> Layout {
            Layout::parse(cgroup, &mountinfo.replace('@', self.0.path().to_str().unwrap()))
        }

        fn path(&self, name: &str) -> Option<PathBuf> {
            Some(self.0.path().join(name))
        }
    }

    #[test]
    fn pure_version_2() {
        let host = Host::new(&["system.slice/keepwell.service"]);
        let mounts = "30 23 0:26 / @ rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let layout = host.layout("0::/system.slice/keepwell.service\n", mounts);
        assert_eq!(layout.unified, host.path("system.slice/keepwell.service"));
        assert_eq!(layout.unified_mount, host.path(""));
        assert_eq!((layout.memory, layout.cpu, layout.pids), (None, None, None));
    }

    #[test]
    fn version_1_beside_version_2() {
        let host = Host::new(&["unified", "memory/job", "cpu,cpuacct", "pids"]);
        let mounts = "1 0 0:1 / @/unified rw - cgroup2 none rw\n\
                      2 0 0:2 / @/memory rw - cgroup cgroup rw,memory\n\
                      3 0 0:3 / @/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      4 0 0:4 / @/pids rw - cgroup cgroup rw,pids\n";
        let layout =
            host.layout("4:memory:/job\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/\n0::/\n", mounts);
        assert_eq!(layout.unified, host.path("unified"));
        assert_eq!(layout.memory, host.path("memory/job"));
        assert_eq!(layout.cpu, host.path("cpu,cpuacct"));
        assert_eq!(layout.pids, host.path("pids"));
    }

    #[test]
    fn a_container_sees_a_part() {
        let host = Host::new(&["cg"]);
        let mounts = "1 0 0:1 /docker/abc @/cg ro - cgroup2 cgroup rw";
        assert_eq!(host.layout("0::/docker/abc\n", mounts).unified, host.path("cg"));
        assert_eq!(host.layout("0::/elsewhere\n", mounts).unified, None);
    }

    #[test]
    fn nothing_at_all() {
        assert_eq!(Layout::parse("", ""), Layout::default());
        assert_eq!(Layout::parse("0::/\n", "garbage\n1 2 - x\n"), Layout::default());
    }
}
