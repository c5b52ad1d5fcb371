//! The service manager above this process: what it asks, and what the anchor owes it.
//!
//! A manager wants to be told that something that takes long goes on: so long as what was promised last is not overdue, it is
//! told every ten seconds, and at once when a step was done. Who only said so by the clock would keep a service that hangs
//! looking busy for ever; so when a promise is over and nothing has come of it, no more is said.

use std::time::Duration;

use keepwell_core::{HostEvent, Mono};
use keepwell_os::host::Host;
use keepwell_os::stop as signals;
use keepwell_os::wait::Waker;

use crate::anchor::Anchor;
use crate::protocol::{Asked, Progress, Report};
use crate::stop::Stop;

/// What a manager asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// End in order; in words, who asks: `the service control manager`. Asked twice, it is no more urgent.
    Stop(String),
    /// Restart nothing until told to go on.
    Pause,
    /// Go on.
    Continue,
    /// Read the configuration again.
    Reload,
    /// Something happened to the host.
    News(HostEvent),
    /// Something that nobody needs to hear of.
    Nothing,
}

/// How this process is, for the manager.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Standing {
    /// Coming up.
    #[default]
    Starting,
    /// Up; controls are welcome.
    Running,
    /// About to be `Paused`.
    Pausing,
    /// Restarts nothing.
    Paused,
    /// About to be `Running` again.
    Continuing,
    /// Going down. The end of the process itself is told by whoever runs the anchor, when nothing of it is left.
    Stopping,
}

impl Standing {
    /// The manager waits for the next one.
    #[must_use]
    pub fn is_pending(self) -> bool {
        match self {
            Standing::Starting | Standing::Pausing | Standing::Continuing | Standing::Stopping => true,
            Standing::Running | Standing::Paused => false,
        }
    }
}

/// How loud a note is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loudness {
    /// For the record.
    Information,
    /// Worth a look.
    Warning,
    /// It will not mend itself.
    Error,
}

/// A manager that wants more than `sd_notify(3)` says.
pub trait Manager {
    /// From now on `waker` is used whenever there is something to take.
    fn attach(&mut self, waker: Waker);

    /// The next thing that it asks.
    fn take(&mut self) -> Option<Control>;

    /// A new standing, or a step further in a pending one; more will follow within this time. Never waits.
    fn tell(&mut self, standing: Standing, within: Duration);

    /// For the host's own journal.
    fn note(&mut self, loudness: Loudness, text: &str);
}

/// When a guardian counts as running.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RunningWhen {
    /// Its configuration is accepted and its API answers.
    #[default]
    Up,
    /// All that is to run is ready.
    Ready,
}

/// How often one that waits is told that it goes on. Both managers lose patience sooner or later: the SCM's clients after 30 s
/// without news, whatever they were promised.
const PULSE: Duration = Duration::from_secs(10);
/// Steps that follow each other faster are told together.
const TOGETHER: Duration = Duration::from_millis(500);
/// What is promised with a pulse: the next one, with room for a busy host.
const NEXT: Duration = Duration::from_secs(30);
/// A start that comes no further for this long is told as done all the same: nothing else lets an operator stop it.
const STUCK: Duration = Duration::from_secs(60);
/// Beyond a deadline, for what follows from it.
const MARGIN: Duration = Duration::from_secs(5);

/// What the anchor remembers of it.
#[derive(Default)]
pub(crate) struct Managed {
    manager: Option<Box<dyn Manager>>,
    standing: Standing,
    progress: Progress,
    /// Until when what goes on may take.
    promise: Mono,
    /// The last step.
    step_at: Mono,
    /// When the manager is next told that it goes on.
    pulse_at: Option<Mono>,
    /// The report whose acknowledgement ends `Pausing` or `Continuing`.
    awaited: Option<u64>,
    /// When the watchdog is next told.
    alive_at: Mono,
}

impl std::fmt::Debug for Managed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Managed").field("standing", &self.standing).finish_non_exhaustive()
    }
}

