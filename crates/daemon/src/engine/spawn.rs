//! Turns "start this service" into a request that the anchor can carry out: slot, program, environment, identity.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keepwell_anchor::protocol::{OpenSlot, Request};
use keepwell_config::{
    Account, Bound, HttpTarget, ResolvedLog, ResolvedOutside, ResolvedReady, ResolvedService, ResolvedStop,
    ServiceConfig,
};
use keepwell_core::event::{Level, SpawnError, SpawnErrorKind};
use keepwell_core::{HostEvent, Role, RunId, ServiceId};
use keepwell_os::tree::{self, TreeDir};
use keepwell_os::wait::Interest;
use keepwell_os::watch::FileWatch;
use keepwell_os::{
    AsHandle, BorrowedHandle, Identity, Processors, Resource, Rlimit, SpawnRequest, identity, pipe, program,
};
use keepwell_sdk::heartbeat::{ENDPOINT_VARIABLE, PERIOD_VARIABLE, TOKEN_VARIABLE};

use super::{Engine, PROGRAMS};
use crate::log::{LogSpec, Sign};
use crate::probe::{Check, HttpAsk, Item, LineRule, Outside, Since, StopRequest, TlsFiles, What};

/// What the anchor holds for a slot while there is no daemon, in bytes: a few screens of last words.
const DRAIN_LIMIT: u32 = 256 * 1024;

/// How readiness of a service is tried.
pub(super) enum ReadyCheck {
    /// By a connection or a look at a file.
    Network(Arc<Check>),
    /// By a program.
    Exec,
    /// Not by trying; why, in words.
    None(String),
}

fn permanent(text: impl Into<String>) -> SpawnError {
    SpawnError { kind: SpawnErrorKind::Permanent, text: text.into() }
}

fn transient(text: impl Into<String>) -> SpawnError {
    SpawnError { kind: SpawnErrorKind::Transient, text: text.into() }
}

impl Engine {
    pub(super) fn check_of(
        &mut self,
        id: &ServiceId,
        listed: Option<usize>,
        run: RunId,
        since: Since,
    ) -> ReadyCheck {
        if let Some(known) = self.checks.get(id, listed) {
            return known;
        }
        let found = match self.resolve(id).map(|r| asked(r, listed)) {
            Err(e) => ReadyCheck::None(e.text),
            Ok(ResolvedReady::Exec(_)) => ReadyCheck::Exec,
            Ok(ResolvedReady::Line { pattern, rule }) => match self.slots.number(id) {
                Some(slot) => self.line(slot, run, pattern, rule),
                None => ReadyCheck::None("it has no log".to_owned()),
            },
            Ok(ready) => match check(ready, since) {
                Ok(check) => ReadyCheck::Network(Arc::new(check)),
                Err(why) => ReadyCheck::None(why),
            },
        };
        self.checks.keep(id, listed, &found);
        found
    }

    /// What it waits for before its start.
    pub(super) fn outside_of(&mut self, id: &ServiceId) -> Result<Arc<Outside>, String> {
        if let Some(known) = self.checks.outside(id) {
            return Ok(known);
        }
        let names = self.supervisor.specs().services.get(&id.name).and_then(|s| s.wait_for.as_ref());
        let names = names.map(|wait| wait.names.clone()).unwrap_or_default();
        let resolved = self.resolve(id).map_err(|e| e.text)?;
        let all = names.into_iter().zip(resolved.wait_for).map(|(name, one)| {
            let what = match one {
                // It counts whenever it was made.
                ResolvedOutside::Answer(ready) => {
                    check(ready, Since::wall(keepwell_core::Wall(0))).map(What::answers)
                }
                ResolvedOutside::Mount(folder) => Ok(What::mounted(folder)),
                ResolvedOutside::Service(name) => Ok(What::runs(name)),
            };
            Item { name, what }
        });
        let outside = Arc::new(Outside::new(all.collect()));
        self.checks.keep_outside(id, &outside);
        Ok(outside)
    }

