//! What a service waits for before its start.

use std::time::Duration;

use keepwell_core::spec::{AfterWait, WaitFor};

use super::probes::name;
use super::{Building, HOOK_TIMEOUT};
use crate::config::{Outside, ServiceConfig, Wait};
use crate::element::wait_for::{Awaited, RawWaitFor};
use crate::read::{At, Draft, Located};
use crate::resolve::Filler;

/// Longer is an outage that somebody should hear of.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The decision's half, the shell's, and where each thing stands.
#[derive(Default)]
pub(super) struct Built {
    pub(super) spec: Option<WaitFor>,
    pub(super) how: Option<Box<Wait>>,
    pub(super) places: Vec<At>,
}

impl Building<'_, '_> {
    pub(super) fn wait_for(&mut self, raw: Option<&Located<RawWaitFor>>) -> Built {
        let Some(raw) = raw else { return Built::default() };
        let t = &raw.value;
        let table = format!("services.{}.wait_for", self.name);
        let Some(on) = &t.on else {
            if !t.bad.contains(&"on") {
                let d = Draft::error("missing-key", raw.at, format!("`on` is missing in {table}"));
                self.tell(d.label("what is waited for?").help("on = [\"tcp://db:5432\"]"));
            }
            return Built::default();
        };
        let mut built = Built::default();
        let (mut how, mut run) = (Vec::new(), None);
        for one in &on.value.0 {
            built.places.push(one.at);
            how.push(match &one.value {
                Awaited::Answer(table) => Outside::Answer(self.check(table, "wait_for")),
                Awaited::Mount(path) => Outside::Mount(path.clone()),
                Awaited::Service(name) => Outside::Service(name.clone()),
            });
        }
        let mut then = t.after.as_ref().map_or(AfterWait::Fail, |after| after.value.0);
        if let Some(hook) = &t.run {
            if let Some(after) = &t.after {
                let d =
                    Draft::error("bad-value", hook.at, format!("`run` and `after` are both set in {table}"));
                self.tell(d.label("the command decides what follows").also(after.at, "so this says nothing"));
            }
            if let Some(may_fail) = &hook.value.may_fail {
                let d = Draft::error(
                    "unknown-key",
                    may_fail.at,
                    format!("unknown key `may_fail` in {table}.run"),
                );
                self.tell(d.label("its exit code decides whether the service is started"));
            }
            let timeout = hook.value.timeout.as_ref();
            if let Some(zero) = timeout.filter(|t| t.value.0.is_zero()) {
                self.not_zero(zero.at, "timeout", "wait_for.run");
            }
            then = AfterWait::Run { timeout: timeout.map_or(HOOK_TIMEOUT, |t| t.value.0) };
            let key = format!("`run` in {table}");
            run = hook.value.command.as_ref().and_then(|command| self.command(command, &key, false));
        }
        if how.is_empty() {
            return built;
        }
        built.spec = Some(WaitFor {
            names: how.iter().map(outside_name).collect(),
            timeout: Some(self.span(t.timeout.as_ref(), TIMEOUT, "timeout", &table)),
            then,
        });
        built.how = Some(Box::new(Wait { on: how.into(), run }));
        built
    }

    /// Addresses are whole only when they are filled in.
    pub(super) fn wait_targets(&mut self, config: &ServiceConfig, places: &[At]) {
        let filler = Filler::new(self.name, 1, &config.env, self.cx);
        for (how, at) in config.wait_for.iter().flat_map(|wait| &wait.on).zip(places) {
            if let Err(why) = config.resolved_outside(how, &filler, self.cx) {
                let message = format!("`wait_for` in services.{} cannot be looked at", self.name);
                self.tell(Draft::error("bad-value", *at, message).label(why).help("\"tcp://db:5432\""));
            }
        }
    }
}

/// How people know it.
fn outside_name(how: &Outside) -> String {
    match how {
        Outside::Answer(ready) => name(ready),
        Outside::Mount(path) => format!("mount {path}"),
        Outside::Service(name) => format!("service {name}"),
    }
}
