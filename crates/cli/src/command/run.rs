//! `keepwell run`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keepwell_anchor::RunningWhen;
use keepwell_config::Diagnostic;
use keepwell_daemon::options::Options;

use super::Context;
use super::written::{self, key, literal};
use crate::config_check;
use crate::failure::{Failure, Result, io_words};
use crate::hold::{Hold, ViewStyle, hold, under_manager};
use crate::locate::Scope;
use crate::through;

/// Guard one program with no file at all, and exit with its code (128 + signal)
///
/// Its output is passed through. Ctrl+C stops it, and all that it started; a second Ctrl+C ends it at once.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  keepwell run -- ./server --port 8080
  keepwell run --restart on-failure -- ./server
  keepwell run --restart always --ready http://127.0.0.1:8080/health -- ./server
  keepwell run --env RUST_LOG=debug --name server -- ./server")]
pub(crate) struct Run {
    /// Which ends are followed by a restart
    #[arg(long, value_enum, default_value_t = Restart::Never)]
    restart: Restart,
    /// It is ready when this answers: http://…, tcp://HOST:PORT, unix:PATH, or notify for sd_notify
    #[arg(long, value_name = "CHECK")]
    ready: Option<String>,
    /// Set a variable in its environment; may be given several times
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// What it is called in messages; otherwise its program's name
    #[arg(long)]
    name: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<String>,
}

/// As in a configuration.
const LONGEST_NAME: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Restart {
    /// None
    Never,
    /// Those that were no success
    OnFailure,
    /// All
    Always,
}

