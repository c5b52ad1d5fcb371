//! The harness of the end-to-end tests: a guardian of the built binary in a folder of its own, with real processes.
//!
//! Waits are for levels, with a deadline: what is so now is looked at again and again until it is as expected, so a test
//! is right however slow the host is, and never longer than needed. Nothing here knows keepwell's inside.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use keepwell_sdk::wire::{Event, Info, Status};
use tempfile::TempDir;

pub mod docs;
pub mod http;
pub mod servers;
pub mod sys;
pub mod tls;

/// A level that is not reached by then is a failure. Long, since many tests share few processors.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// No command of these tests waits for longer.
const COMMAND_TIME: Duration = Duration::from_secs(60);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(20);
/// Stands in the environment of everything that a guardian of these tests starts, itself included.
const MARK: &str = "E2E_MARK";

/// One guardian, its folder, and whatever else it takes with it.
pub struct Guardian {
    folder: TempDir,
    mark: String,
    user: Option<u32>,
    child: Option<Child>,
    env: Vec<(String, String)>,
    mounted: Vec<PathBuf>,
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// As a shell gives it.
    pub code: i32,
    /// Data.
    pub out: String,
    /// Talk.
    pub err: String,
}

impl Answer {
    /// The same, if it is 0.
    #[track_caller]
    pub fn good(self) -> Answer {
        self.with_code(0)
    }

    /// The same, if it ended with this code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Answer {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Everything that it wrote.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in {}", self.out))
    }

    /// Fails unless all of these stand in what it wrote.
    #[track_caller]
    pub fn says(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.all().contains(text), "`{text}` is not in:\n{}", self.all());
        }
    }
}

impl Guardian {
    /// A folder with this configuration; nothing runs yet. `CHILD` in it stands for the helper's path.
    pub fn new(config: &str) -> Guardian {
        Guardian::of(config, None)
    }

    /// The same as a user without rights, when these tests have any.
    pub fn unprivileged(config: &str) -> Guardian {
        Guardian::of(config, sys::is_root().then_some(sys::NOBODY))
    }

    fn of(config: &str, user: Option<u32>) -> Guardian {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new().prefix("kw").tempdir().expect("a temporary folder");
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        sys::set_mode(folder.path(), 0o755).expect("own folder");
        if let Some(user) = user {
            sys::give(folder.path(), user).expect("root may");
        }
        let guardian = Guardian { folder, mark, user, child: None, env: Vec::new(), mounted: Vec::new() };
        guardian.write("keepwell.toml", config);
        guardian
    }

    /// A guardian that answers.
    #[track_caller]
    pub fn up(config: &str) -> Guardian {
        let mut guardian = Guardian::new(config);
        guardian.start(&[]);
        guardian.wait_answering();
        guardian
    }

    /// What was seen of the first run that was ended for its health.
    #[track_caller]
    pub fn evidence(&self) -> String {
        let taken = |e: &Event| e.kind == "evidence_taken";
        let all = self.wait_events("evidence", |all| all.iter().any(taken));
        let name = all.into_iter().find(taken).and_then(|e| e.evidence).expect("it has a name");
        read_lossy(&self.state(&name))
    }

    /// Waits until its first incident is over and the service well again: what is told of it.
    #[track_caller]
    pub fn recovered(&self) -> Answer {
        wait_some("the end of its incident", || {
            let told = self.cli(&["incidents", "1"]);
            told.all().contains("was well again after").then_some(told)
        })
    }

