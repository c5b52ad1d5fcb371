//! Taking on a new configuration: read and judged on a thread of its own, since a disk may be slow; planned and done by
//! the engine.

use std::thread;

use keepwell_config::{Change, Config, Context, Diagnostics, Source};
use keepwell_core::event::{EventKind, State};
use keepwell_core::supervisor::ReloadAction;
use keepwell_core::{By, Now, ServiceId};
use keepwell_sdk::wire;

use super::Engine;
use crate::convert;
use crate::message::{Message, Reply};

/// A configuration that was read and found good, with the text that it came from.
pub struct Loaded {
    /// Kept with the anchor: a reborn daemon goes on with it.
    pub sources: Vec<Source>,
    /// What it says.
    pub config: Config,
}

/// What a reload's thread brings back.
pub struct ReloadRead {
    by: By,
    dry_run: bool,
    reply: Reply<wire::ReloadReply>,
    result: Result<Loaded, Diagnostics>,
}

/// Reads and judges the files of this guardian.
pub(super) fn load(options: &crate::options::Options, context: &Context) -> Result<Loaded, Diagnostics> {
    let sources = match (&options.config, &options.inline) {
        (Some(file), _) => keepwell_config::read_sources(file)?,
        (None, text) => vec![Source { path: "keepwell run".into(), text: text.clone().unwrap_or_default() }],
    };
    let config = keepwell_config::load(&sources, context)?;
    Ok(Loaded { sources, config })
}

/// Begins a reload; `Message::ReloadRead` brings what was read.
pub(super) fn read(engine: &Engine, by: By, dry_run: bool, reply: Reply<wire::ReloadReply>) {
    let (options, context, handle) = (engine.options.clone(), engine.context.clone(), engine.handle.clone());
    let work = move || {
        let read = ReloadRead { by, dry_run, reply, result: load(&options, &context) };
        // A full inbox drops the reply, which tells the asker.
        let _ = handle.send(Message::ReloadRead(Box::new(read)));
    };
    // Without a thread the reply is dropped and the asker told that it failed.
    let _ = thread::Builder::new().name("reload".into()).stack_size(1 << 20).spawn(work);
}

impl Engine {
    pub(super) fn reload(&mut self, now: Now, read: ReloadRead) {
        let ReloadRead { by, dry_run, reply, result } = read;
        let mut loaded = match result {
            Ok(l) => l,
            Err(diagnostics) => {
                // It is read wherever it is shown: on any screen, and in logs.
                let text = diagnostics.render(false, true);
                if !dry_run {
                    self.emit(now, None, EventKind::ConfigRejected { text: text.clone() });
                }
                let hint =
                    Some("nothing was changed; what runs is the configuration accepted before".to_owned());
                drop(reply.send(Err(wire::Problem { code: "config".into(), message: text, hint })));
                return;
            }
        };
        self.config.specs.clone_from(self.supervisor.specs());
        let changes = keepwell_config::diff(&self.config, &loaded.config);
        self.config.specs = keepwell_core::Specs::default();
        let after_seq = self.next_seq.saturating_sub(1);
        if dry_run {
            let plan = self.supervisor.plan_reload(&loaded.config.specs);
            drop(reply.send(Ok(convert::reload_with(&plan, |id| why(&changes, id), after_seq))));
            return;
        }
        self.keep_sources(&loaded.sources, now);
        tracing::info!(by = by.0, "a new configuration is taken on");
        self.retire(now, &loaded.config);
        let plan = self.supervisor.reload(now, std::mem::take(&mut loaded.config.specs));
        let old = std::mem::replace(&mut self.config, loaded.config);
        self.checks.clear();
        self.apply_limits(&old);
        self.apply_live_settings(now);
        self.set_sampling(now);
        let answer = convert::reload_with(&plan, |id| why(&changes, id), after_seq);
        drop(reply.send(Ok(answer)));
    }

