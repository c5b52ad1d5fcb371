//! `keepwell up --detach`: an anchor in the background, and a wait until it can be left alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keepwell_daemon::options::Options;
use keepwell_sdk::exit;
use keepwell_sdk::wire::{Info, Status};
use tokio::time::{Instant, sleep, timeout};

use crate::command::{Context, wait_for};
use crate::failure::{Failure, Result, io_words};
use crate::guardian::{Guardian, socket_in};
use crate::hold::{LAST_WORDS, state_folder};
use crate::locate::Place;
use crate::output::events::Lines;
use crate::output::{self, Look, human, talk};
use crate::wait::{INTERRUPTED, Telling, Wait, Wanted};
use keepwell_sdk::client::EventQuery;

/// How often it is tried whether the daemon answers, until it does.
const RETRY: Duration = Duration::from_millis(10);
/// How long one answer may take before it is asked again; a daemon that comes up answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// See `has_ended`.
const ENDING: Duration = Duration::from_millis(300);

/// Starts it, shows how it comes up, and leaves it running whatever comes of that.
///
/// # Errors
/// When it ended at once; when something is not up, by name; when the time is over.
pub(crate) fn detach(cx: &Context, options: &Options, timeout: Duration, telling: Telling) -> Result<i32> {
    state_folder(&options.state_dir)?;
    let path = options.state_dir.join(LAST_WORDS);
    let unusable = |e: std::io::Error| {
        Failure::failed(format!("{} cannot be written: {}", path.display(), io_words(&e)))
            .hint("--state DIR names another state folder")
    };
    let mut words = keepwell_os::files::open_private(&path).map_err(unusable)?;
    let told = words.seek(SeekFrom::End(0)).map_err(unusable)?;
    let child = launch(options, words.try_clone().map_err(unusable)?)?;
    wait_for(come_up(cx, options, timeout, telling, Background { child, words, told }))
}

/// The anchor while it is still a child of ours.
struct Background {
    child: Child,
    words: File,
    /// Where its words begin; what stands before is from earlier ones.
    told: u64,
}

fn launch(options: &Options, words: File) -> Result<Child> {
    let failed =
        |e: std::io::Error| Failure::failed(format!("keepwell cannot start itself: {}", io_words(&e)));
    let program = std::env::current_exe().map_err(failed)?;
    let encoded =
        String::from_utf8(options.encode()).map_err(|_| Failure::failed("the options are no text"))?;
    Command::new(program)
        .args(["internal", "anchor", &encoded])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(words)
        .current_dir(&options.base)
        .spawn()
        .map_err(failed)
}

impl Background {
    /// Its exit code and what it said, once it has ended.
    fn ended(&mut self) -> Option<Failure> {
        let status = self.child.try_wait().ok()??;
        let mut text = String::new();
        let read =
            self.words.seek(SeekFrom::Start(self.told)).and_then(|_| self.words.read_to_string(&mut text));
        if read.is_ok() && !text.trim().is_empty() {
            talk(text.trim_end());
            return Some(Failure::silent(status.code().unwrap_or(exit::FAILED)));
        }
        let how = status.code().map_or_else(|| "by a signal".to_owned(), |c| format!("with exit code {c}"));
        let code = status.code().filter(|c| *c != 0).unwrap_or(exit::FAILED);
        Some(Failure { code, ..Failure::failed(format!("keepwell has ended {how}")) })
    }
}

async fn come_up(
    cx: &Context,
    options: &Options,
    timeout: Duration,
    telling: Telling,
    mut anchor: Background,
) -> Result<i32> {
    let deadline = Instant::now() + timeout;
    let (guardian, info) = answers(&options.state_dir, deadline, &mut anchor).await?;
    let all = guardian.services(&[]).await?;
    let mut lines = Lines::new(cx.look());
    lines.expect(&all);
    begin(cx, &info, telling)?;
    let wait = Wait {
        verb: "start".into(),
        goals: wanted(&all),
        from: EventQuery { since: info.started.clone(), ..EventQuery::default() },
        timeout: Some(deadline.saturating_duration_since(Instant::now())),
        telling,
    };
    let outcome = wait.until_done(&guardian, &mut lines).await;
    // With nothing left to guard it has ended by itself, which may be as well as it gets.
    if let Some(end) = has_ended(&mut anchor).await {
        return match (end, outcome) {
            // Who failed says more than that it has ended.
            (Err(end), Err(told)) if told.code != INTERRUPTED && !told.text.is_empty() => {
                let logs = options.state_dir.join("logs");
                let hint = format!("what they said is in {} unless they log elsewhere", logs.display());
                Err(Failure { code: end.code, ..told.hint(hint) })
            }
            (end, _) => end,
        };
    }
    match outcome {
        Ok(code) => {
            if !telling.json {
                talk(&goes_on(&info));
            }
            Ok(code)
        }
        Err(failure) if failure.code == INTERRUPTED => Err(failure),
        Err(failure) => {
            let hint = failure.hint.clone().filter(|_| failure.code == exit::FAILED);
            let hint = hint.map(|h| h + "\n       ").unwrap_or_default();
            Err(failure.hint(hint + &goes_on(&info)))
        }
    }
}

fn goes_on(info: &Info) -> String {
    format!("keepwell (pid {}) goes on in the background; keepwell down ends it", info.anchor_pid)
}

/// Waits until the daemon answers.
async fn answers(state: &Path, deadline: Instant, anchor: &mut Background) -> Result<(Guardian, Info)> {
    let place = Place::named(socket_in(state));
    loop {
        if let Some(failure) = anchor.ended() {
            return Err(failure);
        }
        let ask = async {
            let guardian = Guardian::at(&place).await.ok()?;
            let info = guardian.info().await.ok()?;
            Some((guardian, info))
        };
        // Whoever has the socket may take the question and never answer.
        if let Ok(Some((guardian, info))) = timeout(PATIENCE, ask).await
            && info.anchor_pid == anchor.child.id()
        {
            return Ok((guardian, info));
        }
        if Instant::now() >= deadline {
            return Err(Failure::timed_out("keepwell runs, but its daemon does not answer")
                .hint(format!("{} may say why", state.join(LAST_WORDS).display())));
        }
        sleep(RETRY).await;
    }
}

/// A guardian that ends does so within moments of its last service; one that goes on costs this wait nothing but them.
async fn has_ended(anchor: &mut Background) -> Option<Result<i32>> {
    for _ in 0..ENDING.as_millis() / RETRY.as_millis() {
        match anchor.child.try_wait() {
            Ok(Some(status)) if status.success() => return Some(Ok(exit::DONE)),
            Ok(Some(_)) => return anchor.ended().map(Err),
            Ok(None) | Err(_) => sleep(RETRY).await,
        }
    }
    None
}

fn begin(cx: &Context, info: &Info, telling: Telling) -> Result<()> {
    if telling.json {
        return output::print(&output::json::line(&output::json::UpLine::Guardian(info))?);
    }
    talk(&Look::stderr(cx.color).text(&human::headline(info, std::env::current_dir().ok().as_deref())));
    for held in &info.held_down {
        talk(&human::stays_down(held));
    }
    Ok(())
}

/// What `up` starts: what is enabled and was not stopped by an operator.
fn wanted(all: &[Status]) -> BTreeMap<String, Wanted> {
    let up = all.iter().filter(|s| s.enabled && s.desired_up);
    up.map(|s| (s.id(), Wanted::UpTogether)).collect()
}
