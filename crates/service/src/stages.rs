//! The stages of a service as types: each offers what may be done in it, and leads to those that may follow. A stop may come
//! in every stage; it shows in the [`StopToken`], and as [`Event::Stop`].

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::runner::Host;
use crate::runtime::Runtime;
use crate::shutdown::{Ended, Shutdown};
use crate::state::{Accept, StartReason, State};
use crate::token::{Cause, Stop, StopToken};

/// The service's own way to its manager, which every part of the program may have a clone of.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Runtime>);

impl Handle {
    /// What the manager was told last.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.status.state()
    }

    /// Who has started the service.
    #[must_use]
    pub fn host(&self) -> Host {
        self.0.host
    }

    /// The wish to end.
    #[must_use]
    pub fn stop_token(&self) -> StopToken {
        self.0.stop.clone()
    }

    /// Has the service end, as if the manager had asked for it: what a part of it does that cannot go on.
    pub fn stop(&self) {
        self.0.end(Cause::Own);
    }

    /// Words for people who look at the service: `systemctl status` shows them. Windows has no such place.
    pub fn tell(&self, text: &str) {
        self.0.status.link().tell(text);
    }

    /// How often a watchdog wants to hear of the service, if one watches. Who waits in [`Running::next`] need not care; an
    /// async program calls [`Handle::beat`].
    #[must_use]
    pub fn beat_interval(&self) -> Option<Duration> {
        self.0.status.link().beat_interval()
    }

    /// Says to a watchdog that the service is alive. Call it from where a hang would show, not by a thread that only beats.
    pub fn beat(&self) {
        self.0.status.link().beat();
    }

    /// `SERVICE_STATUS_HANDLE`, as `RegisterPowerSettingNotification` and `RegisterDeviceNotification` want it; `None` where
    /// no service control manager is.
    #[must_use]
    pub fn raw_handle(&self) -> Option<usize> {
        self.0.status.raw_handle()
    }
}

/// Progress within one pending stage; it may be given to whatever part of the program makes it.
#[derive(Clone, Debug)]
pub struct Progress {
    runtime: Arc<Runtime>,
    stage: State,
}

impl Progress {
    /// A step was made, and the next will be within `next_within`. Says whether the stage still goes on; when it does not,
    /// nobody is told.
    ///
    /// The manager takes a service that makes no step for long to hang, and shows it so. Do not call this by a clock: then it
    /// could never find out.
    pub fn step(&self, next_within: Duration) -> bool {
        let runtime = &self.runtime;
        if runtime.status.state() != self.stage {
            return false;
        }
        let told = match self.stage {
            State::StartPending => runtime.status.starting(next_within),
            State::PausePending => runtime.status.pausing(next_within, runtime.accepted()),
            State::ContinuePending => runtime.status.continuing(next_within, runtime.accepted()),
            State::StopPending => runtime.status.stopping(next_within),
            State::Stopped | State::Running | State::Paused => Ok(()),
        };
        runtime.told(told);
        true
    }
}

/// What all stages share.
macro_rules! stage {
    ($name:ident) => {
        impl $name {
            /// The service's way to its manager, to be given to its parts.
            #[must_use]
            pub fn handle(&self) -> Handle {
                Handle(self.runtime.clone())
            }

            /// The wish to end, and until when.
            #[must_use]
            pub fn stop_token(&self) -> StopToken {
                self.runtime.stop.clone()
            }
        }
    };
}

/// What the stages that are on their way share.
macro_rules! pending_stage {
    ($name:ident, $state:ident) => {
        stage!($name);

        impl $name {
            /// A step was made, and the next will be within `next_within`: [`Progress::step`].
            pub fn step(&self, next_within: Duration) {
                self.progress().step(next_within);
            }

            /// The way to tell of steps, to be given to whatever makes them.
            #[must_use]
            pub fn progress(&self) -> Progress {
                Progress { runtime: self.runtime.clone(), stage: State::$state }
            }
        }
    };
}

/// What the stages in which events come share.
macro_rules! waiting_stage {
    ($name:ident) => {
        stage!($name);

        impl $name {
            /// Waits for what comes next. While a thread waits here, a watchdog is kept quiet.
            #[must_use]
            pub fn next(&self) -> Event {
                loop {
                    if let Some(event) = self.runtime.next(None) {
                        return event;
                    }
                }
            }

            /// The same, for this time at most.
            #[must_use]
            pub fn next_for(&self, time: Duration) -> Option<Event> {
                self.runtime.next(Some(Instant::now() + time))
            }

            /// The same without a thread, for any executor; an event is taken when the future is ready, so it may be dropped
            /// before.
            #[must_use]
            pub fn event(&self) -> NextEvent {
                NextEvent { number: self.runtime.new_future(), runtime: self.runtime.clone() }
            }

            /// Has the service stop, unless it was told to before.
            #[must_use]
            pub fn stopping(self) -> Stopping {
                Stopping::from(self.runtime)
            }
        }
    };
}

/// The service starts. On Windows no control comes yet; the manager waits until it runs, and other services with it. What
/// takes long may as well be done after [`Starting::running`].
#[derive(Debug)]
pub struct Starting {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) name: OsString,
    pub(crate) arguments: Vec<OsString>,
}

