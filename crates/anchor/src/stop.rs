//! The end: asked for by the terminal or the service manager, ordered by the daemon, carried out here.
//!
//! A stop is the daemon's to conduct. The anchor conducts a plain one only when there is no daemon, and ends everything at
//! once only when it is asked a second time.

use keepwell_core::Mono;
use keepwell_os::host::Host;
use keepwell_os::stop as signals;

use crate::anchor::Anchor;
use crate::manager::Loudness;
use crate::protocol::{Finish, Report, StopRequested};

/// How far the end has come.
#[derive(Debug, Default)]
pub(crate) enum Stop {
    /// Nobody wants it.
    #[default]
    No,
    /// The daemon was asked.
    Asked {
        /// By which signal.
        signal: i32,
        /// If no daemon is up by then, the anchor stops everything itself.
        alone_at: Mono,
    },
    /// No daemon: every main process was asked to end.
    Alone {
        /// By which signal the stop was asked for.
        signal: i32,
        /// When the trees are killed; `None`: they were.
        kill_at: Option<Mono>,
    },
    /// A second time: everything is being killed.
    Urgent {
        /// By which signal.
        signal: i32,
    },
    /// The daemon said how it ends.
    Finishing(Finish),
}

impl Stop {
    /// Nothing is started any more.
    pub(crate) fn refuses_starts(&self) -> bool {
        match self {
            Stop::No | Stop::Asked { .. } => false,
            Stop::Alone { .. } | Stop::Urgent { .. } | Stop::Finishing(_) => true,
        }
    }

    /// A daemon that ends is not replaced.
    pub(crate) fn needs_no_daemon(&self) -> bool {
        self.refuses_starts()
    }
}

/// The last moments.
#[derive(Debug, Default)]
pub(crate) struct Farewell {
    /// When what is left of the trees is given up.
    grave: Option<Mono>,
    /// When daemon and view are no longer waited for.
    helpers: Option<Mono>,
}

impl<H: Host> Anchor<H> {
    /// A signal that means stop.
    pub(crate) fn stop_requested(&mut self, signal: i32) {
        let why = signals::signal_name(signal);
        match self.stop {
            Stop::No => self.ask_to_stop(signal, why),
            Stop::Asked { .. } | Stop::Alone { .. } => {
                self.stop = Stop::Urgent { signal };
                self.kill_all();
                self.reports.push(|seq| Report::StopRequested(StopRequested { seq, why, urgent: true }));
            }
            Stop::Urgent { .. } | Stop::Finishing(_) => self.kill_all(),
        }
    }

    /// The first wish to stop: the daemon's to conduct, if there is one.
    pub(crate) fn ask_to_stop(&mut self, signal: i32, why: String) {
        let alone_at = self.alone_at();
        self.stop = Stop::Asked { signal, alone_at };
        let until = self.host.now() + self.options.timing.hang;
        self.going_down(until);
        self.reports.push(|seq| Report::StopRequested(StopRequested { seq, why, urgent: false }));
    }

    /// A daemon that is up decides for itself; one that was never seen to fail gets time to come up.
    fn alone_at(&self) -> Mono {
        let now = self.host.now();
        if self.daemon.has_failed() { now } else { now + self.options.timing.hang }
    }

    pub(crate) fn finish(&mut self, finish: Finish) {
        if matches!(self.stop, Stop::Finishing(_)) {
            return;
        }
        // Somebody who asked twice is told by the code that it was not an ordered end.
        let code = match self.stop {
            Stop::Urgent { signal } => 128 + signal,
            Stop::No | Stop::Asked { .. } | Stop::Alone { .. } | Stop::Finishing(_) => finish.code,
        };
        if code != 0 && !finish.text.trim().is_empty() {
            self.note(Loudness::Error, &finish.text);
        }
        self.stop = Stop::Finishing(Finish { code, ..finish });
        let timing = self.options.timing;
        let until = self.host.now() + timing.grave + timing.farewell;
        self.going_down(until);
        self.kill_all();
    }

    /// Goes on with the end, if there is one. Returns when there is next something to do, or the exit code.
    pub(crate) fn stop_further(&mut self, now: Mono) -> Result<Option<Mono>, i32> {
        match self.stop {
            Stop::No => Ok(None),
            Stop::Asked { signal, alone_at } => {
                if self.daemon.is_up() {
                    return Ok(None);
                }
                if alone_at > now {
                    return Ok(Some(alone_at));
                }
                self.stop_alone(signal, now);
                Ok(Some(now))
            }
            Stop::Alone { signal, kill_at: Some(at) } if at <= now && !self.held.runs.is_empty() => {
                self.stop = Stop::Alone { signal, kill_at: None };
                self.kill_all();
                Ok(Some(now))
            }
            Stop::Alone { kill_at: Some(at), .. } if !self.held.runs.is_empty() => Ok(Some(at)),
            Stop::Alone { .. } => {
                // To a manager a stop that it asked for is no failure: it would start the service again.
                let code = i32::from(!self.managed.is_there());
                let lost = match self.unwritten() {
                    0 => String::new(),
                    n => format!("; {n} bytes of output that it would have written are lost"),
                };
                self.bury(now, &format!("keepwell: stopped everything without its daemon{lost}\n"), code)
            }
            Stop::Urgent { signal } => self.bury(now, "", 128 + signal),
            Stop::Finishing(Finish { code, ref text }) => {
                let text = text.clone();
                self.bury(now, &text, code)
            }
        }
    }

    fn stop_alone(&mut self, signal: i32, now: Mono) {
        let timing = self.options.timing;
        let kill_at = now + timing.stop;
        self.stop = Stop::Alone { signal, kill_at: Some(kill_at) };
        self.going_down(kill_at + timing.grave + timing.farewell);
        self.end_daemon();
        let mains = self.held.runs.values().filter(|r| r.pid != 0).map(|r| r.pid);
        for pid in mains.collect::<Vec<_>>() {
            self.host.signal(pid, signals::TERM);
        }
    }

    /// Waits for the trees, then for the helpers, each within its bound; then that is the end.
    fn bury(&mut self, now: Mono, text: &str, code: i32) -> Result<Option<Mono>, i32> {
        let timing = self.options.timing;
        let grave = *self.farewell.grave.get_or_insert(now + timing.grave);
        if !self.held.runs.is_empty() && now < grave {
            return Ok(Some(grave));
        }
        let helpers = *self.farewell.helpers.get_or_insert(now + timing.farewell);
        if !self.daemon.is_alive() {
            // The view, too, must not wait for an answer that cannot come.
            self.hang_up();
        }
        if (self.daemon.is_alive() || self.view.is_some()) && now < helpers {
            return Ok(Some(helpers));
        }
        self.end_daemon();
        if let Some(view) = self.view {
            self.host.signal(view, signals::KILL);
        }
        if !self.held.runs.is_empty() {
            let left = self.held.runs.len();
            self.host.say(&format!(
                "keepwell: {left} services could not be ended; the kernel holds their processes\n"
            ));
        }
        self.host.say(text);
        Err(code)
    }
}
