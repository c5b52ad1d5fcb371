//! keepwell's configuration: text to validated specification.
//!
//! `read_sources` reads the files, `load` turns their text into a [`Config`] or into every error that it holds, each with
//! its file, line and column, and [`ServiceConfig::resolve`] makes what one instance is started with. This crate decides
//! nothing, starts nothing and, but for the files named, reads nothing.
#![forbid(unsafe_code)]
#![expect(clippy::result_large_err, reason = "an error is made once, and then a person reads it")]

mod address;
mod budget;
mod build;
mod check;
mod config;
mod diagnostic;
mod element;
mod env_file;
mod host;
mod http;
mod keys;
mod load;
mod notify;
mod read;
mod render;
mod resolve;
mod schema;
mod source;
mod syntax;
mod template;

pub use config::{
    Account, Affinity, Beat, BeatBy, Bound, Command, Config, Context, CpuShare, Env, EnvValue, Evidence,
    GuardianConfig, HookCommands, Limits, LogConfig, LogLevel, Method, Outside, Profile, Ready, Rotate,
    ServiceConfig, StopAsk, StopHow, Wait, WhenDaemonGone,
};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use element::command::{Split, SplitError, split};
pub use element::duration::parse as parse_duration;
pub use element::signal::{signal_name, signal_number};
pub use element::size::parse as parse_size;
pub use host::Host;
pub use http::{
    GrpcAsk, GrpcTarget, HttpExpect, HttpRequest, HttpTarget, JsonValue, LineRule, Secret, TlsPaths,
};
pub use keepwell_core::spec::System;
pub use keys::{Change, Class, diff};
pub use load::load;
pub use notify::{NotifyConfig, NotifyFormat, NotifyTo};
pub use resolve::{
    ResolvedHooks, ResolvedLog, ResolvedOutside, ResolvedReady, ResolvedService, ResolvedStop,
};
pub use schema::{reference, schema, starter};
pub use source::{MAX_FILE, Source, read_sources};