    /// Sets a variable for `up` and all commands.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((name.into(), value.into()));
    }

    /// Gives a command those variables.
    pub fn with_env<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.env.iter().map(|(n, v)| (n, v)))
    }

    /// Puts a disk of this size on a folder of it; false where that is not to be had.
    pub fn small_disk(&mut self, name: &str, size: &str) -> bool {
        if !sys::is_root() {
            eprintln!("skipped: only root can mount a small disk");
            return false;
        }
        let path = self.path(name);
        fs::create_dir_all(&path).expect("own folder");
        let options = format!("size={size},mode=755");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&path).status();
        assert!(done.is_ok_and(|s| s.success()), "mount");
        self.mounted.push(path);
        true
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A file of its state folder.
    pub fn state(&self, name: &str) -> PathBuf {
        self.dir().join(".keepwell").join(name)
    }

    /// Writes a file there; `CHILD` stands for the helper's path.
    pub fn write(&self, name: &str, text: &str) {
        let child = testchild().display().to_string();
        fs::write(self.path(name), text.replace("CHILD", &child)).expect("own folder");
        if let Some(user) = self.user {
            sys::give(&self.path(name), user).expect("root may");
        }
    }

    /// A file's text; empty while there is none.
    pub fn read(&self, name: &str) -> String {
        read_lossy(&self.path(name))
    }

    /// The whole output of a service, from the oldest log file to the current one.
    pub fn log(&self, name: &str) -> String {
        read_lossy(&self.state(&format!("logs/{name}.log")))
    }

    /// Starts `keepwell up` in the foreground, its output in files.
    pub fn start(&mut self, args: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let open =
            |name: &str| File::options().create(true).append(true).open(self.path(name)).expect("own folder");
        let (out, err) = (open("up.out"), open("up.err"));
        let child = self.command(&["up"]).args(args).stdout(out).stderr(err).spawn();
        self.child = Some(child.expect("keepwell can be started"));
    }

    /// A command of the binary, prepared.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.dir()).stdin(Stdio::null());
        command.env(MARK, &self.mark).env("NO_COLOR", "1").env_remove("NOTIFY_SOCKET");
        // What the helper has to say in its last lines is the error, and not where it came from.
        command.env_remove("RUST_BACKTRACE");
        // Neither the tester's own guardian nor that of the host may answer.
        command.env("XDG_RUNTIME_DIR", self.path("no")).env("HOME", self.path("no"));
        self.with_env(&mut command);
        sys::own_group(&mut command);
        if let Some(user) = self.user {
            sys::run_as(&mut command, user);
        }
        command
    }

    /// Runs a command to its end, which must come.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Answer {
        let file = || tempfile::tempfile().expect("a temporary file");
        let (out, err) = (file(), file());
        let copy = |f: &File| f.try_clone().expect("an open file");
        let mut child = self
            .command(args)
            .stdout(copy(&out))
            .stderr(copy(&err))
            .spawn()
            .expect("keepwell can be started");
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("own child") {
                break Some(status);
            }
            if start.elapsed() > COMMAND_TIME {
                sys::kill(child.id(), sys::SIGKILL);
                let _ = child.wait();
                break None;
            }
            sleep(LOOK / 4);
        };
        let text = |mut file: File| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("an open file");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (out, err) = (text(out), text(err));
        let Some(status) = status else {
            panic!(
                "`keepwell {}` did not end in {COMMAND_TIME:?}\nstdout:\n{out}\nstderr:\n{err}",
                args.join(" ")
            );
        };
        Answer { code: sys::shell_code(status), out, err }
    }

    /// Pid of what `start` started, which is the anchor.
    pub fn anchor(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    /// Pid of the daemon that answers now.
    #[track_caller]
    pub fn daemon(&self) -> u32 {
        wait_some("the daemon to answer", || self.info()).daemon_pid
    }

    /// Waits for the end of what `start` started: its code.
    #[track_caller]
    pub fn wait_exit(&mut self) -> i32 {
        let mut child = self.child.take().expect("it was started");
        let code = wait_some_within("`keepwell up` to end", DEADLINE, || child.try_wait().ok().flatten());
        sys::shell_code(code)
    }

    /// Whether what `start` started has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| c.try_wait().is_ok_and(|s| s.is_some()))
    }

    /// Waits until the API answers.
    #[track_caller]
    pub fn wait_answering(&mut self) {
        let start = Instant::now();
        while self.info().is_none() {
            let ended = self.has_ended();
            assert!(
                !ended && start.elapsed() < DEADLINE,
                "nobody answers; ended: {ended}\n{}",
                self.traces()
            );
            sleep(LOOK);
        }
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: keepwell\r\nconnection: close\r\n\r\n");
        let answer = sys::ask_unix(&self.state("keepwell.sock"), request.as_bytes()).ok()?;
        serde_json::from_slice(&http::good(&answer)?).ok()
    }

    /// About the guardian; `None` while nobody answers.
    pub fn info(&self) -> Option<Info> {
        self.get("/v1/info")
    }

    /// Every instance; `None` while nobody answers.
    pub fn status(&self) -> Option<Vec<Status>> {
        self.get("/v1/services?usage=false")
    }

    /// One instance.
    #[track_caller]
    pub fn service(&self, id: &str) -> Status {
        wait_some(&format!("{id} to be known"), || self.status()?.into_iter().find(|s| s.id() == id))
    }

    /// Waits until an instance has a process: its pid. What a program has just written may be seen before that is told.
    #[track_caller]
    pub fn pid(&self, id: &str) -> u32 {
        let all = self.wait_for(&format!("{id} to have a process"), |all| {
            all.iter().any(|s| s.id() == id && s.pid.is_some())
        });
        all.iter().find(|s| s.id() == id).and_then(|s| s.pid).expect("it was there")
    }

    /// Every event so far, oldest first.
    #[track_caller]
    pub fn events(&self) -> Vec<Event> {
        wait_some("events", || self.get("/v1/events?limit=1000000"))
    }

    /// Waits until this is so of the events: they are told after what they tell of, when the store has them.
    #[track_caller]
    pub fn wait_events(&self, what: &str, so: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        wait_some(what, || Some(self.events()).filter(|all| so(all)))
    }

    /// Waits until this is so of all instances.
    #[track_caller]
    pub fn wait_for(&self, what: &str, so: impl FnMut(&[Status]) -> bool) -> Vec<Status> {
        self.wait_within(what, DEADLINE, so)
    }

    /// The same with a deadline of its own.
    #[track_caller]
    pub fn wait_within(
        &self,
        what: &str,
        within: Duration,
        mut so: impl FnMut(&[Status]) -> bool,
    ) -> Vec<Status> {
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < within {
            if let Some(now) = self.status() {
                if so(&now) {
                    return now;
                }
                last = Some(now);
            }
            sleep(LOOK);
        }
        let seen: Vec<_> =
            last.iter().flatten().map(|s| format!("{}: {} ({})", s.id(), s.state, s.reason)).collect();
        panic!("after {within:?} still not {what}; last seen:\n{}\n{}", seen.join("\n"), self.traces());
    }

    /// Waits until an instance is in one of these states.
    #[track_caller]
    pub fn wait_state(&self, id: &str, states: &[&str]) -> Status {
        let what = format!("{id} {}", states.join(" or "));
        let all = self
            .wait_for(&what, |all| all.iter().any(|s| s.id() == id && states.contains(&s.state.as_str())));
        all.into_iter().find(|s| s.id() == id).expect("it was there")
    }

    /// Waits until the output of a service holds this.
    #[track_caller]
    pub fn wait_log(&self, name: &str, text: &str) -> String {
        wait_some(&format!("`{text}` in the output of {name}"), || {
            Some(self.log(name)).filter(|log| log.contains(text))
        })
    }

    /// Waits until a file of its folder holds this.
    #[track_caller]
    pub fn wait_file(&self, name: &str, text: &str) -> String {
        wait_some(&format!("`{text}` in {name}"), || Some(self.read(name)).filter(|all| all.contains(text)))
    }

    /// Ctrl+C, as the terminal sends it to the foreground group's anchor.
    pub fn interrupt(&self) {
        assert!(sys::kill(self.anchor(), sys::SIGINT));
    }

    /// Ends it in order, and fails unless it ended well and nothing is left.
    #[track_caller]
    pub fn end(mut self) {
        self.interrupt();
        let code = self.wait_exit();
        assert_eq!(code, 0, "`keepwell up` ended with {code}\n{}", self.traces());
        self.assert_nothing_left(Duration::ZERO);
    }

    /// What runs of it: every process that carries its mark, zombies left out. Pid and command.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let wanted = format!("{MARK}={}", self.mark);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let Ok(environ) = fs::read(entry.path().join("environ")) else { continue };
            if environ.split(|b| *b == 0).any(|v| v == wanted.as_bytes()) {
                let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
        found
    }

    /// The same without keepwell's own.
    pub fn services_running(&self) -> Vec<(u32, String)> {
        let own = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary());
        self.processes().into_iter().filter(|(pid, _)| !own(pid)).collect()
    }

    /// Fails unless within this time no process of it is left.
    #[track_caller]
    pub fn assert_nothing_left(&self, within: Duration) {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < within, "{}\nafter {within:?} still there: {left:#?}", self.traces());
            sleep(LOOK);
        }
    }

    /// What a person would look at when something went wrong.
    pub fn traces(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        let own_log = read_lossy(&self.state("keepwell.log"));
        let (out, err) = (tail(self.read("up.out")), tail(self.read("up.err")));
        format!("--- up.out\n{out}\n--- up.err\n{err}\n--- keepwell.log\n{}", tail(own_log))
    }

    /// Forgets what `start` started, so that another may be: for an anchor that was killed.
    pub fn forget(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.traces());
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        // A test that failed leaves nothing behind either. What forks meanwhile is found the next time.
        for _ in 0..50 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for (pid, _) in left {
                sys::kill(pid, sys::SIGKILL);
            }
            sleep(LOOK);
        }
        for path in &self.mounted {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// Waits until there is something.
#[track_caller]
pub fn wait_some<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_some_within(what, DEADLINE, look)
}

