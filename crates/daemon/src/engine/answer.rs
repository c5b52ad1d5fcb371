//! Answers what the other threads ask and tell.

use keepwell_anchor::protocol::{Measure, Measured, Request};
use keepwell_core::event::Level;
use keepwell_core::supervisor::ServiceStatus;
use keepwell_core::{By, Command, Input, Now, Record, RunId};
use keepwell_sdk::wire;

use super::{Engine, reload};
use crate::convert;
use crate::log::LogNews;
use crate::message::{Message, Reply};
use crate::meter::{Asked, Look, Question, WAITING};

/// From this version on an anchor can be asked what is in a tree.
const MEASURES: u32 = 2;

impl Engine {
    pub(super) fn answer(&mut self, now: Now, message: Message) {
        match message {
            Message::Command { by, command, reply } => self.command(now, &by, &command, reply),
            Message::Services { names, usage, reply } => self.services(now, &names, usage, reply),
            Message::Figures { reply } => self.figures(now, reply),
            Message::Standing { name, reply } => {
                drop(reply.send(self.supervisor.standing(&name).map_err(|e| convert::problem(&e))));
            }
            Message::Receivers { reply } => {
                drop(reply.send(Ok((self.receivers(), self.courier.sender()))));
            }
            Message::Delivered { receiver, number, delivery } => {
                self.delivered(now, &receiver, number, &delivery);
            }
            Message::Health { reply } => drop(reply.send(Ok(self.health()))),
            Message::Explain { name, reply } => drop(reply.send(self.explain(now, &name))),
            Message::Incidents { reply } => {
                let open = self.supervisor.incidents(now);
                drop(reply.send(Ok(open.iter().map(convert::incident::open).collect())));
            }
            Message::ReadyAt { service, reply } => {
                let ready = self.resolve(&super::boot::parse_id(&service)).ok().and_then(|s| s.ready.port());
                drop(reply.send(Ok(ready)));
            }
            Message::Info { reply } => drop(reply.send(Ok(self.info(now)))),
            Message::Reload { by, dry_run, reply } => reload::read(self, by, dry_run, reply),
            Message::ReloadRead(read) => self.reload(now, *read),
            Message::Settled { reply } => self.settled.push(reply),
            Message::LogSlots { names, reply } => drop(reply.send(self.log_slots(&names))),
            Message::Input(input) => self.take_input(now, input),
            Message::Usage(all) => self.take_usage(now, all),
            Message::StatusText { run, text } => {
                if let Some(live) = self.runs.get_mut(&run) {
                    live.status_text = Some(text);
                }
            }
            Message::MainPid { run, pid } => self.main_pid(run, pid),
            Message::Told { service, level, text } => self.tell(now, service, level, text),
            Message::Committed { ticket, result } => self.committed(now, ticket, result),
            Message::Log(news) => self.log_news(now, news),
        }
    }

    fn take_input(&mut self, now: Now, input: Input) {
        if let Input::SetWatchdog { run, .. } = &input
            && !self.runs.contains_key(run)
        {
            return;
        }
        self.take_answer(now, input);
    }

    fn log_news(&mut self, now: Now, news: LogNews) {
        match news {
            LogNews::Matched { run } => self.supervisor.handle(now, Input::Ready { run }),
            LogNews::Told { slot, level, text } => {
                let service = self.slots.owner(slot).cloned();
                self.tell(now, service, level, text);
            }
        }
    }

    fn main_pid(&mut self, run: RunId, pid: u32) {
        let Some(live) = self.runs.get_mut(&run) else { return };
        live.pid = pid;
        let request = keepwell_anchor::protocol::MainPid { run: run.0, pid };
        self.link.send(&keepwell_anchor::protocol::Request::MainPid(request), &[]);
    }

    fn command(&mut self, now: Now, by: &By, command: &Command, reply: Reply<wire::CommandReply>) {
        self.commit_loose_records();
        let after_seq = self.next_seq.saturating_sub(1);
        if matches!(command, Command::Shutdown) {
            self.stopping = true;
        }
        match self.supervisor.command(now, by, command) {
            Err(e) => drop(reply.send(Err(convert::problem(&e)))),
            Ok(plan) => {
                self.turn_end(now);
                let answer = convert::reply(&plan, after_seq);
                let records = std::mem::take(&mut self.records);
                if records.is_empty() {
                    drop(reply.send(Ok(answer)));
                    return;
                }
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.tickets.insert(ticket, (reply, answer));
                self.store.commit(ticket, records, self.handle.clone());
            }
        }
    }

