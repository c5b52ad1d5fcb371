//! Values as they would be written in the configuration.

use std::fmt::{self, Display, Write as _};

use keepwell_core::escalation::{self, Rung};
use keepwell_core::spec::{Condition, Hook, StopAction, StopStep, To};

use crate::config::{Command, StopAsk, StopHow};
use crate::element::duration::Written;
use crate::element::signal::signal_name;

pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

pub(super) struct Octal(pub(super) u32);

impl Display for Octal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03o}", self.0)
    }
}

pub(super) struct Range<'a>(pub(super) &'a (u16, u16));

impl Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            (low, high) if low == high => write!(f, "{low}"),
            (low, high) => write!(f, "\"{low}-{high}\""),
        }
    }
}

/// `[a, b]`, from anything that can be walked twice.
pub(super) struct List<I>(pub(super) I);

impl<I: Iterator<Item: Display> + Clone> Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, item) in self.0.clone().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Words(words) => List(words.iter().map(|w| Quoted(w))).fmt(f),
            Command::Shell(line) | Command::Raw(line) => Quoted(line).fmt(f),
        }
    }
}

pub(super) struct Step<'a>(pub(super) &'a StopStep, pub(super) &'a [StopAsk]);

impl Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step(step, asks) = self;
        let wait = Written(step.wait);
        match &step.action {
            StopAction::Signal(signal) => {
                let to = match step.to {
                    To::Main => "main",
                    To::Group => "group",
                    To::Tree => "tree",
                };
                let signal = signal_name(*signal);
                write!(f, "{{ signal = \"{signal}\", wait = \"{wait}\", to = \"{to}\" }}")
            }
            StopAction::Http(asking) | StopAction::Command(asking) => {
                match asks.iter().find(|ask| ask.id == asking.id) {
                    Some(ask) => write!(f, "{{ {}, wait = \"{wait}\" }}", ask.how),
                    None => write!(f, "{{ {:?}, wait = \"{wait}\" }}", asking.words),
                }
            }
        }
    }
}

impl Display for StopHow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopHow::Http(request) => request.fmt(f),
            StopHow::Command(command) => write!(f, "command = {command}"),
        }
    }
}

/// A number for a request or a command, by which the core names it.
pub(crate) fn number(how: &StopHow) -> u64 {
    let mut hash = super::Fnv::START;
    // It takes every text.
    let _ = write!(hash, "{how}");
    if let StopHow::Http(request) = how {
        hash.text(&request.secrets());
    }
    hash.0
}

pub(super) struct RungText<'a>(pub(super) &'a Rung, pub(super) Option<&'a Command>);

impl Display for RungText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RungText(rung, command) = self;
        let word = match (rung.then, command) {
            (escalation::Then::Run { timeout }, Some(command)) => {
                write!(f, "{{ exec = {command}, timeout = \"{}\"", Written(timeout))?;
                return write!(f, ", times = {} }}", rung.times);
            }
            (escalation::Then::Restart | escalation::Then::Run { .. }, _) => "restart",
            (escalation::Then::RestartDependents, _) => "restart_dependents",
            (escalation::Then::FailOver, _) => "fail_over",
            (escalation::Then::Stop, _) => "stop",
        };
        write!(f, "{{ then = \"{word}\", times = {} }}", rung.times)
    }
}

pub(super) struct Dependency<'a>(pub(super) &'a keepwell_core::spec::Dependency);

impl Display for Dependency<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let condition = match self.0.condition {
            Condition::Started => "started",
            Condition::Ready => "ready",
            Condition::Completed => "completed",
        };
        let required = if self.0.required { "" } else { ", required = false" };
        let bind = if self.0.bind { ", bind = true" } else { "" };
        write!(f, "{{ condition = \"{condition}\"{required}{bind} }}")
    }
}

pub(super) struct HookText<'a>(pub(super) &'a Hook, pub(super) &'a Command);

impl Display for HookText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may_fail = if self.0.may_fail { ", may_fail = true" } else { "" };
        write!(f, "{{ command = {}, timeout = \"{}\"{may_fail} }}", self.1, Written(self.0.timeout))
    }
}
