//! The shell around the core: engine, probes, logs, store and API.

pub mod api;
pub mod convert;
pub mod courier;
pub mod engine;
mod errands;
pub mod event_log;
pub mod evidence;
pub mod figures;
pub mod heartbeat;
pub mod log;
pub mod message;
pub mod meter;
pub mod notify;
pub mod options;
pub mod probe;
pub mod store;
pub mod trace;

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keepwell_anchor::link::Link;
use tokio::sync::broadcast;

use engine::{BootError, Booted, Ended, Parts};

/// Events that a slow follower may be behind before it has to read the store again.
const EVENTS_BEHIND: usize = 512;

/// For followers to be told the end; the anchor grants a second (`Timing::farewell`).
const LAST_WORDS: Duration = Duration::from_millis(700);

/// The daemon, from its first instruction to its last. Its control socket is descriptor 3. Gives the process's exit code.
#[must_use]
pub fn main() -> i32 {
    end_on_panic();
    keepwell_os::memory::share_one_arena();
    let link = match Link::from_inherited() {
        Ok(link) => link,
        Err(e) => {
            eprintln!("keepwell: this command is run by the anchor, not by hand: {e}");
            return keepwell_sdk::exit::USAGE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(r) => r,
        Err(e) => {
            eprintln!("keepwell: no runtime: {e}");
            return keepwell_sdk::exit::FAILED;
        }
    };
    let (events, _) = broadcast::channel(EVENTS_BEHIND);
    let parts = Parts { link, events, runtime: runtime.handle().clone() };
    let Booted { engine, endpoint, api } = match engine::boot(parts) {
        Ok(b) => b,
        // The anchor prints why.
        Err(BootError::Refused) => return keepwell_sdk::exit::USAGE,
        Err(e) => {
            eprintln!("keepwell: the daemon cannot start: {}", Chain(&e));
            return keepwell_sdk::exit::FAILED;
        }
    };
    let audience = api.audience();
    let (served, all_served) = std::sync::mpsc::sync_channel(1);
    let serving = thread::Builder::new().name("api".into()).stack_size(1 << 20).spawn(move || {
        runtime.block_on(api::serve(endpoint, Arc::new(api)));
        // Nobody may be waiting any more.
        let _ = served.send(());
    });
    if let Err(e) = serving {
        eprintln!("keepwell: no thread for the API: {e}");
        return keepwell_sdk::exit::FAILED;
    }
    let code = match engine.run() {
        Ended::Finished => {
            audience.end();
            // Sooner or later: a client that does not read keeps nobody from leaving.
            let _ = all_served.recv_timeout(LAST_WORDS);
            keepwell_sdk::exit::DONE
        }
        // Without a word it would be taken for one that was killed. Nobody may be there to hear it.
        Ended::AnchorGone => {
            let _ = writeln!(std::io::stderr(), "keepwell: the anchor is gone");
            keepwell_sdk::exit::FAILED
        }
        Ended::Broken => {
            let _ = writeln!(std::io::stderr(), "keepwell: the daemon can wait for nothing");
            keepwell_sdk::exit::FAILED
        }
    };
    trace::flush();
    code
}

/// A daemon of which one thread has panicked is worth nothing: it ends at once, and the anchor starts another, which goes
/// on from what was last put.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        tracing::error!("panicked: {info}");
        eprintln!("keepwell: the daemon panicked: {info}");
        std::process::exit(101);
    }));
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(c) = cause {
            write!(f, ": {c}")?;
            cause = c.source();
        }
        Ok(())
    }
}
