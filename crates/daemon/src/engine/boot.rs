//! From nothing, or from what the anchor kept, to a running engine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use keepwell_anchor::link::Link;
use keepwell_anchor::protocol::{Finish, Hello, Report, Request, Welcome};
use keepwell_config::{Context, Source};
use keepwell_core::event::Level;
use keepwell_core::supervisor::{Persisted, ServiceSnapshot};
use keepwell_core::{By, Input, Mono, Now, Record, Role, RunId, ServiceId, Supervisor, Wall};
use keepwell_os::local::{self, Endpoint};
use keepwell_os::tree::TreeRoot;
use keepwell_os::wait::{Interest, Waiter};
use keepwell_os::{AsHandle, Handle, clock};
use keepwell_sdk::wire;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::reload::{self, Loaded};
use super::slots::Slots;
use super::{ANCHOR, Engine, LiveRun, key_service, put};
use crate::api::{Access, ApiState};
use crate::event_log::{EventLog, cannot_start};
use crate::log::LogHub;
use crate::message::{EngineHandle, INBOX, Message};
use crate::options::Options;
use crate::store::{Opened, Store};

/// The API's endpoint in the state folder.
pub(crate) const SOCKET: &str = "keepwell.sock";
/// Where the log path remembers which run wrote what, in the state folder.
const RUNS: &str = "runs";
/// Key of the accepted configuration.
const CONFIG_KEY: &[u8] = b"config";
/// Key of the API's listening socket.
const API_KEY: &[u8] = b"endpoint/api";
/// What says that the control groups of this guardian have an owner; each daemon has it too.
const TREES_KEY: &[u8] = b"trees";

/// What the anchor gave at the start.
#[derive(Default)]
struct Inheritance {
    welcome: Welcome,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    kept: BTreeMap<Vec<u8>, Handle>,
    slots: Vec<(keepwell_anchor::protocol::OpenSlot, VecDeque<Handle>)>,
    runs: Vec<keepwell_anchor::protocol::Run>,
    /// Reports that the last daemon did not acknowledge.
    news: Vec<Report>,
    /// What happened since.
    later: Vec<Report>,
}

/// The accepted configuration as it is kept with the anchor.
#[derive(Serialize, Deserialize)]
struct Accepted {
    at: Wall,
    started: Wall,
    sources: Vec<(std::path::PathBuf, String)>,
}

/// What the daemon's other threads need of the engine.
pub struct Booted {
    /// To be run on the calling thread.
    pub engine: Engine,
    /// The API's listening socket.
    pub endpoint: Endpoint,
    /// What the API needs.
    pub api: ApiState,
}

