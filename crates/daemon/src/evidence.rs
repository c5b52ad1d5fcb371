//! Evidence of a run that is about to be ended because it failed: what its processes look like, what they said last, what its checks
//! said. One file a run in the state folder, for nobody but its owner.
//!
//! Taken on a thread that is there only while there is something to take, so the engine never waits; the core waits for its word,
//! and no longer than the time that is configured. The environment and the arguments of processes are never read.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keepwell_config::Evidence;
use keepwell_core::{Input, Now, RunId};
use keepwell_os::tree::TreeRoot;
use keepwell_os::{Members, evidence, files};

use crate::convert;
use crate::errands::Errands;
use crate::log::LogHub;
use crate::message::{EngineHandle, Message};
use crate::meter::Look;

/// The folder below the state folder.
pub const FOLDER: &str = "evidence";
/// Of many that fail at once the first are looked at; the others are ended without.
const WAITING: usize = 32;
/// A word that finds the engine's inbox full is given again after this.
const AGAIN: Duration = Duration::from_millis(5);

/// What evidence is to be taken of.
pub struct Case {
    /// The run.
    pub run: RunId,
    /// `web` or `web@2`.
    pub service: String,
    /// The incident that it belongs to.
    pub incident: Option<u64>,
    /// When it was asked for.
    pub at: Now,
    /// Then it is of no use any more.
    pub until: Instant,
    /// Why it is ended, and what its checks said, a line each.
    pub notes: Vec<String>,
    /// What of it is looked at; `None`: no process is known.
    pub look: Option<Look>,
    /// How much of it.
    pub how: Evidence,
}

/// Where evidence is taken.
pub struct Witness(Errands<Case>);

impl Witness {
    /// Into this state folder; the engine hears of each case.
    #[must_use]
    pub fn new(state_dir: &Path, trees: Arc<TreeRoot>, log: LogHub, engine: EngineHandle) -> Self {
        let folder = state_dir.join(FOLDER);
        Self(Errands::new("evidence", WAITING, move |case: Case| {
            let outcome = take(&folder, &trees, &log, &case);
            tell(&engine, Input::EvidenceTaken { run: case.run, outcome });
        }))
    }

    /// Takes it, soon; false: too much is being taken already.
    pub fn take(&self, case: Case) -> bool {
        self.0.give(case).is_ok()
    }
}

fn tell(engine: &EngineHandle, input: Input) {
    let mut message = Message::Input(input);
    // The core goes on without a word when the time is over, so this need not go on for ever.
    for _ in 0..200 {
        message = match engine.send(message) {
            Ok(()) => return,
            Err(back) => back,
        };
        std::thread::sleep(AGAIN);
    }
}

/// The name of the file that was written, or why there is none.
fn take(folder: &Path, trees: &TreeRoot, log: &LogHub, case: &Case) -> Result<String, String> {
    if Instant::now() >= case.until {
        return Err("others were looked at until its time was over".to_owned());
    }
    let words = |e: std::io::Error| keepwell_os::in_words(&e);
    fs::create_dir_all(folder).map_err(words)?;
    let stem = format!("{}-{}-run{}", case.incident.unwrap_or(0), case.service, case.run.0);
    let name = format!("{stem}.txt");
    let mut text = Text { max: case.how.size, text: head(case) };
    text.part("checks", &case.notes.join("\n"));
    if let Some(look) = &case.look {
        let lines = log.tail(look.slot, Some(case.how.lines), None);
        let lines: Vec<String> = lines.into_iter().map(|l| l.line).collect();
        // Half of the room, so that the processes have the other.
        text.part("last output", last_of(&lines.join("\n"), case.how.size / 2));
        let main = look.main_pid;
        text.part("its tree", &tree(main, look.members.as_ref()));
        for pid in trees.members(&look.tree, main, look.members.as_ref()) {
            text.part(&format!("process {pid}"), &evidence::of_process(pid, case.until));
        }
        let left = || case.until.saturating_duration_since(Instant::now());
        if case.how.stacks {
            let said = evidence::stacks(main, left()).unwrap_or_else(|why| format!("none: {why}"));
            text.part(&format!("stacks of process {main}"), &said);
        }
        if case.how.dump {
            let path = folder.join(format!("{stem}.dmp"));
            // With the text beside it, it must not be more than is kept.
            let max = case.how.keep_bytes.saturating_sub(case.how.size as u64);
            let done = evidence::dump(main, &path, max, left());
            let said = done.map_or_else(|why| format!("none: {why}"), |()| format!("{stem}.dmp"));
            text.part("dump", &said);
        }
    }
    let mut file = files::open_private(&folder.join(&name)).map_err(words)?;
    file.set_len(0).and_then(|()| file.write_all(text.text.as_bytes())).map_err(words)?;
    drop(file);
    prune(folder, &case.how);
    Ok(name)
}

fn head(case: &Case) -> String {
    let incident = case.incident.map(|id| format!(", incident {id}")).unwrap_or_default();
    format!("{}, {}{incident}, {}\n", case.service, case.run, convert::time(case.at.wall))
}

fn tree(main: u32, members: Option<&Members>) -> String {
    let mut text = format!("main process: {main}\n");
    if let Some(cpu) = members.and_then(|m| m.cpu_usec) {
        text.push_str(&format!("processor time: {} ms\n", cpu / 1000));
    }
    text + &evidence::of_tree(main)
}

/// A text that does not grow beyond its bound, and says so.
struct Text {
    max: usize,
    text: String,
}

impl Text {
    fn part(&mut self, title: &str, body: &str) {
        let body = body.trim_end();
        if body.is_empty() || self.text.len() >= self.max {
            return;
        }
        self.text.push_str(&format!("\n== {title}\n"));
        self.text.push_str(body);
        self.text.push('\n');
        if self.text.len() > self.max {
            let mut end = self.max;
            while !self.text.is_char_boundary(end) {
                end -= 1;
            }
            self.text.truncate(end);
            self.text.push_str("\n… cut: the bound on the size of evidence is reached\n");
        }
    }
}

/// The last `max` bytes, from the beginning of a line on where there is one.
fn last_of(text: &str, max: usize) -> &str {
    let mut from = text.len().saturating_sub(max);
    if from == 0 {
        return text;
    }
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let rest = &text[from..];
    rest.split_once('\n').map_or(rest, |(_, whole)| whole)
}

/// Deletes the oldest beyond what is kept, by number of runs and by bytes in all.
fn prune(folder: &Path, how: &Evidence) {
    let mut all: Vec<(std::time::SystemTime, u64, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.metadata().ok()?.len(), e.path())))
        .collect();
    all.sort_by(|a, b| b.cmp(a));
    let (mut texts, mut bytes) = (0, 0);
    for (nth, (_, len, path)) in all.into_iter().enumerate() {
        bytes += len;
        texts += usize::from(path.extension().is_some_and(|e| e == "txt"));
        // The newest stays, whatever its size.
        if nth > 0 && (texts > how.keep || bytes > how.keep_bytes) {
            // What cannot be deleted is tried again with the next.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