/// The same with a deadline of its own.
#[track_caller]
pub fn wait_some_within<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < within, "waited {within:?} for {what}");
        sleep(LOOK);
    }
}

/// Waits until this is so.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    wait_some(what, || so().then_some(()));
}

/// The binary under test: `KEEPWELL_BIN`, or the one that cargo put beside these tests.
pub fn binary() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("KEEPWELL_BIN") {
        Some(path) => PathBuf::from(path),
        None => beside("keepwell", "run `cargo build -p keepwell` first"),
    })
}

/// The helper.
pub fn testchild() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| beside("testchild", "run `cargo build -p keepwell-e2e` first"))
}

fn beside(name: &str, otherwise: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its own file");
    // target/PROFILE/deps/TEST
    let folder = this.parent().and_then(Path::parent).expect("tests stand in target/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is not there: {otherwise}", path.display());
    path
}

/// A port that is free now, and that neither another test nor the kernel (which takes from 32768 on) gives to somebody else
/// before the test comes to use it: each process of tests has a few of its own.
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const EACH: u32 = 8;
    const GROUPS: u32 = 2_500;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mine = std::process::id() % GROUPS * EACH;
    for _ in 0..EACH {
        let number = mine + NEXT.fetch_add(1, Ordering::Relaxed) % EACH;
        let port = FIRST + u16::try_from(number).expect("20,000 of them");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("none of this process's ports is free");
}

/// A file's text, whatever bytes it has; empty if there is none.
pub fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
