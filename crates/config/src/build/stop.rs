//! The stop ladder: the decision's half, and the requests and commands that the shell makes of it.

use std::time::Duration;

use keepwell_core::spec::{Asking, CLOSE, StopAction, StopStep, System, To};

use super::Building;
use crate::address::http_target;
use crate::config::{Command, Method, ServiceConfig, StopAsk, StopHow};
use crate::element::signal::{Signal, signal_name};
use crate::element::stop::{RawStep, RawStop};
use crate::keys;
use crate::read::{Draft, Located};
use crate::resolve::Filler;
use crate::template::Rule;

/// A step without a `wait`.
const WAIT: Duration = Duration::from_secs(10);

impl Building<'_, '_> {
    /// The ladder; the kill of the whole tree is not part of it, it always follows.
    pub(super) fn stop(&mut self, raw: Option<&RawStop>, shell: bool) -> (Vec<StopStep>, Box<[StopAsk]>) {
        // `sh -c` does not pass signals on, so its whole group is meant.
        let to = if shell { To::Group } else { To::Main };
        let Some(raw) = raw else { return (self.cx.system.default_stop(to), Box::default()) };
        let mut asks = vec![];
        let steps = raw.0.iter().filter_map(|step| self.step(step, to, &mut asks)).collect();
        (steps, asks.into())
    }

    /// A step that this kind of host has no means for is told, and left out.
    fn step(&mut self, raw: &RawStep, to: To, asks: &mut Vec<StopAsk>) -> Option<StopStep> {
        self.one_action(raw);
        let wait = raw.wait.as_ref().map_or(WAIT, |w| w.value.0);
        let action = match (&raw.http, &raw.command) {
            (Some(url), _) => {
                let table = format!("a step in services.{}.stop", self.name);
                let request = self.http_request(&raw.asked(), &url.value.0, Method::Post, &table);
                ask(asks, StopHow::Http(Box::new(request)), StopAction::Http)
            }
            (None, Some(command)) => {
                let key = format!("`command` of a step in services.{}.stop", self.name);
                let command = self.command(command, &key, false)?;
                ask(asks, StopHow::Command(command), StopAction::Command)
            }
            (None, None) => self.signal(raw.signal.as_ref(), to)?,
        };
        if let Some(wait) = raw.wait.as_ref().filter(|w| w.value.0.is_zero())
            && !matches!(action, StopAction::Signal(_))
        {
            self.not_zero(wait.at, "wait", "stop");
        }
        let windows = action == StopAction::Signal(CLOSE);
        let to = raw.to.as_ref().map_or(if windows { To::Tree } else { to }, |t| t.value.0);
        Some(StopStep { action, to, wait })
    }

    /// More than one action in one step, or a key that belongs to another.
    fn one_action(&mut self, raw: &RawStep) {
        let mut actions = raw.actions();
        actions.sort_by_key(|(_, at)| *at);
        if let [(first, first_at), (second, at), ..] = actions.as_slice() {
            let message =
                format!("a step in services.{}.stop does two things: `{first}` and `{second}`", self.name);
            let d = Draft::error("ambiguous", *at, message);
            self.tell(d.label("make two steps of it").also(*first_at, "the other one"));
            return;
        }
        let action = actions.first().map_or("signal", |(name, _)| *name);
        let http = super::http::keys(&raw.asked());
        let http = http.into_iter().filter_map(|(key, at)| Some((key, at?))).filter(|_| action != "http");
        let to = raw.to.as_ref().map(|l| ("to", l.at)).filter(|_| action != "signal");
        for (key, at) in http.chain(to).filter(|_| raw.bad.is_empty()) {
            let message =
                format!("`{key}` of a step in services.{}.stop has no effect with `{action}`", self.name);
            self.tell(Draft::error("no-effect", at, message).label("take it away"));
        }
    }

    fn signal(&mut self, raw: Option<&Located<Signal>>, to: To) -> Option<StopAction> {
        let system = self.cx.system;
        let Some(written) = raw else {
            return system.default_stop(to).into_iter().map(|step| step.action).next();
        };
        if let Some(number) = written.value.on(system) {
            return Some(StopAction::Signal(number));
        }
        let name = signal_name(written.value.0);
        let (here, instead) = match system {
            System::Unix => ("only Windows has it", "\"TERM\", \"INT\" and \"KILL\" work everywhere"),
            System::Windows => (
                "Windows has nothing like it",
                "on Windows: \"INT\" or \"TERM\" (Ctrl+C), \"BREAK\" (Ctrl+Break), \"CLOSE\" (its windows), \"KILL\"",
            ),
        };
        let message = format!("a step of services.{}.stop is passed over: {name}", self.name);
        self.tell(Draft::warning("no-effect", written.at, message).label(here).help(instead));
        None
    }

    /// Addresses are whole only when they are filled in.
    pub(super) fn stop_targets(&mut self, config: &ServiceConfig, raw: Option<&RawStop>) {
        let key = format!("`http` of a step in services.{}.stop", self.name);
        for url in raw.into_iter().flat_map(|raw| &raw.0).filter_map(|step| step.http.as_ref()) {
            let filler = Filler::new(self.name, 1, &config.env, self.cx);
            if !self.text(&filler, url, &key) {
                continue;
            }
            if let Err(why) =
                filler.fill(&url.value.0, Rule::Plain).map_err(|t| t.words()).and_then(|u| http_target(&u))
            {
                let d = Draft::error("bad-value", url.at, format!("{key} is no address that can be asked"));
                self.tell(d.label(why).help("http = \"http://127.0.0.1:8080/shutdown\""));
            }
        }
    }
}

fn ask(asks: &mut Vec<StopAsk>, how: StopHow, action: fn(Asking) -> StopAction) -> StopAction {
    let (id, words) = (keys::number(&how), words(&how).into());
    asks.push(StopAsk { id, how });
    action(Asking { id, words })
}

/// For people. Arguments and queries may hold what is secret.
fn words(how: &StopHow) -> String {
    match how {
        StopHow::Http(request) => {
            let end = request.url.find(['?', '#']).unwrap_or(request.url.len());
            format!("HTTP {} {}", request.method.as_str(), &request.url[..end])
        }
        StopHow::Command(Command::Words(words)) => {
            format!("command {}", words.first().map_or("", |w| w))
        }
        // Steps are made of words alone.
        StopHow::Command(Command::Shell(_) | Command::Raw(_)) => "command".to_owned(),
    }
}
