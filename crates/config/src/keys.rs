//! What a change of each key takes, and what has changed between two configurations.
//!
//! Every key of a service is either `Live` (it counts from now on) or `Restart` (only a new process has it). `table!` says
//! which, for the reference; `facts` says it for `diff` and `fingerprint`; a test holds the two together.

mod guards;
mod written;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use keepwell_core::spec::{
    AfterWait, Kind, OnCrashLoop, Policy, Probe, Purpose, Readiness, ServiceSpec, WaitFor,
};
use serde::Serialize;

use self::guards::GuardText;
pub(crate) use self::written::number;
use self::written::{Dependency, HookText, List, Octal, Quoted, Range, RungText, Step};
use crate::config::{
    BeatBy, Command, Config, Env, GuardianConfig, HookCommands, Method, Ready, ServiceConfig, StopHow,
    WhenDaemonGone,
};
use crate::element::duration::Written;
use crate::element::env::EnvValue;
use crate::element::{capability, size};
use crate::http::{HttpExpect, HttpRequest, JsonValue, LineRule};

/// What it takes for a change to count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing.
    Live,
    /// A restart of the service.
    Restart,
}

/// One key that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// Whose; empty for the guardian itself.
    pub service: String,
    /// `restart.max_delay`.
    pub key: String,
    /// As it would be written; `(none)` where it was not set, `(hidden)` for values of `env`.
    pub old: String,
    /// Likewise.
    pub new: String,
    /// What it takes.
    pub class: Class,
}

/// One key and its value. Keys that are not set have no fact, so that a key that a later version brings does not
/// change the fingerprint of a service that does not use it.
struct Fact<'a> {
    table: &'static str,
    name: &'a str,
    class: Class,
    value: Value<'a>,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Plain(&'a dyn Display),
    /// Hashed, never shown.
    Secret(&'a str),
    /// What is shown, and what is only hashed.
    Partly(&'a dyn Display, &'a str),
}

impl Fact<'_> {
    fn key(&self) -> String {
        match self.table {
            "" => self.name.to_owned(),
            table => format!("{table}.{}", self.name),
        }
    }

    fn hash(&self, into: &mut Fnv) {
        into.text(self.table);
        into.text(self.name);
        match self.value {
            Value::Plain(v) => {
                let _ = write!(into, "{v}");
            }
            Value::Secret(v) => into.text(v),
            Value::Partly(v, secret) => {
                let _ = write!(into, "{v}");
                if !secret.is_empty() {
                    into.text(secret);
                }
            }
        }
        into.byte(0xff);
    }
}

/// FNV-1a, 64 bits: the same on every host and in every version, which `std`'s hashers do not promise.
struct Fnv(u64);

impl Fnv {
    const START: Fnv = Fnv(0xcbf2_9ce4_8422_2325);

    fn byte(&mut self, b: u8) {
        self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    }

    fn text(&mut self, text: &str) {
        text.bytes().for_each(|b| self.byte(b));
        // No UTF-8 text holds 0xff, so that "ab", "c" and "a", "bc" differ.
        self.byte(0xff);
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.bytes().for_each(|b| self.byte(b));
        Ok(())
    }
}

/// A hash of everything that only a restart can apply.
pub(crate) fn fingerprint(spec: &ServiceSpec, config: &ServiceConfig) -> u64 {
    let mut hash = Fnv::START;
    facts(spec, config, &mut |fact| {
        if fact.class == Class::Restart {
            fact.hash(&mut hash);
        }
    });
    hash.0
}

/// What differs between two configurations, in the services that both have and in the guardian's own table. Services that
/// only one of them has are the reload plan's to tell.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = vec![];
    compare("", &guardian_known(&old.guardian), &guardian_known(&new.guardian), &mut changes);
    for (name, after) in &new.services {
        let both = (old.services.get(name), old.specs.services.get(name), new.specs.services.get(name));
        if let (Some(before), Some(before_spec), Some(after_spec)) = both
            && (before != after || before_spec != after_spec)
        {
            compare(name, &known(before_spec, before), &known(after_spec, after), &mut changes);
        }
    }
    changes
}

struct Known {
    shown: String,
    hash: u64,
    class: Class,
}

fn known(spec: &ServiceSpec, config: &ServiceConfig) -> BTreeMap<String, Known> {
    let mut all = BTreeMap::new();
    facts(spec, config, &mut |fact| keep(&mut all, &fact));
    all
}

