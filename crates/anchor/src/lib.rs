//! The process that the terminal, systemd or the SCM sees: parent of every service and of the daemon. It holds what must
//! not be lost and decides nothing; it parses no configuration and touches no disk.

mod accept;
mod anchor;
pub mod codec;
mod daemon;
mod drain;
mod holdings;
pub mod link;
mod manager;
mod options;
mod outbox;
pub mod protocol;
mod reports;
mod runs;
mod scm;
mod stop;

use std::time::Duration;

use keepwell_os::spawn::Faults;
use keepwell_os::{SystemHost, program};

pub use anchor::Anchor;
pub use manager::{Control, Loudness, Manager, RunningWhen, Standing};
pub use options::{Options, Timing};
pub use scm::serve;

/// Makes this process the anchor, until the end. Returns its exit code. To be called by the process's first thread, before
/// there is another: children die with the thread that starts them.
#[must_use]
pub fn run(options: Options) -> i32 {
    run_under(options, None)
}

/// The same under a service manager that asks and wants to be told. What it is told last, that this process has stopped, is
/// the caller's to tell: when this returns, nothing that the anchor held is left.
#[must_use]
pub fn run_under(mut options: Options, manager: Option<Box<dyn Manager>>) -> i32 {
    options.timing.watchdog = watchdog();
    let program = options.program.take().map_or_else(program::open_own, Ok);
    let started =
        program.and_then(|program| Ok((SystemHost::new(&options.guardian, Faults::default())?, program)));
    match started {
        Ok((host, program)) => {
            let mut anchor = Anchor::new(host, program, options);
            if let Some(manager) = manager {
                anchor = anchor.under(manager);
            }
            anchor.run()
        }
        Err(e) => {
            eprintln!("keepwell: the anchor cannot start: {e}");
            1
        }
    }
}

/// The watchdog that systemd has set for this process (`sd_watchdog_enabled(3)`).
fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|usec| *usec > 0 && meant).map(Duration::from_micros)
}
