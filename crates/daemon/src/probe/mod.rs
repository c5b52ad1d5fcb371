//! Readiness attempts over the network and the file system. All run on the daemon's one runtime, as many at once as there
//! are; none blocks it, and none takes longer than it was given.
//!
//! This module tries once when told. When to try, how often, and what an answer means for the service is the core's
//! matter. Exec checks are processes and therefore the engine's; log lines and notifications are heard, not tried.

mod address;
mod answer;
mod gate;
mod grpc;
mod http;
mod outside;
mod post;
mod tls;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keepwell_core::time::Human;
use keepwell_core::{Input, Outcome, ProbeId, RunId, Wall};
use keepwell_os::{files, in_words};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::log::Sign;
use crate::message::{EngineHandle, Message};
use address::Address;
use gate::Gate;
use grpc::GrpcCheck;
use http::HttpCheck;

pub use http::{HttpAsk, StatusRange, StopRequest};
pub use outside::{Item, Outside, What};
pub use post::{PostAnswer, post};
pub use tls::TlsFiles;

/// One thing to try, understood and ready.
#[derive(Debug)]
pub struct Check(Kind);

#[derive(Debug)]
enum Kind {
    Http(Box<HttpCheck>),
    Tcp(Address),
    Unix(PathBuf),
    Pipe(String),
    Grpc(Box<GrpcCheck>),
    Line(Line),
    File(PathBuf, Since, Gate),
    Fresh(PathBuf, Duration, Gate),
}

/// A line of output, and what it means that it came.
#[derive(Debug)]
struct Line {
    sign: Arc<Sign>,
    pattern: String,
    rule: LineRule,
}

/// See [`Check::line`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineRule {
    /// It must have come.
    Once,
    /// It must not be longer ago than this.
    Within(Duration),
    /// It must be longer ago than this.
    NotWithin(Duration),
}

impl Line {
    fn attempt(&self) -> Result<(), Failure> {
        let (now, pattern) = (keepwell_os::clock::now().mono, &self.pattern);
        let age = self.sign.age(now);
        let wrong = match self.rule {
            LineRule::Once => age.is_none().then(|| format!("no line has matched `{pattern}` yet")),
            LineRule::Within(within) => {
                let age = age.unwrap_or_else(|| self.sign.watched(now));
                (age > within).then(|| format!("no line has matched `{pattern}` for {}", Human(age)))
            }
            LineRule::NotWithin(within) => age
                .filter(|age| *age <= within)
                .map(|age| format!("a line matched `{pattern}` {} ago", Human(age))),
        };
        wrong.map_or(Ok(()), |why| Err(Failure::Service(why)))
    }
}

/// From when on a file counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Since(SystemTime);

impl Since {
    /// What was changed at this moment or later, as far as the clock of file systems tells.
    #[must_use]
    pub fn wall(at: Wall) -> Since {
        Since(UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0)))
    }

    fn covers(self, changed: SystemTime) -> bool {
        let parts = changed.duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        changed + if parts == 0 { COARSE } else { TICK } >= self.0
    }
}

/// The kernel dates files by the last tick of its clock: 100 a second at the least, and our own times are cut to 1 ms.
const TICK: Duration = Duration::from_millis(11);
/// The longest step of file systems that keep no parts of a second: FAT's.
const COARSE: Duration = Duration::from_secs(2);

impl Check {
    /// One request by HTTP/1.1. Follows no redirect: a service that answers with one is up.
    ///
    /// # Errors
    /// When the URL or a header is none, in words for the operator.
    pub fn http(ask: HttpAsk) -> Result<Check, String> {
        HttpCheck::new(ask).map(|c| Check(Kind::Http(Box::new(c))))
    }

    /// Passes when `address` (`host:port`, `[::1]:port`) takes a connection.
    ///
    /// # Errors
    /// When it is no address, in words for the operator.
    pub fn tcp(address: &str) -> Result<Check, String> {
        Address::parse(address).map(|a| Check(Kind::Tcp(a)))
    }

    /// Passes when the stream socket at `path` takes a connection.
    #[must_use]
    pub fn unix(path: PathBuf) -> Check {
        Check(Kind::Unix(path))
    }

    /// Passes when the named pipe takes a connection: `\\.\pipe\name`, or the name alone.
    #[must_use]
    pub fn pipe(name: String) -> Check {
        Check(Kind::Pipe(name))
    }

