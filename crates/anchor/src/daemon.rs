//! The daemon's life: started, heard, given what is held, found dead or hanging, started again.

use std::ffi::OsString;
use std::time::Duration;

use keepwell_core::Mono;
use keepwell_os::host::Host;
use keepwell_os::ipc::Channel;
use keepwell_os::spawn::{Detached, Helper};
use keepwell_os::{AsHandle, Handle, ProcessStatus, Resource, Rlimit, SpawnRequest, limits, pipe, stop};

use crate::anchor::{Anchor, CHANNEL, WORDS};
use crate::codec::Decoder;
use crate::manager::Loudness;
use crate::outbox::Outbox;

/// Of what a daemon says on stderr, the last is kept.
const LAST_WORDS: usize = 4096;
/// A daemon that is up for this long has recovered from whatever ended the one before it.
const SOUND: Duration = Duration::from_secs(1);
/// A daemon that comes up but dies soon is replaced no slower than this: it decides something each time.
const SOON: Duration = Duration::from_millis(500);
/// With nothing to hold yet, this many failed starts are the end.
const FIRST_TRIES: u32 = 5;
/// Of the time after which a daemon hangs, this part is left when the wait has begun to look odd: a host that was
/// suspended, or an anchor that was stopped, finds the whole time gone at once.
const GRACE: u32 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Daemon {
    life: Option<Life>,
    /// When the next one is started.
    start_at: Mono,
    births: u32,
    failures: u32,
}

/// A daemon that was started and not reaped.
#[derive(Debug)]
pub(crate) struct Life {
    pid: u32,
    /// Gone when it has closed its end, or spoke nonsense.
    pub(crate) channel: Option<Channel>,
    pub(crate) decoder: Decoder,
    pub(crate) out: Outbox,
    stderr: Handle,
    words: Vec<u8>,
    up_since: Option<Mono>,
    /// Since when it owes an answer, and whether that has begun to look odd.
    owes_since: Option<Mono>,
    suspect: bool,
    hung: bool,
}

impl Daemon {
    pub(crate) fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// It has said that it is up.
    pub(crate) fn is_up(&self) -> bool {
        self.life.as_ref().is_some_and(|l| l.up_since.is_some())
    }

    /// The last ones did not come up, or did not stay. One that died is about to be replaced.
    pub(crate) fn has_failed(&self) -> bool {
        self.failures > 1 && !self.is_up()
    }

    pub(crate) fn life(&mut self) -> Option<&mut Life> {
        self.life.as_mut()
    }

    pub(crate) fn is(&self, pid: u32) -> bool {
        self.life.as_ref().is_some_and(|l| l.pid == pid)
    }

    /// How many there were before this one.
    pub(crate) fn rebirths(&self) -> u32 {
        self.births.saturating_sub(1)
    }
}

impl Life {
    /// It was told something that it must answer.
    pub(crate) fn owes(&mut self, now: Mono) {
        self.owes_since.get_or_insert(now);
    }

    /// It answered; `all`: everything.
    pub(crate) fn answered(&mut self, now: Mono, all: bool) {
        self.owes_since = if all { None } else { Some(now) };
        self.suspect = false;
    }
}

impl<H: Host> Anchor<H> {
    /// Starts a daemon when it is time, ends one that hangs. Returns when there is next something to do.
    pub(crate) fn tend_daemon(&mut self, now: Mono) -> Option<Mono> {
        if !self.daemon.is_alive() {
            if self.stop.needs_no_daemon() {
                return None;
            }
            if self.daemon.start_at > now {
                return Some(self.daemon.start_at);
            }
            self.start_daemon(now);
        }
        let hang = self.options.timing.hang;
        let Some(life) = &mut self.daemon.life else {
            return Some(if self.stop.needs_no_daemon() { now } else { self.daemon.start_at });
        };
        let at = life.owes_since? + if life.suspect { hang / GRACE } else { hang - hang / GRACE };
        if at > now {
            return Some(at);
        }
        if !life.suspect {
            (life.suspect, life.owes_since) = (true, Some(now));
            return Some(now + hang / GRACE);
        }
        self.end_hung_daemon("has not answered");
        None
    }

