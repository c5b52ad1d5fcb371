//! `[services.NAME]` and `[defaults]`.

use std::borrow::Cow;

use keepwell_core::spec::Kind;
use toml::de::DeValue;

use super::affinity::Affinity;
use super::capability::Capabilities;
use super::command::CommandText;
use super::depends::RawDepends;
use super::duration::Span;
use super::env::RawEnv;
use super::escalation::RawEscalation;
use super::guard::RawGuards;
use super::hooks::RawHooks;
use super::identity::{Account, Umask};
use super::limits::RawLimits;
use super::log::RawLog;
use super::probe::{RawProbe, RawProbes};
use super::ready::RawReady;
use super::restart::RawRestart;
use super::scalar::{Filled, Int, Text, Texts, choice};
use super::stop::RawStop;
use super::wait_for::RawWaitFor;
use crate::read::{Element, Key, Node, Reader, Table, nearest, schema_of, table};

choice! { KindWord = Kind {
    "service" => Kind::Service,
    "oneshot" => Kind::Oneshot,
} }

/// More instances than this of one program are a slip of the keys.
pub(crate) const MAX_INSTANCES: i64 = 10_000;

table! {
    /// One service: a program that is kept running, or run once.
    RawService {
        /// What it is, for people.
        description: Text = "none", live;
        /// Words to find it by.
        tags: Texts = "`[]`", live;
        /// The program and its arguments: a list, or a string that is split as a shell would, on Windows as programs there do.
        command: CommandText = "needed", restart;
        /// On Windows the whole command line, given to the program as it is; `command` is for other hosts then.
        command_line: Text = "none", restart;
        /// Give the command, which then must be a string, to `/bin/sh -c`, on Windows to `cmd.exe /c`.
        shell: bool = "false", restart;
        /// `"service"` runs until it is stopped; `"oneshot"` runs to its end once an `up`.
        kind: KindWord = "`\"service\"`", restart;
        /// `false`: not started by `up` or at boot; `keepwell start` still starts it.
        enabled: bool = "true", live;
        /// How many of it run. Each knows its number as `${instance}` and `KEEPWELL_INSTANCE`.
        instances: Int<1, MAX_INSTANCES> = "1", live;
        /// What must be so before it starts: a list of services, or a table of conditions.
        depends_on: RawDepends = "none", live;
        /// What must be there before it starts and is no service of this guardian: a list of addresses, or a table.
        wait_for: RawWaitFor = "none", live;
        /// When it counts as ready.
        ready: RawReady = "no check: up when alive for 1 s", table;
        /// Until it has passed, no other check is made and the service is not ready; when it fails, the start has failed.
        startup: RawProbe = "none", live;
        /// Checks that it works, while it runs: when one fails, it is ended and started again.
        live: RawProbes = "none", live;
        /// When and how it is started again.
        restart: RawRestart = "see below", table;
        /// The way down: steps of a signal and a wait, then the kill of the whole tree.
        stop: RawStop = "`[{ signal = \"TERM\", wait = \"10s\" }]`; on Windows Ctrl+C for 10 s, then `\"CLOSE\"` for 5 s", live;
        /// The whole tree is killed this long after its stop began, wherever the ladder is then.
        stop_timeout: Span = "no bound but the ladder's own", live;
        /// Rules on what its processes use.
        guards: RawGuards = "none", live;
        /// Whether it is told ahead when what its guards look at will reach their bounds, and when its memory, threads or descriptors will reach their `limits`.
        foresee: bool = "true", live;
        /// What is tried, one after the other, while it goes on failing in one incident.
        escalation: RawEscalation = "none: its restart policy alone", live;
        /// A service that is not enabled: it runs while this one is down, or from the step `"fail_over"` on, until this one has been well for `reset_after`.
        fallback: Text = "none", live;
        /// Programs around its life.
        hooks: RawHooks = "none", table;
        /// Where its output goes.
        log: RawLog = "see below", table;
        /// The folder it runs in, relative to the configuration's.
        cwd: Filled = "the configuration's folder", restart;
        /// Variables of its environment.
        env: RawEnv = "none", restart;
        /// A file of `NAME=value` lines, read at each start; `env` wins over it.
        env_file: Filled = "none", restart;
        /// Inherit only PATH, HOME, USER and LANG from keepwell's own environment.
        clear_env: bool = "false", restart;
        /// Run as this user: a name or a number.
        user: Account = "keepwell's own", restart;
        /// Run in this group: a name or a number.
        group: Account = "the user's", restart;
        /// Permission bits that new files do not get, in octal digits.
        umask: Umask = "keepwell's own", restart;
        /// Scheduling niceness; higher is weaker.
        nice: Int<-20, 19> = "keepwell's own", restart;
        /// The processors that it may run on, by their numbers: `"0-3,8"`. On Windows those below 64.
        affinity: Affinity = "all", restart;
        /// How soon the kernel ends it when memory runs out; higher is sooner.
        oom_score_adj: Int<-1000, 1000> = "as keepwell was started with", restart;
        /// What it may use.
        limits: RawLimits = "none", table;
        /// It and its children can never gain privileges, by setuid files or otherwise.
        no_new_privileges: bool = "false", restart;
        /// What it may do beyond its user; all other capabilities are dropped.
        capabilities: Capabilities = "as its user has them", restart;
    }
}

