//! What a person sees of `keepwell up` and `keepwell run`: a client of the API like any other, which may block, die or lose
//! its reader without anybody noticing. It ends when the guardian does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keepwell_sdk::exit;
use keepwell_sdk::wire::{Event, Info, LogLine, Status};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::failure::{Failure, Result};
use crate::guardian::Guardian;
use crate::hold::ViewStyle;
use crate::interrupt::Interrupt;
use crate::locate::Place;
use crate::output::events::Lines;
use crate::output::json::{self, UpLine};
use crate::output::{self, Look, Paint, human};
use crate::through;
use keepwell_sdk::client::{EventQuery, LogQuery};

/// What to show, and how.
pub(crate) struct View {
    /// The guardian's API.
    pub(crate) socket: PathBuf,
    /// The guardian's anchor, by its pid: who comes after it on the same socket has a view of its own.
    pub(crate) anchor: u32,
    /// Which shape.
    pub(crate) style: ViewStyle,
    /// Of stdout.
    pub(crate) look: Look,
}

/// Events that are there come at once; no more order than that is worth waiting for.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Shows until the guardian ends.
///
/// # Errors
/// Only that nothing can be written; a guardian that never answers has told why itself.
pub(crate) async fn view(view: View) -> Result<i32> {
    // The keys are meant for the anchor: Ctrl+C begins a stop that is worth watching, and Ctrl+Z must not leave a stopped
    // printer behind a guardian that runs on.
    keepwell_os::signals::ignore_terminal();
    let _deaf = Interrupt::listen()?;
    let state = view.socket.parent().unwrap_or(Path::new("."));
    let contact = first_contact(&view).await;
    if view.style == ViewStyle::Through {
        return match contact {
            Some((guardian, info)) => through::through(&guardian, state, info.started).await,
            None => through::rest(state),
        };
    }
    let Some((guardian, info)) = contact else {
        return Ok(exit::NOT_RUNNING);
    };
    let mut shown = Shown { lines: Lines::new(view.look), style: view.style, look: view.look };
    shown.begin(&guardian, &info).await?;
    let since = info.started.clone();
    let (mut output, mut lines) = Output::new(guardian.clone(), since.clone());
    if !shown.style.is_quiet() {
        output.follow(guardian.services(&[]).await.map_err(quiet)?.iter().map(Status::id)).await;
    }
    // Last of all, since a guardian with nothing left to do waits for this before it ends.
    let mut events =
        guardian.follow_events(EventQuery { since, ..EventQuery::default() }).await.map_err(quiet)?;
    let known = guardian.last_seq().await.unwrap_or_default();
    // That a service was started is told before what it wrote.
    while let Ok(event) = timeout(CATCH_UP, events.next()).await {
        let Some(event) = event.map_err(quiet)? else { break };
        shown.event(&event)?;
        if event.seq >= known {
            break;
        }
    }
    loop {
        tokio::select! {
            event = events.next() => match event.map_err(quiet)? {
                Some(event) => {
                    shown.event(&event)?;
                    if !shown.style.is_quiet() && event.kind == "started" {
                        output.follow(event.service).await;
                    }
                }
                None => break,
            },
            Some(line) = lines.recv() => shown.log(&line)?,
        }
    }
    // The last words of the last service may still be on their way.
    drop(output);
    while let Some(line) = lines.recv().await {
        shown.log(&line)?;
    }
    Ok(exit::DONE)
}

/// A guardian that ends while it is asked is told of by its anchor, not here.
fn quiet(failure: Failure) -> Failure {
    Failure::silent(failure.code)
}

/// Output of services, of those that a reload or a scale brings too.
struct Output {
    guardian: Guardian,
    since: Option<String>,
    followed: BTreeSet<String>,
    sender: mpsc::Sender<LogLine>,
}

/// Lines that wait for the terminal; what comes after them waits in the files.
const QUEUE: usize = 64;
/// Names asked for over one connection. With the longest names that is a quarter of what an address may hold.
const NAMES: usize = 150;

impl Output {
    fn new(guardian: Guardian, since: Option<String>) -> (Self, mpsc::Receiver<LogLine>) {
        let (sender, lines) = mpsc::channel(QUEUE);
        (Self { guardian, since, followed: BTreeSet::new(), sender }, lines)
    }

    /// Follows those of them that are not followed yet, from the guardian's start on.
    async fn follow(&mut self, services: impl IntoIterator<Item = String>) {
        let new: Vec<String> = services.into_iter().filter(|s| self.followed.insert(s.clone())).collect();
        for names in new.chunks(NAMES) {
            let query = LogQuery { services: names.to_vec(), lines: None, since: self.since.clone() };
            // A service that a reload has just taken away has nothing more to say.
            let Ok(mut stream) = self.guardian.follow_logs(query).await else { continue };
            let sender = self.sender.clone();
            tokio::spawn(async move {
                while let Ok(Some(line)) = stream.next().await {
                    if sender.send(line).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

/// The anchor starts the view when its daemon answers; a guardian that does not answer any more has ended already.
async fn first_contact(view: &View) -> Option<(Guardian, Info)> {
    let place = Place::named(view.socket.clone());
    let guardian = Guardian::at(&place).await.ok()?.bound_to(view.anchor);
    let info = guardian.info().await.ok()?;
    Some((guardian, info))
}

struct Shown {
    lines: Lines,
    style: ViewStyle,
    look: Look,
}

impl Shown {
    async fn begin(&mut self, guardian: &Guardian, info: &Info) -> Result<()> {
        match self.style {
            ViewStyle::Json { .. } => return output::print(&json::line(&UpLine::Guardian(info))?),
            ViewStyle::Through | ViewStyle::Lines { .. } => {}
        }
        self.lines.expect(&guardian.services(&[]).await.map_err(quiet)?);
        let here = std::env::current_dir().ok();
        let mut text =
            self.look.paint(Paint::Strong, &self.look.text(&human::headline(info, here.as_deref()))) + "\n";
        for held in &info.held_down {
            text += &self.look.text(&(human::stays_down(held) + "\n"));
        }
        output::print(&text)
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        match self.style {
            ViewStyle::Json { .. } => output::print(&json::line(&UpLine::Event(event))?),
            ViewStyle::Through | ViewStyle::Lines { .. } => {
                if let Some(line) = self.lines.progress(event) {
                    output::print(&line)?;
                }
                // Only where there is a key to press.
                if event.kind == "guardian_stopping" && self.look.width.is_some() {
                    output::print("Ctrl+C again ends everything at once\n")?;
                }
                Ok(())
            }
        }
    }

    fn log(&mut self, line: &LogLine) -> Result<()> {
        match self.style {
            ViewStyle::Json { .. } => output::print(&json::line(&UpLine::Log(line))?),
            ViewStyle::Through | ViewStyle::Lines { .. } => output::print(&self.lines.log(line)),
        }
    }
}
