//! A guardian in a Wine prefix of its own, with real processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use keepwell_sdk::wire::{Event, Info, Status};

use crate::api::Api;
use crate::prefix::{self, Answer, Prefix, Process, windows};
use crate::read_lossy;
use crate::wait::{DEADLINE, LOOK, wait_some};

/// `keepwell up` in the foreground, its folder, and its Windows.
#[derive(Debug)]
pub struct Guardian {
    // Before the prefix, which ends all that runs in it.
    api: Option<Api>,
    child: Option<Child>,
    prefix: Prefix,
}

impl Guardian {
    /// A folder with this configuration; nothing runs yet. `CHILD` in it stands for the helper's path.
    #[must_use]
    pub fn new(config: &str) -> Guardian {
        Guardian::on(Prefix::new(), config)
    }

    /// The same in a prefix that is there.
    #[must_use]
    pub fn on(prefix: Prefix, config: &str) -> Guardian {
        let guardian = Guardian { api: None, child: None, prefix };
        guardian.write("keepwell.toml", config);
        guardian
    }

    /// A guardian that answers.
    #[track_caller]
    #[must_use]
    pub fn up(config: &str) -> Guardian {
        let mut guardian = Guardian::new(config);
        guardian.start(&["--quiet"]);
        guardian.wait_answering();
        guardian
    }

    /// Its Windows.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// A file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.prefix.path(name)
    }

    /// A file of its state folder.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        self.path(".keepwell").join(name)
    }

    /// Writes a file; `CHILD` stands for the helper's path.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text.replace("CHILD", &child_path())).expect("own folder");
    }

    /// A file's text; empty while there is none.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        read_lossy(&self.path(name))
    }

    /// The output of a service in its current log file.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        read_lossy(&self.state(&format!("logs/{name}.log")))
    }

    /// A command of the binary, prepared.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        self.prefix.keepwell(args)
    }

    /// Starts `keepwell up` in the foreground, its output in `up.out` and `up.err`.
    pub fn start(&mut self, args: &[&str]) {
        assert!(self.child.is_none(), "it runs already");
        let mut command = self.command(&["up"]);
        command.args(args);
        self.child = Some(self.prefix.start(&mut command, "up"));
    }

    /// Runs a command to its end, which must come.
    #[track_caller]
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Answer {
        self.prefix.cli(args)
    }

    /// The way to the API, from the first time on that it is wanted.
    pub fn reach(&mut self) {
        if self.api.is_none() {
            self.api = Some(Api::of(&self.prefix, &self.path(".keepwell")));
        }
    }

    /// About the guardian; `None` while nobody answers.
    #[must_use]
    pub fn info(&self) -> Option<Info> {
        self.api.as_ref().expect("`reach` comes first").info()
    }

    /// Every instance; `None` while nobody answers.
    #[must_use]
    pub fn status(&self) -> Option<Vec<Status>> {
        self.api.as_ref().expect("`reach` comes first").status()
    }

    /// Every event so far, oldest first.
    #[track_caller]
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.api.as_ref().expect("`reach` comes first").events()
    }

    /// Waits until this is so of the events: they are told after what they tell of, when the store has them.
    #[track_caller]
    pub fn wait_events(&self, what: &str, so: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        wait_some(what, || Some(self.events()).filter(|all| so(all)))
    }

    /// Waits until the API answers.
    #[track_caller]
    pub fn wait_answering(&mut self) {
        self.reach();
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

    /// One instance.
    #[track_caller]
    #[must_use]
    pub fn service(&self, id: &str) -> Status {
        wait_some(&format!("{id} to be known"), || self.status()?.into_iter().find(|s| s.id() == id))
    }

    /// Waits until an instance has a process: its Windows pid.
    #[track_caller]
    pub fn pid(&self, id: &str) -> u32 {
        let all = self.wait_for(&format!("{id} to have a process"), |all| {
            all.iter().any(|s| s.id() == id && s.pid.is_some())
        });
        all.iter().find(|s| s.id() == id).and_then(|s| s.pid).expect("it was there")
    }

    /// Waits until this is so of all instances.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut so: impl FnMut(&[Status]) -> bool) -> Vec<Status> {
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < DEADLINE {
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
        panic!("after {DEADLINE:?} still not {what}; last seen:\n{}\n{}", seen.join("\n"), self.traces());
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

    /// What `start` started, which is the anchor, as Linux sees it.
    #[track_caller]
    #[must_use]
    pub fn anchor(&self) -> Process {
        Process { pid: self.child.as_ref().expect("it was started").id(), command: String::new() }
    }

    /// The daemon, as Linux sees it.
    #[must_use]
    pub fn daemon(&self) -> Option<Process> {
        self.prefix.processes().into_iter().find(Process::is_daemon)
    }

    /// Waits for the end of what `start` started: its code.
    #[track_caller]
    pub fn wait_exit(&mut self) -> i32 {
        let mut child = self.child.take().expect("it was started");
        prefix::code(wait_some("`keepwell up` to end", || child.try_wait().ok().flatten()))
    }

    /// Whether what `start` started has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| c.try_wait().is_ok_and(|s| s.is_some()))
    }

    /// `keepwell down`; fails unless all ended well and nothing is left.
    #[track_caller]
    pub fn end(mut self) {
        self.cli(&["down"]).good();
        let code = self.wait_exit();
        assert_eq!(code, 0, "`keepwell up` ended with {code}\n{}", self.traces());
        self.assert_nothing_left(Duration::ZERO);
    }

    /// Fails unless within this time no process that keepwell started is left, nor keepwell.
    #[track_caller]
    pub fn assert_nothing_left(&self, within: Duration) {
        let start = Instant::now();
        loop {
            let mut left = self.prefix.children();
            left.extend(self.prefix.keepwells());
            if left.is_empty() {
                return;
            }
            // Who was sent to deliver a Ctrl+C may come too late and goes by itself.
            let late = left.iter().all(|p| p.command.contains("keepwell_event"));
            let within = if late { within + Duration::from_secs(10) } else { within };
            assert!(start.elapsed() < within, "after {within:?} still there: {left:#?}\n{}", self.traces());
            sleep(LOOK);
        }
    }

    /// What a person would look at when something went wrong.
    #[must_use]
    pub fn traces(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        let (out, err) = (tail(self.read("up.out")), tail(self.read("up.err")));
        let (own, bridge) = (read_lossy(&self.state("keepwell.log")), tail(self.read("bridge.err")));
        format!(
            "--- up.out\n{out}\n--- up.err\n{err}\n--- bridge.err\n{bridge}\n--- keepwell.log\n{}",
            tail(own)
        )
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
    }
}

/// The helper's path, which means the same in a string that is split as a shell does and in one that is not.
pub(crate) fn child_path() -> String {
    windows(prefix::child()).replace('\\', "/")
}

/// A path as Windows' programs know it.
#[must_use]
pub fn windows_path(path: &Path) -> String {
    windows(path)
}
