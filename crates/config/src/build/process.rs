//! What a process is given when it is started: command, environment, identity, limits.

use keepwell_core::spec::System;

use crate::config::{Command, Env, Limits, LogConfig, Places, Ready, Rotate, ServiceConfig};
use crate::element::command::{CommandText, inside, split, split_windows};
use crate::element::env::RawEnv;
use crate::element::limits::RawLimits;
use crate::element::scalar::Filled;
use crate::element::service::RawService;
use crate::read::{At, Draft, Located};
use crate::resolve::{Filler, Trouble};
use crate::template::{Rule, bare_name};

use super::Building;

impl Building<'_, '_> {
    /// Splits a command; `key` names it in messages.
    pub(super) fn command(&mut self, raw: &Located<CommandText>, key: &str, shell: bool) -> Option<Command> {
        match (&raw.value, shell) {
            (CommandText::Words(words), false) => Some(Command::Words(words.clone())),
            (CommandText::Line(line), true) => Some(Command::Shell(line.clone())),
            (CommandText::Words(_), true) => {
                let d = Draft::error(
                    "bad-value",
                    raw.at,
                    format!("{key} must be a string, since `shell = true`"),
                );
                self.tell(d.label("a shell reads one text").help("command = \"cd data && exec ./server\""));
                None
            }
            (CommandText::Line(line), false) => self.split(raw.at, line, key),
        }
    }

    fn split(&mut self, at: At, line: &str, key: &str) -> Option<Command> {
        let splits = match self.cx.system {
            System::Unix => split,
            System::Windows => split_windows,
        };
        let words = match splits(line) {
            Ok(split) => {
                if let Some((offset, operator)) = &split.operator {
                    let message = format!(
                        "{key} is not given to a shell, so `{operator}` is an argument like any other"
                    );
                    let d = Draft::warning("shell-syntax", inside(self.r, at, line, *offset), message);
                    let help = match (key.starts_with("`command`"), self.cx.system) {
                        (true, System::Unix) => "shell = true gives the whole command to /bin/sh",
                        (true, System::Windows) => "shell = true gives the whole command to cmd.exe",
                        (false, System::Unix) => "[\"sh\", \"-c\", \"…\"] gives a text to a shell",
                        (false, System::Windows) => "put it into a batch file, which cmd.exe reads",
                    };
                    self.tell(d.label("the program gets this text").help(help));
                }
                split.words
            }
            Err(e) => {
                let place = inside(self.r, at, line, e.offset);
                let d = Draft::error("bad-command", place, format!("{key} cannot be split into words"));
                self.r
                    .push(d.label(e.why).help(
                        "a quote within a word is written \\' or \\\"; a list needs no quoting at all",
                    ));
                return None;
            }
        };
        let first = words.first()?;
        let name = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if let Some((variable, _)) = first.split_once('=').filter(|(v, _)| !v.is_empty() && name(v)) {
            let message = format!("{key} starts with a variable, which only a shell understands");
            let d = Draft::error("bad-command", at, message);
            self.tell(d.label(format!("put `{variable}` into `env`")));
            return None;
        }
        if first.trim().is_empty() {
            let d = Draft::error("bad-command", at, format!("{key} has no program"));
            self.tell(d.label("the program's name is empty"));
            return None;
        }
        Some(Command::Words(words.into_iter().map(Into::into).collect()))
    }

    /// The part of the configuration that a process is made of; the rest is filled in by the caller.
    pub(super) fn process(&mut self, raw: &RawService, command: Command, env: Env) -> ServiceConfig {
        let flag = |f: &Option<Located<bool>>| f.as_ref().is_some_and(|f| f.value);
        let text = |f: &Option<Located<Filled>>| f.as_ref().map(|f| f.value.0.clone());
        let small = |n: i64| i32::try_from(n).unwrap_or(0);
        ServiceConfig {
            name: self.name.clone(),
            description: None,
            tags: Box::default(),
            command,
            cwd: text(&raw.cwd),
            env,
            env_file: text(&raw.env_file),
            clear_env: flag(&raw.clear_env),
            user: raw.user.as_ref().map(|u| u.value.clone()),
            group: raw.group.as_ref().map(|g| g.value.clone()),
            umask: raw.umask.as_ref().map(|u| u.value.0),
            nice: raw.nice.as_ref().map(|n| small(n.value.0)),
            affinity: raw.affinity.as_ref().map(|a| a.value.clone()),
            oom_score_adj: raw.oom_score_adj.as_ref().map(|n| small(n.value.0)),
            limits: raw.limits.as_ref().map(|l| self.limits(&l.value)).unwrap_or_default(),
            no_new_privileges: flag(&raw.no_new_privileges),
            capabilities: raw.capabilities.as_ref().map(|c| c.value.0.clone()),
            wait_for: None,
            ready: Ready::None,
            probes: Box::default(),
            heartbeat: None,
            hooks: None,
            stop: Box::default(),
            guards: Box::default(),
            folders: Box::default(),
            escalation: Box::default(),
            log: LogConfig { file: None, stderr_file: None, rotate: Rotate::default() },
            places: self.places(raw),
        }
    }

