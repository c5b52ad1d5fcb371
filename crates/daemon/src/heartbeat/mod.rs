//! Heartbeats of services: one endpoint an instance, kept open by the anchor across every replacement of the daemon.
//!
//! This module accepts, reads, answers and counts. What a beat that does not come means for the service is the core's matter.
//! The bytes are those of `docs/heartbeat-protocol.md`, which `keepwell_sdk::heartbeat` reads.
//!
//! **Who is heard.** A live process of the service's tree, and one of the guardian's own user or of the administrator. Between two
//! runs nobody is heard: whoever connects is hung up on, as are all who are connected when a run ends.
//!
//! **Nothing is answered that is not taken.** A frame is answered when the engine has it; what must outlive the daemon (ready,
//! stopping, more time) when what follows from it is left with the anchor. A client that is not answered says it again.

mod connection;
mod pulse;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::{RunId, ServiceId};
use keepwell_os::local::{Endpoint, Listener, Peer, Stream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::message::EngineHandle;
pub use pulse::Pulse;
use pulse::Shared;

/// Whether the process at the other end may speak for a service.
pub type Allowed = Box<dyn Fn(&Peer) -> bool + Send + Sync>;

/// The endpoints of all instances. Owned by the engine's thread; the rest happens on the runtime.
pub struct HeartbeatHub {
    runtime: Handle,
    engine: EngineHandle,
    ears: BTreeMap<u32, Ear>,
}

struct Ear {
    shared: Arc<Shared>,
    /// Whose turn it is to speak.
    turn: watch::Sender<Option<RunId>>,
    task: AbortHandle,
}

impl HeartbeatHub {
    /// Listens on `runtime`, which must have its timer and its IO enabled.
    #[must_use]
    pub fn new(runtime: Handle, engine: EngineHandle) -> HeartbeatHub {
        HeartbeatHub { runtime, engine, ears: BTreeMap::new() }
    }

    /// Listens for an instance from now on. `run` is its live main run, if a daemon before this one started one.
    ///
    /// # Errors
    /// When the runtime cannot watch the endpoint.
    pub fn add(
        &mut self,
        slot: u32,
        service: ServiceId,
        endpoint: Endpoint,
        allowed: Allowed,
        run: Option<RunId>,
    ) -> io::Result<()> {
        self.remove(slot);
        let entered = self.runtime.enter();
        let listener = Listener::new(endpoint)?;
        drop(entered);
        let shared = Arc::new(Shared::new(service, self.engine.clone(), run));
        let (turn, turns) = watch::channel(run);
        let task = self.runtime.spawn(listen(Arc::clone(&shared), listener, allowed, turns)).abort_handle();
        self.ears.insert(slot, Ear { shared, turn, task });
        Ok(())
    }

    /// A main run is about to be started: from now on those who connect speak for it.
    pub fn started(&self, slot: u32, run: RunId) {
        if let Some(ear) = self.ears.get(&slot) {
            ear.change_turn(Some(run));
        }
    }

    /// A run is over: nobody speaks until the next one.
    pub fn ended(&self, run: RunId) {
        for ear in self.ears.values().filter(|ear| ear.shared.is_of(run)) {
            ear.change_turn(None);
        }
    }

    /// Listens no longer.
    pub fn remove(&mut self, slot: u32) {
        if let Some(ear) = self.ears.remove(&slot) {
            ear.change_turn(None);
            // Its connections end with it.
            ear.task.abort();
        }
    }

    /// What came of an instance's beats in its present run; `None`: it has none, or no endpoint.
    #[must_use]
    pub fn pulse(&self, slot: u32) -> Option<Pulse> {
        self.ears.get(&slot).and_then(|ear| ear.shared.pulse())
    }
}

impl Ear {
    fn change_turn(&self, run: Option<RunId>) {
        self.shared.change_turn(run);
        self.turn.send_replace(run);
    }
}

/// Of one service at a time: a few clients in each of its processes.
const MAX_CONNECTIONS: usize = 128;
/// Out of descriptors or memory: others must end before the next can be had.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

async fn listen(
    shared: Arc<Shared>,
    listener: Listener,
    allowed: Allowed,
    mut turns: watch::Receiver<Option<RunId>>,
) {
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            changed = turns.changed() => {
                if changed.is_err() {
                    return;
                }
                open.abort_all();
                continue;
            }
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(run) = *turns.borrow() {
                    admit(&shared, stream, &peer, &allowed, run, &mut open);
                }
            }
            Err(error) => {
                tracing::warn!(service = %shared.service(), %error, "a heartbeat connection could not be accepted");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

fn admit(
    shared: &Arc<Shared>,
    stream: Stream,
    peer: &Peer,
    allowed: &Allowed,
    run: RunId,
    open: &mut JoinSet<()>,
) {
    if !allowed(peer) {
        let (pid, uid) = (peer.pid, peer.uid);
        shared.wrong(run, || {
            format!("process {pid}, user {uid}, is neither of this service's tree nor of keepwell's user")
        });
    } else if open.len() >= MAX_CONNECTIONS {
        shared.wrong(run, || format!("it has more than {MAX_CONNECTIONS} connections"));
    } else {
        open.spawn(connection::serve(Arc::clone(shared), stream, run));
    }
}

#[cfg(test)]
mod tests;
