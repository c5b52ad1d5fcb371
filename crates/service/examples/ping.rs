//! A service that counts, and stops when it is told to.
//!
//! In a terminal: `cargo run --example ping`, and Ctrl+C stops it. On Windows `sc create ping binPath= C:\…\ping.exe`, then
//! `sc start ping 500` counts twice a second. Under systemd it wants `Type=notify`.

use std::process::ExitCode;
use std::time::Duration;

use keepwell_service::{Accept, Event, Failure, Service, Starting};

pub(crate) struct Ping {
    pub(crate) every: Duration,
}

impl Service for Ping {
    fn run(self, starting: Starting) -> Result<(), Failure> {
        let every = match starting.arguments().first() {
            Some(text) => Duration::from_millis(text.to_string_lossy().parse()?),
            None => self.every,
        };
        let running = starting.running(Accept::STOP_AND_SHUTDOWN | Accept::PARAM_CHANGE);
        let handle = running.handle();
        println!("running under {}", handle.host());
        let mut count = 0;
        loop {
            match running.next_for(every) {
                None => {
                    count += 1;
                    handle.tell(&format!("{count} pings"));
                }
                Some(Event::Reload(_reload)) => count = 0,
                Some(Event::Stop(stop)) => {
                    println!("{}", stop.cause);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
    }
}

fn main() -> ExitCode {
    keepwell_service::run("ping", Ping { every: Duration::from_secs(1) })
}
