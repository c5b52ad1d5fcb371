//! One service on its way from another wrapper to a configuration.

use std::collections::{BTreeMap, BTreeSet};

use keepwell_service::manager::command_line::quote;

use super::fill::is_secret;
use crate::command::service::service_name;
use crate::command::written::{key, quoted};

/// The file of variables that are not copied, beside the configuration.
pub(super) const SECRETS: &str = "secrets.env";

/// What was understood, and what was not.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// The service's name, as the host knows it.
    pub(super) name: String,
    /// Whose it was: `NSSM`.
    pub(super) from: &'static str,
    /// For people.
    pub(super) description: Option<String>,
    /// Program and arguments, as a configuration has them: `$` would begin a name.
    pub(super) command: Vec<String>,
    /// Keys of the service and their values, written.
    pub(super) keys: Vec<(&'static str, String)>,
    /// Keys of `restart`, written.
    pub(super) restart: Vec<(&'static str, String)>,
    /// The ladder; none for keepwell's own.
    pub(super) stop: Option<Vec<Step>>,
    /// Programs around its life.
    pub(super) hooks: Vec<Hook>,
    /// Keys of `log`, written.
    pub(super) log: Vec<(&'static str, String)>,
    /// Keys of `log.rotate`, written.
    pub(super) rotate: Vec<(&'static str, String)>,
    /// What `service install` is to be told: an option and its value.
    pub(super) install: Vec<(&'static str, String)>,
    /// What did not come along, or not as it was.
    pub(super) notes: Vec<Note>,
    /// Variables, by name, and their values, written.
    env: Vec<(String, String)>,
    /// Names that the wrapper itself knew, in capitals.
    known: BTreeMap<String, String>,
    /// Variables whose values are not copied.
    secrets: BTreeSet<String>,
}

/// Of a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) signal: &'static str,
    pub(super) wait_ms: u64,
    pub(super) to: &'static str,
}

/// A program around the life of the service. Other wrappers do not care how it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hook {
    pub(super) key: &'static str,
    pub(super) command: Vec<String>,
    pub(super) timeout: &'static str,
}

/// One thing to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Note {
    /// The setting, as its wrapper calls it.
    pub(super) what: String,
    /// It came along, in another way.
    pub(super) carried: bool,
    /// Why, and what to do instead.
    pub(super) why: String,
}

impl Draft {
    pub(super) fn new(from: &'static str, name: &str) -> Self {
        Draft { name: name.to_owned(), from, ..Draft::default() }
    }

    /// A setting that did not come along: why, and what to do instead.
    pub(super) fn lose(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.notes.push(Note { what: what.into(), carried: false, why: why.into() });
    }

    /// A setting that came along, in another way.
    pub(super) fn differs(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.notes.push(Note { what: what.into(), carried: true, why: why.into() });
    }

    /// A name that the wrapper itself filled in.
    pub(super) fn know(&mut self, name: &str, value: &str) {
        self.known.insert(name.to_ascii_uppercase(), value.to_owned());
    }

    pub(super) fn known(&self, name: &str) -> Option<&String> {
        self.known.get(&name.to_ascii_uppercase())
    }

    /// A variable, its value as a configuration writes it. One of a name that hides a secret goes without.
    pub(super) fn variable(&mut self, name: &str, value: String) {
        self.env.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        if is_secret(name) {
            self.secrets.insert(name.to_owned());
        } else if value == format!("${{{name}}}") {
            self.env.push((name.to_owned(), from(name)));
        } else {
            self.env.push((name.to_owned(), written(&value)));
        }
    }

    /// A variable of the guardian's own environment, under the name that this service gives it.
    pub(super) fn inherited(&mut self, name: &str) -> String {
        if let Some((own, _)) = self.env.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            return own.clone();
        }
        self.env.push((name.to_owned(), from(name)));
        name.to_owned()
    }

    /// Whom it runs as, by the names that Windows stores.
    pub(super) fn account(&mut self, account: &str) {
        let own = format!(r"nt service\{}", self.name.to_lowercase());
        let given = match account.to_lowercase().as_str() {
            "" | "localsystem" | r".\localsystem" | r"nt authority\system" => "system",
            r"nt authority\localservice" | r"nt authority\local service" => "local-service",
            r"nt authority\networkservice" | r"nt authority\network service" => "network-service",
            other if other == own => return,
            _ => account,
        };
        self.install.push(("account", given.to_owned()));
        if given == account && !account.ends_with('$') {
            let why =
                "it is not copied; `keepwell service install` asks for it, or takes it from --password-file";
            self.lose(format!("the password of {account}"), why);
        }
    }

    /// Names that the guardian's environment has to have.
    pub(super) fn needed(&self) -> impl Iterator<Item = &str> {
        let above =
            |name: &str, value: &str| value.starts_with('{') || value.contains(&format!("${{{name}}}"));
        self.env.iter().filter(move |(name, value)| above(name, value)).map(|(name, _)| name.as_str())
    }

    /// What is told last, since it is known only now.
    pub(super) fn close(&mut self) {
        if self.secrets.is_empty() {
            return;
        }
        self.keys.push(("env_file", quoted(SECRETS)));
        let names: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        let why = format!(
            "values that look like secrets are not copied; write them as NAME=value to {SECRETS} beside the configuration, \
             and let only the account of the service read it"
        );
        let what = names.join(", ");
        self.lose(what, why);
    }

    /// The command that registers it. `config`: where the file will be.
    pub(super) fn command_line(&self, config: &str) -> String {
        let mut words = vec![format!("keepwell service install --name {}", argument(&self.name))];
        words.push(format!("--config {}", argument(config)));
        for (option, value) in &self.install {
            words.push(format!("--{option} {}", argument(value)));
        }
        words.join(" ")
    }

    /// The file.
    pub(super) fn toml(&self, config: &str) -> String {
        let mut text = format!(
            "# What {} was told of the service `{}`. This registers it:\n#   {}\n",
            self.from,
            line(&self.name),
            self.command_line(config)
        );
        for (carried, title) in [(false, "Not carried over"), (true, "Carried over in another way")] {
            let mut notes = self.notes.iter().filter(|n| n.carried == carried).peekable();
            if notes.peek().is_some() {
                text += &format!("# {title}:\n");
            }
            for note in notes {
                text += &format!("#   {}: {}\n", line(&note.what), line(&note.why));
            }
        }
        let name = self.section();
        text += &format!("\n[services.{name}]\n");
        if let Some(description) = &self.description {
            text += &format!("description = {}\n", written(description));
        }
        text += &format!("command = {}\n", list(&self.command));
        for (key, value) in &self.keys {
            text += &format!("{key} = {value}\n");
        }
        if !self.restart.is_empty() {
            text += &format!("restart = {}\n", table(&self.restart));
        }
        if let Some(stop) = &self.stop {
            let steps: Vec<String> = stop.iter().map(Step::written).collect();
            text += &format!("stop = [{}]\n", steps.join(", "));
        }
        let mut log = self.log.clone();
        if !self.rotate.is_empty() {
            log.push(("rotate", table(&self.rotate)));
        }
        if !log.is_empty() {
            text += &format!("log = {}\n", table(&log));
        }
        if !self.hooks.is_empty() {
            text += &format!("\n[services.{name}.hooks]\n");
            let mut hooks: Vec<&Hook> = self.hooks.iter().collect();
            hooks.sort_by_key(|h| HOOKS.iter().position(|k| *k == h.key));
            for hook in hooks {
                text += &format!(
                    "{} = {{ command = {}, timeout = \"{}\", may_fail = true }}\n",
                    hook.key,
                    list(&hook.command),
                    hook.timeout
                );
            }
        }
        if !self.env.is_empty() {
            text += &format!("\n[services.{name}.env]\n");
            for (variable, value) in &self.env {
                text += &format!("{} = {value}\n", key(variable));
            }
        }
        text
    }

    /// What it is called in a configuration, as a key of TOML.
    pub(super) fn section(&self) -> String {
        key(&service_name(&self.name))
    }
}

