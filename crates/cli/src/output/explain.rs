//! `keepwell explain`.

use keepwell_sdk::wire::Explanation;

use super::human::pad;
use super::{Look, Paint};

/// The causal chain of each instance: headline, facts, last words, what to do.
pub(crate) fn explain(all: &[Explanation], look: &Look) -> String {
    all.iter().map(|e| one(e, look)).collect::<Vec<_>>().join("\n")
}

const WORDS: &str = "last words";

fn one(e: &Explanation, look: &Look) -> String {
    let facts = e.facts.iter().map(|(label, text)| (label.as_str(), text.as_str()));
    let rows: Vec<(&str, &str)> = facts.chain(e.last_words.iter().map(|w| (WORDS, w.as_str()))).collect();
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let mut text = look.text(&e.headline);
    if !text.ends_with('.') {
        text.push('.');
    }
    text.push('\n');
    if !rows.is_empty() {
        text.push('\n');
    }
    let mut above = "";
    for (label, fact) in rows {
        let shown = if label == above { "" } else { label };
        above = label;
        let line =
            format!("  {}  {}", look.paint(Paint::Dim, &pad(&look.text(shown), width)), look.text(fact));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Explanation {
        Explanation {
            service: "worker".into(),
            state: "waiting".into(),
            headline: "worker is waiting because api is not ready, and api is crash-looping".into(),
            facts: vec![
                ("api".into(), "6 starts in 60 s; its policy allows 5".into()),
                ("next".into(), "14:07:11 (in 3 min), attempt 7".into()),
                ("last exit".into(), "exit code 1 after 400 ms, before it was ready, 5 s ago".into()),
                ("before".into(), "exit code 1 after 380 ms, before it was ready, 8 s ago".into()),
                ("before".into(), "exit code 1 after 390 ms, before it was ready, 11 s ago".into()),
            ],
            try_next: vec![
                ("try now".into(), "keepwell start api".into()),
                ("start without api".into(), "keepwell start worker --ignore-dependencies".into()),
            ],
            last_words: vec![
                "Traceback:".into(),
                "\x1b[31mconnect ECONNREFUSED 127.0.0.1:5432\x1b[0m".into(),
            ],
            ..Explanation::default()
        }
    }

    #[test]
    fn the_chain_is_told_in_order() {
        let text = explain(&[sample()], &Look::SIGNS);
        insta::assert_snapshot!(text, @r"
        worker is waiting because api is not ready, and api is crash-looping.

          api         6 starts in 60 s; its policy allows 5
          next        14:07:11 (in 3 min), attempt 7
          last exit   exit code 1 after 400 ms, before it was ready, 5 s ago
          before      exit code 1 after 380 ms, before it was ready, 8 s ago
                      exit code 1 after 390 ms, before it was ready, 11 s ago
          last words  Traceback:
                      connect ECONNREFUSED 127.0.0.1:5432

          try now            keepwell start api
          start without api  keepwell start worker --ignore-dependencies
        ");
    }

    #[test]
    fn a_healthy_service_has_little_to_explain() {
        let e = Explanation { headline: "api is ready.".into(), ..Explanation::default() };
        assert_eq!(explain(&[e], &Look::PLAIN), "api is ready.\n");
    }
}
