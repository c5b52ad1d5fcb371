//! The log path with real pipes, files and threads.

mod flow;
mod following;
mod last_words;
mod rebirth;
mod trouble;
mod words;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use keepwell_core::event::Level;
use keepwell_core::spec::System;
use keepwell_os::{Handle, SYSTEM, own, pipe};

use super::{LogHub, LogNews, LogSpec};

/// Nothing here takes this long.
const LONG: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
struct News(Arc<(Mutex<Vec<LogNews>>, Condvar)>);

impl News {
    fn take_in(&self, news: LogNews) {
        self.0.0.lock().unwrap().push(news);
        self.0.1.notify_all();
    }

    fn all(&self) -> Vec<LogNews> {
        self.0.0.lock().unwrap().clone()
    }

    fn told(&self) -> Vec<(Level, String)> {
        let told = |n| match n {
            LogNews::Told { level, text, .. } => Some((level, text)),
            LogNews::Matched { .. } => None,
        };
        self.all().into_iter().filter_map(told).collect()
    }

    fn wait_for(&self, what: impl Fn(&LogNews) -> bool) {
        let news = self.0.0.lock().unwrap();
        let (_news, timeout) =
            self.0.1.wait_timeout_while(news, LONG, |news| !news.iter().any(&what)).unwrap();
        assert!(!timeout.timed_out(), "it was not told");
    }
}

/// A hub, a folder, and the write ends of its slots' pipes.
struct Bench {
    dir: tempfile::TempDir,
    news: News,
    hub: Option<LogHub>,
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench { dir: tempfile::tempdir().unwrap(), news: News::default(), hub: None };
        bench.start();
        bench
    }

    fn start(&mut self) {
        let news = self.news.clone();
        self.hub = Some(LogHub::start(&self.path("runs"), move |n| news.take_in(n)).unwrap());
    }

    fn hub(&self) -> &LogHub {
        self.hub.as_ref().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self, name: &str, rotate_size: u64, keep: u32) -> LogSpec {
        LogSpec { file: self.path(name), error_file: None, rotate_size, keep }
    }

    /// Opens a slot and gives the end that a service writes to, and a copy of the other, as the anchor holds it.
    fn open(&self, slot: u32, spec: LogSpec) -> (File, Handle) {
        let (read, write) = pipe::pipe().unwrap();
        let held = read.try_clone().unwrap();
        self.hub().open(slot, format!("s{slot}"), spec, read, None);
        (File::from(write), held)
    }

    fn flush(&self, slot: u32) {
        self.hub().flush(slot).blocking_recv().unwrap();
    }
}

/// All that is in a log, from the oldest file on.
fn whole(file: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for aside in files(file).iter().rev() {
        all.extend(fs::read(aside).unwrap());
    }
    all
}

/// `file`, `file.1` …, as far as they are there.
fn files(file: &Path) -> Vec<PathBuf> {
    let aside = |n: u32| PathBuf::from(format!("{}.{n}", file.display()));
    std::iter::once(file.to_owned())
        .chain((1..).map(aside).take_while(|p| p.exists()))
        .filter(|p| p.exists())
        .collect()
}

/// So many, or a quarter where each call to the system takes ten times as long, as under Wine.
fn many(n: u64) -> u64 {
    match SYSTEM {
        System::Unix => n,
        System::Windows => n / 4,
    }
}

/// Lines of different lengths, each with its number.
fn numbered(from: u64, to: u64) -> Vec<u8> {
    let mut text = Vec::new();
    for n in from..to {
        let fill = "abcdefghijklmnopqrstuvwxyz".repeat(5);
        writeln!(text, "{n} {}", &fill[..usize::try_from(n * 7919 % 120).unwrap()]).unwrap();
    }
    text
}

fn assert_numbered(log: &[u8], from: u64, to: u64) {
    let expected = numbered(from, to);
    if log != expected {
        let at = log.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(log.len().min(expected.len()));
        let near =
            |b: &[u8]| String::from_utf8_lossy(&b[at.saturating_sub(60)..b.len().min(at + 60)]).into_owned();
        panic!("differs at {at} of {}: {:?} instead of {:?}", expected.len(), near(log), near(&expected));
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `story`, which looks at a whole process, in one of its own: the test of this name alone.
fn alone(name: &str, story: impl FnOnce()) {
    const ALONE: &str = "KEEPWELL_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return story();
    }
    let mut same = Command::new(std::env::current_exe().unwrap());
    let done = same.args(["--exact", &format!("log::tests::{name}")]).env(ALONE, "1").output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && told.contains("1 passed"), "{told}");
}
