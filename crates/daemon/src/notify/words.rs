//! From what was said to what the engine is told.

use keepwell_core::event::Level;
use keepwell_core::{Input, RunId, ServiceId};

use super::parse::{Notification, Watchdog};
use crate::message::Message;

/// What is remembered of a run's words, so that nothing is told twice.
#[derive(Debug, Default)]
pub(super) struct Memory {
    status: String,
    errno: i32,
    /// It said that it reloads, and nothing in words; the words are ours and go when it is ready again.
    reloading: bool,
    foreign: u64,
    unreadable: u64,
    malformed: u64,
}

impl Memory {
    /// How much was not heeded.
    pub(super) fn ignored(&self) -> u64 {
        self.foreign + self.unreadable + self.malformed
    }

    /// Counts a message of somebody who may not speak; told once a run.
    pub(super) fn foreign(&mut self, service: &ServiceId, pid: u32, uid: u32) -> Vec<Message> {
        let text = || {
            format!(
                "a notification of process {pid}, user {uid}, was ignored: it is neither of this service's tree nor of \
                 its user"
            )
        };
        counted(&mut self.foreign, 1, service, text).into_iter().collect()
    }

    /// Counts a message that is none; told once a run.
    pub(super) fn unreadable(&mut self, service: &ServiceId, why: &str) -> Vec<Message> {
        let text = || format!("a notification was ignored: {why}");
        counted(&mut self.unreadable, 1, service, text).into_iter().collect()
    }

    /// What follows from a message, in an order in which the later may rest on the earlier: who it is, how long it may
    /// take, what it says, how it is.
    pub(super) fn messages(
        &mut self,
        service: &ServiceId,
        run: RunId,
        said: Notification,
        in_tree: &dyn Fn(u32) -> bool,
    ) -> Vec<Message> {
        let mut out = Vec::new();
        out.extend(counted(&mut self.malformed, said.malformed, service, || {
            "a notification has a value that its key does not take: ignored".into()
        }));
        match said.main_pid {
            Some(pid) if in_tree(pid) => out.push(Message::MainPid { run, pid }),
            Some(pid) => out.extend(counted(&mut self.malformed, 1, service, || {
                format!("it names process {pid} as its main process, which is not of its tree: ignored")
            })),
            None => {}
        }
        if let Some(interval) = said.watchdog_interval {
            out.push(Message::Input(Input::SetWatchdog { run, interval }));
        }
        if let Some(by) = said.extend_timeout {
            out.push(Message::Input(Input::ExtendTimeout { run, by }));
        }
        if let Some(text) = self.status(&said).filter(|text| *text != self.status) {
            self.status.clone_from(&text);
            out.push(Message::StatusText { run, text });
        }
        if let Some(errno) = said.errno.filter(|e| *e != self.errno) {
            self.errno = errno;
            if errno != 0 {
                let words = keepwell_os::in_words(&std::io::Error::from_raw_os_error(errno));
                out.push(told(service, Level::Warn, format!("it reports error {errno}: {words}")));
            }
        }
        if said.ready {
            out.push(Message::Input(Input::Ready { run }));
        }
        if said.stopping {
            out.push(Message::Input(Input::Stopping { run }));
        }
        out.extend(said.watchdog.map(|w| {
            Message::Input(match w {
                Watchdog::Alive => Input::Alive { run },
                Watchdog::Trigger => Input::WatchdogTriggered { run },
            })
        }));
        out
    }

    /// Its words, or ours for a reload that it has none for.
    fn status(&mut self, said: &Notification) -> Option<String> {
        let was_reloading = self.reloading;
        self.reloading &= !said.ready;
        if let Some(text) = &said.status {
            self.reloading = false;
            return Some(text.clone());
        }
        if said.reloading {
            self.reloading = true;
            return Some("reloading".into());
        }
        (was_reloading && said.ready).then(String::new)
    }
}

/// Counts, and tells the first time.
fn counted(count: &mut u64, by: u32, service: &ServiceId, text: impl FnOnce() -> String) -> Option<Message> {
    let first = *count == 0;
    *count += u64::from(by);
    (first && by > 0).then(|| told(service, Level::Warn, text()))
}

fn told(service: &ServiceId, level: Level, text: String) -> Message {
    Message::Told { service: Some(service.clone()), level, text }
}
