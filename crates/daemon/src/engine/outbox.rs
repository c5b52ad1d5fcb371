//! What people are told by message: an outbox a receiver, decided by the core and left with the anchor at each change, in the
//! same write as the events that led to it. So a daemon that dies loses nothing that was due; what it was just sending is sent
//! again, with the same number.

use std::collections::BTreeMap;
use std::sync::Arc;

use keepwell_anchor::protocol::Request;
use keepwell_config::NotifyConfig;
use keepwell_core::event::Level;
use keepwell_core::notify::{Answer, Notice, Outbox, Setback};
use keepwell_core::{Event, Mono, Now};
use keepwell_sdk::wire;

use super::{Engine, put};
use crate::courier::Delivery;
use crate::figures::ReceiverFigures;

/// Prefix of the keys under which the anchor keeps outboxes.
const PREFIX: &str = "outbox/";

/// One receiver.
pub(super) struct Receiver {
    to: Arc<NotifyConfig>,
    outbox: Outbox,
    dirty: bool,
    /// Taken, to be made again, refused for good; since this daemon began.
    attempts: [u64; 3],
    lost: u64,
}

/// What an earlier daemon left.
pub(super) fn inherited(values: &BTreeMap<Vec<u8>, Vec<u8>>, now: Now) -> BTreeMap<String, Outbox> {
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

impl Engine {
    /// The receivers of the configuration in force; those that stay keep what they are still to be told.
    pub(super) fn set_receivers(&mut self) {
        let mut old = std::mem::take(&mut self.receivers);
        for to in &self.config.guardian.notify {
            let was = old.remove(&*to.name).map(|r| r.outbox);
            let outbox = was.or_else(|| self.left_outboxes.remove(&*to.name)).unwrap_or_default();
            let receiver =
                Receiver { to: Arc::new(to.clone()), outbox, dirty: true, attempts: [0; 3], lost: 0 };
            self.receivers.insert(to.name.to_string(), receiver);
        }
        let gone = old.into_keys().chain(std::mem::take(&mut self.left_outboxes).into_keys());
        for name in gone {
            self.link.send(&Request::Delete(key(&name)), &[]);
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
        for receiver in self.receivers.values_mut() {
            let NotifyConfig { on, services, .. } = &*receiver.to;
            let name = event.service.as_ref().map(|id| &*id.name);
            let about = services.is_empty() || services.iter().any(|s| Some(&**s) == name);
            if about && on.contains(&notice.topic) {
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
            }
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
                let text = format!("the receiver {name} was not told of {n} things, and will not be: {why}");
                self.tell(now, None, Level::Error, text);
            }
        }
    }
}
