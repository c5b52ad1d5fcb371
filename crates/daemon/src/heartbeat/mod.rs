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
mod tcp;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::{RunId, ServiceId};
use keepwell_os::local::{Endpoint, Listener, Peer, Stream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use crate::message::EngineHandle;
pub use pulse::Pulse;
use pulse::Shared;
use tcp::{Guest, Port, Refusals, Tokens};

/// Whether the process at the other end may speak for a service.
pub type Allowed = Box<dyn Fn(&Peer) -> bool + Send + Sync>;

/// How the clients of an instance reach it.
pub enum Door {
    /// An endpoint of its own, and who is heard there.
    Own(Endpoint, Allowed),
    /// The guardian's port, for who shows this token.
    Tcp(Box<str>),
}

/// The endpoints of all instances. Owned by the engine's thread; the rest happens on the runtime.
pub struct HeartbeatHub {
    runtime: Handle,
    engine: EngineHandle,
    ears: BTreeMap<u32, Ear>,
    port: Option<Port>,
    tokens: Tokens,
    refusals: Refusals,
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
        let (tokens, refusals) = (Tokens::default(), Refusals::default());
        HeartbeatHub { runtime, engine, ears: BTreeMap::new(), port: None, tokens, refusals }
    }

    /// Hears over TCP at this address, a loopback one, from now on; `None`: no longer. One that is taken is told of and tried again.
    pub fn set_port(&mut self, address: Option<SocketAddr>) {
        if self.port.as_ref().map(|port| port.address) == address {
            return;
        }
        // Closed first: a port may only move from one address of this host to another.
        self.port = None;
        self.port = address.map(|address| {
            let (tokens, refusals) = (self.tokens.clone(), self.refusals.clone());
            Port::open(&self.runtime, self.engine.clone(), address, tokens, refusals)
        });
    }

    /// What was refused over TCP before it was known whose it was, since this hub began.
    #[must_use]
    pub fn strangers_refused(&self) -> u64 {
        self.refusals.count()
    }

    /// Listens for an instance from now on. `run` is its live main run, if a daemon before this one started one.
    ///
    /// # Errors
    /// When the runtime cannot watch the endpoint.
    pub fn add(&mut self, slot: u32, service: ServiceId, door: Door, run: Option<RunId>) -> io::Result<()> {
        self.remove(slot);
        let (guest, guests) = mpsc::channel(tcp::DOORSTEP);
        let own = match door {
            Door::Own(endpoint, allowed) => {
                let _entered = self.runtime.enter();
                Some((Listener::new(endpoint)?, allowed))
            }
            Door::Tcp(token) => {
                self.tokens.add(slot, token, guest);
                None
            }
        };
        let shared = Arc::new(Shared::new(service, self.engine.clone(), run));
        let (turn, turns) = watch::channel(run);
        let task = self.runtime.spawn(listen(Arc::clone(&shared), own, guests, turns)).abort_handle();
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
            self.tokens.remove(slot);
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
    own: Option<(Listener, Allowed)>,
    mut guests: mpsc::Receiver<Guest>,
    mut turns: watch::Receiver<Option<RunId>>,
) {
    let mut open = JoinSet::new();
    loop {
        let arrival = tokio::select! {
            biased;
            changed = turns.changed() => {
                if changed.is_err() {
                    return;
                }
                open.abort_all();
                continue;
            }
            Some(_) = open.join_next(), if !open.is_empty() => continue,
            arrival = arrival(own.as_ref(), &mut guests) => arrival,
        };
        let Some(run) = *turns.borrow() else { continue };
        let full = open.len() >= MAX_CONNECTIONS;
        let too_many = || format!("it has more than {MAX_CONNECTIONS} connections");
        match arrival {
            Ok(Arrival::Unwelcome(peer)) => shared.wrong(run, || {
                let (pid, uid) = (peer.pid, peer.uid);
                format!("process {pid}, user {uid}, is neither of this service's tree nor of keepwell's user")
            }),
            Ok(Arrival::Own(..) | Arrival::Guest(_)) if full => shared.wrong(run, too_many),
            Ok(Arrival::Own(stream)) => {
                let shared = Arc::clone(&shared);
                open.spawn(async move { drop(connection::serve(shared, stream, run, Vec::new()).await) });
            }
            Ok(Arrival::Guest(Guest { stream, held })) => {
                let shared = Arc::clone(&shared);
                open.spawn(async move {
                    if let Some(refused) = connection::serve(shared, stream, run, held).await {
                        tcp::linger(refused).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(service = %shared.service(), %error, "a heartbeat connection could not be accepted");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// Who has come.
enum Arrival {
    Own(Stream),
    Unwelcome(Peer),
    Guest(Guest),
}

async fn arrival(
    own: Option<&(Listener, Allowed)>,
    guests: &mut mpsc::Receiver<Guest>,
) -> io::Result<Arrival> {
    match own {
        Some((listener, allowed)) => {
            let (stream, peer) = listener.accept().await?;
            Ok(if allowed(&peer) { Arrival::Own(stream) } else { Arrival::Unwelcome(peer) })
        }
        None => match guests.recv().await {
            Some(guest) => Ok(Arrival::Guest(guest)),
            // Its token is withdrawn, and this task about to be.
            None => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
