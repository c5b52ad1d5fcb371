//! A client of a guardian's API.
//!
//! It speaks HTTP/1.1 over whatever stream a connector makes, so it depends on no operating system. Each question has a
//! connection of its own. While keepwell's daemon is being replaced connections wait: questions that change nothing are
//! asked again when their connection breaks, and streams go on where they were. Commands are never sent twice.
//!
//! ```no_run
//! # async fn connect(path: &str) -> std::io::Result<tokio::io::DuplexStream> { Err(std::io::Error::other(path)) }
//! # async fn example() -> Result<(), keepwell_sdk::client::Error> {
//! use keepwell_sdk::client::{Client, EventQuery};
//!
//! // `connect` opens the guardian's socket; on Unix, `tokio::net::UnixStream::connect`.
//! let client = Client::new(|| connect(".keepwell/keepwell.sock"));
//! for service in client.services(&[]).await? {
//!     println!("{} is {}", service.id(), service.state);
//! }
//! let mut events = client.events_follow(EventQuery::default()).await?;
//! while let Some(event) = events.next().await? {
//!     println!("{}", event.text);
//! }
//! # Ok(()) }
//! ```

mod follow;
mod sse;
mod transport;

use std::io;

use crate::wire;
pub use follow::{Events, Lines};
pub use transport::Client;
use transport::path;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there: no guardian runs, or it has ended.
    #[error("no guardian answers")]
    NotRunning(#[source] io::Error),
    /// The endpoint cannot be used.
    #[error("the guardian cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The guardian said no.
    #[error("{}", .0.message)]
    Refused(wire::Problem),
    /// The connection ended before the answer did, or the answer makes no sense. A command may have been done.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// Which events. Without `since`, `after` and `limit`: the newest 1,000, or with `follow` only new ones.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventQuery {
    /// Names or instances; empty: all, also the guardian's own.
    pub services: Vec<String>,
    /// Not before this time, RFC 3339.
    pub since: Option<String>,
    /// Only those after this number.
    pub after: Option<u64>,
    /// At most so many: with `after` the oldest, else the newest.
    pub limit: Option<u64>,
}

/// Which incidents. Without a limit: the newest 100.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IncidentQuery {
    /// Names or instances; empty: all.
    pub services: Vec<String>,
    /// Only what was open at this time or began later, RFC 3339.
    pub since: Option<String>,
    /// This one alone, with its timeline.
    pub id: Option<u64>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// Which output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogQuery {
    /// Names or instances; empty: all.
    pub services: Vec<String>,
    /// The last so many lines of each instance; `None`: 10, or with `since` all.
    pub lines: Option<u32>,
    /// Not before this time, RFC 3339.
    pub since: Option<String>,
}

impl Client {
    /// About the guardian.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn info(&self) -> Result<wire::Info, Error> {
        self.get("/v1/info").await
    }

    /// These services, or all, in the order of names.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn services(&self, names: &[String]) -> Result<Vec<wire::Status>, Error> {
        self.get(&path("/v1/services", &named("name", names))).await
    }

    /// The same without the processor time and memory that they use: those are read anew for each answer, which takes some
    /// tenths of a second for a thousand services.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn states(&self, names: &[String]) -> Result<Vec<wire::Status>, Error> {
        let mut query = named("name", names);
        query.push(("usage", "false".to_owned()));
        self.get(&path("/v1/services", &query)).await
    }

    /// Why each instance of `name` is as it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn explain(&self, name: &str) -> Result<Vec<wire::Explanation>, Error> {
        self.get(&format!("/v1/services/{}/explain", transport::escape(name))).await
    }

    /// Asks for a change. The answer is the accepted plan; events after its `after_seq` tell what comes of it.
    ///
    /// # Errors
    /// See [`Error`]. After `Broken` it may have been done.
    pub async fn command(&self, request: &wire::CommandRequest) -> Result<wire::CommandReply, Error> {
        self.post("/v1/command", request).await
    }

    /// Takes the configuration file on, or only says what that would do.
    ///
    /// # Errors
    /// See [`Error`]. After `Broken` it may have been done.
    pub async fn reload(&self, dry_run: bool) -> Result<wire::ReloadReply, Error> {
        self.post("/v1/reload", &wire::ReloadRequest { dry_run }).await
    }

    /// Changes the level of keepwell's own log. The answer is the level from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn log_level(&self, level: &str) -> Result<String, Error> {
        let now: wire::LogLevel =
            self.post("/v1/log-level", &wire::LogLevel { level: level.to_owned() }).await?;
        Ok(now.level)
    }

    /// Past events in ascending order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<wire::Event>, Error> {
        self.get(&query.path(false)).await
    }

    /// Past events, and then new ones as they happen.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events_follow(&self, query: EventQuery) -> Result<Events, Error> {
        Events::open(self.bound(), query).await
    }

    /// Incidents, newest first, and what they say of each service.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn incidents(&self, query: &IncidentQuery) -> Result<wire::Incidents, Error> {
        self.get(&query.path()).await
    }

    /// Sends a message to a receiver, or to all, and hears what each answered.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn notify_test(&self, to: Option<String>) -> Result<Vec<wire::NotifyAnswer>, Error> {
        self.post("/v1/notify-test", &wire::NotifyTest { to }).await
    }

    /// Output that was written, oldest first within an instance.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn logs(&self, query: &LogQuery) -> Result<Vec<wire::LogLine>, Error> {
        self.get(&query.path(false)).await
    }

    /// Output that was written, and then new lines as they come.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn logs_follow(&self, query: LogQuery) -> Result<Lines, Error> {
        Lines::open(self.bound(), query).await
    }
}

impl EventQuery {
    fn path(&self, follow: bool) -> String {
        let mut query = named("service", &self.services);
        query.extend(self.since.clone().map(|t| ("since", t)));
        query.extend(self.after.map(|n| ("after", n.to_string())));
        query.extend(self.limit.map(|n| ("limit", n.to_string())));
        query.extend(follow.then(|| ("follow", "true".to_owned())));
        path("/v1/events", &query)
    }
}

impl IncidentQuery {
    fn path(&self) -> String {
        let mut query = named("service", &self.services);
        query.extend(self.since.clone().map(|t| ("since", t)));
        query.extend(self.id.map(|n| ("id", n.to_string())));
        query.extend(self.limit.map(|n| ("limit", n.to_string())));
        path("/v1/incidents", &query)
    }
}

impl LogQuery {
    fn path(&self, follow: bool) -> String {
        let mut query = named("service", &self.services);
        query.extend(self.lines.map(|n| ("lines", n.to_string())));
        query.extend(self.since.clone().map(|t| ("since", t)));
        query.extend(follow.then(|| ("follow", "true".to_owned())));
        path("/v1/logs", &query)
    }
}

fn named(key: &'static str, values: &[String]) -> Vec<(&'static str, String)> {
    values.iter().map(|v| (key, v.clone())).collect()
}

#[cfg(test)]
mod tests;
