//! What the values of the configuration may be: one element a file, with its type, its error text, its schema and its
//! tests. Nothing here knows of another element's value; what must fit together is checked in `build` and `check`.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "TOML's own types: each element takes a few of them, and all others are of the wrong type"
)]

pub(crate) mod affinity;
pub(crate) mod capability;
pub(crate) mod command;
pub(crate) mod cpu;
pub(crate) mod depends;
pub(crate) mod duration;
pub(crate) mod env;
pub(crate) mod escalation;
pub(crate) mod evidence;
pub(crate) mod guard;
pub(crate) mod guardian;
pub(crate) mod healing;
pub(crate) mod hooks;
pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod live;
pub(crate) mod log;
pub(crate) mod loopback;
pub(crate) mod notify;
pub(crate) mod probe;
pub(crate) mod ready;
pub(crate) mod request;
pub(crate) mod restart;
pub(crate) mod scalar;
pub(crate) mod service;
pub(crate) mod signal;
pub(crate) mod size;
pub(crate) mod stop;
pub(crate) mod wait_for;
