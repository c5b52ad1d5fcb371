//! A service that can pause: while it does, it keeps what it has and works at nothing. The stages are types, so that it
//! cannot forget one: `Running` leads to `Pausing`, that to `Paused`, that to `Continuing`.

use std::process::ExitCode;
use std::time::Duration;

use keepwell_service::{Accept, Event, Failure, Paused, Running, Service, Starting};

pub(crate) struct Worker;

/// What a stage has ended with.
enum Then<Stage> {
    Next(Stage),
    Stop,
}

impl Service for Worker {
    fn run(self, starting: Starting) -> Result<(), Failure> {
        let mut running = starting.running(Accept::STOP_AND_SHUTDOWN | Accept::PAUSE_CONTINUE);
        loop {
            let Then::Next(paused) = work(running) else {
                return Ok(());
            };
            running = match pause(paused) {
                Then::Next(running) => running,
                Then::Stop => return Ok(()),
            };
        }
    }
}

fn work(running: Running) -> Then<Paused> {
    loop {
        match running.next_for(Duration::from_millis(100)) {
            None => {} // a piece of work
            Some(Event::Pause) => {
                let pausing = running.pausing(Duration::from_secs(5));
                // Let what is in flight end here; `pausing.step(…)` for each piece of it.
                return Then::Next(pausing.paused());
            }
            Some(Event::Stop(_)) => return Then::Stop,
            Some(_) => {}
        }
    }
}

fn pause(paused: Paused) -> Then<Running> {
    loop {
        match paused.next() {
            Event::Continue => return Then::Next(paused.continuing(Duration::from_secs(5)).running()),
            Event::Stop(_) => return Then::Stop,
            _ => {}
        }
    }
}

fn main() -> ExitCode {
    keepwell_service::run("pause_continue", Worker)
}