    pub(super) fn log_spec(&self, id: &ServiceId) -> Option<LogSpec> {
        Some(spec_of(&self.resolve(id).ok()?.log))
    }

    /// Where output of a slot goes whose service is no longer in the configuration.
    pub(super) fn orphan_log(&self, shown: &str) -> LogSpec {
        let rotate = keepwell_config::Rotate::default();
        LogSpec {
            file: self.options.state_dir.join("logs").join(format!("{shown}.log")),
            error_file: None,
            rotate_size: rotate.size,
            keep: rotate.keep,
        }
    }

    pub(super) fn resolve(&self, id: &ServiceId) -> Result<ResolvedService, SpawnError> {
        self.resolve_of(id, self.config.services.get(&id.name))
    }

    /// What runs is ended by the settings that it was started with. A reborn daemon has only those in force.
    fn resolve_end(&self, id: &ServiceId) -> Result<ResolvedService, SpawnError> {
        self.resolve_of(id, self.retired.get(id).or_else(|| self.config.services.get(&id.name)))
    }

    fn resolve_of(
        &self,
        id: &ServiceId,
        service: Option<&Arc<ServiceConfig>>,
    ) -> Result<ResolvedService, SpawnError> {
        let service = service.ok_or_else(|| permanent(format!("{id} is no longer in the configuration")))?;
        service.resolve(id.instance, &self.context).map_err(|d| {
            // Whoever reads it knows which service it is about.
            let about = format!("services.{}: ", id.name);
            permanent(d.message.strip_prefix(&about).unwrap_or(&d.message))
        })
    }

    /// The slot and the request for a process of a service. For a main process all that must stand before it runs does.
    pub(super) fn prepare(
        &mut self,
        id: &ServiceId,
        role: Role,
        run: RunId,
    ) -> Result<(u32, SpawnRequest), SpawnError> {
        let mut resolved = match role {
            Role::PreStop | Role::PostStop | Role::Stop => self.resolve_end(id)?,
            Role::Guard(_) | Role::Escalation(_) => self.resolve(id)?,
            Role::Main | Role::PreStart | Role::WaitFor => {
                self.retired.remove(id);
                self.checks.forget(id);
                self.resolve(id)?
            }
            Role::PostStart | Role::OnSuspend | Role::OnResume | Role::OnPowerChange | Role::OnSession => {
                self.resolve(id)?
            }
        };
        let hooks = std::mem::take(&mut resolved.hooks);
        if role != Role::Main {
            resolved.line = None;
        }
        let argv = match role {
            Role::Main => Some(std::mem::take(&mut resolved.argv)),
            Role::WaitFor => resolved.wait_run.take(),
            Role::PreStart => hooks.pre_start,
            Role::PostStart => hooks.post_start,
            Role::PreStop => hooks.pre_stop,
            Role::PostStop => hooks.post_stop,
            Role::OnSuspend => hooks.on_suspend,
            Role::OnResume => hooks.on_resume,
            Role::OnPowerChange => hooks.on_power_change,
            Role::OnSession => hooks.on_session,
            Role::Guard(rule) => resolved.guards.get_mut(usize::from(rule)).and_then(Option::take),
            Role::Escalation(rung) => resolved.escalation.get_mut(usize::from(rung)).and_then(Option::take),
            // `prepare_stop` knows which.
            Role::Stop => None,
        };
        let argv = argv.ok_or_else(|| permanent("the hook is no longer in the configuration"))?;
        let slot = self.open_slot(id, &resolved.log)?;
        let request = self.request(id, &mut resolved, argv, run.0)?;
        if role == Role::Main {
            let uid = request.identity.as_ref().map_or_else(identity::own_uid, |found| found.uid);
            self.before_main(id, slot, run, uid, &resolved.ready);
            self.before_checks(id, slot, run, &resolved.probes);
            if resolved.heartbeat.is_some() {
                self.listen_beats(id, slot, run);
            }
        }
        Ok((slot, request))
    }

