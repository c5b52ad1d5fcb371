//! One service that was started in memory.

use std::ffi::OsString;
use std::fmt::Write;
use std::panic::panic_any;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Scm, rules};
use crate::control::{Answer, Control};
use crate::error::{Error, code};
use crate::scm::{Handler, Link, Main, Manager, RawStatus};
use crate::state::{Exit, Pending, StartReason, State, Status};
use crate::token::Cause;

/// A service that was started. It fails the test when it is dropped before its service has stopped, or after a rule was
/// broken, so end each test with [`Instance::wait`].
#[derive(Debug)]
pub struct Instance {
    world: Arc<World>,
    thread: Option<JoinHandle<Result<Exit, Error>>>,
}

impl Instance {
    pub(super) fn new(world: Arc<World>, thread: JoinHandle<Result<Exit, Error>>) -> Instance {
        Instance { world, thread: Some(thread) }
    }

    /// Sends a control, as the manager does: only where the state and the accepted controls allow it. Gives the status that
    /// was reported last when the handler has returned.
    ///
    /// # Errors
    /// 1062 before the start and after the end, 1061 in a pending state, 1052 when it is not accepted, 1053 when the handler
    /// hangs, and what the handler answers.
    pub fn control(&self, control: Control) -> Result<Status, Error> {
        self.world.control(control)
    }

    /// To stop: `sc stop`.
    ///
    /// # Errors
    /// As [`Instance::control`].
    pub fn stop(&self) -> Result<Status, Error> {
        self.control(Control::Stop)
    }

    /// The system shuts down: preshutdown to who accepts it, else shutdown to who accepts that.
    ///
    /// # Errors
    /// As [`Instance::control`].
    pub fn shut_down(&self) -> Result<Status, Error> {
        match self.control(Control::Preshutdown) {
            Err(error) if error.code() == Some(code::NOT_ACCEPTED) => self.control(Control::Shutdown),
            answer => answer,
        }
    }

    /// The status that was reported last.
    #[must_use]
    pub fn status(&self) -> Status {
        self.world.inside().now
    }

    /// All that was reported so far, in its order; the first is what the manager itself assumes.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        self.world.inside().history.clone()
    }

    /// The words for people so far: what has failed, or hangs.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        self.world.inside().words.clone()
    }

    /// Waits until the service is in this state.
    ///
    /// # Panics
    /// When that takes too long, or a rule was broken.
    #[track_caller]
    pub fn wait_for(&self, state: State) -> Status {
        self.world.wait(&format!("it is {state}"), |inside| inside.now.state() == state)
    }

    /// Waits until the service has made this many steps in its present pending state.
    ///
    /// # Panics
    /// When that takes too long, or a rule was broken.
    #[track_caller]
    pub fn wait_for_checkpoint(&self, checkpoint: u32) -> Status {
        self.world.wait(&format!("it has come to checkpoint {checkpoint}"), |inside| {
            inside.now.pending().is_some_and(|pending| pending.checkpoint >= checkpoint)
        })
    }

    /// Waits until the service has ended, and says how.
    ///
    /// # Panics
    /// When that takes too long, or a rule was broken.
    #[track_caller]
    pub fn wait(mut self) -> Exit {
        let status = self.world.wait("it has ended", |inside| inside.over);
        if let Some(thread) = self.thread.take() {
            // The dispatcher itself panics nowhere; the service's panics end with 1064.
            let _ = thread.join();
        }
        let broken = self.world.inside().broken.clone();
        assert!(broken.is_empty(), "{}", self.world.inside().told(&broken.join("; ")));
        status.exit().unwrap_or_default()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let inside = self.world.inside();
        let mut broken = inside.broken.clone();
        // After `wait` there is no thread, and all was looked at.
        if self.thread.is_some() && !inside.over {
            broken.push("its test has ended, and it still runs".to_owned());
        }
        if !broken.is_empty() && self.thread.is_some() && !thread::panicking() {
            let text = inside.told(&broken.join("; "));
            drop(inside);
            panic_any(text);
        }
    }
}

/// What the manager knows of the service.
#[derive(Debug)]
pub(super) struct World {
    scm: Scm,
    inside: Mutex<Inside>,
    changed: Condvar,
    /// The manager gives one control at a time.
    one: Mutex<()>,
}

struct Inside {
    now: Status,
    history: Vec<Status>,
    reported: Instant,
    words: Vec<String>,
    broken: Vec<String>,
    handler: Option<Arc<Handler>>,
    end_sent: bool,
    over: bool,
}

