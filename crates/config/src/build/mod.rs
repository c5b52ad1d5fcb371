//! A service's tables, with `[defaults]` under them, to its spec and its configuration. Checks what must fit together
//! within one service; what must fit together across services is in `check`.

mod escalation;
mod evidence;
mod guards;
mod http;
mod live;
mod no_effect;
mod notify;
mod policy;
mod probes;
mod process;
mod ready;
mod stop;
mod wait_for;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::ServiceSpec;
use keepwell_core::spec::{Condition, Dependency, Hook, Hooks, Kind, System};

use crate::config::{
    Command, Context, Env, GuardianConfig, HookCommands, LogConfig, Ready, Rotate, ServiceConfig,
};
use crate::element::command::split_windows;
use crate::element::depends::RawDepends;
use crate::element::env::RawEnv;
use crate::element::guardian::RawGuardian;
use crate::element::hooks::{RawHook, RawHooks};
use crate::element::log::RawLog;
use crate::element::scalar::{Filled, Text};
use crate::element::service::RawService;
use crate::keys;
use crate::load::like;
use crate::read::{At, Draft, Element as _, Located, Reader};
use crate::resolve::Filler;
use crate::template;

/// All services that are written, and their kinds; `None` where the kind is wrong.
pub(crate) type Neighbours = BTreeMap<Arc<str>, Option<Kind>>;

/// A log file below this would be all rotation.
const SMALLEST_LOG: u64 = 64 << 10;
/// A hook without a `timeout`.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// What is at hand while one service is built.
pub(crate) struct Building<'a, 's> {
    pub(crate) r: &'a mut Reader<'s>,
    pub(crate) cx: &'a Context,
    pub(crate) name: &'a Arc<str>,
    /// The place of its name.
    pub(crate) at: At,
    pub(crate) neighbours: &'a Neighbours,
    /// `heartbeat` in `[keepwell]`.
    pub(crate) heartbeat: Asked<SocketAddr>,
}

/// A value of another table that this one may need.
#[derive(Clone, Copy)]
pub(crate) enum Asked<T> {
    Is(T),
    Not,
    /// Written, and wrong.
    Bad,
}

