//! Becoming the anchor: what `up`, `run` and the background anchor have in common.

use std::time::Duration;

use keepwell_daemon::options::Options;

use crate::command::Context;
use crate::failure::{Failure, Result, io_words};

/// What is to be held.
pub(crate) struct Hold {
    /// For the daemons.
    pub(crate) options: Options,
    /// What a person sees; nothing in the background.
    pub(crate) view: Option<ViewStyle>,
}

/// How the view shows things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ViewStyle {
    /// A line a change of state, and the services' output behind their names.
    Lines {
        /// Without the output.
        quiet: bool,
    },
    /// One object a line.
    Json {
        /// Without the output.
        quiet: bool,
    },
    /// The program's output as it is.
    Through,
}

/// Makes the state folder if it is not there.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn state_folder(path: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| {
        Failure::failed(format!("the state folder {} cannot be made: {}", path.display(), io_words(&e)))
            .hint("--state DIR names another")
    })
}

pub(crate) fn hold(_cx: &Context, _hold: Hold) -> Result<i32> {
    let _ = Duration::ZERO;
    Err(Failure::failed("not yet"))
}

impl ViewStyle {
    pub(crate) fn is_quiet(self) -> bool {
        match self {
            ViewStyle::Lines { quiet } | ViewStyle::Json { quiet } => quiet,
            ViewStyle::Through => false,
        }
    }
}
