//! The services' output.

use std::sync::Arc;

use axum::response::Response;
use keepwell_core::Wall;
use keepwell_sdk::wire;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Shared;
use super::failure::Failure;
use super::query::{Pairs, Params};
use super::stream::{Array, Gone, Pieces, array, server_sent, sse};
use crate::log::LogHub;
use crate::message::Message;

/// Lines of each instance, unless the question says how many or since when.
const DEFAULT_LINES: usize = 10;
/// Lines sent at once.
const PAGE: usize = 100;

/// Where output is read from.
pub trait LogSource: Send + Sync + 'static {
    /// The last lines of these slots, `lines` of each or all that are not too many, not older than `since`, oldest first.
    /// Reads files.
    fn tail(&self, slots: &[u32], lines: Option<usize>, since: Option<Wall>) -> Vec<wire::LogLine>;

    /// The same, and then what they write from now on. Called inside a runtime.
    fn follow(
        &self,
        slots: Vec<u32>,
        lines: Option<usize>,
        since: Option<Wall>,
    ) -> mpsc::Receiver<wire::LogLine>;

    /// The last `n` lines of a slot's last run that ended. Reads files.
    fn last_words(&self, slot: u32, n: usize) -> Vec<String>;
}

impl LogSource for LogHub {
    fn tail(&self, slots: &[u32], lines: Option<usize>, since: Option<Wall>) -> Vec<wire::LogLine> {
        self.tail_many(slots, lines, since)
    }

    fn follow(
        &self,
        slots: Vec<u32>,
        lines: Option<usize>,
        since: Option<Wall>,
    ) -> mpsc::Receiver<wire::LogLine> {
        LogHub::follow(self, slots, lines, since)
    }

    fn last_words(&self, slot: u32, n: usize) -> Vec<String> {
        LogHub::last_words(self, slot, n)
    }
}

pub(super) async fn logs(state: Shared, pairs: Pairs) -> Result<Response, Failure> {
    let params = Params::new(pairs, &["service", "lines", "since", "follow"])?;
    let since = params.instant("since")?;
    let asked = params.number("lines")?.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let lines = asked.or(if since.is_some() { None } else { Some(DEFAULT_LINES) });
    let follow = params.flag("follow")?;
    let names = params.all("service");
    let slots = state.ask(|reply| Message::LogSlots { names, reply }).await?;
    let slots: Vec<u32> = slots.into_iter().map(|(_, slot)| slot).collect();
    if follow {
        let live = state.log.follow(slots, lines, since);
        return Ok(server_sent(|pieces| pass_on(live, pieces)));
    }
    // Such an answer is held in memory until it is read.
    let turn = state.large_answer().await?;
    let log = Arc::clone(&state.log);
    let all = state.off_thread(move || log.tail(&slots, lines, since)).await?;
    Ok(array(|out| past(all, turn, out)))
}

async fn past(all: Vec<wire::LogLine>, turn: OwnedSemaphorePermit, mut out: Array) -> Result<(), Gone> {
    for page in all.chunks(PAGE) {
        out.extend(page).await?;
    }
    out.end().await?;
    drop(turn);
    Ok(())
}

async fn pass_on(mut live: mpsc::Receiver<wire::LogLine>, pieces: Pieces) -> Result<(), Gone> {
    let mut lines = Vec::with_capacity(PAGE);
    loop {
        let n = tokio::select! {
            n = live.recv_many(&mut lines, PAGE) => n,
            () = pieces.closed() => return Err(Gone),
        };
        if n == 0 {
            return Ok(());
        }
        pieces.send(lines.drain(..).map(|l| sse(None, "line", &l)).collect()).await?;
    }
}