impl Building<'_, '_> {
    /// The service. After errors it is no whole one, but good enough for the checks across services.
    pub(crate) fn service(
        &mut self,
        own: RawService,
        defaults: Option<&RawService>,
        shared_env: Option<&Env>,
    ) -> (ServiceSpec, ServiceConfig) {
        let policy_is_own = own.restart.as_ref().is_some_and(|r| r.value.policy.is_some());
        let env_is_own = own.env.is_some();
        self.own_ready(&own);
        let mut raw = own;
        if let Some(defaults) = defaults {
            raw.inherit(defaults);
        }
        let kind = raw.kind.as_ref().map_or(Kind::Service, |k| k.value.0);
        let shell = raw.shell.as_ref().is_some_and(|s| s.value);
        let env = match shared_env {
            Some(shared) if !env_is_own => shared.clone(),
            _ => raw.env.as_ref().map(|e| env(&e.value)).unwrap_or_default(),
        };
        let command = self.main_command(&raw, shell).unwrap_or(Command::Words(Box::default()));
        let hooks = self.hooks(raw.hooks.as_ref().map(|h| &h.value));
        let (stop, asks) = self.stop(raw.stop.as_ref().map(|s| &s.value), shell);
        let (rules, commands) = self.guards(&raw);
        let foresee = raw.foresee.as_ref().is_none_or(|f| f.value);
        let fallback = self.fallback(&raw);
        let ladder = raw.escalation.as_ref().map(|e| (&e.value, e.at));
        let escalation = self.escalation(ladder, raw.fallback.is_some());
        let wait_for = self.wait_for(raw.wait_for.as_ref());
        let readiness = self.ready(&raw, kind);
        let probes = self.probes(&raw, kind);
        let heartbeat = self.live(raw.live.as_ref().and_then(|l| l.value.1.as_ref()));
        let instances = raw.instances.as_ref().map_or(1, |n| u16::try_from(n.value.0).unwrap_or(u16::MAX));
        let mut spec = ServiceSpec {
            kind,
            enabled: raw.enabled.as_ref().is_none_or(|e| e.value),
            instances,
            depends_on: self.depends_on(raw.depends_on.as_ref().map(|d| &d.value)),
            wait_for: wait_for.spec,
            ready: readiness.spec,
            restart: self.restart(raw.restart.as_ref().map(|r| &r.value), kind, policy_is_own),
            stop,
            stop_timeout: raw.stop_timeout.as_ref().map(|t| t.value.0),
            hooks: hooks.0,
            watchdog: readiness.watchdog,
            probes: probes.specs,
            healing: vec![],
            heartbeat: heartbeat.map(|(_, lost_after)| lost_after),
            guards: rules,
            ceilings: if foresee { guards::ceilings(&raw, self.cx.system) } else { vec![] },
            foresee,
            escalation: escalation.0,
            fallback,
            fingerprint: 0,
        };
        let mut config = self.process(&raw, command, env);
        config.wait_for = wait_for.how;
        config.ready = readiness.how;
        config.probes = probes.how.into();
        config.heartbeat = heartbeat.map(|(beat, _)| beat);
        config.hooks = raw.hooks.as_ref().map(|_| Box::new(hooks.1));
        config.stop = asks;
        config.guards = commands;
        config.folders = spec.guards.iter().filter_map(|guard| guard.folder.clone()).collect();
        config.escalation = escalation.1;
        config.log = self.log(raw.log.as_ref().map(|l| &l.value), instances);
        config.description = raw.description.as_ref().map(|d| d.value.0.clone());
        config.tags = raw.tags.as_ref().map(|t| t.value.0.clone()).unwrap_or_default();
        // A variable that is written wrongly is not an unknown one.
        if !raw.bad.contains(&"env") && !raw.env.as_ref().is_some_and(|e| e.value.broken) {
            self.texts(&config, &raw);
            self.targets(&config, raw.ready.as_ref());
            self.stop_targets(&config, raw.stop.as_ref().map(|s| &s.value));
            self.probe_targets(&config, &probes.places);
            self.guard_folders(&config, &raw);
            self.wait_targets(&config, &wait_for.places);
        }
        no_effect::warn(self, &raw);
        spec.fingerprint = keys::fingerprint(&spec, &config);
        (spec, config)
    }

    fn tell(&mut self, draft: Draft) {
        self.r.push_once(draft);
    }

    fn main_command(&mut self, raw: &RawService, shell: bool) -> Option<Command> {
        if let (Some(line), System::Windows) = (&raw.command_line, self.cx.system) {
            return self.raw_line(line, shell);
        }
        let Some(command) = &raw.command else {
            if raw.bad.contains(&"command") {
                return None;
            }
            let d = Draft::error(
                "missing-key",
                self.at,
                format!("`command` is missing in services.{}", self.name),
            );
            let label = match raw.command_line {
                Some(_) => "`command_line` is for Windows only",
                None => "nothing could be started",
            };
            self.tell(d.label(label).help("command = [\"program\", \"argument\"]"));
            return None;
        };
        let key = format!("`command` in services.{}", self.name);
        self.command(command, &key, shell)
    }

    /// A line that only the program takes apart. Its first word is the program.
    fn raw_line(&mut self, line: &Located<Text>, shell: bool) -> Option<Command> {
        let text = &line.value.0;
        let wrong = match split_windows(text) {
            Ok(split) if split.words.first().is_none_or(|w| w.trim().is_empty()) => "it names no program",
            Err(e) if e.offset == 0 => e.why,
            Ok(_) | Err(_) if shell => "`shell = true` reads `command`",
            // What follows the program is the program's to read.
            Ok(_) | Err(_) => return Some(Command::Raw(text.clone())),
        };
        let message = format!("`command_line` in services.{} cannot be used", self.name);
        self.tell(Draft::error("bad-command", line.at, message).label(wrong));
        None
    }