impl World {
    pub(super) fn new(scm: Scm) -> World {
        let first = Status::StartPending(Pending { checkpoint: 0, wait_hint: Duration::from_secs(2) });
        let inside = Inside {
            now: first,
            history: vec![first],
            reported: Instant::now(),
            words: Vec::new(),
            broken: Vec::new(),
            handler: None,
            end_sent: false,
            over: false,
        };
        World { scm, inside: Mutex::new(inside), changed: Condvar::new(), one: Mutex::new(()) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self, control: Control) -> Result<Status, Error> {
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let handler = {
            let inside = self.inside();
            let refused = |number| Err(Error::system(format!("send {control:?} to the service"), number));
            match inside.now.state() {
                State::Stopped => return refused(code::NOT_ACTIVE),
                State::StartPending | State::StopPending => return refused(code::NOT_NOW),
                State::Running | State::Paused | State::PausePending | State::ContinuePending => {}
            }
            if inside.end_sent {
                return refused(code::NOT_NOW);
            }
            // The manager knows nothing of what a service wants of user-defined controls.
            let user = matches!(control, Control::User(_));
            if !user && !inside.now.accepted().contains(control.needs()) {
                return refused(code::NOT_ACCEPTED);
            }
            inside.handler.clone()
        };
        let Some(handler) = handler else {
            return Err(Error::system("send a control to the service", code::NOT_ACTIVE));
        };
        let (sender, answers) = mpsc::sync_channel(1);
        let given = control.clone();
        thread::spawn(move || {
            let _ = sender.send(handler(given));
        });
        // A handler that panics sends nothing either.
        let answer = answers.recv_timeout(self.scm.handler_limit);
        let mut inside = self.inside();
        match answer {
            Ok(Answer::Taken) => {
                inside.end_sent |= control.is_end();
                Ok(inside.now)
            }
            Ok(answer) => Err(Error::system(format!("send {control:?} to the service"), answer.number())),
            Err(_) => {
                inside.broken.push(format!(
                    "its control handler did not return within {:?} from {control:?}",
                    self.scm.handler_limit
                ));
                self.changed.notify_all();
                Err(Error::system(format!("send {control:?} to the service"), code::NO_ANSWER))
            }
        }
    }

    #[track_caller]
    fn wait(&self, what: &str, mut is: impl FnMut(&Inside) -> bool) -> Status {
        let until = Instant::now() + self.scm.wait_limit;
        let mut inside = self.inside();
        loop {
            if is(&inside) {
                return inside.now;
            }
            if inside.over {
                inside.fail(&format!("it has ended before {what}"));
            }
            if !inside.broken.is_empty() {
                let broken = inside.broken.join("; ");
                inside.fail(&broken);
            }
            let now = Instant::now();
            let hang =
                inside.now.pending().map(|pending| inside.reported + pending.wait_hint + self.scm.patience);
            if hang.is_some_and(|hang| hang <= now) {
                let text = format!("it is {} and hangs: it has made no step in time", inside.now.state());
                inside.broken.push(text);
                continue;
            }
            if until <= now {
                inside.fail(&format!("{:?} were not enough until {what}", self.scm.wait_limit));
            }
            let time = hang.map_or(until, |hang| hang.min(until)) - now;
            inside = self.changed.wait_timeout(inside, time).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Inside {
    #[track_caller]
    fn fail(&self, text: &str) -> ! {
        panic!("{}", self.told(text));
    }

    fn told(&self, text: &str) -> String {
        let mut all = format!("the service: {text}\nit has reported:");
        for status in &self.history {
            let _ = write!(all, "\n  {status:?}");
        }
        for words in &self.words {
            let _ = write!(all, "\nit has said: {words}");
        }
        all
    }
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told(&self.broken.join("; ")))
    }
}

/// The process in which the service runs.
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) arguments: Vec<OsString>,
}

impl Manager for Process {
    fn dispatch(&self, _name: &str, handler: Handler, main: Main) -> Result<(), Error> {
        self.world.inside().handler = Some(Arc::new(handler));
        let (arguments, link) = (self.arguments.clone(), Arc::new(Connection(self.world.clone())));
        let main = thread::spawn(move || main(arguments, link));
        let panicked = main.join().is_err();
        let mut inside = self.world.inside();
        if panicked || inside.now.state() != State::Stopped {
            inside
                .broken
                .push("its process ended without a report that it has stopped (error 1067)".to_owned());
        }
        inside.over = true;
        inside.handler = None;
        drop(inside);
        self.world.changed.notify_all();
        Ok(())
    }
}

struct Connection(Arc<World>);

impl Link for Connection {
    fn report(&self, report: RawStatus) -> Result<(), Error> {
        let mut inside = self.0.inside();
        match rules::check(&inside.now, &report) {
            Ok(status) => {
                inside.now = status;
                inside.history.push(status);
                inside.reported = Instant::now();
            }
            Err(broken) => inside.broken.push(broken),
        }
        drop(inside);
        self.0.changed.notify_all();
        Ok(())
    }

    fn tell(&self, text: &str) {
        self.0.inside().words.push(text.to_owned());
    }

    fn beat(&self) {}

    fn beat_interval(&self) -> Option<Duration> {
        None
    }

    fn reloading(&self) {}

    fn start_reason(&self) -> Option<StartReason> {
        self.0.scm.start_reason
    }

    fn time_to_end(&self, cause: Cause) -> Option<Duration> {
        match cause {
            Cause::Shutdown | Cause::Preshutdown => self.0.scm.time_to_end,
            Cause::Stop | Cause::Interrupt | Cause::Hangup | Cause::Own => None,
        }
    }

    fn raw_handle(&self) -> Option<usize> {
        None
    }
}
