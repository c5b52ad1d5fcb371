//! Write a service once. It runs under the Windows service control manager, under systemd and in a terminal by itself, and is
//! tested without them.
//!
//! ```no_run
//! use keepwell_service::{Accept, Event, Failure, Starting};
//!
//! fn main() -> std::process::ExitCode {
//!     keepwell_service::run("ping", |starting: Starting| -> Result<(), Failure> {
//!         let running = starting.running(Accept::STOP_AND_SHUTDOWN);
//!         loop {
//!             if let Event::Stop(_) = running.next() {
//!                 return Ok(());
//!             }
//!         }
//!     })
//! }
//! ```
//!
//! - [`run`] is the one call, [`Service`] the one trait. The stages of a service are types ([`Starting`], [`Running`],
//!   [`Pausing`], [`Paused`], [`Continuing`], [`Stopping`]), so that what a stage does not know cannot be said in it.
//! - [`StopToken`] is the wish to end, with its deadline: to be asked, waited for, or awaited.
//! - [`Shutdown`] runs the end in phases, and names one that hangs.
//! - [`testing::Scm`] is a service control manager in memory, for tests on any system. It fails loudly when a service breaks
//!   the manager's rules.
//! - [`manager`] registers services with the host, changes, starts, stops and removes them.
//! - [`eventlog`] writes to Windows' event log, and makes the file of messages that a viewer wants.
//! - [`dispatch()`] is the lower entry, for programs with an event loop of their own.

mod control;
mod dispatch;
mod error;
mod event;
pub mod eventlog;
mod failure;
mod inbox;
pub mod manager;
mod outside;
mod runner;
mod runtime;
mod scm;
mod shutdown;
mod stages;
mod state;
mod status;
pub mod testing;
mod token;
mod wakers;

#[cfg(unix)]
#[path = "unix/mod.rs"]
mod system;

#[cfg(windows)]
#[path = "windows/mod.rs"]
mod system;

pub use self::control::{
    Answer, Control, DeviceEvent, HardwareProfile, NetBind, Power, SessionChange, SessionReason, TimeChange,
    UserCode,
};
pub use self::dispatch::{Started, dispatch};
pub use self::error::{Error, code};
pub use self::event::{Event, Reload};
pub use self::failure::Failure;
pub use self::runner::{Host, Runner, Service, run};
pub use self::shutdown::{Ended, Outcome, PhaseEnd, PhaseStep, Shutdown};
pub use self::stages::{
    Continuing, Handle, NextEvent, Paused, Pausing, Progress, Running, Starting, Stopping,
};
pub use self::state::{Accept, Exit, Pending, StartReason, State, Status};
pub use self::status::StatusHandle;
pub use self::token::{Cause, Stop, StopToken};

/// The guide, whose examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/service-crate.md")]
struct Guide;
