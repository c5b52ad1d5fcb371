//! One run of a service, whoever has started it: what has come and waits, the wish to stop, the state that was told.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::error::Error;
use crate::event::{Event, Reload};
use crate::inbox::{Inbox, Incoming};
use crate::runner::Host;
use crate::state::{Accept, Exit, State};
use crate::status::StatusHandle;
use crate::token::{Cause, Stop, StopToken};
use crate::wakers::Wakers;

pub(crate) struct Runtime {
    pub(crate) host: Host,
    pub(crate) status: StatusHandle,
    pub(crate) stop: StopToken,
    inbox: Arc<Inbox>,
    stop_within: Duration,
    queue: Mutex<Queue>,
    changed: Condvar,
    futures: AtomicU64,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Control>,
    wakers: Wakers,
}

impl Runtime {
    pub(crate) fn new(
        host: Host,
        status: StatusHandle,
        inbox: Arc<Inbox>,
        stop_within: Duration,
    ) -> Arc<Runtime> {
        Arc::new(Runtime {
            host,
            status,
            stop: StopToken::new(),
            inbox,
            stop_within,
            queue: Mutex::default(),
            changed: Condvar::new(),
            futures: AtomicU64::new(0),
        })
    }

    /// The thread that acts on what the manager's handler has posted; it goes when the service has ended.
    pub(crate) fn take_all(&self) {
        while let Some(incoming) = self.inbox.next() {
            self.deliver(incoming);
        }
    }

    /// Acts on what has come.
    pub(crate) fn deliver(&self, incoming: Incoming) {
        match incoming {
            Incoming::End(cause) => self.end(cause),
            Incoming::Control(Control::Stop) => self.end(Cause::Stop),
            Incoming::Control(Control::Shutdown) => self.end(Cause::Shutdown),
            Incoming::Control(Control::Preshutdown) => self.end(Cause::Preshutdown),
            Incoming::Control(control) => self.queue(control),
        }
    }

    /// The service is to end: the manager is told at once, then all who wait.
    pub(crate) fn end(&self, cause: Cause) {
        let given = self.status.link().time_to_end(cause);
        // The manager's limit is kept with some room for the end itself to be told.
        let within = given.map_or(self.stop_within, |given| self.stop_within.min(given.mul_f64(0.9)));
        let stop = Stop { cause, deadline: Instant::now() + within };
        if self.status.state() != State::StopPending {
            self.told(self.status.stopping(within));
        }
        self.stop.stop(stop);
        self.wake();
    }

    fn queue(&self, control: Control) {
        let state = self.status.state();
        let in_vain = match control {
            Control::Pause => !matches!(state, State::Running | State::ContinuePending),
            Control::Continue => !matches!(state, State::Paused | State::PausePending),
            _ => !self.inbox.accepted().contains(control.needs()),
        };
        if in_vain || self.stop.is_stopping() {
            self.inbox.taken();
            return;
        }
        self.queue_lock().events.push_back(control);
        self.wake();
    }

    fn wake(&self) {
        let wakers = self.queue_lock().wakers.take();
        self.changed.notify_all();
        wakers.wake();
    }

    /// Waits for an event, until `until` at most, and meanwhile keeps a watchdog quiet: who waits here is not stuck.
    pub(crate) fn next(self: &Arc<Runtime>, until: Option<Instant>) -> Option<Event> {
        let interval = self.status.link().beat_interval();
        loop {
            if interval.is_some() {
                self.status.link().beat();
            }
            let mut queue = self.queue_lock();
            if let Some(event) = self.take(&mut queue) {
                return Some(event);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            match [left, interval].into_iter().flatten().min() {
                // The lock is held from the look to the wait, so nothing that comes in between is missed.
                Some(time) => drop(self.changed.wait_timeout(queue, time)),
                None => drop(self.changed.wait(queue)),
            }
        }
    }

    pub(crate) fn poll(self: &Arc<Runtime>, number: u64, context: &Context<'_>) -> Poll<Event> {
        let mut queue = self.queue_lock();
        match self.take(&mut queue) {
            Some(event) => Poll::Ready(event),
            None => {
                queue.wakers.keep(number, context);
                Poll::Pending
            }
        }
    }

    pub(crate) fn new_future(&self) -> u64 {
        self.futures.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn forget_future(&self, number: u64) {
        self.queue_lock().wakers.forget(number);
    }

    fn take(self: &Arc<Runtime>, queue: &mut Queue) -> Option<Event> {
        if let Some(stop) = self.stop.get() {
            return Some(Event::Stop(stop));
        }
        let control = queue.events.pop_front()?;
        self.inbox.taken();
        Some(match control {
            Control::Pause => Event::Pause,
            Control::Continue => Event::Continue,
            Control::ParamChange => {
                self.status.link().reloading();
                Event::Reload(Reload(self.clone()))
            }
            Control::NetBind(change) => Event::NetBind(change),
            Control::Device(event) => Event::Device(event),
            Control::HardwareProfile(change) => Event::HardwareProfile(change),
            Control::Power(power) => Event::Power(power),
            Control::Session(change) => Event::Session(change),
            Control::Time(change) => Event::Time(change),
            Control::Trigger => Event::Trigger,
            Control::UserLogoff => Event::UserLogoff,
            Control::LowResources => Event::LowResources,
            Control::SystemLowResources => Event::SystemLowResources,
            Control::User(code) => Event::User(code),
            // These never come into the queue.
            Control::Stop | Control::Shutdown | Control::Preshutdown => return None,
        })
    }

    pub(crate) fn accept(&self, accept: Accept) {
        self.inbox.accept(accept);
    }

    pub(crate) fn accepted(&self) -> Accept {
        self.inbox.accepted()
    }

    pub(crate) fn reloaded(&self) {
        self.told(self.status.again());
    }

    /// The service has ended; this is the last that the manager hears.
    pub(crate) fn ended(&self, exit: Exit) {
        self.told(self.status.stopped(exit));
        self.inbox.close();
    }

    /// What could not be told does not stop a service. A state that cannot follow is no trouble either: a stop has come
    /// between.
    pub(crate) fn told(&self, answer: Result<(), Error>) {
        match answer {
            Ok(()) | Err(Error::Transition { .. }) => {}
            Err(error) => self.complain(&error.to_string()),
        }
    }

    /// Words for whoever runs the service: the manager's place for them, and the error output.
    pub(crate) fn complain(&self, text: &str) {
        self.status.link().tell(text);
        // Without an error output, or with a closed one, there is nobody to tell.
        let _ = writeln!(io::stderr(), "{text}");
    }

    fn queue_lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("host", &self.host)
            .field("status", &self.status.status())
            .field("stop", &self.stop.get())
            .finish()
    }
}
