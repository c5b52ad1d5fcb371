//! systemd: units as files, and `systemctl` for the rest.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::access::{Lack, Needs};
use super::audit::Kept;
use super::definition::{Account, ServiceDefinition, StartMode};
use super::difference::Change;
use super::host::{Found, Installed, Scope};
use super::status::Status;
use super::{unit, users};
use crate::error::Error;
use crate::state::State;

/// What answers at once, unless the service manager hangs.
const ANSWER: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(10);
const PROPERTIES: &str = "LoadState,ActiveState,SubState,MainPID,ExecMainCode,ExecMainStatus,UnitFileState";

/// See the module.
#[derive(Debug)]
pub(crate) struct System {
    scope: Scope,
    /// Where the units are.
    folder: PathBuf,
}

impl System {
    pub(crate) fn new(scope: Scope) -> Result<Self, Error> {
        let folder = match scope {
            Scope::System => PathBuf::from("/etc/systemd/system"),
            Scope::AllUsers => PathBuf::from("/etc/systemd/user"),
            Scope::User => user_folder()?,
        };
        Ok(Self { scope, folder })
    }

    pub(crate) fn drives(&self) -> bool {
        self.scope != Scope::AllUsers
    }

    #[expect(clippy::unused_self, reason = "other systems have other answers")]
    pub(crate) fn supervises(&self) -> bool {
        true
    }

    pub(crate) fn install(&self, definition: &ServiceDefinition) -> Result<Installed, Error> {
        let file_name = unit::file_name(&definition.name)?;
        let text = unit::text(definition, self.scope)?;
        let path = self.folder.join(&file_name);
        let before = self.read(&path)?;
        if let Some(before) = &before
            && !before.starts_with(unit::MARK)
        {
            let doing = format!("{} is not from keepwell", path.display());
            return Err(Error::Refused { doing, said: "it was not changed; choose another name".into() });
        }
        let mut installed = Installed { created: before.is_none(), ..Installed::default() };
        installed.changes = before.as_deref().map(|before| changed(before, &text)).unwrap_or_default();
        if before.as_deref() != Some(&text) {
            write(&path, &text).map_err(system(format!("write {}", path.display())))?;
        }
        match self.enable(definition, &file_name) {
            Ok(()) => Ok(installed),
            Err(error) => {
                if installed.created {
                    // It was not there before, and is not to be there half.
                    let _ = fs::remove_file(&path);
                }
                Err(error)
            }
        }
    }

    fn enable(&self, definition: &ServiceDefinition, file_name: &str) -> Result<(), Error> {
        if self.drives() {
            self.systemctl(&["daemon-reload"], ANSWER)?;
        }
        let verb = match definition.start {
            StartMode::Auto | StartMode::Delayed => "enable",
            StartMode::Demand | StartMode::Disabled => "disable",
        };
        self.systemctl(&[verb, file_name], ANSWER).map(drop)
    }

    pub(crate) fn uninstall(&self, name: &str, timeout: Duration) -> Result<(), Error> {
        let file_name = unit::file_name(name)?;
        let path = self.folder.join(&file_name);
        let Some(text) = self.read(&path)? else { return Err(Error::NoSuchService(name.to_owned())) };
        if !text.starts_with(unit::MARK) {
            let doing = format!("{} is not from keepwell", path.display());
            return Err(Error::Refused { doing, said: "it was not removed".into() });
        }
        if self.drives() {
            self.stop(name, timeout)?;
        }
        self.systemctl(&["disable", &file_name], ANSWER)?;
        fs::remove_file(&path).map_err(system(format!("remove {}", path.display())))?;
        if self.drives() {
            self.systemctl(&["daemon-reload"], ANSWER)?;
            // What has failed would be remembered under the name of a service that is no more.
            let _ = self.systemctl(&["reset-failed", &file_name], ANSWER);
        }
        Ok(())
    }

    pub(crate) fn start(&self, name: &str, timeout: Duration) -> Result<Status, Error> {
        self.act("start", name, timeout, State::Running)
    }

    pub(crate) fn stop(&self, name: &str, timeout: Duration) -> Result<Status, Error> {
        self.act("stop", name, timeout, State::Stopped)
    }

