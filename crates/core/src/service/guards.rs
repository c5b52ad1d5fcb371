//! What an instance uses, held against its rules.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::effect::Role;
use crate::event::EventKind;
use crate::foresee::Seen;
use crate::guard::{Figure, Guard, News, Then, Usage, Watch, Watches, ahead};
use crate::id::RunId;
use crate::service::Phase;
use crate::supervisor::Supervisor;
use crate::time::Now;

impl Supervisor {
    /// Runs whose use of the host is to be measured now and then.
    pub fn measured(&self) -> impl Iterator<Item = RunId> + '_ {
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
            .filter(|i| !self.services[*i].vacant && self.spec(*i).is_measured())
            .filter_map(move |i| alive(&self.services[i]))
    }

    pub(crate) fn on_usage(&mut self, now: Now, run: RunId, usage: &Usage) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let service = &self.services[i];
        if service.s.hold.is_some() || !matches!(&service.s.phase, Phase::Alive(a) if a.run == run) {
            return;
        }
        let (spec, every) = (self.spec(i), self.specs.sample_every);
        if !service.watches.as_ref().is_some_and(|watches| watches.fit(run, spec, every)) {
            // Rules that changed, or a new run, begin with nothing seen.
            let watches = Watches::new(run, spec, every, usage);
            self.services[i].watches = Some(Box::new(watches));
        }
        let Some(watches) = self.services[i].watches.as_mut() else { return };
        let (mut news, mut seen) = (Vec::new(), Vec::new());
        for (rule, watch) in watches.rules.iter_mut().enumerate() {
            watch.sample(now.mono, usage, &mut |what| news.push((rule, what)));
        }
        for ceiling in &mut watches.ceilings {
            seen.extend(ceiling.sample(now.mono, usage).map(|what| (ceiling.figure, what)));
        }
        for (figure, what) in seen {
            self.tell_seen(i, run, figure, its_limit(figure), what, now);
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
    pub(crate) fn watches(&self, i: usize) -> Option<&Watches> {
        let alive = self.services[i].s.main().map(|(run, _)| run);
        self.services[i].watches.as_deref().filter(|watches| alive == Some(watches.run))
    }

    /// For `explain`: each rule and each limit, what it is now, and what is foreseen.
    pub(crate) fn guard_lines(&self, i: usize, now: Now) -> Vec<(&'static str, String)> {
        let Some(watches) = self.watches(i) else { return Vec::new() };
        let rules = watches.rules.iter().map(|watch| {
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
            ("guard", format!("{guard} {then}: {value}{tripped}{}", leak.unwrap_or_default()))
        });
        let ceilings = watches.ceilings.iter().filter_map(|ceiling| {
            let figure = ceiling.figure;
            let (value, at) = (figure.amount(ceiling.last?), figure.amount(ceiling.at));
            let leak = ceiling.forecast().map(|f| format!("; reaches it {}", ahead(&f, now.mono)));
            Some(("limit", format!("{} {at}: now {value}{}", figure.name(), leak.unwrap_or_default())))
        });
        rules.chain(ceilings).collect()
    }

    /// For `status`: rules that have tripped, and what is foreseen.
    pub(crate) fn warnings(&self, i: usize, now: Now) -> Vec<String> {
        let Some(watches) = self.watches(i) else { return Vec::new() };
        let rules = watches.rules.iter().filter_map(|watch| {
            let (guard, value) = (&watch.guard, watch.last?.1);
            if watch.tripped {
                return Some(format!("{guard}: now {}", guard.figure.amount(value)));
            }
            let when = ahead(&watch.forecast()?, now.mono);
            Some(reaches(guard.figure, &guard.figure.amount(guard.above), &when))
        });
        let ceilings = watches.ceilings.iter().filter_map(|ceiling| {
            let when = ahead(&ceiling.forecast()?, now.mono);
            Some(reaches(ceiling.figure, its_limit(ceiling.figure), &when))
        });
        rules.chain(ceilings).collect()
    }

    fn guard_news(&mut self, i: usize, run: RunId, rule: usize, what: News, now: Now) {
        let watch = self.services[i].watches.as_ref().and_then(|watches| watches.rules.get(rule));
        let Some(guard) = watch.map(|watch| watch.guard.clone()) else { return };
        let figure = guard.figure;
        match what {
            News::Trips { value } => self.guard_trips(i, run, rule, &guard, value, now),
            News::Cleared { value } => {
                let kind = EventKind::GuardCleared { rule: format!("{guard}"), value: figure.amount(value) };
                self.tell(now, Some(i), Some(run), kind);
            }
            News::Seen(what) => self.tell_seen(i, run, figure, &figure.amount(guard.above), what, now),
        }
    }

    fn tell_seen(&mut self, i: usize, run: RunId, figure: Figure, bound: &str, what: Seen, now: Now) {
        let kind = match what {
            Seen::Leak(forecast) => {
                EventKind::LeakForeseen { text: reaches(figure, bound, &ahead(&forecast, now.mono)) }
            }
            Seen::LeakOver => {
                EventKind::LeakOver { text: format!("{} to {bound}", figure.does("no longer grow", "s")) }
            }
            Seen::Step(step) => {
                let (from, to) = (figure.amount(step.from), figure.amount(step.to));
                let text = format!("{} rose at once from {from} to {to}", figure.name());
                EventKind::UsageStepped { text }
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
            let Some(watch) = self.rule(i, rule) else { return };
            let new = !core::mem::replace(&mut watch.held, true);
            return self.heal(i, words, new, now);
        }
        if let Some(watch) = self.rule(i, rule) {
            watch.trip();
        }
        let kind = EventKind::GuardTripped { rule: text, value, then: guard.then };
        self.tell(now, Some(i), Some(run), kind);
        match guard.then {
            Then::Alert => {}
            Then::Restart => self.heal(i, words, false, now),
            Then::Run { .. } => self.start_hook(i, Role::Guard(u8::try_from(rule).unwrap_or(u8::MAX)), now),
        }
    }

    fn rule(&mut self, i: usize, rule: usize) -> Option<&mut Watch> {
        self.services[i].watches.as_mut()?.rules.get_mut(rule)
    }

    /// Another instance of the service is on its way down or up: they are restarted one after the other.
    fn sibling_restarts(&self, i: usize) -> bool {
        let name = &self.services[i].id.name;
        let moves = |s: &crate::service::Service| match &s.s.phase {
            Phase::Ending(_) | Phase::BackingOff { .. } | Phase::PreStart | Phase::Spawning { .. } => true,
            Phase::Alive(a) => a.up.is_none(),
            // These may stay for ever, and a leak does not wait for them.
            Phase::Stopped
            | Phase::Completed
            | Phase::GaveUp(_)
            | Phase::Waiting
            | Phase::CrashLooping { .. } => false,
        };
        let others =
            self.services.iter().enumerate().filter(|(k, s)| *k != i && !s.vacant && s.id.name == *name);
        others.map(|(_, s)| s).any(moves)
    }
}

/// `memory reaches 800 MB in about 34 min (95 %: 25–50)`.
fn reaches(figure: Figure, bound: &str, when: &str) -> String {
    format!("{} {bound} {when}", figure.does("reach", "es"))
}

fn its_limit(figure: Figure) -> &'static str {
    if figure.is_plural() { "their limit" } else { "its limit" }
}
