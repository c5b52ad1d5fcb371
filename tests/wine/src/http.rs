//! HTTP/1.1 as far as the tests need it: asking a port of this host, which Wine shares with Linux, and listening on one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Longer than any answer takes that is not a wait for something.
const PATIENCE: Duration = Duration::from_secs(10);

/// Status and body of a GET on a port of this host, if somebody answers.
#[must_use]
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let (code, body) = ask(port, path)?;
    Some((code, String::from_utf8_lossy(&body).into_owned()))
}

pub(crate) fn ask(port: u16, path: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    parts(&answer)
}

/// Status and body, in one piece or chunked (RFC 9112).
fn parts(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..split]).to_lowercase();
    let code = head.strip_prefix("http/1.1 ")?.get(..3)?.parse().ok()?;
    let mut rest = &answer[split + 4..];
    if !head.contains("transfer-encoding: chunked") {
        return Some((code, rest.to_vec()));
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = rest.get(line + 2..)?;
        if size == 0 {
            return Some((code, body));
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// Takes messages in JSON; the first so many are answered by 503.
#[derive(Debug)]
pub struct Hook {
    port: u16,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    /// On a port of its own.
    #[must_use]
    pub fn refusing(first: usize) -> Hook {
        let port = crate::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who goes away in the middle comes again.
                let _ = take(stream, &kept, first);
            }
        });
        Hook { port, bodies }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What came, refused or not.
    #[must_use]
    pub fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn take(stream: TcpStream, kept: &Mutex<Vec<Value>>, first: usize) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while reader.read_line(&mut head).ok()? > 2 {
        let last = head.lines().last().unwrap_or_default().to_lowercase();
        if let Some(n) = last.strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let number = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(serde_json::from_slice(&body).ok()?);
        kept.len()
    };
    let status = if number <= first { "503 Busy" } else { "200 OK" };
    write!(reader.into_inner(), "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()
}