    /// Passes when the health service of gRPC there says that `service` is serving; empty: the whole server. `tls`: over TLS.
    ///
    /// # Errors
    /// When it is no address, in words for the operator.
    pub fn grpc(host: &str, port: u16, service: String, tls: Option<TlsFiles>) -> Result<Check, String> {
        GrpcCheck::new(host, port, service, tls).map(|c| Check(Kind::Grpc(Box::new(c))))
    }

    /// Passes by when a line that matches `pattern` came, which the log path tells by `sign`.
    #[must_use]
    pub fn line(sign: Arc<Sign>, pattern: String, rule: LineRule) -> Check {
        Check(Kind::Line(Line { sign, pattern, rule }))
    }

    /// Passes when what is at `path` was made or changed within that time before the look.
    #[must_use]
    pub fn fresh(path: PathBuf, within: Duration) -> Check {
        Check(Kind::Fresh(path, within, Gate::new()))
    }

    /// What it asks depends on when the run began, by a clock that may have been set since.
    pub(crate) fn dates_from_the_start(&self) -> bool {
        matches!(self.0, Kind::File(..))
    }

    /// Passes when there is something at `path` that was made or changed since then.
    #[must_use]
    pub fn file(path: PathBuf, since: Since) -> Check {
        Check(Kind::File(path, since, Gate::new()))
    }
}

/// Tries once; never takes longer than `timeout`. What fails for want of descriptors or memory of our own is `Unknown`,
/// since it says nothing of the service.
pub async fn attempt(check: &Check, timeout: Duration) -> Outcome {
    let limit = Limit { at: Instant::now() + timeout, whole: timeout };
    let tried = match &check.0 {
        Kind::Http(http) => http.attempt(limit).await,
        Kind::Tcp(address) => address.connect(limit).await.map(drop),
        Kind::Unix(path) => connect_local(path, limit).await,
        Kind::Pipe(name) => connect_pipe(name, limit).await,
        Kind::Grpc(grpc) => grpc.attempt(limit).await,
        Kind::Line(line) => line.attempt(),
        Kind::File(path, since, gate) => exists(path, *since, gate, limit).await,
        Kind::Fresh(path, within, gate) => is_fresh(path, *within, gate, limit).await,
    };
    match tried {
        Ok(()) => Outcome::Pass,
        Err(Failure::Service(why)) => Outcome::Fail(why),
        Err(Failure::Ours(why)) => Outcome::Unknown(why),
    }
}

/// How long one attempt may take.
#[derive(Clone, Copy)]
struct Limit {
    at: Instant,
    whole: Duration,
}

impl Limit {
    /// Waits for `future`, or fails with "`what` within 1 s".
    async fn run<T>(
        self,
        what: impl FnOnce() -> String,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        timeout_at(self.at, future)
            .await
            .map_err(|_| Failure::Service(format!("{} within {}", what(), Human(self.whole))))
    }
}

/// Why an attempt did not pass.
#[derive(Debug)]
enum Failure {
    /// It tells of the service.
    Service(String),
    /// It tells of this host or of keepwell.
    Ours(String),
}

impl Failure {
    /// Words for an error of the system about `target`.
    fn of(error: &io::Error, target: &str) -> Failure {
        use io::ErrorKind as Kind;
        if error.raw_os_error().is_some_and(keepwell_os::is_shortage) {
            return Failure::Ours(format!("could not try: keepwell lacks resources ({})", in_words(error)));
        }
        if let Some(text) = tls::words(error, target) {
            return Failure::Service(text);
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "the standard library's list of kinds is open")]
        let text = match error.kind() {
            Kind::ConnectionRefused => format!("connection refused by {target}"),
            Kind::ConnectionReset | Kind::BrokenPipe => format!("connection reset by {target}"),
            Kind::TimedOut => format!("no connection to {target}: timed out"),
            Kind::HostUnreachable | Kind::NetworkUnreachable => format!("{target} cannot be reached"),
            Kind::AddrNotAvailable => format!("{target} is no address of this host"),
            Kind::NotFound => format!("{target} does not exist"),
            Kind::UnexpectedEof => format!("{target} closed the connection without an answer"),
            Kind::PermissionDenied => format!("permission denied on {target}"),
            _ => format!("{target}: {}", in_words(error)),
        };
        Failure::Service(text)
    }
}

