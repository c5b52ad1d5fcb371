//! What people are told by message: an outbox a receiver, decided by the core and left with the anchor at each change, in the
//! same write as the events that led to it. So a daemon that dies loses nothing that was due; what it was just sending is sent
//! again, with the same number. The store has it too, for when the whole guardian ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keepwell_anchor::protocol::Request;
use keepwell_config::NotifyConfig;
use keepwell_core::event::Level;
use keepwell_core::notify::{Answer, Notice, Outbox, Setback};
use keepwell_core::{Event, Mono, Now};
use keepwell_sdk::wire;
use serde::{Deserialize, Serialize};

use super::{Engine, put};
use crate::courier::Delivery;
use crate::figures::ReceiverFigures;

/// Prefix of the keys under which the anchor keeps outboxes.
const PREFIX: &str = "outbox/";
/// At the guardian's end the last attempts take no longer, all together.
const LAST_ATTEMPTS: Duration = Duration::from_secs(2);
/// Then for the courier to say how they ended.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// One receiver.
pub(super) struct Receiver {
    to: Arc<NotifyConfig>,
    outbox: Outbox,
    dirty: bool,
    /// Taken, to be made again, refused for good; since this daemon began.
    attempts: [u64; 3],
    lost: u64,
}

/// As the store has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    at: Now,
    outbox: Outbox,
}

/// What an earlier guardian left in the store, and what an earlier daemon of this one left with the anchor, which is newer.
pub(super) fn left(
    stored: &BTreeMap<String, Vec<u8>>,
    values: &BTreeMap<Vec<u8>, Vec<u8>>,
    now: Now,
) -> BTreeMap<String, Outbox> {
    let read = |(name, value): (&String, &Vec<u8>)| {
        let stored: Stored = postcard::from_bytes(value).ok()?;
        Some((name.clone(), stored.outbox.revive(stored.at, now)))
    };
    let mut all: BTreeMap<String, Outbox> = stored.iter().filter_map(read).collect();
    all.extend(inherited(values, now));
    all
}

fn inherited(values: &BTreeMap<Vec<u8>, Vec<u8>>, now: Now) -> BTreeMap<String, Outbox> {
    let named = |key: &[u8]| Some(std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.to_owned());
    let read = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        let mut outbox: Outbox = postcard::from_bytes(value).ok()?;
        outbox.resume(now.mono);
        Some((named(key)?, outbox))
    };
    values.iter().filter_map(read).collect()
}

fn key(name: &str) -> Vec<u8> {
    format!("{PREFIX}{name}").into_bytes()
}

fn things(n: usize) -> String {
    if n == 1 { "1 thing".to_owned() } else { format!("{n} things") }
}

impl Engine {
    /// The receivers of the configuration in force; those that stay keep what they are still to be told.
    pub(super) fn set_receivers(&mut self, now: Now) {
        let mut old = std::mem::take(&mut self.receivers);
        for to in &self.config.guardian.notify {
            let was = old.remove(&*to.name).map(|r| r.outbox);
            let outbox = was.or_else(|| self.left_outboxes.remove(&*to.name)).unwrap_or_default();
            let receiver =
                Receiver { to: Arc::new(to.clone()), outbox, dirty: true, attempts: [0; 3], lost: 0 };
            self.receivers.insert(to.name.to_string(), receiver);
        }
        let gone = old.into_iter().map(|(name, r)| (name, r.outbox));
        for (name, outbox) in gone.chain(std::mem::take(&mut self.left_outboxes)) {
            self.link.send(&Request::Delete(key(&name)), &[]);
            self.store.keep_outbox(&name, None);
            let lost = outbox.pending();
            if lost > 0 {
                let text = format!(
                    "the receiver {name} is in the configuration no more and was not told of {}",
                    things(lost)
                );
                self.tell(now, None, Level::Warn, text);
            }
        }
    }

    pub(super) fn receivers(&self) -> Vec<Arc<NotifyConfig>> {
        self.receivers.values().map(|r| Arc::clone(&r.to)).collect()
    }

