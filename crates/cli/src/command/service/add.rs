//! `keepwell service add` and `remove`: one program as a service, with a configuration that is written for it.

use std::fs;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use keepwell_sdk::exit;

use super::definition::Settings;
use super::install::{install, uninstall};
use super::place::{Place, folder_of, state_of};
use super::{Patience, Whose, drive};
use crate::command::Context;
use crate::command::run::variable;
use crate::command::service::change::edited;
use crate::command::written::{self, key, literal};
use crate::config_check;
use crate::failure::{Failure, Result, io_words};
use crate::locate::{CONFIG, Surroundings};
use crate::output::talk;

/// Make a service of one program: it is started at boot, restarted when it ends, and its output is kept
///
/// Its configuration is written to a folder of its own; service get, set and edit change it.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service add web -- python3 -m http.server 8080
  keepwell service add api --ready http://127.0.0.1:8080/health --env RUST_LOG=info --now -- ./server
  keepwell service add job --set limits.memory=256MB --set restart.policy=on-failure -- ./job
  keepwell service add mine --user -- ./mine")]
pub(super) struct Add {
    /// The name of the service
    name: String,
    /// The folder it runs in; otherwise this one
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set a variable in its environment; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Which ends are followed by a restart
    #[arg(long, value_enum, default_value_t = Restart::Always)]
    restart: Restart,
    /// It is ready when this answers: http://…, tcp://HOST:PORT, unix:PATH, or notify for sd_notify
    #[arg(long, value_name = "CHECK")]
    ready: Option<String>,
    /// Set any other key of its configuration; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    /// Start it, too
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    patience: Patience,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<String>,
}

/// For the end of a process that has nothing left to do.
const LAST_PROCESS: Duration = Duration::from_secs(10);
/// From one look to the next.
const GLANCE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Restart {
    /// All
    Always,
    /// Those that were no success
    OnFailure,
    /// None
    Never,
}

/// Take a service that add made away again, with its configuration
///
/// What it wrote stays, unless --purge says otherwise.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell service remove web
  keepwell service remove web --yes --purge")]
pub(super) struct Remove {
    /// The service
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Its logs and its state, too
    #[arg(long)]
    purge: bool,
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    patience: Patience,
}

impl Add {
    pub(super) fn run(self, cx: &Context) -> Result<i32> {
        let here = Surroundings::here()?;
        let folder = folder_of(&self.name, self.whose)?;
        let place = Place {
            name: self.name.clone(),
            config: folder.join(CONFIG),
            state: state_of(&self.name, &folder.join(CONFIG), self.whose)?,
        };
        let host = self.whose.host()?;
        let text = self.config(&here.cwd)?;
        config_check::must_mean(&text, &folder, &place.state).map_err(|d| {
            let label = d.label.as_ref().map(|l| format!(": {l}")).unwrap_or_default();
            Failure { hint: d.help.clone(), ..Failure::usage(format!("{}{label}", d.message)) }
        })?;
        write_new(&place.config, &text)?;
        if let Err(failure) = install(cx, &host, self.whose, &place, &self.settings) {
            // Nothing is to be left of what did not become a service.
            forget(&place.config);
            return Err(failure);
        }
        drive::begin(&host, &self.name, self.whose, self.now.then_some(self.patience))?;
        Ok(exit::DONE)
    }

    /// What a person would have written.
    fn config(&self, cwd: &Path) -> Result<String> {
        let name = service_name(&self.name);
        let mut command = self.command.clone();
        if let Some(program) = command.first_mut()
            && program.contains(['/', std::path::MAIN_SEPARATOR])
        {
            *program = absolute(cwd, Path::new(program))?;
        }
        let command: Vec<String> = command.iter().map(|word| literal(word)).collect();
        let folder = absolute(cwd, self.cwd.as_deref().unwrap_or(Path::new(".")))?;
        let policy = match self.restart {
            Restart::Always => "always",
            Restart::OnFailure => "on-failure",
            Restart::Never => "never",
        };
        let mut text = format!("# Made by `keepwell service add {}`.\n\n", self.name.escape_debug());
        text += &format!("[services.{}]\n", key(&name));
        text += &format!("command = [{}]\n", command.join(", "));
        text += &format!("cwd = {}\n", literal(&folder));
        text += &format!("restart = \"{policy}\"\n");
        text += &written::ready_and_env(self.ready.as_deref(), &self.env);
        for (key, value) in &self.set {
            text = edited(&text, &name, key, Some(value))?;
        }
        Ok(text)
    }
}

/// Names of services of the host may hold more than those of a configuration.
pub(crate) fn service_name(name: &str) -> String {
    let known = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = name.chars().map(known).collect();
    let name = name.trim_matches(['-', '.', '_']);
    if name.is_empty() { "program".to_owned() } else { name.to_owned() }
}