    /// The hook that hears of what happened to the host.
    pub(super) fn prepare_on_event(
        &mut self,
        id: &ServiceId,
        event: HostEvent,
        run: RunId,
    ) -> Result<(u32, SpawnRequest), SpawnError> {
        let (slot, mut request) = self.prepare(id, event.role(), run)?;
        request.env.push(format!("KEEPWELL_EVENT={}", event.name()).into_bytes());
        if let Some(session) = event.session() {
            request.env.push(format!("KEEPWELL_SESSION={session}").into_bytes());
        }
        Ok((slot, request))
    }

    /// The command of a step of the stop ladder.
    pub(super) fn prepare_stop(
        &mut self,
        id: &ServiceId,
        ask: u64,
        run: RunId,
    ) -> Result<(u32, SpawnRequest), SpawnError> {
        let mut resolved = self.resolve_end(id)?;
        let Some(ResolvedStop::Command(argv)) = resolved.stop.remove(&ask) else {
            return Err(permanent("the command is no longer in the configuration"));
        };
        resolved.line = None;
        let slot = self.open_slot(id, &resolved.log)?;
        Ok((slot, self.request(id, &mut resolved, argv, run.0)?))
    }

    /// The request of a step of the stop ladder; an error in words.
    pub(super) fn stop_request(&self, id: &ServiceId, ask: u64) -> Result<StopRequest, String> {
        let mut resolved = self.resolve_end(id).map_err(|e| e.text)?;
        match resolved.stop.remove(&ask) {
            // What is wrong with an address would be told with all of it.
            Some(ResolvedStop::Http(target)) => {
                let authority = target.authority.clone();
                StopRequest::new(http_ask(*target))
                    .map_err(|_| format!("{authority} cannot be asked by HTTP"))
            }
            Some(ResolvedStop::Command(_)) | None => {
                Err("the request is no longer in the configuration".to_owned())
            }
        }
    }

    pub(super) fn prepare_probe(
        &mut self,
        id: &ServiceId,
        listed: Option<usize>,
        run: u64,
    ) -> Result<(u32, SpawnRequest), SpawnError> {
        let mut resolved = self.resolve(id)?;
        let check = match listed {
            None => Some(&mut resolved.ready),
            Some(n) => resolved.probes.get_mut(n),
        };
        let Some(ResolvedReady::Exec(argv)) = check.map(std::mem::take) else {
            return Err(permanent("the check is no longer a program"));
        };
        resolved.line = None;
        let slot = self.open_slot(id, &resolved.log)?;
        Ok((slot, self.request(id, &mut resolved, argv, run)?))
    }

    fn request(
        &mut self,
        id: &ServiceId,
        resolved: &mut ResolvedService,
        argv: Vec<String>,
        run: u64,
    ) -> Result<SpawnRequest, SpawnError> {
        let program = find_program(resolved, &argv)?;
        let found = identity_of(resolved)?;
        if let Some((name, home)) = resolved.user.as_ref().and_then(|u| identity::account(&plain(u))) {
            resolved.adopt_user(&name, &home);
        }
        let env = self.environment(id, resolved, run);
        let slot = self.slots.get(id);
        let mut rlimits = slot.map(|s| s.tree.rlimits().to_vec()).unwrap_or_default();
        rlimits.extend(own_rlimits(&resolved.limits));
        let join = slot.map(|s| s.tree.join().to_vec()).unwrap_or_default();
        let tree_limits = slot.map(|s| Box::new(s.tree.tree_limits())).unwrap_or_default();
        Ok(SpawnRequest {
            program: bytes(&program),
            env,
            argv: argv.into_iter().map(String::into_bytes).collect(),
            line: resolved.line.take().map(|line| line.into_bytes().into_boxed_slice()),
            cwd: bytes(&resolved.cwd),
            identity: found.map(Box::new),
            umask: resolved.umask,
            nice: resolved.nice,
            affinity: (!resolved.affinity.is_empty()).then(|| Box::new(Processors::of(&resolved.affinity))),
            oom_score_adj: resolved.oom_score_adj,
            rlimits,
            no_new_privileges: resolved.no_new_privileges,
            capabilities: resolved.capabilities.take(),
            join,
            tree_limits,
        })
    }

