//! What crosses the API, version 1: only ever extended. Times are RFC 3339 or null, durations are milliseconds with
//! `_ms` in their names. Unknown fields are to be ignored by readers.
//!
//! | Route | Body | Answer |
//! |---|---|---|
//! | `GET /v1/info` | | [`Info`] |
//! | `GET /v1/services?name=web&name=api@2` | | `[Status]`; `usage=false`: without processor time and memory |
//! | `GET /v1/services/{name}/explain` | | `[Explanation]`, one an instance |
//! | `POST /v1/command` | [`CommandRequest`] | [`CommandReply`] |
//! | `POST /v1/reload` | [`ReloadRequest`] | [`ReloadReply`] |
//! | `POST /v1/notify-test` | [`NotifyTest`] | `[NotifyAnswer]` |
//! | `POST /v1/log-level` | [`LogLevel`] | [`LogLevel`] |
//! | `GET /v1/events?since=RFC3339&after=SEQ&service=web&limit=100&follow=true` | | `[Event]`, or server-sent events |
//! | `GET /v1/incidents?service=web&since=RFC3339&limit=20&id=12` | | [`Incidents`] |
//! | `GET /v1/logs?service=web&lines=10&since=RFC3339&follow=true` | | `[LogLine]`, or server-sent events |
//!
//! Errors are a [`Problem`] with status 4xx or 5xx.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The header of every answer that says which guardian gave it: its anchor's pid. A guardian that comes after it on the same
/// socket has another.
pub const GUARDIAN_HEADER: &str = "keepwell-guardian";

/// One service instance.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Service name.
    pub name: String,
    /// From 1.
    pub instance: u16,
    /// stopped, waiting, starting, running, ready, degraded, paused, stopping, backing_off, crash_looping, gave_up,
    /// completed.
    pub state: String,
    /// Why, in plain words.
    pub reason: String,
    /// Main process.
    pub pid: Option<u32>,
    /// Since the last operator's start.
    pub restarts: u32,
    /// In this state since.
    pub since: Option<String>,
    /// Next start attempt.
    pub next_attempt: Option<String>,
    /// The attempt in a row that runs or comes next.
    pub attempt: u32,
    /// What happens next by itself, in words, and when.
    pub next: Option<Next>,
    /// Operators want it up.
    pub desired_up: bool,
    /// Started by `up` and at boot.
    pub enabled: bool,
    /// Held: `paused` or `frozen`.
    pub hold: Option<String>,
    /// Who last asked for what.
    pub last_command: Option<LastCommand>,
    /// What it waits for or misses.
    pub blockers: Vec<Blocker>,
    /// Guards that have tripped, and leaks that are foreseen, each in words: `memory reaches 800 MB in about 34 min (95 %: 25–50)`.
    pub warnings: Vec<String>,
    /// How its tree is held: `cgroup`, `job` or `mark`.
    pub containment: String,
    /// How its limits are held, one line each: `memory: cgroup v1`.
    pub limits: Vec<String>,
    /// What it last said of itself (`STATUS=`).
    pub status_text: Option<String>,
    /// What is known of its heartbeats; null where `live` asks for none, and while it does not run.
    pub heartbeat: Option<Heartbeat>,
    /// Numbers of its own, from its status reports.
    pub metrics: BTreeMap<String, f64>,
    /// From the configuration.
    pub description: Option<String>,
    /// From the configuration.
    pub tags: Vec<String>,
    /// `service` or `oneshot`.
    pub kind: String,
    /// Percent of one core since the last look, if known.
    pub cpu_percent: Option<f64>,
    /// Bytes, if known.
    pub memory_bytes: Option<u64>,
    /// Newest last, at most five.
    pub exits: Vec<Exit>,
}

/// See [`Status::heartbeat`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// When the last one came, in this run.
    pub last: Option<String>,
    /// Without one for so long it is restarted.
    pub lost_after_ms: u64,
    /// Frames and connections of this run that were refused.
    pub errors: u64,
}

/// See [`Status::next`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Next {
    /// When.
    pub at: String,
    /// `restart`, `probe`, `ready timeout` …
    pub what: String,
}

/// See [`Status::last_command`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LastCommand {
    /// Who.
    pub by: String,
    /// `stop`.
    pub what: String,
    /// When.
    pub at: String,
}

/// See [`Status::blockers`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Blocker {
    /// Which service.
    pub service: String,
    /// `db is starting`.
    pub text: String,
}

