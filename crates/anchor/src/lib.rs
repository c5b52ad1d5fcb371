//! The process that the terminal, systemd or the SCM sees: parent of every service and of the daemon. It holds what must
//! not be lost and decides nothing; it parses no configuration and touches no disk.

mod accept;
mod anchor;
pub mod codec;
mod daemon;
mod drain;
mod holdings;
pub mod link;
mod options;
mod outbox;
pub mod protocol;
mod reports;
mod runs;
mod stop;

use keepwell_os::spawn::Faults;
use keepwell_os::{SystemHost, program};

pub use anchor::Anchor;
pub use options::{Options, Timing};

/// Makes this process the anchor, until the end. Returns its exit code. To be called by the process's first thread, before
/// there is another: children die with the thread that starts them.
#[must_use]
pub fn run(mut options: Options) -> i32 {
    let program = options.program.take().map_or_else(program::open_own, Ok);
    let started =
        program.and_then(|program| Ok((SystemHost::new(&options.guardian, Faults::default())?, program)));
    match started {
        Ok((host, program)) => Anchor::new(host, program, options).run(),
        Err(e) => {
            eprintln!("keepwell: the anchor cannot start: {e}");
            1
        }
    }
}
