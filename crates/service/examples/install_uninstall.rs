//! A program that registers itself: with the service control manager on Windows, as a systemd unit on Linux.
//!
//! `install_uninstall install` (in an elevated prompt; `install --user` needs none), then `start`, `status`, `stop`,
//! `uninstall`. Without a word it runs the service: in a terminal, or as what was installed.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use keepwell_service::Error;
use keepwell_service::manager::{Host, Scope, ServiceDefinition};
use keepwell_service::{Accept, Event, Failure, Starting};

const NAME: &str = "keepwell-example";
const TIMEOUT: Duration = Duration::from_secs(30);

fn service(starting: Starting) -> Result<(), Failure> {
    let running = starting.running(Accept::STOP_AND_SHUTDOWN);
    while !matches!(running.next(), Event::Stop(_)) {}
    Ok(())
}

fn manage(verb: &str, scope: Scope) -> Result<String, Error> {
    let host = Host::new(scope)?;
    Ok(match verb {
        "install" => {
            let program =
                env::current_exe().map_err(|source| Error::System { step: "find itself".into(), source })?;
            let definition = ServiceDefinition {
                display_name: "keepwell's example".into(),
                description: "Does nothing, and stops when it is told to.".into(),
                ..ServiceDefinition::new(NAME, program)
            };
            match host.install(&definition)? {
                installed if installed.created => "installed".into(),
                // Installing again changes what is otherwise, in place.
                installed => format!("installed before; {} changes", installed.changes.len()),
            }
        }
        "uninstall" => {
            // It stops, is deleted, and is waited for until its name is free.
            host.uninstall(NAME, TIMEOUT)?;
            "uninstalled".into()
        }
        "start" => host.start(NAME, TIMEOUT)?.state.to_string(),
        "stop" => host.stop(NAME, TIMEOUT)?.state.to_string(),
        "status" => host.status(NAME)?.state.to_string(),
        other => format!("`{other}` is none of install, uninstall, start, stop and status"),
    })
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (verb, scope) = match words[..] {
        [] => return keepwell_service::run(NAME, service),
        [verb] => (verb, Scope::System),
        [verb, "--user"] => (verb, Scope::User),
        _ => {
            eprintln!("one word, and --user");
            return ExitCode::FAILURE;
        }
    };
    match manage(verb, scope) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