/// One end of a process, or one failed start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// When.
    pub at: String,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal number.
    pub signal: Option<i32>,
    /// `exit code 3`, `killed by SIGKILL`, `killed by the kernel for memory`, `program not found: …`.
    pub text: String,
    /// `success`, `retry`, `config_error`, `fatal`.
    pub class: String,
    /// How long it ran.
    pub ran_for_ms: u64,
    /// It had been ready.
    pub was_ready: bool,
    /// keepwell was stopping it.
    pub expected: bool,
}

/// The guardian.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// The process that holds.
    pub anchor_pid: u32,
    /// The process that decides.
    pub daemon_pid: u32,
    /// Of the daemon.
    pub version: String,
    /// Of the anchor.
    pub anchor_version: String,
    /// State folder.
    pub state_dir: String,
    /// API endpoint.
    pub socket: String,
    /// Configuration file; null under `keepwell run`.
    pub config: Option<String>,
    /// When the configuration in force was accepted.
    pub config_accepted: Option<String>,
    /// `project`, `user` or `system`.
    pub scope: String,
    /// When the anchor started.
    pub started: Option<String>,
    /// How many daemons there were before this one.
    pub rebirths: u32,
    /// Heartbeats over TCP that this daemon refused because nobody's token came with them.
    pub heartbeats_refused: u64,
    /// Which of the host's mechanisms are used: `spawn: clone3 into cgroup` …
    pub mechanisms: Vec<String>,
    /// How many service instances there are.
    pub services: u32,
    /// What stays stopped although enabled, and by whom: `web, stopped by anna`.
    pub held_down: Vec<String>,
    /// Set while it goes down.
    pub stopping: bool,
}

/// The causal chain; lines are ready to print.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// `web` or `web@2`.
    pub service: String,
    /// Its state's word.
    pub state: String,
    /// One sentence.
    pub headline: String,
    /// Label and text.
    pub facts: Vec<(String, String)>,
    /// Phrase and command.
    pub try_next: Vec<(String, String)>,
    /// Last lines of output of the last run that ended.
    pub last_words: Vec<String>,
    /// Last five exits, newest last.
    pub exits: Vec<Exit>,
}

/// `POST /v1/command`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandRequest {
    /// `start`, `stop`, `restart`, `signal`, `pause`, `resume`, `enable`, `disable`, `scale`, `shutdown`.
    pub verb: String,
    /// Names or instances; `shutdown` takes none.
    pub services: Vec<String>,
    /// `start`.
    pub ignore_dependencies: bool,
    /// `stop`.
    pub with_dependents: bool,
    /// `signal`: `HUP`, `SIGHUP` or a number.
    pub signal: Option<String>,
    /// `signal`: `main` (default), `group`, `tree`.
    pub to: Option<String>,
    /// `pause`.
    pub freeze: bool,
    /// `pause`: stop after this long.
    pub stop_after_ms: Option<u64>,
    /// `scale`.
    pub instances: Option<u16>,
}

/// The accepted plan.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandReply {
    /// In order.
    pub actions: Vec<Action>,
    /// For the operator.
    pub notes: Vec<String>,
    /// Events after this one are the command's consequences.
    pub after_seq: u64,
}

/// One touched instance.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Action {
    /// `web` or `web@2`.
    pub service: String,
    /// `start`, `stop`, `restart`, `signal`, `pause`, `resume`, `update`, `nothing`; of a reload also `new`,
    /// `new_disabled`, `live`, `remove`.
    pub action: String,
    /// What changed or why, in words.
    pub why: String,
}

/// `POST /v1/reload`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadRequest {
    /// Only say what would be done.
    pub dry_run: bool,
}

/// The plan of a reload.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadReply {
    /// What changes.
    pub actions: Vec<Action>,
    /// How many instances are not touched.
    pub untouched: u32,
    /// Events after this one are its consequences.
    pub after_seq: u64,
}

/// `POST /v1/log-level`: of keepwell's own log.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub level: String,
}

