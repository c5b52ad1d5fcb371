//! `keepwell run` shows its program's output byte for byte: from the files that the daemon splices it into, since lines that
//! crossed the API are text. The API only tells when there is something new, and when that was all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use keepwell_os::files::is_still;
use keepwell_sdk::client::{EventQuery, Events, Lines, LogQuery};
use keepwell_sdk::exit;
use keepwell_sdk::wire::Event;

use crate::failure::{Failure, Result};
use crate::guardian::{Follow, Guardian};
use crate::output::events::told;
use crate::output::talk;
use crate::time::{elapsed, precise};

/// The program's stdout in the state folder.
pub(crate) const OUT: &str = "out.log";
/// Its stderr.
pub(crate) const ERR: &str = "err.log";

/// Shows until the guardian ends, and then the rest.
///
/// # Errors
/// When nobody reads it any more.
pub(crate) async fn through(guardian: &Guardian, state: &Path, since: Option<String>) -> Result<i32> {
    let mut tails = Tails::new(state);
    let _end = follow(guardian, since, &mut tails).await;
    tails.pump()?;
    Ok(exit::DONE)
}

/// What the guardian had written when it was too short-lived to be asked.
///
/// # Errors
/// As `through`.
pub(crate) fn rest(state: &Path) -> Result<i32> {
    Tails::new(state).pump()?;
    Ok(exit::DONE)
}

async fn follow(guardian: &Guardian, since: Option<String>, tails: &mut Tails) -> Result<()> {
    let all: Vec<String> = guardian.services(&[]).await?.iter().map(|s| s.id()).collect();
    let query = LogQuery { services: all, lines: Some(0), since: None };
    let mut news: Follow<Lines> = guardian.follow_logs(query).await?;
    // Last of all, since a guardian with nothing left to do waits for this before it ends.
    let query = EventQuery { since, ..EventQuery::default() };
    let mut events: Follow<Events> = guardian.follow_events(query).await?;
    let mut guarding = Guarding::default();
    // What was written before somebody listened.
    tails.pump()?;
    loop {
        tokio::select! {
            line = news.next() => match line? {
                Some(_) => tails.pump()?,
                None => return Ok(()),
            },
            event = events.next() => match event? {
                Some(event) => guarding.words(&event).iter().for_each(|words| talk(words)),
                None => return Ok(()),
            },
        }
    }
}

/// What concerns the guarding: why the program is tried again, and when. How it ended for good its exit code says.
#[derive(Default)]
struct Guarding {
    next: Option<String>,
    /// Why it could not be started: its exit code alone does not say that.
    not_started: Option<String>,
}

impl Guarding {
    fn words(&mut self, event: &Event) -> Option<String> {
        if event.next_attempt.is_some() {
            self.next.clone_from(&event.next_attempt);
        }
        match (event.kind.as_str(), event.state.as_deref()) {
            ("spawn_failed", _) => {
                self.not_started = Some(told(&event.text));
                None
            }
            ("state_changed", Some("gave_up")) => self.not_started.take(),
            ("state_changed", Some("backing_off" | "crash_looping")) => {
                self.not_started = None;
                let wait = self.next.take().and_then(|at| elapsed(&event.at, &at));
                let next = wait.map(|w| format!("; next attempt in {}", precise(w))).unwrap_or_default();
                let name = event.service.as_deref().unwrap_or_default();
                Some(format!("keepwell: {name}: {}{next}", event.reason.as_deref().unwrap_or_default()))
            }
            ("ready_timed_out" | "told", _) if event.level != "info" => Some(told(&event.text)),
            _ => None,
        }
    }
}

struct Tails {
    out: Tail,
    err: Tail,
}

/// A file that grows, and is replaced by another of its name when it is large.
struct Tail {
    path: PathBuf,
    file: Option<File>,
}

impl Tails {
    fn new(state: &Path) -> Self {
        let tail = |name| Tail { path: state.join(name), file: None };
        Self { out: tail(OUT), err: tail(ERR) }
    }

    fn pump(&mut self) -> Result<()> {
        let shown =
            self.out.pump(&mut io::stdout().lock()).and_then(|()| self.err.pump(&mut io::stderr().lock()));
        shown.map_err(|e| Failure::writing(&e))
    }
}

impl Tail {
    /// Passes on what is there now.
    fn pump(&mut self, to: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let Some(file) = &mut self.file else {
                match File::open(&self.path) {
                    Ok(file) => self.file = Some(file),
                    // Nothing was written yet.
                    Err(_) => return to.flush(),
                }
                continue;
            };
            // Asked before the last read: what is written after a file was put aside is not written to it.
            let current = is_still(file, &self.path);
            match file.read(&mut buffer)? {
                0 if current => return to.flush(),
                0 => self.file = None,
                n => to.write_all(&buffer[..n])?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_the_exit_code_does_not_say_is_said() {
        let event = |kind: &str, level: &str| Event {
            at: "2026-01-31T14:00:00Z".into(),
            service: Some("sh".into()),
            kind: kind.into(),
            level: level.into(),
            text: format!("sh: {kind}"),
            ..Event::default()
        };
        let change = |state: &str| Event {
            state: Some(state.into()),
            reason: Some("exit code 3 after 8 ms".into()),
            ..event("state_changed", "warn")
        };
        let scheduled =
            Event { next_attempt: Some("2026-01-31T14:00:02Z".into()), ..event("restart_scheduled", "info") };
        let story = [
            event("exited", "warn"),
            scheduled,
            change("backing_off"),
            change("gave_up"),
            event("told", "error"),
        ];
        let mut guarding = Guarding::default();
        let missing = [event("spawn_failed", "error"), change("gave_up"), change("gave_up")];
        let said: Vec<String> = missing.iter().filter_map(|e| guarding.words(e)).collect();
        assert_eq!(said, ["keepwell: sh: spawn_failed"]);
        let said: Vec<String> = story.iter().filter_map(|e| guarding.words(e)).collect();
        assert_eq!(said, ["keepwell: sh: exit code 3 after 8 ms; next attempt in 2 s", "keepwell: sh: told"]);
    }

    #[test]
    fn bytes_pass_as_they_are_over_a_change_of_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(OUT);
        let (mut tail, mut shown) = (Tail { path: path.clone(), file: None }, vec![]);
        tail.pump(&mut shown).unwrap();
        fs::write(&path, b"no newline, \xff no text").unwrap();
        tail.pump(&mut shown).unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b", more").unwrap();
        fs::rename(&path, dir.path().join("old")).unwrap();
        fs::write(&path, b"; new file").unwrap();
        tail.pump(&mut shown).unwrap();
        tail.pump(&mut shown).unwrap();
        assert_eq!(shown, b"no newline, \xff no text, more; new file");
    }
}
