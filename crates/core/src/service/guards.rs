//! What an instance uses, held against its rules.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::effect::Role;
use crate::event::EventKind;
use crate::guard::{Guard, News, Then, Usage, Watch, ahead};
use crate::id::RunId;
use crate::service::Phase;
use crate::supervisor::Supervisor;
use crate::time::Now;

impl Supervisor {
    /// Runs whose use of the host is to be measured now and then.
    pub fn guarded(&self) -> impl Iterator<Item = RunId> + '_ {
        let alive = |s: &crate::service::Service| match &s.s.phase {
            Phase::Alive(a) if s.s.hold.is_none() => Some(a.run),
            Phase::Alive(_)
            | Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. }
            | Phase::PreStart
            | Phase::Spawning { .. }
            | Phase::Ending(_) => None,
        };
        (0..self.services.len())
            .filter(|i| !self.services[*i].vacant && !self.spec(*i).guards.is_empty())
            .filter_map(move |i| alive(&self.services[i]))
    }

    pub(crate) fn on_usage(&mut self, now: Now, run: RunId, usage: Usage) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let service = &self.services[i];
        if service.s.hold.is_some() || !matches!(&service.s.phase, Phase::Alive(a) if a.run == run) {
            return;
        }
        self.set_watches(i, run);
        let mut news = Vec::new();
        for (rule, watch) in self.services[i].watches.1.iter_mut().enumerate() {
            watch.sample(now.mono, &usage, &mut |what| news.push((rule, what)));
        }
        for (rule, what) in news {
            // An earlier rule may have ended the run.
            if !matches!(self.services[i].s.phase, Phase::Alive(_)) {
                return;
            }
            self.guard_news(i, run, rule, what, now);
        }
    }

    /// What its rules have seen of the present run.
    pub(crate) fn watches(&self, i: usize) -> &[Watch] {
        let (run, watches) = &self.services[i].watches;
        let alive = self.services[i].s.main().map(|(run, _)| run);
        if alive.is_some() && *run == alive { watches } else { &[] }
    }

    /// For `explain`: each rule, what it sees now, and what it foresees.
    pub(crate) fn guard_lines(&self, i: usize, now: Now) -> Vec<String> {
        let line = |watch: &Watch| {
            let guard = &watch.guard;
            let value = match watch.last {
                Some((_, value)) => format!("now {}", guard.figure.amount(value)),
                None => "not measured yet".into(),
            };
            let then = match guard.then {
                Then::Alert => "is told",
                Then::Restart => "restarts it",
                Then::Run { .. } => "runs a command",
            };
            let tripped = if watch.tripped { ", tripped" } else { "" };
            let leak = watch.forecast().map(|f| format!("; reaches it {}", ahead(&f, now.mono)));
            format!("{guard} {then}: {value}{tripped}{}", leak.unwrap_or_default())
        };
        self.watches(i).iter().map(line).collect()
    }

    /// For `status`: rules that have tripped, and what is foreseen.
    pub(crate) fn warnings(&self, i: usize, now: Now) -> Vec<String> {
        let warning = |watch: &Watch| {
            let (guard, value) = (&watch.guard, watch.last?.1);
            let figure = guard.figure;
            if watch.tripped {
                return Some(format!("{guard}: now {}", figure.amount(value)));
            }
            let when = ahead(&watch.forecast()?, now.mono);
            Some(format!("{} reaches {} {when}", figure.name(), figure.amount(guard.above)))
        };
        self.watches(i).iter().filter_map(warning).collect()
    }

    /// Rules that changed, or a new run, begin with nothing seen.
    fn set_watches(&mut self, i: usize, run: RunId) {
        let guards = &self.spec(i).guards;
        let (of, watches) = &self.services[i].watches;
        if *of != Some(run) || !watches.iter().map(|w| &w.guard).eq(guards) {
            let watches = guards.iter().cloned().map(Watch::new).collect();
            self.services[i].watches = (Some(run), watches);
        }
    }

    fn guard_news(&mut self, i: usize, run: RunId, rule: usize, what: News, now: Now) {
        let guard: Guard = self.services[i].watches.1[rule].guard.clone();
        let figure = guard.figure;
        let bound = figure.amount(guard.above);
        let kind = match what {
            News::Trips { value } => return self.guard_trips(i, run, rule, &guard, value, now),
            News::Cleared { value } => {
                EventKind::GuardCleared { rule: format!("{guard}"), value: figure.amount(value) }
            }
            News::Leak(forecast) => {
                let when = ahead(&forecast, now.mono);
                EventKind::LeakForeseen { text: format!("{} reaches {bound} {when}", figure.name()) }
            }
            News::LeakOver => {
                EventKind::LeakOver { text: format!("{} no longer grows to {bound}", figure.name()) }
            }
            News::Stepped(step) => {
                let (from, to) = (figure.amount(step.from), figure.amount(step.to));
                EventKind::UsageStepped {
                    text: format!("{} rose at once from {from} to {to}", figure.name()),
                }
            }
        };
        self.tell(now, Some(i), Some(run), kind);
    }

    fn guard_trips(&mut self, i: usize, run: RunId, rule: usize, guard: &Guard, value: u64, now: Now) {
        // It trips with the next sample, if it still has to.
        let waits = match guard.then {
            Then::Alert => false,
            Then::Restart => self.sibling_restarts(i),
            // A hook that waits for the service to be ready goes first.
            Then::Run { .. } => {
                let s = &self.services[i].s;
                s.hook.is_some() || !matches!(&s.phase, Phase::Alive(a) if a.up.is_some())
            }
        };
        if waits {
            return;
        }
        let (text, value) = (format!("{guard}"), guard.figure.amount(value));
        let words: String = format!("its guard tripped: {text} (now {value})");
        if guard.then == Then::Restart && self.spent_budget(i, now).is_some() {
            // It asks again with the next sample.
            let new = !core::mem::replace(&mut self.services[i].watches.1[rule].held, true);
            return self.heal(i, words, new, now);
        }
        self.services[i].watches.1[rule].trip();
        let kind = EventKind::GuardTripped { rule: text, value, then: guard.then };
        self.tell(now, Some(i), Some(run), kind);
        match guard.then {
            Then::Alert => {}
            Then::Restart => self.heal(i, words, false, now),
            Then::Run { .. } => self.start_hook(i, Role::Guard(u8::try_from(rule).unwrap_or(u8::MAX)), now),
        }
    }

    /// Another instance of the service is on its way down or up: they are restarted one after the other.
    fn sibling_restarts(&self, i: usize) -> bool {
        let name = &self.services[i].id.name;
        let moves = |s: &crate::service::Service| match &s.s.phase {
            Phase::Ending(_) | Phase::PreStart | Phase::Spawning { .. } => true,
            Phase::Alive(a) => a.up.is_none(),
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::BackingOff { .. }
            | Phase::CrashLooping { .. } => false,
        };
        let others =
            self.services.iter().enumerate().filter(|(k, s)| *k != i && !s.vacant && s.id.name == *name);
        others.map(|(_, s)| s).any(moves)
    }
}
