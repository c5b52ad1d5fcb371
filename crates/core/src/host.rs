//! What happens to the host and a service may want to hear of, by a hook.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::effect::Role;

/// One such thing. Displayed and parsed as a word, with a session's number behind it: `suspend`, `lock 2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HostEvent {
    /// It is about to sleep.
    Suspend,
    /// It has woken up.
    Resume,
    /// From mains to battery or back, or the charge.
    PowerChange,
    /// Of a user's session, by its number.
    Session(SessionEvent, u32),
}

/// What has happened to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SessionEvent {
    /// A user has logged on.
    Logon,
    /// The user has logged off.
    Logoff,
    /// It was locked.
    Lock,
    /// It was unlocked.
    Unlock,
    /// It was connected to the console.
    ConsoleConnect,
    /// It was disconnected from the console.
    ConsoleDisconnect,
    /// It was connected from afar.
    RemoteConnect,
    /// It was disconnected from afar.
    RemoteDisconnect,
}

impl SessionEvent {
    const ALL: [Self; 8] = [
        Self::Logon,
        Self::Logoff,
        Self::Lock,
        Self::Unlock,
        Self::ConsoleConnect,
        Self::ConsoleDisconnect,
        Self::RemoteConnect,
        Self::RemoteDisconnect,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Logon => "logon",
            Self::Logoff => "logoff",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::ConsoleConnect => "console_connect",
            Self::ConsoleDisconnect => "console_disconnect",
            Self::RemoteConnect => "remote_connect",
            Self::RemoteDisconnect => "remote_disconnect",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Logon => "a user has logged on",
            Self::Logoff => "the user has logged off",
            Self::Lock => "it was locked",
            Self::Unlock => "it was unlocked",
            Self::ConsoleConnect => "it was connected to the console",
            Self::ConsoleDisconnect => "it was disconnected from the console",
            Self::RemoteConnect => "it was connected from afar",
            Self::RemoteDisconnect => "it was disconnected from afar",
        }
    }
}

impl HostEvent {
    /// What a hook is told by `KEEPWELL_EVENT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::PowerChange => "power_change",
            Self::Session(what, _) => what.name(),
        }
    }

    /// What a hook is told by `KEEPWELL_SESSION`.
    #[must_use]
    pub fn session(self) -> Option<u32> {
        match self {
            Self::Suspend | Self::Resume | Self::PowerChange => None,
            Self::Session(_, number) => Some(number),
        }
    }

    /// The hook that hears of it.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Suspend => Role::OnSuspend,
            Self::Resume => Role::OnResume,
            Self::PowerChange => Role::OnPowerChange,
            Self::Session(..) => Role::OnSession,
        }
    }

    /// In words, for events; `None`: it may come every minute and is told only by the hook that hears of it.
    pub(crate) fn words(self) -> Option<String> {
        Some(match self {
            Self::Suspend => "the host goes to sleep".into(),
            Self::Resume => "the host has woken up".into(),
            Self::PowerChange => return None,
            Self::Session(what, number) => format!("session {number}: {}", what.words()),
        })
    }

    /// The reverse of its display; `None` for what only a later version knows.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "suspend" => return Some(Self::Suspend),
            "resume" => return Some(Self::Resume),
            "power_change" => return Some(Self::PowerChange),
            _ => {}
        }
        let (name, number) = text.split_once(' ')?;
        let what = SessionEvent::ALL.into_iter().find(|what| what.name() == name)?;
        Some(Self::Session(what, number.parse().ok()?))
    }
}

impl fmt::Display for HostEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.session() {
            Some(number) => write!(f, " {number}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_is_written_is_read_again() {
        let sessions = SessionEvent::ALL.into_iter().map(|what| HostEvent::Session(what, 7));
        for event in
            [HostEvent::Suspend, HostEvent::Resume, HostEvent::PowerChange].into_iter().chain(sessions)
        {
            assert_eq!(HostEvent::parse(&event.to_string()), Some(event));
        }
        for other in ["", "nap", "lock", "lock x", "lock -1", "suspend 1"] {
            assert_eq!(HostEvent::parse(other), None, "{other}");
        }
    }
}
