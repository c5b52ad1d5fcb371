//! NSSM's parameters. Names, defaults and meanings are those of <https://nssm.cc/usage> and of version 2.24.

mod output;
mod registration;
mod rest;

use keepwell_service::manager::command_line::arguments;

use super::draft::{Draft, Hook, Step, duration, written};
use super::fill::plain;
use super::reg::{Key, Keys, Value};

/// One service's keys.
struct Service<'k> {
    keys: &'k Keys,
    /// Its own, in lower case.
    root: String,
}

/// The key of NSSM's own settings; the service's own is the empty one.
const PARAMETERS: &str = r"\Parameters";
const EXIT: &str = r"\Parameters\AppExit";
const EVENTS: &str = r"\Parameters\AppEvents";
/// NSSM's own wait after each method of a stop, in milliseconds.
const STEP: u64 = 1500;
/// Bits of `AppStopMethodSkip`.
const SKIP_CONSOLE: u64 = 1;
const SKIP_WINDOW: u64 = 2;
const SKIP_THREADS: u64 = 4;
const SKIP_TERMINATE: u64 = 8;
/// How long NSSM waits for a hook.
const HOOK_TIME: &str = "60s";

/// Names of the services that NSSM runs, as they are written.
pub(super) fn services(keys: &Keys) -> Vec<String> {
    let suffix = PARAMETERS.to_lowercase();
    let parameters = |k: &&Key| k.path.to_lowercase().ends_with(&suffix);
    let name = |key: &Key| Some(key.path.rsplit('\\').nth(1)?.to_owned());
    let all = keys.values().filter(parameters).filter(|k| k.values.contains_key("application"));
    all.filter_map(name).collect()
}

/// What the service was told, as far as keepwell knows it.
///
/// # Errors
/// When there is no such service, or it has no program.
pub(super) fn draft(keys: &Keys, name: &str) -> Result<Draft, String> {
    let parameters = format!(r"\{}{}", name.to_lowercase(), PARAMETERS.to_lowercase());
    let root = keys.keys().find_map(|k| k.ends_with(&parameters).then(|| &k[..k.len() - PARAMETERS.len()]));
    let Some(root) = root else { return Err(format!("there is no service `{name}` of NSSM's")) };
    let service = Service { keys, root: root.to_owned() };
    let written = service.key("").and_then(|k| k.path.rsplit('\\').next()).unwrap_or(name);
    let mut draft = Draft::new("NSSM", written);
    // First, since all else may name what it sets.
    service.environment(&mut draft);
    service.program(&mut draft)?;
    service.registration(&mut draft);
    service.restart(&mut draft);
    service.stop(&mut draft);
    service.output(&mut draft);
    service.events(&mut draft);
    service.rest(&mut draft);
    draft.close();
    Ok(draft)
}

