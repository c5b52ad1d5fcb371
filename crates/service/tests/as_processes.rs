//! The examples as programs: in a terminal, and under an init system that wants to be notified.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by them")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// An example of this crate, which is built with the tests.
    fn start(name: &str, prepare: impl FnOnce(&mut Command)) -> Program {
        let test = std::env::current_exe().unwrap();
        let path: PathBuf = test.parent().unwrap().parent().unwrap().join("examples").join(name);
        assert!(path.exists(), "{} is missing: build the examples too", path.display());
        let mut command = Command::new(path);
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Program { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Its end, and its error output.
    fn end(mut self) -> (ExitStatus, String) {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap(), errors)
    }
}

/// An init system's socket.
struct Init {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Init {
    fn new() -> Init {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Init { socket, folder }
    }

    fn path(&self) -> PathBuf {
        Path::join(self.folder.path(), "notify")
    }

    /// The next notification that is not among those that come all the time.
    fn next(&self) -> String {
        loop {
            let text = self.any();
            if !text.starts_with("STATUS=") && text != "WATCHDOG=1" {
                return text;
            }
        }
    }

    fn any(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }
}

#[test]
fn a_program_installs_itself_as_a_unit_and_takes_it_away_again() {
    use std::os::unix::fs::PermissionsExt;
    // systemd does not run where tests do: what it is asked is written down, and answered with yes.
    let home = tempfile::tempdir().unwrap();
    let systemctl = home.path().join("systemctl");
    std::fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >> \"$HOME/asked\"\n").unwrap();
    std::fs::set_permissions(&systemctl, PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::join_paths([home.path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let run = |verb: &str| {
        let mut program = Program::start("install_uninstall", |command| {
            command.args([verb, "--user"]).env("HOME", home.path()).env("PATH", &path);
            command.env_remove("XDG_CONFIG_HOME");
        });
        let line = program.line();
        let (status, errors) = program.end();
        assert!(status.success(), "{errors}");
        line
    };
    let unit = home.path().join(".config/systemd/user/keepwell-example.service");
    assert_eq!(run("install"), "installed");
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("Type=notify") && text.contains("install_uninstall"), "{text}");
    assert_eq!(run("install"), "installed before; 0 changes");
    assert_eq!(run("uninstall"), "uninstalled");
    assert!(!unit.exists());
    let asked = std::fs::read_to_string(home.path().join("asked")).unwrap();
    let stop = asked.lines().position(|line| line.contains("stop keepwell-example.service"));
    let disable = asked.lines().position(|line| line.contains("disable keepwell-example.service"));
    assert!(stop.is_some() && stop < disable, "{asked}");
}

#[test]
fn in_a_terminal_an_interrupt_or_a_termination_stops_it() {
    for (signal, cause) in
        [("-INT", "interrupted"), ("-TERM", "stopped by the manager"), ("-HUP", "the terminal was closed")]
    {
        let mut ping = Program::start("ping", |_| {});
        assert_eq!(ping.line(), "running under a terminal");
        ping.signal(signal);
        assert_eq!(ping.line(), cause);
        let (status, errors) = ping.end();
        assert!(status.success() && errors.is_empty(), "{status}: {errors}");
    }
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let shell = "trap '' HUP; exec \"$0\"";
    let mut ping = Program::start("ping", |command| {
        let program = command.get_program().to_owned();
        *command = Command::new("sh");
        command.args(["-c", shell]).arg(program).env_remove("NOTIFY_SOCKET");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    });
    assert_eq!(ping.line(), "running under a terminal");
    ping.signal("-HUP");
    ping.signal("-TERM");
    assert_eq!(ping.line(), "stopped by the manager");
    assert!(ping.end().0.success());
}

#[test]
fn the_second_interrupt_ends_a_program_that_hangs() {
    let mut hangs = Program::start("hangs", |_| {});
    assert_eq!(hangs.line(), "started because of None");
    assert_eq!(hangs.line(), "running");
    hangs.signal("-INT");
    assert_eq!(hangs.line(), "stopping");
    hangs.signal("-INT");
    assert_eq!(hangs.end().0.signal(), Some(2));
}

#[test]
fn a_panic_is_told_and_is_a_failure() {
    let mut hangs = Program::start("hangs", |command| {
        command.arg("panic");
    });
    assert_eq!(hangs.line(), "started because of None");
    assert_eq!(hangs.line(), "running");
    let (status, errors) = hangs.end();
    assert_eq!(status.code(), Some(1));
    assert!(errors.ends_with("hangs: panicked: as it was told to\n"), "{errors}");
}

#[test]
fn an_init_system_hears_when_it_is_ready_reloads_and_stops() {
    let init = Init::new();
    let mut ping = Program::start("ping", |command| {
        command.env("NOTIFY_SOCKET", init.path());
    });
    assert_eq!(init.next(), "READY=1");
    assert_eq!(ping.line(), "running under the init system");
    ping.signal("-HUP");
    let reloading = init.next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(init.next(), "READY=1");
    ping.signal("-TERM");
    assert_eq!(init.next(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000");
    assert_eq!(ping.line(), "stopped by the manager");
    assert!(ping.end().0.success());
}

#[test]
fn a_watchdog_hears_of_a_service_that_waits_for_events() {
    let init = Init::new();
    let begun = Instant::now();
    let ping = Program::start("ping", |command| {
        command.env("NOTIFY_SOCKET", init.path()).env("WATCHDOG_USEC", "40000");
    });
    let mut beats = 0;
    while beats < 10 {
        beats += usize::from(init.any() == "WATCHDOG=1");
    }
    // One at each 20 ms, and no more than that.
    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
    ping.signal("-TERM");
    assert!(ping.end().0.success());
}
