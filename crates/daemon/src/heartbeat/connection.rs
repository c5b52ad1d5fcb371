//! One connection: its frames, their answers, and its bounds.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use keepwell_core::{Input, RunId};
use keepwell_sdk::heartbeat::{ANSWER, Command, Frame, REFUSED, Report, decode, encode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::pulse::Shared;
use crate::message::Message;

/// Read at once: some hundred heartbeats.
const PIECE: usize = 4096;
/// A client that does not read its answers is hung up on.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// What one connection may say at once, and then a second: one that floods waits in its own write, and the others are served.
const BURST: u32 = 100;
const EACH: Duration = Duration::from_millis(10);

/// Serves one connection to its end; `held` is what it has said already. One that is refused is given back, to be closed.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    mut stream: S,
    run: RunId,
    mut held: Vec<u8>,
) -> Option<S> {
    let mut answers = Vec::new();
    let mut pace = Pace::new();
    let mut open = true;
    loop {
        let mut used = 0;
        let mut frames = 0;
        let mut beats = false;
        loop {
            match decode(&held[used..]) {
                Ok(Some((frame, length))) => {
                    beats |= take(&shared, run, &frame, &mut answers).await;
                    used += length;
                    frames += 1;
                }
                Ok(None) => break,
                Err(error) => {
                    refuse(&shared, run, error.code(), &error.to_string(), &mut answers);
                    open = false;
                    break;
                }
            }
        }
        held.drain(..used);
        if beats {
            shared.beat(run);
        }
        if !answers.is_empty()
            && !matches!(timeout(ANSWER_PATIENCE, stream.write_all(&answers)).await, Ok(Ok(())))
        {
            return None;
        }
        give_back(&mut held);
        answers.clear();
        give_back(&mut answers);
        if !open {
            let _ = timeout(ANSWER_PATIENCE, stream.shutdown()).await;
            return Some(stream);
        }
        pace.keep(frames).await;
        if !matches!(read(&mut stream, &mut held).await, Ok(1..)) {
            return None;
        }
    }
}

/// Reads through the stack: an idle connection holds no buffer.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, held: &mut Vec<u8>) -> io::Result<usize> {
    std::future::poll_fn(|cx| {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        match Pin::new(&mut *stream).poll_read(cx, &mut piece) {
            Poll::Ready(Ok(())) => {
                held.extend_from_slice(piece.filled());
                Poll::Ready(Ok(piece.filled().len()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn give_back(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > PIECE {
        *buffer = Vec::new();
    }
}

/// Whether the frame is a sign of life.
async fn take(shared: &Shared, run: RunId, frame: &Frame<'_>, answers: &mut Vec<u8>) -> bool {
    let Some(command) = Command::of(frame.command) else {
        let text = format!("0x{:02X} is unknown", frame.command);
        refuse(shared, run, "command", &text, answers);
        return false;
    };
    match meant(command, &frame.payload, run) {
        Ok(meant) => {
            match meant {
                Meant::Nothing => {}
                Meant::Report(report) => {
                    if let Some(message) = shared.report(run, report) {
                        shared.engine().deliver(message).await;
                    }
                }
                Meant::Input(input) => settle(shared, input).await,
            }
            encode(ANSWER | frame.command, &frame.payload, answers);
        }
        Err(text) => refuse(shared, run, "payload", &text, answers),
    }
    matches!(command, Command::Heartbeat | Command::Status)
}

/// What the engine is to be told, besides that the run is alive.
enum Meant {
    Nothing,
    Report(Report),
    Input(Input),
}

fn meant(command: Command, payload: &[u8], run: RunId) -> Result<Meant, String> {
    Ok(match command {
        // An endpoint that belongs to one service knows whom it talks to.
        Command::Heartbeat | Command::Hello => Meant::Nothing,
        Command::Status => Meant::Report(Report::parse(payload).map_err(|e| e.to_string())?),
        Command::Ready => Meant::Input(Input::Ready { run }),
        Command::Stopping => Meant::Input(Input::Stopping { run }),
        Command::ExtendTimeout => {
            let millis = <[u8; 4]>::try_from(payload);
            let millis = millis.map_err(|_| format!("a time has 4 bytes, not {}", payload.len()))?;
            let by = Duration::from_millis(u64::from(u32::from_le_bytes(millis)));
            Meant::Input(Input::ExtendTimeout { run, by })
        }
    })
}

fn refuse(shared: &Shared, run: RunId, word: &str, text: &str, answers: &mut Vec<u8>) {
    let text = format!("{word}: {text}");
    encode(REFUSED, text.as_bytes(), answers);
    shared.wrong(run, || text);
}

/// Returns when all that follows from the input is left with the anchor. Never, if the engine is gone: what is not answered is
/// said again, to the next daemon.
async fn settle(shared: &Shared, input: Input) {
    let (reply, settled) = oneshot::channel();
    let told = shared.engine().deliver(Message::Input(input)).await
        && shared.engine().deliver(Message::Settled { reply }).await
        && settled.await.is_ok();
    if !told {
        std::future::pending::<()>().await;
    }
}

struct Pace {
    left: u32,
    since: Instant,
}

impl Pace {
    fn new() -> Pace {
        Pace { left: BURST, since: Instant::now() }
    }

    async fn keep(&mut self, frames: u32) {
        let passed = self.since.elapsed().as_millis() / EACH.as_millis();
        if passed > 0 {
            self.left = self.left.saturating_add(u32::try_from(passed).unwrap_or(BURST)).min(BURST);
            self.since = Instant::now();
        }
        match self.left.checked_sub(frames) {
            Some(left) => self.left = left,
            None => {
                sleep(EACH * (frames - self.left)).await;
                (self.left, self.since) = (0, Instant::now());
            }
        }
    }
}
