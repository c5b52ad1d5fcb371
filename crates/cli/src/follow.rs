//! Waiting for something to change, without caring what.

use std::time::Duration;

use keepwell_sdk::client::{EventQuery, Events};
use tokio::time::{Instant, timeout, timeout_at};

use crate::failure::Result;
use crate::guardian::{Follow, Guardian};

/// What came of waiting for a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// Something changed.
    Changed,
    /// The time was over first.
    Quiet,
    /// The guardian has ended.
    Gone,
}

/// Tells that something changed, not what.
pub(crate) struct Changes(Follow<Events>);

impl Changes {
    /// From now on.
    ///
    /// # Errors
    /// The guardian's refusal.
    pub(crate) async fn follow(guardian: &Guardian) -> Result<Self> {
        let after = guardian.last_seq().await?;
        let query = EventQuery { after: Some(after), ..EventQuery::default() };
        Ok(Self(guardian.follow_events(query).await?))
    }

    /// Waits for a change, at most for `patience`; then lets `gather` pass and takes all that came meanwhile as one.
    ///
    /// # Errors
    /// As [`Follow::next`].
    pub(crate) async fn wait(&mut self, patience: Option<Duration>, gather: Duration) -> Result<News> {
        let first = match patience {
            Some(patience) => timeout(patience, self.0.next()).await,
            None => Ok(self.0.next().await),
        };
        match first {
            Err(_) => return Ok(News::Quiet),
            Ok(event) => match event? {
                Some(_) => {}
                None => return Ok(News::Gone),
            },
        }
        let end = Instant::now() + gather;
        while let Ok(event) = timeout_at(end, self.0.next()).await {
            if event?.is_none() {
                return Ok(News::Gone);
            }
        }
        Ok(News::Changed)
    }
}