fn guardian_known(guardian: &GuardianConfig) -> BTreeMap<String, Known> {
    let mut all = BTreeMap::new();
    guardian_facts(guardian, &mut |fact| keep(&mut all, &fact));
    all
}

fn keep(all: &mut BTreeMap<String, Known>, fact: &Fact<'_>) {
    let shown = match fact.value {
        Value::Plain(v) | Value::Partly(v, _) => v.to_string(),
        Value::Secret(_) => "(hidden)".to_owned(),
    };
    let mut hash = Fnv::START;
    fact.hash(&mut hash);
    all.insert(fact.key(), Known { shown, hash: hash.0, class: fact.class });
}

fn compare(
    service: &str,
    old: &BTreeMap<String, Known>,
    new: &BTreeMap<String, Known>,
    changes: &mut Vec<Change>,
) {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        let Some(class) = after.or(before).map(|k| k.class) else { continue };
        if before.map(|k| k.hash) != after.map(|k| k.hash) {
            let shown = |k: Option<&Known>| k.map_or("(none)".to_owned(), |k| k.shown.clone());
            let (old, new) = (shown(before), shown(after));
            changes.push(Change { service: service.to_owned(), key: key.clone(), old, new, class });
        }
    }
}

/// Collects facts with little noise.
struct Teller<'v> {
    visit: &'v mut dyn FnMut(Fact<'_>),
    table: &'static str,
}

impl Teller<'_> {
    fn table(&mut self, table: &'static str) {
        self.table = table;
    }
    fn fact(&mut self, class: Class, name: &str, value: &dyn Display) {
        (self.visit)(Fact { table: self.table, name, class, value: Value::Plain(value) });
    }
    /// `secret` is part of the value, and hidden.
    fn partly(&mut self, name: &str, value: &dyn Display, secret: &str) {
        let value = Value::Partly(value, secret);
        (self.visit)(Fact { table: self.table, name, class: Class::Live, value });
    }
    fn live(&mut self, name: &str, value: &dyn Display) {
        self.fact(Class::Live, name, value);
    }
    fn restart(&mut self, name: &str, value: &dyn Display) {
        self.fact(Class::Restart, name, value);
    }
    fn restart_if<T: Display>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.restart(name, &value);
        }
    }
}

