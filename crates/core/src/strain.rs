//! A host that is short of processors or memory: a program that answers late there need not be ill, and its restart would
//! make things worse. The figures are asked for when something has failed, never in between.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::effect::Effect;
use crate::event::{EventKind, Level};
use crate::id::{ProbeId, RunId};
use crate::service::Phase;
use crate::supervisor::{Outcome, Supervisor};
use crate::time::{Mono, Now};

/// What the host says of itself; `None`: it does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostLoad {
    /// Percent of the last ten seconds in which some program waited for a processor.
    pub processor_waits: Option<u8>,
    /// Programs that could run at this moment, those that do among them, for each processor.
    pub runnable: Option<u32>,
    /// Percent of the last ten seconds in which all programs of keepwell's own group waited for a processor: it is held back.
    pub group_held: Option<u8>,
    /// Percent of the last ten seconds in which all programs waited for memory.
    pub memory_stalls: Option<u8>,
    /// Percent of the memory that may be promised that is.
    pub committed: Option<u8>,
}

/// A program that has a tenth of a processor may miss any deadline that it keeps otherwise. Programs that wait say little
/// alone: with one more than there are processors somebody always waits, and nobody is late.
const RUNNABLE: u32 = 10;
/// The ten seconds must have been like this moment, where the host knows of them.
const PROCESSOR_WAITS: u8 = 80;
const GROUP_HELD: u8 = 80;
/// A fifth of the time is gone for everybody: systemd-oomd's default is 60, and at that it kills.
const MEMORY_STALLS: u8 = 20;
/// Above it allocations begin to fail.
const COMMITTED: u8 = 98;

impl HostLoad {
    /// What it is short of, in words that follow "the host"; `None`: of nothing that explains a failure.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        if let Some(percent) = self.memory_stalls.filter(|p| *p >= MEMORY_STALLS) {
            return Some(format!(
                "is short of memory: everything stood still for {percent} % of the last 10 s"
            ));
        }
        if let Some(percent) = self.committed.filter(|p| *p >= COMMITTED) {
            return Some(format!("is short of memory: {percent} % of what may be promised is"));
        }
        if let Some(percent) = self.group_held.filter(|p| *p >= GROUP_HELD) {
            return Some(format!(
                "gives keepwell's group no processor: all of it waited for {percent} % of the last 10 s"
            ));
        }
        let lasts = self.processor_waits.is_none_or(|p| p >= PROCESSOR_WAITS);
        let crowd = self.runnable.filter(|n| lasts && *n >= RUNNABLE)?;
        Some(format!("is short of processors: {crowd} programs want each of them"))
    }
}

/// Services that fail in the same moment ask once.
const FRESH: Duration = Duration::from_secs(1);
/// An answer that is not there then does not come: what failed counts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// A shortage that comes back within this was told.
const ONE_SPELL: Duration = Duration::from_secs(60);

/// What is known of the host, and who waits to know.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    seen: Option<(Mono, Option<String>)>,
    asked: Option<Mono>,
    waiting: Vec<Waiting>,
    told_until: Option<Mono>,
}

/// A failure that is judged when the host has spoken.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// An attempt of a check.
    Probe(usize, ProbeId, String),
    /// A heartbeat or a life sign that did not come: the deadline that stands for it meanwhile.
    Sign(usize, RunId, Mono),
}

/// See [`Supervisor::host_says`].
pub(crate) enum HostSays {
    /// It was asked, and has not answered.
    NotYet,
    /// There is enough of everything.
    Well,
    /// What it is short of.
    Short(String),
}

impl Supervisor {
    /// Whether the host is to blame. Asks it, unless it spoke a moment ago.
    pub(crate) fn host_says(&mut self, now: Now) -> HostSays {
        if let Some((at, shortage)) = &self.strain.seen
            && now.mono.since(*at) < FRESH
        {
            return match shortage.clone() {
                None => HostSays::Well,
                Some(what) => self.told_short(what, now),
            };
        }
        match self.strain.asked {
            Some(at) if now.mono.since(at) >= PATIENCE => {
                self.strain.asked = None;
                HostSays::Well
            }
            Some(_) => HostSays::NotYet,
            None => {
                self.strain.asked = Some(now.mono);
                self.effect(Effect::LookAtHost);
                HostSays::NotYet
            }
        }
    }

    pub(crate) fn wait_for_host(&mut self, waiting: Waiting) {
        self.strain.waiting.push(waiting);
    }

    fn told_short(&mut self, what: String, now: Now) -> HostSays {
        if self.strain.told_until.is_none_or(|until| now.mono >= until) {
            let text = format!("the host {what}; failed checks do not count meanwhile");
            self.tell(now, None, None, EventKind::Told { level: Level::Warn, text });
        }
        self.strain.told_until = Some(now.mono + ONE_SPELL);
        HostSays::Short(what)
    }

    /// The host has spoken.
    pub(crate) fn on_host_load(&mut self, now: Now, load: HostLoad) {
        self.strain.asked = None;
        self.strain.seen = Some((now.mono, load.shortage()));
        for waiting in core::mem::take(&mut self.strain.waiting) {
            match waiting {
                Waiting::Probe(i, id, why) => self.on_listed(i, id, Outcome::Fail(why), now),
                Waiting::Sign(i, run, at) => {
                    let Phase::Alive(a) = &self.services[i].s.phase else { continue };
                    // A sign that came meanwhile has moved it.
                    let stands = |sign: Option<(Duration, Mono)>| sign.is_some_and(|(_, due)| due == at);
                    let (beat, watchdog) = (stands(a.heartbeat), stands(a.watchdog));
                    if a.run != run {
                        continue;
                    }
                    if beat {
                        self.heartbeat_due(i, now);
                    } else if watchdog {
                        self.watchdog_due(i, now);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_host_is_not_a_starved_one() {
        let busy = HostLoad {
            processor_waits: Some(99),
            runnable: Some(4),
            memory_stalls: Some(3),
            committed: Some(90),
            ..HostLoad::default()
        };
        assert_eq!(busy.shortage(), None);
        assert_eq!(HostLoad::default().shortage(), None);
        let burst = HostLoad { processor_waits: Some(10), runnable: Some(40), ..HostLoad::default() };
        assert_eq!(burst.shortage(), None, "a moment, and not ten seconds");
    }

    #[test]
    fn what_is_short_is_named() {
        let of = |load: HostLoad| load.shortage().unwrap_or_default();
        let crowd = HostLoad { processor_waits: Some(97), runnable: Some(12), ..HostLoad::default() };
        assert_eq!(of(crowd), "is short of processors: 12 programs want each of them");
        let queue = HostLoad { runnable: Some(12), ..HostLoad::default() };
        assert_eq!(of(queue), "is short of processors: 12 programs want each of them");
        assert!(
            of(HostLoad { memory_stalls: Some(20), ..HostLoad::default() }).contains("stood still for 20 %")
        );
        assert!(of(HostLoad { committed: Some(99), ..HostLoad::default() }).contains("99 % of what may be"));
        assert!(of(HostLoad { group_held: Some(95), ..HostLoad::default() }).contains("keepwell's group"));
    }
}
