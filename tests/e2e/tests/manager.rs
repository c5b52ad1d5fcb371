//! keepwell itself as a service of systemd, which is played by whoever listens on `NOTIFY_SOCKET`.

use std::process::{Child, Command};
use std::time::Duration;

use keepwell_e2e::{Guardian, sys, wait_some, wait_until};

/// The other end of `NOTIFY_SOCKET`.
struct Systemd {
    socket: sys::Datagrams,
    told: Vec<String>,
}

impl Systemd {
    fn over(guardian: &mut Guardian) -> Systemd {
        let path = guardian.path("systemd.sock");
        let socket = sys::Datagrams::bind(&path).expect("own folder");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket has timeouts");
        guardian.set_env("NOTIFY_SOCKET", path.to_str().expect("own folder"));
        Systemd { socket, told: Vec::new() }
    }

    /// How often each line that begins so was told until now.
    fn count(&mut self, begin: &str) -> usize {
        let mut buffer = [0; 4096];
        while let Ok(n) = self.socket.recv(&mut buffer) {
            self.told.extend(String::from_utf8_lossy(&buffer[..n]).lines().map(str::to_owned));
        }
        self.told.iter().filter(|line| line.starts_with(begin)).count()
    }
}

/// What the unit's `ExecStart` would start.
fn serve(guardian: &Guardian, more: &[&str]) -> Child {
    let path = |name: &str| guardian.path(name).display().to_string();
    let (config, state) = (path("keepwell.toml"), path(".keepwell"));
    let mut command: Command =
        guardian.command(&["internal", "service", "--name", "shop", "--config", &config, "--state", &state]);
    command.args(more).spawn().expect("keepwell can be started")
}

fn ends(child: &mut Child) -> i32 {
    sys::shell_code(wait_some("the service to end", || child.try_wait().ok().flatten()))
}

#[test]
fn a_notify_unit_is_told_of_start_life_and_stop() {
    let mut g = Guardian::new("[services.a]\ncommand = 'CHILD trap-term 0 --after 300'\n");
    let mut systemd = Systemd::over(&mut g);
    g.set_env("WATCHDOG_USEC", "200000");
    let mut service = serve(&g, &[]);
    wait_until("READY", || systemd.count("READY=1") == 1);
    wait_until("signs of life", || systemd.count("WATCHDOG=1") >= 5);
    g.wait_log("a", "waiting for TERM");
    assert_eq!(systemd.count("STATUS=1 services"), 1, "{:?}", systemd.told);
    assert_eq!(systemd.count("STOPPING=1"), 0);
    // The addresses of systemd are the anchor's alone.
    let daemon = std::fs::read(format!("/proc/{}/environ", g.daemon())).expect("it runs");
    assert!(!String::from_utf8_lossy(&daemon).contains("NOTIFY_SOCKET"));
    let before = systemd.count("EXTEND_TIMEOUT_USEC=");
    assert!(sys::kill(service.id(), sys::SIGTERM));
    assert_eq!(ends(&mut service), 0);
    assert_eq!((systemd.count("STOPPING=1"), systemd.count("READY=1")), (1, 1));
    assert!(systemd.count("EXTEND_TIMEOUT_USEC=") > before, "{:?}", systemd.told);
    g.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_daemon_that_dies_is_told_and_the_unit_stays_up() {
    let mut g = Guardian::new("[services.a]\ncommand = 'CHILD hang'\n");
    let mut systemd = Systemd::over(&mut g);
    let mut service = serve(&g, &[]);
    wait_until("READY", || systemd.count("READY=1") == 1);
    let pid = g.pid("a");
    assert!(sys::kill(g.daemon(), sys::SIGKILL));
    wait_until("the news", || systemd.count("STATUS=the daemon ended") == 1);
    wait_until("the next one", || systemd.count("STATUS=1 services") == 2);
    assert_eq!((g.pid("a"), systemd.count("READY=1")), (pid, 1));
    assert!(sys::kill(service.id(), sys::SIGTERM));
    assert_eq!(ends(&mut service), 0);
}

#[test]
fn with_dependents_it_is_ready_when_all_is() {
    let mut g = Guardian::new(
        "[services.slow]\ncommand = 'CHILD hang'\nready = { file = 'gate', period = '50ms', timeout = '1m' }\n\
         [services.after]\ncommand = 'CHILD hang'\ndepends_on = { slow = 'ready' }\n",
    );
    let mut systemd = Systemd::over(&mut g);
    let mut service = serve(&g, &["--running-when", "ready"]);
    wait_until("the daemon", || systemd.count("STATUS=2 services") == 1);
    g.wait_state("slow", &["starting"]);
    assert_eq!(systemd.count("READY=1"), 0);
    g.write("gate", "");
    wait_until("READY", || systemd.count("READY=1") == 1);
    assert!(g.service("after").pid.is_some());
    assert!(sys::kill(service.id(), sys::SIGTERM));
    assert_eq!(ends(&mut service), 0);
}

#[test]
fn the_code_of_the_only_program_is_the_services() {
    let mut g = Guardian::new("[services.a]\ncommand = 'CHILD exit 23'\nrestart = 'never'\n");
    let mut systemd = Systemd::over(&mut g);
    let mut service = serve(&g, &[]);
    assert_eq!(ends(&mut service), 23);
    assert_eq!(systemd.count("STOPPING=1"), 1, "{:?}", systemd.told);
    let mut g = Guardian::new(
        "[services.a]\ncommand = 'CHILD exit 23'\nrestart = 'never'\n\
         [services.b]\ncommand = 'CHILD exit 0'\nrestart = 'never'\n",
    );
    Systemd::over(&mut g);
    assert_eq!(ends(&mut serve(&g, &[])), 1, "of two no code is the service's");
}