    fn environment(&mut self, id: &ServiceId, resolved: &ResolvedService, run: u64) -> Vec<Vec<u8>> {
        let mut env = Vec::with_capacity(resolved.env.len() + 5);
        let mut add = |name: &str, value: &str| {
            let mut line = Vec::with_capacity(name.len() + value.len() + 1);
            line.extend_from_slice(name.as_bytes());
            line.push(b'=');
            line.extend_from_slice(value.as_bytes());
            env.push(line);
        };
        for (name, value) in &resolved.env {
            add(name, value);
        }
        add(tree::MARK, &format!("{}/{run}", self.guardian));
        add("KEEPWELL_SERVICE", &id.name);
        add("KEEPWELL_INSTANCE", &id.instance.to_string());
        if matches!(resolved.ready, ResolvedReady::Notify) {
            add("NOTIFY_SOCKET", &self.notify_address(id));
            if let Some(watchdog) = self.supervisor.specs().services.get(&id.name).and_then(|s| s.watchdog) {
                add("WATCHDOG_USEC", &watchdog.as_micros().to_string());
            }
        }
        if let Some(beat) = resolved.heartbeat
            && let Some((address, token)) = self.beat_address(id, beat.by)
        {
            add(ENDPOINT_VARIABLE, &address);
            add(PERIOD_VARIABLE, &beat.period.as_millis().to_string());
            if let Some(token) = token {
                add(TOKEN_VARIABLE, &token);
            }
        }
        env
    }

    /// The instance's slot; opened when it has none: cgroup, pipes, log.
    pub(super) fn open_slot(&mut self, id: &ServiceId, log: &ResolvedLog) -> Result<u32, SpawnError> {
        if let Some(number) = self.slots.number(id) {
            return Ok(number);
        }
        let log = spec_of(log);
        let tree = self.hold(id)?;
        let out = pipe::pipe().map_err(|e| transient(format!("its output pipe could not be made: {e}")))?;
        let err = match log.error_file {
            Some(_) => {
                Some(pipe::pipe().map_err(|e| transient(format!("its error pipe could not be made: {e}")))?)
            }
            None => None,
        };
        let number = self.slots.next_number();
        let open = OpenSlot {
            slot: number,
            name: id.to_string(),
            tree: tree.handle().is_some(),
            separate: err.is_some(),
            drain_limit: DRAIN_LIMIT,
        };
        let mut handles: Vec<BorrowedHandle<'_>> = tree.handle().into_iter().collect();
        handles.extend([out.0.as_handle(), out.1.as_handle()]);
        if let Some(e) = &err {
            handles.extend([e.0.as_handle(), e.1.as_handle()]);
        }
        self.link.send(&Request::OpenSlot(open), &handles);
        drop(handles);
        self.slots.insert(id.clone(), number, tree);
        self.log.open(number, id.to_string(), log, out.0, err.map(|e| e.0));
        Ok(number)
    }

    /// Makes the instance's control groups and sets its limits; again for one that has them only sets the limits.
    pub(super) fn hold(&mut self, id: &ServiceId) -> Result<TreeDir, SpawnError> {
        let limits = self.limits(id);
        self.slots.root().make(&id.to_string(), &limits).map_err(|e| transient(e.to_string()))
    }

    pub(super) fn limits(&self, id: &ServiceId) -> tree::Limits {
        let limits = self.config.services.get(&id.name).map(|s| s.limits).unwrap_or_default();
        tree::Limits { memory: limits.memory, cpu_millis: limits.cpu.map(|c| c.0), tasks: limits.tasks }
    }