fn absolute(cwd: &Path, path: &Path) -> Result<String> {
    let joined = cwd.join(path);
    let whole = std::path::absolute(&joined).unwrap_or(joined);
    let text = whole.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("the path {} is no text", whole.display())))
}

fn write_new(config: &Path, text: &str) -> Result<()> {
    let shown = config.display();
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::AlreadyExists => Failure::failed(format!("{shown} is there already; it was not changed"))
            .hint("keepwell service set and edit change a service; keepwell service remove takes it away"),
        ErrorKind::PermissionDenied => {
            Failure::failed(format!("{shown} cannot be written: {}", io_words(&e)))
                .hint("administrators may: use an elevated prompt, or sudo; --user does without such rights")
        }
        _ => Failure::failed(format!("{shown} cannot be written: {}", io_words(&e))),
    };
    fs::create_dir_all(config.parent().unwrap_or(Path::new(""))).map_err(failed)?;
    let mut file = fs::File::create_new(config).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// The file, and its folder if that holds nothing else. What cannot be removed does no harm.
fn forget(config: &Path) {
    let _ = fs::remove_file(config);
    let _ = fs::remove_dir(config.parent().unwrap_or(Path::new("")));
}

/// All that a service wrote. Its last process may have said that it has ended, and still hold a file.
fn purge(state: &Path) -> Result<()> {
    let deadline = Instant::now() + LAST_PROCESS;
    loop {
        match fs::remove_dir_all(state) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(_) if Instant::now() < deadline => std::thread::sleep(GLANCE),
            Err(e) => {
                let text = format!("{} cannot be removed: {}", state.display(), io_words(&e));
                return Err(Failure::failed(text));
            }
        }
    }
}

impl Remove {
    pub(super) fn run(self) -> Result<i32> {
        let host = self.whose.host()?;
        let place = Place::installed(&host, &self.name)?;
        if !place.is_own(self.whose) {
            return Err(Failure::usage(format!(
                "{} was not made by add; its configuration is {}",
                self.name,
                place.config.display()
            ))
            .hint(format!("keepwell service uninstall{} {}", self.whose.option(), self.name)));
        }
        self.confirm(&place)?;
        uninstall(&host, &self.name, self.patience)?;
        if self.purge {
            purge(&place.state)?;
        }
        forget(&place.config);
        if place.config.exists() {
            return Err(Failure::failed(format!("{} cannot be removed", place.config.display())));
        }
        talk(&format!("removed {}", place.config.display()));
        Ok(exit::DONE)
    }

    fn confirm(&self, place: &Place) -> Result<()> {
        if self.yes || !std::io::stdin().is_terminal() {
            return Ok(());
        }
        let state = if self.purge { format!(" and {}", place.state.display()) } else { String::new() };
        eprint!("end {} and remove {}{state}? [y/N] ", self.name, place.config.display());
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::failed("nothing was changed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        add: Add,
    }

    fn config(line: &[&str]) -> Result<String> {
        let words = [&["add"], line].concat();
        Line::try_parse_from(words).unwrap().add.config(Path::new("/srv/my shop"))
    }

    #[test]
    fn a_program_gets_the_configuration_that_a_person_would_write() {
        let line = [
            "my shop",
            "--env",
            "A=$x",
            "--ready",
            "tcp://127.0.0.1:80",
            "--restart",
            "on-failure",
            "--set",
            "limits.memory=256MB",
            "--set",
            "restart.delay=2s",
            "--set",
            "nice=5",
            "--",
            "./server",
            "--port",
            "80",
            "a b",
        ];
        // As on every system: where a path begins, Windows puts the drive of the working folder.
        let drive = std::path::absolute("/").unwrap().display().to_string();
        let drive = drive.trim_end_matches(std::path::is_separator);
        insta::assert_snapshot!(config(&line).unwrap().replace(r"\\", "/").replace(drive, ""), @r##"
        # Made by `keepwell service add my shop`.

        [services.my-shop]
        command = ["/srv/my shop/server", "--port", "80", "a b"]
        cwd = "/srv/my shop"
        restart = { policy = "on-failure", delay = "2s" }
        ready = "tcp://127.0.0.1:80"
        env = { A = "$$x" }
        nice = 5

        [services.my-shop.limits]
        memory = "256MB"
        "##);
        assert!(config(&["x", "--", "python3"]).unwrap().contains(r#"command = ["python3"]"#));
    }

    #[test]
    fn keys_that_cannot_be_are_refused() {
        assert!(config(&["x", "--set", "a..b=1", "--", "y"]).is_err());
    }

    #[test]
    fn names_become_those_of_a_configuration() {
        assert_eq!(service_name("my shop!"), "my-shop");
        assert_eq!(service_name("ü"), "program");
    }
}
