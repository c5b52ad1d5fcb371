//! What is sent, in the words of each kind of receiver. docs/notify.md describes keepwell's own.

use keepwell_config::NotifyFormat;
use keepwell_core::Wall;
use keepwell_core::notify::{Message, Notice, Topic};
use serde_json::{Value, json};

use super::Sender;
use crate::convert;

/// WeCom takes 2,048 bytes of text.
const WECOM: usize = 2_000;
/// Slack shows the first 4,000 characters.
const SLACK: usize = 3_800;
/// An alert that nobody ends is over after this; an incident of its own end sooner.
const LASTS: i64 = 24 * 3600 * 1000;
const MOMENT: i64 = 3600 * 1000;

pub(super) fn body(format: NotifyFormat, message: &Message, sender: &Sender) -> String {
    let value = match format {
        NotifyFormat::Json => own(message, sender),
        NotifyFormat::Alertmanager => message.notices.iter().map(|n| alert(n, sender)).collect(),
        NotifyFormat::Slack => json!({ "text": text(message, sender, SLACK, &escaped) }),
        NotifyFormat::WeCom => {
            json!({ "msgtype": "text", "text": { "content": text(message, sender, WECOM, &str::to_owned) } })
        }
    };
    value.to_string()
}

fn own(message: &Message, sender: &Sender) -> Value {
    let notice = |n: &Notice| {
        json!({
            "topic": n.topic.name(),
            "service": Some(&n.service).filter(|s| !s.is_empty()),
            "incident": n.incident,
            "at": convert::time(n.at),
            "severity": severity(n.topic),
            "text": n.text,
            "repeated": n.repeated,
        })
    };
    json!({
        "version": 1,
        "id": format!("{}-{}", sender.guardian, message.number),
        "host": sender.host,
        "notices": message.notices.iter().map(notice).collect::<Vec<_>>(),
        "dropped": message.dropped,
    })
}

fn severity(topic: Topic) -> &'static str {
    match topic {
        Topic::CrashLoop | Topic::GaveUp | Topic::Paged | Topic::BudgetSpent => "critical",
        Topic::IncidentOpened | Topic::LeakForeseen | Topic::GuardTripped => "warning",
        Topic::IncidentClosed | Topic::Test => "info",
    }
}

/// One that closes an incident ends the alert that opened it: the labels are the same.
fn alert(n: &Notice, sender: &Sender) -> Value {
    let (name, severity, lasts) = match n.topic {
        Topic::CrashLoop => ("KeepwellCrashLoop", severity(n.topic), MOMENT),
        Topic::GaveUp => ("KeepwellGaveUp", severity(n.topic), MOMENT),
        Topic::Paged => ("KeepwellPaged", severity(n.topic), MOMENT),
        Topic::IncidentOpened => ("KeepwellIncident", severity(n.topic), LASTS),
        Topic::IncidentClosed => ("KeepwellIncident", severity(Topic::IncidentOpened), 0),
        Topic::BudgetSpent => ("KeepwellBudgetSpent", severity(n.topic), MOMENT),
        Topic::LeakForeseen => ("KeepwellLeakForeseen", severity(n.topic), MOMENT),
        Topic::GuardTripped => ("KeepwellGuardTripped", severity(n.topic), MOMENT),
        Topic::Test => ("KeepwellTest", severity(n.topic), 60_000),
    };
    let mut labels = json!({ "alertname": name, "severity": severity, "host": sender.host });
    if !n.service.is_empty() {
        labels["service"] = n.service.clone().into();
    }
    if let (Some(incident), "KeepwellIncident") = (n.incident, name) {
        labels["incident"] = incident.to_string().into();
    }
    let mut alert = json!({
        "labels": labels,
        "annotations": { "summary": n.text },
        "endsAt": convert::time(Wall(n.at.0.saturating_add(lasts))),
    });
    if n.topic != Topic::IncidentClosed {
        alert["startsAt"] = convert::time(n.at).into();
    }
    alert
}

/// A line for each notice, as many as there is room for.
fn text(message: &Message, sender: &Sender, room: usize, escape: &dyn Fn(&str) -> String) -> String {
    let mut text = escape(&format!("keepwell on {}", sender.host));
    let more = |left: u64| format!("\n… and {left} more: keepwell events");
    let mut left = message.notices.len() as u64 + message.dropped;
    for n in &message.notices {
        let again = if n.repeated > 0 { format!(" (again, {} times)", n.repeated) } else { String::new() };
        let line = escape(&format!("\n[{}] {}{again}", n.topic.name(), n.text));
        if text.len() + line.len() + more(left).len() > room {
            break;
        }
        text.push_str(&line);
        left -= 1;
    }
    if left > 0 {
        text.push_str(&more(left));
    }
    text
}

/// Slack takes these three for its own (docs.slack.dev, "Formatting message text").
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
