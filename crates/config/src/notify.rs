//! Who is told what, by message.

use std::fmt::{self, Display};
use std::time::Duration;

use keepwell_core::notify::Topic;

use crate::http::Secret;

/// One receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotifyConfig {
    /// How people know it; unique.
    pub name: Box<str>,
    /// The way.
    pub to: NotifyTo,
    /// What about.
    pub on: Box<[Topic]>,
    /// Only about these services, and those with one of these tags; both empty: about all.
    pub services: Box<[Box<str>]>,
    /// See [`NotifyConfig::services`].
    pub tags: Box<[Box<str>]>,
    /// One attempt takes no longer.
    pub timeout: Duration,
}

/// See [`NotifyConfig::to`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotifyTo {
    /// A request.
    Webhook {
        /// Holds tokens, so it is never shown.
        url: Secret,
        /// What is sent.
        format: NotifyFormat,
        /// Sent along.
        headers: Box<[(Box<str>, Secret)]>,
        /// File of the authorities that are trusted, instead of the system's.
        ca: Option<Box<str>>,
    },
    /// A program and its arguments; it reads the message.
    Exec(Box<[Box<str>]>),
}

/// What a webhook is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotifyFormat {
    /// keepwell's own.
    Json,
    /// Alertmanager's API, version 2.
    Alertmanager,
    /// Slack's incoming webhooks, and those who take the same.
    Slack,
    /// The robots of WeCom's groups.
    WeCom,
}

impl NotifyFormat {
    /// The configuration's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            NotifyFormat::Json => "json",
            NotifyFormat::Alertmanager => "alertmanager",
            NotifyFormat::Slack => "slack",
            NotifyFormat::WeCom => "wecom",
        }
    }
}

/// As changes are shown: `ops: slack webhook, on gave_up`.
impl Display for NotifyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<&str> = self.on.iter().map(|t| t.name()).collect();
        match &self.to {
            NotifyTo::Webhook { format, .. } => write!(f, "{}: {} webhook", self.name, format.name())?,
            NotifyTo::Exec(words) => write!(f, "{}: exec {}", self.name, words.join(" "))?,
        }
        write!(f, ", on {}", on.join(" "))?;
        if !self.services.is_empty() {
            write!(f, ", of {}", self.services.join(" "))?;
        }
        if !self.tags.is_empty() {
            write!(f, ", with the tag {}", self.tags.join(" or "))?;
        }
        write!(f, ", within {} ms", self.timeout.as_millis())
    }
}

impl NotifyConfig {
    /// Whether it is told of this service, which has these tags.
    #[must_use]
    pub fn is_about<T: AsRef<str>>(&self, service: &str, tags: &[T]) -> bool {
        let all = self.services.is_empty() && self.tags.is_empty();
        let tagged = || tags.iter().any(|tag| self.tags.iter().any(|wanted| **wanted == *tag.as_ref()));
        all || self.services.iter().any(|name| **name == *service) || tagged()
    }

    /// All that is not shown of it.
    pub(crate) fn secrets(&self) -> String {
        match &self.to {
            NotifyTo::Webhook { url, headers, ca, .. } => {
                let headers = headers.iter().map(|(name, value)| format!("\n{name}\n{}", value.expose()));
                format!("{}{}\n{ca:?}", url.expose(), headers.collect::<String>())
            }
            NotifyTo::Exec(_) => String::new(),
        }
    }
}
