//! keepwell's API, asked from Linux: a bridge inside Wine takes a TCP connection's bytes to the pipe and back.

use std::fs;
use std::path::Path;
use std::process::Child;

use keepwell_sdk::wire::{Event, Info, Status};
use serde::de::DeserializeOwned;

use crate::http::ask;
use crate::prefix::{Prefix, windows};
use crate::wait::wait_some;

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
        let (code, body) = ask(self.port, path)?;
        if code == 200 { serde_json::from_slice(&body).ok() } else { None }
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
