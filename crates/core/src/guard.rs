//! Rules on what a service's tree uses: `memory > 800MB for 2m`, and the words for what is measured.

mod outlook;
mod watch;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Human;

pub(crate) use outlook::ahead;
pub(crate) use watch::{Ceiling, News, Watch, Watches};

/// From one sample to the next, where nothing else is said.
pub const SAMPLED_EVERY: Duration = Duration::from_secs(5);

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Guard {
    /// What is looked at.
    pub figure: Figure,
    /// Of [`Figure::Disk`]: which folder, as it is written.
    pub folder: Option<Arc<str>>,
    /// It may be this much, in the figure's unit.
    pub above: u64,
    /// A rule that has tripped is armed again at this or below.
    pub clear: u64,
    /// It trips when the figure was above for so long without a break.
    pub lasting: Duration,
    /// What then.
    pub then: Then,
}

/// What a tree uses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Figure {
    /// Bytes.
    Memory,
    /// Bytes, with a share of what processes have in common. Dear to measure, so seldom.
    Pss,
    /// Thousandths of one processor.
    Cpu,
    /// Bytes read from and written to disks, a second.
    Io,
    /// Bytes in a folder. Dear to measure, so seldom.
    Disk,
    /// Open descriptors; on Windows handles.
    Descriptors,
    /// Those of the process that has most, since each has a limit of its own.
    DescriptorsOfOne,
    /// On Windows, objects of its graphics, of the process that has most: each has a limit of its own.
    Gdi,
    /// Likewise, of its windows and menus.
    User,
    /// Threads.
    Threads,
    /// Processes.
    Processes,
}

/// What follows when a rule trips.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Then {
    /// It is told.
    Alert,
    /// And the service is stopped as any other and started again, one instance at a time, within its limit of restarts.
    Restart,
    /// And a command runs, for at most this long.
    Run {
        /// After this it is killed.
        timeout: Duration,
    },
}

/// One sample of a tree; `None` is not known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// See [`Figure::Memory`].
    pub memory: Option<u64>,
    /// See [`Figure::Pss`].
    pub pss: Option<u64>,
    /// See [`Figure::Cpu`].
    pub cpu: Option<u64>,
    /// See [`Figure::Io`].
    pub io: Option<u64>,
    /// See [`Figure::Disk`]: folders, as they are written, and what is in them.
    pub folders: Vec<(Arc<str>, u64)>,
    /// See [`Figure::Descriptors`].
    pub descriptors: Option<u64>,
    /// See [`Figure::DescriptorsOfOne`].
    pub descriptors_of_one: Option<u64>,
    /// See [`Figure::Gdi`].
    pub gdi: Option<u64>,
    /// See [`Figure::User`].
    pub user: Option<u64>,
    /// How many of both a process of this host may have.
    pub gui_limits: Option<(u64, u64)>,
    /// See [`Figure::Threads`].
    pub threads: Option<u64>,
    /// See [`Figure::Processes`].
    pub processes: Option<u64>,
}

impl Usage {
    /// One of them. `folder`: whose disk use.
    #[must_use]
    pub fn of(&self, figure: Figure, folder: Option<&str>) -> Option<u64> {
        match figure {
            Figure::Memory => self.memory,
            Figure::Pss => self.pss,
            Figure::Cpu => self.cpu,
            Figure::Io => self.io,
            Figure::Disk => self.folders.iter().find(|(name, _)| folder == Some(&**name)).map(|(_, n)| *n),
            Figure::Descriptors => self.descriptors,
            Figure::DescriptorsOfOne => self.descriptors_of_one,
            Figure::Gdi => self.gdi,
            Figure::User => self.user,
            Figure::Threads => self.threads,
            Figure::Processes => self.processes,
        }
    }
}

impl Figure {
    /// The configuration's word, or what stands for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Figure::Memory => "memory",
            Figure::Pss => "pss",
            Figure::Cpu => "cpu",
            Figure::Io => "io",
            Figure::Disk => "disk",
            Figure::Descriptors => "descriptors",
            Figure::DescriptorsOfOne => "descriptors of one process",
            Figure::Gdi => "gdi_objects",
            Figure::User => "user_objects",
            Figure::Threads => "threads",
            Figure::Processes => "processes",
        }
    }

    /// So much of it, for people: `812 MB`, `150 %`, `16000`.
    #[must_use]
    pub fn amount(self, value: u64) -> String {
        match self {
            Figure::Memory | Figure::Pss | Figure::Disk => bytes(value),
            Figure::Io => format!("{}/s", bytes(value)),
            Figure::Cpu => format!("{} %", value / 10),
            Figure::Descriptors
            | Figure::DescriptorsOfOne
            | Figure::Gdi
            | Figure::User
            | Figure::Threads
            | Figure::Processes => format!("{value}"),
        }
    }

    /// What comes and goes grows towards nothing.
    fn may_leak(self) -> bool {
        match self {
            Figure::Cpu | Figure::Io => false,
            Figure::Memory
            | Figure::Pss
            | Figure::Disk
            | Figure::Descriptors
            | Figure::DescriptorsOfOne
            | Figure::Gdi
            | Figure::User
            | Figure::Threads
            | Figure::Processes => true,
        }
    }

    /// `threads reach`, but `memory reaches`.
    pub(crate) fn is_plural(self) -> bool {
        match self {
            Figure::Memory | Figure::Pss | Figure::Cpu | Figure::Io | Figure::Disk => false,
            Figure::Descriptors
            | Figure::DescriptorsOfOne
            | Figure::Gdi
            | Figure::User
            | Figure::Threads
            | Figure::Processes => true,
        }
    }

    /// `memory reaches`, `threads reach`.
    pub(crate) fn does(self, verb: &str, ending: &str) -> String {
        format!("{} {verb}{}", self.name(), if self.is_plural() { "" } else { ending })
    }
}

/// A size for people, as guards say it.
#[must_use]
pub fn bytes(value: u64) -> String {
    match value {
        0..10_000_000 => format!("{} KB", value / 1_000),
        10_000_000..10_000_000_000 => format!("{} MB", value / 1_000_000),
        _ => format!("{}.{} GB", value / 1_000_000_000, value / 100_000_000 % 10),
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.figure.name())?;
        if let Some(folder) = &self.folder {
            write!(f, " of {folder}")?;
        }
        write!(f, " > {}", self.figure.amount(self.above))?;
        if self.lasting.is_zero() { Ok(()) } else { write!(f, " for {}", Human(self.lasting)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_as_it_is_written() {
        let guard = |figure, above| {
            let (lasting, then) = (Duration::ZERO, Then::Alert);
            Guard { figure, folder: None, above, clear: 0, lasting, then }
        };
        assert_eq!(format!("{}", guard(Figure::Memory, 800_000_000)), "memory > 800 MB");
        assert_eq!(format!("{}", guard(Figure::Cpu, 1_500)), "cpu > 150 %");
        assert_eq!(format!("{}", guard(Figure::Io, 50_000_000)), "io > 50 MB/s");
        assert_eq!(format!("{}", guard(Figure::Descriptors, 16_000)), "descriptors > 16000");
        let lasting = Guard { lasting: Duration::from_secs(120), ..guard(Figure::Memory, 900_000) };
        assert_eq!(format!("{lasting}"), "memory > 900 KB for 2 min");
        let folder = Guard { folder: Some("data".into()), ..guard(Figure::Disk, 10_000_000_000) };
        assert_eq!(format!("{folder}"), "disk of data > 10.0 GB");
    }
}