impl Managed {
    pub(crate) fn by(manager: Option<Box<dyn Manager>>) -> Managed {
        Managed { manager, ..Managed::default() }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.manager.is_some()
    }
}

impl<H: Host> Anchor<H> {
    /// The manager, if there is one, hears that the start begins.
    pub(crate) fn greet_manager(&mut self) {
        let now = self.host.now();
        let waker = self.host.waker();
        if let Some(manager) = &mut self.managed.manager {
            manager.attach(waker);
        }
        self.stand(Standing::Starting, now + self.options.timing.hang);
        self.heed_manager();
    }

    /// Does all that the manager has asked for.
    pub(crate) fn heed_manager(&mut self) {
        while let Some(control) = self.managed.manager.as_mut().and_then(|m| m.take()) {
            match control {
                Control::Stop(why) => self.end_in_order(&why),
                Control::Pause => self.ask_to(Asked::PAUSE, Standing::Pausing),
                Control::Continue => self.ask_to(Asked::CONTINUE, Standing::Continuing),
                Control::Reload => self.ask(Asked::RELOAD, String::new()),
                Control::News(event) => self.ask(Asked::NEWS, event.to_string()),
                Control::Nothing => {}
            }
        }
    }

    /// The console's events and signals, under a manager, are the same wish in other words: a second one is no more urgent.
    pub(crate) fn signalled(&mut self, signal: i32) {
        if self.managed.is_there() {
            self.end_in_order(&signals::signal_name(signal));
        } else {
            self.stop_requested(signal);
        }
    }

    fn ask_to(&mut self, what: u8, standing: Standing) {
        if self.managed.standing == Standing::Stopping {
            return;
        }
        self.ask(what, String::new());
        self.managed.awaited = Some(self.reports.last());
        let within = self.host.now() + self.options.timing.hang;
        self.stand(standing, within);
    }

    fn ask(&mut self, what: u8, text: String) {
        self.reports.push(|seq| Report::Asked(Asked { seq, what, text }));
    }

    /// The daemon has taken this in, and all before it.
    pub(crate) fn manager_awaited(&mut self, seq: u64) {
        if self.managed.awaited.is_none_or(|awaited| awaited > seq) {
            return;
        }
        self.managed.awaited = None;
        let now = self.host.now();
        match self.managed.standing {
            Standing::Pausing => self.stand(Standing::Paused, now),
            Standing::Continuing => self.stand(Standing::Running, now),
            Standing::Starting | Standing::Running | Standing::Paused | Standing::Stopping => {}
        }
    }

    /// What the daemon says of a start or a stop.
    pub(crate) fn progress(&mut self, progress: Progress) {
        let now = self.host.now();
        let before = std::mem::replace(&mut self.managed.progress, progress.clone());
        let until = Mono(progress.until) + MARGIN;
        if progress.stopping {
            if before.stopping {
                self.step(until);
            } else {
                self.stand(Standing::Stopping, until.max(now + MARGIN));
            }
            return;
        }
        if self.managed.standing == Standing::Starting && self.options.running_when == RunningWhen::Ready {
            if progress.left == 0 && self.was_up {
                self.started();
            } else if progress.left < before.left || progress.until != before.until {
                self.step(until);
            }
        }
    }

    /// A daemon was started, or ended: a start that has to try again has come no further, but it goes on.
    pub(crate) fn starting_goes_on(&mut self) {
        if self.managed.standing == Standing::Starting {
            let until = self.host.now() + self.options.timing.hang;
            self.step(until);
        }
    }

    /// The daemon answers.
    pub(crate) fn manager_hears_up(&mut self) {
        if self.managed.standing != Standing::Starting {
            return;
        }
        match self.options.running_when {
            RunningWhen::Up => self.started(),
            RunningWhen::Ready => self.starting_goes_on(),
        }
    }

