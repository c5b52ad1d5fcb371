//! What one instance is started with: `${…}` filled in, paths absolute, the environment whole.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keepwell_core::spec::System;

use crate::address::{host_port, http_target};
use crate::config::{
    Account, Beat, Command, Context, Env, EnvValue, Limits, Outside, Ready, Rotate, ServiceConfig, StopAsk,
    StopHow,
};
use crate::diagnostic::Diagnostic;
use crate::element::env::reserved;
use crate::http::{GrpcAsk, GrpcTarget, HttpRequest, HttpTarget, LineRule, Secret, TlsPaths};
use crate::template::{Rule, Unknown, expand, names};

/// What one instance is started with.
#[derive(Clone, PartialEq, Eq)]
pub struct ResolvedService {
    /// The program as written and its arguments. [`ResolvedService::candidates`] says where the program may be.
    pub argv: Vec<String>,
    /// The line that the program is given instead, as it is; on Windows only.
    pub line: Option<String>,
    /// The whole environment; nothing else is inherited.
    pub env: BTreeMap<String, String>,
    /// Names of `env` that the service itself sets, by `env` or `env_file`.
    pub own_env: BTreeSet<String>,
    /// Absolute.
    pub cwd: PathBuf,
    /// Another user.
    pub user: Option<Account>,
    /// Another group.
    pub group: Option<Account>,
    /// Mask of new files' permission bits.
    pub umask: Option<u32>,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// Numbers of the processors that it may run on; empty: all.
    pub affinity: Box<[u16]>,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// What it may use.
    pub limits: Limits,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// By number, sorted; `Some` drops all others.
    pub capabilities: Option<Box<[u8]>>,
    /// What must be there before its start, each with how people know it.
    pub wait_for: Vec<ResolvedOutside>,
    /// The command that decides when that does not come.
    pub wait_run: Option<Vec<String>>,
    /// How readiness is seen.
    pub ready: ResolvedReady,
    /// The checks that go on.
    pub probes: Vec<ResolvedReady>,
    /// How often it is to beat; `None`: it need not.
    pub heartbeat: Option<Beat>,
    /// Programs around its life.
    pub hooks: ResolvedHooks,
    /// The requests and commands of its stop ladder, by their numbers.
    pub stop: BTreeMap<u64, ResolvedStop>,
    /// The commands of its guards, in their order.
    pub guards: Vec<Option<Vec<String>>>,
    /// The folders that its guards look at: as they are written, and where they are.
    pub folders: Vec<(Arc<str>, PathBuf)>,
    /// The commands of its escalation ladder, in the order of its steps.
    pub escalation: Vec<Option<Vec<String>>>,
    /// Where its output goes.
    pub log: ResolvedLog,
}

/// The environment holds secrets, and arguments may.
impl std::fmt::Debug for ResolvedService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResolvedService")
            .field("program", &self.argv.first())
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// How readiness is seen, with everything filled in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ResolvedReady {
    /// It is not.
    #[default]
    None,
    /// A time after the start.
    Delay(Duration),
    /// A request is answered well.
    Http(Box<HttpTarget>),
    /// `host:port` accepts.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Its port.
        port: u16,
    },
    /// A Unix socket accepts.
    Unix(PathBuf),
    /// A named pipe accepts.
    Pipe(String),
    /// A health service of gRPC says so.
    Grpc(GrpcTarget),
    /// A line of output has come in time, or has not.
    Line {
        /// A regular expression.
        pattern: String,
        /// When.
        rule: LineRule,
    },
    /// A program exits with 0.
    Exec(Vec<String>),
    /// A line of output matches.
    Log {
        /// A regular expression.
        pattern: String,
    },
    /// A file exists.
    File(PathBuf),
    /// A file was written lately.
    Fresh {
        /// Its path.
        path: PathBuf,
        /// How old it may be.
        within: Duration,
    },
    /// `READY=1`.
    Notify,
}

/// Something outside that a service waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ResolvedOutside {
    /// It answers, or is a file that exists.
    Answer(ResolvedReady),
    /// A file system is mounted on this folder.
    Mount(PathBuf),
    /// A service of the system runs.
    Service(String),
}

