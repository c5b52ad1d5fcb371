//! A guard as it is written.

use std::fmt::{self, Display};

use keepwell_core::guard::{Figure, Guard, Then};

use crate::config::Command;
use crate::element::duration::Written;
use crate::element::size;

pub(super) struct GuardText<'a>(pub(super) &'a Guard, pub(super) Option<&'a Command>);

impl Display for GuardText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GuardText(guard, command) = self;
        write!(f, "{{ when = \"{} > ", guard.figure.name())?;
        match guard.figure {
            Figure::Memory | Figure::Pss | Figure::Disk => write!(f, "{}", size::Written(guard.above))?,
            Figure::Io => write!(f, "{}/s", size::Written(guard.above))?,
            Figure::Cpu if guard.above % 10 > 0 => write!(f, "{}.{}%", guard.above / 10, guard.above % 10)?,
            Figure::Cpu => write!(f, "{}%", guard.above / 10)?,
            Figure::Descriptors
            | Figure::DescriptorsOfOne
            | Figure::Gdi
            | Figure::User
            | Figure::Threads
            | Figure::Processes => write!(f, "{}", guard.above)?,
        }
        if !guard.lasting.is_zero() {
            write!(f, " for {}", Written(guard.lasting))?;
        }
        if let Some(folder) = &guard.folder {
            write!(f, "\", folder = \"{folder}")?;
        }
        match (guard.then, command) {
            (Then::Run { timeout }, Some(command)) => {
                write!(f, "\", exec = {command}, timeout = \"{}\" }}", Written(timeout))
            }
            (Then::Restart, _) => f.write_str("\", then = \"restart\" }"),
            (Then::Alert | Then::Run { .. }, _) => f.write_str("\", then = \"alert\" }"),
        }
    }
}