    fn hooks(&mut self, raw: Option<&RawHooks>) -> (Hooks, HookCommands) {
        let Some(raw) = raw else { return (Hooks::default(), HookCommands::default()) };
        let mut hook = |name: &str, hook: Option<&Located<RawHook>>| {
            let hook = &hook?.value;
            let key = format!("`{name}` in services.{}.hooks", self.name);
            let command = self.command(hook.command.as_ref()?, &key, false)?;
            let timeout = hook.timeout.as_ref().map_or(HOOK_TIMEOUT, |t| t.value.0);
            if let Some(t) = hook.timeout.as_ref().filter(|t| t.value.0.is_zero()) {
                self.not_zero(t.at, "timeout", &format!("hooks.{name}"));
            }
            let may_fail = hook.may_fail.as_ref().is_some_and(|m| m.value);
            Some((Hook { timeout, may_fail }, command))
        };
        let all = [
            hook("pre_start", raw.pre_start.as_ref()),
            hook("post_start", raw.post_start.as_ref()),
            hook("pre_stop", raw.pre_stop.as_ref()),
            hook("post_stop", raw.post_stop.as_ref()),
            hook("on_suspend", raw.on_suspend.as_ref()),
            hook("on_resume", raw.on_resume.as_ref()),
            hook("on_power_change", raw.on_power_change.as_ref()),
            hook("on_session", raw.on_session.as_ref()),
        ];
        let [pre_start, post_start, pre_stop, post_stop, on_suspend, on_resume, on_power_change, on_session] =
            all.map(Option::unzip);
        (
            Hooks {
                pre_start: pre_start.0,
                post_start: post_start.0,
                pre_stop: pre_stop.0,
                post_stop: post_stop.0,
                on_suspend: on_suspend.0,
                on_resume: on_resume.0,
                on_power_change: on_power_change.0,
                on_session: on_session.0,
            },
            HookCommands {
                pre_start: pre_start.1,
                post_start: post_start.1,
                pre_stop: pre_stop.1,
                post_stop: post_stop.1,
                on_suspend: on_suspend.1,
                on_resume: on_resume.1,
                on_power_change: on_power_change.1,
                on_session: on_session.1,
            },
        )
    }

    fn not_zero(&mut self, at: At, key: &str, table: &str) {
        let table = format!("services.{}.{table}", self.name);
        not_zero(self.r, at, key, &table);
    }

    fn depends_on(&mut self, raw: Option<&RawDepends>) -> Vec<Dependency> {
        let Some(raw) = raw else { return vec![] };
        dependencies(self.r, self.name, raw, self.neighbours)
    }

    fn log(&mut self, raw: Option<&RawLog>, instances: u16) -> LogConfig {
        let default = LogConfig { file: None, stderr_file: None, rotate: Rotate::default() };
        let Some(raw) = raw else { return default };
        let mut rotate = default.rotate;
        if let Some(r) = raw.rotate.as_ref().map(|r| &r.value) {
            if let Some(size) = &r.size {
                if size.value.0 < SMALLEST_LOG {
                    let message =
                        format!("`size` in services.{}.log.rotate must be at least 64KiB", self.name);
                    self.tell(
                        Draft::error("bad-value", size.at, message).label("less would be all rotation"),
                    );
                }
                rotate.size = size.value.0;
            }
            if let Some(keep) = &r.keep {
                rotate.keep = u32::try_from(keep.value.0).unwrap_or(u32::MAX);
            }
        }
        for (key, file) in [("file", &raw.file), ("stderr_file", &raw.stderr_file)] {
            let Some(file) = file.as_ref().filter(|_| instances > 1) else { continue };
            if !template::names(&file.value.0).any(|n| n == "instance") {
                let message = format!(
                    "{instances} instances of services.{} would write into one `log.{key}`",
                    self.name
                );
                let d = Draft::error("shared-log", file.at, message).label("`${instance}` is missing");
                self.tell(d.help(format!("log.{key} = \"logs/${{service}}-${{instance}}.log\"")));
            }
        }
        let text = |f: &Option<Located<Filled>>| f.as_ref().map(|f| f.value.0.clone());
        LogConfig { file: text(&raw.file), stderr_file: text(&raw.stderr_file), rotate }
    }