    /// Records that no operator waits for: a hold that ended by itself, a clearing at `up --all`.
    pub(super) fn commit_loose_records(&mut self) {
        let records: Vec<Record> = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.store.commit(0, records, self.handle.clone());
        }
    }

    fn committed(&mut self, now: Now, ticket: u64, result: Result<(), String>) {
        let waiting = self.tickets.remove(&ticket);
        if let Err(why) = &result {
            let text = format!(
                "what an operator decided could not be written and will be forgotten at the next start: {why}"
            );
            self.tell(now, None, Level::Error, text);
        }
        let Some((reply, mut answer)) = waiting else { return };
        if let Err(why) = result {
            answer
                .notes
                .push(format!("done, but it could not be written and holds only until keepwell ends: {why}"));
        }
        drop(reply.send(Ok(answer)));
    }

    fn services(&mut self, now: Now, names: &[String], usage: bool, reply: Reply<Vec<wire::Status>>) {
        let (lines, looks) = match self.states(now, names) {
            Ok(found) => found,
            Err(problem) => return drop(reply.send(Err(problem))),
        };
        if !usage {
            return drop(reply.send(Ok(lines)));
        }
        self.measure(Question { looks, asked: Asked::Status { lines, all: names.is_empty(), reply } });
    }

    /// To the meter, with what only the anchor knows where that is so.
    pub(super) fn measure(&mut self, question: Question) {
        if self.trees.asks_anchor() && self.welcome.version >= MEASURES {
            self.ask_anchor(question);
        } else {
            self.witness(question);
        }
    }

    /// Trees that are the anchor's jobs are looked into by it; the meter goes on with what it answers.
    fn ask_anchor(&mut self, question: Question) {
        if self.measuring.len() >= WAITING {
            // As the meter does: the states are what matters.
            return question.asked.without_figures();
        }
        let slots = question.looks.iter().flatten().map(|look| look.slot).collect();
        let number = self.next_question;
        self.next_question += 1;
        self.measuring.insert(number, question);
        self.link.send(&Request::Measure(Measure { question: number, slots }), &[]);
    }

    pub(super) fn measured(&mut self, measured: Measured) {
        let Some(mut question) = self.measuring.remove(&measured.question) else { return };
        for (look, members) in question.looks.iter_mut().flatten().zip(measured.trees) {
            look.members = Some(members);
        }
        self.witness(question);
    }

    fn states(
        &self,
        now: Now,
        names: &[String],
    ) -> Result<(Vec<wire::Status>, Vec<Option<Look>>), wire::Problem> {
        let mut wanted = Vec::new();
        for name in names {
            wanted.extend(self.supervisor.resolve(name).map_err(|e| convert::problem(&e))?);
        }
        let all = self.supervisor.status(now).into_iter();
        Ok(all.filter(|s| names.is_empty() || wanted.contains(&s.id)).map(|s| self.state(now, &s)).unzip())
    }

    fn state(&self, now: Now, s: &ServiceStatus) -> (wire::Status, Option<Look>) {
        let mut line = convert::status(s);
        let look = self.slots.describe(&s.id, &mut line);
        line.status_text = s.run.and_then(|r| self.runs.get(&r)).and_then(|r| r.status_text.clone());
        if let Some(c) = self.config.services.get(&s.id.name) {
            line.description = c.description.as_deref().map(str::to_owned);
            line.tags = c.tags.iter().map(|t| t.to_string()).collect();
        }
        if let Some(spec) = self.supervisor.specs().services.get(&s.id.name) {
            line.kind = convert::kind(spec.kind).to_owned();
        }
        self.describe_beats(now, s, &mut line);
        (line, look)
    }

    fn explain(&mut self, now: Now, name: &str) -> Result<Vec<wire::Explanation>, wire::Problem> {
        let ids = self.supervisor.resolve(name).map_err(|e| convert::problem(&e))?;
        let status = self.supervisor.status(now);
        Ok(ids
            .iter()
            .filter_map(|id| {
                let explanation = self.supervisor.explain(now, id)?;
                let status = status.iter().find(|s| s.id == *id)?;
                let mut told = convert::explanation(status, &explanation);
                self.explain_beats(now, status, &mut told.facts);
                Some(told)
            })
            .collect())
    }

    fn log_slots(&mut self, names: &[String]) -> Result<Vec<(String, u32)>, wire::Problem> {
        let mut ids = Vec::new();
        if names.is_empty() {
            ids.extend(self.slots.ids());
        }
        for name in names {
            ids.extend(self.supervisor.resolve(name).map_err(|e| convert::problem(&e))?);
        }
        // An instance that never ran has no output yet; a slot is opened for it so that it can be followed.
        Ok(ids
            .into_iter()
            .filter_map(|id| {
                let slot = match self.slots.number(&id) {
                    Some(slot) => slot,
                    None => self.open_slot(&id, &self.resolve(&id).ok()?.log).ok()?,
                };
                Some((id.to_string(), slot))
            })
            .collect())
    }

    fn info(&self, now: Now) -> wire::Info {
        let held_down = self
            .supervisor
            .status(now)
            .into_iter()
            .filter(|s| s.enabled && !s.desired_up)
            .map(|s| format!("{}, {}", s.id, s.reason))
            .collect();
        let mut mechanisms = self.welcome.mechanisms.clone();
        mechanisms.extend(self.slots.mechanisms());
        wire::Info {
            anchor_pid: self.welcome.pid,
            daemon_pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            anchor_version: self.welcome.release.clone(),
            state_dir: self.options.state_dir.display().to_string(),
            socket: self.options.state_dir.join(super::boot::SOCKET).display().to_string(),
            config: self.options.config.as_ref().map(|p| p.display().to_string()),
            config_accepted: Some(convert::time(self.accepted)),
            scope: self.options.scope.clone(),
            started: Some(convert::time(self.started)),
            rebirths: self.welcome.rebirths,
            heartbeats_refused: self.heartbeats.strangers_refused(),
            mechanisms,
            services: u32::try_from(self.supervisor.status(now).len()).unwrap_or(u32::MAX),
            held_down,
            stopping: self.stopping,
        }
    }
}
