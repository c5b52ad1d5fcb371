//! What a test makes the host refuse, and the order of the steps as a gate tells them.

use crate::step::Step;

/// In the order of their numbers.
pub(super) const STEPS: [Step; 19] = [
    Step::Request,
    Step::Fork,
    Step::Birth,
    Step::Cgroup,
    Step::Files,
    Step::Session,
    Step::Join,
    Step::OomScore,
    Step::Nice,
    Step::Affinity,
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
