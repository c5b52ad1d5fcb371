//! The fake host: an anchor with its processes, its table and its reports. It believes nothing that the core says of a
//! process; it is where two runs of one instance would meet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use keepwell_core::event::{ExitStatus, SpawnError};
use keepwell_core::guard::{SAMPLED_EVERY, Usage};
use keepwell_core::spec::To;
use keepwell_core::supervisor::{GuardianSnapshot, ServiceSnapshot};
use keepwell_core::{Input, Mono, Role, RunId, ServiceId, Specs};

use crate::program::{Asked, Behaviour};

/// A process tree.
#[derive(Clone, Debug)]
pub struct Process {
    /// Whose.
    pub service: ServiceId,
    /// What it is to it.
    pub role: Role,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// When it was started.
    pub started: Mono,
    /// The main process lives.
    pub alive: bool,
    /// Others of its tree live.
    pub children: bool,
    /// Not scheduled.
    pub frozen: bool,
    /// What happens to it when it is thawed.
    pub pending: Option<ExitStatus>,
    /// Probes answered.
    pub probes: u64,
}

/// Something that the host will do by itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Happening {
    /// A main process ends.
    Exit(RunId, Status),
    /// The rest of a tree ends.
    TreeEnds(RunId),
    /// A process sends a life sign.
    Ping(RunId),
    /// A process sends a heartbeat.
    Beat(RunId),
    /// What a process uses is measured.
    Uses(RunId),
    /// A process says that it is ready.
    SaysReady(RunId),
    /// A process says that it is stopping.
    SaysStopping(RunId),
}

/// An [`ExitStatus`] that can be ordered, since happenings stand in an ordered queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// For memory.
    Memory,
}

impl From<Status> for ExitStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Code(code) => ExitStatus::Code(code),
            Status::Signal(signal) => ExitStatus::Signal { signal, core_dumped: false, out_of_memory: false },
            Status::Memory => ExitStatus::Signal { signal: 9, core_dumped: false, out_of_memory: true },
        }
    }
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Code(code) => Status::Code(code),
            ExitStatus::Signal { out_of_memory: true, .. } => Status::Memory,
            ExitStatus::Signal { signal, .. } => Status::Signal(signal),
            ExitStatus::Unknown => Status::Code(255),
        }
    }
}

/// The anchor and all that hangs on it.
#[derive(Debug, Default)]
pub struct Host {
    /// Trees that are not empty.
    pub processes: BTreeMap<RunId, Process>,
    /// Every run that was ever asked for.
    pub asked: BTreeSet<RunId>,
    /// What it will do by itself.
    pub agenda: BTreeSet<(Mono, u64, Happening)>,
    ticket: u64,
    /// Reports that no daemon has acknowledged, with the time before which they are not heard.
    pub reports: VecDeque<(Mono, Input)>,
    /// What the daemon left: the accepted configuration, the guardian's piece, the services' pieces.
    pub config: Option<Specs>,
    /// See `config`.
    pub guardian: Option<GuardianSnapshot>,
    /// See `config`.
    pub pieces: BTreeMap<ServiceId, ServiceSnapshot>,
}

impl Host {
    /// With nothing but a configuration.
    #[must_use]
    pub fn new(specs: Specs) -> Self {
        Self { config: Some(specs), ..Self::default() }
    }

    /// Plans a happening.
    pub fn plan(&mut self, at: Mono, what: Happening) {
        self.ticket += 1;
        self.agenda.insert((at, self.ticket, what));
    }

    fn report(&mut self, at: Mono, input: Input) {
        // Reports keep their order on the way.
        let at = self.reports.back().map_or(at, |(last, _)| at.max(*last));
        self.reports.push_back((at, input));
    }

