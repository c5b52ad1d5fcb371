//! Rules on what a service uses: the decision's half, and the commands that the shell runs.

use keepwell_core::guard::{Guard, Then};

use super::{Building, HOOK_TIMEOUT};
use crate::config::Command;
use crate::element::guard::{RawGuard, RawGuards};
use crate::read::Draft;

impl Building<'_, '_> {
    /// The rules, and for each its command.
    pub(super) fn guards(&mut self, raw: Option<&RawGuards>) -> (Vec<Guard>, Box<[Option<Command>]>) {
        let all = raw.map(|raw| raw.0.as_slice()).unwrap_or_default();
        let (guards, commands): (Vec<_>, Vec<_>) = all.iter().filter_map(|raw| self.guard(raw)).unzip();
        (guards, commands.into())
    }

    fn guard(&mut self, raw: &RawGuard) -> Option<(Guard, Option<Command>)> {
        let Some(when) = &raw.when else {
            if !raw.bad.contains(&"when") {
                let message = format!("`when` is missing in a guard of services.{}", self.name);
                self.tell(
                    Draft::error("missing-key", self.at, message)
                        .help("{ when = \"memory > 800MB for 2m\" }"),
                );
            }
            return None;
        };
        if let (Some(exec), Some(then)) = (&raw.exec, &raw.then) {
            let message = format!("a guard of services.{} has both `then` and `exec`", self.name);
            self.tell(
                Draft::error("ambiguous", then.at, message)
                    .label("make two guards of it")
                    .also(exec.at, "the other one"),
            );
        }
        if let (None, Some(timeout)) = (&raw.exec, &raw.timeout) {
            let message =
                format!("`timeout` of a guard of services.{} has no effect without `exec`", self.name);
            self.tell(Draft::error("no-effect", timeout.at, message).label("take it away"));
        }
        let (then, command) = match &raw.exec {
            None => (raw.then.as_ref().map_or(Then::Alert, |then| then.value.0), None),
            Some(exec) => {
                let key = format!("`exec` of a guard in services.{}", self.name);
                if let Some(timeout) = raw.timeout.as_ref().filter(|t| t.value.0.is_zero()) {
                    self.not_zero(timeout.at, "timeout", "guards");
                }
                let timeout = raw.timeout.as_ref().map_or(HOOK_TIMEOUT, |t| t.value.0);
                (Then::Run { timeout }, Some(self.command(exec, &key, false)?))
            }
        };
        let (figure, above, lasting) = (when.value.figure, when.value.above, when.value.lasting);
        // A tenth below the bound it is over; a figure that hovers at it trips once.
        Some((Guard { figure, above, clear: above - above.div_ceil(10), lasting, then }, command))
    }
}