impl ResolvedReady {
    /// Host and port that a service answers on when it is ready.
    #[must_use]
    pub fn port(self) -> Option<(String, u16)> {
        match self {
            ResolvedReady::Http(target) => Some((target.host, target.port)),
            ResolvedReady::Tcp { host, port } => Some((host, port)),
            ResolvedReady::Grpc(target) => Some((target.host, target.port)),
            ResolvedReady::None
            | ResolvedReady::Delay(_)
            | ResolvedReady::Unix(_)
            | ResolvedReady::Pipe(_)
            | ResolvedReady::Line { .. }
            | ResolvedReady::Exec(_)
            | ResolvedReady::Log { .. }
            | ResolvedReady::File(_)
            | ResolvedReady::Fresh { .. }
            | ResolvedReady::Notify => None,
        }
    }
}

/// Arguments of the programs around a service's life.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ResolvedHooks {
    /// See `keepwell_core::spec::Hooks`.
    pub pre_start: Option<Vec<String>>,
    /// See there.
    pub post_start: Option<Vec<String>>,
    /// See there.
    pub pre_stop: Option<Vec<String>>,
    /// See there.
    pub post_stop: Option<Vec<String>>,
    /// See there.
    pub on_suspend: Option<Vec<String>>,
    /// See there.
    pub on_resume: Option<Vec<String>>,
    /// See there.
    pub on_power_change: Option<Vec<String>>,
    /// See there.
    pub on_session: Option<Vec<String>>,
}

/// A step of the stop ladder that is no signal, with everything filled in.
#[derive(Clone, PartialEq, Eq)]
pub enum ResolvedStop {
    /// A request.
    Http(Box<HttpTarget>),
    /// A program and its arguments.
    Command(Vec<String>),
}

/// Where an instance's output goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvedLog {
    /// Absolute.
    pub stdout: PathBuf,
    /// Absolute; `None`: merged into `stdout`.
    pub stderr: Option<PathBuf>,
    /// When a new file is begun.
    pub rotate: Rotate,
}

/// Why a text or the environment cannot be filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// A text names what is not known.
    Unknown(Unknown),
    /// This variable of `env` is taken from one that keepwell does not have.
    Missing { variable: Arc<str>, from: Arc<str> },
    /// This variable of `env` names what is not known.
    UnknownIn { variable: Arc<str>, unknown: Unknown },
    /// Variables of `env` name each other in a ring.
    Ring(Vec<Arc<str>>),
}

impl Trouble {
    /// One line, for messages without a place.
    pub(crate) fn words(&self) -> String {
        match self {
            Trouble::Unknown(u) => format!("`{}` is not known", u.written),
            Trouble::Missing { variable, from } => {
                format!(
                    "env.{variable} is taken from `{from}`, which is not set in keepwell's own environment"
                )
            }
            Trouble::UnknownIn { variable, unknown } => {
                format!("`{}` in env.{variable} is not known", unknown.written)
            }
            Trouble::Ring(ring) => format!("variables of env need each other: {}", ring.join(" → ")),
        }
    }
}

/// What may be filled in for one instance.
pub(crate) struct Filler<'a> {
    service: &'a str,
    instance: u16,
    env: &'a Env,
    cx: &'a Context,
    /// Lines of `env_file`, once it is read; a variable that names itself means the value below it.
    file: &'a BTreeMap<String, String>,
}

/// No `env_file` was read.
pub(crate) static NO_FILE: BTreeMap<String, String> = BTreeMap::new();

impl<'a> Filler<'a> {
    pub(crate) fn new(service: &'a str, instance: u16, env: &'a Env, cx: &'a Context) -> Self {
        Self { service, instance, env, cx, file: &NO_FILE }
    }

