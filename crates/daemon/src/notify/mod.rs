//! What services say of themselves through `sd_notify(3)`: one socket an instance, kept open by the anchor across every
//! replacement of the daemon.
//!
//! This module reads, judges the sender, and tells the engine. What a word means for the service is the core's matter.
//!
//! **Who is heard.** A process of the service's tree, a process of the service's own user, and root. systemd asks for the
//! sender's cgroup alone, and so loses the message of a process that has ended before it is read; its `systemd-notify`
//! waits on a barrier for that reason. The kernel attaches the sender's user to the datagram itself (unix(7),
//! `SCM_CREDENTIALS`), which is as true after the sender's end; so here a helper that exits right after sending is heard,
//! unless it belongs to the tree and runs as another user than the service. Everybody else is told of once a run.
//!
//! **Nothing is lost or misread.** A datagram stays in the kernel's queue until the engine has carried out what follows
//! from it and left that with the anchor; a daemon that dies before leaves it to its successor, for whom a word said twice
//! means the same. What waits when a run starts was said by an earlier one, and is thrown away before the new process
//! exists. What the new process says is read only when its start has been told: the core would not know of whom it speaks.

mod parse;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keepwell_core::{RunId, ServiceId};
use keepwell_os::notify::{Notification, NotifyListener, NotifySocket};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::message::{EngineHandle, Message};
use words::Memory;

/// Who may speak for a service.
pub struct Allowed {
    /// Whether its processes run as this user now.
    pub is_user: Box<dyn Fn(u32) -> bool + Send + Sync>,
    /// Whether a live process belongs to its tree.
    pub in_tree: Box<dyn Fn(u32) -> bool + Send + Sync>,
}

/// The sockets of all instances. Owned by the engine's thread; the reading happens on the runtime.
pub struct NotifyHub {
    runtime: Handle,
    engine: EngineHandle,
    ears: BTreeMap<u32, Ear>,
}

struct Ear {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    listener: NotifyListener,
    service: ServiceId,
    allowed: Allowed,
    turn: Mutex<Turn>,
    /// Called when the turn's process has been told.
    told: Notify,
}

/// Whose turn it is to speak. Changed by the engine; read by the listener together with each datagram, under one lock, so
/// that none is taken for a run's that it does not come from.
struct Turn {
    run: Option<RunId>,
    /// The engine knows the run's process.
    told: bool,
    /// Counts the changes: what was read in an earlier turn is no longer the first of the queue.
    number: u64,
    memory: Memory,
}

impl NotifyHub {
    /// Reads on `runtime`, which must have its timer and its IO enabled.
    #[must_use]
    pub fn new(runtime: Handle, engine: EngineHandle) -> NotifyHub {
        NotifyHub { runtime, engine, ears: BTreeMap::new() }
    }

    /// Listens for an instance from now on. `run` is its live main run, if a daemon before this one started one: what
    /// waits in the socket is then taken as said by it.
    ///
    /// # Errors
    /// When the runtime cannot watch the socket.
    pub fn add(
        &mut self,
        slot: u32,
        service: ServiceId,
        socket: NotifySocket,
        allowed: Allowed,
        run: Option<RunId>,
    ) -> io::Result<()> {
        self.remove(slot);
        let entered = self.runtime.enter();
        let listener = NotifyListener::new(socket)?;
        drop(entered);
        let turn = Mutex::new(Turn { run, told: run.is_some(), number: 0, memory: Memory::default() });
        let shared = Arc::new(Shared { listener, service, allowed, turn, told: Notify::new() });
        let task = self.runtime.spawn(listen(Arc::clone(&shared), self.engine.clone())).abort_handle();
        self.ears.insert(slot, Ear { shared, task });
        Ok(())
    }

    /// A main run is about to be started: to be called before the anchor is asked. What waits in the socket was said by
    /// an earlier run and is thrown away.
    pub fn started(&self, slot: u32, run: RunId) {
        if let Some(ear) = self.ears.get(&slot) {
            ear.shared.change_turn(Some(run));
        }
    }

    /// The engine has been told that a run's process is there; from now on it is heard.
    pub fn spawned(&self, run: RunId) {
        for ear in self.ears.values() {
            let mut turn = ear.shared.turn();
            if turn.run == Some(run) {
                turn.told = true;
                ear.shared.told.notify_one();
            }
        }
    }

    /// A run is over: nobody speaks until the next one.
    pub fn ended(&self, run: RunId) {
        for ear in self.ears.values() {
            if ear.shared.turn().run == Some(run) {
                ear.shared.change_turn(None);
            }
        }
    }

