//! Whether the daemon takes in those who knock: a connection that nobody accepts is as good a sign of a daemon that hangs
//! as a report that nobody answers.
//!
//! The first knock is looked at again after the time in which a daemon hangs, and until then no other wakes the anchor: so
//! clients cost it one wake-up each ten seconds at most, and nobody knocking costs none.

use std::collections::BTreeMap;
use std::time::Duration;

use keepwell_core::Mono;
use keepwell_os::AsHandle;
use keepwell_os::host::Host;

use crate::anchor::Anchor;

/// Tokens of listening handles in the waiter: this and a number.
const LISTENERS: u64 = 1 << 35;
/// Looks, one after the other, that must all find somebody waiting: a single look may find one who has just come.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// The listening handles among those that are kept.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    by_key: BTreeMap<Vec<u8>, Listener>,
    last: u64,
}

#[derive(Debug)]
struct Listener {
    token: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There is no daemon that should answer.
    Idle,
    /// Nobody waits; the first knock wakes.
    Watched,
    /// Somebody knocked; looked at again then, for the n-th time.
    Knocked { look_at: Mono, looks: u32 },
}

impl<H: Host> Anchor<H> {
    /// A handle is kept from now on.
    pub(crate) fn listen_on(&mut self, key: &[u8]) {
        self.listen_no_more(key);
        let Some(handle) = self.held.kept.get(key) else { return };
        if self.host.waiting_connection(handle.as_handle()).is_none() {
            return;
        }
        let Listeners { by_key, last } = &mut self.listeners;
        *last += 1;
        by_key.insert(key.to_vec(), Listener { token: LISTENERS | *last, state: State::Idle });
        if self.daemon.is_up() {
            self.watch_listeners();
        }
    }

    /// It is kept no longer; before it is closed.
    pub(crate) fn listen_no_more(&mut self, key: &[u8]) {
        let Some(listener) = self.listeners.by_key.remove(key) else { return };
        if let (State::Watched, Some(handle)) = (listener.state, self.held.kept.get(key)) {
            self.host.unwatch(handle.as_handle());
        }
    }

    /// There is a daemon that answers.
    pub(crate) fn watch_listeners(&mut self) {
        for (key, listener) in &mut self.listeners.by_key {
            let Some(handle) = self.held.kept.get(key) else { continue };
            if matches!(listener.state, State::Idle)
                && self.host.watch(handle.as_handle(), listener.token).is_ok()
            {
                listener.state = State::Watched;
            }
        }
    }

    /// There is none; whoever knocks waits for the next.
    pub(crate) fn unwatch_listeners(&mut self) {
        for (key, listener) in &mut self.listeners.by_key {
            if let (State::Watched, Some(handle)) = (&listener.state, self.held.kept.get(key)) {
                self.host.unwatch(handle.as_handle());
            }
            listener.state = State::Idle;
        }
    }

    /// Nobody will accept again: those who wait, and those who would come, learn it at once.
    pub(crate) fn hang_up(&mut self) {
        self.unwatch_listeners();
        self.listeners.by_key.clear();
        self.held.kept.retain(|_, handle| !self.host.is_endpoint(handle.as_handle()));
    }

    /// Whether this token is a listener's; then somebody knocked.
    pub(crate) fn knocked(&mut self, token: u64) -> bool {
        if token & LISTENERS == 0 {
            return false;
        }
        let look_at = self.host.now() + self.options.timing.hang;
        for (key, listener) in self.listeners.by_key.iter_mut().filter(|(_, l)| l.token == token) {
            if let Some(handle) = self.held.kept.get(key) {
                self.host.unwatch(handle.as_handle());
            }
            listener.state = State::Knocked { look_at, looks: 0 };
        }
        true
    }

    /// Looks again where it is time. Returns when the next look is due.
    pub(crate) fn look_at_listeners(&mut self, now: Mono) -> Option<Mono> {
        let mut next = None;
        let mut hangs = false;
        for (key, listener) in &mut self.listeners.by_key {
            let State::Knocked { look_at, looks } = &mut listener.state else { continue };
            if *look_at <= now {
                let waiting =
                    self.held.kept.get(key).and_then(|h| self.host.waiting_connection(h.as_handle()));
                if waiting != Some(true) {
                    listener.state = State::Idle;
                    continue;
                }
                *looks += 1;
                *look_at = now + BETWEEN_LOOKS;
                hangs |= *looks >= LOOKS;
            }
            next = Some(next.map_or(*look_at, |n: Mono| n.min(*look_at)));
        }
        if hangs {
            self.unwatch_listeners();
            self.end_hung_daemon("has not accepted a connection");
            return None;
        }
        if self.daemon.is_up() {
            self.watch_listeners();
        }
        next
    }
}