    fn started(&mut self) {
        let failed = self.managed.progress.failed;
        if failed > 0 {
            self.note(Loudness::Warning, &format!("started, but {failed} services are not well"));
        }
        let now = self.host.now();
        self.stand(Standing::Running, now);
        self.host.tell_manager("READY=1");
    }

    /// Going down from now on, and when something is to have come of it.
    pub(crate) fn going_down(&mut self, until: Mono) {
        if self.managed.standing == Standing::Stopping {
            self.step(until);
        } else {
            self.host.tell_manager("STOPPING=1");
            self.stand(Standing::Stopping, until);
        }
    }

    /// For the host's journal, where there is a manager that keeps one.
    pub(crate) fn note(&mut self, loudness: Loudness, text: &str) {
        if let Some(manager) = &mut self.managed.manager {
            manager.note(loudness, text.trim_end());
        }
    }

    fn stand(&mut self, standing: Standing, until: Mono) {
        let now = self.host.now();
        let Managed { standing: stands, promise, step_at, pulse_at, .. } = &mut self.managed;
        (*stands, *promise, *step_at) = (standing, until, now);
        *pulse_at = standing.is_pending().then_some(now + PULSE);
        self.tell_standing();
    }

    /// Something was done; the next step is due by `until`.
    fn step(&mut self, until: Mono) {
        let now = self.host.now();
        let Managed { promise, step_at, pulse_at, .. } = &mut self.managed;
        (*promise, *step_at) = (until, now);
        *pulse_at = Some(pulse_at.map_or(now + TOGETHER, |at| at.min(now + TOGETHER)));
    }

    fn tell_standing(&mut self) {
        let standing = self.managed.standing;
        if matches!(standing, Standing::Starting | Standing::Stopping) {
            self.host.tell_manager(&format!("EXTEND_TIMEOUT_USEC={}", NEXT.as_micros()));
        }
        if let Some(manager) = &mut self.managed.manager {
            manager.tell(standing, NEXT);
        }
    }

    /// Tells that it goes on, where that is due and true. Returns when there is next something to tell.
    pub(crate) fn pulse(&mut self, now: Mono) -> Option<Mono> {
        let watchdog = self.tell_watchdog(now);
        let due = self.managed.pulse_at.filter(|_| self.managed.standing.is_pending());
        let next = match due {
            Some(at) if at > now => Some(at),
            Some(_) if self.managed.promise >= now || self.managed.step_at + PULSE >= now => {
                self.tell_standing();
                self.managed.pulse_at = Some(now + PULSE);
                self.managed.pulse_at
            }
            Some(_) => {
                self.managed.pulse_at = None;
                self.stuck(now)
            }
            None => self.stuck(now),
        };
        [watchdog, next].into_iter().flatten().min()
    }

    /// A start that is going nowhere must not shut its operator out.
    fn stuck(&mut self, now: Mono) -> Option<Mono> {
        if self.managed.standing != Standing::Starting || !self.was_up {
            return None;
        }
        let at = self.managed.step_at.max(self.managed.promise) + STUCK;
        if at > now {
            return Some(at);
        }
        let left = self.managed.progress.left;
        self.note(
            Loudness::Warning,
            &format!("{left} services are still not ready; they are waited for no longer"),
        );
        self.started();
        None
    }

    /// `WATCHDOG=1` twice within the time that systemd set: it says that this loop turns, and no more.
    fn tell_watchdog(&mut self, now: Mono) -> Option<Mono> {
        let interval = self.options.timing.watchdog?;
        if self.managed.alive_at <= now {
            self.host.tell_manager("WATCHDOG=1");
            self.managed.alive_at = now + interval / 2;
        }
        Some(self.managed.alive_at)
    }

    /// Ends in order, once: a manager that asks again is not in a greater hurry.
    fn end_in_order(&mut self, why: &str) {
        if matches!(self.stop, Stop::No) {
            self.ask_to_stop(signals::TERM, why.to_owned());
        }
    }
}