    fn builtin(&self, name: &str) -> Option<Cow<'a, str>> {
        match name {
            "service" => Some(Cow::Borrowed(self.service)),
            "instance" => Some(self.instance.to_string().into()),
            _ => None,
        }
    }

    /// The service's own variables.
    pub(crate) fn own_env(&self) -> Result<BTreeMap<Arc<str>, String>, Trouble> {
        let mut done = BTreeMap::new();
        for (name, _) in self.env.iter() {
            self.variable(name, &mut done)?;
        }
        Ok(done)
    }

    /// A text with its names filled in. Only the variables that it needs are worked out, so that a path to `env_file` may
    /// stand beside variables that need that file.
    pub(crate) fn fill<'t>(&self, text: &'t str, rule: Rule) -> Result<Cow<'t, str>, Trouble> {
        if !text.contains('$') {
            return Ok(Cow::Borrowed(text));
        }
        let mut own = BTreeMap::new();
        for name in names(text).filter(|n| self.builtin(n).is_none() && self.env.get(n).is_some()) {
            self.variable(&Arc::from(name), &mut own)?;
        }
        let lookup =
            |name: &str| self.builtin(name).or_else(|| own.get(name).map(|v| Cow::Borrowed(v.as_str())));
        expand(text, rule, lookup).map_err(Trouble::Unknown)
    }

    /// Works out one variable and, before it, what it needs. Without recursion: a chain may be as long as the table.
    fn variable(&self, name: &Arc<str>, done: &mut BTreeMap<Arc<str>, String>) -> Result<(), Trouble> {
        let mut path: Vec<Arc<str>> = vec![name.clone()];
        while let Some(name) = path.last().cloned() {
            match self.env.get(&name) {
                _ if done.contains_key(&name) => {}
                None => {}
                Some(EnvValue::From { name: from, optional }) => match self.cx.env.get(from.as_ref()) {
                    Some(value) => {
                        done.insert(name.clone(), value.clone());
                    }
                    None if *optional => {}
                    None => return Err(Trouble::Missing { variable: name, from: from.clone() }),
                },
                Some(EnvValue::Text(text)) => {
                    if let Some(needed) = self.open(&name, text, done) {
                        if let Some(start) = path.iter().position(|n| *n == needed) {
                            let ring = path[start..].iter().cloned().chain([needed]).collect();
                            return Err(Trouble::Ring(ring));
                        }
                        path.push(needed);
                        continue;
                    }
                    let lookup = |other: &str| {
                        let below = || self.below(other).map(Cow::Borrowed);
                        let known = || done.get(other).map(|v| Cow::Borrowed(v.as_str()));
                        self.builtin(other).or_else(|| if other == name.as_ref() { below() } else { known() })
                    };
                    let value = expand(text, Rule::Plain, lookup)
                        .map_err(|unknown| Trouble::UnknownIn { variable: name.clone(), unknown })?
                        .into_owned();
                    done.insert(name.clone(), value);
                }
            }
            path.pop();
        }
        Ok(())
    }

    /// A variable that must be worked out before `name` can be.
    fn open(&self, name: &str, text: &str, done: &BTreeMap<Arc<str>, String>) -> Option<Arc<str>> {
        let waits = |other: &&str| {
            let absent = matches!(self.env.get(other), Some(EnvValue::From { name: from, optional: true })
                if !self.cx.env.contains_key(from.as_ref()));
            *other != name && self.builtin(other).is_none() && !done.contains_key(*other) && !absent
        };
        names(text).find(|other| waits(other) && self.env.get(other).is_some()).map(Arc::from)
    }

    /// What a variable of `env` hides.
    fn below(&self, name: &str) -> Option<&str> {
        self.file.get(name).or_else(|| self.cx.env.get(name)).map(String::as_str)
    }
}