/// Every key of a service that is set or has a default, once.
fn facts(spec: &ServiceSpec, config: &ServiceConfig, visit: &mut dyn FnMut(Fact<'_>)) {
    let mut t = Teller { visit, table: "" };
    if let Some(description) = &config.description {
        t.live("description", &Quoted(description));
    }
    t.live("tags", &List(config.tags.iter().map(|t| Quoted(t))));
    match config.command {
        Command::Words(_) => t.restart("command", &config.command),
        Command::Shell(_) => {
            t.restart("command", &config.command);
            t.restart("shell", &true);
        }
        Command::Raw(_) => t.restart("command_line", &config.command),
    }
    t.restart("kind", &kind_word(spec.kind));
    t.live("enabled", &spec.enabled);
    t.live("instances", &spec.instances);
    let secrets = config.stop.iter().filter_map(|ask| match &ask.how {
        StopHow::Http(request) => Some(request.secrets()),
        StopHow::Command(_) => None,
    });
    t.partly(
        "stop",
        &List(spec.stop.iter().map(|step| Step(step, &config.stop))),
        &secrets.collect::<String>(),
    );
    if let Some(timeout) = spec.stop_timeout {
        t.live("stop_timeout", &Written(timeout));
    }
    if let Some(wait) = &spec.wait_for {
        t.live("wait_for", &WaitText(wait, config.wait_for.as_ref().and_then(|wait| wait.run.as_ref())));
    }
    if !spec.guards.is_empty() {
        t.live(
            "guards",
            &List(spec.guards.iter().zip(&config.guards).map(|(g, c)| GuardText(g, c.as_ref()))),
        );
    }
    t.live("foresee", &spec.foresee);
    if !spec.escalation.is_empty() {
        let rungs = spec.escalation.iter().zip(&config.escalation);
        t.live("escalation", &List(rungs.map(|(rung, command)| RungText(rung, command.as_ref()))));
    }
    if let Some(fallback) = &spec.fallback {
        t.live("fallback", fallback);
    }
    process(&mut t, config);
    t.table("depends_on");
    for d in &spec.depends_on {
        t.live(&d.on, &Dependency(d));
    }
    ready(&mut t, spec, config);
    restart(&mut t, spec);
    t.table("hooks");
    let no_hooks = HookCommands::default();
    let (times, commands) = (&spec.hooks, config.hooks.as_deref().unwrap_or(&no_hooks));
    let hooks = [
        ("pre_start", &times.pre_start, &commands.pre_start),
        ("post_start", &times.post_start, &commands.post_start),
        ("pre_stop", &times.pre_stop, &commands.pre_stop),
        ("post_stop", &times.post_stop, &commands.post_stop),
        ("on_suspend", &times.on_suspend, &commands.on_suspend),
        ("on_resume", &times.on_resume, &commands.on_resume),
        ("on_power_change", &times.on_power_change, &commands.on_power_change),
        ("on_session", &times.on_session, &commands.on_session),
    ];
    for (name, hook, command) in hooks {
        if let (Some(hook), Some(command)) = (hook, command) {
            t.live(name, &HookText(hook, command));
        }
    }
    t.table("log");
    t.restart_if("file", config.log.file.as_deref().map(Quoted));
    t.restart_if("stderr_file", config.log.stderr_file.as_deref().map(Quoted));
    t.table("log.rotate");
    t.live("size", &size::Written(config.log.rotate.size));
    t.live("keep", &config.log.rotate.keep);
}

/// What a process is given when it is started.
fn process(t: &mut Teller<'_>, config: &ServiceConfig) {
    t.restart_if("cwd", config.cwd.as_deref().map(Quoted));
    t.restart_if("env_file", config.env_file.as_deref().map(Quoted));
    t.restart_if("clear_env", config.clear_env.then_some(true));
    t.restart_if("user", config.user.as_ref());
    t.restart_if("group", config.group.as_ref());
    t.restart_if("umask", config.umask.map(Octal));
    t.restart_if("nice", config.nice);
    t.restart_if("affinity", config.affinity.as_ref());
    t.restart_if("oom_score_adj", config.oom_score_adj);
    t.restart_if("no_new_privileges", config.no_new_privileges.then_some(true));
    if let Some(numbers) = &config.capabilities {
        let name = |n: &u8| capability::NAMES.get(usize::from(*n)).copied().unwrap_or("?");
        t.restart("capabilities", &List(numbers.iter().map(|n| Quoted(name(n)))));
    }
    env(t, &config.env);
    t.table("limits");
    let limits = &config.limits;
    t.restart_if("nofile", limits.nofile);
    t.restart_if("core", limits.core);
    t.restart_if("memory", limits.memory.map(size::Written));
    t.restart_if("cpu", limits.cpu);
    t.restart_if("tasks", limits.tasks);
}

fn env(t: &mut Teller<'_>, env: &Env) {
    for (name, value) in env.iter() {
        let from;
        let value = match value {
            EnvValue::Text(text) => Value::Secret(text),
            EnvValue::From { name, optional } => {
                let optional = if *optional { ", optional = true" } else { "" };
                from = format!("{{ from = \"{name}\"{optional} }}");
                Value::Plain(&from)
            }
        };
        (t.visit)(Fact { table: "env", name, class: Class::Restart, value });
    }
}

fn ready(t: &mut Teller<'_>, spec: &ServiceSpec, config: &ServiceConfig) {
    t.table("ready");
    match &config.ready {
        Ready::None => {}
        Ready::Delay(d) => t.live("delay", &Written(*d)),
        Ready::Http(ask) => http(t, &ask.0, &ask.1),
        Ready::Tcp(address) => t.live("tcp", &Quoted(address)),
        Ready::Unix(path) => t.live("unix", &Quoted(path)),
        Ready::Pipe(name) => t.live("pipe", &Quoted(name)),
        Ready::Grpc(ask) => {
            t.live("grpc", &Quoted(&ask.address));
            if !ask.service.is_empty() {
                t.live("service", &Quoted(&ask.service));
            }
            tls(t, ask.ca.as_deref(), ask.identity.as_ref());
        }
        Ready::Exec(command) => t.live("exec", command),
        Ready::Log { pattern } => t.live("log", &Quoted(pattern)),
        Ready::File(path) => t.live("file", &Quoted(path)),
        Ready::Fresh { .. } | Ready::Line { .. } => {}
        Ready::Notify => t.restart("notify", &true),
    }
    let goes_on = spec.probes.iter().find(|p| p.purpose == Purpose::Ready);
    match spec.ready {
        Readiness::None | Readiness::Delay(_) => {}
        Readiness::Probe { period, timeout } => {
            t.live("period", &Written(period));
            t.live("timeout", &Written(goes_on.map_or(timeout, |p| p.timeout)));
        }
        Readiness::Signalled { timeout } => t.live("timeout", &Written(timeout)),
    }
    if let Some(probe) = goes_on {
        t.live("success_threshold", &probe.success_threshold);
        t.live("failure_threshold", &probe.failure_threshold);
    }
    t.restart_if("watchdog", spec.watchdog.map(Written));
    t.table("live");
    match config.heartbeat.map(|beat| beat.by) {
        Some(BeatBy::Own) => t.restart("heartbeat", &true),
        Some(BeatBy::Tcp(address)) => t.restart("heartbeat", &format_args!("tcp {address}")),
        None => {}
    }
    t.restart_if("period", config.heartbeat.map(|beat| Written(beat.period)));
    t.restart_if("lost_after", spec.heartbeat.map(Written));
    t.table("");
    for purpose in [Purpose::Startup, Purpose::Live] {
        let of = || spec.probes.iter().zip(&config.probes).filter(|(p, _)| p.purpose == purpose);
        if of().next().is_some() {
            let secrets = of().filter_map(|(_, how)| match how {
                Ready::Http(ask) => Some(ask.0.secrets()),
                _ => None,
            });
            let shown = List(of().map(|(probe, how)| ProbeText(probe, how)));
            t.partly(purpose.name(), &shown, &secrets.collect::<String>());
        }
    }
}

fn http(t: &mut Teller<'_>, request: &HttpRequest, expect: &HttpExpect) {
    t.live("http", &Quoted(&request.url));
    if request.method != Method::Get {
        t.live("method", &Quoted(request.method.as_str()));
    }
    if !request.headers.is_empty() {
        t.partly("headers", &List(request.headers.iter().map(|(name, _)| name)), &request.secrets());
    }
    if request.send.is_some() {
        t.partly("send", &"(hidden)", &request.secrets());
    }
    t.live("status", &List(expect.status.iter().map(Range)));
    if let Some(body) = &expect.body {
        t.live("body", &Quoted(body));
    }
    if let Some(pattern) = &expect.pattern {
        t.live("body_matches", &Quoted(pattern));
    }
    if !expect.json.is_empty() {
        t.live("json", &Json(&expect.json));
    }
    tls(t, request.ca.as_deref(), request.identity.as_ref());
}

fn tls(t: &mut Teller<'_>, ca: Option<&str>, identity: Option<&(Box<str>, Box<str>)>) {
    if let Some(ca) = ca {
        t.live("ca", &Quoted(ca));
    }
    if let Some((certificate, key)) = identity {
        t.live("certificate", &Quoted(certificate));
        t.live("key", &Quoted(key));
    }
}

struct Json<'a>(&'a [(Box<str>, JsonValue)]);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (pointer, value)) in self.0.iter().enumerate() {
            write!(f, "{}{pointer:?} = {value}", if n == 0 { "{ " } else { ", " })?;
        }
        f.write_str(" }")
    }
}

