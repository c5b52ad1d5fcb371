//! Streams that go on where they were when keepwell's daemon is replaced, and end with the guardian.

use std::time::Duration;

use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::sse::{Block, Parser};
use super::transport::{Answer, Client, broken, is_passing};
use super::{Error, EventQuery, LogQuery};
use crate::wire;

/// A daemon is replaced in a moment; one that does not come back is tried again by the anchor for ever, but who waits
/// here should hear of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts, doubled each time up to the second.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Events in ascending order, none left out and none twice.
pub struct Events {
    client: Client,
    query: EventQuery,
    open: Option<Open>,
}

/// Lines of output.
pub struct Lines {
    client: Client,
    query: LogQuery,
    open: Option<Open>,
}

/// A stream over one connection.
struct Open {
    answer: Answer,
    parser: Parser,
}

impl Events {
    pub(super) async fn open(client: Client, query: EventQuery) -> Result<Self, Error> {
        let open = Some(Open::new(client.open(&query.path(true)).await?));
        Ok(Self { client, query, open })
    }

    /// The next event; nothing when the guardian has ended. Dropping the future loses none.
    ///
    /// # Errors
    /// When the guardian refuses to go on, or its daemon has not come back for a minute.
    pub async fn next(&mut self) -> Result<Option<wire::Event>, Error> {
        loop {
            let Some(open) = &mut self.open else {
                match reopen(&self.client, &self.query.path(true)).await? {
                    Some(answer) => self.open = Some(Open::new(answer)),
                    None => return Ok(None),
                }
                continue;
            };
            let Ok(Some(block)) = open.next().await else {
                self.open = None;
                continue;
            };
            let Ok(event) = data(&block) else {
                self.open = None;
                continue;
            };
            if let Some(seq) = block.id.and_then(|id| id.parse().ok()) {
                self.query.after = Some(seq);
                self.query.limit = None;
                if event.is_some() {
                    // From here on the number says where to go on, and no clock may leave anything out.
                    self.query.since = None;
                }
            }
            if event.is_some() {
                return Ok(event);
            }
        }
    }
}

impl Lines {
    pub(super) async fn open(client: Client, query: LogQuery) -> Result<Self, Error> {
        let open = Some(Open::new(client.open(&query.path(true)).await?));
        Ok(Self { client, query, open })
    }

    /// The next line; nothing when the guardian has ended. Dropping the future loses none. What is written while the daemon
    /// is replaced may be missing here; it is in the files.
    ///
    /// # Errors
    /// When the guardian refuses to go on, or its daemon has not come back for a minute.
    pub async fn next(&mut self) -> Result<Option<wire::LogLine>, Error> {
        loop {
            let Some(open) = &mut self.open else {
                match reopen(&self.client, &self.query.path(true)).await? {
                    Some(answer) => self.open = Some(Open::new(answer)),
                    None => return Ok(None),
                }
                continue;
            };
            let Ok(Some(block)) = open.next().await else {
                self.open = None;
                continue;
            };
            if let Ok(Some(line)) = data(&block) {
                // Lines have no numbers, so what was shown must not be asked for again.
                self.query.lines = Some(0);
                self.query.since = None;
                return Ok(Some(line));
            }
        }
    }
}

impl Open {
    fn new(answer: Answer) -> Self {
        Self { answer, parser: Parser::default() }
    }

    async fn next(&mut self) -> Result<Option<Block>, Error> {
        loop {
            if let Some(block) = self.parser.next() {
                return Ok(Some(block));
            }
            let Some(frame) = self.answer.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(broken)?;
            if let Some(bytes) = frame.data_ref()
                && !self.parser.push(bytes)
            {
                return Err(Error::Broken("an event is too large".to_owned()));
            }
        }
    }
}

fn data<T: DeserializeOwned>(block: &Block) -> Result<Option<T>, serde_json::Error> {
    if block.data.is_empty() { Ok(None) } else { serde_json::from_str(&block.data).map(Some) }
}

/// Nothing when the guardian has ended.
async fn reopen(client: &Client, path: &str) -> Result<Option<Answer>, Error> {
    let end = Instant::now() + PATIENCE;
    let mut pause = PAUSE;
    loop {
        match tokio::time::timeout_at(end, client.open(path)).await {
            Ok(Ok(answer)) => return Ok(Some(answer)),
            Ok(Err(Error::NotRunning(_))) => return Ok(None),
            Ok(Err(e)) if !is_passing(&e) || Instant::now() >= end => return Err(e),
            Ok(Err(_)) => {}
            Err(_) => {
                return Err(Error::Broken(format!(
                    "the daemon has not come back for {} s",
                    PATIENCE.as_secs()
                )));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
