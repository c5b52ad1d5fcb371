//! `keepwell status`.

use keepwell_sdk::wire::Status;

use super::human::{Health, count, health, pad, state_text, state_words};
use super::table::{Cell, Column, render};
use super::{Look, Paint};
use crate::time::{Clock, rough};

/// How much is said of how trees and limits are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Detail {
    /// One line, and only where trees are held by less than the best.
    Brief,
    /// Of each instance, with its limits.
    Full,
}

/// The table, how the services are held, and what to do next.
pub(crate) fn status(all: &[Status], detail: Detail, clock: &Clock, look: &Look) -> String {
    if all.is_empty() {
        return "there are no services\n".to_owned();
    }
    let column = |title, drop, optional| Column { title, drop, optional };
    let columns = [
        column("SERVICE", 0, false),
        column("STATE", 0, false),
        column("SINCE", 1, false),
        column("PID", 3, false),
        column("RESTARTS", 2, false),
        column("CPU", 4, true),
        column("MEM", 5, true),
        column("NEXT", 0, true),
    ];
    let rows: Vec<Vec<Cell>> = all.iter().map(|s| row(s, clock, look)).collect();
    let table = render(&columns, &rows, look);
    match detail {
        Detail::Brief => table + &footer(all, look) + by_mark(all),
        Detail::Full => table + &held(all, look) + &footer(all, look),
    }
}

/// What holds each tree and each of its limits.
fn held(all: &[Status], look: &Look) -> String {
    let width = all.iter().map(|s| s.id().chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for s in all {
        let containment = match s.containment.as_str() {
            "" => continue,
            "mark" => "held by descent and mark: no writable cgroup".to_owned(),
            "job" => "held by a job object".to_owned(),
            other => format!("held by {other}"),
        };
        let lines = std::iter::once(containment.as_str()).chain(s.limits.iter().map(String::as_str));
        for (label, line) in std::iter::once(s.id()).chain(std::iter::repeat(String::new())).zip(lines) {
            text += &format!("{}  {}\n", pad(&label, width), look.text(line));
        }
    }
    text
}

fn by_mark(all: &[Status]) -> &'static str {
    match all.iter().any(|s| s.containment == "mark") {
        true => "trees are held by descent and mark: no writable cgroup (keepwell info)\n",
        false => "",
    }
}

fn row(s: &Status, clock: &Clock, look: &Look) -> Vec<Cell> {
    let none = || "–".to_owned();
    let (state, paint) = state_text(&s.state, look);
    let since = s.since.as_deref().and_then(|at| clock.ago(at)).map_or_else(none, rough);
    let restarts = if s.restarts == 0 { Paint::Plain } else { Paint::Warn };
    vec![
        Cell::plain(s.id()),
        Cell::new(state, paint),
        Cell::plain(since),
        Cell::plain(s.pid.map_or_else(none, |p| p.to_string())),
        Cell::new(s.restarts.to_string(), restarts),
        Cell::plain(s.cpu_percent.map_or_else(none, |p| format!("{p:.0} %"))),
        Cell::plain(s.memory_bytes.map_or_else(none, bytes)),
        Cell::plain(next(s, clock)),
    ]
}

/// What happens next by itself; where nothing does, why not.
fn next(s: &Status, clock: &Clock) -> String {
    // Of a program that gives its signs of life nothing else is to be expected.
    let owed = |what: &str| matches!(what, "watchdog" | "heartbeat lost");
    let next = s.next.as_ref().filter(|n| !owed(&n.what));
    let due = next.and_then(|n| Some(format!("{} {}", n.what, clock.due(&n.at)?)));
    let blockers: Vec<&str> = s.blockers.iter().map(|b| b.text.as_str()).collect();
    let stopped = || {
        let by = s.last_command.as_ref().filter(|c| c.what.starts_with("stop"))?;
        Some(format!("stays stopped; {} stopped it", by.by))
    };
    match s.state.as_str() {
        "waiting" | "degraded" if !blockers.is_empty() => blockers.join("; "),
        // For what is no service of ours: the reason names it.
        "waiting" if s.reason.starts_with("waits for ") => s.reason.clone(),
        "paused" => match (&s.hold, due) {
            (_, Some(due)) => due,
            (Some(hold), None) => format!("{hold} until keepwell resume {}", s.id()),
            (None, None) => String::new(),
        },
        "stopped" if !s.enabled => {
            stopped().unwrap_or_else(|| format!("disabled; keepwell enable {}", s.name))
        }
        "stopped" if !s.desired_up => stopped().unwrap_or_default(),
        "gave_up" => s.reason.clone(),
        _ if !s.warnings.is_empty() => s.warnings.join("; "),
        _ => due.or_else(|| s.status_text.clone()).unwrap_or_default(),
    }
}

