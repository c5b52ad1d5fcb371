//! Heartbeats over TCP: one loopback address for all services of the guardian. Whoever connects says with a hello whose program it
//! is; from then on its connection is as good as one to that service's own endpoint.
//!
//! The port is the daemon's own and not the anchor's: clients of a daemon that is being replaced are refused for that long, and
//! come again by themselves.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keepwell_core::event::Level;
use keepwell_sdk::heartbeat::{ANSWER, Command, HEADER, REFUSED, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::message::{EngineHandle, Message};

/// A client says at once who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// For one that was refused to read why.
const LINGER: Duration = Duration::from_secs(1);
/// Who has not said yet who he is.
const MAX_STRANGERS: usize = 256;
/// Connections that a service has not taken in yet; it takes them as fast as they come.
pub(super) const DOORSTEP: usize = 16;
/// A port that is taken may become free.
const RETRY: Duration = Duration::from_secs(5);

/// A connection that has shown its token, and what it said after it.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) held: Vec<u8>,
}

/// Which token is whose.
#[derive(Clone, Default)]
pub(super) struct Tokens(Arc<Mutex<Vec<Doorway>>>);

struct Doorway {
    slot: u32,
    token: Box<str>,
    door: mpsc::Sender<Guest>,
}

impl Tokens {
    pub(super) fn add(&self, slot: u32, token: Box<str>, door: mpsc::Sender<Guest>) {
        self.all().push(Doorway { slot, token, door });
    }

    pub(super) fn remove(&self, slot: u32) {
        self.all().retain(|way| way.slot != slot);
    }

    fn door(&self, token: &[u8]) -> Option<mpsc::Sender<Guest>> {
        let all = self.all();
        all.iter().find(|way| is_same(way.token.as_bytes(), token)).map(|way| way.door.clone())
    }

    fn all(&self) -> MutexGuard<'_, Vec<Doorway>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes as long however much of it is right.
fn is_same(token: &[u8], said: &[u8]) -> bool {
    token.len() == said.len() && token.iter().zip(said).fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
}

/// The port, while it is open or tried for.
pub(super) struct Port {
    pub(super) address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was refused before it was known whose it was.
#[derive(Clone, Default)]
pub(super) struct Refusals(Arc<AtomicU64>);

impl Refusals {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Told once; counted always.
    fn add(&self, engine: &EngineHandle, why: &str) {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            let text = format!("a heartbeat over TCP was refused: {why}");
            tell(engine, Level::Warn, text);
        }
        tracing::debug!(why, "a heartbeat over TCP was refused");
    }
}

fn tell(engine: &EngineHandle, level: Level, text: String) {
    if engine.send(Message::Told { service: None, level, text: text.clone() }).is_err() {
        tracing::warn!("{text}");
    }
}

impl Port {
    pub(super) fn open(
        runtime: &tokio::runtime::Handle,
        engine: EngineHandle,
        address: SocketAddr,
        tokens: Tokens,
        refusals: Refusals,
    ) -> Port {
        let task = runtime.spawn(listen(engine, address, tokens, refusals)).abort_handle();
        Port { address, task }
    }
}

async fn listen(engine: EngineHandle, address: SocketAddr, tokens: Tokens, refusals: Refusals) {
    let listener = bind(&engine, address).await;
    let mut strangers = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = strangers.join_next(), if !strangers.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(_) if strangers.len() >= MAX_STRANGERS => {
                refusals.add(&engine, &format!("{MAX_STRANGERS} connections have not said who they are"));
            }
            Ok((stream, _)) => {
                let (engine, tokens, refusals) = (engine.clone(), tokens.clone(), refusals.clone());
                strangers.spawn(async move { meet(stream, &engine, &tokens, &refusals).await });
            }
            Err(error) => {
                tracing::warn!(%error, "a heartbeat connection could not be accepted");
                sleep(super::ERROR_PAUSE).await;
            }
        }
    }
}

async fn bind(engine: &EngineHandle, address: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                if said {
                    tell(engine, Level::Info, format!("{address} is free: heartbeats are heard there"));
                }
                return listener;
            }
            Err(e) if !said => {
                said = true;
                let text = format!("heartbeats cannot be heard on {address}: {e}; it is tried every 5 s");
                tell(engine, Level::Error, text);
            }
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}

async fn meet(mut stream: TcpStream, engine: &EngineHandle, tokens: &Tokens, refusals: &Refusals) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let mut held = Vec::new();
    let late = || Err(format!("hello: none came within {} s", HELLO_PATIENCE.as_secs()));
    let greeted = timeout(HELLO_PATIENCE, greet(&mut stream, &mut held, tokens)).await;
    match greeted.unwrap_or_else(|_| late()) {
        // A service that is removed just now hangs up.
        Ok(Some(door)) => drop(door.send(Guest { stream, held }).await),
        Ok(None) => {}
        Err(why) => {
            refusals.add(engine, &why);
            let mut answer = Vec::new();
            encode(REFUSED, why.as_bytes(), &mut answer);
            let _ = timeout(LINGER, stream.write_all(&answer)).await;
            linger(stream).await;
        }
    }
}

/// Reads the hello, answers it, and finds the way. `None`: the client has hung up. The error is what the refusal says.
async fn greet(
    stream: &mut TcpStream,
    held: &mut Vec<u8>,
    tokens: &Tokens,
) -> Result<Option<mpsc::Sender<Guest>>, String> {
    loop {
        match decode(held) {
            Ok(Some((frame, length))) if frame.command == Command::Hello as u8 => {
                let door = tokens.door(&frame.payload);
                let door = door.ok_or("token: it is of no service that beats over TCP")?;
                let mut answer = Vec::new();
                encode(ANSWER | frame.command, &frame.payload, &mut answer);
                held.drain(..length);
                return Ok(stream.write_all(&answer).await.is_ok().then_some(door));
            }
            Ok(Some((frame, _))) => {
                return Err(format!("hello: the first command is 0x10, not 0x{:02X}", frame.command));
            }
            Ok(None) => {}
            Err(error) => return Err(format!("{}: {error}", error.code())),
        }
        if hung_up(stream, held).await {
            return Ok(None);
        }
    }
}

/// Ends a connection so that its last answer arrives: closed with something unread, TCP throws away what is on its way.
pub(super) async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = Vec::new();
    let read_out = async {
        while !hung_up(&mut stream, &mut rest).await {
            rest.clear();
        }
    };
    let _ = timeout(LINGER, read_out).await;
}

async fn hung_up(stream: &mut TcpStream, held: &mut Vec<u8>) -> bool {
    held.reserve(HEADER + 32);
    !matches!(stream.read_buf(held).await, Ok(1..))
}
