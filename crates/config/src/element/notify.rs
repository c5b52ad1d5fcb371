//! `notify = [{ webhook = "https://…", format = "slack" }, { exec = ["./page.sh"] }]`.

use std::borrow::Cow;

use keepwell_core::notify::Topic;
use toml::de::DeValue;

use super::duration::Span;
use super::request::{RawSecret, RawSecretHeaders};
use super::scalar::{Text, Texts, choice, list};
use crate::notify::NotifyFormat;
use crate::read::{Element, Key, Node, Reader, Table, no_hint, plain_table, schema_of, table};

choice! { FormatWord = NotifyFormat {
    "json" => NotifyFormat::Json,
    "alertmanager" => NotifyFormat::Alertmanager,
    "slack" => NotifyFormat::Slack,
    "wecom" => NotifyFormat::WeCom,
} }

choice! { TopicWord = Topic {
    "crash_loop" => Topic::CrashLoop,
    "gave_up" => Topic::GaveUp,
    "paged" => Topic::Paged,
    "incident_opened" => Topic::IncidentOpened,
    "incident_closed" => Topic::IncidentClosed,
    "budget_spent" => Topic::BudgetSpent,
    "leak_foreseen" => Topic::LeakForeseen,
    "guard_tripped" => Topic::GuardTripped,
} }

table! {
    /// Somebody who is told of what happens.
    RawNotify {
        /// What this receiver is called in events and in `keepwell notify test --to`.
        name: Text = "`webhook`, `exec`, `webhook-2` …", live;
        /// An address that is posted to, `http` or `https`, or `{ from = "NAME" }`: taken from keepwell's own environment. It is never shown.
        webhook: RawSecret = "–", live;
        /// What is posted: keepwell's own JSON, or what Alertmanager, Slack or WeCom take.
        format: FormatWord = "`\"json\"`", live;
        /// Sent along with the request. Values are text or `{ from = "NAME" }`, and never shown.
        headers: RawSecretHeaders = "none", live;
        /// File of the authorities that an `https` webhook is trusted by, instead of the system's.
        ca: Text = "the system's", live;
        /// Instead of `webhook`: a program and its arguments, which reads the JSON from its input.
        exec: Texts = "–", live;
        /// What it is told of: `"crash_loop"`, `"gave_up"`, `"paged"`, `"incident_opened"`, `"incident_closed"`, `"budget_spent"`, `"leak_foreseen"`, `"guard_tripped"`.
        on: RawTopics = "all of them", live;
        /// Only of these services, and of those with one of `tags`.
        services: Texts = "all of them", live;
        /// Only of services with one of these tags, and of those in `services`.
        tags: Texts = "all of them", live;
        /// One attempt takes no longer.
        timeout: Span = "`\"10s\"`", live;
    }
}
plain_table!(
    RawNotify,
    "a receiver",
    "{ webhook = \"https://…\", format = \"slack\" } or { exec = [\"./page.sh\"] }"
);

/// What a receiver is told of.
#[derive(Clone, Debug)]
pub(crate) struct RawTopics(pub(crate) Vec<Topic>);

impl Element for RawTopics {
    fn what() -> Cow<'static, str> {
        "a list of words".into()
    }
    fn syntax() -> Cow<'static, str> {
        "[\"gave_up\", \"crash_loop\"]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(items) if items.is_empty() => {
                r.bad(r.at(node.span()), key, "it would be told of nothing")
            }
            DeValue::Array(_) => {
                Some(Self(list::<TopicWord, Self>(r, node, key)?.into_iter().map(|w| w.0).collect()))
            }
            DeValue::String(_) => TopicWord::read(r, node, key).map(|w| Self(vec![w.0])),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawTopics, |generator| {
    let word = generator.subschema_for::<TopicWord>();
    schemars::json_schema!({ "anyOf": [word, { "type": "array", "items": word, "minItems": 1 }] })
});

/// All receivers.
#[derive(Clone, Debug)]
pub(crate) struct RawReceivers(pub(crate) Vec<RawNotify>);

/// Each has an outbox of its own.
const MAX_RECEIVERS: usize = 16;

impl Element for RawReceivers {
    fn what() -> Cow<'static, str> {
        "a list of receivers".into()
    }
    fn syntax() -> Cow<'static, str> {
        "[{ webhook = \"https://…\", format = \"slack\" }, { exec = [\"./page.sh\"] }]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(t) => Some(Self(vec![RawNotify::read_table(r, t, key, no_hint)])),
            DeValue::Array(items) if items.len() > MAX_RECEIVERS => {
                r.bad(r.at(node.span()), key, format!("at most {MAX_RECEIVERS} receivers"))
            }
            DeValue::Array(_) => list::<RawNotify, Self>(r, node, key).map(Self),
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawReceivers, |generator| {
    let receiver = RawNotify::table_schema(generator);
    schemars::json_schema!({ "anyOf": [receiver, { "type": "array", "items": receiver, "maxItems": MAX_RECEIVERS }] })
});
