//! The blocking client.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::connection::{Answer, Connection};
use super::endpoint::Endpoint;
use super::frame::{ANSWER, Command, REFUSED, encode};
use super::outbox::{Backoff, Outbox};
use super::report::{Report, ReportError};
use super::{ENDPOINT_VARIABLE, TOKEN_VARIABLE};

/// A call waits no longer than twice this, once for a connection that has died, once for a new one.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Reports that wait at most: five minutes of one every five seconds.
const QUEUE: usize = 64;

/// What became of what was said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// keepwell has it, and all that waited before it.
    Delivered,
    /// keepwell cannot be reached just now. A beat is forgotten; the rest waits and is sent first, and in order, by a later
    /// call.
    Queued,
}

/// keepwell said no. What it refused is not said again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Its answer: a word of the protocol such as `token` or `payload`, and why.
    #[error("keepwell refused it: {0}")]
    Answered(String),
    /// It was not sent: no report may be so.
    #[error("it is no report: {0}")]
    Report(#[from] ReportError),
}

/// The way to the guardian of this program. It connects at its first use and again whenever it must. Calls never wait longer than
/// two seconds, and while keepwell cannot be reached most return at once.
pub struct Client {
    endpoint: Endpoint,
    token: Option<String>,
    timeout: Duration,
    connection: Option<Connection>,
    outbox: Outbox,
    backoff: Backoff,
    name: String,
    seq: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// The client for what `KEEPWELL_HEARTBEAT` and `KEEPWELL_TOKEN` say; `None`: nobody waits for beats.
    #[must_use]
    pub fn from_env() -> Option<Client> {
        let endpoint = std::env::var_os(ENDPOINT_VARIABLE).filter(|text| !text.is_empty())?;
        Some(Client::new(Endpoint::of(endpoint), std::env::var(TOKEN_VARIABLE).ok()))
    }

    /// A client for this endpoint. The token is needed over TCP only.
    #[must_use]
    pub fn new(endpoint: Endpoint, token: Option<String>) -> Client {
        Client {
            endpoint,
            token,
            timeout: TIMEOUT,
            connection: None,
            outbox: Outbox::new(QUEUE),
            backoff: Backoff::default(),
            name: name(),
            seq: 0,
        }
    }

    /// Waits so long for an answer, instead of a second.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    /// Keeps so many reports that could not be delivered, instead of 64. Beyond that the oldest is forgotten.
    #[must_use]
    pub fn queue(mut self, reports: usize) -> Client {
        self.outbox = Outbox::new(reports);
        self
    }

    /// The program works.
    ///
    /// # Errors
    /// keepwell does not take it.
    pub fn beat(&mut self) -> Result<Delivery, Refused> {
        if self.flush()? == Delivery::Queued {
            return Ok(Delivery::Queued);
        }
        let mut frame = Vec::new();
        encode(Command::Heartbeat as u8, &[], &mut frame);
        match self.attempt(&frame) {
            Ok(answer) => judge(&answer).map(|()| Delivery::Delivered),
            Err(_) => Ok(Delivery::Queued),
        }
    }

    /// The program is ready.
    ///
    /// # Errors
    /// keepwell does not take it, or something that waited before it.
    pub fn ready(&mut self) -> Result<Delivery, Refused> {
        self.say(Command::Ready, &[])
    }

    /// The program is on its way down, by its own will or because it was asked to.
    ///
    /// # Errors
    /// keepwell does not take it, or something that waited before it.
    pub fn stopping(&mut self) -> Result<Delivery, Refused> {
        self.say(Command::Stopping, &[])
    }

    /// The program needs so much longer, from now on, to become ready or to stop. Counted in milliseconds, at most 49 days.
    ///
    /// # Errors
    /// keepwell does not take it, or something that waited before it.
    pub fn extend_timeout(&mut self, by: Duration) -> Result<Delivery, Refused> {
        let millis = u32::try_from(by.as_millis()).unwrap_or(u32::MAX);
        self.say(Command::ExtendTimeout, &millis.to_le_bytes())
    }

    /// One line for operators, shown in `keepwell status`.
    ///
    /// # Errors
    /// keepwell does not take it, or something that waited before it.
    pub fn status(&mut self, text: &str) -> Result<Delivery, Refused> {
        self.report(Report { status: Some(text.to_owned()), ..Report::default() })
    }

    /// What the program says of itself. `from` and `seq` are filled in where they are absent.
    ///
    /// # Errors
    /// It is no report, or keepwell does not take it, or something that waited before it.
    pub fn report(&mut self, mut report: Report) -> Result<Delivery, Refused> {
        if report.seq.is_none() {
            report.from.get_or_insert_with(|| self.name.clone());
            report.seq = Some(self.seq + 1);
        }
        let payload = report.to_payload()?;
        self.seq += 1;
        self.say(Command::Status, &payload)
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// keepwell does not take the first of it, which is then forgotten; the rest still waits.
    pub fn flush(&mut self) -> Result<Delivery, Refused> {
        while let Some(frame) = self.outbox.first().map(<[u8]>::to_vec) {
            let Ok(answer) = self.attempt(&frame) else { return Ok(Delivery::Queued) };
            self.outbox.delivered();
            judge(&answer)?;
        }
        Ok(Delivery::Delivered)
    }

    /// How much waits.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// How many reports were forgotten because too many waited.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.outbox.forgotten()
    }

    fn say(&mut self, command: Command, payload: &[u8]) -> Result<Delivery, Refused> {
        let mut frame = Vec::new();
        encode(command as u8, payload, &mut frame);
        self.outbox.push(command, frame);
        self.flush()
    }

    fn attempt(&mut self, frame: &[u8]) -> io::Result<Answer> {
        if let Some(answer) = self.connection.as_mut().map(|c| c.exchange(frame, self.timeout)) {
            if let Ok(answer) = answer {
                return Ok(self.answered(answer));
            }
            // It was good before: keepwell has replaced its daemon, and the next one listens already.
            self.connection = None;
        }
        let now = Instant::now();
        if !self.backoff.is_due(now) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        match self.connect_and_send(frame) {
            Ok(answer) => {
                self.backoff.worked();
                Ok(self.answered(answer))
            }
            Err(error) => {
                self.connection = None;
                self.backoff.failed(Instant::now());
                Err(error)
            }
        }
    }

    fn connect_and_send(&mut self, frame: &[u8]) -> io::Result<Answer> {
        let connection = self.connection.insert(Connection::open(&self.endpoint, self.timeout)?);
        if let (Some(token), Endpoint::Tcp(_)) = (&self.token, &self.endpoint) {
            let mut hello = Vec::new();
            encode(Command::Hello as u8, token.as_bytes(), &mut hello);
            let answer = connection.exchange(&hello, self.timeout)?;
            if answer.command == REFUSED {
                return Ok(answer);
            }
        }
        connection.exchange(frame, self.timeout)
    }

    fn answered(&mut self, answer: Answer) -> Answer {
        // keepwell closes after most of its refusals, and a new connection is cheap after the others.
        if answer.command == REFUSED {
            self.connection = None;
        }
        answer
    }
}

fn judge(answer: &Answer) -> Result<(), Refused> {
    match answer.command {
        REFUSED => Err(Refused::Answered(String::from_utf8_lossy(&answer.payload).into_owned())),
        command if command & ANSWER != 0 => Ok(()),
        command => Err(Refused::Answered(format!("the answer {command:02X} is none"))),
    }
}

/// No two clients of one service have the same: neither two of one process, nor those of a process and of one that gets
/// its pid later.
fn name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    format!("{}-{}-{since:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
