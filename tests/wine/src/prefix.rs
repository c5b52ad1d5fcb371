//! One Wine prefix and what runs in it.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::wait::LOOK;

/// No command of these tests waits for longer.
const COMMAND_TIME: Duration = Duration::from_secs(120);

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// The lowest eight bits of the Windows exit code: Wine tells no more.
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
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// stdout as JSON.
    #[track_caller]
    #[must_use]
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

/// A process of a prefix, as Linux sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Linux's number of it, not that of Windows.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

impl Process {
    /// Ends it as nothing could be done about it: SIGKILL. Wine's server then treats it as ended.
    pub fn kill(&self) {
        let _ = Command::new("kill").arg("-9").arg(self.pid.to_string()).stderr(Stdio::null()).status();
    }

    /// Whether it is keepwell's daemon.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.command.contains("keepwell") && self.command.contains("internal daemon")
    }

    /// Whether it is the helper, in whatever role.
    #[must_use]
    pub fn is_child(&self) -> bool {
        self.command.contains("winchild.exe")
    }
}

/// A Windows of its own, and a folder to work in. All that runs in it ends with it.
#[derive(Debug)]
pub struct Prefix {
    folder: TempDir,
    work: PathBuf,
}

impl Default for Prefix {
    fn default() -> Prefix {
        Prefix::new()
    }
}

impl Prefix {
    /// A copy of the prepared one.
    #[must_use]
    pub fn new() -> Prefix {
        Prefix::with_work("work")
    }

    /// The same; the folder to work in has this name.
    #[must_use]
    pub fn with_work(name: &str) -> Prefix {
        let runs = home().join("runs");
        fs::create_dir_all(&runs).expect("the folder of Wine prefixes can be written");
        let folder = tempfile::Builder::new().prefix("kw").tempdir_in(&runs).expect("a temporary folder");
        let done = Command::new(script("new-prefix")).arg(folder.path().join("prefix")).status();
        assert!(done.is_ok_and(|s| s.success()), "xtask/windows/new-prefix failed");
        let work = folder.path().join(name);
        fs::create_dir(&work).expect("own folder");
        Prefix { folder, work }
    }

    /// The folder to work in, which is that of every command.
    #[must_use]
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// A file of that folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// A file of drive C.
    #[must_use]
    pub fn drive_c(&self, name: &str) -> PathBuf {
        self.root().join("drive_c").join(name)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("prefix")
    }

    /// A program under Wine, prepared: a path, or one of Windows' own (`sc`, `net`, `reg`).
    #[must_use]
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.wine("wine");
        command.arg(program).args(args);
        command
    }

    fn wine(&self, tool: &str) -> Command {
        let mut command = Command::new(tool);
        command.current_dir(&self.work).stdin(Stdio::null());
        command.env("WINEPREFIX", self.root()).env("WINEDEBUG", "-all").env_remove("DISPLAY");
        command.env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
        // Else Wine speaks to children in the tester's code page.
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    /// `keepwell.exe`, prepared.
    #[must_use]
    pub fn keepwell(&self, args: &[&str]) -> Command {
        self.command(&keepwell().display().to_string(), args)
    }

    /// `winchild.exe`, prepared.
    #[must_use]
    pub fn child(&self, args: &[&str]) -> Command {
        self.command(&child().display().to_string(), args)
    }

    /// Runs a program to its end, which must come.
    #[track_caller]
    #[must_use]
    pub fn run(&self, program: &str, args: &[&str]) -> Answer {
        answer(&mut self.command(program, args))
    }

    /// Runs `keepwell.exe` to its end, which must come.
    #[track_caller]
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Answer {
        answer(&mut self.keepwell(args))
    }

    /// Starts a command with its output in the files `name.out` and `name.err`.
    pub fn start(&self, command: &mut Command, name: &str) -> Child {
        let open = |end: &str| {
            let path = self.path(&format!("{name}.{end}"));
            File::options().create(true).append(true).open(path).expect("own folder")
        };
        command.stdout(open("out")).stderr(open("err")).spawn().expect("wine can be started")
    }

    /// All processes of this Windows, its own among them.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let mark = format!("WINEPREFIX={}\0", self.root().display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let environ = read("environ");
            if environ.windows(mark.len()).any(|w| w == mark.as_bytes()) {
                let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
                // Without one: a zombie.
                if !command.is_empty() {
                    found.push(Process { pid, command });
                }
            }
        }
        found
    }

    /// keepwell's processes.
    #[must_use]
    pub fn keepwells(&self) -> Vec<Process> {
        self.processes().into_iter().filter(|p| p.command.contains("keepwell.exe")).collect()
    }

    /// The helpers that keepwell started.
    #[must_use]
    pub fn children(&self) -> Vec<Process> {
        let own = |p: &Process| p.command.contains("winchild.exe bridge ");
        self.processes().into_iter().filter(|p| p.is_child() && !own(p)).collect()
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        let _ = self.wine("wineserver").arg("-k").stderr(Stdio::null()).status();
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.iter().for_each(Process::kill);
            sleep(LOOK);
        }
    }
}