    /// Addresses are whole only when they are filled in.
    fn targets(&mut self, config: &ServiceConfig, raw: Option<&Located<crate::element::ready::RawReady>>) {
        let Some(raw) = raw.map(|r| &r.value.table) else { return };
        let filled = match &config.ready {
            Ready::Http { .. } => raw.http.as_ref(),
            Ready::Tcp(_) => raw.tcp.as_ref(),
            Ready::Unix(_) => raw.unix.as_ref(),
            Ready::Pipe(_) => raw.pipe.as_ref(),
            Ready::Grpc(_) => raw.grpc.as_ref(),
            Ready::File(_) => raw.file.as_ref(),
            Ready::None
            | Ready::Delay(_)
            | Ready::Exec(_)
            | Ready::Log { .. }
            | Ready::Notify
            | Ready::Line { .. }
            | Ready::Fresh { .. } => None,
        };
        let Some(filled) = filled else { return };
        let key = format!("`ready` in services.{}", self.name);
        let filler = Filler::new(self.name, 1, &config.env, self.cx);
        if !self.text(&filler, filled, &key) {
            return;
        }
        if let Err(why) = config.resolved_check(&config.ready, &filler, self.cx) {
            let d = Draft::error("bad-value", filled.at, format!("{key} is no address that can be checked"));
            let http = matches!(config.ready, Ready::Http { .. });
            let help =
                if http { "http = \"http://127.0.0.1:8080/health\"" } else { "tcp = \"127.0.0.1:5432\"" };
            self.tell(d.label(why).help(help));
        }
    }
}

fn not_zero(r: &mut Reader<'_>, at: At, key: &str, table: &str) {
    let d = Draft::error("bad-value", at, format!("`{key}` in {table} must be longer than 0"));
    r.push_once(d.label("no time at all"));
}

fn dependencies(
    r: &mut Reader<'_>,
    name: &Arc<str>,
    raw: &RawDepends,
    neighbours: &Neighbours,
) -> Vec<Dependency> {
    let mut all = Vec::with_capacity(raw.0.len());
    for (on, at, d) in &raw.0 {
        if on == name {
            let e = Draft::error("self-dependency", *at, format!("services.{name} depends on itself"));
            r.push(e.label("it would wait for itself for ever"));
            continue;
        }
        let Some((on, kind)) = neighbours.get_key_value(on) else {
            let message = format!("services.{name} depends on `{on}`, which is not defined");
            let e = Draft::error("missing-dependency", *at, message);
            let label = like(on, neighbours).map(|n| format!("did you mean `{n}`?"));
            r.push(e.label(label.unwrap_or_else(|| "no service has this name".to_owned())));
            continue;
        };
        let default = match kind {
            Some(Kind::Oneshot) => Condition::Completed,
            Some(Kind::Service) | None => Condition::Ready,
        };
        let condition = d.condition.as_ref().map_or(default, |c| c.value.0);
        let wrong = match (condition, kind) {
            (Condition::Completed, Some(Kind::Service)) => Some((
                "completed",
                "only a oneshot completes",
                "write \"ready\", or give it kind = \"oneshot\"",
            )),
            (Condition::Ready, Some(Kind::Oneshot)) => {
                Some(("ready", "a oneshot is done when it has completed", "write \"completed\""))
            }
            (Condition::Started | Condition::Completed | Condition::Ready, _) => None,
        };
        if let Some((word, why, instead)) = wrong {
            let at = d.condition.as_ref().map_or(*at, |c| c.at);
            let message = format!("`{on}` can never be \"{word}\" for services.{name}: {why}");
            r.push(Draft::error("bad-condition", at, message).label(instead));
        }
        let bind = d.bind.as_ref().is_some_and(|b| b.value);
        if let Some(b) = d.bind.as_ref().filter(|b| b.value && *kind == Some(Kind::Oneshot)) {
            let message = format!("services.{name} cannot be bound to `{on}`");
            let e = Draft::error("bad-condition", b.at, message);
            r.push(e.label("a oneshot ends by itself, and would take its dependents with it"));
        }
        let required = d.required.as_ref().is_none_or(|x| x.value);
        all.push(Dependency { on: on.clone(), condition, required, bind });
    }
    all
}