impl Step {
    fn written(&self) -> String {
        let wait = duration(self.wait_ms);
        format!("{{ signal = \"{}\", wait = {wait}, to = \"{}\" }}", self.signal, self.to)
    }
}

impl Note {
    /// For people, in one line.
    pub(super) fn told(&self) -> String {
        let title = if self.carried { "in another way  " } else { "not carried over" };
        format!("{title}  {}: {}", line(&self.what), line(&self.why))
    }
}

/// `"2s"`, `"1500ms"`.
pub(super) fn duration(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("\"{}s\"", ms / 1000) } else { format!("\"{ms}ms\"") }
}

/// `"10MiB"`, `"70000B"`; the least that keepwell takes is 64 KiB.
pub(super) fn size(bytes: u64) -> String {
    let bytes = bytes.max(SMALLEST_LOG);
    match (bytes.is_multiple_of(1 << 20), bytes.is_multiple_of(1 << 10)) {
        (true, _) => format!("\"{}MiB\"", bytes >> 20),
        (false, true) => format!("\"{}KiB\"", bytes >> 10),
        (false, false) => format!("\"{bytes}B\""),
    }
}

/// In the order of a life.
const HOOKS: [&str; 6] = ["pre_start", "post_start", "on_resume", "on_power_change", "pre_stop", "post_stop"];
/// No smaller log is begun anew.
pub(super) const SMALLEST_LOG: u64 = 64 << 10;

