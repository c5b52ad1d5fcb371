//! An HTTP request of a check or of a stop step.

use super::Building;
use crate::config::Method;
use crate::element::ready::ReadyTable;
use crate::http::{HttpExpect, HttpRequest};
use crate::read::{At, Draft};

/// The keys that go with `http` alone.
pub(super) fn keys(t: &ReadyTable) -> [(&'static str, Option<At>); 10] {
    [
        ("method", t.method.as_ref().map(|l| l.at)),
        ("headers", t.headers.as_ref().map(|l| l.at)),
        ("send", t.send.as_ref().map(|l| l.at)),
        ("status", t.status.as_ref().map(|l| l.at)),
        ("body", t.body.as_ref().map(|l| l.at)),
        ("body_matches", t.body_matches.as_ref().map(|l| l.at)),
        ("json", t.json.as_ref().map(|l| l.at)),
        ("ca", t.ca.as_ref().map(|l| l.at)),
        ("certificate", t.certificate.as_ref().map(|l| l.at)),
        ("key", t.key.as_ref().map(|l| l.at)),
    ]
}

impl Building<'_, '_> {
    /// The request for `url`; `method`: when none is written. `table`: where it stands.
    pub(super) fn http_request(
        &mut self,
        t: &ReadyTable,
        url: &str,
        method: Method,
        table: &str,
    ) -> HttpRequest {
        let tls = [
            ("ca", t.ca.as_ref().map(|l| l.at)),
            ("certificate", t.certificate.as_ref().map(|l| l.at)),
            ("key", t.key.as_ref().map(|l| l.at)),
        ];
        for (key, at) in tls.into_iter().filter(|_| url.starts_with("http://")) {
            if let Some(at) = at {
                let message = format!("`{key}` in {table} has no effect without https");
                self.tell(Draft::error("no-effect", at, message).label("take it away, or ask over https://"));
            }
        }
        let identity = match (&t.certificate, &t.key) {
            (Some(certificate), Some(key)) => Some((certificate.value.0.clone(), key.value.0.clone())),
            (None, None) => None,
            (Some(one), None) => self.half(one.at, "certificate", "key", t, table),
            (None, Some(one)) => self.half(one.at, "key", "certificate", t, table),
        };
        let method = t.method.as_ref().map_or(method, |m| m.value.0);
        if method == Method::Head {
            let body =
                keys(t).into_iter().filter(|(key, _)| matches!(*key, "body" | "body_matches" | "json"));
            for (key, at) in body {
                if let Some(at) = at {
                    let message = format!("`{key}` in {table} has no effect with the method HEAD");
                    self.tell(Draft::error("no-effect", at, message).label("its answer has no body"));
                }
            }
        }
        HttpRequest {
            method,
            url: url.into(),
            headers: t
                .headers
                .iter()
                .flat_map(|h| &h.value.0)
                .map(|(n, v)| (n.clone(), v.value.clone()))
                .collect(),
            send: t.send.as_ref().map(|s| s.value.0.clone()),
            ca: t.ca.as_ref().map(|ca| ca.value.0.clone()),
            identity,
        }
    }

    fn half<T>(
        &mut self,
        at: At,
        has: &'static str,
        other: &'static str,
        t: &ReadyTable,
        table: &str,
    ) -> Option<T> {
        if !t.bad.contains(&other) {
            let message = format!("{table} has a `{has}` and no `{other}`");
            self.tell(Draft::error("missing-key", at, message).label(format!("`{other}` belongs to it")));
        }
        None
    }
}

/// Which answer passes.
pub(super) fn http_expect(t: &ReadyTable) -> HttpExpect {
    HttpExpect {
        status: t.status.as_ref().map_or_else(|| [(200, 399)].into(), |s| s.value.0.clone()),
        body: t.body.as_ref().map(|b| b.value.0.clone()),
        pattern: t.body_matches.as_ref().map(|p| p.value.0.clone()),
        json: t.json.as_ref().map(|j| j.value.0.as_slice().into()).unwrap_or_default(),
    }
}
