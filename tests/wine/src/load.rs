//! Services under which every loss shows: they write numbered lines, end with ever other codes, and write down themselves
//! what they did. See `work` of `winchild`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use keepwell_sdk::wire::{Event, Info};

use crate::prefix::{Prefix, Process};
use crate::read_lossy;
use crate::wait::{wait_some, wait_until};

/// Those that write a line now and then and end again and again.
const WORKERS: usize = 3;
/// And one that floods.
const ALL: usize = WORKERS + 1;
/// A daemon may be killed again before anybody has seen the one before it.
const SEEN: u32 = 2;

/// See the module.
#[derive(Debug)]
pub struct Load {
    folder: PathBuf,
    logs: PathBuf,
}

impl Load {
    /// The configuration of these services.
    #[must_use]
    pub fn config() -> String {
        let mut config = String::from(
            "[defaults]\nrestart = { delay = '0s', limit = 'off' }\nlog = { rotate = { size = '4GB' } }\n\
             stop = [{ signal = 'TERM', wait = '1m' }]\n",
        );
        for n in 0..ALL {
            let flood = if n < WORKERS { "" } else { " --bursts 1000000000 --lines 40 --every 1" };
            config.push_str(&format!("[services.w{n}]\ncommand = 'CHILD work w{n}{flood}'\n"));
        }
        config
    }

    /// Makes the folders that they need beside the configuration; `logs` is where keepwell writes their output.
    #[must_use]
    pub fn in_folder(folder: &Path, logs: &Path) -> Load {
        for n in 0..ALL {
            std::fs::create_dir(folder.join(format!("w{n}"))).expect("own folder");
        }
        Load { folder: folder.to_owned(), logs: logs.to_owned() }
    }

    /// Waits until every one has begun a first time.
    #[track_caller]
    pub fn wait_begun(&self) {
        wait_until("every service to run", || (0..ALL).all(|n| self.begins(n) >= 1));
    }

    /// Waits until all that end have ended and begun again.
    #[track_caller]
    pub fn wait_going_on(&self) {
        let before: Vec<_> = (0..WORKERS).map(|n| self.begins(n)).collect();
        wait_until("every worker to go on", || (0..WORKERS).all(|n| self.begins(n) >= before[n] + 2));
    }

    /// Kills the daemon so many times. Most kills hit one that works, some one in the middle of its boot.
    #[track_caller]
    pub fn kill_daemons(
        &self,
        kills: u32,
        prefix: &Prefix,
        info: impl Fn() -> Option<Info>,
        find: impl Fn() -> Option<Process>,
    ) {
        for n in 0..kills {
            if n % 8 != 0 {
                wait_until("an answer", || info().is_some());
            }
            std::thread::sleep(Duration::from_millis(u64::from(n * 37 % 40)));
            if n % 10 == 5 {
                // As Windows' own means do it.
                let daemon = wait_some("an answer", &info).daemon_pid.to_string();
                assert!(prefix.child(&["kill", &daemon]).status().is_ok());
            } else {
                let daemon = wait_some("a daemon", &find);
                daemon.kill();
                wait_until("its end", || find().is_none_or(|now| now.pid != daemon.pid));
            }
        }
        let rebirths = wait_some("an answer", &info).rebirths;
        assert!(rebirths >= kills / SEEN, "only {rebirths} daemons");
        eprintln!(
            "{kills} kills, {rebirths} daemons, {} runs",
            (0..ALL).map(|n| self.begins(n)).sum::<usize>()
        );
    }

    /// Once all has ended: what was lost or done twice.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        (0..ALL).flat_map(|n| [self.faults_of_runs(n), self.faults_of_lines(n)].concat()).collect()
    }

    /// The exits that are told are those that happened, each once and with its code.
    #[must_use]
    pub fn faults_of_exits(&self, events: &[Event]) -> Vec<String> {
        let of_exits = |n: usize| {
            let service = format!("w{n}");
            let runs = self.runs(n);
            let ends = runs.lines().filter(|l| l.starts_with("end"));
            let happened: Vec<i32> = ends.filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
            let told = events.iter().filter(|e| e.service.as_ref() == Some(&service));
            let told: Vec<i32> = told.filter_map(|e| e.exit.as_ref()?.code).collect();
            (told != happened).then(|| format!("{service}: exits {happened:?} happened, {told:?} are told"))
        };
        (0..WORKERS).filter_map(of_exits).collect()
    }

    fn runs(&self, n: usize) -> String {
        read_lossy(&self.folder.join(format!("w{n}/runs")))
    }

    fn begins(&self, n: usize) -> usize {
        self.runs(n).lines().filter(|l| l.starts_with("begin")).count()
    }

    /// Never two at once, every begin has its end.
    fn faults_of_runs(&self, n: usize) -> Vec<String> {
        let (mut running, mut faults) = (None::<String>, Vec::new());
        for line in self.runs(n).lines() {
            let words: Vec<_> = line.split(' ').collect();
            let fits = match (words[0], &running) {
                ("begin", None) => true,
                ("end", Some(pid)) => pid == words[1],
                _ => false,
            };
            if !fits {
                faults.push(format!("w{n}: `{line}` while {running:?} ran"));
            }
            running = (words[0] == "begin").then(|| words[1].to_owned());
        }
        if let Some(pid) = running {
            faults.push(format!("w{n}: process {pid} never ended by itself"));
        }
        faults
    }

    /// Every line once, in order, whole.
    fn faults_of_lines(&self, n: usize) -> Vec<String> {
        let written: usize = read_lossy(&self.folder.join(format!("w{n}/next"))).parse().unwrap_or(0);
        let log = read_lossy(&self.logs.join(format!("w{n}.log")));
        let mut faults = Vec::new();
        for (i, line) in log.lines().enumerate() {
            if !line.starts_with(&format!("line {i} of run ")) || !line.ends_with(&format!(" of w{n}")) {
                faults.push(format!("w{n}: line {i} of the log is `{line}`"));
                break;
            }
        }
        let kept = log.lines().count();
        if kept != written || kept == 0 {
            faults.push(format!("w{n}: {written} lines were written, {kept} are kept"));
        }
        faults
    }
}