/// A text of TOML. One with backslashes stands in single quotes, as people write paths.
pub(super) fn written(text: &str) -> String {
    let literal = text.contains('\\') && !text.contains(|c: char| c == '\'' || c.is_control());
    if literal { format!("'{text}'") } else { quoted(text) }
}

/// As it may be typed to cmd.exe and to PowerShell alike.
fn argument(text: &str) -> String {
    let special = |c: char| "&|<>^()%!;,'`$@{}".contains(c);
    let typed = quote(text);
    line(&if typed.contains(special) && !typed.starts_with('"') { format!("\"{typed}\"") } else { typed })
}

/// A comment, and a message, has one line.
fn line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// The value of a variable that is the guardian's own.
fn from(name: &str) -> String {
    format!("{{ from = {} }}", quoted(name))
}

fn table(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|w| written(w)).collect();
    format!("[{}]", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_and_sizes_are_written_as_people_do() {
        assert_eq!([0, 1500, 2000].map(duration), ["\"0s\"", "\"1500ms\"", "\"2s\""]);
        let sizes = [1, 65_536, 10 << 20, 100_000].map(size);
        assert_eq!(sizes, ["\"64KiB\"", "\"64KiB\"", "\"10MiB\"", "\"100000B\""]);
    }

    #[test]
    fn what_hides_a_secret_is_named_and_not_written() {
        let mut draft = Draft::new("NSSM", "x");
        draft.command = vec!["a".into()];
        draft.variable("DB_PASSWORD", "hunter2".into());
        draft.variable("PORT", "80".into());
        draft.close();
        let text = draft.toml("keepwell.toml");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("#   DB_PASSWORD: ") && text.contains("env_file = \"secrets.env\""), "{text}");
        assert!(text.contains("\nPORT = \"80\""), "{text}");
    }

    #[test]
    fn a_comment_keeps_to_its_line() {
        let mut draft = Draft::new("NSSM", "x\n[services.evil]");
        draft.command = vec!["a".into()];
        draft.lose("b\nc = 1", "d\r\ne = 2");
        let text = draft.toml("keepwell.toml");
        assert!(
            text.lines().all(|l| l.starts_with('#') || !l.contains("evil]\n") && !l.starts_with("c =")),
            "{text}"
        );
        assert_eq!(text.matches("\n[services.").count(), 1, "{text}");
    }
}
