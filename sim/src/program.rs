//! How a process of the world behaves. A behaviour is chosen when the process is asked for, by chance or by a script.

use std::time::Duration;

use keepwell_core::event::{ExitStatus, SpawnErrorKind};

/// One process, from its start to its end.
#[derive(Clone, PartialEq, Debug)]
pub struct Behaviour {
    /// It cannot be started.
    pub refused: Option<(SpawnErrorKind, String)>,
    /// From the request to the news of its start.
    pub starts_in: Duration,
    /// It ends by itself, when and how.
    pub ends: Option<(Duration, ExitStatus)>,
    /// How long after a signal of the ladder it ends; `None`: it ignores signals.
    pub obeys_in: Option<Duration>,
    /// What comes of a request to stop.
    pub asked: Asked,
    /// Signals that cannot reach it.
    pub deaf_to: Vec<i32>,
    /// A kill works only this long after its start.
    pub unkillable: Duration,
    /// From a kill to its end.
    pub dies_in: Duration,
    /// It leaves children behind, for how long; `None`: none. They end with a kill only.
    pub leaves: Option<Duration>,
    /// When it is ready; `None`: never.
    pub ready_in: Option<Duration>,
    /// Its checks that go on fail from then until then after its start, although it runs.
    pub sick: Option<(Duration, Duration)>,
    /// Every so many probes fail although it is ready.
    pub flaps: u64,
    /// An answer that gets lost, or comes this much too late.
    pub probe_trouble: Option<ProbeTrouble>,
    /// It says that it stops, that long before it ends.
    pub announces_end: bool,
    /// Sends life signs and heartbeats as often.
    pub pings: Option<Duration>,
    /// From then until then after its start it sends none.
    pub silent: Option<(Duration, Duration)>,
    /// Its memory in bytes at its start, and how much more it is each minute.
    pub uses: Option<(u64, u64)>,
    /// Likewise its threads.
    pub threads: Option<(u64, u64)>,
}

/// What may go wrong with an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeTrouble {
    /// It never comes.
    Lost,
    /// It comes after the attempt's time.
    Late,
    /// The prober could not say.
    Unknown,
}

/// See [`Behaviour::asked`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// It is obeyed as a signal is.
    Heard,
    /// It is not.
    Refused(String),
    /// Nobody ever answers.
    Silence,
}

impl Default for Behaviour {
    /// Runs for ever, is ready at once, and does as it is told.
    fn default() -> Self {
        Self {
            refused: None,
            starts_in: Duration::from_millis(1),
            ends: None,
            obeys_in: Some(Duration::from_millis(20)),
            asked: Asked::Heard,
            deaf_to: Vec::new(),
            unkillable: Duration::ZERO,
            dies_in: Duration::from_millis(1),
            leaves: None,
            ready_in: Some(Duration::from_millis(100)),
            sick: None,
            flaps: 0,
            probe_trouble: None,
            announces_end: false,
            pings: Some(Duration::from_secs(1)),
            silent: None,
            uses: None,
            threads: None,
        }
    }
}
