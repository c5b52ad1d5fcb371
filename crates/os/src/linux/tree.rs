//! A service's tree of processes: everything that its main process brought into the world. Held in a cgroup of version 2
//! where one may be made, else known by descent and by the mark `KEEPWELL_RUN=<guardian>/<run>` in the environment.
//!
//! The anchor works on a tree through the handle of its directory ([`Cgroup`]) or through [`process`]; the daemon makes,
//! limits and removes the directories ([`TreeRoot`]). Nothing here decides when.
#![expect(unsafe_code, reason = "openat, inotify and pidfd have no safe form in the standard library")]

mod cgroup;
mod claim;
mod fresh;
pub mod layout;
mod leftover;
mod limit;
pub mod process;
mod root;
mod usage;

pub use cgroup::{Cgroup, TreeWatch, WatchId};
pub use fresh::Fresh;
pub use limit::Limits;
pub use root::{TreeDir, TreeError, TreeRoot};
pub use usage::{Batch, of_process};

/// The variable of the mark, in every process that keepwell starts.
pub const MARK: &str = "KEEPWELL_RUN";

fn page_size() -> u64 {
    // SAFETY: no pointers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