pub(crate) fn variable(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` should look like NAME=VALUE")),
    }
}

impl Run {
    pub(crate) fn run(self, cx: &Context) -> Result<i32> {
        let base = crate::locate::Surroundings::here()?.cwd;
        let name = self.service_name();
        let folder = Folder::make()?;
        let config = self.config(&name, &folder.0);
        config_check::must_mean(&config, &base, &folder.0).map_err(|d| self.refused(&d))?;
        let options = Options {
            config: None,
            inline: Some(config),
            base,
            state_dir: folder.0.clone(),
            scope: Scope::Project.name().into(),
            view: false,
            clear_desired: false,
            single: true,
            managed: under_manager(),
            service: None,
        };
        hold(cx, Hold { options, view: Some(ViewStyle::Through), running_when: RunningWhen::Up })
    }

    /// The program's file name with what no service name may hold left out.
    fn service_name(&self) -> String {
        let program = self.command.first().map(Path::new).and_then(Path::file_name);
        let given =
            self.name.clone().unwrap_or_else(|| program.unwrap_or_default().to_string_lossy().into_owned());
        let name: String = given
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
            .collect();
        let name: String = name.trim_matches(['-', '.', '_']).chars().take(LONGEST_NAME).collect();
        if name.is_empty() { "program".to_owned() } else { name }
    }

    /// In the words of the command line.
    fn refused(&self, d: &Diagnostic) -> Failure {
        match &self.ready {
            Some(ready) if d.message.starts_with("`ready`") => {
                let why = d.label.as_deref().unwrap_or("it is no readiness check");
                Failure::usage(format!("--ready {ready}: {why}"))
                    .hint("http://HOST:PORT/PATH, tcp://HOST:PORT, unix:PATH, or notify")
            }
            Some(_) | None => {
                let label = d.label.as_ref().map(|l| format!(": {l}")).unwrap_or_default();
                let failure = Failure::usage(format!("{}{label}", d.message));
                Failure { hint: d.help.clone(), ..failure }
            }
        }
    }

    /// The same configuration that a file would hold.
    fn config(&self, name: &str, state: &Path) -> String {
        let command: Vec<String> = self.command.iter().map(|a| literal(a)).collect();
        let policy = match self.restart {
            Restart::Never => "never",
            Restart::OnFailure => "on-failure",
            Restart::Always => "always",
        };
        // Apart, so that each goes on to the stream that it came from; small, since nobody reads them later.
        let [out, err] = [through::OUT, through::ERR].map(|f| literal(&state.join(f).display().to_string()));
        let mut text = format!("[services.{}]\ncommand = [{}]\n", key(name), command.join(", "));
        text += &format!("restart = {{ policy = \"{policy}\" }}\n");
        text += &format!(
            "log = {{ file = {out}, stderr_file = {err}, rotate = {{ size = \"64MiB\", keep = 1 }} }}\n"
        );
        text += &written::ready_and_env(self.ready.as_deref(), &self.env);
        text
    }
}

/// A state folder for as long as the program runs.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|p| p.is_dir());
        let base = runtime.unwrap_or_else(std::env::temp_dir);
        let path = base.join(format!("keepwell-run-{}", std::process::id()));
        // What lies there is of a process that had the same number and is gone. Somebody else's cannot be removed, and
        // then making it fails.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).map_err(|e| {
            Failure::failed(format!("the folder {} cannot be made: {}", path.display(), io_words(&e)))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &[&str]) -> Run {
        Run {
            restart: Restart::OnFailure,
            ready: Some("http://127.0.0.1:8080/".into()),
            env: vec![("A".into(), "$HOME \"x\"".into())],
            name: None,
            command: command.iter().map(|c| (*c).to_owned()).collect(),
        }
    }

    #[test]
    fn names_come_from_programs() {
        assert_eq!(run(&["/usr/bin/python3", "x"]).service_name(), "python3");
        assert_eq!(run(&["./my server!"]).service_name(), "my-server");
        assert_eq!(run(&["/"]).service_name(), "program");
        assert_eq!(run(&["x".repeat(300).as_str()]).service_name(), "x".repeat(LONGEST_NAME));
    }

    #[test]
    fn what_cannot_be_kept_is_said_in_the_words_of_the_command_line() {
        let refused = |run: Run| {
            let state = Path::new("/tmp/s");
            let config = run.config(&run.service_name(), state);
            let failure = run.refused(&config_check::must_mean(&config, Path::new("/"), state).unwrap_err());
            assert_eq!(failure.code, keepwell_sdk::exit::USAGE);
            format!("{}\n{}\n", failure.text, failure.hint.unwrap_or_default())
        };
        let ready = |check: &str| Run { ready: Some(check.into()), ..run(&["true"]) };
        let name = Run { env: vec![("KEEPWELL_RUN".into(), "x".into())], ..run(&["true"]) };
        let all = [ready("ftp://x"), ready("tcp://localhost"), name].map(refused).concat();
        insta::assert_snapshot!(all, @r#"
        --ready ftp://x: no check is written like this
        http://HOST:PORT/PATH, tcp://HOST:PORT, unix:PATH, or notify
        --ready tcp://localhost: the port is missing: "127.0.0.1:5432"
        http://HOST:PORT/PATH, tcp://HOST:PORT, unix:PATH, or notify
        `KEEPWELL_RUN` is set by keepwell and cannot be set in services.true.env: use another name
        "#);
    }

    #[test]
    fn the_configuration_means_what_was_typed() {
        let text = run(&["sh", "-c", "echo \"$HOME\"\n\\"]).config("sh", Path::new("/tmp/s"));
        // As on every system.
        insta::assert_snapshot!(text.replace(r"/tmp/s\\", "/tmp/s/"), @r#"
        [services.sh]
        command = ["sh", "-c", "echo \"$$HOME\"\u000A\\"]
        restart = { policy = "on-failure" }
        log = { file = "/tmp/s/out.log", stderr_file = "/tmp/s/err.log", rotate = { size = "64MiB", keep = 1 } }
        ready = "http://127.0.0.1:8080/"
        env = { A = "$$HOME \"x\"" }
        "#);
    }

    #[test]
    fn variables_have_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert!(variable("A").is_err() && variable("=b").is_err());
    }
}