pending_stage!(Starting, StartPending);

impl Starting {
    /// The name under which the service is installed.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// What the manager was told to start it with (`sc start NAME …`); elsewhere empty. What stands in the command line is in
    /// [`std::env::args_os`], wherever the service runs.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// Why it was started, where the manager says it.
    #[must_use]
    pub fn reason(&self) -> Option<StartReason> {
        self.runtime.status.start_reason()
    }

    /// Who has started it.
    #[must_use]
    pub fn host(&self) -> Host {
        self.runtime.host
    }

    /// It runs, and accepts these.
    #[must_use]
    pub fn running(self, accept: Accept) -> Running {
        Running::begin(self.runtime, accept)
    }
}

/// The service runs.
#[derive(Debug)]
pub struct Running {
    runtime: Arc<Runtime>,
}

waiting_stage!(Running);

impl Running {
    fn begin(runtime: Arc<Runtime>, accept: Accept) -> Running {
        // First what is taken, then that it may come.
        runtime.accept(accept);
        runtime.told(runtime.status.running(accept));
        Running { runtime }
    }

    /// From now on it accepts these.
    pub fn accept(&self, accept: Accept) {
        self.runtime.accept(accept);
        self.runtime.told(self.runtime.status.running(accept));
    }

    /// It is about to pause, and will have made the first step within `within`.
    #[must_use]
    pub fn pausing(self, within: Duration) -> Pausing {
        let accept = self.runtime.accepted();
        self.runtime.told(self.runtime.status.pausing(within, accept));
        Pausing { runtime: self.runtime }
    }
}

/// The service is about to pause.
#[derive(Debug)]
pub struct Pausing {
    runtime: Arc<Runtime>,
}

pending_stage!(Pausing, PausePending);

impl Pausing {
    /// It pauses.
    #[must_use]
    pub fn paused(self) -> Paused {
        self.runtime.told(self.runtime.status.paused(self.runtime.accepted()));
        Paused { runtime: self.runtime }
    }

    /// It cannot, and runs on.
    #[must_use]
    pub fn running(self) -> Running {
        let accept = self.runtime.accepted();
        Running::begin(self.runtime, accept)
    }

    /// Has the service stop, unless it was told to before.
    #[must_use]
    pub fn stopping(self) -> Stopping {
        Stopping::from(self.runtime)
    }
}

/// The service is there and does nothing.
#[derive(Debug)]
pub struct Paused {
    runtime: Arc<Runtime>,
}

waiting_stage!(Paused);

impl Paused {
    /// It is about to run again, and will have made the first step within `within`.
    #[must_use]
    pub fn continuing(self, within: Duration) -> Continuing {
        let accept = self.runtime.accepted();
        self.runtime.told(self.runtime.status.continuing(within, accept));
        Continuing { runtime: self.runtime }
    }
}

/// The service is about to run again.
#[derive(Debug)]
pub struct Continuing {
    runtime: Arc<Runtime>,
}

pending_stage!(Continuing, ContinuePending);

impl Continuing {
    /// It runs.
    #[must_use]
    pub fn running(self) -> Running {
        let accept = self.runtime.accepted();
        Running::begin(self.runtime, accept)
    }

    /// It cannot, and pauses on.
    #[must_use]
    pub fn paused(self) -> Paused {
        self.runtime.told(self.runtime.status.paused(self.runtime.accepted()));
        Paused { runtime: self.runtime }
    }

    /// Has the service stop, unless it was told to before.
    #[must_use]
    pub fn stopping(self) -> Stopping {
        Stopping::from(self.runtime)
    }
}

/// The service stops. When its main function returns it has stopped, so return when all is done.
#[derive(Debug)]
pub struct Stopping {
    runtime: Arc<Runtime>,
    stop: Stop,
}

pending_stage!(Stopping, StopPending);

impl From<Arc<Runtime>> for Stopping {
    fn from(runtime: Arc<Runtime>) -> Stopping {
        if !runtime.stop.is_stopping() {
            runtime.end(Cause::Own);
        }
        // It is there now; this does not wait.
        let stop = runtime.stop.wait();
        Stopping { runtime, stop }
    }
}

impl Stopping {
    /// Why, and until when.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop
    }

    /// Runs the phases. Each that begins or ends is a step of progress; one that hangs is named, and the next begins.
    pub fn run(&self, shutdown: &Shutdown) -> Ended {
        let progress = self.progress();
        let step = move |next_within| {
            progress.step(next_within);
        };
        shutdown.run_telling(self.stop, Arc::new(step), &|text| self.runtime.complain(text))
    }
}

/// The future of [`Running::event`] and [`Paused::event`].
#[derive(Debug)]
pub struct NextEvent {
    runtime: Arc<Runtime>,
    number: u64,
}

impl Future for NextEvent {
    type Output = Event;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Event> {
        self.runtime.poll(self.number, context)
    }
}

impl Drop for NextEvent {
    fn drop(&mut self) {
        self.runtime.forget_future(self.number);
    }
}
