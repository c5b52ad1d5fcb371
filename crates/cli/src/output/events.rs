//! Events and services' output as lines: `events`, `logs`, and what `up` prints.

use std::collections::BTreeMap;
use std::time::Duration;

use keepwell_sdk::wire::{Event, LogLine, Status};

use super::human::{STATE_WIDTH, pad, state_text};
use super::{Look, Paint, strip_colors};
use crate::time::{Clock, elapsed, precise};

/// Names wider than this do not push everybody's lines to the right.
const WIDEST_NAME: usize = 24;

/// Gives each service its colour and its column, and remembers when it began what it is doing.
#[derive(Debug)]
pub(crate) struct Lines {
    look: Look,
    width: usize,
    colors: BTreeMap<String, usize>,
    began: BTreeMap<String, String>,
    reasons: BTreeMap<String, String>,
    next: BTreeMap<String, String>,
}

impl Lines {
    pub(crate) fn new(look: Look) -> Self {
        Self {
            look,
            width: 0,
            colors: BTreeMap::new(),
            began: BTreeMap::new(),
            reasons: BTreeMap::new(),
            next: BTreeMap::new(),
        }
    }

    /// Makes room for these services, so that the first line is aligned like the last.
    pub(crate) fn expect(&mut self, services: &[Status]) {
        for s in services {
            self.meet(&s.id());
        }
    }

    fn meet(&mut self, service: &str) -> usize {
        self.width = self.width.max(service.chars().count().min(WIDEST_NAME));
        let next = self.colors.len();
        *self.colors.entry(service.to_owned()).or_insert(next)
    }

    fn name(&mut self, service: &str) -> String {
        let color = self.meet(service);
        self.look.paint(Paint::Name(color), &pad(service, self.width))
    }

    /// `web  │ GET / 200`, with the newline.
    pub(crate) fn log(&mut self, line: &LogLine) -> String {
        let bar = if self.look.unicode { '│' } else { '|' };
        let name = self.name(&line.service);
        if line.note {
            let note = self.look.paint(Paint::Warn, &self.look.text(&format!("[keepwell: {}]", line.line)));
            return format!("{name}  {bar} {note}\n");
        }
        // A program's colours are its own business, but they must not run into the next line.
        let end = if line.line.contains('\x1b') && self.look.color { "\x1b[0m" } else { "" };
        let text = if self.look.color { line.line.clone() } else { strip_colors(&line.line) };
        format!("{name}  {bar} {text}{end}\n")
    }

    /// What `up` and the waiting commands print for an event; nothing for what a change of state tells anyway.
    pub(crate) fn progress(&mut self, e: &Event) -> Option<String> {
        let Some(service) = e.service.as_deref() else {
            return (e.level != "info" || e.kind == "guardian_stopping").then(|| self.guardian(e));
        };
        if let Some(next) = &e.next_attempt {
            self.next.insert(service.to_owned(), next.clone());
        }
        if let Some(state) = e.state.as_deref() {
            let took = self.took(service, state, &e.at);
            let reason = self.reason(service, state, e);
            // What a service is started for stays its reason on all of its way; once is enough.
            let known =
                self.reasons.insert(service.to_owned(), reason.clone()).is_some_and(|last| last == reason);
            return Some(self.state(service, state, took, if known { "" } else { &reason }));
        }
        // A change of state follows each of these, and its reason says the same.
        let told_by_state = [
            "exited",
            "spawn_failed",
            "ready_timed_out",
            "watchdog_expired",
            "probe_failed",
            "heartbeat_lost",
            "crash_looped",
            "gave_up",
        ];
        if e.level == "info" || e.kind == "dependency_changed" || told_by_state.contains(&e.kind.as_str()) {
            return None;
        }
        let paint = level_paint(&e.level);
        // ASCII's sign for this is that of a service that is stopped.
        let sign = if self.look.unicode { "·" } else { "#" };
        let text = self.look.paint(paint, &self.look.text(without_name(e)));
        Some(format!("{}  {sign} {text}\n", self.name(service)))
    }

