//! What all connections of one instance share: when it beat last, what was wrong, what it reported.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keepwell_core::event::Level;
use keepwell_core::{Input, Mono, RunId, ServiceId};
use keepwell_sdk::heartbeat::{MAX_METRICS, Report};
use tokio::time::{Instant, sleep_until};

use crate::message::{EngineHandle, Message};

/// The engine is told of a service's beats no more often: it has better things to do, and the end of the beats is found this much
/// later at most.
pub(super) const SPACING: Duration = Duration::from_millis(50);
/// Clients of one run whose numbers are remembered; beyond that the one with the lowest name is forgotten.
const MAX_CLIENTS: usize = 256;

/// What came of an instance's beats in its present run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Pulse {
    /// When it beat last.
    pub last: Option<Mono>,
    /// Frames and connections that were refused.
    pub errors: u64,
    /// Numbers of the program's own.
    pub metrics: BTreeMap<String, f64>,
}

/// See the module.
pub(super) struct Shared {
    service: ServiceId,
    engine: EngineHandle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    run: Option<RunId>,
    pulse: Pulse,
    /// When the engine was last told of a beat.
    told: Option<Instant>,
    /// It will be told of the next ones.
    pending: bool,
    /// The highest number of each client.
    numbers: BTreeMap<String, u64>,
    status: String,
}

impl Shared {
    pub(super) fn new(service: ServiceId, engine: EngineHandle, run: Option<RunId>) -> Shared {
        Shared { service, engine, state: Mutex::new(State { run, ..State::default() }) }
    }

    pub(super) fn service(&self) -> &ServiceId {
        &self.service
    }

    pub(super) fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    pub(super) fn is_of(&self, run: RunId) -> bool {
        self.state().run == Some(run)
    }

    pub(super) fn pulse(&self) -> Option<Pulse> {
        let state = self.state();
        state.run.map(|_| state.pulse.clone())
    }

    pub(super) fn change_turn(&self, run: Option<RunId>) {
        let mut state = self.state();
        if state.pulse.errors > 0 {
            tracing::info!(service = %self.service, refused = state.pulse.errors, "heartbeat frames were refused");
        }
        *state = State { run, ..State::default() };
    }

    /// The run is alive: told to the engine at once, or soon for all that come until then.
    pub(super) fn beat(self: &Arc<Self>, run: RunId) {
        let mut state = self.state();
        if state.run != Some(run) {
            return;
        }
        state.pulse.last = Some(keepwell_os::clock::now().mono);
        if state.pending {
            return;
        }
        let (now, due) = (Instant::now(), state.told.map(|told| told + SPACING));
        if due.is_none_or(|due| due <= now) && self.engine.send(Message::Input(Input::Beat { run })).is_ok() {
            state.told = Some(now);
            return;
        }
        state.pending = true;
        drop(state);
        tokio::spawn(Arc::clone(self).beat_later(run, due.unwrap_or(now)));
    }

    async fn beat_later(self: Arc<Self>, run: RunId, due: Instant) {
        sleep_until(due).await;
        {
            let mut state = self.state();
            // Another run's beats are told by another task.
            if state.run != Some(run) {
                return;
            }
            state.pending = false;
            state.told = Some(Instant::now());
        }
        // An engine that does not take it hangs, and its daemon is replaced.
        self.engine.deliver(Message::Input(Input::Beat { run })).await;
    }

    /// Takes a report in; what the engine is to be told. A double is none.
    pub(super) fn report(&self, run: RunId, report: Report) -> Option<Message> {
        let mut state = self.state();
        if state.run != Some(run) || !state.is_new(&report) {
            return None;
        }
        for (name, value) in report.metrics {
            if state.pulse.metrics.len() < MAX_METRICS || state.pulse.metrics.contains_key(&name) {
                state.pulse.metrics.insert(name, value);
            }
        }
        let text = report.status.filter(|text| *text != state.status)?;
        state.status.clone_from(&text);
        Some(Message::StatusText { run, text })
    }

    /// Counts what was refused; told once a run.
    pub(super) fn wrong(&self, run: RunId, why: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.run != Some(run) {
            return;
        }
        state.pulse.errors += 1;
        if state.pulse.errors > 1 {
            return;
        }
        drop(state);
        let text = format!("a heartbeat was refused: {}", why());
        let told = Message::Told { service: Some(self.service.clone()), level: Level::Warn, text };
        if self.engine.send(told).is_err() {
            tracing::warn!(service = %self.service, "a heartbeat was refused");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_new(&mut self, report: &Report) -> bool {
        let Some(seq) = report.seq else { return true };
        let from = report.from.as_deref().unwrap_or_default();
        if let Some(highest) = self.numbers.get_mut(from) {
            let new = seq > *highest;
            *highest = seq.max(*highest);
            return new;
        }
        if self.numbers.len() >= MAX_CLIENTS {
            self.numbers.pop_first();
        }
        self.numbers.insert(from.to_owned(), seq);
        true
    }
}
