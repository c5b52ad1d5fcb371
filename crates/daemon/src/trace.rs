//! keepwell's own log: one JSON object a line in `keepwell.log`, at most three files of 10 MiB.
//!
//! Whoever logs only puts a line into bounded memory; another thread writes it, so that a slow or full disk holds up
//! nobody. Lines that find no room, or that the disk refuses, are counted, and the count is written when that works again.
//! A thread that panics waits until its last words are written.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use keepwell_core::{RunId, ServiceId};
use keepwell_os::files;
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::errands::Errands;

/// The file's name in the state folder; older ones have `.1`, `.2` … after it.
pub const FILE: &str = "keepwell.log";
/// A file that has grown beyond this is put aside.
const FILE_SIZE: u64 = 10 << 20;
/// So many files there are at most.
const FILES: usize = 3;
/// Lines that wait for the disk, in bytes: some thousands of lines.
const WAITING: usize = 256 << 10;
/// Nobody waits longer than this for the disk, not even for last words.
const PATIENCE: Duration = Duration::from_secs(1);

static CONTROL: OnceLock<Control> = OnceLock::new();

/// Begins the log of a state folder; later calls change nothing. Without a file the lines are counted as lost.
pub fn init(dir: &Path) {
    let (subscriber, control) = build(dir.join(FILE), FILE_SIZE);
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        // Set once, like the subscriber itself.
        let _ = CONTROL.set(control);
    }
}

/// Changes what is logged from now on: `error`, `warn`, `info`, `debug` or `trace`. False for another word.
pub fn set_level(level: &str) -> bool {
    let Some(filter) = filter(level) else { return false };
    if let Some(control) = CONTROL.get() {
        control.set(filter);
    }
    true
}

/// Waits until all lines so far are written, a second at most: before the process ends.
pub fn flush() {
    if let Some(control) = CONTROL.get() {
        control.desk.flush();
    }
}

/// What is logged inside of it carries the service and the run, whatever the level.
#[must_use]
pub fn span(service: &ServiceId, run: Option<RunId>) -> Span {
    tracing::error_span!("service", %service, run = run.map(|r| r.0))
}

