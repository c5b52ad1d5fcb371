//! The anchor as a service of the service control manager: the manager's controls become what an anchor understands, and its
//! standing becomes the manager's states. It decides nothing either.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use keepwell_core::{HostEvent, SessionEvent};
use keepwell_os::wait::Waker;
use keepwell_service::{
    Accept, Answer, Control as Told, Error, Exit, Power, SessionChange, SessionReason, StatusHandle, code,
};

use crate::manager::{Control, Loudness, Manager, Standing};
use crate::options::Options;
use crate::run_under;

/// From the first `RUNNING` on.
const ACCEPTED: [Accept; 7] = [
    Accept::STOP,
    Accept::SHUTDOWN,
    Accept::PRESHUTDOWN,
    Accept::PAUSE_CONTINUE,
    Accept::PARAM_CHANGE,
    Accept::POWER_EVENT,
    Accept::SESSION_CHANGE,
];
/// The manager gives one control at a time and the loop takes them within milliseconds; more than these have never waited.
const WAITING: usize = 64;
/// For the first words of a start: a predecessor may still have to end what it had started.
const FIRST: Duration = Duration::from_secs(30);
/// After a minute clients of the manager believe in a step only if its hint has grown, too.
const GROWTH: Duration = Duration::from_secs(1);

/// Runs an anchor as the service `name`, from its start to its end. To be called before anything else is done: `prepare`, which
/// may take its time, is called when the manager knows that the service is starting. The exit code that it may answer
/// instead becomes the service's, as does the anchor's.
///
/// # Errors
/// [`Error::NotAService`] when this process was started by somebody else: nothing was called then.
pub fn serve(
    name: &str,
    prepare: impl FnOnce() -> Result<Options, i32> + Send + 'static,
) -> Result<Exit, Error> {
    let desk = Arc::new(Desk::default());
    let taker = Arc::clone(&desk);
    keepwell_service::dispatch(
        name,
        move |told| desk.put(told),
        move |service| {
            // A manager that cannot be told anything will not be told the end either; the services are kept all the same.
            let _ = service.status.starting(FIRST);
            match prepare() {
                Ok(options) => exit(run_under(options, Some(Box::new(Scm::new(taker, service.status))))),
                Err(code) => exit(code),
            }
        },
    )
}

fn exit(code: i32) -> Exit {
    if code == 0 { Exit::Success } else { Exit::Specific(code.cast_unsigned()) }
}

/// Where controls wait for the anchor's loop.
#[derive(Default)]
struct Desk {
    waiting: Mutex<VecDeque<Control>>,
    waker: OnceLock<Waker>,
}

impl Desk {
    /// On a thread of the manager's, which waits for the answer before it gives a control to any service.
    fn put(&self, told: Told) -> Answer {
        let Some(control) = understood(&told) else { return Answer::Unknown };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING {
            return Answer::Refused(code::BUSY);
        }
        waiting.push_back(control);
        drop(waiting);
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
        Answer::Taken
    }

