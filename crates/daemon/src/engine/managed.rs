//! Under a service manager: what it asks besides a stop, and how far a start or a stop has come.

use keepwell_anchor::protocol::{Asked, Progress, Request};
use keepwell_core::event::Level;
use keepwell_core::{By, Command, HostEvent, Input, Now};

use super::{Engine, reload};

/// Who asks, for people.
pub(super) const MANAGER: &str = "the service manager";

impl Engine {
    pub(super) fn asked(&mut self, now: Now, asked: Asked) {
        match asked.what {
            Asked::PAUSE => {
                self.hold_all(now, |services| Command::Pause { services, freeze: false, stop_after: None })
            }
            Asked::CONTINUE => self.hold_all(now, |services| Command::Resume { services }),
            Asked::RELOAD => {
                // A refused configuration is an event of its own; nobody waits for the answer.
                let (reply, _) = tokio::sync::oneshot::channel();
                reload::read(self, By(MANAGER.into()), false, reply);
            }
            Asked::NEWS => match HostEvent::parse(&asked.text) {
                Some(event) => self.supervisor.handle(now, Input::Host(event)),
                // Of a later anchor: it says it in words at least.
                None => self.tell(now, None, Level::Info, asked.text),
            },
            // Of a later anchor.
            _ => {}
        }
    }

    fn hold_all(&mut self, now: Now, command: impl Fn(Vec<String>) -> Command) {
        let names: Vec<String> = self.supervisor.names().iter().map(|name| name.to_string()).collect();
        let by = By(MANAGER.into());
        for name in names {
            // One that is held already, or is not, stays so.
            if let Err(e) = self.supervisor.command(now, &by, &command(vec![name])) {
                tracing::debug!("{MANAGER} is not heard everywhere: {e}");
            }
        }
    }

    /// In the same turn as what has changed it, so that the acknowledgement of a request comes after it.
    pub(super) fn tell_progress(&mut self) {
        if !self.options.managed {
            return;
        }
        let made = self.supervisor.progress();
        let until = made.until.map_or(0, |at| at.0);
        let progress = Progress { stopping: made.stopping, left: made.left, failed: made.failed, until };
        if progress != self.progress {
            self.progress = progress.clone();
            self.link.send(&Request::Progress(progress), &[]);
        }
    }
}
