//! What a program says to the keepwell that guards it: that it works, and how it is. See `docs/heartbeat-protocol.md` for
//! the bytes.
//!
//! A beat says that the program's work goes on, so it belongs into the loop that does the work. A thread that does nothing but
//! beat proves nothing.
//!
//! ```no_run
//! use keepwell_sdk::heartbeat::Client;
//!
//! # fn work() {}
//! # fn main() -> Result<(), keepwell_sdk::heartbeat::Refused> {
//! // None: nobody waits for beats, as when the program is started by hand.
//! let mut guardian = Client::from_env();
//! loop {
//!     work();
//!     if let Some(guardian) = &mut guardian {
//!         guardian.beat()?;
//!     }
//! }
//! # }
//! ```

mod client;
mod connection;
mod endpoint;
mod frame;
mod outbox;
mod report;

#[cfg(feature = "async")]
mod asynchronous;

#[cfg(feature = "async")]
pub use asynchronous::AsyncClient;
pub use client::{Client, Delivery, Refused};
pub use endpoint::Endpoint;
pub use frame::{
    ANSWER, Command, Decoder, Frame, FrameError, HEADER, MAGIC, MAX_PAYLOAD, REFUSED, decode, encode,
};
pub use report::{MAX_METRICS, MAX_NAME, MAX_STATUS, Report, ReportError};

/// The environment's variable that names the endpoint: a socket's path, a pipe's name, or host:port.
pub const ENDPOINT_VARIABLE: &str = "KEEPWELL_HEARTBEAT";
/// The environment's variable that holds the service's token.
pub const TOKEN_VARIABLE: &str = "KEEPWELL_TOKEN";

/// The environment's variable that says how often to beat, in milliseconds.
pub const PERIOD_VARIABLE: &str = "KEEPWELL_HEARTBEAT_PERIOD_MS";

#[cfg(test)]
mod tests;
