//! Parts of keepwell that start each other. Hidden: nobody types these, and their arguments may change at any time.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use keepwell_anchor::RunningWhen;

use crate::command::{Context, wait_for};
use crate::failure::Result;
use crate::hold::{Hold, ViewStyle, hold};
use crate::output::ColorChoice;
use crate::serve::ServiceArgs;
use crate::view::{View, view};

/// The word that these command lines begin with.
const FIRST: &str = "internal";

/// A definition apart from that of the commands for people: these processes are started to be ready at once and to stay, and
/// the other definition is half a megabyte of memory.
#[derive(Parser, Debug)]
#[command(name = FIRST)]
pub(crate) struct Part {
    #[arg(long, value_enum, global = true, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
    #[command(subcommand)]
    pub(crate) part: Internal,
}

impl Part {
    /// When this process was started as one. Ends it where the words are wrong.
    pub(crate) fn of(arguments: impl Iterator<Item = OsString>) -> Option<Part> {
        let mut words = arguments.skip(1).peekable();
        words.peek().is_some_and(|word| word == FIRST).then(|| Part::parse_from(words))
    }
}

/// See the module.
#[derive(Subcommand, Debug)]
pub(crate) enum Internal {
    /// The process that decides; started by the anchor
    Daemon,
    /// The process that shows; started by the anchor
    View(ViewArgs),
    /// The process that holds, as a service; started by the service manager
    Service(ServiceArgs),
    /// The process that holds, in the background; started by `keepwell up --detach`
    Anchor {
        /// The daemon's options, as `keepwell_daemon::options` encodes them
        options: String,
    },
}

/// What the view shows, and how.
#[derive(Args, Debug)]
pub(crate) struct ViewArgs {
    /// The guardian's API
    #[arg(long)]
    socket: PathBuf,
    /// The guardian's anchor, by its pid
    #[arg(long)]
    anchor: u32,
    /// Which shape
    #[arg(long, value_enum)]
    style: Style,
    /// Leave out the services' output
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Style {
    Lines,
    Json,
    Through,
}

impl ViewStyle {
    /// The view's command line, without the program. `anchor` is a pid.
    pub(crate) fn arguments(self, socket: &str, anchor: u32, color: &str) -> Vec<String> {
        let (style, quiet) = match self {
            ViewStyle::Lines { quiet } => ("lines", quiet),
            ViewStyle::Json { quiet } => ("json", quiet),
            ViewStyle::Through => ("through", false),
        };
        let anchor = anchor.to_string();
        let mut all =
            [FIRST, "view", "--socket", socket, "--anchor", &anchor, "--style", style, "--color", color]
                .map(str::to_owned)
                .to_vec();
        if quiet {
            all.push("--quiet".to_owned());
        }
        all
    }
}

impl Internal {
    /// Answers the process's exit code.
    ///
    /// # Errors
    /// What `main` prints.
    pub(crate) fn run(self, cx: &Context) -> Result<i32> {
        match self {
            Internal::Daemon => Ok(keepwell_daemon::main()),
            Internal::View(args) => {
                let style = match args.style {
                    Style::Lines => ViewStyle::Lines { quiet: args.quiet },
                    Style::Json => ViewStyle::Json { quiet: args.quiet },
                    Style::Through => ViewStyle::Through,
                };
                wait_for(view(View { socket: args.socket, anchor: args.anchor, style, look: cx.look() }))
            }
            Internal::Service(args) => args.run(cx),
            Internal::Anchor { options } => {
                let options = keepwell_daemon::options::Options::decode(options.as_bytes())
                    .map_err(crate::failure::Failure::usage)?;
                // A fresh child leads no process group, so this works; were it started by hand in a shell, its terminal
                // would stay its own.
                let _ = keepwell_os::session::leave_terminal();
                hold(cx, Hold { options, view: None, running_when: RunningWhen::Up })
            }
        }
    }
}