/// The lowest bits of `STATUS_DLL_INIT_FAILED`: Wine's answer to a program that comes while the Windows of its prefix, in which
/// nothing else runs any more, goes down. Nothing of the program ran.
const NEVER_BEGAN: i32 = 0x42;
/// Wine's own answer when it cannot start a program, which a loaded host has seen once. keepwell never fails without a word.
const NOT_STARTED: i32 = 1;

/// Runs a command to its end, which must come.
#[track_caller]
#[must_use]
pub fn answer(command: &mut Command) -> Answer {
    let answer = once(command);
    let never_began = matches!(answer.code, NEVER_BEGAN | NOT_STARTED) && answer.all().trim().is_empty();
    if never_began { once(command) } else { answer }
}

#[track_caller]
fn once(command: &mut Command) -> Answer {
    let file = || tempfile::tempfile().expect("a temporary file");
    let (out, err) = (file(), file());
    let copy = |f: &File| f.try_clone().expect("an open file");
    let mut child =
        command.stdout(copy(&out)).stderr(copy(&err)).spawn().expect("the command can be started");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("own child") {
            break Some(status);
        }
        if start.elapsed() > COMMAND_TIME {
            let _ = child.kill();
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
        panic!("{command:?} did not end in {COMMAND_TIME:?}\nstdout:\n{out}\nstderr:\n{err}");
    };
    Answer { code: code(status), out, err }
}

/// −1 for a process that was killed.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}

/// A path as Windows' programs know it.
pub(crate) fn windows(path: &Path) -> String {
    format!("Z:{}", path.display().to_string().replace('/', "\\"))
}

/// Whether these tests can run here. If not, says why, once.
#[must_use]
pub fn is_here() -> bool {
    static HERE: OnceLock<bool> = OnceLock::new();
    *HERE.get_or_init(|| {
        let missing = lacks();
        if let Some(why) = &missing {
            let required = std::env::var_os("KEEPWELL_WINE").is_some_and(|v| v == "required");
            assert!(!required, "{why}");
            eprintln!("skipped: {why}");
        }
        missing.is_none()
    })
}

fn lacks() -> Option<String> {
    let wine = Command::new("wine").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if wine.is_err() {
        return Some("Wine is not installed: xtask/windows/install".into());
    }
    if !home().join("prefix-10/complete").is_file() {
        return Some("there is no Wine prefix to copy: xtask/windows/install".into());
    }
    let missing = [keepwell(), child()].into_iter().find(|p| !p.is_file())?;
    Some(format!("{} is not built: cargo xtask test windows", missing.display()))
}

fn home() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    variable("KEEPWELL_WINE_HOME").unwrap_or_else(|| {
        let cache = variable("XDG_CACHE_HOME")
            .unwrap_or_else(|| variable("HOME").expect("HOME is set").join(".cache"));
        cache.join("keepwell-wine")
    })
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/windows").join(name)
}

/// The binary under test: `KEEPWELL_WINDOWS_BIN`, or the one that cargo put beside these tests.
#[must_use]
pub fn keepwell() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("KEEPWELL_WINDOWS_BIN") {
        Some(path) => PathBuf::from(path),
        None => beside("keepwell.exe"),
    })
}

/// The helper.
#[must_use]
pub fn child() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| beside("winchild.exe"))
}

fn beside(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its own file");
    // target/PROFILE/deps/TEST → target/x86_64-pc-windows-gnu/PROFILE/NAME
    let profile = this.parent().and_then(Path::parent).expect("tests stand in target/PROFILE/deps");
    let target = profile.parent().expect("a profile has a folder");
    target.join("x86_64-pc-windows-gnu").join(profile.file_name().expect("a profile has a name")).join(name)
}