/// What the engine is joined to.
pub struct Parts {
    /// The anchor.
    pub link: Link,
    /// Where events go to be followed.
    pub events: broadcast::Sender<Arc<wire::Event>>,
    /// The runtime of probes and notify sockets.
    pub runtime: tokio::runtime::Handle,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The anchor went away, or speaks nonsense.
    #[error("the anchor cannot be heard")]
    Anchor(#[source] std::io::Error),
    /// The anchor was told to end with this code; the text is on its stderr.
    #[error("refused to start")]
    Refused,
    /// No engine without its waiter.
    #[error("the engine cannot wait for its handles")]
    Waiter(#[source] std::io::Error),
}

fn inherit(link: &mut Link) -> Result<Inheritance, BootError> {
    link.send(
        &Request::Hello(Hello { version: keepwell_anchor::protocol::VERSION, pid: std::process::id() }),
        &[],
    );
    link.flush();
    let mut all = Inheritance::default();
    let mut synced = false;
    while !synced {
        for (report, mut handles) in link.wait_recv().map_err(BootError::Anchor)? {
            match report {
                // News may follow on the heels of the last of what was left.
                news if synced => all.later.push(news),
                Report::Welcome(w) => all.welcome = w,
                Report::Value(v) => drop(all.values.insert(v.key, v.value)),
                Report::Kept(key) => {
                    if let Some(handle) = handles.pop_front() {
                        all.kept.insert(key, handle);
                    }
                }
                Report::Slot(slot) => all.slots.push((slot, handles)),
                Report::Run(run) => all.runs.push(run),
                Report::Synced => synced = true,
                news @ (Report::Spawned(_)
                | Report::SpawnFailed(_)
                | Report::Exited(_)
                | Report::TreeEmpty(_)
                | Report::StopRequested(_)
                | Report::Drained(_)
                | Report::Ping(_)
                | Report::SignalFailed(_)
                | Report::Asked(_)
                | Report::Measured(_)) => all.news.push(news),
            }
        }
    }
    Ok(all)
}

/// Ends the anchor with a text for the person who started it.
fn refuse(link: &mut Link, code: i32, text: String) -> BootError {
    link.send(&Request::Finish(Finish { code, text }), &[]);
    link.flush();
    BootError::Refused
}

/// Builds the engine on what the anchor has.
///
/// # Errors
/// When the anchor is gone, or the first configuration was refused.
pub fn boot(parts: Parts) -> Result<Booted, BootError> {
    let Parts { mut link, events, runtime } = parts;
    let mut left = inherit(&mut link)?;
    let now = clock::now();
    let options = match Options::decode(&left.welcome.options) {
        Ok(o) => o,
        Err(e) => return Err(refuse(&mut link, 1, format!("error: {e}\n"))),
    };
    crate::trace::init(&options.state_dir);
    let env = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let context = Context {
        base: options.base.clone(),
        state_dir: options.state_dir.clone(),
        env,
        system: keepwell_os::SYSTEM,
    };
    let first = !left.values.contains_key(CONFIG_KEY);
    let (mut loaded, accepted, started) = match configuration(&options, &context, &left, now) {
        Ok(c) => c,
        Err(text) => {
            if let Some(service) = &options.service {
                cannot_start(service, &text);
            }
            return Err(refuse(&mut link, keepwell_sdk::exit::USAGE, text));
        }
    };
    let endpoint = match endpoint(&options, left.kept.remove(API_KEY)) {
        Ok(e) => e,
        Err(e) => {
            let path = options.state_dir.join(SOCKET);
            let text = format!(
                "error: the API's socket cannot be made: {}: {e}\n  = keepwell touches nothing that is not its own: move it away, or choose another folder with --state\n",
                path.display()
            );
            return Err(refuse(&mut link, keepwell_sdk::exit::USAGE, text));
        }
    };
    let mut notes = Vec::new();
    let root = TreeRoot::open(&left.welcome.guardian);
    if first {
        notes.extend(root.end_leftovers());
    }
    let opened = Store::open(&options.state_dir);
    notes.extend(opened.notes.iter().cloned());
    let (sender, inbox) = sync_channel(INBOX);
    let mut waiter = Waiter::new().map_err(BootError::Waiter)?;
    waiter.add(link.handle(), ANCHOR, Interest::Read).map_err(BootError::Waiter)?;
    if let Err(e) = waiter.watch_clock() {
        notes.push(format!("steps of the system clock will not be seen: {e}"));
    }
    let handle = EngineHandle::new(sender, waiter.waker());
    let news = handle.clone();
    // News that find the inbox full are told in the log file itself; the engine that hangs is replaced.
    let runs = options.state_dir.join(RUNS);
    if first {
        // An earlier guardian's runs are not those of this one's slots.
        let _ = std::fs::remove_file(&runs);
    }
    let log = LogHub::start(&runs, move |n| drop(news.send(Message::Log(n)))).map_err(BootError::Waiter)?;
    let access = Access::default();
    let api = ApiState::new(
        handle.clone(),
        opened.store.clone(),
        Arc::new(log.clone()),
        events.clone(),
        access.clone(),
        left.welcome.pid,
    );
    let (audience, served_at) = (api.audience(), api.served_at());
    opened.store.attach(handle.clone());
    let (kept_from, next_seq) = restore_events(&left.values, &opened);
    let (mut persisted, mut records) = (opened.persisted, Vec::new());
    if first && options.clear_desired {
        let cleared = std::mem::take(&mut persisted.desired).into_iter();
        let by = By("keepwell up --all".into());
        // Also for the starts that follow this one.
        records.extend(cleared.map(|(service, _)| Record::Desired {
            service,
            up: true,
            by: by.clone(),
            at: now.wall,
        }));
    }
    if first && options.managed {
        // To the manager a service that starts is not paused, whatever it was before.
        let paused = persisted.holds.extract_if(.., |_, hold| hold.by.0 == super::managed::MANAGER);
        records.extend(paused.map(|(service, _)| Record::Paused { service, hold: None }));
    }
    notes.extend(unreadable(&left.values));
    let supervisor = supervisor(&left, first, std::mem::take(&mut loaded.config.specs), persisted, now);
    let sender = crate::courier::Sender::here(&left.welcome.guardian, options.base.clone());
    let courier = crate::courier::Courier::new(runtime.clone(), handle.clone(), sender);
    let trees = Arc::new(TreeRoot::open(&left.welcome.guardian));
    let mut engine = Engine {
        meter: crate::meter::Meter::new(Arc::clone(&trees)),
        witness: crate::evidence::Witness::new(
            &options.state_dir,
            Arc::clone(&trees),
            log.clone(),
            handle.clone(),
        ),
        trees,
        measuring: BTreeMap::new(),
        next_question: 1,
        sampling: super::guards::Sampling::default(),
        prober: crate::probe::Prober::new(runtime.clone(), handle.clone()),
        checks: super::checks::Checks::default(),
        notify: crate::notify::NotifyHub::new(runtime.clone(), handle.clone()),
        heartbeats: crate::heartbeat::HeartbeatHub::new(runtime, handle.clone()),
        beat_ears: BTreeMap::new(),
        courier,
        receivers: BTreeMap::new(),
        left_outboxes: super::outbox::left(&opened.outboxes, &left.values, now),
        tally: None,
        served_at,
        guardian: left.welcome.guardian.clone(),
        welcome: std::mem::take(&mut left.welcome),
        slots: Slots::new(root),
        access,
        next_seq,
        kept_from,
        untold: Vec::new(),
        unreported: Vec::new(),
        event_log: EventLog::of(options.service.as_deref()),
        // Starting is a burst of its own.
        since_trim: super::BURST,
        calm_at: None,
        store: opened.store,
        config: loaded.config,
        next_ticket: 1,
        link,
        waiter,
        inbox,
        handle,
        supervisor,
        retired: BTreeMap::new(),
        context,
        options,
        accepted,
        started,
        ears: BTreeMap::new(),
        runs: BTreeMap::new(),
        exec_probes: BTreeMap::new(),
        file_watch: None,
        watches: BTreeMap::new(),
        next_watch: 0,
        keepsakes: Vec::new(),
        log,
        events,
        unacknowledged: None,
        tickets: BTreeMap::new(),
        settled: Vec::new(),
        records,
        findings: Vec::new(),
        single_exit: None,
        audience,
        last_call: None,
        last_attempts: None,
        progress: Default::default(),
        stopping: false,
        finished: false,
    };
    if first {
        engine.keep_sources(&loaded.sources, now);
        engine.link.send(&Request::Keep(API_KEY.to_vec()), &[endpoint.as_handle()]);
        if let Some(claim) = engine.trees.claim() {
            engine.link.send(&Request::Keep(TREES_KEY.to_vec()), &[claim]);
        }
    }
    engine.adopt(now, left, first);
    for note in notes {
        engine.tell(now, None, Level::Warn, note);
    }
    engine.apply_live_settings(now);
    engine.link.send(&Request::Up(format!("{} services", engine.config.services.len())), &[]);
    Ok(Booted { engine, endpoint, api })
}

/// The accepted configuration: what the anchor kept, or at the very first start the file.
fn configuration(
    options: &Options,
    context: &Context,
    left: &Inheritance,
    now: Now,
) -> Result<(Loaded, Wall, Wall), String> {
    let kept = left.values.get(CONFIG_KEY).and_then(|bytes| postcard::from_bytes::<Accepted>(bytes).ok());
    let Some(kept) = kept else {
        let loaded = reload::load(options, context).map_err(|d| d.render(false, false))?;
        return Ok((loaded, now.wall, now.wall));
    };
    let sources: Vec<Source> = kept.sources.into_iter().map(|(path, text)| Source { path, text }).collect();
    let config = keepwell_config::load(&sources, context).map_err(|d| d.render(false, false))?;
    Ok((Loaded { sources, config }, kept.at, kept.started))
}

/// What an earlier daemon left and this one does not understand. The anchor's runs without a service are ended, and the
/// services started anew.
fn unreadable(values: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<String> {
    let services = values.iter().filter_map(|(k, v)| Some((key_service(k)?, v)));
    let lost = services.filter(|(_, v)| postcard::from_bytes::<ServiceSnapshot>(v).is_err());
    lost.map(|(id, _)| format!("what an earlier daemon left of {id} cannot be read; it is started anew"))
        .collect()
}

/// Gives the store what its predecessor may not have written. Returns the first event that the anchor keeps, and the
/// number of the next one.
fn restore_events(values: &BTreeMap<Vec<u8>, Vec<u8>>, opened: &Opened) -> (u64, u64) {
    let kept = values.iter().filter(|(k, _)| k.starts_with(b"event/"));
    let events: Vec<wire::Event> = kept.filter_map(|(_, v)| serde_json::from_slice(v).ok()).collect();
    let first = events.first().map(|e| e.seq);
    let next = events.last().map_or(opened.next_seq, |e| opened.next_seq.max(e.seq + 1));
    for event in events {
        opened.store.append(Arc::new(event));
    }
    (first.unwrap_or(next), next)
}

fn endpoint(options: &Options, kept: Option<Handle>) -> std::io::Result<Endpoint> {
    let path = options.state_dir.join(SOCKET);
    match kept {
        Some(handle) => Ok(Endpoint::from_handle(handle, &path)),
        None => Endpoint::bind(&path, local::Access::Everyone),
    }
}

fn supervisor(
    left: &Inheritance,
    first: bool,
    specs: keepwell_core::Specs,
    persisted: Persisted,
    now: Now,
) -> Supervisor {
    if first {
        // Any number will do, and the boot clock differs from start to start.
        return Supervisor::new(specs, persisted, now.mono.0, now);
    }
    let guardian = left.values.get(b"guardian".as_slice()).and_then(|b| postcard::from_bytes(b).ok());
    let Some(guardian) = guardian else {
        // The predecessor died before its first turn: nothing was started, and the operators' will is in the store alone.
        return Supervisor::new(specs, persisted, now.mono.0, now);
    };
    let services: BTreeMap<ServiceId, ServiceSnapshot> = left
        .values
        .iter()
        .filter_map(|(k, v)| Some((key_service(k)?, postcard::from_bytes(v).ok()?)))
        .collect();
    Supervisor::restore(specs, guardian, services, now)
}

impl Engine {
    pub(super) fn keep_sources(&mut self, sources: &[Source], now: Now) {
        self.accepted = now.wall;
        let accepted = Accepted {
            at: now.wall,
            started: self.started,
            sources: sources.iter().map(|s| (s.path.clone(), s.text.clone())).collect(),
        };
        if !self.link.offer(&put(CONFIG_KEY.to_vec(), &accepted), &[]) {
            let text =
                "the configuration is larger than 4 MiB, so a reborn daemon has to read the file again";
            self.tell(now, None, Level::Error, text.to_owned());
        }
    }

    /// Takes over slots, runs and missed reports.
    fn adopt(&mut self, now: Now, mut left: Inheritance, first: bool) {
        let later = std::mem::take(&mut left.later);
        if !first {
            self.take_over(now, left);
        }
        for report in later {
            self.take_report(now, report);
        }
    }

    fn take_over(&mut self, now: Now, mut left: Inheritance) {
        let (drained, news): (Vec<_>, Vec<_>) =
            std::mem::take(&mut left.news).into_iter().partition(|r| matches!(r, Report::Drained(_)));
        // What the anchor drained was written before what is in the pipes, which opening a slot begins to move.
        for report in drained {
            self.take_report(now, report);
        }
        let mut owners = BTreeMap::new();
        for (open, handles) in std::mem::take(&mut left.slots) {
            if let Some(id) = self.adopt_slot(&open, handles) {
                owners.insert(open.slot, id);
            }
        }
        for run in std::mem::take(&mut left.runs) {
            self.adopt_run(now, &run, &owners);
        }
        for report in news {
            self.take_report(now, report);
        }
        self.adopt_endpoints(std::mem::take(&mut left.kept));
        self.adopt_tokens(&left.values);
        self.supervisor.handle(now, Input::AdoptionDone);
    }

    fn adopt_slot(
        &mut self,
        open: &keepwell_anchor::protocol::OpenSlot,
        mut handles: VecDeque<Handle>,
    ) -> Option<ServiceId> {
        let id = parse_id(&open.name);
        let tree = if open.tree { handles.pop_front() } else { None };
        let out = handles.pop_front()?;
        drop(handles.pop_front());
        let err = if open.separate { handles.pop_front() } else { None };
        let limits = self.limits(&id);
        let tree = self.slots.root().adopt(&open.name, tree, &limits);
        let log = self.log_spec(&id).unwrap_or_else(|| self.orphan_log(&open.name));
        self.log.open(open.slot, open.name.clone(), log, out, err);
        self.slots.insert(id.clone(), open.slot, tree);
        Some(id)
    }

    fn adopt_run(
        &mut self,
        now: Now,
        run: &keepwell_anchor::protocol::Run,
        owners: &BTreeMap<u32, ServiceId>,
    ) {
        let Some(service) = owners.get(&run.slot) else { return };
        let Some(role) = super::act::role(run.role) else {
            // Its asker died with the last daemon; nobody waits for the answer.
            self.link.send(&Request::Kill(run.run), &[]);
            return;
        };
        if role == Role::Main {
            self.log.run_adopted(run.slot, RunId(run.run));
        }
        if role == Role::Main && run.pid != 0 {
            self.slots.set_main_pid(service, Some(run.pid));
        }
        let age = i64::try_from(now.mono.since(Mono(run.started)).as_millis()).unwrap_or(0);
        let began = Now { mono: Mono(run.started), wall: Wall(now.wall.0.saturating_sub(age)) };
        self.runs.insert(
            RunId(run.run),
            LiveRun { service: service.clone(), role, pid: run.pid, began, status_text: None },
        );
        self.supervisor.handle(now, Input::Adopted { run: RunId(run.run), pid: run.pid });
    }
}

/// The reverse of `ServiceId`'s display.
pub(super) fn parse_id(shown: &str) -> ServiceId {
    match shown.rsplit_once('@') {
        Some((name, number)) => match number.parse() {
            Ok(n) => ServiceId::new(name, n),
            Err(_) => ServiceId::new(shown, 1),
        },
        None => ServiceId::new(shown, 1),
    }
}
