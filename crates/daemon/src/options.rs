//! What the command line tells every daemon of one anchor. The anchor hands it on without reading it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// The configuration file, absolute; `None` under `keepwell run`.
    pub config: Option<PathBuf>,
    /// The configuration's text under `keepwell run`.
    pub inline: Option<String>,
    /// Relative paths of the configuration start here; absolute.
    pub base: PathBuf,
    /// State folder, absolute; made and locked by the command line.
    pub state_dir: PathBuf,
    /// `project`, `user` or `system`.
    pub scope: String,
    /// `up --all`: what operators had stopped is wanted again.
    pub clear_desired: bool,
    /// The anchor starts a view, which is to hear the end even of what ends at once.
    #[serde(default)]
    pub view: bool,
    /// `keepwell run`: one program; the guardian ends with its exit code.
    pub single: bool,
    /// A service manager wants to know how far a start or a stop has come.
    #[serde(default)]
    pub managed: bool,
    /// The name of the service of Windows that this is; what happens is reported to the event log then.
    #[serde(default)]
    pub service: Option<String>,
}

impl Options {
    /// For the anchor's opaque bytes. JSON, since daemons of several versions read what one command line wrote.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // A path that is no UTF-8 cannot be in JSON; the command line has refused it before.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// When the bytes are not what any version of `encode` writes, in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| format!("the anchor's options cannot be read: {e}"))
    }
}
