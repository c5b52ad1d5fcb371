//! A world for the core: a fake host, faults and a virtual clock. `random` makes a case of a seed and holds it against
//! the invariants of ARCHITECTURE.md; `scenario` plays a script that an operator can read.

pub mod deed;
pub mod host;
pub mod incidents;
pub mod leaks;
pub mod ledger;
pub mod plant;
pub mod prng;
pub mod program;
pub mod random;
pub mod scenario;
pub mod trials;
pub mod words;
pub mod world;