fn footer(all: &[Status], look: &Look) -> String {
    let unwell: Vec<&Status> = all.iter().filter(|s| health(s) == Health::Unwell).collect();
    let Some(first) = unwell.first() else {
        return String::new();
    };
    let are = if unwell.len() == 1 { "is" } else { "are" };
    let next = look.paint(Paint::Strong, &format!("keepwell explain {}", first.id()));
    format!("{} of {} {are} not well: {next}\n", unwell.len(), all.len())
}

/// One line for monitoring, and whether all is well.
pub(crate) fn check(all: &[Status]) -> (String, bool) {
    let not_well: Vec<String> = all
        .iter()
        .filter(|s| health(s) != Health::Well)
        .map(|s| format!("{} {}", s.id(), state_words(&s.state)))
        .collect();
    if not_well.is_empty() {
        let stopped = all.iter().filter(|s| s.state == "stopped").count();
        let also = if stopped == 0 { String::new() } else { format!(", {stopped} of them stopped") };
        return (format!("ok: {}{also}\n", count(all.len(), "service")), true);
    }
    // One line stays one line: monitoring systems cut or refuse long ones.
    const NAMED: usize = 8;
    let more = not_well.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let names = not_well[..not_well.len().min(NAMED)].join(", ");
    (format!("not well: {} of {}: {names}{more}\n", not_well.len(), all.len()), false)
}