    /// `systemctl` waits until it is done, so there is nothing to look at meanwhile.
    fn act(&self, verb: &str, name: &str, timeout: Duration, wanted: State) -> Result<Status, Error> {
        let file_name = unit::file_name(name)?;
        self.status(name)?;
        match self.systemctl(&[verb, &file_name], timeout) {
            Ok(_) => self.status(name),
            Err(Error::TimedOut { after, .. }) => {
                let status = self.status(name)?;
                if status.state == wanted {
                    return Ok(status);
                }
                Err(Error::TimedOut { name: name.to_owned(), state: status.state, after })
            }
            Err(Error::Refused { doing, said }) => match self.status(name)? {
                Status { state: State::Stopped, .. } if wanted == State::Stopped => self.status(name),
                status if wanted == State::Running && status.state == State::Stopped => {
                    Err(Error::Ended { name: name.to_owned(), wanted, why: status.why().unwrap_or(said) })
                }
                _ => Err(Error::Refused { doing, said }),
            },
            Err(error) => Err(error),
        }
    }

    pub(crate) fn status(&self, name: &str) -> Result<Status, Error> {
        let shown = self.properties(name)?;
        Ok(status_of(&shown))
    }

    pub(crate) fn show(&self, name: &str) -> Result<Vec<(&'static str, String)>, Error> {
        let path = self.folder.join(unit::file_name(name)?);
        let Some(text) = self.read(&path)? else { return Err(Error::NoSuchService(name.to_owned())) };
        let mut all = vec![("unit", path.display().to_string())];
        let keys = [
            ("description", "Description"),
            ("command", "ExecStart"),
            ("user", "User"),
            ("after", "After"),
            ("restart", "Restart"),
            ("stop timeout", "TimeoutStopSec"),
        ];
        for (word, key) in keys {
            let values: Vec<&str> =
                text.lines().filter_map(|l| l.strip_prefix(key)?.strip_prefix('=')).collect();
            if !values.is_empty() {
                all.push((word, values.join(" ")));
            }
        }
        if self.drives()
            && let Ok(shown) = self.properties(name)
            && let Some(enabled) = shown.get("UnitFileState").filter(|v| !v.is_empty())
        {
            all.push(("at boot", enabled.clone()));
        }
        Ok(all)
    }

    pub(crate) fn command(&self, name: &str) -> Result<Vec<String>, Error> {
        let path = self.folder.join(unit::file_name(name)?);
        match self.read(&path)? {
            Some(text) => Ok(self.command_in(&text)),
            None => Err(Error::NoSuchService(name.to_owned())),
        }
    }

    #[expect(clippy::unused_self, reason = "other systems have other answers")]
    pub(crate) fn wants_password(&self, _: &ServiceDefinition) -> Result<bool, Error> {
        Ok(false)
    }

    /// A user's service manager runs services as that user.
    pub(crate) fn lacks(&self, definition: &ServiceDefinition, needs: &Needs) -> Result<Vec<Lack>, Error> {
        match self.scope {
            Scope::System => users::lacks(definition, needs),
            Scope::User | Scope::AllUsers => Ok(Vec::new()),
        }
    }

    #[expect(clippy::unused_self, reason = "other systems have other answers")]
    pub(crate) fn grant(&self, definition: &ServiceDefinition, lack: &Lack) -> Result<(), Error> {
        users::grant(definition, lack)
    }

    /// A user's services keep their state in the user's own folders.
    pub(crate) fn is_trusted(&self, definition: &ServiceDefinition, path: &Path) -> Result<bool, Error> {
        match self.scope {
            Scope::System => users::is_trusted(definition, path),
            Scope::User | Scope::AllUsers => Ok(true),
        }
    }

    pub(crate) fn own_folder(&self, definition: &ServiceDefinition, folder: &Path) -> Result<(), Error> {
        match self.scope {
            Scope::System => users::own_folder(definition, folder),
            Scope::User | Scope::AllUsers => Ok(()),
        }
    }

    pub(crate) fn registered(
        &self,
        wanted: &dyn Fn(&[String]) -> bool,
    ) -> Result<Vec<(String, Vec<String>)>, Error> {
        let units = self.units(wanted)?.into_iter();
        Ok(units.map(|(name, text)| (name, self.command_in(&text))).collect())
    }

    pub(crate) fn kept(&self, name: &str) -> Result<Kept, Error> {
        let path = self.folder.join(unit::file_name(name)?);
        match self.read(&path)? {
            Some(text) => Ok(kept(name, self.command_in(&text), &text)),
            None => Err(Error::NoSuchService(name.to_owned())),
        }
    }

    pub(crate) fn added(&self) -> Result<Vec<String>, Error> {
        Ok(self.units(&|_| true)?.into_iter().map(|(name, _)| name).collect())
    }