impl<'k> Service<'k> {
    fn key(&self, below: &str) -> Option<&'k Key> {
        self.keys.get(&format!("{}{}", self.root, below.to_lowercase()))
    }

    fn value(&self, below: &str, name: &str) -> Option<&'k Value> {
        Some(&self.key(below)?.values.get(&name.to_lowercase())?.value)
    }

    /// Text as it is stored.
    fn raw(&self, below: &str, name: &str) -> Option<&'k str> {
        match self.value(below, name)? {
            Value::Text(text) | Value::Expand(text) => Some(text.as_str()).filter(|t| !t.is_empty()),
            Value::List(_) | Value::Number(_) | Value::Bytes(_) => None,
        }
    }

    /// Text as a configuration writes it.
    fn text(&self, draft: &mut Draft, name: &str) -> Option<String> {
        let raw = self.raw(PARAMETERS, name)?;
        Some(if self.expands(PARAMETERS, name) { draft.filled(raw) } else { plain(raw) })
    }

    fn expands(&self, below: &str, name: &str) -> bool {
        matches!(self.value(below, name), Some(Value::Expand(_)))
    }

    fn number(&self, below: &str, name: &str) -> Option<u64> {
        match self.value(below, name)? {
            Value::Number(number) => Some(*number),
            Value::Text(_) | Value::Expand(_) | Value::List(_) | Value::Bytes(_) => None,
        }
    }

    /// A number of NSSM's.
    fn own(&self, name: &str) -> Option<u64> {
        self.number(PARAMETERS, name)
    }

    fn list(&self, below: &str, name: &str) -> &'k [String] {
        match self.value(below, name) {
            Some(Value::List(list)) => list,
            Some(Value::Text(_) | Value::Expand(_) | Value::Number(_) | Value::Bytes(_)) | None => &[],
        }
    }

    fn program(&self, draft: &mut Draft) -> Result<(), String> {
        let program = self.text(draft, "Application");
        let program = program.ok_or_else(|| format!("the service `{}` has no Application", draft.name))?;
        let line = self.raw(PARAMETERS, "AppParameters").unwrap_or_default();
        draft.warn_of_secrets("AppParameters", line);
        let expands = self.expands(PARAMETERS, "AppParameters");
        draft.command = vec![program];
        for word in arguments(line) {
            let word = if expands { draft.filled(&word) } else { plain(&word) };
            draft.command.push(word);
        }
        let program = self.raw(PARAMETERS, "Application").unwrap_or_default();
        draft.keep_line("AppParameters", program, line);
        let folder = self.folder(draft);
        if !folder.is_empty() {
            draft.keys.push(("cwd", written(&folder)));
        }
        Ok(())
    }

    /// Where the program runs: without AppDirectory, NSSM takes the folder of the program.
    fn folder(&self, draft: &mut Draft) -> String {
        let named = self.text(draft, "AppDirectory").map(|d| d.trim_matches('"').to_owned());
        let beside = || draft.command[0].rsplit_once(['\\', '/']).map(|(folder, _)| folder.to_owned());
        named.or_else(beside).unwrap_or_default()
    }

    fn environment(&self, draft: &mut Draft) {
        let whole = self.list(PARAMETERS, "AppEnvironment");
        if !whole.is_empty() {
            draft.keys.push(("clear_env", "true".into()));
            let why = "the service keeps only what Windows itself needs (PATH, SystemRoot, TEMP and the like) of the \
                       environment, beside these variables";
            draft.differs("AppEnvironment", why);
        }
        let lists =
            [("", "Environment"), (PARAMETERS, "AppEnvironment"), (PARAMETERS, "AppEnvironmentExtra")];
        for (below, what) in lists {
            for entry in self.list(below, what) {
                match entry.split_once('=') {
                    Some((name, value)) if !name.is_empty() => {
                        let value = draft.filled_for(value, Some(name));
                        draft.variable(name, value);
                    }
                    Some(_) | None => {
                        // What stands there may be a secret.
                        draft
                            .lose(what, "an entry is not of the form NAME=VALUE; write it to `env` yourself");
                    }
                }
            }
        }
    }

    fn restart(&self, draft: &mut Draft) {
        let default = self.raw(EXIT, "").unwrap_or("Restart").to_lowercase();
        let restarts = default == "restart";
        let (mut ended, mut others) = (vec![], vec![]);
        let entries = self.key(EXIT).into_iter().flat_map(|k| k.values.values());
        for entry in entries.filter(|e| !e.name.is_empty()) {
            let (Value::Text(action) | Value::Expand(action)) = &entry.value else { continue };
            if action.eq_ignore_ascii_case("restart") == restarts {
                continue;
            }
            match entry.name.parse::<u32>() {
                Ok(code @ 0..=255) => ended.push(code),
                Ok(_) | Err(_) => others.push(entry.name.clone()),
            }
            if restarts && !action.eq_ignore_ascii_case("exit") {
                odd_end(draft, &format!("AppExit {}", entry.name), action);
            }
        }
        if restarts && ended.is_empty() {
            draft.restart.push(("policy", "\"always\"".into()));
        } else if restarts {
            draft.restart.push(("policy", "\"on-failure\"".into()));
            ended.sort_unstable();
            let codes: Vec<String> = ended.iter().map(u32::to_string).collect();
            draft.restart.push(("exit_codes", format!("{{ success = [{}] }}", codes.join(", "))));
        } else {
            draft.restart.push(("policy", "\"never\"".into()));
            odd_end(draft, "AppExit", &default);
            if !ended.is_empty() {
                let why = "only some exit codes were followed by a restart; write policy = \"on-failure\" and those that are \
                           not to restart as restart.exit_codes.success";
                draft.lose("AppExit", why);
            }
        }
        if !others.is_empty() {
            let why =
                "keepwell's policy knows the exit codes from 0 to 255; these follow the rule for all others";
            draft.lose(format!("AppExit {}", others.join(", ")), why);
        }
        self.pace(draft);
    }

    fn pace(&self, draft: &mut Draft) {
        let delay = self.own("AppRestartDelay").filter(|d| *d > 0);
        if let Some(delay) = delay {
            draft.restart.push(("delay", duration(delay)));
            let why = "the first crash after a healthy spell restarts at once; the delay counts from the second on and \
                       doubles up to restart.max_delay";
            draft.differs("AppRestartDelay", why);
        }
        match self.own("AppThrottle") {
            Some(0) => {
                if delay.is_none() {
                    draft.restart.push(("delay", duration(0)));
                }
                draft.restart.push(("limit", "\"off\"".into()));
            }
            Some(throttle) => draft.restart.push(("reset_after", duration(throttle))),
            None => {}
        }
    }

    fn stop(&self, draft: &mut Draft) {
        const ALL: [&str; 4] =
            ["AppStopMethodSkip", "AppStopMethodConsole", "AppStopMethodWindow", "AppStopMethodThreads"];
        let skip = self.own("AppStopMethodSkip").unwrap_or(0);
        if ALL.iter().any(|name| self.own(name).is_some()) {
            let wait = |name| self.own(name).unwrap_or(STEP);
            let mut steps = Vec::new();
            if skip & SKIP_CONSOLE == 0 {
                steps.push(Step { signal: "INT", wait_ms: wait(ALL[1]), to: "main" });
            }
            if skip & SKIP_WINDOW == 0 {
                steps.push(Step { signal: "CLOSE", wait_ms: wait(ALL[2]), to: "tree" });
            }
            draft.stop = Some(steps);
        }
        if skip & SKIP_THREADS == 0 && self.own(ALL[3]).is_some() {
            let why = "keepwell posts no WM_QUIT to threads; a program that waits for it needs a hooks.pre_stop that ends it";
            draft.lose("AppStopMethodThreads", why);
        }
        if skip & SKIP_TERMINATE != 0 {
            let why =
                "what is left after the last step is always ended; make the waits of `stop` long enough";
            draft.lose("AppStopMethodSkip (terminate)", why);
        }
        if self.own("AppKillProcessTree") == Some(0) {
            let why = "keepwell always ends the whole tree; start what is to live on by a service of its own";
            draft.lose("AppKillProcessTree = 0", why);
        }
    }

    fn events(&self, draft: &mut Draft) {
        const KNOWN: [(&str, &str, &str); 6] = [
            ("start", "pre", "pre_start"),
            ("start", "post", "post_start"),
            ("stop", "pre", "pre_stop"),
            ("exit", "post", "post_stop"),
            ("power", "resume", "on_resume"),
            ("power", "change", "on_power_change"),
        ];
        let above = format!(r"{}{}\", self.root, EVENTS.to_lowercase());
        for (path, key) in self.keys.iter().filter(|(path, _)| path.starts_with(&above)) {
            let event = &path[above.len()..];
            for (action, entry) in &key.values {
                let (Value::Text(line) | Value::Expand(line)) = &entry.value else { continue };
                let known = KNOWN.iter().find(|(e, a, _)| *e == event && a == action);
                let Some((_, _, hook)) = known else {
                    let event = key.path.rsplit('\\').next().unwrap_or_default();
                    let why = "keepwell has no such hook; let Windows' task scheduler run it on the event that it is for";
                    draft.lose(format!("AppEvents {event}/{}", entry.name), why);
                    continue;
                };
                // NSSM's editor stores hooks as text and has Windows fill it in all the same.
                let command = draft.line(line);
                if !command.is_empty() {
                    draft.hooks.push(Hook { key: hook, command, timeout: HOOK_TIME });
                }
            }
        }
        if !draft.hooks.is_empty() {
            let why = "hooks are given KEEPWELL_* variables and none of NSSM_*; an exit code of 99 before a start does not \
                       prevent it: for that, take `may_fail` away, and every failure does";
            draft.differs("AppEvents", why);
        }
    }
}

/// An end that is neither a restart nor a stop.
fn odd_end(draft: &mut Draft, what: &str, action: &str) {
    match action.to_lowercase().as_str() {
        "ignore" => {
            let why =
                "NSSM's service still counted as running when its program had ended so; keepwell's stops";
            draft.differs(format!("{what} = Ignore"), why);
        }
        "suicide" => {
            let why = "NSSM failed on purpose, so that Windows took its recovery actions; keepwell's service stops, and \
                       says with which code. To have it restarted, write restart.policy";
            draft.differs(format!("{what} = Suicide"), why);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
