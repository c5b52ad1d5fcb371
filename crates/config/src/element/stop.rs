//! `stop = [{ http = "http://127.0.0.1:8080/stop", wait = "5s" }, { signal = "TERM", wait = "10s" }]`.

use std::borrow::Cow;

use keepwell_core::spec::To;
use toml::de::DeValue;

use super::command::CommandText;
use super::duration::Span;
use super::ready::ReadyTable;
use super::request::{RawHeaders, SecretText};
use super::scalar::{Filled, choice, list};
use super::signal::Signal;
use crate::config::Method;
use crate::read::{At, Element, Key, Node, Reader, Table, no_hint, plain_table, schema_of, table};

choice! { ToWord = To {
    "main" => To::Main,
    "group" => To::Group,
    "tree" => To::Tree,
} }

choice! { MethodWord = Method {
    "GET" => Method::Get,
    "POST" => Method::Post,
    "PUT" => Method::Put,
    "DELETE" => Method::Delete,
    "HEAD" => Method::Head,
} }

table! {
    /// One step on the way down: a signal, a request or a command. After the last one the whole tree is killed.
    RawStep {
        /// The signal that is sent, by its name. On Windows `"INT"` and `"TERM"` are Ctrl+C, `"BREAK"` is Ctrl+Break, and `"CLOSE"` asks all windows to close.
        signal: Signal = "`\"TERM\"`", live;
        /// Instead of a signal: the address of an HTTP request. It has failed without an answer from 200 to 299.
        http: Filled = "–", live;
        /// With `http`: the method of the request.
        method: MethodWord = "`\"POST\"`", live;
        /// With `http`: headers that are sent along; never shown.
        headers: RawHeaders = "none", live;
        /// With `http`: the body of the request; never shown.
        send: SecretText = "none", live;
        /// With `https://`: file of the authorities that are trusted, PEM.
        ca: Filled = "those of the system", live;
        /// With `https://`: file of the certificate that keepwell shows, PEM.
        certificate: Filled = "none", live;
        /// With `certificate`: file of its private key, PEM.
        key: Filled = "none", live;
        /// Instead of a signal: a program, a list or a string that is split as a shell would. It runs as a hook does, and has failed unless it exits with 0.
        command: CommandText = "–", live;
        /// How long to wait for all processes of the service to be gone before the next step.
        wait: Span = "`\"10s\"`", live;
        /// Who gets the signal: the main process, its process group, or every process of the tree.
        to: ToWord = "`\"main\"`; `\"group\"` with `shell = true`", live;
    }
}
plain_table!(RawStep, "a step", "{ signal = \"TERM\", wait = \"10s\", to = \"main\" }");

/// The ladder.
#[derive(Clone, Debug)]
pub(crate) struct RawStop(pub(crate) Vec<RawStep>);

/// A ladder of more steps than there are signals is a mistake.
const MAX_STEPS: usize = 64;

impl RawStep {
    /// What is asked, as a check says it.
    pub(crate) fn asked(&self) -> ReadyTable {
        ReadyTable {
            http: self.http.clone(),
            method: self.method.clone(),
            headers: self.headers.clone(),
            send: self.send.clone(),
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            bad: self.bad.clone(),
            ..ReadyTable::default()
        }
    }

    /// What is to be done, by its keys.
    pub(crate) fn actions(&self) -> Vec<(&'static str, At)> {
        let all = [
            ("signal", self.signal.as_ref().map(|l| l.at)),
            ("http", self.http.as_ref().map(|l| l.at)),
            ("command", self.command.as_ref().map(|l| l.at)),
        ];
        all.into_iter().filter_map(|(name, at)| at.map(|at| (name, at))).collect()
    }
}

impl Element for RawStop {
    fn what() -> Cow<'static, str> {
        "a list of steps".into()
    }
    fn syntax() -> Cow<'static, str> {
        "[{ signal = \"TERM\", wait = \"10s\" }]; the last step always is the kill of the whole tree, and [] is that alone"
            .into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        let at = r.at(node.span());
        match node.get_ref() {
            DeValue::Table(t) => Some(Self(vec![RawStep::read_table(r, t, key, no_hint)])),
            DeValue::Array(items) if items.len() > MAX_STEPS => {
                r.bad(at, key, format!("at most {MAX_STEPS} steps"))
            }
            DeValue::Array(_) => list::<RawStep, Self>(r, node, key).map(Self),
            DeValue::String(s) => {
                let (mut signal, mut wait) = (Cow::Borrowed("TERM"), Cow::Borrowed("10s"));
                // Whoever writes one text means a time as often as a signal.
                let what = if s.starts_with(|c: char| c.is_ascii_digit()) { &mut wait } else { &mut signal };
                *what = s.escape_debug().to_string().into();
                r.bad(at, key, format!("write [{{ signal = \"{signal}\", wait = \"{wait}\" }}]"))
            }
            _ => r.wrong_type(node, key),
        }
    }
}
schema_of!(RawStop, |generator| {
    let step = RawStep::table_schema(generator);
    schemars::json_schema!({ "anyOf": [step, { "type": "array", "items": step, "maxItems": MAX_STEPS }] })
});