    /// Whom the mode lets write; root's own are everybody's business only if everybody may.
    pub(crate) fn outsiders(&self, path: &Path) -> Vec<String> {
        let open = fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o002 != 0);
        if open { vec!["everybody".to_owned()] } else { Vec::new() }
    }

    /// A unit's dependencies are systemd's to see to, which says so at a start.
    pub(crate) fn start_of(&self, _service: &str) -> Option<StartMode> {
        Some(StartMode::Auto)
    }

    pub(crate) fn list(&self, wanted: &dyn Fn(&[String]) -> bool) -> Result<Vec<Found>, Error> {
        let found = |(name, text): (String, String)| {
            let description = text.lines().find_map(|l| l.strip_prefix("Description="));
            let status = if self.drives() { self.status(&name)? } else { Status::of(State::Stopped) };
            let display_name = description.unwrap_or(&name).replace("%%", "%");
            Ok(Found { display_name, name, status, command: self.command_in(&text) })
        };
        self.units(wanted)?.into_iter().map(found).collect()
    }

    /// The names and texts of keepwell's units whose command line is wanted.
    fn units(&self, wanted: &dyn Fn(&[String]) -> bool) -> Result<Vec<(String, String)>, Error> {
        let mut all = vec![];
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(all),
            Err(e) => return Err(system(format!("read {}", self.folder.display()))(e)),
        };
        for entry in entries.filter_map(Result::ok) {
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = file_name.strip_suffix(".service") else { continue };
            let Some(text) = self.read(&entry.path())? else { continue };
            if text.starts_with(unit::MARK) && wanted(&self.command_in(&text)) {
                all.push((name.to_owned(), text));
            }
        }
        all.sort();
        Ok(all)
    }

    fn command_in(&self, text: &str) -> Vec<String> {
        let home = std::env::var("HOME").ok().filter(|_| self.scope == Scope::AllUsers);
        unit::command_in(text, home.as_deref())
    }

    fn read(&self, path: &Path) -> Result<Option<String>, Error> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(system(format!("read {}", path.display()))(e)),
        }
    }

    fn properties(&self, name: &str) -> Result<BTreeMap<String, String>, Error> {
        if !self.drives() {
            return Err(Error::NoManager(format!(
                "`{name}` is each user's own; ask as that user, with --user"
            )));
        }
        let file_name = unit::file_name(name)?;
        let shown = self.systemctl(&["show", "--property", PROPERTIES, &file_name], ANSWER)?;
        let shown = parse(&String::from_utf8_lossy(&shown.stdout));
        if shown.get("LoadState").is_some_and(|s| s == "not-found") {
            return Err(Error::NoSuchService(name.to_owned()));
        }
        Ok(shown)
    }

    fn systemctl(&self, arguments: &[&str], timeout: Duration) -> Result<Output, Error> {
        let scope: &[&str] = match self.scope {
            Scope::System => &[],
            Scope::User => &["--user"],
            Scope::AllUsers => &["--global"],
        };
        let doing = format!("systemctl {}", [scope, arguments].concat().join(" "));
        let run = || format!("run {doing}");
        let mut child = Command::new("systemctl")
            .args(scope)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| match e.kind() {
                ErrorKind::NotFound => Error::NoManager("this host has no systemctl, so no systemd".into()),
                _ => system(run())(e),
            })?;
        let begin = Instant::now();
        // What it prints is less than a pipe holds.
        while child.try_wait().map_err(system(run()))?.is_none() {
            if begin.elapsed() >= timeout {
                // It only waits for the job that it has asked for, which goes on.
                let _ = child.kill();
                let _ = child.wait();
                let name = arguments.last().copied().unwrap_or_default().to_owned();
                return Err(Error::TimedOut { name, state: State::StartPending, after: timeout });
            }
            thread::sleep(GLANCE);
        }
        let output = child.wait_with_output().map_err(system(run()))?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        if said.contains("Access denied") || said.contains("authentication required") {
            return Err(Error::Denied(run()));
        }
        let said = if said.is_empty() { output.status.to_string() } else { said };
        Err(Error::Refused { doing, said })
    }
}

pub(crate) fn each_users_folder(name: &str) -> PathBuf {
    PathBuf::from(format!("{}.local/state/keepwell/{name}", unit::HOME))
}