impl ServiceConfig {
    /// What `instance` is started with. Reads `env_file`, nothing else.
    ///
    /// # Errors
    /// `env_file` cannot be read, or something that was there when the configuration was loaded is no more.
    pub fn resolve(&self, instance: u16, cx: &Context) -> Result<ResolvedService, Diagnostic> {
        let file = self.read_env_file(instance, cx)?;
        let filler = Filler { file: &file, ..Filler::new(&self.name, instance, &self.env, cx) };
        let trouble =
            |t: Trouble| Diagnostic::error("unknown-name", format!("services.{}: {}", self.name, t.words()));
        let own = filler.own_env().map_err(trouble)?;
        let path =
            |text: &str| filler.fill(text, Rule::Plain).map(|p| cx.base.join(p.as_ref())).map_err(trouble);
        let argv = |c: &Command| self.argv(c, &filler).map_err(trouble);
        let hook = |c: &Option<Command>| c.as_ref().map(argv).transpose();
        let check = |check: &Ready| {
            self.resolved_check(check, &filler, cx)
                .map_err(|why| Diagnostic::error("bad-value", format!("services.{}: {why}", self.name)))
        };
        Ok(ResolvedService {
            argv: argv(&self.command)?,
            line: self.line(&filler).map_err(trouble)?,
            cwd: self.cwd.as_deref().map_or_else(|| Ok(cx.base.clone()), path)?,
            own_env: own.keys().map(|n| n.to_string()).chain(file.keys().cloned()).collect(),
            env: self.whole_env(instance, cx, &file, &own),
            user: self.user.clone(),
            group: self.group.clone(),
            umask: self.umask,
            nice: self.nice,
            affinity: self.affinity.as_ref().map(|a| a.0.clone()).unwrap_or_default(),
            oom_score_adj: self.oom_score_adj,
            limits: self.limits,
            no_new_privileges: self.no_new_privileges,
            capabilities: self.capabilities.clone(),
            heartbeat: self.heartbeat,
            wait_for: self.outside(&filler, cx)?,
            wait_run: hook(&self.wait_for.as_ref().and_then(|wait| wait.run.clone()))?,
            ready: check(&self.ready)?,
            probes: self.probes.iter().map(check).collect::<Result<_, _>>()?,
            hooks: match self.hooks.as_deref() {
                None => ResolvedHooks::default(),
                Some(hooks) => ResolvedHooks {
                    pre_start: hook(&hooks.pre_start)?,
                    post_start: hook(&hooks.post_start)?,
                    pre_stop: hook(&hooks.pre_stop)?,
                    post_stop: hook(&hooks.post_stop)?,
                    on_suspend: hook(&hooks.on_suspend)?,
                    on_resume: hook(&hooks.on_resume)?,
                    on_power_change: hook(&hooks.on_power_change)?,
                    on_session: hook(&hooks.on_session)?,
                },
            },
            guards: self.guards.iter().map(hook).collect::<Result<_, _>>()?,
            folders: self
                .folders
                .iter()
                .map(|folder| Ok((Arc::clone(folder), path(folder)?)))
                .collect::<Result<_, _>>()?,
            escalation: self.escalation.iter().map(hook).collect::<Result<_, _>>()?,
            stop: self.stops(&filler)?,
            log: self.log_paths(&filler).map_err(trouble)?,
        })
    }

    fn outside(&self, filler: &Filler<'_>, cx: &Context) -> Result<Vec<ResolvedOutside>, Diagnostic> {
        let wrong = |why| Diagnostic::error("bad-value", format!("services.{}: wait_for: {why}", self.name));
        self.wait_for
            .iter()
            .flat_map(|wait| &wait.on)
            .map(|one| self.resolved_outside(one, filler, cx).map_err(wrong))
            .collect()
    }

    pub(crate) fn resolved_outside(
        &self,
        one: &Outside,
        filler: &Filler<'_>,
        cx: &Context,
    ) -> Result<ResolvedOutside, String> {
        let fill = |text: &str| filler.fill(text, Rule::Plain).map(Cow::into_owned).map_err(|t| t.words());
        Ok(match one {
            Outside::Answer(ready) => ResolvedOutside::Answer(self.resolved_check(ready, filler, cx)?),
            Outside::Mount(path) => ResolvedOutside::Mount(cx.base.join(fill(path)?)),
            Outside::Service(name) => ResolvedOutside::Service(fill(name)?),
        })
    }

    fn stops(&self, filler: &Filler<'_>) -> Result<BTreeMap<u64, ResolvedStop>, Diagnostic> {
        let wrong = |why| Diagnostic::error("bad-value", format!("services.{}: stop: {why}", self.name));
        let all = self.stop.iter().map(|ask| Ok((ask.id, self.resolved_stop(ask, filler).map_err(wrong)?)));
        all.collect()
    }

    fn resolved_stop(&self, ask: &StopAsk, filler: &Filler<'_>) -> Result<ResolvedStop, String> {
        match &ask.how {
            StopHow::Http(request) => filled_request(request, filler).map(Box::new).map(ResolvedStop::Http),
            StopHow::Command(command) => {
                self.argv(command, filler).map(ResolvedStop::Command).map_err(|t| t.words())
            }
        }
    }