/// Keys that only one service can have.
pub(crate) fn check_defaults(r: &mut Reader<'_>, d: &RawService) {
    let of_one = [
        ("command", d.command.as_ref().map(|l| l.at)),
        ("command_line", d.command_line.as_ref().map(|l| l.at)),
        ("description", d.description.as_ref().map(|l| l.at)),
        ("depends_on", d.depends_on.as_ref().map(|l| l.at)),
    ];
    for (key, at) in of_one {
        if let Some(at) = at {
            let e = Draft::error("not-shared", at, format!("`{key}` cannot stand in [defaults]"));
            r.push(e.label("it belongs to one service: [services.NAME]"));
        }
    }
    if let Some(ready) = &d.ready {
        ready::one_check(r, &ready.value, "defaults.ready");
    }
    for (key, file) in
        d.log.iter().flat_map(|l| [("file", &l.value.file), ("stderr_file", &l.value.stderr_file)])
    {
        let Some(file) = file else { continue };
        if !template::names(&file.value.0).any(|n| n == "service") {
            let e =
                Draft::error("shared-log", file.at, format!("all services would write into one `log.{key}`"));
            r.push(e.label("`${service}` is missing").help(format!("log.{key} = \"logs/${{service}}.log\"")));
        }
    }
}

pub(crate) use evidence::evidence;
pub(crate) use notify::check_receivers;
pub(crate) use probes::healing;

/// `[keepwell]`.
pub(crate) fn guardian(r: &mut Reader<'_>, cx: &Context, raw: &RawGuardian) -> GuardianConfig {
    let default = GuardianConfig::default();
    let groups = |t: &Option<Located<crate::element::scalar::Texts>>| {
        t.as_ref().map(|t| t.value.0.clone()).unwrap_or_default()
    };
    if let Some(h) = raw.hang_after.as_ref().filter(|h| h.value.0 < Duration::from_secs(1)) {
        let e = Draft::error("bad-value", h.at, "`hang_after` in keepwell must be at least 1s");
        r.push(e.label("a busy host would look like a hang"));
    }
    let profile = raw.profile.as_ref().map_or(default.profile, |p| p.value.0);
    let shortest = Duration::from_millis(10);
    if let Some(s) = raw.sample_every.as_ref().filter(|s| s.value.0 < shortest) {
        let e = Draft::error("bad-value", s.at, "`sample_every` in keepwell must be at least 10ms");
        r.push(e.label("it would be busy with looking"));
    }
    GuardianConfig {
        operators: groups(&raw.operators),
        readers: groups(&raw.readers),
        max_parallel_starts: raw.max_parallel_starts.as_ref().and_then(|n| u32::try_from(n.value.0).ok()),
        when_daemon_gone: raw.when_daemon_gone.as_ref().map_or(default.when_daemon_gone, |w| w.value.0),
        log_level: raw.log_level.as_ref().map_or(default.log_level, |l| l.value.0),
        hang_after: raw.hang_after.as_ref().map_or(default.hang_after, |h| h.value.0),
        http: raw.http.as_ref().map(|h| h.value.0),
        heartbeat: raw.heartbeat.as_ref().map(|a| a.value.0),
        profile,
        sample_every: raw.sample_every.as_ref().map_or(profile.sample_every(), |s| s.value.0.max(shortest)),
        notify: raw.notify.as_ref().map(|n| notify::receivers(r, cx, &n.value, n.at)).unwrap_or_default(),
    }
}

/// The table as services keep it.
pub(crate) fn env(raw: &RawEnv) -> Env {
    Env(raw.vars.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect())
}
