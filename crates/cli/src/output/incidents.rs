//! `keepwell incidents`: the table of many, the story of one.

use std::time::Duration;

use keepwell_sdk::wire::{Incident, Incidents};

use super::human::{count, pad};
use super::table::{Cell, Column, render};
use super::{Look, Paint, events};
use crate::time::{Clock, precise};

/// Newest first; below, how reliable each service is.
pub(crate) fn list(found: &Incidents, clock: &Clock, look: &Look) -> String {
    if found.incidents.is_empty() {
        return "no incident is known\n".to_owned();
    }
    let column = |title, drop| Column { title, drop, optional: false };
    let columns = [
        column("ID", 0),
        column("SERVICE", 0),
        column("STATE", 0),
        column("BEGAN", 1),
        column("LASTED", 0),
        column("FAILURES", 3),
        column("RESTARTS", 2),
        column("CAUSE", 0),
    ];
    let rows: Vec<Vec<Cell>> = found.incidents.iter().map(|i| row(i, clock, look)).collect();
    let mut text = render(&columns, &rows, look);
    text.push('\n');
    text += &reliability(found, look);
    let open: Vec<&Incident> = found.incidents.iter().filter(|i| i.state == "open").collect();
    if let Some(first) = open.first() {
        let are = if open.len() == 1 { "is" } else { "are" };
        text += &format!("{} {are} open: keepwell incidents {}\n", open.len(), first.id);
    } else if let Some(last) = found.incidents.first() {
        text += &format!("none is open; the story of the last: keepwell incidents {}\n", last.id);
    }
    text
}

fn row(i: &Incident, clock: &Clock, look: &Look) -> Vec<Cell> {
    let (state, paint) = state(i, look);
    vec![
        Cell::plain(i.id.to_string()),
        Cell::plain(&i.service),
        Cell::new(state, paint),
        Cell::plain(clock.at(&i.began).unwrap_or_else(|| i.began.clone())),
        Cell::plain(lasted(i)),
        Cell::plain(i.failures.to_string()),
        Cell::plain(i.restarts.to_string()),
        Cell::plain(&i.cause),
    ]
}

fn reliability(found: &Incidents, look: &Look) -> String {
    let column = |title, drop| Column { title, drop, optional: false };
    let columns = [column("SERVICE", 0), column("INCIDENTS", 0), column("MTTR", 0), column("MTBF", 0)];
    let time = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), |ms| precise(Duration::from_millis(ms)));
    let rows: Vec<Vec<Cell>> = found
        .services
        .iter()
        .map(|s| {
            vec![
                Cell::plain(&s.service),
                Cell::plain(s.incidents.to_string()),
                Cell::plain(time(s.mttr_ms)),
                Cell::plain(time(s.mtbf_ms)),
            ]
        })
        .collect();
    render(&columns, &rows, look)
}

/// What nobody saw the end of has no length.
fn lasted(i: &Incident) -> String {
    if i.state == "unseen" { "–".to_owned() } else { precise(Duration::from_millis(i.duration_ms)) }
}

fn state(i: &Incident, look: &Look) -> (String, Paint) {
    let (sign, ascii, words, paint) = match i.state.as_str() {
        "open" if i.closes.is_some() => ("◐", "!", "well again", Paint::Warn),
        "open" => ("✗", "x", "open", Paint::Bad),
        "recovered" => ("✓", "+", "recovered", Paint::Good),
        "completed" => ("✓", "+", "completed", Paint::Good),
        "stopped" => ("○", "-", "stopped", Paint::Dim),
        "removed" => ("○", "-", "removed", Paint::Dim),
        "guardian_stopped" => ("○", "-", "keepwell ended", Paint::Dim),
        "unseen" => ("?", "?", "end unseen", Paint::Dim),
        other => ("?", "?", other, Paint::Plain),
    };
    (format!("{} {words}", if look.unicode { sign } else { ascii }), paint)
}

