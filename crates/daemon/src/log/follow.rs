//! Follows logs as they grow: a task that sleeps until the writer has written, and then reads the files.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepwell_core::Wall;
use keepwell_sdk::wire::LogLine;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::TAIL_LIMIT;
use super::read::{self, Position, Reader, Step, Timed};
use super::shared::{Follower, SlotShared};

/// Lines that wait for a slow reader; what comes after them waits in the files.
const QUEUE: usize = 256;
/// With more files than this, those that are read to their end are closed until something is written.
const OPEN: usize = 64;

/// See [`super::LogHub::follow`].
pub(super) fn follow(
    slots: Vec<Arc<SlotShared>>,
    lines: Option<usize>,
    since: Option<Wall>,
) -> mpsc::Receiver<LogLine> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let follower = Arc::new(Follower::default());
    let mut readers = Vec::new();
    for (place, slot) in slots.iter().enumerate() {
        slot.add_follower(&follower, place);
        readers.extend(read::readers(slot).into_iter().map(|(reader, end)| (place, reader, end)));
    }
    tokio::spawn(run(follower, readers, lines, since, sender));
    receiver
}

struct Following {
    place: usize,
    reader: Reader,
    finished: bool,
}

async fn run(
    follower: Arc<Follower>,
    readers: Vec<(usize, Reader, Position)>,
    lines: Option<usize>,
    since: Option<Wall>,
    sender: mpsc::Sender<LogLine>,
) {
    let begun = spawn_blocking(move || begin(readers, lines, since)).await;
    let Ok((mut following, mut ready)) = begun else { return };
    let mut busy: Vec<usize> = (0..following.len()).collect();
    loop {
        for line in ready.drain(..) {
            if sender.send(line).await.is_err() {
                return;
            }
        }
        if following.iter().all(|f| f.finished) {
            return;
        }
        if busy.is_empty() {
            tokio::select! {
                () = follower.notify.notified() => {}
                () = sender.closed() => return,
            }
        }
        let news = follower.take_news();
        busy.extend((0..following.len()).filter(|i| news.contains(&following[*i].place)));
        busy.sort_unstable();
        busy.dedup();
        let turn = spawn_blocking(move || {
            let (still, lines) = turn(&mut following, &busy);
            (following, still, lines)
        });
        let Ok((back, still, lines)) = turn.await else { return };
        (following, busy, ready) = (back, still, lines);
    }
}

/// The lines before now, in order as far as they fit into memory; the rest follows file by file.
fn begin(
    readers: Vec<(usize, Reader, Position)>,
    lines: Option<usize>,
    since: Option<Wall>,
) -> (Vec<Following>, Vec<LogLine>) {
    let limit = if lines.is_some() { TAIL_LIMIT / readers.len().max(1) as u64 } else { u64::MAX };
    let mut found: BTreeMap<usize, Vec<Timed>> = BTreeMap::new();
    let mut following = Vec::new();
    let mut bytes = 0;
    for (place, mut reader, end) in readers {
        let found = found.entry(place).or_default();
        let mut counted = found.len();
        reader.go_back(end, lines, since, limit);
        while bytes < TAIL_LIMIT && reader.step(Some(end), found) == Step::Read {
            bytes += found[counted..].iter().map(|(_, l)| l.line.len() as u64 + 1).sum::<u64>();
            counted = found.len();
        }
        reader.go_live();
        following.push(Following { place, reader, finished: false });
    }
    let found = found.into_values().flat_map(|of_slot| match lines {
        Some(lines) => read::last_of(of_slot, lines),
        None => of_slot,
    });
    (following, read::in_order(found.collect()))
}

/// Each of `busy` reads one piece. Gives those that have more.
fn turn(following: &mut [Following], busy: &[usize]) -> (Vec<usize>, Vec<LogLine>) {
    let many = following.len() > OPEN;
    let (mut still, mut found) = (Vec::new(), Vec::new());
    for i in busy {
        let Some(f) = following.get_mut(*i).filter(|f| !f.finished) else { continue };
        match f.reader.step(None, &mut found) {
            Step::Read => still.push(*i),
            Step::Idle if many => f.reader.rest(),
            Step::Idle => {}
            Step::Finished => f.finished = true,
        }
    }
    (still, found.into_iter().map(|(_, line)| line).collect())
}
