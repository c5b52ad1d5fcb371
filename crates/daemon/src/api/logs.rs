//! The services' output.

use std::sync::Arc;

use axum::response::Response;
use keepwell_core::Wall;
use keepwell_sdk::wire;
use tokio::sync::mpsc;

use super::failure::Failure;
use super::query::{Pairs, Params};
use super::stream::{Array, Gone, Pieces, array, server_sent, sse};
use super::{ApiState, Shared};
use crate::message::Message;

/// Lines of each service, unless the question says how many.
const DEFAULT_LINES: usize = 10;
/// The most that is read of one service at once; older lines are in the files.
const MOST_LINES: usize = 10_000;
/// Lines sent at once.
const PAGE: usize = 100;

/// Where output is read from.
pub trait LogSource: Send + Sync + 'static {
    /// The last `lines` lines of a slot, not older than `since`, oldest first. Reads files.
    fn tail(&self, slot: u32, lines: usize, since: Option<Wall>) -> Vec<wire::LogLine>;

    /// The same for each of these slots, and then what they write from now on, without a gap.
    fn follow(&self, slots: &[u32], lines: usize, since: Option<Wall>) -> mpsc::Receiver<wire::LogLine>;
}

pub(super) async fn logs(state: Shared, pairs: Pairs) -> Result<Response, Failure> {
    let params = Params::new(pairs, &["service", "lines", "since", "follow"])?;
    let since = params.instant("since")?;
    let default = if since.is_some() { MOST_LINES } else { DEFAULT_LINES };
    let lines =
        params.number("lines")?.map_or(default, |n| usize::try_from(n).unwrap_or(MOST_LINES)).min(MOST_LINES);
    let follow = params.flag("follow")?;
    let names = params.all("service");
    let slots = state.ask(|reply| Message::LogSlots { names, reply }).await?;
    let slots: Vec<u32> = slots.into_iter().map(|(_, slot)| slot).collect();
    let state = Arc::clone(&state);
    if follow {
        let live = state.log.follow(&slots, lines, since);
        return Ok(server_sent(|pieces| pass_on(live, pieces)));
    }
    Ok(array(|out| past(state, slots, lines, since, out)))
}

async fn past(
    state: Arc<ApiState>,
    slots: Vec<u32>,
    lines: usize,
    since: Option<Wall>,
    mut out: Array,
) -> Result<(), Gone> {
    for slot in slots {
        let log = Arc::clone(&state.log);
        // An array without its end tells the reader that something is missing.
        let Ok(all) = state.off_thread(move || log.tail(slot, lines, since)).await else { return Ok(()) };
        for page in all.chunks(PAGE) {
            out.extend(page).await?;
        }
    }
    out.end().await
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