/// What was wrong, why, what was done, and everything that happened, in order.
pub(crate) fn story(i: &Incident, clock: &Clock, look: &Look) -> String {
    let at = |text: &str| clock.at(text).unwrap_or_else(|| text.to_owned());
    let (id, service) = (i.id, &i.service);
    let how = match (i.state.as_str(), &i.closes) {
        ("open", Some(_)) => format!("{service} is well again, {} after it failed", lasted(i)),
        ("open", None) => format!("{service} has not been well for {}", lasted(i)),
        ("recovered", _) => format!("{service} was well again after {}", lasted(i)),
        ("completed", _) => format!("{service} completed after {}", lasted(i)),
        ("stopped", _) => format!("{service} was stopped after {}", lasted(i)),
        ("removed", _) => format!("{service} was removed after {}", lasted(i)),
        ("guardian_stopped", _) => format!("keepwell went down {} later", lasted(i)),
        _ => format!("keepwell ended, and nobody saw how it went on with {service}"),
    };
    let mut text = look.text(&format!("Incident {id}: {how}.\n\n"));
    let mut facts = vec![("began", at(&i.began)), ("cause", i.cause.clone())];
    facts.extend(i.ended.as_deref().map(|ended| ("ended", at(ended))));
    facts.extend(i.closes.as_deref().map(|closes| {
        let due = clock.due(closes).unwrap_or_else(|| at(closes));
        ("closes", format!("{due}, unless something fails before"))
    }));
    let budget = match i.budget_used {
        0 => String::new(),
        n => format!("; {} drawn on the healing budgets", count(n as usize, "restart")),
    };
    let failures = count(i.failures as usize, "failure");
    facts.push(("counted", format!("{failures}, {}{budget}", count(i.restarts as usize, "restart"))));
    facts.extend(i.actions.iter().map(|action| ("done", action.clone())));
    facts.extend(i.evidence.iter().map(|file| ("evidence", file.clone())));
    let mut above = "";
    for (label, fact) in &facts {
        let shown = if *label == above { "" } else { label };
        above = label;
        text += &format!("  {}  {}\n", look.paint(Paint::Dim, &pad(shown, 8)), look.text(fact));
    }
    if !i.timeline.is_empty() {
        text.push('\n');
    }
    // Where events were left out, they are between two halves of the same length.
    let gap = i.timeline.len() / 2;
    for (n, e) in i.timeline.iter().enumerate() {
        if i.omitted > 0 && n == gap {
            text += &look.text(&format!("  … {} left out …\n", count(i.omitted as usize, "event")));
        }
        text += &format!("  {}", events::event(e, clock, look));
    }
    if i.state == "open" {
        text += &format!(
            "\n  why it is as it is  {}\n",
            look.paint(Paint::Strong, &format!("keepwell explain {service}"))
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepwell_sdk::wire::{Event, Reliability};

    fn sample() -> Incidents {
        let event = |at: &str, kind: &str, level: &str, text: &str| Event {
            at: at.into(),
            service: Some("mailer".into()),
            kind: kind.into(),
            level: level.into(),
            text: text.into(),
            incident: Some(12),
            ..Event::default()
        };
        let open = Incident {
            id: 12,
            service: "mailer".into(),
            state: "open".into(),
            cause: "exit code 1 after 400 ms".into(),
            began: "2026-01-31T14:01:55Z".into(),
            duration_ms: 136_000,
            failures: 6,
            restarts: 5,
            budget_used: 1,
            evidence: vec!["evidence/12-mailer-run31.txt".into()],
            actions: vec!["restarted (5 times)".into(), "ended because it failed".into()],
            timeline: vec![
                event("2026-01-31T14:01:55Z", "exited", "warn", "mailer exited: exit code 1 after 400 ms"),
                event("2026-01-31T14:01:55Z", "incident_opened", "info", "mailer: incident 12 began"),
            ],
            ..Incident::default()
        };
        let over = Incident {
            id: 11,
            service: "web".into(),
            state: "recovered".into(),
            cause: "its live check failed: connection refused".into(),
            began: "2026-01-31T11:00:00Z".into(),
            ended: Some("2026-01-31T11:00:04.2Z".into()),
            duration_ms: 4_200,
            failures: 1,
            restarts: 1,
            ..Incident::default()
        };
        let services = vec![
            Reliability { service: "mailer".into(), incidents: 1, open: true, ..Reliability::default() },
            Reliability {
                service: "web".into(),
                incidents: 4,
                mttr_ms: Some(3_100),
                mtbf_ms: Some(172_800_000),
                open: false,
            },
        ];
        Incidents { incidents: vec![open, over], services }
    }

    fn clock() -> Clock {
        Clock::fixed("2026-01-31T14:04:11Z")
    }

    #[test]
    fn the_table_says_what_is_open_and_how_reliable_each_service_is() {
        insta::assert_snapshot!(list(&sample(), &clock(), &Look::SIGNS));
        assert_eq!(list(&Incidents::default(), &clock(), &Look::SIGNS), "no incident is known\n");
        assert!(list(&sample(), &clock(), &Look::PLAIN).is_ascii());
    }

    #[test]
    fn one_is_told_from_its_cause_to_its_end() {
        let found = sample();
        let over = Incident { omitted: 7, ..found.incidents[0].clone() };
        let stories = [&over, &found.incidents[1]].map(|i| story(i, &clock(), &Look::SIGNS));
        insta::assert_snapshot!(stories.join("---\n"));
    }
}