/// What is waited for, as it would be written.
struct WaitText<'a>(&'a WaitFor, Option<&'a Command>);

impl Display for WaitText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ on = {}", List(self.0.names.iter().map(|name| Quoted(name))))?;
        if let Some(timeout) = self.0.timeout {
            write!(f, ", timeout = \"{}\"", Written(timeout))?;
        }
        match (self.0.then, self.1) {
            (AfterWait::Fail, _) => write!(f, ", after = \"fail\" }}"),
            (AfterWait::StartAnyway, _) => write!(f, ", after = \"start_anyway\" }}"),
            (AfterWait::Run { timeout }, Some(command)) => {
                write!(f, ", run = {{ command = {command}, timeout = \"{}\" }} }}", Written(timeout))
            }
            (AfterWait::Run { .. }, None) => write!(f, " }}"),
        }
    }
}

/// A check that goes on, as it would be written.
struct ProbeText<'a>(&'a Probe, &'a Ready);

impl Display for ProbeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Ready::Http(ask) => {
                let (request, expect) = &**ask;
                write!(f, "{{ {request}, status = {}", List(expect.status.iter().map(Range)))?;
                if let Some(body) = &expect.body {
                    write!(f, ", body = {}", Quoted(body))?;
                }
                if let Some(pattern) = &expect.pattern {
                    write!(f, ", body_matches = {}", Quoted(pattern))?;
                }
                if !expect.json.is_empty() {
                    write!(f, ", json = {}", Json(&expect.json))?;
                }
            }
            Ready::Tcp(address) => write!(f, "{{ tcp = {}", Quoted(address))?,
            Ready::Unix(path) => write!(f, "{{ unix = {}", Quoted(path))?,
            Ready::Pipe(name) => write!(f, "{{ pipe = {}", Quoted(name))?,
            Ready::Grpc(ask) => {
                write!(f, "{{ grpc = {}, service = {}", Quoted(&ask.address), Quoted(&ask.service))?;
                if let Some(ca) = &ask.ca {
                    write!(f, ", ca = {}", Quoted(ca))?;
                }
                if let Some((certificate, key)) = &ask.identity {
                    write!(f, ", certificate = {}, key = {}", Quoted(certificate), Quoted(key))?;
                }
            }
            Ready::Line { pattern, rule } => match rule {
                LineRule::Once => write!(f, "{{ log = {}", Quoted(pattern))?,
                LineRule::Within(w) => {
                    write!(f, "{{ log = {}, within = \"{}\"", Quoted(pattern), Written(*w))?
                }
                LineRule::NotWithin(w) => {
                    write!(f, "{{ no_log = {}, within = \"{}\"", Quoted(pattern), Written(*w))?
                }
            },
            Ready::Exec(command) => write!(f, "{{ exec = {command}")?,
            Ready::Fresh { path, within } => {
                write!(f, "{{ file = {}, within = \"{}\"", Quoted(path), Written(*within))?;
            }
            Ready::None | Ready::Delay(_) | Ready::Log { .. } | Ready::File(_) | Ready::Notify => {
                f.write_str("{")?
            }
        }
        let p = self.0;
        write!(f, ", period = \"{}\", timeout = \"{}\"", Written(p.period), Written(p.timeout))?;
        write!(f, ", initial_delay = \"{}\"", Written(p.initial_delay))?;
        let (success, failure) = (p.success_threshold, p.failure_threshold);
        write!(f, ", success_threshold = {success}, failure_threshold = {failure} }}")
    }
}