    pub(crate) fn end_hung_daemon(&mut self, how: &str) {
        let Some(life) = &mut self.daemon.life else { return };
        (life.owes_since, life.hung) = (None, true);
        let (pid, seconds) = (life.pid, self.options.timing.hang.as_secs());
        self.host.say(&format!("keepwell: the daemon (pid {pid}) {how} for {seconds} s; ending it\n"));
        self.host.signal(pid, stop::KILL);
    }

    fn start_daemon(&mut self, now: Mono) {
        self.daemon.births += 1;
        self.starting_goes_on();
        match self.make_daemon() {
            Ok(mut life) => {
                // Until it says hello, that is what it owes.
                life.owes(now);
                self.daemon.life = Some(life);
            }
            Err(why) => {
                self.host.say(&format!("keepwell: the daemon cannot be started: {why}\n"));
                self.daemon_failed(now, false);
            }
        }
    }

    fn make_daemon(&mut self) -> Result<Life, String> {
        let text = |e: std::io::Error| e.to_string();
        let (mut ours, theirs) = Channel::pair().map_err(text)?;
        let (read, write) = pipe::pipe().map_err(text)?;
        let mut request = helper_request(&self.options.daemon);
        request.rlimits.extend(daemon_limit());
        let detached = Detached { channel: theirs.as_handle(), stderr: write.as_handle() };
        let helper = Helper { program: self.program.as_handle(), detached: Some(detached) };
        let pid = self.host.helper(&request, helper).map_err(|e| e.to_string())?;
        let watched = ours
            .given_to(pid)
            .and_then(|()| self.host.watch(ours.as_handle(), CHANNEL))
            .and_then(|()| self.host.watch(read.as_handle(), WORDS));
        if let Err(e) = watched {
            // Unheard it is of no use; its end comes as every daemon's.
            self.host.signal(pid, stop::KILL);
            self.host.say(&format!("keepwell: the daemon cannot be heard: {e}\n"));
        }
        Ok(Life {
            pid,
            channel: Some(ours),
            decoder: Decoder::default(),
            out: Outbox::default(),
            stderr: read,
            words: Vec::new(),
            up_since: None,
            owes_since: None,
            suspect: false,
            hung: false,
        })
    }

    pub(crate) fn daemon_up(&mut self, text: &str) {
        let now = self.host.now();
        let Some(life) = &mut self.daemon.life else { return };
        life.up_since.get_or_insert(now);
        self.watch_listeners();
        self.host.tell_manager(&format!("STATUS={}", text.lines().next().unwrap_or_default()));
        if !std::mem::replace(&mut self.was_up, true) {
            self.manager_hears_up();
            self.start_view();
        }
    }

    fn start_view(&mut self) {
        let Some(arguments) = &self.options.view else { return };
        let helper = Helper { program: self.program.as_handle(), detached: None };
        match self.host.helper(&helper_request(arguments), helper) {
            Ok(pid) => self.view = Some(pid),
            Err(e) => self.host.say(&format!("keepwell: nothing will be shown here: {e}\n")),
        }
    }

