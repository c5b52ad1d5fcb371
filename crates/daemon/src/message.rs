//! What the other threads of the daemon say to the engine. Each question carries the way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use keepwell_core::event::Level;
use keepwell_core::guard::Usage;
use keepwell_core::{By, Command, Input, RunId, ServiceId};
use keepwell_os::wait::Waker;
use keepwell_sdk::wire;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use keepwell_core::seen::Standing;

use keepwell_config::NotifyConfig;

use crate::courier::{Delivery, Sender};
use crate::engine::reload::ReloadRead;
use crate::figures::{Figures, Health};
use crate::log::LogNews;

/// The way back of a question.
pub type Reply<T> = oneshot::Sender<Result<T, wire::Problem>>;

/// One message for the engine.
pub enum Message {
    /// An operator's command. Answered when its records are committed.
    Command {
        /// Who.
        by: By,
        /// What.
        command: Command,
        /// The accepted plan.
        reply: Reply<wire::CommandReply>,
    },
    /// The status of these services, or of all.
    Services {
        /// Names or instances; empty: all.
        names: Vec<String>,
        /// With what they use of the host, which takes the time to read it.
        usage: bool,
        /// In the order of names.
        reply: Reply<Vec<wire::Status>>,
    },
    /// All that is measured and counted, for monitoring.
    Figures {
        /// The way back, by the thread that reads what services use.
        reply: Reply<Box<Figures>>,
    },
    /// Whether these instances can be used.
    Standing {
        /// Name or instance.
        name: String,
        /// One an instance.
        reply: Reply<Vec<Standing>>,
    },
    /// Whether the engine works, and how many services there are.
    Health {
        /// The way back.
        reply: Reply<Health>,
    },
    /// Who is told by message, and in whose name.
    Receivers {
        /// The way back.
        reply: Reply<(Vec<Arc<NotifyConfig>>, Arc<Sender>)>,
    },
    /// An attempt to tell a receiver is over.
    Delivered {
        /// Whom.
        receiver: Box<str>,
        /// The message's number.
        number: u64,
        /// What became of it.
        delivery: Delivery,
    },
    /// Why each instance of `name` is as it is.
    Explain {
        /// Name or instance.
        name: String,
        /// One an instance.
        reply: Reply<Vec<wire::Explanation>>,
    },
    /// The incidents that are open.
    Incidents {
        /// In the order of the services' names.
        reply: Reply<Vec<wire::Incident>>,
    },
    /// Where an instance answers when it is ready.
    ReadyAt {
        /// Which.
        service: String,
        /// Host and port, if its check names such.
        reply: Reply<Option<(String, u16)>>,
    },
    /// The guardian.
    Info {
        /// About it.
        reply: Reply<wire::Info>,
    },
    /// Read the configuration file and take it on, or only plan to.
    Reload {
        /// Who.
        by: By,
        /// Only plan.
        dry_run: bool,
        /// The plan.
        reply: Reply<wire::ReloadReply>,
    },
    /// Which log slots these services have.
    LogSlots {
        /// Names or instances; empty: all.
        names: Vec<String>,
        /// Shown name and slot.
        reply: Reply<Vec<(String, u32)>>,
    },
    /// What runs use, as the engine asked.
    Usage(Vec<(RunId, Box<Usage>)>),
    /// A probe's answer, a readiness line, a notification, a changed program file.
    Input(Input),
    /// `STATUS=` of a run.
    StatusText {
        /// Whose.
        run: RunId,
        /// What it says of itself.
        text: String,
    },
    /// `MAINPID=` of a run.
    MainPid {
        /// Whose.
        run: RunId,
        /// The process to signal from now on.
        pid: u32,
    },
    /// Something worth telling happened outside the core.
    Told {
        /// Whom it concerns.
        service: Option<ServiceId>,
        /// How much it matters.
        level: Level,
        /// In plain words.
        text: String,
    },
    /// Answered at the end of the turn, when all that came before it is carried out and what follows is left with the anchor:
    /// whoever holds the only copy of a fact may then let go of it.
    Settled {
        /// The way back.
        reply: oneshot::Sender<()>,
    },
    /// The files of a reload were read and judged.
    ReloadRead(Box<ReloadRead>),
    /// The log path has something to tell.
    Log(LogNews),
    /// The store has written, or could not write, what was committed under this ticket.
    Committed {
        /// Given by the engine.
        ticket: u64,
        /// The error in words.
        result: Result<(), String>,
    },
}

/// The door to the engine's thread.
#[derive(Clone)]
pub struct EngineHandle {
    sender: SyncSender<Message>,
    waker: Waker,
    traffic: Arc<Traffic>,
}

/// How full the engine's door is.
#[derive(Default)]
struct Traffic {
    waiting: AtomicUsize,
    refused: AtomicU64,
}

/// Messages that may wait for the engine. It takes thousands a millisecond, so a full queue means that it hangs, and the
/// anchor will replace it; until then askers are told to try again.
pub const INBOX: usize = 1024;

/// After this long with a full queue the engine hangs, and the anchor replaces the whole daemon.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl EngineHandle {
    /// Makes the engine look whether there is something to do.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Joins the two halves of the engine's door.
    #[must_use]
    pub fn new(sender: SyncSender<Message>, waker: Waker) -> Self {
        Self { sender, waker, traffic: Arc::default() }
    }

    /// Hands over a message without waiting.
    ///
    /// # Errors
    /// Gives the message back when the queue is full or the engine is gone.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        // Before the engine can have taken it.
        self.traffic.waiting.fetch_add(1, Ordering::Relaxed);
        match self.sender.try_send(message) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(m) | TrySendError::Disconnected(m)) => {
                self.taken();
                self.traffic.refused.fetch_add(1, Ordering::Relaxed);
                Err(m)
            }
        }
    }

    /// The engine has taken a message.
    pub(crate) fn taken(&self) {
        self.traffic.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Messages that wait for the engine, and how many found no room so far.
    #[must_use]
    pub fn traffic(&self) -> (usize, u64) {
        let Traffic { waiting, refused } = &*self.traffic;
        (waiting.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
    }

    /// Hands over a message that must not be lost; waits while the queue is full. False: the engine is gone or hangs, and
    /// the message with it.
    pub async fn deliver(&self, message: Message) -> bool {
        let (give_up, mut pause) = (Instant::now() + PATIENCE, FIRST_PAUSE);
        let mut message = message;
        loop {
            message = match self.send(message) {
                Ok(()) => return true,
                Err(back) => back,
            };
            if Instant::now() >= give_up {
                return false;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