fn restart(t: &mut Teller<'_>, spec: &ServiceSpec) {
    let r = &spec.restart;
    t.table("restart");
    t.live("policy", &policy_word(r.policy));
    t.live("delay", &Written(r.delay));
    t.live("max_delay", &Written(r.max_delay));
    t.live("jitter", &format_args!("{}%", r.jitter));
    t.live("reset_after", &Written(r.reset_after));
    match r.limit {
        Some(l) => {
            t.live("limit", &format_args!("{{ max = {}, window = \"{}\" }}", l.max, Written(l.window)))
        }
        None => t.live("limit", &"off"),
    }
    let beyond = match r.on_crash_loop {
        OnCrashLoop::Retry => "retry",
        OnCrashLoop::GiveUp => "give_up",
    };
    t.live("on_crash_loop", &beyond);
    t.table("restart.exit_codes");
    t.live("success", &List(r.exit_codes.success.iter()));
    t.live("retry", &List(r.exit_codes.retry.iter()));
    t.live("config_error", &List(r.exit_codes.config_error.iter()));
    t.live("fatal", &List(r.exit_codes.fatal.iter()));
}

fn guardian_facts(g: &GuardianConfig, visit: &mut dyn FnMut(Fact<'_>)) {
    let mut t = Teller { visit, table: "" };
    t.live("operators", &List(g.operators.iter().map(|s| Quoted(s))));
    t.live("readers", &List(g.readers.iter().map(|s| Quoted(s))));
    if let Some(n) = g.max_parallel_starts {
        t.live("max_parallel_starts", &n);
    }
    let gone = match g.when_daemon_gone {
        WhenDaemonGone::Drain => "drain",
        WhenDaemonGone::Block => "block",
    };
    t.live("when_daemon_gone", &gone);
    t.live("log_level", &g.log_level.as_str());
    t.live("hang_after", &Written(g.hang_after));
    if let Some(at) = g.http {
        t.live("http", &format_args!("\"{at}\""));
    }
    if let Some(address) = g.heartbeat {
        t.live("heartbeat", &format_args!("\"{address}\""));
    }
    t.live("profile", &g.profile.as_str());
    t.live("sample_every", &Written(g.sample_every));
    for receiver in &g.notify {
        let fact = Fact {
            table: "notify",
            name: &receiver.name,
            class: Class::Live,
            value: Value::Partly(receiver, &receiver.secrets()),
        };
        (t.visit)(fact);
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "service",
        Kind::Oneshot => "oneshot",
    }
}

fn policy_word(policy: Policy) -> &'static str {
    match policy {
        Policy::Always => "always",
        Policy::OnFailure => "on-failure",
        Policy::Never => "never",
    }
}

#[cfg(test)]
mod tests;