    /// Why, and for what will be tried again, when.
    fn reason(&mut self, service: &str, state: &str, e: &Event) -> String {
        let reason = e.reason.clone().unwrap_or_default();
        let next = self.next.remove(service).and_then(|at| elapsed(&e.at, &at));
        match (state, next) {
            ("backing_off" | "crash_looping", Some(next)) => {
                format!("{reason}; next attempt in {}", precise(next))
            }
            _ => reason,
        }
    }

    fn guardian(&self, e: &Event) -> String {
        self.look.paint(level_paint(&e.level), &self.look.text(&told(&e.text))) + "\n"
    }

    /// How long it took to get to a state that is an end of some way.
    fn took(&mut self, service: &str, state: &str, at: &str) -> Option<Duration> {
        match state {
            "starting" | "stopping" => {
                self.began.insert(service.to_owned(), at.to_owned());
                None
            }
            "running" => elapsed(self.began.get(service)?, at),
            "ready" | "completed" | "stopped" => elapsed(&self.began.remove(service)?, at),
            _ => {
                self.began.remove(service);
                None
            }
        }
    }

    /// `web  ● ready            0.34 s   answers on 8080`.
    pub(crate) fn state(
        &mut self,
        service: &str,
        state: &str,
        took: Option<Duration>,
        reason: &str,
    ) -> String {
        let (words, paint) = state_text(state, &self.look);
        let shown = self.look.paint(paint, &pad(&words, STATE_WIDTH));
        let took = pad(&took.map(precise).unwrap_or_default(), 7);
        let line = format!("{}  {shown}  {took}  {}", self.name(service), self.look.text(reason));
        format!("{}\n", line.trim_end())
    }
}

/// `14:01:55  web  ● ready  the reason`, one line an event, everything told.
pub(crate) fn event(e: &Event, clock: &Clock, look: &Look) -> String {
    let at = clock.at(&e.at).unwrap_or_else(|| e.at.clone());
    let service = pad(e.service.as_deref().unwrap_or("keepwell"), 12);
    let what = match (&e.state, &e.reason) {
        (Some(state), reason) => {
            let (words, paint) = state_text(state, look);
            let reason =
                reason.as_deref().filter(|r| !r.is_empty()).map(|r| format!(": {r}")).unwrap_or_default();
            format!("{}{}", look.paint(paint, &words), look.text(&reason))
        }
        (None, _) => look.paint(level_paint(&e.level), &look.text(without_name(e))),
    };
    format!("{}  {service}  {what}\n", look.paint(Paint::Dim, &at))
}

/// The text for a line that has the name already. `web@2 …` is not about `web`.
fn without_name(e: &Event) -> &str {
    let rest = e.service.as_deref().and_then(|s| e.text.strip_prefix(s));
    let rest = rest.filter(|r| r.starts_with([':', ' '])).unwrap_or(&e.text);
    rest.trim_start_matches([':', ' '])
}

/// What the guardian says of itself, with its name before it.
pub(crate) fn told(text: &str) -> String {
    if text.starts_with("keepwell") { text.to_owned() } else { format!("keepwell: {text}") }
}