    /// keepwell's own environment without what only keepwell is meant by, then `env_file`, then `env`.
    fn whole_env(
        &self,
        instance: u16,
        cx: &Context,
        file: &BTreeMap<String, String>,
        own: &BTreeMap<Arc<str>, String>,
    ) -> BTreeMap<String, String> {
        let kept = |name: &str| match self.clear_env {
            true => is_basic(name, cx.system),
            false => !reserved(name),
        };
        let mut env = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            let mut name = name.to_owned();
            if cx.system == System::Windows {
                // One variable, however it is written; the one that programs are looked up in has one name here.
                env.retain(|other: &String, _| !other.eq_ignore_ascii_case(&name));
                if name.eq_ignore_ascii_case("PATH") {
                    name.make_ascii_uppercase();
                }
            }
            env.insert(name, value.to_owned());
        };
        cx.env.iter().filter(|(name, _)| kept(name)).for_each(|(name, value)| set(name, value));
        file.iter().for_each(|(name, value)| set(name, value));
        own.iter().for_each(|(name, value)| set(name, value));
        set("KEEPWELL_SERVICE", &self.name);
        set("KEEPWELL_INSTANCE", &instance.to_string());
        env
    }

    /// What no list of arguments could say.
    fn line(&self, filler: &Filler<'_>) -> Result<Option<String>, Trouble> {
        Ok(match (&self.command, filler.cx.system) {
            (Command::Raw(line), _) => Some(line.to_string()),
            (Command::Shell(line), System::Windows) => {
                // With /s the outer quotes are taken off, and the rest is read as it stands.
                Some(format!("cmd.exe /d /s /c \"{}\"", filler.fill(line, Rule::Shell)?))
            }
            (Command::Words(_) | Command::Shell(_), _) => None,
        })
    }

    fn argv(&self, command: &Command, filler: &Filler<'_>) -> Result<Vec<String>, Trouble> {
        let fill = |text: &str| filler.fill(text, Rule::Shell).map(Cow::into_owned);
        match command {
            Command::Words(words) => words.iter().map(|w| fill(w)).collect(),
            Command::Shell(line) => match filler.cx.system {
                System::Unix => Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), fill(line)?]),
                System::Windows => Ok(vec!["cmd.exe".to_owned(), fill(line)?]),
            },
            // It was split once, as far as its program.
            Command::Raw(line) => Ok(program_of(line).into_iter().collect()),
        }
    }

    /// Where an instance logs.
    pub(crate) fn log_paths(&self, filler: &Filler<'_>) -> Result<ResolvedLog, Trouble> {
        let (instance, cx) = (filler.instance, filler.cx);
        let path = |text: &str| filler.fill(text, Rule::Plain).map(|p| cx.base.join(p.as_ref()));
        let by_name = || match instance {
            1 => cx.state_dir.join("logs").join(format!("{}.log", self.name)),
            n => cx.state_dir.join("logs").join(format!("{}@{n}.log", self.name)),
        };
        let stdout = self.log.file.as_deref().map_or_else(|| Ok(by_name()), path)?;
        let stderr = self.log.stderr_file.as_deref().map(path).transpose()?;
        Ok(ResolvedLog { stdout, stderr, rotate: self.log.rotate })
    }

    pub(crate) fn resolved_check(
        &self,
        check: &Ready,
        filler: &Filler<'_>,
        cx: &Context,
    ) -> Result<ResolvedReady, String> {
        let fill = |text: &str| filler.fill(text, Rule::Plain).map(Cow::into_owned).map_err(|t| t.words());
        Ok(match check {
            Ready::None => ResolvedReady::None,
            Ready::Delay(d) => ResolvedReady::Delay(*d),
            Ready::Http(ask) => {
                let target = filled_request(&ask.0, filler)?;
                ResolvedReady::Http(Box::new(HttpTarget { expect: ask.1.clone(), ..target }))
            }
            Ready::Tcp(address) => {
                let (host, port) = host_port(&fill(address)?)?;
                ResolvedReady::Tcp { host, port: port.ok_or("the port is missing: \"127.0.0.1:5432\"")? }
            }
            Ready::Unix(path) => ResolvedReady::Unix(cx.base.join(fill(path)?)),
            Ready::Pipe(name) => ResolvedReady::Pipe(fill(name)?),
            Ready::Grpc(ask) => ResolvedReady::Grpc(filled_grpc(ask, filler)?),
            Ready::Line { pattern, rule } => {
                ResolvedReady::Line { pattern: pattern.to_string(), rule: *rule }
            }
            Ready::Exec(command) => ResolvedReady::Exec(self.argv(command, filler).map_err(|t| t.words())?),
            Ready::Log { pattern } => ResolvedReady::Log { pattern: pattern.to_string() },
            Ready::File(path) => ResolvedReady::File(cx.base.join(fill(path)?)),
            Ready::Fresh { path, within } => {
                ResolvedReady::Fresh { path: cx.base.join(fill(path)?), within: *within }
            }
            Ready::Notify => ResolvedReady::Notify,
        })
    }
}

