//! keepwell as a service of a prefix's own service control manager, looked at by `sc`, `net` and `reg` from outside.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use keepwell_sdk::wire::{Event, Info, Status};

use crate::api::Api;
use crate::guardian::child_path;
use crate::prefix::{self, Answer, Prefix, Process, windows};
use crate::read_lossy;
use crate::wait::{DEADLINE, wait_some};

/// From one question to the manager to the next: each makes a process.
const LOOK: Duration = Duration::from_millis(100);
/// For keepwell's own processes to be gone once it has said so.
const OWN_END: Duration = Duration::from_secs(5);

/// A service that runs keepwell. Its configuration and its state stand in `C:\ProgramData\keepwell\NAME`.
#[derive(Debug)]
pub struct Service<'a> {
    prefix: &'a Prefix,
    name: String,
    folder: PathBuf,
    api: Option<Api>,
}

/// What `sc query` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// `RUNNING` and the like.
    pub state: String,
    /// `WIN32_EXIT_CODE`.
    pub exit: u32,
    /// `SERVICE_EXIT_CODE`.
    pub own_exit: u32,
    /// `CHECKPOINT`.
    pub checkpoint: u32,
    /// `WAIT_HINT`, in milliseconds.
    pub hint: u32,
}

impl<'a> Service<'a> {
    /// One that nobody has installed. `CHILD` in the configuration stands for the helper's path.
    #[must_use]
    pub fn prepared(prefix: &'a Prefix, name: &str, config: &str) -> Service<'a> {
        let service = Service::known(prefix, name);
        std::fs::create_dir_all(&service.folder).expect("own folder");
        service.write("keepwell.toml", config);
        service
    }

    /// One that somebody else has installed, or will: nothing is written.
    #[must_use]
    pub fn known(prefix: &'a Prefix, name: &str) -> Service<'a> {
        let folder = prefix.drive_c("ProgramData/keepwell").join(name);
        Service { prefix, name: name.to_owned(), folder, api: None }
    }

    /// One that `sc create` has installed, with more words for it.
    #[track_caller]
    #[must_use]
    pub fn installed_with(prefix: &'a Prefix, name: &str, config: &str, more: &[&str]) -> Service<'a> {
        let service = Service::prepared(prefix, name, config);
        let mut all = vec!["binPath=".to_owned(), service.command_line(&[])];
        all.extend(more.iter().map(|&word| word.to_owned()));
        service.sc("create", &all.iter().map(String::as_str).collect::<Vec<_>>()).good();
        service
    }

    /// One that `sc create` has installed.
    #[track_caller]
    #[must_use]
    pub fn installed(prefix: &'a Prefix, name: &str, config: &str) -> Service<'a> {
        Service::installed_with(prefix, name, config, &[])
    }

    /// One that runs.
    #[track_caller]
    #[must_use]
    pub fn running(prefix: &'a Prefix, name: &str, config: &str) -> Service<'a> {
        let service = Service::installed(prefix, name, config);
        service.start();
        service
    }

    /// The command line that the manager is given.
    #[must_use]
    pub fn command_line(&self, more: &[&str]) -> String {
        let config = format!(r"C:\ProgramData\keepwell\{}\keepwell.toml", self.name);
        let program = windows(prefix::keepwell());
        let more: String = more.iter().map(|word| format!(" {word}")).collect();
        format!("\"{program}\" internal service --name \"{}\" --config \"{config}\"{more}", self.name)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state folder, as Linux knows it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file there; `CHILD` stands for the helper's path.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text.replace("CHILD", &child_path())).expect("own folder");
    }

    /// A file's text; empty while there is none.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        read_lossy(&self.folder.join(name))
    }

    /// Waits until a file holds this.
    #[track_caller]
    pub fn wait_file(&self, name: &str, text: &str) -> String {
        wait_some(&format!("`{text}` in {name}"), || Some(self.read(name)).filter(|all| all.contains(text)))
    }

    /// Waits until the output of one of its programs holds this.
    #[track_caller]
    pub fn wait_log(&self, program: &str, text: &str) -> String {
        self.wait_file(&format!("logs/{program}.log"), text)
    }

    /// `sc VERB NAME …`.
    #[track_caller]
    pub fn sc(&self, verb: &str, more: &[&str]) -> Answer {
        let mut words = vec![verb, &self.name];
        words.extend(more);
        self.prefix.run("sc", &words)
    }

    /// `sc start`, and until it runs.
    #[track_caller]
    pub fn start(&self) {
        self.sc("start", &[]).good();
        self.wait_state("RUNNING");
    }

    /// `sc stop`, and until it has stopped.
    #[track_caller]
    pub fn stop(&self) -> Query {
        let answer = self.sc("stop", &[]);
        assert_eq!(
            answer.code,
            0,
            "{answer:?}, {:?}, {:?}",
            self.query(),
            self.prefix.run("net", &["stop", &self.name])
        );
        self.wait_state("STOPPED")
    }

    /// What the manager says; `None` when it knows no such service.
    #[track_caller]
    #[must_use]
    pub fn query(&self) -> Option<Query> {
        let answer = self.sc("query", &[]);
        let word = |name: &str| -> Option<String> {
            let line = answer.out.lines().find(|l| l.trim_start().starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let number = |name: &str| -> Option<u32> {
            let text = word(name)?;
            let text = text.split_whitespace().next()?;
            match text.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            }
        };
        Some(Query {
            state: word("STATE")?.split_whitespace().nth(1)?.to_owned(),
            exit: number("WIN32_EXIT_CODE")?,
            own_exit: number("SERVICE_EXIT_CODE")?,
            checkpoint: number("CHECKPOINT")?,
            hint: number("WAIT_HINT")?,
        })
    }

    /// Waits until the manager says so.
    #[track_caller]
    pub fn wait_state(&self, state: &str) -> Query {
        let start = Instant::now();
        loop {
            let now = self.query();
            if let Some(now) = now.clone().filter(|now| now.state == state) {
                return now;
            }
            assert!(start.elapsed() < DEADLINE, "still {now:?}, not {state}\n{}", self.traces());
            sleep(LOOK);
        }
    }

    /// `keepwell COMMAND … --state FOLDER`.
    #[track_caller]
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Answer {
        let state = format!(r"C:\ProgramData\keepwell\{}", self.name);
        let mut all = args.to_vec();
        all.extend(["--state", &state]);
        self.prefix.cli(&all)
    }

    /// The way to the API, from the first time on that it is wanted.
    pub fn reach(&mut self) {
        if self.api.is_none() {
            let folder = format!(r"C:\ProgramData\keepwell\{}", self.name);
            self.api = Some(Api::of_folder(self.prefix, &folder));
        }
    }

    /// About the guardian; `None` while nobody answers.
    #[must_use]
    pub fn info(&self) -> Option<Info> {
        self.api.as_ref().expect("`reach` comes first").info()
    }

    /// Every event so far, oldest first.
    #[track_caller]
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.api.as_ref().expect("`reach` comes first").events()
    }

    /// Waits until this is so of all its programs.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut so: impl FnMut(&[Status]) -> bool) -> Vec<Status> {
        let api = self.api.as_ref().expect("`reach` comes first");
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < DEADLINE {
            if let Some(now) = api.status() {
                if so(&now) {
                    return now;
                }
                last = Some(now);
            }
            sleep(LOOK / 5);
        }
        panic!("after {DEADLINE:?} still not {what}; last seen: {last:#?}\n{}", self.traces());
    }

    /// Waits until a program has a process: its number in Windows.
    #[track_caller]
    pub fn pid(&self, id: &str) -> u32 {
        let all = self.wait_for(&format!("{id} to have a process"), |all| {
            all.iter().any(|s| s.id() == id && s.pid.is_some())
        });
        all.iter().find(|s| s.id() == id).and_then(|s| s.pid).expect("it was there")
    }

    /// Its anchor, which is the process that the manager has started.
    #[must_use]
    pub fn anchor(&self) -> Option<Process> {
        let own = format!(" internal service --name {} ", self.name);
        let all = self.prefix.processes().into_iter();
        all.filter(|p| p.command.replace('"', "").contains(&own)).max_by_key(|p| p.pid)
    }

    /// The daemon, where there is one guardian only.
    #[must_use]
    pub fn daemon(&self) -> Option<Process> {
        self.prefix.processes().into_iter().find(Process::is_daemon)
    }

    /// What a person would look at when something went wrong.
    #[must_use]
    pub fn traces(&self) -> String {
        let own = self.read("keepwell.log");
        let lines: Vec<_> = own.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        let all: Vec<_> = self.prefix.processes().into_iter().map(|p| p.command).collect();
        format!(
            "--- anchor.log\n{}\n--- keepwell.log\n{tail}\n--- processes\n{}",
            self.read("anchor.log"),
            all.join("\n")
        )
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.traces());
        }
    }
}

impl Prefix {
    /// Fails unless within this time no process that keepwell started is left, nor, a moment later, keepwell: who has said
    /// that it has stopped still has to end its own processes.
    #[track_caller]
    pub fn assert_nothing_left(&self, within: Duration) {
        let start = Instant::now();
        loop {
            let (children, own) = (self.children(), self.keepwells());
            if children.is_empty() && own.is_empty() {
                return;
            }
            let late = if children.is_empty() { within + OWN_END } else { within };
            assert!(start.elapsed() < late, "after {within:?} still there: {children:#?} {own:#?}");
            sleep(LOOK / 5);
        }
    }
}