/// One fact. `kind` says which of the other fields mean something.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Ascending without gaps, over restarts of keepwell too.
    pub seq: u64,
    /// When.
    pub at: String,
    /// `web` or `web@2`; null: the guardian.
    pub service: Option<String>,
    /// The run's number.
    pub run: Option<u64>,
    /// `state_changed`, `started`, `exited`, `restart_scheduled`, …
    pub kind: String,
    /// `info`, `warn`, `error`.
    pub level: String,
    /// One line in plain words.
    pub text: String,
    /// `state_changed`: before.
    pub from: Option<String>,
    /// `state_changed`: now.
    pub state: Option<String>,
    /// `state_changed`, `gave_up`, `hook_failed`, `guardian_stopping`: why. `config_rejected`: the diagnostics in full.
    pub reason: Option<String>,
    /// `started`.
    pub pid: Option<u32>,
    /// `started`, `spawn_failed`, `exited`, `hook_failed`: `main`, `pre_start`, `post_start`, `pre_stop`, `post_stop`, and
    /// `stop` for the command of a step of the stop ladder, `on_suspend`, `on_resume`, `on_power_change`, `on_session`.
    pub role: Option<String>,
    /// `exited`.
    pub exit: Option<Exit>,
    /// `restart_scheduled`: when.
    pub next_attempt: Option<String>,
    /// The incident that it belongs to.
    pub incident: Option<u64>,
    /// `evidence_taken`: the file, below the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// `incident_closed`: all of it but its timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident_report: Option<Box<Incident>>,
}

/// `GET /v1/incidents`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Incidents {
    /// Newest first.
    pub incidents: Vec<Incident>,
    /// What they say of each service that has one, by name.
    pub services: Vec<Reliability>,
}

/// From the first failure of an instance to its stable health.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Incident {
    /// Its number.
    pub id: u64,
    /// `web` or `web@2`.
    pub service: String,
    /// `open`; how it ended: `recovered`, `completed`, `stopped`, `removed`, `guardian_stopped`; `unseen`: keepwell ended without
    /// seeing how.
    pub state: String,
    /// The first failure, in plain words.
    pub cause: String,
    /// When it began.
    pub began: String,
    /// When the health began that lasted, or when it ended otherwise; null while it is open, and when nobody saw it.
    pub ended: Option<String>,
    /// While it is well again: when the incident is over unless something fails before.
    pub closes: Option<String>,
    /// From its begin to its end; while it is open, to now.
    pub duration_ms: u64,
    /// Runs that failed, and starts that did.
    pub failures: u32,
    /// Restarts by the policy.
    pub restarts: u32,
    /// Restarts that were drawn on the budgets of `[healing]`.
    pub budget_used: u32,
    /// What keepwell did: `restarted (3 times)`.
    pub actions: Vec<String>,
    /// Files below the state folder that say how it looked before it was ended, newest last.
    pub evidence: Vec<String>,
    /// Its events, oldest first; only where one incident was asked for by its number.
    pub timeline: Vec<Event>,
    /// Events between the first and the last of `timeline` that are not in it.
    pub omitted: u64,
}

/// How often a service fails, and how soon it is well again.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reliability {
    /// `web` or `web@2`.
    pub service: String,
    /// How many incidents are known.
    pub incidents: u32,
    /// One is open.
    pub open: bool,
    /// Mean time to recovery, of those that recovered.
    pub mttr_ms: Option<u64>,
    /// Mean time from the beginning of one to the beginning of the next, of which that counts in which keepwell ran.
    pub mtbf_ms: Option<u64>,
}

/// One line of a service's output.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLine {
    /// `web` or `web@2`.
    pub service: String,
    /// `out`, `err`; merged output is `out`.
    pub stream: String,
    /// Without the newline; invalid UTF-8 is replaced.
    pub line: String,
    /// The line was longer than what is sent at once and goes on in the next.
    pub partial: bool,
    /// Set on a line that keepwell itself says here (`3 lines were dropped: disk full`).
    pub note: bool,
}

/// Why a request was refused or failed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Stable: `unknown_service`, `unknown_incident`, `not_running`, `shutting_down`, `invalid`, `forbidden`, `config`, `busy`, `no_route`,
    /// `internal`.
    pub code: String,
    /// In plain words, lower case, no full stop.
    pub message: String,
    /// What to do, if it is known.
    pub hint: Option<String>,
}

impl Status {
    /// `web`, or `web@2` for the second instance and on.
    #[must_use]
    pub fn id(&self) -> String {
        match self.instance {
            0 | 1 => self.name.clone(),
            n => format!("{}@{n}", self.name),
        }
    }
}

/// Sends a message that says that nothing has happened.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NotifyTest {
    /// To this receiver; null: to all.
    pub to: Option<String>,
}

/// What one receiver made of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NotifyAnswer {
    /// The receiver.
    pub receiver: String,
    /// `exec`, or the format of its webhook.
    pub kind: String,
    /// It has taken the message.
    pub ok: bool,
    /// `status 204`, or why there is none.
    pub answer: String,
    /// The beginning of what it answered besides.
    pub body: String,
    /// How long it took.
    pub took_ms: u64,
}