async fn connect_local(path: &Path, limit: Limit) -> Result<(), Failure> {
    let name = path.display().to_string();
    let connected =
        limit.run(|| format!("{name} took no connection"), keepwell_os::local::connect(path)).await?;
    match connected {
        Ok(_stream) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            Err(Failure::Service(format!("nobody listens on {name}")))
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            Err(Failure::Service(format!("{name} takes no more connections: its queue is full")))
        }
        Err(e) => Err(Failure::of(&e, &name)),
    }
}

async fn connect_pipe(name: &str, limit: Limit) -> Result<(), Failure> {
    let connected = limit
        .run(|| format!("the pipe {name} took no connection"), keepwell_os::local::try_pipe(name))
        .await?;
    connected.map_err(|e| match e.kind() == io::ErrorKind::NotFound {
        true => Failure::Service(format!("there is no pipe {name}")),
        false => Failure::of(&e, name),
    })
}

async fn changed_at(path: &Path, gate: &Gate, limit: Limit) -> Result<SystemTime, Failure> {
    let name = path.display().to_string();
    let path = path.to_owned();
    // A look at a file may hang with its file system, so it must not happen on the runtime's own thread.
    let looked =
        limit.run(|| format!("could not look at {name}"), gate.run(move || files::changed_at(&path))).await?;
    looked.map_err(|e| Failure::of(&e, &name))
}

async fn is_fresh(path: &Path, within: Duration, gate: &Gate, limit: Limit) -> Result<(), Failure> {
    let changed = changed_at(path, gate, limit).await?;
    // A clock that was set back makes no file old.
    match SystemTime::now().duration_since(changed) {
        Ok(age) if age > within => {
            Err(Failure::Service(format!("{} was last written {} ago", path.display(), Human(age))))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn exists(path: &Path, since: Since, gate: &Gate, limit: Limit) -> Result<(), Failure> {
    let name = path.display().to_string();
    let changed = changed_at(path, gate, limit).await?;
    if since.covers(changed) {
        return Ok(());
    }
    Err(Failure::Service(format!("{name} is from before this start and was not written again")))
}

/// Runs attempts in the background and hands their answers to the engine.
pub struct Prober {
    runtime: Handle,
    engine: EngineHandle,
    under_way: Arc<Mutex<BTreeMap<ProbeId, AbortHandle>>>,
}

impl Prober {
    /// Runs them on `runtime`, which must have its timer and its IO enabled.
    #[must_use]
    pub fn new(runtime: Handle, engine: EngineHandle) -> Prober {
        Prober { runtime, engine, under_way: Arc::default() }
    }

    /// Starts an attempt. `Input::Probe` with this id follows within `timeout`, unless it is cancelled.
    pub fn start(&self, probe: ProbeId, check: Arc<Check>, timeout: Duration) {
        let (engine, under_way) = (self.engine.clone(), Arc::clone(&self.under_way));
        // Held until the attempt is entered, so that one that is over at once finds itself to remove.
        let mut entered = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let task = self.runtime.spawn(async move {
            let outcome = attempt(&check, timeout).await;
            engine.deliver(Message::Input(Input::Probe { probe, outcome })).await;
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&probe);
        });
        entered.insert(probe, task.abort_handle());
    }

    /// Looks at what a service waits for. `Input::Probe` with this id follows within `timeout`.
    pub fn look(&self, probe: ProbeId, outside: Arc<Outside>, timeout: Duration) {
        let engine = self.engine.clone();
        self.runtime.spawn(async move {
            let outcome = outside::look(&outside, timeout).await;
            engine.deliver(Message::Input(Input::Probe { probe, outcome })).await;
        });
    }

    /// Sends the request of a step of the stop ladder. `Input::AskedToStop` follows, unless no answer comes within `timeout`:
    /// then the core's own clock says that the step is over.
    pub fn ask_to_stop(&self, run: RunId, step: u32, request: StopRequest, timeout: Duration) {
        let engine = self.engine.clone();
        self.runtime.spawn(async move {
            if let Ok(outcome) = tokio::time::timeout(timeout, request.send(timeout)).await {
                engine.deliver(Message::Input(Input::AskedToStop { run, step, outcome })).await;
            }
        });
    }

    /// Ends an attempt whose answer nobody waits for any more. One that is over already is left alone.
    pub fn cancel(&self, probe: ProbeId) {
        if let Some(task) = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&probe) {
            task.abort();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
