//! A page with every metric there is, and what is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::event::{Event, EventKind, ExitClass, ExitStatus};
use keepwell_core::spec::Limit;
use keepwell_core::{Mono, Now, Outcome, ProbeId, Role};

use super::*;
use crate::convert;

const DOCS: &str = include_str!("../../../../docs/metrics.md");

fn ended(tally: &mut Tally, status: ExitStatus, expected: bool) {
    let kind = EventKind::Exited {
        status,
        class: ExitClass::Retry,
        role: Role::Main,
        ran_for: Duration::from_secs(1),
        was_ready: true,
        expected,
    };
    tell(tally, kind);
}

fn tell(tally: &mut Tally, kind: EventKind) {
    let service = Some(ServiceId::new("web", 2));
    let event = Event { at: Now::default(), service, run: None, incident: Some(7), kind };
    tally.told(&event, &convert::event(&event, 1));
}

fn probe(name: &str) -> Probe {
    Probe { service: ServiceId::new("web", 2), purpose: "live", name: name.to_owned() }
}

fn at(milliseconds: u64) -> Mono {
    Mono(milliseconds * 1_000_000)
}

fn tally() -> Tally {
    let mut tally = Tally::default();
    ended(&mut tally, ExitStatus::Code(3), false);
    ended(&mut tally, ExitStatus::Code(3), false);
    let killed = ExitStatus::Signal { signal: 15, core_dumped: false, out_of_memory: false };
    ended(&mut tally, killed, true);
    tell(&mut tally, EventKind::IncidentOpened { id: 7, cause: "exit code 3 after 1 s".into() });
    let answers = [
        (3, Outcome::Pass),
        (800, Outcome::Pass),
        (900, Outcome::Fail("slow".into())),
        (9_000, Outcome::Unknown("busy".into())),
    ];
    for (n, (took, outcome)) in (1..).zip(answers) {
        let began = at(10_000 * n);
        tally.begun(ProbeId(n), probe("exec say \"hi\" \\ there\n"), began, Duration::from_secs(1));
        tally.answered(ProbeId(n), &outcome, began + Duration::from_millis(took));
    }
    tally
}

fn figures() -> Figures {
    let used = Usage {
        memory_bytes: Some(4096),
        cpu_usec: Some(1_250_000),
        processes: Some(2),
        descriptors: Some(12),
        threads: Some(3),
        ..Usage::default()
    };
    let limit = Limit { max: 10, window: Duration::from_secs(600) };
    Figures {
        services: vec![ServiceFigures {
            id: ServiceId::new("web", 2),
            state: State::Ready,
            since: Wall(1_700_000_000_250),
            usable: true,
            wanted: true,
            started: Some(Wall(1_700_000_000_000)),
            restarts: 4,
            beat_age: Some(1.5),
            beat_errors: Some(0),
            reported: BTreeMap::from([("queue".to_owned(), 7.5), ("ratio".to_owned(), f64::NAN)]),
            incident: true,
            guards: vec![GuardFigures {
                rule: "memory > 800 MB for 2 min".into(),
                tripped: false,
                reached: Some(Wall(1_700_000_600_000)),
            }],
            log_bytes: Some(99),
            usage: used,
        }],
        tally: tally(),
        budgets: vec![
            Budget { group: None, limit, used: 3 },
            Budget { group: Some(Arc::from("db")), limit: Limit { max: 1, ..limit }, used: 0 },
        ],
        receivers: vec![ReceiverFigures { name: "ops".into(), waiting: 2, attempts: [5, 3, 1], lost: 4 }],
        own: OwnFigures {
            version: "1.2.3".into(),
            anchor_version: "1.2.2".into(),
            started: Wall(1_699_999_999_000),
            accepted: Wall(1_699_999_999_500),
            rebirths: 1,
            anchor_pid: 7,
            traffic: (2, 3),
            store_waiting: 4,
            store_lost: 5,
            log_lost: 6,
            processes: [("anchor", used), ("daemon", used)],
            requests: BTreeMap::from([(("/metrics", 200), 8)]),
        },
    }
}