fn filter(level: &str) -> Option<LevelFilter> {
    match level {
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

struct Control {
    desk: Arc<Desk>,
    filter: reload::Handle<LevelFilter, Registry>,
}

impl Control {
    fn set(&self, filter: LevelFilter) {
        // It fails only when the subscriber is gone, and with it the log.
        let _ = self.filter.reload(filter);
    }
}

fn build(path: PathBuf, size: u64) -> (impl Subscriber + Send + Sync, Control) {
    let lines = Arc::new(Lines::default());
    let mut sink = Sink { path, size, file: None, written: 0, lost: 0, torn: false };
    let queue = Arc::clone(&lines);
    let work = move |()| {
        let (batch, lost) = queue.take();
        sink.write(&batch, lost);
    };
    let desk = Arc::new(Desk { lines, batches: Errands::new("trace", 1, work) });
    let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
    let writer = Arc::clone(&desk);
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(move || Line(Arc::clone(&writer)));
    (tracing_subscriber::registry().with(filter).with(json), Control { desk, filter: handle })
}

/// Takes one formatted line; the layer writes each in one piece.
struct Line(Arc<Desk>);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        if thread::panicking() {
            self.0.flush();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where lines are taken in.
struct Desk {
    lines: Arc<Lines>,
    /// Each a batch of all lines that wait.
    batches: Errands<()>,
}

/// Lines on their way to the disk.
#[derive(Default)]
struct Lines(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    lost: u64,
    /// A batch will take them.
    asked: bool,
}

impl Desk {
    fn push(&self, line: &[u8]) {
        let mut w = self.lines.lock();
        if w.bytes.len() + line.len() > WAITING {
            w.lost += 1;
        } else {
            w.bytes.extend_from_slice(line);
        }
        self.ask(&mut w);
    }

    /// Without a thread lines wait for the next one that asks, and are counted when there is no room for more.
    fn ask(&self, w: &mut Waiting) {
        w.asked = w.asked || self.batches.give(()).is_ok();
    }

    fn flush(&self) {
        let mut w = self.lines.lock();
        if !w.bytes.is_empty() {
            self.ask(&mut w);
        }
        drop(w);
        self.batches.settle(PATIENCE);
    }
}

impl Lines {
    fn take(&self) -> (Vec<u8>, u64) {
        let Waiting { bytes, lost, asked: _ } = std::mem::take(&mut *self.lock());
        (bytes, lost)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic elsewhere leaves whole lines behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files.
struct Sink {
    path: PathBuf,
    size: u64,
    file: Option<File>,
    written: u64,
    lost: u64,
    /// The last write may have ended inside a line.
    torn: bool,
}

impl Sink {
    fn write(&mut self, batch: &[u8], lost: u64) {
        self.lost += lost;
        if self.try_write(batch).is_err() {
            self.lost += batch.iter().filter(|b| **b == b'\n').count() as u64;
            self.torn = true;
            self.file = None;
        }
    }

    fn try_write(&mut self, batch: &[u8]) -> io::Result<()> {
        if self.file.is_some() && self.written >= self.size {
            self.rotate();
        }
        if self.file.is_none() {
            let mut file = files::open_private(&self.path)?;
            self.written = file.seek(SeekFrom::End(0))?;
            self.file = Some(file);
        }
        let mut head = Vec::new();
        if self.torn && self.written > 0 {
            head.push(b'\n');
        }
        if self.lost > 0 {
            let now = jiff::Timestamp::now();
            writeln!(
                head,
                r#"{{"timestamp":"{now:.6}","level":"WARN","message":"lines of this log were lost","lines":{}}}"#,
                self.lost
            )?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&head)?;
        self.torn = false;
        self.lost = 0;
        file.write_all(batch)?;
        self.written += (head.len() + batch.len()) as u64;
        Ok(())
    }

    /// The current file becomes `.1`, what was there `.2`; the oldest goes. What cannot be renamed is overwritten: the bound
    /// is worth more than the lines.
    fn rotate(&mut self) {
        self.file = None;
        let numbered = |n: usize| {
            let mut name = self.path.as_os_str().to_owned();
            if n > 0 {
                name.push(format!(".{n}"));
            }
            PathBuf::from(name)
        };
        for n in (0..FILES - 1).rev() {
            let _ = files::replace(&numbered(n), &numbered(n + 1));
        }
        if fs::metadata(&self.path).is_ok() {
            let _ = files::remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[test]
    fn lines_are_json_with_service_and_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let (subscriber, control) = build(path.clone(), FILE_SIZE);
        tracing::subscriber::with_default(subscriber, || {
            let _in = span(&ServiceId::new("web", 2), Some(RunId(7))).entered();
            tracing::warn!(after_ms = 12, "slow");
        });
        control.desk.flush();
        let all = lines(&path);
        assert_eq!(all.len(), 1);
        assert_eq!(
            (&all[0]["level"], &all[0]["message"], &all[0]["after_ms"]),
            (&"WARN".into(), &"slow".into(), &12.into())
        );
        assert_eq!((&all[0]["span"]["service"], &all[0]["span"]["run"]), (&"web@2".into(), &7.into()));
        assert!(all[0]["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(files::is_private(&path).unwrap());
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let (subscriber, control) = build(path.clone(), FILE_SIZE);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("hidden");
            control.set(LevelFilter::DEBUG);
            tracing::debug!("shown");
            control.set(LevelFilter::ERROR);
            tracing::warn!("hidden");
            let _in = span(&ServiceId::new("web", 1), None).entered();
            tracing::error!("with its service");
        });
        control.desk.flush();
        let all = lines(&path);
        let messages: Vec<&str> = all.iter().map(|l| l["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["shown", "with its service"]);
        assert_eq!(all[1]["span"]["service"], "web");
    }

    #[test]
    fn other_words_are_no_levels() {
        assert!(set_level("info"));
        assert!(!set_level("loud"));
    }

    #[test]
    fn files_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut sink = Sink { path: path.clone(), size: 100, file: None, written: 0, lost: 0, torn: false };
        for n in 0..50 {
            sink.write(format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(30)).as_bytes(), 0);
        }
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["keepwell.log", "keepwell.log.1", "keepwell.log.2"]);
        assert_eq!(lines(&path).last().unwrap()["n"], 49);
        let before = lines(&dir.path().join("keepwell.log.1"));
        assert_eq!(before.last().unwrap()["n"].as_u64().unwrap() + 1, lines(&path)[0]["n"].as_u64().unwrap());
    }

    #[test]
    fn a_disk_that_refuses_costs_lines_and_says_how_many() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("later");
        let path = folder.join(FILE);
        let mut sink = Sink { path: path.clone(), size: 1_000, file: None, written: 0, lost: 0, torn: false };
        sink.write(b"{\"n\":1}\n{\"n\":2}\n", 3);
        fs::create_dir(&folder).unwrap();
        sink.write(b"{\"n\":3}\n", 0);
        let all = lines(&path);
        assert_eq!((all[0]["lines"].as_u64(), all[1]["n"].as_u64()), (Some(5), Some(3)));
    }

    #[test]
    fn a_flood_is_bounded_and_whole_lines_are_counted() {
        let (open, disk) = std::sync::mpsc::channel::<()>();
        let slow = move |()| assert!(disk.recv().is_err());
        let desk = Desk { lines: Arc::default(), batches: Errands::new("trace", 1, slow) };
        let line = [b'x'; 1_000];
        (0..WAITING / 1_000 + 50).for_each(|_| desk.push(&line));
        let (bytes, lost) = desk.lines.take();
        drop(open);
        assert_eq!((bytes.len(), lost), (WAITING / 1_000 * 1_000, 50));
    }
}