    /// Keeps the settings of what the new configuration ends, and of what is being ended: its hooks and the steps of its
    /// stop are those that it was started with.
    fn retire(&mut self, now: Now, new: &Config) {
        let plan = self.supervisor.plan_reload(&new.specs);
        let ends = |action: &ReloadAction| matches!(action, ReloadAction::Restart | ReloadAction::Remove);
        let ending = self.supervisor.status(now).into_iter().filter(|s| s.state == State::Stopping);
        let planned = plan.changes.into_iter().filter(|(_, action)| ends(action));
        for id in planned.map(|(id, _)| id).chain(ending.map(|s| s.id)) {
            if let Some(old) = self.config.services.get(&id.name)
                && new.services.get(&id.name) != Some(old)
            {
                self.retired.entry(id).or_insert_with(|| old.clone());
            }
        }
    }

    /// Limits of control groups take effect on what runs; the rest with the restart that they cause.
    fn apply_limits(&mut self, old: &Config) {
        for id in self.slots.ids() {
            let (was, is) = (old.services.get(&id.name), self.config.services.get(&id.name));
            if was.map(|s| s.limits) == is.map(|s| s.limits) {
                continue;
            }
            match self.hold(&id) {
                Ok(tree) => self.slots.set_tree(&id, tree),
                Err(e) => {
                    let now = keepwell_os::clock::now();
                    let text = format!("its limits could not be changed: {}", e.text);
                    self.tell(now, Some(id), keepwell_core::event::Level::Error, text);
                }
            }
        }
    }

    /// Settings outside the core that take effect on what runs: log files, rotation, who may use the API.
    pub(super) fn apply_live_settings(&mut self, now: Now) {
        for id in self.slots.ids() {
            if let Some(spec) = self.log_spec(&id)
                && let Some(slot) = self.slots.number(&id)
            {
                self.log.change(slot, spec);
            }
        }
        self.serve_figures();
        self.open_beat_port();
        self.set_receivers(now);
        self.access.set(&self.config.guardian.operators, &self.config.guardian.readers);
        crate::trace::set_level(self.config.guardian.log_level.as_str());
        let drain = self.config.guardian.when_daemon_gone == keepwell_config::WhenDaemonGone::Drain;
        let hang_after_ms = u32::try_from(self.config.guardian.hang_after.as_millis()).unwrap_or(u32::MAX);
        let request = keepwell_anchor::protocol::WhenGone { drain, hang_after_ms };
        self.link.send(&keepwell_anchor::protocol::Request::WhenGone(request), &[]);
    }
}

/// `restart.max_delay 60s → 2m, env.PORT changed`.
fn why(changes: &[Change], id: &ServiceId) -> String {
    let of = changes.iter().filter(|c| *c.service == *id.name);
    of.map(one).collect::<Vec<_>>().join(", ")
}

/// Two hidden values tell nothing but that they differ.
fn one(Change { key, old, new, .. }: &Change) -> String {
    const HIDDEN: &str = "(hidden)";
    match (old == HIDDEN, new == HIDDEN) {
        (true, true) => format!("{key} changed"),
        (false, true) => format!("{key} set"),
        (true, false) => format!("{key} removed"),
        (false, false) => format!("{key} {old} → {new}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepwell_config::Class;

    #[test]
    fn what_differs_is_told_without_secrets() {
        let change = |service: &str, key: &str, old: &str, new: &str| Change {
            service: service.into(),
            key: key.into(),
            old: old.into(),
            new: new.into(),
            class: Class::Restart,
        };
        let changes = [
            change("web", "restart.max_delay", "60s", "2m"),
            change("web", "env.PORT", "(hidden)", "(hidden)"),
            change("web", "env.NEW", "(none)", "(hidden)"),
            change("web", "env.OLD", "(hidden)", "(none)"),
            change("db", "cwd", "/a", "/b"),
        ];
        let told = why(&changes, &ServiceId::new("web", 1));
        assert_eq!(told, "restart.max_delay 60s → 2m, env.PORT changed, env.NEW set, env.OLD removed");
    }
}