fn level_paint(level: &str) -> Paint {
    match level {
        "error" => Paint::Bad,
        "warn" => Paint::Warn,
        _ => Paint::Dim,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at: &str, service: &str, state: &str, reason: &str) -> Event {
        Event {
            at: at.into(),
            service: Some(service.into()),
            kind: "state_changed".into(),
            level: "info".into(),
            state: Some(state.into()),
            reason: Some(reason.into()),
            text: format!("{service} is {state}"),
            ..Event::default()
        }
    }

    fn story() -> Vec<Event> {
        let told = |service: Option<&str>, level: &str, text: &str| Event {
            at: "2026-01-31T14:00:02Z".into(),
            service: service.map(str::to_owned),
            kind: "told".into(),
            level: level.into(),
            text: text.into(),
            ..Event::default()
        };
        vec![
            change("2026-01-31T14:00:00Z", "migrate", "starting", ""),
            change("2026-01-31T14:00:00Z", "api", "waiting", "migrate is starting"),
            told(Some("migrate"), "info", "migrate started, pid 12"),
            change("2026-01-31T14:00:00.21Z", "migrate", "completed", "exit code 0"),
            change("2026-01-31T14:00:00.22Z", "api", "starting", ""),
            change("2026-01-31T14:00:00.56Z", "api", "ready", "http://127.0.0.1:8080/ answers"),
            Event {
                next_attempt: Some("2026-01-31T14:00:03Z".into()),
                ..told(Some("flaky"), "info", "flaky: next attempt in 2 s (attempt 2)")
            },
            change("2026-01-31T14:00:01Z", "flaky", "backing_off", "exit code 3 after 1.2 s"),
            told(Some("flaky"), "warn", "its output is dropped: disk full"),
            told(None, "error", "the store cannot be written: disk full"),
            told(None, "info", "a client came"),
        ]
    }

    fn services() -> Vec<Status> {
        ["migrate", "api", "flaky"]
            .map(|n| Status { name: n.into(), instance: 1, ..Status::default() })
            .to_vec()
    }

    fn shown(look: Look) -> String {
        let mut lines = Lines::new(look);
        lines.expect(&services());
        story().iter().filter_map(|e| lines.progress(e)).collect()
    }

    #[test]
    fn up_prints_a_line_a_change() {
        insta::assert_snapshot!(shown(Look::SIGNS), @r"
        migrate  ◌ starting
        api      ◌ waiting                 migrate is starting
        migrate  ✓ completed      210 ms   exit code 0
        api      ◌ starting
        api      ● ready          340 ms   http://127.0.0.1:8080/ answers
        flaky    ↻ backing off             exit code 3 after 1.2 s; next attempt in 2 s
        flaky    · its output is dropped: disk full
        keepwell: the store cannot be written: disk full
        ");
        assert!(shown(Look::PLAIN).is_ascii());
    }

    #[test]
    fn output_has_its_service_before_it() {
        let line = |service: &str, line: &str, note| LogLine {
            service: service.into(),
            line: line.into(),
            note,
            ..LogLine::default()
        };
        let mut lines = Lines::new(Look::SIGNS);
        lines.expect(&services());
        let text: String = [
            lines.log(&line("api", "GET / \x1b[32m200\x1b[0m", false)),
            lines.log(&line("flaky", "3 lines were dropped: disk full", true)),
            lines.log(&line("a-name-that-is-wider-than-the-column", "x", false)),
        ]
        .concat();
        insta::assert_snapshot!(text, @r"
        api      │ GET / 200
        flaky    │ [keepwell: 3 lines were dropped: disk full]
        a-name-that-is-wider-than-the-column  │ x
        ");
    }

    #[test]
    fn a_service_keeps_its_colour_and_gives_it_back() {
        let mut lines = Lines::new(Look { color: true, ..Look::SIGNS });
        lines.expect(&services());
        let line = LogLine { service: "api".into(), line: "\x1b[31mred".into(), ..LogLine::default() };
        assert_eq!(lines.log(&line), "\x1b[35mapi    \x1b[0m  │ \x1b[31mred\x1b[0m\n");
        assert_eq!(lines.log(&line), lines.log(&line));
    }

    #[test]
    fn events_tell_everything() {
        let clock = Clock::fixed("2026-01-31T14:04:11Z");
        let text: String = story()[..4].iter().map(|e| event(e, &clock, &Look::SIGNS)).collect();
        insta::assert_snapshot!(text, @r"
        14:00:00  migrate       ◌ starting
        14:00:00  api           ◌ waiting: migrate is starting
        14:00:02  migrate       started, pid 12
        14:00:00  migrate       ✓ completed: exit code 0
        ");
    }
}
