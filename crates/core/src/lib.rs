//! Every decision of keepwell, pure.
//!
//! `handle(now, input)` goes in, `poll_effect` and `poll_event` come out, `next_deadline` says when to come back and
//! why. This crate never reads a clock, never does IO, never starts a thread, and draws its jitter from a seeded
//! generator: the same inputs give the same outputs, always.
#![no_std]
#![forbid(unsafe_code)]
// Every state and input is named in every decision; elsewhere the lint would speak of other people's enums too.
#![warn(clippy::wildcard_enum_match_arm)]

extern crate alloc;

pub mod command;
pub mod effect;
pub mod escalation;
pub mod event;
mod explain;
pub mod foresee;
mod graph;
pub mod guard;
pub mod host;
pub mod id;
pub mod incident;
mod invariants;
mod machine;
pub mod notify;
mod obey;
mod progress;
mod rebirth;
mod reload;
pub mod seen;
mod service;
pub mod spec;
mod status;
pub mod strain;
pub mod supervisor;
pub mod time;
mod words;

pub use command::{By, Command, CommandError, Plan, PlannedAction};
pub use effect::{Effect, Record, Role};
pub use event::{Event, EventKind};
pub use host::{HostEvent, SessionEvent};
pub use id::{ProbeId, RunId, ServiceId};
pub use progress::Progress;
pub use spec::{ServiceSpec, Specs};
pub use strain::HostLoad;
pub use supervisor::{Input, Outcome, Supervisor};
pub use time::{Mono, Now, Wall};