    /// Listens no longer.
    pub fn remove(&mut self, slot: u32) {
        if let Some(ear) = self.ears.remove(&slot) {
            // The task may be at work just now, and ends at its next pause only.
            let mut turn = ear.shared.turn();
            turn.run = None;
            turn.number += 1;
            ear.task.abort();
        }
    }
}

/// The kernel queues a few hundred datagrams at most (unix(7), `max_dgram_qlen`); somebody who sends without pause must not
/// keep the engine here.
const MAX_THROWN_AWAY: u32 = 1024;

/// One look at the first datagram of the queue.
struct Heard {
    /// `None`: too long, or without a sender.
    notification: Option<Notification>,
    run: Option<RunId>,
    turn: u64,
}

impl Shared {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_turn(&self, run: Option<RunId>) {
        let mut turn = self.turn();
        for _ in 0..MAX_THROWN_AWAY {
            if self.listener.socket().discard().is_err() {
                break;
            }
        }
        if turn.memory.ignored() > 0 {
            tracing::info!(service = %self.service, ignored = turn.memory.ignored(), "notifications were ignored");
        }
        *turn = Turn { run, told: false, number: turn.number + 1, memory: Memory::default() };
    }

    async fn hear(&self) -> io::Result<Heard> {
        loop {
            let heard = self.listener.when_ready(|socket| {
                let turn = self.turn();
                if turn.run.is_some() && !turn.told {
                    return Ok(None);
                }
                Ok(Some(Heard { notification: socket.peek()?, run: turn.run, turn: turn.number }))
            });
            match heard.await? {
                Some(heard) => return Ok(heard),
                None => self.told.notified().await,
            }
        }
    }

    /// What to tell the engine.
    fn judge(&self, heard: &Heard) -> Vec<Message> {
        let mut turn = self.turn();
        // Between runs nobody is there to speak for.
        let Some(run) = heard.run.filter(|_| turn.number == heard.turn) else { return Vec::new() };
        let Some(notification) = &heard.notification else {
            return turn.memory.unreadable(&self.service, "it is longer than 4096 bytes or has no sender");
        };
        let sender = &notification.sender;
        let heard =
            sender.uid == 0 || (self.allowed.is_user)(sender.uid) || (self.allowed.in_tree)(sender.pid);
        if !heard {
            return turn.memory.foreign(&self.service, sender.pid, sender.uid);
        }
        match parse::parse(&notification.bytes) {
            Ok(said) => turn.memory.messages(&self.service, run, said, &self.allowed.in_tree),
            Err(parse::Spoiled) => turn.memory.unreadable(&self.service, "there is a zero byte in it"),
        }
    }

    /// Takes the datagram away, unless the engine has done so with the whole queue.
    fn done_with(&self, heard: &Heard) {
        let turn = self.turn();
        if turn.number == heard.turn {
            // It was there when it was read, and only this module takes any away.
            let _ = self.listener.socket().discard();
        }
    }
}

/// After a socket error, which no cause is known for.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

async fn listen(shared: Arc<Shared>, engine: EngineHandle) {
    let mut pace = Pace::new();
    loop {
        let heard = match shared.hear().await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(service = %shared.service, %error, "the notify socket cannot be read");
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        pace.keep().await;
        let messages = shared.judge(&heard);
        if !messages.is_empty() && !tell(&engine, messages).await {
            // The engine is gone. What was not taken waits for its successor.
            return;
        }
        shared.done_with(&heard);
    }
}

/// Returns when all that follows from the messages is left with the anchor. False: it will never be.
async fn tell(engine: &EngineHandle, messages: Vec<Message>) -> bool {
    for message in messages {
        if !engine.deliver(message).await {
            return false;
        }
    }
    let (reply, settled) = oneshot::channel();
    engine.deliver(Message::Settled { reply }).await && settled.await.is_ok()
}

/// What one service may say at once, and then a second: a service that floods its socket waits in its own `sendmsg`, and
/// the engine stays free for the others.
const BURST: u32 = 100;
const EACH: Duration = Duration::from_millis(10);

struct Pace {
    left: u32,
    since: Instant,
}

impl Pace {
    fn new() -> Pace {
        Pace { left: BURST, since: Instant::now() }
    }

    async fn keep(&mut self) {
        let passed = self.since.elapsed().as_millis() / EACH.as_millis();
        if passed > 0 {
            self.left = self.left.saturating_add(u32::try_from(passed).unwrap_or(BURST)).min(BURST);
            self.since = Instant::now();
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => sleep(EACH).await,
        }
    }
}

#[cfg(test)]
mod tests;