    /// Starts a process; an error in words where that must never have been asked.
    pub fn spawn(
        &mut self,
        now: Mono,
        run: RunId,
        service: &ServiceId,
        role: Role,
        behaviour: Behaviour,
    ) -> Result<(), String> {
        if !self.asked.insert(run) {
            return Err(format!("{run} was asked for twice"));
        }
        let main = role == Role::Main;
        for (other, process) in &self.processes {
            if process.service == *service && (process.role == Role::Main) == main {
                return Err(format!("{service}: {run} as {role:?} while {other} ({:?}) lives", process.role));
            }
        }
        let heard = now + behaviour.starts_in;
        if let Some((kind, text)) = behaviour.refused.clone() {
            self.report(heard, Input::SpawnFailed { run, error: SpawnError { kind, text } });
            return Ok(());
        }
        let pid = u32::try_from(run.0 % 30_000).unwrap_or(1) + 1;
        self.report(heard, Input::Spawned { run, pid });
        if let Some((after, status)) = behaviour.ends {
            self.plan(now + after, Happening::Exit(run, status.into()));
            if main && behaviour.announces_end {
                let early = Duration::from_millis(200).min(after);
                self.plan(now + (after - early), Happening::SaysStopping(run));
            }
        }
        if main {
            if let Some(after) = behaviour.ready_in {
                self.plan(now + after, Happening::SaysReady(run));
            }
            if behaviour.uses.is_some() || behaviour.threads.is_some() {
                self.plan(now + SAMPLED_EVERY, Happening::Uses(run));
            }
            if let Some(every) = behaviour.pings {
                self.plan(now + every, Happening::Ping(run));
                self.plan(now + every, Happening::Beat(run));
            }
        }
        let process = Process {
            service: service.clone(),
            role,
            children: main && behaviour.leaves.is_some(),
            behaviour,
            started: now,
            alive: true,
            frozen: false,
            pending: None,
            probes: 0,
        };
        self.processes.insert(run, process);
        Ok(())
    }

    /// Does what was planned. Returns what the process says, if it says something.
    pub fn happen(&mut self, now: Mono, what: Happening) -> Option<Input> {
        match what {
            Happening::Exit(run, status) => {
                self.exit(now, run, status);
                None
            }
            Happening::TreeEnds(run) => {
                if let Some(process) = self.processes.get_mut(&run) {
                    process.children = false;
                    if !process.alive {
                        self.processes.remove(&run);
                        self.report(now, Input::TreeEmpty { run });
                    }
                }
                None
            }
            Happening::Ping(run) => {
                let frozen = self.again(now, run, what)?;
                (!frozen).then_some(Input::Alive { run })
            }
            Happening::Beat(run) => {
                let frozen = self.again(now, run, what)?;
                (!frozen).then_some(Input::Beat { run })
            }
            Happening::Uses(run) => {
                let process = self.processes.get(&run).filter(|p| p.alive)?;
                let age = now.since(process.started).as_secs();
                let by_now = |(base, growth): (u64, u64)| base + growth * age / 60;
                let (memory, threads) =
                    (process.behaviour.uses.map(by_now), process.behaviour.threads.map(by_now));
                self.plan(now + SAMPLED_EVERY, Happening::Uses(run));
                Some(Input::Usage { run, usage: Box::new(Usage { memory, threads, ..Usage::default() }) })
            }
            Happening::SaysReady(run) => self.awake(run).then_some(Input::Ready { run }),
            Happening::SaysStopping(run) => self.awake(run).then_some(Input::Stopping { run }),
        }
    }

    /// Plans the next sign of a life that still goes on; whether it is frozen just now.
    fn again(&mut self, now: Mono, run: RunId, sign: Happening) -> Option<bool> {
        let process = self.processes.get(&run).filter(|p| p.alive)?;
        let (frozen, every) = (process.frozen, process.behaviour.pings?);
        let age = now.since(process.started);
        if let Some((_, until)) =
            process.behaviour.silent.filter(|(from, until)| (*from..*until).contains(&age))
        {
            if until < Duration::MAX {
                self.plan(now + (until - age), sign);
            }
            return None;
        }
        self.plan(now + every, sign);
        Some(frozen)
    }

