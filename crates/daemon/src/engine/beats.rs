//! The endpoints for heartbeats. The anchor keeps each, so that clients of a daemon that is being replaced wait.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use keepwell_anchor::protocol::{Put, Request};
use keepwell_config::BeatBy;
use keepwell_core::event::Level;
use keepwell_core::supervisor::ServiceStatus;
use keepwell_core::time::Human;
use keepwell_core::{Now, RunId, ServiceId};
use keepwell_os::local::{self, Access, Endpoint, Peer};
use keepwell_os::{AsHandle, Handle, files};
use keepwell_sdk::wire;

use super::notices::Speaker;
use super::{Engine, boot};
use crate::convert;
use crate::heartbeat::Door;

/// Prefix of the keys under which the anchor keeps these endpoints.
pub(super) const PREFIX: &str = "beat/";
/// Prefix of the keys under which the anchor keeps the tokens of those that beat over TCP.
const TOKEN_PREFIX: &str = "token/";

/// Who may beat for an instance, and the token of one that does so over TCP.
pub(super) struct BeatEar {
    pub(super) speaker: Arc<Speaker>,
    token: Option<Box<str>>,
}

fn token_key(id: &ServiceId) -> Vec<u8> {
    format!("{TOKEN_PREFIX}{id}").into_bytes()
}

/// 128 bits that nobody can guess.
fn token() -> io::Result<Box<str>> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

impl Engine {
    fn beat_path(&self, id: &ServiceId) -> PathBuf {
        self.options.state_dir.join("beat").join(format!("{id}.sock"))
    }

    /// The values of `KEEPWELL_HEARTBEAT` and `KEEPWELL_TOKEN`. The endpoint is bound when it has to be, so that the address is one
    /// that works.
    pub(super) fn beat_address(&mut self, id: &ServiceId, by: BeatBy) -> Option<(String, Option<Box<str>>)> {
        let known = self.beat_ears.get(id).map(|ear| ear.token.is_some());
        let wanted = matches!(by, BeatBy::Tcp(_));
        if known.is_some_and(|tcp| tcp != wanted)
            && let Some(slot) = self.slots.number(id)
        {
            self.drop_beats(id, slot);
        }
        let made = match known == Some(wanted) {
            true => Ok(()),
            false => self.make_beat_door(id, by),
        };
        match made.and_then(|()| self.beat_values(id, by)) {
            Ok(values) => Some(values),
            Err(e) => {
                let now = keepwell_os::clock::now();
                let text =
                    format!("its endpoint for heartbeats cannot be made, so its beats will be missed: {e}");
                self.tell(now, Some(id.clone()), Level::Error, text);
                None
            }
        }
    }

    fn beat_values(&self, id: &ServiceId, by: BeatBy) -> io::Result<(String, Option<Box<str>>)> {
        let token = self.beat_ears.get(id).and_then(|ear| ear.token.clone());
        Ok(match by {
            BeatBy::Own => (local::address(&self.beat_path(id))?.to_string_lossy().into_owned(), None),
            BeatBy::Tcp(address) => (address.to_string(), token),
        })
    }

    fn make_beat_door(&mut self, id: &ServiceId, by: BeatBy) -> io::Result<()> {
        match by {
            BeatBy::Own => {
                let path = self.beat_path(id);
                if let Some(folder) = path.parent() {
                    files::make_passage(folder)?;
                }
                // Who may speak is decided for each who connects.
                let endpoint = Endpoint::bind(&path, Access::Everyone)?;
                let key = format!("{PREFIX}{id}").into_bytes();
                self.link.send(&Request::Keep(key), &[endpoint.as_handle()]);
                self.hear_beats(id, Some(endpoint), None, None)
            }
            BeatBy::Tcp(_) => {
                let token = token()?;
                let value = token.as_bytes().to_vec();
                self.link.send(&Request::Put(Put { key: token_key(id), value }), &[]);
                self.hear_beats(id, None, Some(token), None)
            }
        }
    }

    /// On an endpoint of its own, or by a token.
    fn hear_beats(
        &mut self,
        id: &ServiceId,
        endpoint: Option<Endpoint>,
        token: Option<Box<str>>,
        run: Option<RunId>,
    ) -> io::Result<()> {
        let Some(slot) = self.slots.get(id) else { return Ok(()) };
        let (number, tree) = (slot.number, Arc::clone(&slot.tree));
        let speaker = Arc::new(Speaker::default());
        let (trees, who) = (Arc::clone(&self.trees), Arc::clone(&speaker));
        let allowed =
            move |peer: &Peer| who.has(&trees, &tree, peer.pid) || (peer.is_owner() && peer.is_there());
        let door = match (endpoint, token.clone()) {
            (Some(endpoint), _) => Door::Own(endpoint, Box::new(allowed)),
            (None, Some(token)) => Door::Tcp(token),
            (None, None) => return Ok(()),
        };
        self.heartbeats.add(number, id.clone(), door, run)?;
        self.beat_ears.insert(id.clone(), BeatEar { speaker, token });
        Ok(())
    }

