//! The steps of a start by name, and what a test makes the host refuse.

use std::fmt;
use std::io;

/// A step of a start, in the order in which they are taken. Its name is what `SpawnFailed` reports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i32)]
pub enum Step {
    /// A string of the request holds a zero byte, or there is no argument at all.
    Request,
    /// Make the process.
    Fork,
    /// Come alive: it was killed before its first step.
    Birth,
    /// Move into the tree's cgroup.
    Cgroup,
    /// Leave the parent's descriptors, take stdin, stdout and stderr.
    Files,
    /// Lead a session.
    Session,
    /// Move into a limiting cgroup of version 1.
    Join,
    /// Set `oom_score_adj`.
    OomScore,
    /// Set the nice value.
    Nice,
    /// Set a resource limit.
    Limits,
    /// Set the supplementary groups.
    Groups,
    /// Set the group.
    Group,
    /// Set the user.
    User,
    /// Set capabilities.
    Capabilities,
    /// Give up gaining privileges.
    NoNewPrivileges,
    /// Enter the working folder.
    Chdir,
    /// Ask for an end with the parent's.
    ParentDeath,
    /// Load the program.
    Exec,
}

impl Step {
    pub(super) const ALL: [Step; 18] = [
        Step::Request,
        Step::Fork,
        Step::Birth,
        Step::Cgroup,
        Step::Files,
        Step::Session,
        Step::Join,
        Step::OomScore,
        Step::Nice,
        Step::Limits,
        Step::Groups,
        Step::Group,
        Step::User,
        Step::Capabilities,
        Step::NoNewPrivileges,
        Step::Chdir,
        Step::ParentDeath,
        Step::Exec,
    ];

    /// The stable word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Request => "request",
            Step::Fork => "fork",
            Step::Birth => "birth",
            Step::Cgroup => "cgroup",
            Step::Files => "files",
            Step::Session => "setsid",
            Step::Join => "join",
            Step::OomScore => "oom_score_adj",
            Step::Nice => "nice",
            Step::Limits => "limits",
            Step::Groups => "setgroups",
            Step::Group => "setgid",
            Step::User => "setuid",
            Step::Capabilities => "capabilities",
            Step::NoNewPrivileges => "no_new_privileges",
            Step::Chdir => "chdir",
            Step::ParentDeath => "parent_death",
            Step::Exec => "exec",
        }
    }
}

/// A start that failed; nothing runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}: {}", .step.name(), io::Error::from_raw_os_error(*.errno))]
pub struct SpawnFailure {
    /// Where.
    pub step: Step,
    /// Why.
    pub errno: i32,
}

/// What a test makes the host refuse, each with this `errno`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// clone3(2).
    pub clone3: Option<i32>,
    /// clone(2) with borrowed memory.
    pub clone: Option<i32>,
    /// `CLONE_INTO_CGROUP`.
    pub into_cgroup: Option<i32>,
    /// close_range(2).
    pub close_range: Option<i32>,
    /// pidfd_open(2).
    pub pidfd: Option<i32>,
    /// `cgroup.kill`.
    pub cgroup_kill: Option<i32>,
    /// `cgroup.freeze`.
    pub cgroup_freeze: Option<i32>,
    /// `/proc/PID/task/TID/children`.
    pub children: Option<i32>,
}

impl Faults {
    /// Everything newer than Linux 4.18 is refused.
    #[must_use]
    pub fn all(errno: i32) -> Faults {
        let no = Some(errno);
        Faults {
            clone3: no,
            clone: no,
            into_cgroup: no,
            close_range: no,
            pidfd: no,
            cgroup_kill: no,
            cgroup_freeze: no,
            children: no,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
