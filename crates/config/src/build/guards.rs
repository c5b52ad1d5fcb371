//! Rules on what a service uses: the decision's half, and the commands that the shell runs.

use std::sync::Arc;

use keepwell_core::guard::{Figure, Guard, Then};
use keepwell_core::spec::System;

use super::{Building, HOOK_TIMEOUT};
use crate::config::{Command, ServiceConfig};
use crate::element::guard::{RawGuard, When};
use crate::element::limits::RawLimits;
use crate::element::service::RawService;
use crate::read::{Draft, Located};
use crate::resolve::Filler;

impl Building<'_, '_> {
    /// The rules, and for each its command.
    pub(super) fn guards(&mut self, raw: &RawService) -> (Vec<Guard>, Box<[Option<Command>]>) {
        let all = raw.guards.as_ref().map(|raw| raw.value.0.as_slice()).unwrap_or_default();
        let limits = raw.limits.as_ref().map(|limits| &limits.value);
        let (guards, commands): (Vec<_>, Vec<_>) =
            all.iter().filter_map(|raw| self.guard(raw, limits)).unzip();
        (guards, commands.into())
    }

    fn guard(&mut self, raw: &RawGuard, limits: Option<&RawLimits>) -> Option<(Guard, Option<Command>)> {
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
        self.guard_fits(raw, when, limits);
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
        let clear = above - above.div_ceil(10);
        let folder = raw.folder.as_ref().map(|folder| Arc::from(&*folder.value.0));
        Some((Guard { figure, folder, above, clear, lasting, then }, command))
    }

    /// Paths are whole only when they are filled in.
    pub(super) fn guard_folders(&mut self, config: &ServiceConfig, raw: &RawService) {
        let filler = Filler::new(self.name, 1, &config.env, self.cx);
        let key = format!("`folder` of a guard in services.{}", self.name);
        for raw in raw.guards.iter().flat_map(|raw| &raw.value.0) {
            if let Some(folder) = &raw.folder {
                self.text(&filler, folder, &key);
            }
        }
    }

    /// What is looked at has to be there.
    fn guard_fits(&mut self, raw: &RawGuard, when: &Located<When>, limits: Option<&RawLimits>) {
        let name = self.name;
        match (when.value.figure, &raw.folder) {
            (Figure::Disk, None) => {
                let message = format!("a guard of services.{name} on `disk` has no `folder`");
                let draft = Draft::error("missing-key", when.at, message);
                self.tell(draft.help("{ when = \"disk > 10GB\", folder = \"data\" }"));
            }
            (Figure::Disk, Some(_)) | (_, None) => {}
            (_, Some(folder)) => {
                let message = format!("`folder` of a guard of services.{name} has no effect without `disk`");
                self.tell(Draft::error("no-effect", folder.at, message).label("take it away"));
            }
        }
        let elsewhere = match (when.value.figure, self.cx.system) {
            (Figure::Pss, System::Windows) => Some("it is known on Linux alone"),
            (Figure::Gdi | Figure::User, System::Unix) => Some("there are no such objects on Linux"),
            _ => None,
        };
        if let Some(why) = elsewhere {
            let message =
                format!("a guard of services.{name} on `{}` has no effect", when.value.figure.name());
            self.tell(Draft::warning("no-effect", when.at, message).label(why));
        }
        let limit = match when.value.figure {
            Figure::Memory => {
                limits.and_then(|l| l.memory.as_ref()).map(|l| (l.value.0, l.at, "limits.memory"))
            }
            figure if figure == counted_tasks(self.cx.system) => {
                let tasks = limits.and_then(|l| l.tasks.as_ref());
                tasks.map(|l| (u64::try_from(l.value.0).unwrap_or(u64::MAX), l.at, "limits.tasks"))
            }
            _ => None,
        };
        if let Some((_, at, key)) = limit.filter(|(bound, ..)| *bound <= when.value.above) {
            let figure = when.value.figure.name();
            let message = format!("a guard of services.{name} lets more {figure} pass than `{key}`");
            let draft = Draft::warning("no-effect", when.at, message).label("the limit is met before");
            self.tell(draft.also(at, "the limit"));
        }
    }
}

/// What `limits.tasks` counts: a process of one thread is one of both.
fn counted_tasks(system: System) -> Figure {
    match system {
        System::Unix => Figure::Threads,
        System::Windows => Figure::Processes,
    }
}

/// Limits that are worth a word before they are met.
pub(super) fn ceilings(raw: &RawService, system: System) -> Vec<(Figure, u64)> {
    let Some(limits) = raw.limits.as_ref().map(|limits| &limits.value) else { return Vec::new() };
    let memory = limits.memory.as_ref().map(|size| (Figure::Memory, size.value.0));
    let files = limits.nofile.as_ref().and_then(|n| u64::try_from(n.value.0).ok());
    let tasks = limits.tasks.as_ref().and_then(|n| u64::try_from(n.value.0).ok());
    let files = files.map(|n| (Figure::DescriptorsOfOne, n));
    memory.into_iter().chain(files).chain(tasks.map(|n| (counted_tasks(system), n))).collect()
}
