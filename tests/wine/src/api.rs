//! keepwell's API, asked from Linux: a bridge inside Wine takes a TCP connection's bytes to the pipe and back.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use keepwell_sdk::wire::{Event, Info, Status};
use serde::de::DeserializeOwned;

use crate::prefix::{Prefix, windows};
use crate::wait::wait_some;

/// Longer than any answer takes that is not a wait for something.
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to one guardian's API.
#[derive(Debug)]
pub struct Api {
    port: u16,
    bridge: Child,
}

impl Api {
    /// To the guardian of this state folder, which need not be there yet.
    #[must_use]
    pub fn of(prefix: &Prefix, state: &Path) -> Api {
        Api::of_folder(prefix, &windows(state))
    }

    /// The same for a folder by its name in Windows.
    #[must_use]
    pub fn of_folder(prefix: &Prefix, state: &str) -> Api {
        let pipe = pipe_of(&format!("{state}\\keepwell.sock"));
        let file = prefix.path(&format!("{}.port", pipe.rsplit('\\').next().unwrap_or_default()));
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bridge = prefix.start(&mut prefix.child(&["bridge", &name, &pipe]), "bridge");
        let port = wait_some("the bridge to the API", || fs::read_to_string(&file).ok()?.trim().parse().ok());
        Api { port, bridge }
    }

    /// An answer with status 200; `None` for another one, and while nobody answers.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: keepwell\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        serde_json::from_slice(&body(&answer)?).ok()
    }

    /// About the guardian; `None` while nobody answers.
    #[must_use]
    pub fn info(&self) -> Option<Info> {
        self.get("/v1/info")
    }

    /// Every instance; `None` while nobody answers.
    #[must_use]
    pub fn status(&self) -> Option<Vec<Status>> {
        self.get("/v1/services?usage=false")
    }

    /// Every event so far, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        wait_some("events", || self.get("/v1/events?limit=1000000"))
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.bridge.kill();
        let _ = self.bridge.wait();
    }
}

/// The pipe that stands for the path of a socket.
fn pipe_of(path: &str) -> String {
    // FNV-1a.
    let hash = path
        .to_lowercase()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!(r"\\.\pipe\keepwell-{hash:016x}")
}

/// The body of an HTTP answer with status 200, in one piece or chunked (RFC 9112).
fn body(answer: &[u8]) -> Option<Vec<u8>> {
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..split]).to_lowercase();
    let mut rest = &answer[split + 4..];
    if !head.starts_with("http/1.1 200") {
        return None;
    }
    if !head.contains("transfer-encoding: chunked") {
        return Some(rest.to_vec());
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = rest.get(line + 2..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