    fn awake(&self, run: RunId) -> bool {
        self.processes.get(&run).is_some_and(|p| p.alive && !p.frozen)
    }

    fn exit(&mut self, now: Mono, run: RunId, status: Status) {
        let Some(process) = self.processes.get_mut(&run) else { return };
        if !process.alive {
            return;
        }
        let killed = status == Status::Signal(9);
        if process.frozen && !killed {
            process.pending = Some(status.into());
            return;
        }
        process.alive = false;
        let tree_empty = !process.children;
        let leaves = process.behaviour.leaves;
        let stops =
            (process.role == Role::Stop && status == Status::Code(0)).then(|| process.service.clone());
        if tree_empty {
            self.processes.remove(&run);
        } else if let Some(after) = leaves {
            self.plan(now + after, Happening::TreeEnds(run));
        }
        self.report(now, Input::Exited { run, status: status.into(), tree_empty });
        let mut mains = self.processes.iter().filter(|(_, p)| p.role == Role::Main);
        if let Some(main) = stops.and_then(|service| mains.find(|(_, p)| p.service == service))
            && let run = *main.0
        {
            self.obey(now, run);
        }
    }

    /// A signal of the ladder.
    pub fn signal(&mut self, now: Mono, run: RunId, signal: i32, to: To) {
        let Some(process) = self.processes.get_mut(&run) else { return };
        if process.behaviour.deaf_to.contains(&signal) {
            let reason = "it cannot be reached".to_owned();
            return self.report(now + Duration::from_millis(30), Input::SignalFailed { run, signal, reason });
        }
        let Some(after) = process.behaviour.obeys_in else { return };
        if process.alive {
            if process.frozen {
                process.pending =
                    Some(ExitStatus::Signal { signal, core_dumped: false, out_of_memory: false });
            } else {
                self.plan(now + after, Happening::Exit(run, Status::Signal(signal)));
            }
        }
        if to == To::Tree {
            self.plan(now + after, Happening::TreeEnds(run));
        }
    }

    /// A request to stop. Returns its answer, if there is one.
    pub fn ask(&mut self, now: Mono, run: RunId) -> Option<Result<(), String>> {
        let nobody = Err("connection refused by 127.0.0.1:8080".to_owned());
        let Some(process) = self.processes.get(&run).filter(|p| p.alive) else { return Some(nobody) };
        match process.behaviour.asked.clone() {
            Asked::Silence => None,
            Asked::Refused(why) => Some(Err(why)),
            Asked::Heard => {
                self.obey(now, run);
                Some(Ok(()))
            }
        }
    }

    /// Does as a request or a command says.
    fn obey(&mut self, now: Mono, run: RunId) {
        let process = self.processes.get(&run).filter(|p| p.alive && !p.frozen);
        if let Some(after) = process.and_then(|p| p.behaviour.obeys_in) {
            self.plan(now + after, Happening::Exit(run, Status::Code(0)));
        }
    }

    /// Kills a tree.
    pub fn kill(&mut self, now: Mono, run: RunId) {
        let Some(process) = self.processes.get(&run) else { return };
        if now.since(process.started) < process.behaviour.unkillable {
            return;
        }
        let at = now + process.behaviour.dies_in;
        if process.children {
            self.plan(at, Happening::TreeEnds(run));
        }
        self.plan(at, Happening::Exit(run, Status::Signal(9)));
    }

    /// Freezes or thaws a tree.
    pub fn freeze(&mut self, now: Mono, run: RunId, frozen: bool) {
        let Some(process) = self.processes.get_mut(&run) else { return };
        process.frozen = frozen;
        if !frozen && let Some(status) = process.pending.take() {
            self.plan(now + Duration::from_millis(1), Happening::Exit(run, status.into()));
        }
    }

    /// Everything dies in one instant, and nothing is remembered.
    pub fn die(&mut self) {
        self.processes.clear();
        self.agenda.clear();
        self.reports.clear();
        self.asked.clear();
        self.config = None;
        self.guardian = None;
        self.pieces.clear();
    }
}
