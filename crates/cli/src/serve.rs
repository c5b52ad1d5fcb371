//! The guardian as a service: what the service manager starts.

use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keepwell_anchor::RunningWhen;
use keepwell_daemon::options::Options;
use keepwell_service::Error;

use crate::command::Context;
use crate::failure::{Failure, Result};
use crate::hold::{Hold, LAST_WORDS, hold, prepare, state_folder, under_manager};
use crate::locate::{Scope, service_state};

/// The command line that `keepwell service install` gives to the service manager.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServiceArgs {
    /// The name that it is installed under
    #[arg(long)]
    name: String,
    /// The configuration; absolute
    #[arg(long)]
    config: PathBuf,
    /// The state folder; otherwise the one of this name among the system's
    #[arg(long)]
    state: Option<PathBuf>,
    /// When the manager is told that it runs
    #[arg(long, value_enum, default_value_t = When::Up)]
    running_when: When,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum When {
    /// The configuration is accepted, and the services are being started
    Up,
    /// All services are ready
    Ready,
}

impl ServiceArgs {
    /// Under the service control manager, under systemd, or at a terminal: whoever has started this.
    ///
    /// # Errors
    /// When nothing can be held.
    pub(crate) fn run(self, cx: &Context) -> Result<i32> {
        let (context, under) = (*cx, self.clone());
        let served = keepwell_anchor::serve(&self.name, move || {
            under.speak();
            prepare(&context, under.hold(true)).map_err(|failure| {
                eprintln!("keepwell: {}", failure.text);
                keepwell_daemon::event_log::cannot_start(&under.name, &failure.text);
                failure.code
            })
        });
        match served {
            Ok(exit) => Ok(exit.process_code().into()),
            Err(Error::NotAService) => hold(cx, self.hold(under_manager())),
            Err(e) => Err(Failure::failed(format!("the service {} cannot run: {e}", self.name))),
        }
    }

    fn hold(&self, managed: bool) -> Hold {
        let options = Options {
            base: self.config.parent().map(Path::to_owned).unwrap_or_default(),
            config: Some(self.config.clone()),
            inline: None,
            state_dir: self.state_dir(),
            scope: Scope::System.name().into(),
            view: false,
            clear_desired: false,
            single: false,
            managed,
            // Under systemd there is no event log, and nothing is reported.
            service: managed.then(|| self.name.clone()),
        };
        let running_when = match self.running_when {
            When::Up => RunningWhen::Up,
            When::Ready => RunningWhen::Ready,
        };
        Hold { options, view: None, running_when }
    }

    fn state_dir(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(|| service_state(&self.name))
    }

    /// A service has nobody at its stderr: what it says is kept in its state folder. Where that cannot be made, the same is
    /// found out again, and told, by who needs the folder.
    fn speak(&self) {
        let state = self.state_dir();
        if state_folder(&state).is_err() {
            return;
        }
        if let Ok(mut words) = keepwell_os::files::open_private(&state.join(LAST_WORDS)) {
            let _ = words.seek(SeekFrom::End(0));
            let _ = keepwell_os::session::speak_into(&words);
        }
    }
}