    fn take(&self) -> Option<Control> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// `None`: nothing that the anchor has accepted, so nothing that comes.
fn understood(told: &Told) -> Option<Control> {
    match told {
        Told::Stop => Some(Control::Stop("the service control manager".into())),
        Told::Preshutdown | Told::Shutdown => Some(Control::Stop("the system's shutdown".into())),
        Told::Pause => Some(Control::Pause),
        Told::Continue => Some(Control::Continue),
        Told::ParamChange => Some(Control::Reload),
        Told::Power(Power::Suspend) => Some(Control::News(HostEvent::Suspend)),
        Told::Power(Power::ResumeAutomatic) => Some(Control::News(HostEvent::Resume)),
        Told::Power(Power::StatusChange) => Some(Control::News(HostEvent::PowerChange)),
        // Anything else of power changes nothing for a service, but it was taken.
        Told::Power(_) => Some(Control::Nothing),
        Told::Session(change) => Some(session(*change)),
        _ => None,
    }
}

fn session(SessionChange { reason, session }: SessionChange) -> Control {
    let what = match reason {
        SessionReason::Logon => SessionEvent::Logon,
        SessionReason::Logoff => SessionEvent::Logoff,
        SessionReason::Lock => SessionEvent::Lock,
        SessionReason::Unlock => SessionEvent::Unlock,
        SessionReason::ConsoleConnect => SessionEvent::ConsoleConnect,
        SessionReason::ConsoleDisconnect => SessionEvent::ConsoleDisconnect,
        SessionReason::RemoteConnect => SessionEvent::RemoteConnect,
        SessionReason::RemoteDisconnect => SessionEvent::RemoteDisconnect,
        _ => return Control::Nothing,
    };
    Control::News(HostEvent::Session(what, session))
}

/// The manager, as the anchor sees it.
struct Scm {
    desk: Arc<Desk>,
    status: StatusHandle,
    /// Times that it was told of the same standing.
    told: (Standing, u32),
}

impl Scm {
    fn new(desk: Arc<Desk>, status: StatusHandle) -> Scm {
        Scm { desk, status, told: (Standing::Starting, 0) }
    }
}

impl Manager for Scm {
    fn attach(&mut self, waker: Waker) {
        // What came before it is taken now.
        let _ = self.desk.waker.set(waker);
    }

    fn take(&mut self) -> Option<Control> {
        self.desk.take()
    }

    fn tell(&mut self, standing: Standing, within: Duration) {
        let again = if self.told.0 == standing { self.told.1 + 1 } else { 0 };
        self.told = (standing, again);
        let within = within + GROWTH * again;
        let accepted = ACCEPTED.into_iter().fold(Accept::NOTHING, |all, one| all | one);
        let told = match standing {
            Standing::Starting => self.status.starting(within),
            Standing::Running => self.status.running(accepted),
            Standing::Pausing => self.status.pausing(within, accepted),
            Standing::Paused => self.status.paused(accepted),
            Standing::Continuing => self.status.continuing(within, accepted),
            Standing::Stopping => self.status.stopping(within),
        };
        if let Err(e) = told {
            self.note(Loudness::Warning, &format!("the service control manager was not told: {e}"));
        }
    }

    fn note(&mut self, _: Loudness, text: &str) {
        eprintln!("keepwell: {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_is_understood() {
        let news = |event| Some(Control::News(event));
        let shutdown = Some(Control::Stop("the system's shutdown".into()));
        assert_eq!(understood(&Told::Preshutdown), shutdown);
        assert_eq!(understood(&Told::Shutdown), shutdown);
        assert_eq!(understood(&Told::Stop), Some(Control::Stop("the service control manager".into())));
        assert_eq!(understood(&Told::Pause), Some(Control::Pause));
        assert_eq!(understood(&Told::Continue), Some(Control::Continue));
        assert_eq!(understood(&Told::ParamChange), Some(Control::Reload));
        assert_eq!(understood(&Told::Power(Power::Suspend)), news(HostEvent::Suspend));
        assert_eq!(understood(&Told::Power(Power::ResumeAutomatic)), news(HostEvent::Resume));
        assert_eq!(understood(&Told::Power(Power::StatusChange)), news(HostEvent::PowerChange));
        let locked = SessionChange { reason: SessionReason::Lock, session: 2 };
        assert_eq!(understood(&Told::Session(locked)), news(HostEvent::Session(SessionEvent::Lock, 2)));
        assert_eq!(understood(&Told::Power(Power::ResumeByUser)), Some(Control::Nothing));
        assert_eq!(understood(&Told::Trigger), None);
    }

    #[test]
    fn more_than_waits_is_refused_and_what_waits_keeps_its_order() {
        let desk = Desk::default();
        for _ in 0..WAITING {
            assert!(matches!(desk.put(Told::ParamChange), Answer::Taken));
        }
        assert!(matches!(desk.put(Told::Pause), Answer::Refused(code::BUSY)));
        assert_eq!(desk.take(), Some(Control::Reload));
        assert!(matches!(desk.put(Told::Stop), Answer::Taken));
        let last = std::iter::from_fn(|| desk.take()).last();
        assert!(matches!(last, Some(Control::Stop(_))));
    }
}