    /// A check that looks for a line from now on.
    fn line(&self, slot: u32, run: RunId, pattern: String, rule: keepwell_config::LineRule) -> ReadyCheck {
        let regex = match regex_lite::Regex::new(&pattern) {
            Ok(regex) => regex,
            Err(e) => return ReadyCheck::None(e.to_string()),
        };
        let sign = Arc::new(Sign::new(keepwell_os::clock::now().mono));
        self.log.watch_sign(slot, run, regex, Arc::clone(&sign));
        let rule = match rule {
            keepwell_config::LineRule::Once => LineRule::Once,
            keepwell_config::LineRule::Within(within) => LineRule::Within(within),
            keepwell_config::LineRule::NotWithin(within) => LineRule::NotWithin(within),
        };
        ReadyCheck::Network(Arc::new(Check::line(sign, pattern, rule)))
    }

    /// The lines that its checks look for, none of which must be missed.
    fn before_checks(&mut self, id: &ServiceId, slot: u32, run: RunId, probes: &[ResolvedReady]) {
        for (n, probe) in probes.iter().enumerate() {
            if let ResolvedReady::Line { pattern, rule } = probe {
                let check = self.line(slot, run, pattern.clone(), *rule);
                self.checks.keep(id, Some(n), &check);
            }
        }
    }

    /// The mark in its log, its notify socket for this user, its readiness line.
    fn before_main(&mut self, id: &ServiceId, slot: u32, run: RunId, uid: u32, ready: &ResolvedReady) {
        self.log.run_started(slot, run);
        match ready {
            ResolvedReady::Notify => self.listen_notify(id, slot, run, uid),
            ResolvedReady::Log { pattern } => match regex_lite::Regex::new(pattern) {
                Ok(regex) => self.log.watch_line(slot, run, regex),
                Err(e) => {
                    let now = keepwell_os::clock::now();
                    let text = format!("its ready pattern is not valid, so it can never be ready: {e}");
                    self.tell(now, Some(id.clone()), Level::Error, text);
                }
            },
            ResolvedReady::None
            | ResolvedReady::Delay(_)
            | ResolvedReady::Http(_)
            | ResolvedReady::Tcp { .. }
            | ResolvedReady::Unix(_)
            | ResolvedReady::Pipe(_)
            | ResolvedReady::Grpc(_)
            | ResolvedReady::Line { .. }
            | ResolvedReady::Exec(_)
            | ResolvedReady::File(_)
            | ResolvedReady::Fresh { .. } => {}
        }
    }

    pub(super) fn watch_program(&mut self, id: &ServiceId) {
        let Ok(resolved) = self.resolve(id) else { return };
        let token = self.watches.iter().find(|(_, w)| *w == id).map(|(t, _)| *t);
        let token = token.unwrap_or_else(|| {
            self.next_watch += 1;
            self.watches.insert(self.next_watch, id.clone());
            self.next_watch
        });
        let Some(name) = resolved.argv.first() else { return };
        let path = resolved.env.get("PATH").map_or("", String::as_str);
        let file = program::expected_path(name, path, &resolved.cwd);
        if let Err(e) = self.watch_file(token, &file) {
            let now = keepwell_os::clock::now();
            let text =
                format!("{} cannot be watched, so a new one is only tried in its turn: {e}", file.display());
            self.tell(now, Some(id.clone()), Level::Warn, text);
        }
    }

    pub(super) fn unwatch_program(&mut self, id: &ServiceId) {
        let tokens: Vec<u64> = self.watches.iter().filter(|(_, w)| *w == id).map(|(t, _)| *t).collect();
        for token in tokens {
            self.watches.remove(&token);
            if let Some(watch) = &mut self.file_watch {
                watch.remove(token);
            }
        }
    }

    fn watch_file(&mut self, token: u64, file: &Path) -> io::Result<()> {
        let watch = match &mut self.file_watch {
            Some(watch) => watch,
            none => {
                let watch = FileWatch::new()?;
                self.waiter.add(watch.as_handle(), PROGRAMS, Interest::Read)?;
                none.insert(watch)
            }
        };
        watch.add(token, file)
    }
}