fn filled_request(request: &HttpRequest, filler: &Filler<'_>) -> Result<HttpTarget, String> {
    let fill = |text: &str| filler.fill(text, Rule::Plain).map(Cow::into_owned).map_err(|t| t.words());
    let secret = |text: &Secret| fill(text.expose()).map(Secret::new);
    let path = |text: &str| fill(text).map(|p| filler.cx.base.join(p));
    let headers = request.headers.iter().map(|(name, value)| Ok((name.to_string(), secret(value)?)));
    let identity = request.identity.as_ref();
    Ok(HttpTarget {
        method: request.method,
        headers: headers.collect::<Result<_, String>>()?,
        send: request.send.as_ref().map(secret).transpose()?,
        ca: request.ca.as_deref().map(path).transpose()?,
        identity: identity.map(|(cert, key)| Ok::<_, String>((path(cert)?, path(key)?))).transpose()?,
        ..http_target(&fill(&request.url)?)?
    })
}

fn filled_grpc(ask: &GrpcAsk, filler: &Filler<'_>) -> Result<GrpcTarget, String> {
    let fill = |text: &str| filler.fill(text, Rule::Plain).map(Cow::into_owned).map_err(|t| t.words());
    let path = |text: &str| fill(text).map(|p| filler.cx.base.join(p));
    let address = fill(&ask.address)?;
    let (https, place) = match address.strip_prefix("https://") {
        Some(place) => (true, place.trim_end_matches('/')),
        None => (false, address.as_str()),
    };
    let (host, port) = host_port(place)?;
    let port = port.ok_or("the port is missing: \"127.0.0.1:50051\"")?;
    let identity = ask.identity.as_ref().map(|(cert, key)| Ok::<_, String>((path(cert)?, path(key)?)));
    let tls = TlsPaths { ca: ask.ca.as_deref().map(path).transpose()?, identity: identity.transpose()? };
    Ok(GrpcTarget { host, port, service: fill(&ask.service)?, tls: https.then_some(tls) })
}

/// What every program may need of keepwell's own environment.
fn is_basic(name: &str, system: System) -> bool {
    const WINDOWS: [&str; 10] = [
        "PATH",
        "PATHEXT",
        "SystemRoot",
        "SystemDrive",
        "windir",
        "ComSpec",
        "TEMP",
        "TMP",
        "USERNAME",
        "USERPROFILE",
    ];
    match system {
        System::Unix => matches!(name, "PATH" | "HOME" | "USER" | "LANG"),
        System::Windows => WINDOWS.iter().any(|basic| name.eq_ignore_ascii_case(basic)),
    }
}

/// The first word of a raw line.
fn program_of(line: &str) -> Option<String> {
    let line = line.trim_start();
    let word = match line.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => line.split([' ', '\t']).next(),
    };
    word.map(str::to_owned)
}

impl ResolvedService {
    /// Where the program may be, in the order to try: a name with a slash is relative to `cwd`, a bare one is looked up in
    /// the service's own `PATH`.
    #[must_use]
    pub fn candidates(&self) -> Vec<PathBuf> {
        self.candidates_of(&self.argv)
    }

    /// The same for a hook or a readiness check.
    #[must_use]
    pub fn candidates_of(&self, argv: &[String]) -> Vec<PathBuf> {
        let Some(program) = argv.first() else { return vec![] };
        if program.contains(std::path::is_separator) {
            return vec![self.cwd.join(program.strip_prefix("./").unwrap_or(program))];
        }
        let path = self.env.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
        // An empty part of PATH is the current folder (POSIX, 8.3): the service's.
        std::env::split_paths(path).map(|folder| self.cwd.join(folder).join(program)).collect()
    }

    /// Sets HOME, USER and LOGNAME for the user it runs as, unless the service sets them itself.
    pub fn adopt_user(&mut self, name: &str, home: &str) {
        for (variable, value) in [("HOME", home), ("USER", name), ("LOGNAME", name)] {
            if !self.own_env.contains(variable) {
                self.env.insert(variable.to_owned(), value.to_owned());
            }
        }
    }
}