impl Element for RawService {
    fn what() -> Cow<'static, str> {
        "a table".into()
    }
    fn syntax() -> Cow<'static, str> {
        "[services.web] with at least command = [\"program\", \"argument\"]".into()
    }
    fn read(r: &mut Reader<'_>, node: &Node<'_>, key: &Key<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(t) => Some(Self::read_table(r, t, key, hint)),
            _ => r.wrong_type(node, key),
        }
    }
    fn inherit(&mut self, defaults: &Self) {
        self.inherit_table(defaults);
    }
}
schema_of!(RawService, |generator| Self::table_schema(generator));

/// What other supervisors call our keys, and keys that stand one table too high.
pub(crate) fn hint(name: &str, _value: &DeValue<'_>) -> Option<String> {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let ours = match lower.as_str() {
        "cmd" | "exec" | "exec_start" | "execstart" | "program" | "entrypoint" | "args" | "script"
        | "application" | "appparameters" => "command",
        "directory" | "working_dir" | "working_directory" | "workingdirectory" | "workdir" | "dir"
        | "appdirectory" => "cwd",
        "environment" | "environ" | "appenvironment" | "appenvironmentextra" => "env",
        "environment_file" | "environmentfile" => "env_file",
        "autostart" | "disabled" | "active" => "enabled",
        "numprocs" | "replicas" | "scale" | "processes" => "instances",
        "after" | "requires" | "wants" | "depends" | "dependencies" | "needs" => "depends_on",
        "autorestart" | "restart_policy" => "restart",
        "readiness" | "readiness_probe" | "wait_for" => "ready",
        "healthcheck" | "health" | "liveness" | "liveness_probe" | "heartbeat" | "watchdogsec" => "live",
        "startup_probe" => "startup",
        "restart_sec" | "restartsec" | "restart_delay" | "apprestartdelay" => "restart.delay",
        "max_restarts" | "startretries" | "start_limit_burst" | "startlimitburst" => "restart.limit",
        "exitcodes" | "stop_exit_codes" | "successexitstatus" => "restart.exit_codes",
        "stopwaitsecs" | "kill_timeout" | "timeoutstopsec" | "timeout_stop_sec" | "stopasgroup"
        | "killasgroup" | "stopsignal" | "stop_signal" | "kill_signal" | "stop_timeout"
        | "stop_grace_period" => "stop",
        "type" => "kind",
        "standardoutput" | "out_file" | "appstdout" | "stdout_logfile" | "stdout" | "logfile"
        | "log_file" | "logs" => "log.file",
        "standarderror" | "error_file" | "appstderr" | "stderr_logfile" | "stderr" => "log.stderr_file",
        "uid" => "user",
        "gid" => "group",
        "startsecs" | "min_uptime" => "ready.delay",
        "execstartpre" | "exec_start_pre" => "hooks.pre_start",
        "execstartpost" | "exec_start_post" => "hooks.post_start",
        "execstop" | "exec_stop" => "hooks.pre_stop",
        "execstoppost" | "exec_stop_post" => "hooks.post_stop",
        "limitnofile" => "limits.nofile",
        "tasksmax" => "limits.tasks",
        "memorymax" | "memory_max" | "max_memory_restart" | "memory_limit" | "mem_limit" => "limits.memory",
        _ => return inner(name),
    };
    Some(format!("here it is called `{ours}`"))
}

/// A key of this name, or nearly, in a table of a service.
fn inner(name: &str) -> Option<String> {
    let tables: [(&str, &[&'static str]); 6] = [
        ("restart", super::restart::RawRestart::NAMES),
        ("limits", super::limits::RawLimits::NAMES),
        ("hooks", super::hooks::RawHooks::NAMES),
        ("log", super::log::RawLog::NAMES),
        ("ready", super::ready::ReadyTable::NAMES),
        ("live", super::live::LiveTable::NAMES),
    ];
    if let Some((table, _)) = tables.iter().find(|(_, names)| names.contains(&name)) {
        return Some(format!("it belongs into `{table}`: {table}.{name}"));
    }
    if nearest(name, RawService::NAMES.iter().copied()).is_some() {
        return None;
    }
    let like = |(table, names): &(&str, &[&'static str])| {
        nearest(name, names.iter().copied()).map(|like| format!("did you mean `{table}.{like}`?"))
    };
    tables.iter().find_map(like)
}
