//! `keepwell explain`.

use keepwell_sdk::wire::{Exit, Explanation};

use super::human::pad;
use super::{Look, Paint};
use crate::time::{Clock, precise};

/// The causal chain of each instance, the worst words first: headline, facts, last words, exits, what to do.
pub(crate) fn explain(all: &[Explanation], clock: &Clock, look: &Look) -> String {
    all.iter().map(|e| one(e, clock, look)).collect::<Vec<_>>().join("\n")
}

const EXITS: &str = "last exits";
const WORDS: &str = "last words";

fn one(e: &Explanation, clock: &Clock, look: &Look) -> String {
    let mut rows: Vec<(&str, String)> = e.facts.iter().map(|(l, t)| (l.as_str(), t.clone())).collect();
    let labelled = |label: &'static str, lines: Vec<String>| {
        lines.into_iter().enumerate().map(move |(n, line)| (if n == 0 { label } else { "" }, line))
    };
    rows.extend(labelled(WORDS, e.last_words.clone()));
    rows.extend(labelled(EXITS, e.exits.iter().rev().map(|x| exit(x, clock)).collect()));
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut text = look.text(&e.headline);
    if !text.ends_with('.') {
        text.push('.');
    }
    text.push('\n');
    if !rows.is_empty() {
        text.push('\n');
    }
    for (label, fact) in rows {
        let line =
            format!("  {}  {}", look.paint(Paint::Dim, &pad(&look.text(label), width)), look.text(&fact));
        text += line.trim_end();
        text.push('\n');
    }
    if !e.try_next.is_empty() {
        text.push('\n');
    }
    let width = e.try_next.iter().map(|(phrase, _)| phrase.chars().count()).max().unwrap_or(0);
    for (phrase, command) in &e.try_next {
        text += &format!("  {}  {}\n", pad(phrase, width), look.paint(Paint::Strong, command));
    }
    text
}

/// `14:01:55  exit code 3 after 1.2 s, before it was ready`.
fn exit(x: &Exit, clock: &Clock) -> String {
    let at = clock.at(&x.at).unwrap_or_else(|| x.at.clone());
    let mut text = format!("{at}  {}", x.text);
    // A program that was never loaded ran for no time at all.
    if x.code.is_some() || x.signal.is_some() {
        text += &format!(" after {}", precise(std::time::Duration::from_millis(x.ran_for_ms)));
        if x.expected {
            text += ", as asked";
        } else if !x.was_ready && x.class != "success" {
            text += ", before it was ready";
        }
    }
    match x.class.as_str() {
        "config_error" => text += ": a configuration error by its code",
        "fatal" => text += ": fatal by its code",
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Explanation {
        let exit = |at: &str, code: Option<i32>, signal: Option<i32>, text: &str, class: &str| Exit {
            at: at.into(),
            code,
            signal,
            text: text.into(),
            class: class.into(),
            ran_for_ms: 400,
            was_ready: false,
            expected: false,
        };
        Explanation {
            service: "worker".into(),
            state: "waiting".into(),
            headline: "worker is waiting because api is not ready, and api is crash-looping".into(),
            facts: vec![
                ("api".into(), "6 starts in 60 s; its policy allows 5".into()),
                ("next".into(), "14:07:11 (in 3 min), attempt 7".into()),
            ],
            try_next: vec![
                ("try now".into(), "keepwell start api".into()),
                ("start without api".into(), "keepwell start worker --ignore-dependencies".into()),
            ],
            last_words: vec![
                "Traceback:".into(),
                "\x1b[31mconnect ECONNREFUSED 127.0.0.1:5432\x1b[0m".into(),
            ],
            exits: vec![
                exit("2026-01-31T14:01:02Z", Some(0), None, "exit code 0", "success"),
                Exit {
                    was_ready: true,
                    expected: true,
                    ..exit("2026-01-31T14:01:03Z", None, Some(15), "killed by SIGTERM", "retry")
                },
                exit("2026-01-31T14:01:05Z", None, None, "program not found: /opt/api", "retry"),
                exit("2026-01-31T14:01:55Z", Some(78), None, "exit code 78", "config_error"),
            ],
        }
    }

    #[test]
    fn the_chain_is_told_in_order() {
        let text = explain(&[sample()], &Clock::fixed("2026-01-31T14:04:11Z"), &Look::SIGNS);
        insta::assert_snapshot!(text, @r"
        worker is waiting because api is not ready, and api is crash-looping.

          api         6 starts in 60 s; its policy allows 5
          next        14:07:11 (in 3 min), attempt 7
          last words  Traceback:
                      connect ECONNREFUSED 127.0.0.1:5432
          last exits  14:01:55  exit code 78 after 400 ms, before it was ready: a configuration error by its code
                      14:01:05  program not found: /opt/api
                      14:01:03  killed by SIGTERM after 400 ms, as asked
                      14:01:02  exit code 0 after 400 ms

          try now            keepwell start api
          start without api  keepwell start worker --ignore-dependencies
        ");
    }

    #[test]
    fn a_healthy_service_has_little_to_explain() {
        let e = Explanation { headline: "api is ready.".into(), ..Explanation::default() };
        assert_eq!(explain(&[e], &Clock::fixed("2026-01-31T14:04:11Z"), &Look::PLAIN), "api is ready.\n");
    }
}
