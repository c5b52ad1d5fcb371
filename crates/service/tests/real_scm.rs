//! The examples under the real service control manager, with `sc.exe` as the client: on Windows in an elevated prompt, here
//! under Wine.

#![cfg(windows)]
#![expect(clippy::unwrap_used, reason = "a test fails by them")]

use keepwell_service::manager::scm::{Access, Control, Manager, ManagerAccess};
use keepwell_service::{Accept, State};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// Held while services may be starting, and alone by a program that no manager starts. Wine's manager knows a service by
/// its connection to the pipe of the last start and not by its process, so the dispatcher of any other program
/// would be taken for the service that is just starting.
static STARTS: RwLock<()> = RwLock::new(());

/// An installed service, which is removed at the end.
struct Installed {
    name: String,
    _starts: RwLockReadGuard<'static, ()>,
}

fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap().join("examples");
    let program = folder.join(format!("{example}.exe"));
    assert!(program.exists(), "{} is missing: build the examples too", program.display());
    program
}

impl Installed {
    fn new(example: &str, name: &str, arguments: &str) -> Installed {
        let starts = STARTS.read().unwrap_or_else(PoisonError::into_inner);
        let path = format!("\"{}\"{arguments}", program(example).display());
        sc(&["create", name, "binPath=", &path, "start=", "demand"]);
        Installed { name: name.to_owned(), _starts: starts }
    }

    fn sc(&self, verb: &str, more: &[&str]) -> String {
        sc(&[&[verb, &self.name], more].concat())
    }

    /// One that fails at once is stopped before the start has returned, which some clients take for a failed start.
    fn start_in_vain(&self, arguments: &[&str]) {
        Command::new("sc").args(["start", &self.name]).args(arguments).output().unwrap();
    }

    fn query(&self) -> String {
        self.sc("query", &[])
    }

    /// The numbers of `sc query` after its state: exit code, the service's own, checkpoint, wait hint.
    fn wait_for(&self, state: &str) -> [u32; 4] {
        let begun = Instant::now();
        loop {
            let text = self.query();
            if text.contains(state) {
                return ["WIN32_EXIT_CODE", "SERVICE_EXIT_CODE", "CHECKPOINT", "WAIT_HINT"]
                    .map(|name| number(&text, name));
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "not {state}:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = Command::new("sc").args(["stop", &self.name]).output();
        let _ = Command::new("sc").args(["delete", &self.name]).output();
    }
}

fn sc(arguments: &[&str]) -> String {
    let output = Command::new("sc").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "sc {arguments:?}: {}\n{text}", output.status);
    text
}

fn number(text: &str, name: &str) -> u32 {
    let line = text.lines().find(|line| line.contains(name)).unwrap();
    let word = line.split(':').nth(1).unwrap().split_whitespace().next().unwrap();
    match word.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
        None => word.parse().unwrap(),
    }
}

const NOTHING: [u32; 4] = [0; 4];

#[test]
fn ping_starts_runs_and_stops() {
    let ping = Installed::new("ping", "ping", "");
    ping.sc("start", &["200"]);
    assert_eq!(ping.wait_for("RUNNING"), NOTHING);
    ping.sc("stop", &[]);
    assert_eq!(ping.wait_for("STOPPED"), NOTHING);
}

#[test]
fn without_the_manager_it_runs_in_a_terminal() {
    use std::io::{BufRead, BufReader};
    let _alone = STARTS.write().unwrap_or_else(PoisonError::into_inner);
    let mut ping = Command::new(program("ping")).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(ping.stdout.take().unwrap()).read_line(&mut line).unwrap();
    ping.kill().unwrap();
    ping.wait().unwrap();
    assert_eq!(line.trim_end(), "running under a terminal");
}

#[test]
fn a_failure_is_1066_and_the_services_own_number() {
    let ping = Installed::new("ping", "ping", "");
    ping.start_in_vain(&["often"]);
    assert_eq!(ping.wait_for("STOPPED"), [1066, 1, 0, 0], "its start argument is no number");
}

#[test]
fn a_panic_is_1064() {
    let hangs = Installed::new("hangs", "hangs", " panic");
    hangs.start_in_vain(&[]);
    assert_eq!(hangs.wait_for("STOPPED"), [1064, 0, 0, 0]);
}

#[test]
fn a_stop_that_takes_long_is_pending_with_a_checkpoint() {
    let hangs = Installed::new("hangs", "hangs", "");
    hangs.sc("start", &[]);
    hangs.wait_for("RUNNING");
    hangs.sc("stop", &[]);
    // The stop is told at once, and its first phase a moment later.
    let begun = Instant::now();
    loop {
        let [exit, _, checkpoint, wait_hint] = hangs.wait_for("STOP_PENDING");
        if checkpoint == 2 {
            assert_eq!(exit, 0);
            assert!((25_000..=30_000).contains(&wait_hint), "what is left of 30 s, not {wait_hint}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "its checkpoint is {checkpoint}");
    }
}

#[test]
fn a_worker_pauses_and_continues() {
    let worker = Installed::new("pause_continue", "worker", "");
    worker.sc("start", &[]);
    worker.wait_for("RUNNING");
    let service = Manager::connect(ManagerAccess::Look).unwrap().open("worker", Access::Drive).unwrap();
    let wanted = Accept::STOP_AND_SHUTDOWN | Accept::PAUSE_CONTINUE;
    assert_eq!(Accept::from_bits(service.status().unwrap().accepts), wanted);
    let limit = Duration::from_secs(30);
    for _twice in 0..2 {
        service.control(Control::Pause).unwrap();
        service.wait_for(State::Paused, limit).unwrap();
        service.control(Control::Continue).unwrap();
        service.wait_for(State::Running, limit).unwrap();
    }
    service.control(Control::Interrogate).unwrap();
    service.control(Control::Pause).unwrap();
    service.wait_for(State::Paused, limit).unwrap();
    assert_eq!(service.stop(limit).unwrap().exit_code, 0);
}

#[test]
fn a_program_installs_itself_and_takes_itself_away_again() {
    let _starts = STARTS.read().unwrap_or_else(PoisonError::into_inner);
    let run = |verb: &str| {
        let output = Command::new(program("install_uninstall")).arg(verb).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    assert_eq!(run("install"), "installed");
    assert_eq!(run("install"), "installed before; 0 changes");
    assert_eq!(run("start"), "running");
    assert_eq!(run("status"), "running");
    assert_eq!(run("uninstall"), "uninstalled");
    let output = Command::new(program("install_uninstall")).arg("status").output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.trim_end(), "there is no service `keepwell-example` on this host");
}

#[test]
fn a_web_server_on_tokio_starts_answers_and_stops() {
    use std::io::{Read, Write};
    let web = Installed::new("tokio_web", "web", "");
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    web.sc("start", &[&address.to_string()]);
    web.wait_for("RUNNING");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("well\n"), "{text}");
    web.sc("stop", &[]);
    assert_eq!(web.wait_for("STOPPED"), NOTHING);
}