    /// What the daemon says on stderr.
    pub(crate) fn hear_words(&mut self) {
        let Some(life) = &mut self.daemon.life else { return };
        let mut buffer = [0; LAST_WORDS];
        loop {
            match pipe::read(life.stderr.as_handle(), &mut buffer) {
                Ok(n @ 1..) => {
                    life.words.extend_from_slice(buffer.get(..n).unwrap_or_default());
                    let excess = life.words.len().saturating_sub(LAST_WORDS);
                    life.words.drain(..excess);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                _ => return self.host.unwatch(life.stderr.as_handle()),
            }
        }
    }

    /// Its process was reaped. What it had asked for is done before this.
    pub(crate) fn daemon_ended(&mut self, status: ProcessStatus) {
        self.hear_channel();
        self.hear_words();
        self.close_channel();
        let Some(life) = self.daemon.life.take() else { return };
        self.host.unwatch(life.stderr.as_handle());
        self.unwatch_listeners();
        self.output_abandoned();
        if self.stop.needs_no_daemon() {
            return;
        }
        let now = self.host.now();
        let up_for = life.up_since.map(|since| now.since(since));
        let words = String::from_utf8_lossy(&life.words);
        let words = words.trim_end();
        let how = describe(status);
        let killed = !life.hung && was_killed(status, words);
        if words.is_empty() {
            self.host.say(&format!("keepwell: the daemon (pid {}) ended: {how}\n", life.pid));
        } else {
            self.host.say(&format!(
                "keepwell: the daemon (pid {}) ended: {how}; its last words:\n{words}\n",
                life.pid
            ));
        }
        self.note(
            Loudness::Warning,
            &format!("the daemon ended ({how}); services run on, another is started"),
        );
        self.host
            .tell_manager(&format!("STATUS=the daemon ended ({how}); services run on, another is started"));
        // A kill from outside says nothing about the daemon, and one that was sound until now fails for the first time.
        if up_for.is_some_and(|t| t >= SOUND || killed) {
            self.daemon.failures = 0;
        }
        self.daemon_failed(now, up_for.is_some());
    }

    fn daemon_failed(&mut self, now: Mono, was_up: bool) {
        self.output_abandoned();
        let timing = self.options.timing;
        let longest = if was_up { SOON.min(timing.max_backoff) } else { timing.max_backoff };
        let failures = self.daemon.failures.saturating_add(1);
        let delay = timing.backoff.saturating_mul(1 << (failures - 1).min(16)).min(longest);
        self.daemon.failures = failures;
        self.daemon.start_at = now + delay;
        if !self.was_up && self.held.runs.is_empty() && failures >= FIRST_TRIES {
            let text =
                format!("keepwell: the daemon did not come up in {failures} attempts; nothing was started\n");
            self.finish(crate::protocol::Finish { code: 1, text });
        }
    }

    /// Nothing more is to be heard from it, or it spoke nonsense.
    pub(crate) fn close_channel(&mut self) {
        if let Some(channel) = self.daemon.life.as_mut().and_then(|l| l.channel.take()) {
            self.host.unwatch(channel.as_handle());
        }
    }

    /// Ends the daemon that is there, if one is.
    pub(crate) fn end_daemon(&mut self) {
        if let Some(life) = &self.daemon.life {
            self.host.signal(life.pid, stop::KILL);
        }
    }
}

/// A daemon may open a little less than its anchor. Both have about as many open for each service, and it is the daemon
/// that can say which service there is no more room for; an anchor that runs out of room would lose what it was handed.
fn daemon_limit() -> Option<Rlimit> {
    let hard = limits::get(Resource::Nofile).ok()?.hard?;
    let most = Some(hard - hard / 8);
    Some(Rlimit { resource: Resource::Nofile, soft: most, hard: most })
}

/// What is meant for the anchor alone stays with it: the service manager's addresses.
const OWN: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

fn helper_request(arguments: &[OsString]) -> SpawnRequest {
    let bytes = |s: &OsString| s.as_encoded_bytes().to_vec();
    let kept = std::env::vars_os().filter(|(name, _)| OWN.iter().all(|own| name != own));
    let entry = |(name, value): (OsString, OsString)| [bytes(&name), bytes(&value)].join(&b'=');
    SpawnRequest {
        argv: arguments.iter().map(bytes).collect(),
        env: kept.map(entry).collect(),
        ..SpawnRequest::default()
    }
}

/// Whether somebody else ended it. Where a kill leaves but a code of the killer's choice: a daemon that ends by itself says
/// why, and the codes of crashes are negative.
fn was_killed(status: ProcessStatus, words: &str) -> bool {
    match (status.signal, status.code) {
        (Some(signal), _) => signal == stop::KILL,
        (None, code) => words.is_empty() && code.is_some_and(|code| code >= 0),
    }
}

fn describe(status: ProcessStatus) -> String {
    match (status.code, status.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => stop::signal_name(signal),
        (None, None) => "nobody knows how".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_told_from_a_crash_and_from_an_end_with_a_reason() {
        let code = |code| ProcessStatus { code: Some(code), ..ProcessStatus::default() };
        let signal = |signal| ProcessStatus { signal: Some(signal), ..ProcessStatus::default() };
        assert!(was_killed(signal(stop::KILL), "words"));
        assert!(!was_killed(signal(stop::TERM), ""));
        assert!(was_killed(code(1), "") && was_killed(code(0), ""));
        assert!(!was_killed(code(101), "the daemon panicked"));
        // An access violation.
        assert!(!was_killed(code(-1_073_741_819), ""));
    }
}
