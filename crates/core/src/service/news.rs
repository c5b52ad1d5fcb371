//! What happened to the host, told to the running services that have a hook for it: one hook at a time, in order, and never
//! more than a few waiting.

use alloc::format;
use alloc::vec::Vec;

use crate::effect::{Effect, Role};
use crate::event::{EventKind, Level};
use crate::host::HostEvent;
use crate::service::{HookEnd, HookRun, Phase};
use crate::supervisor::Supervisor;
use crate::time::Now;

/// A hook that is still busy after this many has more to do than to hear of another one.
const NEWS_KEPT: usize = 8;

impl Supervisor {
    pub(crate) fn on_host(&mut self, now: Now, event: HostEvent) {
        if let Some(text) = event.words() {
            self.tell(now, None, None, EventKind::Told { level: Level::Info, text });
        }
        let role = event.role();
        for i in self.index.values().copied().collect::<Vec<_>>() {
            let runs = matches!(&self.services[i].s.phase, Phase::Alive(a) if a.leaving.is_none());
            if !runs || self.hook_spec(i, role).is_none() {
                continue;
            }
            let news = &mut self.services[i].s.news;
            if news.len() < NEWS_KEPT {
                news.push(event);
                self.touch(i);
                self.hear_news(i, now);
            } else {
                let reason = format!("{NEWS_KEPT} events wait already; `{event}` is passed over");
                self.tell(now, Some(i), None, EventKind::HookFailed { role, reason });
            }
        }
    }

    /// Starts the hook for the first of what waits, if it can run now. It stays the first until its hook is over.
    pub(crate) fn hear_news(&mut self, i: usize, now: Now) {
        let s = &self.services[i].s;
        let frozen = s.hold.as_ref().is_some_and(|h| h.freeze);
        let up = matches!(&s.phase, Phase::Alive(a) if a.leaving.is_none() && (a.up.is_some() || !a.checked));
        if s.hook.is_some() || frozen || !up {
            return;
        }
        while let Some(event) = self.services[i].s.news.first().copied() {
            let role = event.role();
            let Some(timeout) = self.hook_spec(i, role).map(|h| h.timeout) else {
                // A reload has taken the hook away.
                self.services[i].s.news.remove(0);
                self.touch(i);
                continue;
            };
            let run = self.new_run(i);
            let (pid, started, until) = (None, now.mono, now.mono + timeout);
            let s = &mut self.services[i].s;
            s.hook = Some(HookRun { run, role, pid, started, until, ended_by: HookEnd::Itself });
            let service = self.services[i].id.clone();
            self.effect(Effect::RunOnEvent { run, service, event });
            self.touch(i);
            return;
        }
    }

    /// The hook for the first of what waits is over.
    pub(crate) fn news_heard(&mut self, i: usize, role: Role) {
        let news = &mut self.services[i].s.news;
        if news.first().is_some_and(|event| event.role() == role) {
            news.remove(0);
        }
    }

    /// It no longer runs: what waits is news to nobody.
    pub(crate) fn forget_news(&mut self, i: usize) {
        self.services[i].s.news.clear();
    }
}