#[test]
fn a_page_has_every_metric() {
    let text = page(&figures(), Form::Text);
    insta::assert_snapshot!(text);
    let typed: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let all: Vec<&str> = FAMILIES.iter().map(|f| f.name).collect();
    assert_eq!(typed, all, "each once, in the order of the list");
}

#[test]
fn openmetrics_says_the_same_in_its_own_words() {
    let (text, open) = (page(&figures(), Form::Text), page(&figures(), Form::OpenMetrics));
    let samples =
        |page: &str| page.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(samples(&text), samples(&open));
    assert!(open.contains("# TYPE keepwell_service_restarts counter\n"), "{open}");
    assert!(open.contains("# TYPE keepwell_service_memory_bytes gauge\n"), "{open}");
    assert!(open.ends_with("\n# EOF\n"));
}

#[test]
fn exit_codes_without_end_share_a_series() {
    let mut tally = Tally::default();
    (0..1000).for_each(|code| ended(&mut tally, ExitStatus::Code(code), false));
    let exits = &tally.exits[&ServiceId::new("web", 2)];
    assert_eq!(exits.len(), 17);
    assert_eq!(exits.values().sum::<u64>(), 1000);
    assert_eq!(exits.iter().find(|(exit, _)| exit.code == "other").map(|(_, n)| *n), Some(984));
}

#[test]
fn what_is_gone_is_forgotten_and_so_are_attempts_without_an_answer() {
    let mut tally = tally();
    tally.begun(ProbeId(9), probe("x"), at(0), Duration::from_secs(1));
    let web = ServiceId::new("web", 2);
    tally.keep(&BTreeSet::from([&web]), at(60_000));
    assert_eq!((tally.exits.len(), tally.probes.len()), (1, 1));
    tally.keep(&BTreeSet::from([&web]), at(61_001));
    tally.answered(ProbeId(9), &Outcome::Pass, at(61_002));
    assert_eq!(tally.probes.len(), 1, "its answer came too late to be one");
    tally.keep(&BTreeSet::new(), at(61_003));
    assert_eq!((tally.exits.len(), tally.probes.len()), (0, 0));
}

/// The names of metrics in a text, as they stand on the page.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metric = |word: &str| word.starts_with("keepwell_");
    words
        .filter(|w| metric(w))
        .map(|w| ["_bucket", "_sum", "_count"].iter().fold(w, |w, s| w.trim_end_matches(s)))
        .collect()
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let examples = [
        ("prometheus-rules.yml", include_str!("../../../../examples/prometheus-rules.yml")),
        ("grafana.json", include_str!("../../../../examples/grafana.json")),
    ];
    let all: BTreeSet<&str> = FAMILIES.iter().map(|f| f.name).collect();
    for (file, text) in examples {
        let asked = names(text);
        assert!(asked.len() >= 7, "{file}: {asked:?}");
        let missing: Vec<_> = asked.difference(&all).collect();
        assert!(missing.is_empty(), "{file} asks for what there is not: {missing:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(examples[1].1).unwrap();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|p| p["type"] != "row") {
        assert!(panel["targets"][0]["expr"].is_string(), "{panel}");
    }
}

#[test]
fn the_documentation_names_the_same_metrics() {
    let row = |f: &Family| {
        let labels = f.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(", ");
        let labels = if labels.is_empty() { "–".to_owned() } else { labels };
        format!("| `{}` | {} | {labels} | {} |", f.name, f.kind.name(), f.help)
    };
    let rows: Vec<String> = FAMILIES.iter().map(|f| row(f)).collect();
    let shown: Vec<&str> = DOCS.lines().filter(|l| l.starts_with("| `keepwell_")).collect();
    assert_eq!(shown, rows, "docs/metrics.md should have:\n{}", rows.join("\n"));
}