    fn places(&self, raw: &RawService) -> Places {
        fn at<T>(value: Option<&Located<T>>) -> Option<At> {
            value.map(|v| v.at)
        }
        let or_name = |place: Option<At>| place.unwrap_or(self.at);
        Places {
            command: or_name(at(raw.command.as_ref())),
            cwd: or_name(at(raw.cwd.as_ref())),
            env_file: or_name(at(raw.env_file.as_ref())),
            account: or_name(at(raw.user.as_ref()).or(at(raw.group.as_ref()))),
            hooks: or_name(
                at(raw.hooks.as_ref())
                    .or(at(raw.guards.as_ref()))
                    .or(at(raw.escalation.as_ref()))
                    .or(at(raw.wait_for.as_ref())),
            ),
            ready: or_name(at(raw.ready.as_ref())),
            stop: or_name(at(raw.stop.as_ref())),
            probes: or_name(at(raw.live.as_ref()).or(at(raw.startup.as_ref()))),
        }
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        if let Some(m) = raw.memory.as_ref().filter(|m| m.value.0 < 1 << 20) {
            let message = format!("`memory` in services.{}.limits must be at least 1MiB", self.name);
            self.tell(Draft::error("bad-value", m.at, message).label("no program could be loaded"));
        }
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        Limits {
            nofile: raw.nofile.as_ref().map(|n| number(n.value.0)),
            core: raw.core.as_ref().map(|c| c.value),
            memory: raw.memory.as_ref().map(|m| m.value.0),
            cpu: raw.cpu.as_ref().map(|c| c.value),
            tasks: raw.tasks.as_ref().map(|n| number(n.value.0)),
        }
    }

    /// Whether everything that `${…}` may stand in can be filled in, told where it stands.
    pub(super) fn texts(&mut self, config: &ServiceConfig, raw: &RawService) {
        let filler = Filler::new(self.name, 1, &config.env, self.cx);
        // A variable that means itself may stand in `env_file`, which is read at the start only.
        if let Err(trouble) = filler.own_env()
            && !(config.env_file.is_some() && means_itself(&trouble))
        {
            self.env_trouble(&trouble, raw.env.as_ref());
            return;
        }
        let own = |key: &str| format!("`{key}` in services.{}", self.name);
        let log = raw.log.as_ref().map(|l| &l.value);
        let (file, stderr) = (log.and_then(|l| l.file.as_ref()), log.and_then(|l| l.stderr_file.as_ref()));
        let paths = [
            (own("cwd"), raw.cwd.as_ref()),
            (own("env_file"), raw.env_file.as_ref()),
            (own("log.file"), file),
            (own("log.stderr_file"), stderr),
        ];
        for (key, path) in paths {
            let Some(path) = path else { continue };
            if self.text(&filler, path, &key)
                && let Some(name) = bare_name(&path.value.0)
            {
                let message = format!("`${name}` is plain text in {key}: no shell reads it");
                let d = Draft::warning("shell-syntax", path.at, message);
                self.tell(
                    d.label("used as it stands")
                        .help(format!("to fill in a variable, list it in `env` and write ${{{name}}}")),
                );
            }
        }
    }

    /// Reports what cannot be filled in; `true` if all can.
    pub(super) fn text(&mut self, filler: &Filler<'_>, text: &Located<Filled>, key: &str) -> bool {
        let Err(trouble) = filler.fill(&text.value.0, Rule::Plain) else { return true };
        let Trouble::Unknown(unknown) = &trouble else { return false };
        let d = self.unknown(text.at, &text.value.0, unknown, key);
        self.tell(d);
        false
    }

    fn unknown(&mut self, at: At, text: &str, unknown: &crate::template::Unknown, key: &str) -> Draft {
        let mut place = inside(self.r, at, text, unknown.offset);
        if place != at {
            place.end = place.start + u32::try_from(unknown.written.len()).unwrap_or(1);
        }
        let d = Draft::error("unknown-name", place, format!("`{}` in {key} is not known", unknown.written));
        let help = format!(
            "known are ${{service}}, ${{instance}} and names listed in `env`; $$ is a plain $; a variable of keepwell's \
             own: env.{} = {{ from = \"{}\" }}",
            if unknown.name.is_empty() { "NAME" } else { &unknown.name },
            if unknown.name.is_empty() { "NAME" } else { &unknown.name },
        );
        match unknown.name.as_str() {
            "" => d.label("the closing brace is missing").help(help),
            _ => d.label("nothing has this name").help(help),
        }
    }

    fn env_trouble(&mut self, trouble: &Trouble, env: Option<&Located<RawEnv>>) {
        let at = |name: &str| env.and_then(|e| e.value.vars.get(name)).map_or(self.at, |v| v.at);
        match trouble {
            Trouble::Unknown(_) => {}
            Trouble::Missing { variable, from } => {
                let message = format!("`{from}` is not set in keepwell's own environment");
                let d = Draft::error("missing-variable", at(variable), message);
                let d = d.label(format!("services.{} takes `{variable}` from it", self.name));
                self.tell(
                    d.help("set it where keepwell is started, or leave it out when absent: optional = true"),
                );
            }
            Trouble::UnknownIn { variable, unknown } => {
                let place = at(variable);
                let d =
                    self.unknown(place, "", unknown, &format!("env.{variable} of services.{}", self.name));
                self.tell(d);
            }
            Trouble::Ring(ring) => {
                let first = ring.first().map_or(self.at, |n| at(n));
                let message =
                    format!("variables of services.{} need each other: {}", self.name, ring.join(" → "));
                self.tell(Draft::error("variable-cycle", first, message).label("none of them has a value"));
            }
        }
    }
}

fn means_itself(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::UnknownIn { variable, unknown } if unknown.name == variable.as_ref())
}
