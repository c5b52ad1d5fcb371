//! The endpoints for heartbeats. The anchor keeps each, so that clients of a daemon that is being replaced wait.

use std::path::PathBuf;
use std::sync::Arc;

use keepwell_anchor::protocol::Request;
use keepwell_core::event::Level;
use keepwell_core::supervisor::ServiceStatus;
use keepwell_core::time::Human;
use keepwell_core::{Now, RunId, ServiceId};
use keepwell_os::local::{self, Access, Endpoint, Peer};
use keepwell_os::{AsHandle, Handle, files};
use keepwell_sdk::wire;

use super::Engine;
use super::notices::Speaker;
use crate::convert;

/// Prefix of the keys under which the anchor keeps these endpoints.
pub(super) const PREFIX: &str = "beat/";

impl Engine {
    fn beat_path(&self, id: &ServiceId) -> PathBuf {
        self.options.state_dir.join("beat").join(format!("{id}.sock"))
    }

    /// The value of `KEEPWELL_HEARTBEAT`. The endpoint is bound when it has to be, so that the address is one that works.
    pub(super) fn beat_address(&mut self, id: &ServiceId) -> Option<String> {
        let path = self.beat_path(id);
        let bound = if self.beat_ears.contains_key(id) { Ok(()) } else { self.bind_beat(id, &path) };
        match bound.and_then(|()| local::address(&path)) {
            Ok(address) => Some(address.to_string_lossy().into_owned()),
            Err(e) => {
                let now = keepwell_os::clock::now();
                let text =
                    format!("its endpoint for heartbeats cannot be made, so its beats will be missed: {e}");
                self.tell(now, Some(id.clone()), Level::Error, text);
                None
            }
        }
    }

    fn bind_beat(&mut self, id: &ServiceId, path: &std::path::Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            files::make_passage(folder)?;
        }
        // Who may speak is decided for each who connects.
        let endpoint = Endpoint::bind(path, Access::Everyone)?;
        self.link.send(&Request::Keep(format!("{PREFIX}{id}").into_bytes()), &[endpoint.as_handle()]);
        self.hear_beats(id, endpoint, None)
    }

    fn hear_beats(&mut self, id: &ServiceId, endpoint: Endpoint, run: Option<RunId>) -> std::io::Result<()> {
        let Some(slot) = self.slots.get(id) else { return Ok(()) };
        let (number, tree) = (slot.number, Arc::clone(&slot.tree));
        let speaker = Arc::new(Speaker::default());
        let (trees, who) = (Arc::clone(&self.trees), Arc::clone(&speaker));
        let allowed =
            move |peer: &Peer| who.has(&trees, &tree, peer.pid) || (peer.is_owner() && peer.is_there());
        self.heartbeats.add(number, id.clone(), endpoint, Box::new(allowed), run)?;
        self.beat_ears.insert(id.clone(), speaker);
        Ok(())
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
        if let Err(e) = self.hear_beats(id, endpoint, run) {
            tracing::error!(service = %id, error = %e, "an endpoint for heartbeats could not be taken over");
        }
    }

    /// The instance is no more.
    pub(super) fn drop_beats(&mut self, id: &ServiceId, slot: u32) {
        if self.beat_ears.remove(id).is_some() {
            self.heartbeats.remove(slot);
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
