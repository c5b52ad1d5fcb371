//! What decisions go by: the restart policy.

use keepwell_core::spec::{ExitCodes, Kind, Limit, Policy, RestartPolicy};

use super::{Building, not_zero};
use crate::element::restart::{Codes, RawExitCodes, RawLimit, RawRestart};
use crate::read::{Draft, Located, Reader};

impl Building<'_, '_> {
    pub(super) fn restart(
        &mut self,
        raw: Option<&RawRestart>,
        kind: Kind,
        policy_is_own: bool,
    ) -> RestartPolicy {
        let mut p = RestartPolicy::default();
        if kind == Kind::Oneshot {
            p.policy = Policy::Never;
        }
        let Some(raw) = raw else { return p };
        if let Some(word) = &raw.policy {
            match (kind, word.value.0, policy_is_own) {
                (Kind::Oneshot, Policy::Always, true) => {
                    let message =
                        format!("services.{} is a oneshot and cannot be restarted always", self.name);
                    let d = Draft::error("bad-value", word.at, message);
                    self.tell(d.label("write \"on-failure\" or \"never\""));
                }
                // What all services share is meant for those that run for ever.
                (Kind::Oneshot, Policy::Always, false) => {}
                (Kind::Oneshot | Kind::Service, policy, _) => p.policy = policy,
            }
        }
        p.delay = raw.delay.as_ref().map_or(p.delay, |d| d.value.0);
        match &raw.max_delay {
            Some(max) if max.value.0 < p.delay && !raw.bad.contains(&"delay") => {
                let message =
                    format!("`max_delay` in services.{}.restart is shorter than `delay`", self.name);
                let label = format!("`delay` is {}", crate::element::duration::Written(p.delay));
                self.tell(Draft::error("bad-value", max.at, message).label(label));
            }
            Some(max) => p.max_delay = max.value.0,
            None => p.max_delay = p.max_delay.max(p.delay),
        }
        p.jitter = raw.jitter.as_ref().map_or(p.jitter, |j| j.value.0);
        p.reset_after = raw.reset_after.as_ref().map_or(p.reset_after, |d| d.value.0);
        p.on_crash_loop = raw.on_crash_loop.as_ref().map_or(p.on_crash_loop, |c| c.value.0);
        if let (Some(raw), Some(default)) = (&raw.limit, p.limit) {
            p.limit = limit(self.r, &raw.value, default, &format!("services.{}.restart.limit", self.name));
        }
        if let Some(codes) = &raw.exit_codes {
            p.exit_codes = self.exit_codes(&codes.value);
        }
        p
    }

    /// A code has one meaning. One that is written leaves the class that it has by default.
    fn exit_codes(&mut self, raw: &RawExitCodes) -> ExitCodes {
        let written: [(&str, Option<&Located<Codes>>); 4] = [
            ("success", raw.success.as_ref()),
            ("retry", raw.retry.as_ref()),
            ("config_error", raw.config_error.as_ref()),
            ("fatal", raw.fatal.as_ref()),
        ];
        let mut taken: Vec<(i32, &str)> = vec![];
        for (class, codes) in written {
            let Some(codes) = codes else { continue };
            for code in &codes.value.0 {
                if let Some((_, other)) = taken.iter().find(|(c, _)| c == code) {
                    let table = format!("services.{}.restart.exit_codes", self.name);
                    let message = format!("exit code {code} has two meanings in {table}");
                    let label = format!("it is also in `{other}`");
                    self.tell(Draft::error("bad-value", codes.at, message).label(label));
                }
                taken.push((*code, class));
            }
        }
        let default = ExitCodes::default();
        let pick = |codes: Option<&Located<Codes>>, default: Vec<i32>| match codes {
            Some(codes) => codes.value.0.clone(),
            None => default.into_iter().filter(|c| !taken.iter().any(|(t, _)| t == c)).collect(),
        };
        ExitCodes {
            success: pick(raw.success.as_ref(), default.success),
            retry: pick(raw.retry.as_ref(), default.retry),
            config_error: pick(raw.config_error.as_ref(), default.config_error),
            fatal: pick(raw.fatal.as_ref(), default.fatal),
        }
    }
}

/// A limit of restarts. `table` is where it is written.
pub(super) fn limit(r: &mut Reader<'_>, raw: &RawLimit, default: Limit, table: &str) -> Option<Limit> {
    let table_of = match raw {
        RawLimit::Off => return None,
        RawLimit::Of(table) => table,
    };
    if let Some(window) = table_of.window.as_ref().filter(|w| w.value.0.is_zero()) {
        not_zero(r, window.at, "window", table);
    }
    let max = table_of.max.as_ref().and_then(|m| u32::try_from(m.value.0).ok());
    let window = table_of.window.as_ref().map(|w| w.value.0);
    Some(Limit { max: max.unwrap_or(default.max), window: window.unwrap_or(default.window) })
}
