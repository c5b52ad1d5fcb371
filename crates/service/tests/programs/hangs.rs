//! A service for the tests: its end has a phase that hangs, or it panics if it is told to by its command line.

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use keepwell_service::{Accept, Failure, Shutdown, Starting};

fn service(starting: Starting) -> Result<(), Failure> {
    println!("started because of {:?}", starting.reason());
    let running = starting.running(Accept::STOP);
    println!("running");
    if std::env::args().any(|argument| argument == "panic") {
        panic!("as it was told to");
    }
    let (_kept, never) = mpsc::channel::<()>();
    let shutdown = Shutdown::new();
    shutdown.phase("in flight", 1, Duration::from_secs(60), move |_| {
        println!("stopping");
        never.recv()?;
        Ok(())
    });
    let _stop = running.stop_token().wait();
    running.stopping().run(&shutdown).check()
}

fn main() -> ExitCode {
    keepwell_service::run("hangs", service)
}
