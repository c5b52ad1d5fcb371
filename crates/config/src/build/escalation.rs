//! What is tried while a service goes on failing: the decision's half, and the commands that the shell runs.

use std::sync::Arc;

use keepwell_core::escalation::{Rung, Then};

use super::{Building, HOOK_TIMEOUT, like};
use crate::config::Command;
use crate::element::escalation::{RawEscalation, RungTable};
use crate::element::service::RawService;
use crate::read::{At, Draft};

impl Building<'_, '_> {
    /// The service that stands in: another one, which there is.
    pub(super) fn fallback(&mut self, raw: &RawService) -> Option<Arc<str>> {
        let found = raw.fallback.as_ref()?;
        let (name, own) = (&*found.value.0, self.name);
        let wrong = |kind, message: String, label| Draft::error(kind, found.at, message).label(label);
        if name == &**own {
            let message = format!("`fallback` of services.{own} is itself");
            self.tell(wrong("bad-value", message, "name another service".to_owned()));
            return None;
        }
        let Some((name, _)) = self.neighbours.get_key_value(name) else {
            let message = format!("`fallback` of services.{own} is `{name}`, which is not defined");
            let label = like(name, self.neighbours).map(|n| format!("did you mean `{n}`?"));
            let label = label.unwrap_or_else(|| "no service has this name".to_owned());
            self.tell(wrong("unknown-service", message, label));
            return None;
        };
        Some(Arc::clone(name))
    }

    /// The steps, and for each its command.
    pub(super) fn escalation(
        &mut self,
        raw: Option<(&RawEscalation, At)>,
        has_fallback: bool,
    ) -> (Vec<Rung>, Box<[Option<Command>]>) {
        let Some((raw, at)) = raw else { return (vec![], Box::default()) };
        let read = raw.0.iter().filter_map(|rung| self.rung(&rung.0, at));
        let (rungs, commands): (Vec<Rung>, Vec<_>) = read.unzip();
        let stop = rungs.iter().position(|rung| rung.then == Then::Stop);
        if stop.is_some_and(|stop| stop + 1 < rungs.len()) {
            let message = format!("`escalation` of services.{} goes on after `stop`", self.name);
            self.tell(Draft::error("no-effect", at, message).label("nothing is tried after it"));
        }
        if !has_fallback && rungs.iter().any(|rung| rung.then == Then::FailOver) {
            let message = format!("`escalation` of services.{} fails over, and to nothing", self.name);
            self.tell(
                Draft::error("missing-key", at, message)
                    .label("which service stands in?")
                    .help("fallback = \"standby\""),
            );
        }
        (rungs, commands.into())
    }

    fn rung(&mut self, raw: &RungTable, at: At) -> Option<(Rung, Option<Command>)> {
        let times = raw.times.as_ref().map_or(1, |n| u32::try_from(n.value.0).unwrap_or(u32::MAX));
        let (then, command) = match (&raw.exec, &raw.then) {
            (Some(exec), Some(then)) => {
                let message = format!("a step of services.{} has both `then` and `exec`", self.name);
                let draft = Draft::error("ambiguous", then.at, message).label("make two steps of it");
                self.tell(draft.also(exec.at, "the other one"));
                return None;
            }
            (Some(exec), None) => {
                if let Some(timeout) = raw.timeout.as_ref().filter(|t| t.value.0.is_zero()) {
                    self.not_zero(timeout.at, "timeout", "escalation");
                }
                let timeout = raw.timeout.as_ref().map_or(HOOK_TIMEOUT, |t| t.value.0);
                let key = format!("`exec` of a step in services.{}", self.name);
                (Then::Run { timeout }, Some(self.command(exec, &key, false)?))
            }
            (None, Some(then)) => (then.value.0, None),
            (None, None) => {
                if raw.bad.is_empty() {
                    let message = format!("a step of services.{} says not what is done", self.name);
                    let draft = Draft::error("missing-key", at, message);
                    self.tell(draft.help("{ then = \"restart\", times = 3 }, or { exec = [\"./repair\"] }"));
                }
                return None;
            }
        };
        if let (None, Some(timeout)) = (&raw.exec, &raw.timeout) {
            let message =
                format!("`timeout` of a step of services.{} has no effect without `exec`", self.name);
            self.tell(Draft::error("no-effect", timeout.at, message).label("take it away"));
        }
        Some((Rung { then, times }, command))
    }
}