fn spec_of(log: &ResolvedLog) -> LogSpec {
    LogSpec {
        file: log.stdout.clone(),
        error_file: log.stderr.clone(),
        rotate_size: log.rotate.size,
        keep: log.rotate.keep,
    }
}

/// The check that makes it ready, or one of those that go on.
fn asked(mut resolved: ResolvedService, listed: Option<usize>) -> ResolvedReady {
    match listed {
        None => resolved.ready,
        Some(n) => resolved.probes.get_mut(n).map(std::mem::take).unwrap_or_default(),
    }
}

fn check(ready: ResolvedReady, since: Since) -> Result<Check, String> {
    match ready {
        ResolvedReady::Http(target) => Check::http(http_ask(*target)),
        ResolvedReady::Tcp { host, port } if host.contains(':') => Check::tcp(&format!("[{host}]:{port}")),
        ResolvedReady::Tcp { host, port } => Check::tcp(&format!("{host}:{port}")),
        ResolvedReady::Unix(path) => Ok(Check::unix(path)),
        ResolvedReady::Pipe(name) => Ok(Check::pipe(name)),
        ResolvedReady::Grpc(to) => Check::grpc(&to.host, to.port, to.service, to.tls.map(tls_files)),
        ResolvedReady::File(path) => Ok(Check::file(path, since)),
        ResolvedReady::Fresh { path, within } => Ok(Check::fresh(path, within)),
        ResolvedReady::None
        | ResolvedReady::Delay(_)
        | ResolvedReady::Exec(_)
        | ResolvedReady::Log { .. }
        | ResolvedReady::Line { .. }
        | ResolvedReady::Notify => Err("there is nothing to try".to_owned()),
    }
}

fn tls_files(files: keepwell_config::TlsPaths) -> TlsFiles {
    TlsFiles { ca: files.ca, identity: files.identity }
}

fn http_ask(target: HttpTarget) -> HttpAsk {
    let HttpTarget { expect, .. } = target;
    HttpAsk {
        url: target.url,
        method: target.method,
        headers: target.headers,
        send: target.send,
        tls: TlsFiles { ca: target.ca, identity: target.identity },
        statuses: expect.status.iter().map(|(from, to)| *from..=*to).collect(),
        body: expect.body.map(String::from),
        pattern: expect.pattern.map(String::from),
        json: expect.json.into_vec(),
    }
}

/// The program file, looked up as the service itself would.
fn find_program(resolved: &ResolvedService, argv: &[String]) -> Result<PathBuf, SpawnError> {
    let name = argv.first().ok_or_else(|| permanent("the command is empty"))?;
    let path = resolved.env.get("PATH").map_or("", String::as_str);
    program::find(name, path, &resolved.cwd).map_err(|e| permanent(e.to_string()))
}

/// The user and group that a service runs as; `None`: keepwell's own.
pub(super) fn identity_of(resolved: &ResolvedService) -> Result<Option<Identity>, SpawnError> {
    if resolved.user.is_none() && resolved.group.is_none() {
        return Ok(None);
    }
    let user = resolved.user.as_ref().map_or_else(|| identity::own_uid().to_string(), plain);
    let group = resolved.group.as_ref().map(plain);
    identity::lookup(&user, group.as_deref()).map(Some).map_err(|e| permanent(e.to_string()))
}

/// Limits that only `setrlimit` holds.
fn own_rlimits(limits: &keepwell_config::Limits) -> Vec<Rlimit> {
    let nofile = limits.nofile.map(|n| Rlimit { resource: Resource::Nofile, soft: Some(n), hard: Some(n) });
    let core = limits.core.map(|bound| {
        let bytes = match bound {
            Bound::Bytes(n) => Some(n),
            Bound::Unlimited => None,
        };
        Rlimit { resource: Resource::Core, soft: bytes, hard: bytes }
    });
    nofile.into_iter().chain(core).collect()
}

fn plain(account: &Account) -> String {
    match account {
        Account::Name(name) => name.to_string(),
        Account::Id(id) => id.to_string(),
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}
