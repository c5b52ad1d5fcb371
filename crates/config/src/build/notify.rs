//! Receivers of messages.

use std::collections::BTreeSet;
use std::time::Duration;

use keepwell_core::notify::{ANSWER_LOST, Topic};

use crate::address::http_target;
use crate::config::Context;
use crate::element::notify::{RawNotify, RawReceivers};
use crate::element::request::{RawSecret, is_header};
use crate::http::Secret;
use crate::notify::{NotifyConfig, NotifyFormat, NotifyTo};
use crate::read::{At, Draft, Located, Reader, nearest};

const TIMEOUT: Duration = Duration::from_secs(10);

/// All receivers; `at`: where they are written.
pub(crate) fn receivers(r: &mut Reader<'_>, cx: &Context, raw: &RawReceivers, at: At) -> Box<[NotifyConfig]> {
    let mut names = BTreeSet::new();
    raw.0.iter().filter_map(|raw| receiver(r, cx, raw, at, &mut names)).collect()
}

fn receiver(
    r: &mut Reader<'_>,
    cx: &Context,
    raw: &RawNotify,
    at: At,
    names: &mut BTreeSet<Box<str>>,
) -> Option<NotifyConfig> {
    let (kind, to) = match (&raw.webhook, &raw.exec) {
        (Some(url), None) => {
            let written = taken(r, cx, url, "webhook");
            let headers = raw.headers.iter().flat_map(|h| &h.value.0);
            let headers = headers.map(|(name, value)| Some((name.clone(), header(r, cx, value)?)));
            // All that is wrong is told at once.
            let headers: Vec<Option<_>> = headers.collect();
            let address = written?;
            if let Err(why) = http_target(address.expose()) {
                r.push(
                    Draft::error("bad-value", url.at, "`webhook` in keepwell.notify is no address")
                        .label(why),
                );
                return None;
            }
            let to = NotifyTo::Webhook {
                url: address,
                format: raw.format.as_ref().map_or(NotifyFormat::Json, |f| f.value.0),
                headers: headers.into_iter().flatten().collect(),
                ca: raw.ca.as_ref().map(|ca| ca.value.0.clone()),
            };
            ("webhook", to)
        }
        (None, Some(exec)) => {
            let of_webhooks = [
                ("format", raw.format.as_ref().map(|l| l.at)),
                ("headers", raw.headers.as_ref().map(|l| l.at)),
                ("ca", raw.ca.as_ref().map(|l| l.at)),
            ];
            for (key, at) in of_webhooks {
                if let Some(at) = at {
                    let message = format!("`{key}` of a receiver has no effect with `exec`");
                    r.push(Draft::error("no-effect", at, message).label("take it away"));
                }
            }
            ("exec", NotifyTo::Exec(exec.value.0.clone()))
        }
        (Some(one), Some(other)) => {
            let message = "a receiver in keepwell.notify has both `webhook` and `exec`";
            r.push(
                Draft::error("ambiguous", other.at, message)
                    .label("make two of it")
                    .also(one.at, "the other one"),
            );
            return None;
        }
        (None, None) => {
            if !raw.bad.iter().any(|key| ["webhook", "exec"].contains(key)) {
                let message = "a receiver in keepwell.notify has neither `webhook` nor `exec`";
                r.push(
                    Draft::error("missing-key", at, message)
                        .help("{ webhook = \"https://…\", format = \"slack\" }"),
                );
            }
            return None;
        }
    };
    let name = raw.name.as_ref().map_or_else(|| free(kind, names), |name| name.value.0.clone());
    if !names.insert(name.clone())
        && let Some(written) = &raw.name
    {
        let message = format!("two receivers in keepwell.notify are called `{name}`");
        r.push(Draft::error("bad-value", written.at, message).label("another name"));
    }
    if let Some(t) = raw.timeout.as_ref().filter(|t| t.value.0.is_zero() || t.value.0 * 2 > ANSWER_LOST) {
        r.push(
            Draft::error("bad-value", t.at, "`timeout` of a receiver must be from 1ms to 1m")
                .label("one attempt"),
        );
    }
    Some(NotifyConfig {
        name,
        to,
        on: raw.on.as_ref().map_or(Topic::ALL.into(), |on| on.value.0.clone().into()),
        services: raw.services.as_ref().map(|s| s.value.0.clone()).unwrap_or_default(),
        tags: raw.tags.as_ref().map(|t| t.value.0.clone()).unwrap_or_default(),
        timeout: raw.timeout.as_ref().map_or(TIMEOUT, |t| t.value.0),
    })
}

/// Who is only told of what there is not is told of nothing.
pub(crate) fn check_receivers(
    r: &mut Reader<'_>,
    raw: &RawReceivers,
    services: &BTreeSet<&str>,
    tags: &BTreeSet<&str>,
) {
    let lists = raw.0.iter().flat_map(|raw| {
        let services = raw.services.iter().map(|list| (list, services, "there is no service"));
        services.chain(raw.tags.iter().map(|list| (list, tags, "no service has the tag")))
    });
    for (list, known, what) in lists {
        for name in list.value.0.iter().filter(|name| !known.contains(&***name)) {
            let d = Draft::warning("no-effect", list.at, format!("{what} `{name}`"));
            let d = d.label("a receiver is to be told of it");
            r.push(match nearest(name, known.iter().copied()) {
                Some(near) => d.help(format!("did you mean \"{near}\"?")),
                None => d,
            });
        }
    }
}

/// A secret as it is written, or as keepwell's own environment has it.
fn taken(r: &mut Reader<'_>, cx: &Context, raw: &Located<RawSecret>, key: &str) -> Option<Secret> {
    match &raw.value {
        RawSecret::Text(text) => Some(text.clone()),
        RawSecret::From(name) => {
            let value = cx.env.get(&**name).map(|value| Secret::new(value.as_str()));
            if value.is_none() {
                let message = format!("`{name}` is not set in keepwell's own environment");
                let d = Draft::error("missing-variable", raw.at, message);
                r.push(
                    d.label(format!("`{key}` of a receiver takes it from there"))
                        .help("set it where keepwell is started"),
                );
            }
            value
        }
    }
}

fn header(r: &mut Reader<'_>, cx: &Context, raw: &Located<RawSecret>) -> Option<Secret> {
    let value = taken(r, cx, raw, "headers")?;
    if !is_header(&value) {
        let message = "a value of `headers` in keepwell.notify cannot be sent";
        r.push(Draft::error("bad-value", raw.at, message).label("it holds control characters"));
        return None;
    }
    Some(value)
}

/// `webhook`, `webhook-2` …
fn free(kind: &str, names: &BTreeSet<Box<str>>) -> Box<str> {
    let numbered = |n: usize| if n == 1 { kind.to_owned() } else { format!("{kind}-{n}") };
    let mut all = (1..).map(|n| numbered(n).into_boxed_str());
    all.find(|name| !names.contains(name)).unwrap_or_default()
}