    /// An event was told; `line` is what people are told of it.
    pub(super) fn notice(&mut self, event: &Event, line: &wire::Event) {
        if self.receivers.is_empty() {
            return;
        }
        let Some(notice) = Notice::of(event, &line.text) else { return };
        let name = event.service.as_ref().map_or("", |id| &*id.name);
        let tags = self.config.services.get(name).map(|config| &*config.tags).unwrap_or_default();
        for receiver in self.receivers.values_mut() {
            if receiver.to.is_about(name, tags) && receiver.to.on.contains(&notice.topic) {
                receiver.outbox.push(notice.clone(), event.at.mono);
                receiver.dirty = true;
            }
        }
    }

    /// Sends what is due, and leaves every change with the anchor.
    pub(super) fn run_outboxes(&mut self, now: Now) {
        for (name, receiver) in &mut self.receivers {
            if let Some(message) = receiver.outbox.poll(now.mono) {
                receiver.dirty = true;
                self.courier.send(Arc::clone(&receiver.to), message);
            }
            if std::mem::take(&mut receiver.dirty) {
                self.link.send(&put(key(name), &receiver.outbox), &[]);
                let stored = Stored { at: now, outbox: receiver.outbox.clone() };
                // Plain data of ours always serialises.
                self.store.keep_outbox(name, Some(postcard::to_allocvec(&stored).unwrap_or_default()));
            }
        }
    }

    /// Before the guardian's end everything that is due is tried once more, at once. False while answers are outstanding.
    pub(super) fn last_attempts_are_over(&mut self, now: Now) -> bool {
        if self.last_attempts.is_none() {
            if self.receivers.values().all(|r| r.outbox.pending() == 0) {
                return true;
            }
            self.courier.hurry(LAST_ATTEMPTS);
            self.last_attempts = Some(now.mono + LAST_ATTEMPTS + LAST_ANSWERS);
            for receiver in self.receivers.values_mut() {
                receiver.outbox.hurry(now.mono);
            }
            self.run_outboxes(now);
        }
        let sending = self.receivers.values().any(|r| r.outbox.is_sending());
        if sending && self.last_attempts.is_some_and(|end| now.mono < end) {
            return false;
        }
        let left: usize = self.receivers.values().map(|r| r.outbox.pending()).sum();
        if left > 0 {
            let text = format!(
                "{} could not be told to those who are to be; they are told after the next start",
                things(left)
            );
            self.tell(now, None, Level::Warn, text);
        }
        true
    }

    /// There is something to keep running again.
    pub(super) fn go_on_telling(&mut self) {
        if self.last_attempts.take().is_some() {
            self.courier.take_time();
        }
    }

    pub(super) fn receiver_figures(&self) -> Vec<ReceiverFigures> {
        let of = |(name, r): (&String, &Receiver)| ReceiverFigures {
            name: name.clone(),
            waiting: r.outbox.pending(),
            attempts: r.attempts,
            lost: r.lost + r.outbox.lost(),
        };
        self.receivers.iter().map(of).collect()
    }

    pub(super) fn next_notice(&self) -> Option<Mono> {
        self.receivers.values().filter_map(|r| r.outbox.next_deadline()).min()
    }

    /// What became of an attempt.
    pub(super) fn delivered(&mut self, now: Now, name: &str, number: u64, delivery: &Delivery) {
        let Some(receiver) = self.receivers.get_mut(name) else { return };
        let setback = receiver.outbox.answered(number, &delivery.answer, now.mono);
        receiver.dirty = true;
        if self.last_attempts.is_some() && delivery.answer == Answer::Taken {
            // What came meanwhile.
            receiver.outbox.hurry(now.mono);
        }
        receiver.attempts[match delivery.answer {
            Answer::Taken => 0,
            Answer::Later(_) => 1,
            Answer::Never => 2,
        }] += 1;
        if let Some(Setback::Lost(n)) = setback {
            receiver.lost += n as u64;
        }
        let why = &delivery.words;
        match setback {
            None => {}
            Some(Setback::Delayed) => {
                let text = format!("the receiver {name} was not told: {why}; it is tried again and again");
                self.tell(now, None, Level::Warn, text);
            }
            Some(Setback::Lost(n)) => {
                let text =
                    format!("the receiver {name} was not told of {}, and will not be: {why}", things(n));
                self.tell(now, None, Level::Error, text);
            }
        }
    }
}