    /// The port is open as long as a service is to beat there.
    pub(super) fn open_beat_port(&mut self) {
        let mut all = self.config.services.values().filter_map(|s| s.heartbeat);
        let wanted = all.any(|beat| matches!(beat.by, BeatBy::Tcp(_)));
        self.heartbeats.set_port(self.config.guardian.heartbeat.filter(|_| wanted));
    }

    /// Takes over the tokens that the last daemon gave out.
    pub(super) fn adopt_tokens(&mut self, values: &BTreeMap<Vec<u8>, Vec<u8>>) {
        for (key, value) in values {
            let text = |bytes| std::str::from_utf8(bytes).ok();
            let Some((id, token)) = text(key).and_then(|k| k.strip_prefix(TOKEN_PREFIX)).zip(text(value))
            else {
                continue;
            };
            let id = boot::parse_id(id);
            let run = self.main_run(&id);
            if let Err(e) = self.hear_beats(&id, None, Some(token.into()), run) {
                tracing::error!(service = %id, error = %e, "the way of heartbeats could not be taken over");
            }
        }
    }

    /// A main run is about to be started: from now on its beats count.
    pub(super) fn listen_beats(&mut self, id: &ServiceId, slot: u32, run: RunId) {
        self.heartbeats.started(slot, run);
        self.set_speaker(id, run, 0);
    }

    /// Listens again on what the last daemon left.
    pub(super) fn adopt_beat(&mut self, id: &ServiceId, handle: Handle) {
        let endpoint = Endpoint::from_handle(handle, &self.beat_path(id));
        let run = self.main_run(id);
        if let Err(e) = self.hear_beats(id, Some(endpoint), None, run) {
            tracing::error!(service = %id, error = %e, "an endpoint for heartbeats could not be taken over");
        }
    }

    /// The instance is no more.
    pub(super) fn drop_beats(&mut self, id: &ServiceId, slot: u32) {
        let Some(ear) = self.beat_ears.remove(id) else { return };
        self.heartbeats.remove(slot);
        if ear.token.is_some() {
            self.link.send(&Request::Delete(token_key(id)), &[]);
        } else {
            self.link.send(&Request::Drop(format!("{PREFIX}{id}").into_bytes()), &[]);
            // Left behind it would only be a name that nobody listens to. A pipe's name ends with it.
            let _ = std::fs::remove_file(self.beat_path(id));
        }
    }

    /// What is known of an instance's beats, if it owes any.
    pub(super) fn describe_beats(&self, now: Now, s: &ServiceStatus, line: &mut wire::Status) {
        let Some((pulse, lost_after)) = self.pulse(s) else { return };
        line.heartbeat = Some(wire::Heartbeat {
            last: pulse.last.map(|last| convert::time(now.wall_of(last))),
            lost_after_ms: convert::millis(lost_after),
            errors: pulse.errors,
        });
        line.metrics = pulse.metrics;
    }

    /// The same in words.
    pub(super) fn explain_beats(&self, now: Now, s: &ServiceStatus, facts: &mut Vec<(String, String)>) {
        let Some((pulse, lost_after)) = self.pulse(s) else { return };
        let last = match pulse.last {
            Some(last) => format!("the last came {} ago", Human(now.mono.since(last))),
            None => "none has come".to_owned(),
        };
        let mut text = format!("{last}; it is restarted after {} without", Human(lost_after));
        if pulse.errors > 0 {
            text.push_str(&format!("; {} refused", pulse.errors));
        }
        facts.push(("heartbeat".to_owned(), text));
        if !pulse.metrics.is_empty() {
            let all: Vec<String> =
                pulse.metrics.iter().map(|(name, value)| format!("{name}={value}")).collect();
            facts.push(("metrics".to_owned(), all.join(" ")));
        }
    }

    pub(super) fn pulse(&self, s: &ServiceStatus) -> Option<(crate::heartbeat::Pulse, std::time::Duration)> {
        s.run?;
        let lost_after = self.supervisor.specs().services.get(&s.id.name)?.heartbeat?;
        Some((self.heartbeats.pulse(self.slots.number(&s.id)?)?, lost_after))
    }
}