/// `84 MB`; decimal units.
fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", n / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", n / 1_000_000),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use keepwell_sdk::wire::{Blocker, LastCommand, Next};

    pub(crate) const NOW: &str = "2026-01-31T14:04:11Z";

    /// Three services in trouble's three shapes.
    pub(crate) fn three() -> Vec<Status> {
        let base = Status {
            instance: 1,
            desired_up: true,
            enabled: true,
            kind: "service".into(),
            ..Status::default()
        };
        vec![
            Status {
                name: "api".into(),
                state: "ready".into(),
                pid: Some(4121),
                since: Some("2026-01-29T13:00:00Z".into()),
                cpu_percent: Some(1.2),
                memory_bytes: Some(84_300_000),
                containment: "cgroup".into(),
                ..base.clone()
            },
            Status {
                name: "worker".into(),
                state: "waiting".into(),
                reason: "mailer is crash-looping".into(),
                since: Some("2026-01-31T14:00:00Z".into()),
                blockers: vec![Blocker { service: "mailer".into(), text: "mailer is crash-looping".into() }],
                ..base.clone()
            },
            Status {
                name: "mailer".into(),
                instance: 2,
                state: "crash_looping".into(),
                reason: "6 starts in 60 s; its policy allows 5".into(),
                restarts: 6,
                since: Some("2026-01-31T14:00:00Z".into()),
                next_attempt: Some("2026-01-31T14:07:11Z".into()),
                attempt: 7,
                next: Some(Next { at: "2026-01-31T14:07:11Z".into(), what: "restart".into() }),
                ..base
            },
        ]
    }

    fn shown(all: &[Status], look: &Look) -> String {
        status(all, Detail::Brief, &Clock::fixed(NOW), look)
    }

    #[test]
    fn a_table_for_people() {
        insta::assert_snapshot!(shown(&three(), &Look::SIGNS), @r"
        SERVICE   STATE            SINCE  PID   RESTARTS  CPU  MEM    NEXT
        api       ● ready          2 d    4121  0         1 %  84 MB
        worker    ◌ waiting        4 min  –     0         –    –      mailer is crash-looping
        mailer@2  ✗ crash-looping  4 min  –     6         –    –      restart 14:07:11 (in 3 min)
        1 of 3 is not well: keepwell explain mailer@2
        ");
    }

    #[test]
    fn a_table_for_pipes_is_ascii() {
        let text = shown(&three(), &Look::PLAIN);
        assert!(text.is_ascii(), "{text}");
        insta::assert_snapshot!(text, @r"
        SERVICE   STATE            SINCE  PID   RESTARTS  CPU  MEM    NEXT
        api       * ready          2 d    4121  0         1 %  84 MB
        worker    . waiting        4 min  -     0         -    -      mailer is crash-looping
        mailer@2  x crash-looping  4 min  -     6         -    -      restart 14:07:11 (in 3 min)
        1 of 3 is not well: keepwell explain mailer@2
        ");
    }

    #[test]
    fn a_narrow_terminal_keeps_what_happens_next() {
        let look = Look { width: Some(64), ..Look::SIGNS };
        insta::assert_snapshot!(shown(&three(), &look), @r"
        SERVICE   STATE            SINCE  NEXT
        api       ● ready          2 d
        worker    ◌ waiting        4 min  mailer is crash-looping
        mailer@2  ✗ crash-looping  4 min  restart 14:07:11 (in 3 min)
        1 of 3 is not well: keepwell explain mailer@2
        ");
    }

    #[test]
    fn colours_by_meaning() {
        let look = Look { color: true, ..Look::SIGNS };
        let text = shown(&three()[2..], &look);
        assert!(text.contains("\x1b[31m✗ crash-looping\x1b[0m"), "{text:?}");
        assert!(text.contains("\x1b[1mkeepwell explain mailer@2\x1b[0m"), "{text:?}");
    }

    #[test]
    fn what_an_operator_did_is_said() {
        let stopped = Status {
            name: "web".into(),
            state: "stopped".into(),
            last_command: Some(LastCommand { by: "anna".into(), what: "stop".into(), at: NOW.into() }),
            ..Status::default()
        };
        let paused = Status {
            name: "db".into(),
            instance: 2,
            state: "paused".into(),
            hold: Some("frozen".into()),
            ..Status::default()
        };
        let disabled = Status { name: "report".into(), state: "stopped".into(), ..Status::default() };
        insta::assert_snapshot!(shown(&[stopped, paused, disabled], &Look::SIGNS), @r"
        SERVICE  STATE      SINCE  PID  RESTARTS  NEXT
        web      ○ stopped  –      –    0         stays stopped; anna stopped it
        db@2     ‖ paused   –      –    0         frozen until keepwell resume db@2
        report   ○ stopped  –      –    0         disabled; keepwell enable report
        1 of 3 is not well: keepwell explain db@2
        ");
    }

    #[test]
    fn who_is_named_is_shown_with_what_holds_it() {
        let [mut api, _, mut mailer] = <[Status; 3]>::try_from(three()).unwrap();
        api.limits = vec!["memory: cgroup v1".into(), "cpu: cgroup v1".into()];
        mailer.containment = "mark".into();
        let all = [api, mailer];
        insta::assert_snapshot!(status(&all, Detail::Full, &Clock::fixed(NOW), &Look::PLAIN), @r"
        SERVICE   STATE            SINCE  PID   RESTARTS  CPU  MEM    NEXT
        api       * ready          2 d    4121  0         1 %  84 MB
        mailer@2  x crash-looping  4 min  -     6         -    -      restart 14:07:11 (in 3 min)
        api       held by cgroup
                  memory: cgroup v1
                  cpu: cgroup v1
        mailer@2  held by descent and mark: no writable cgroup
        1 of 2 is not well: keepwell explain mailer@2
        ");
        let told = "trees are held by descent and mark: no writable cgroup (keepwell info)\n";
        assert!(shown(&all, &Look::PLAIN).ends_with(told));
        assert!(!shown(&all[..1], &Look::PLAIN).contains("held by"));
    }

    #[test]
    fn monitoring_gets_one_line() {
        let (text, well) = check(&three());
        assert_eq!(text, "not well: 2 of 3: worker waiting, mailer@2 crash-looping\n");
        assert!(!well);
        assert_eq!(check(&three()[..1]), ("ok: 1 service\n".to_owned(), true));
        let many: Vec<Status> = (0..20).map(|_| three()[1].clone()).collect();
        assert!(check(&many).0.ends_with("and 12 more\n"));
    }

    #[test]
    fn nothing_is_said_plainly() {
        assert_eq!(shown(&[], &Look::SIGNS), "there are no services\n");
    }

    #[test]
    fn sizes() {
        assert_eq!(
            [bytes(12), bytes(84_300), bytes(999_999_999), bytes(1_240_000_000)],
            ["12 B", "84 kB", "999 MB", "1.2 GB"]
        );
    }
}