/// What a unit of keepwell's says. How it is started again when it fails is its own affair: keepwell wrote that.
fn kept(name: &str, command: Vec<String>, text: &str) -> Kept {
    let value = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    let mut words = command.into_iter();
    let mut definition = ServiceDefinition::new(name, words.next().unwrap_or_default());
    definition.arguments = words.collect();
    definition.account = match value("User") {
        Some(user) => Account::User { name: user.to_owned(), password: None },
        None => Account::Virtual,
    };
    let mut unknown = vec!["recovery"];
    match value("TimeoutStopSec").and_then(|t| t.trim_end_matches('s').parse().ok()) {
        Some(seconds) => definition.stop_timeout = Duration::from_secs(seconds),
        None => unknown.push("stop timeout"),
    }
    let line = definition.image();
    Kept { definition, unknown, line, interactive: false, runs: Vec::new(), reads: Vec::new() }
}

fn user_folder() -> Result<PathBuf, Error> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let config = config.ok_or_else(|| Error::NoManager("there is no home folder: HOME is not set".into()))?;
    Ok(config.join("systemd/user"))
}

fn system(step: String) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::of(step, source)
}

/// All or nothing: systemd may read it at any moment.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("service.new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn status_of(shown: &BTreeMap<String, String>) -> Status {
    let get = |key: &str| shown.get(key).map_or("", String::as_str);
    let state = match get("ActiveState") {
        "active" | "reloading" | "refreshing" => State::Running,
        "activating" | "maintenance" => State::StartPending,
        "deactivating" => State::StopPending,
        _ => State::Stopped,
    };
    let code: u32 = get("ExecMainStatus").parse().unwrap_or(0);
    // CLD_KILLED and CLD_DUMPED (sigaction(2)).
    let killed = matches!(get("ExecMainCode"), "2" | "3");
    Status {
        pid: get("MainPID").parse().ok().filter(|pid| *pid != 0),
        exit_code: if killed { 128 + code } else { code },
        ..Status::of(state)
    }
}

/// The lines that differ, by their keys.
fn changed(before: &str, after: &str) -> Vec<Change> {
    let by_key = |text: &str| {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once('=')) {
            all.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        all
    };
    let (before, after) = (by_key(before), by_key(after));
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let value = |all: &BTreeMap<String, Vec<String>>, key: &str| {
        all.get(key).map(|v| v.join(" ")).unwrap_or_default()
    };
    let change = |what: &String| {
        let (from, to) = (value(&before, what), value(&after, what));
        (from != to).then(|| Change { what: what.clone(), from, to })
    };
    keys.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unit_says_is_kept() {
        let mut definition = ServiceDefinition::new("shop", "/usr/bin/keepwell");
        definition.arguments = ["internal", "service", "a b"].map(str::to_owned).to_vec();
        definition.account = Account::User { name: "anna".into(), password: None };
        definition.stop_timeout = Duration::from_secs(75);
        let text = unit::text(&definition, Scope::System).unwrap();
        let kept = kept("shop", unit::command_of(&text), &text);
        assert_eq!(kept.line, r#""/usr/bin/keepwell" internal service "a b""#);
        assert_eq!(kept.definition.account, definition.account);
        assert_eq!(kept.definition.stop_timeout, definition.stop_timeout);
        assert_eq!(kept.unknown, ["recovery"]);
    }

    #[test]
    fn its_states_become_ours() {
        let status = |text: &str| status_of(&parse(text));
        let running =
            status("ActiveState=active\nSubState=running\nMainPID=42\nExecMainStatus=0\nExecMainCode=0\n");
        assert_eq!((running.state, running.pid, running.why()), (State::Running, Some(42), None));
        let failed = status("ActiveState=failed\nMainPID=0\nExecMainCode=1\nExecMainStatus=3\n");
        assert_eq!((failed.state, failed.pid, failed.exit_code), (State::Stopped, None, 3));
        let killed =
            status("ActiveState=activating\nSubState=auto-restart\nExecMainCode=2\nExecMainStatus=9\n");
        assert_eq!((killed.state, killed.exit_code), (State::StartPending, 137));
        assert_eq!(status("ActiveState=deactivating").state, State::StopPending);
    }

    #[test]
    fn what_differs_between_two_units_is_told_by_key() {
        let told = changed("# a\n[Service]\nUser=a\nAfter=x\nAfter=y\n", "# b\n[Service]\nUser=b\nAfter=x\n");
        let told: Vec<String> = told.iter().map(|c| format!("{}: {} → {}", c.what, c.from, c.to)).collect();
        assert_eq!(told, ["After: x y → x", "User: a → b"]);
    }
}
