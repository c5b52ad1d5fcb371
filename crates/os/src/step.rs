//! The steps of a start by name.

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
    /// Bind it to processors.
    Affinity,
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
    /// Make or limit the job that holds the tree.
    Job,
}

impl Step {
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
            Step::Affinity => "affinity",
            Step::Limits => "limits",
            Step::Groups => "setgroups",
            Step::Group => "setgid",
            Step::User => "setuid",
            Step::Capabilities => "capabilities",
            Step::NoNewPrivileges => "no_new_privileges",
            Step::Chdir => "chdir",
            Step::ParentDeath => "parent_death",
            Step::Exec => "exec",
            Step::Job => "job",
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

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
