//! Scripts that an operator can read, played in the world; what happens comes out as a timeline.
//!
//! ```text
//! # How the programs behave, start by start; the last behaviour goes on.
//! web: runs, ready after 300ms
//! worker: exits 1 after 2s (3 times); then runs
//! web/pre_start: exits 0 after 100ms
//! # What people and fate do.
//! at 10s: anna: stop web
//! at 12s: daemon dies for 3s
//! at 20s: explain worker
//! end at 60s
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use keepwell_core::event::{ExitStatus, SpawnErrorKind};
use keepwell_core::spec::{CLOSE, CTRL_C};
use keepwell_core::supervisor::Explanation;
use keepwell_core::time::Human;
use keepwell_core::{By, Command, HostEvent, Mono, PlannedAction, Role, ServiceId, Specs};

use crate::plant::Plant;
use crate::program::{Asked, Behaviour};
use crate::words;
use crate::world::{Deed, Director, World};

/// Plays a script.
///
/// # Errors
/// The line that could not be understood, or the invariant that was broken.
pub fn play(specs: Specs, script: &str, reloads: &BTreeMap<String, Specs>) -> Result<String, String> {
    let script = Script::parse(script, reloads)?;
    let mut world = World::new(specs, script.cast, 1, Plant::Nothing, false);
    let begin = world.now.mono;
    let mut timeline = Timeline { begin, text: String::new(), events: 0, answers: 0 };
    for (at, act) in script.acts {
        let at = begin + at;
        match act {
            Act::Deed(deed) => {
                // Ends of the same instant come first, so that a script need not know what is a nanosecond earlier.
                world.run_until(at);
                world.plan(at, deed);
                world.step(at);
            }
            Act::Explain(name) => {
                world.run_until(at);
                timeline.catch_up(&world);
                timeline.explain(&world, &name);
            }
            Act::Status => {
                world.run_until(at);
                timeline.catch_up(&world);
                timeline.status(&world);
            }
            Act::End => world.run_until(at),
        }
        timeline.catch_up(&world);
    }
    match world.broken {
        Some(broken) => Err(format!("{broken}\n{}", timeline.text)),
        None => Ok(timeline.text),
    }
}

/// What is shown.
struct Timeline {
    begin: Mono,
    text: String,
    events: usize,
    answers: usize,
}

impl Timeline {
    fn line(&mut self, at: Mono, who: &str, what: &str) {
        let seconds = at.since(self.begin).as_secs_f64();
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{seconds:>10.3}  {who:<10}  {what}");
    }

    fn catch_up(&mut self, world: &World<Cast>) {
        for event in &world.events[self.events..] {
            let who = event.service.as_ref().map_or_else(|| "keepwell".into(), ToString::to_string);
            self.line(event.at.mono, &who, &words::event(&event.kind));
        }
        self.events = world.events.len();
        for (now, _, answer) in &world.answers[self.answers..] {
            match answer {
                Ok(plan) => {
                    for (id, action) in &plan.actions {
                        self.line(now.mono, "", &format!("→ {id}: {}", action_in_words(*action)));
                    }
                    for note in &plan.notes {
                        self.line(now.mono, "", &format!("→ {note}"));
                    }
                }
                Err(refused) => self.line(now.mono, "", &format!("→ refused: {refused}")),
            }
        }
        self.answers = world.answers.len();
    }

    fn status(&mut self, world: &World<Cast>) {
        self.line(world.now.mono, "", "$ keepwell status");
        for s in world.status() {
            let next = s.next_attempt.map(|at| {
                let wait = u64::try_from(at.0 - world.now.wall.0).unwrap_or(0);
                format!(", next attempt in {}", Human(Duration::from_millis(wait)))
            });
            let line = format!(
                "  {:<10} {:<14} {}{}",
                s.id.to_string(),
                s.state.name(),
                s.reason,
                next.unwrap_or_default()
            );
            self.line(world.now.mono, "", &line);
        }
    }

    fn explain(&mut self, world: &World<Cast>, name: &str) {
        self.line(world.now.mono, "", &format!("$ keepwell explain {name}"));
        let Some(sup) = &world.sup else {
            return self.line(world.now.mono, "", "  there is no daemon");
        };
        for id in sup.resolve(name).unwrap_or_default() {
            let Some(Explanation { headline, facts, try_next }) = sup.explain(world.now, &id) else {
                continue;
            };
            self.line(world.now.mono, "", &format!("  {headline}"));
            for (label, text) in facts.iter().chain(&try_next) {
                self.line(world.now.mono, "", &format!("    {label:<24} {text}"));
            }
        }
    }
}

fn action_in_words(action: PlannedAction) -> &'static str {
    match action {
        PlannedAction::Start => "starts",
        PlannedAction::Stop => "stops",
        PlannedAction::Restart => "stops and starts again",
        PlannedAction::Signal => "gets the signal",
        PlannedAction::Pause => "is held",
        PlannedAction::Resume => "goes on",
        PlannedAction::Update => "is updated",
        PlannedAction::Nothing => "nothing to do",
    }
}

/// Behaviours by service and role, start by start.
#[derive(Debug, Default)]
pub struct Cast {
    parts: BTreeMap<String, VecDeque<Behaviour>>,
}

impl Director for Cast {
    fn behaviour(&mut self, service: &ServiceId, role: Role, _at: Mono) -> Behaviour {
        let hook = match role {
            Role::Main => "",
            Role::PreStart => "/pre_start",
            Role::WaitFor => "/wait_for",
            Role::PostStart => "/post_start",
            Role::PreStop => "/pre_stop",
            Role::PostStop => "/post_stop",
            Role::Stop => "/stop",
            Role::OnSuspend => "/on_suspend",
            Role::OnResume => "/on_resume",
            Role::OnPowerChange => "/on_power_change",
            Role::OnSession => "/on_session",
            Role::Guard(_) => "/guard",
            Role::Escalation(_) => "/escalation",
        };
        let exact = format!("{service}{hook}");
        let general = format!("{}{hook}", service.name);
        let name = if self.parts.contains_key(&exact) { exact } else { general };
        let quick = (Duration::from_millis(50), ExitStatus::Code(0));
        let ends = (role != Role::Main).then_some(quick);
        match self.parts.get_mut(&name) {
            Some(parts) if parts.len() > 1 => parts.pop_front().unwrap_or_default(),
            Some(parts) => parts.front().cloned().unwrap_or_default(),
            None => Behaviour { ends, ..Behaviour::default() },
        }
    }
}

enum Act {
    Deed(Deed),
    Explain(String),
    Status,
    End,
}

struct Script {
    cast: Cast,
    acts: Vec<(Duration, Act)>,
}

impl Script {
    fn parse(text: &str, reloads: &BTreeMap<String, Specs>) -> Result<Self, String> {
        let mut script = Script { cast: Cast::default(), acts: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let told = script.line(line, reloads);
            told.map_err(|why| format!("script.txt:{}: {why}: {line}", number + 1))?;
        }
        match script.acts.last() {
            Some((_, Act::End)) => Ok(script),
            Some(_) | None => Err("script.txt: its last line is `end at TIME`".into()),
        }
    }

    fn line(&mut self, line: &str, reloads: &BTreeMap<String, Specs>) -> Result<(), String> {
        if let Some(at) = line.strip_prefix("end at ") {
            self.acts.push((duration(at)?, Act::End));
        } else if let Some(rest) = line.strip_prefix("at ") {
            let (at, what) = rest.split_once(": ").ok_or("`at TIME: WHAT`")?;
            self.acts.push((duration(at)?, act(what, reloads)?));
        } else {
            let (who, parts) = line.split_once(": ").ok_or("`SERVICE: BEHAVIOUR`")?;
            let mut all = VecDeque::new();
            for part in parts.split("; then ") {
                let (part, times) = match part.strip_suffix(" times)").and_then(|p| p.rsplit_once(" (")) {
                    Some((part, times)) => (part, times.parse().map_err(|_| "`(N times)`")?),
                    None => (part, 1),
                };
                let part = behaviour(part)?;
                all.extend(std::iter::repeat_n(part, times));
            }
            self.cast.parts.insert(who.into(), all);
        }
        Ok(())
    }
}

fn act(what: &str, reloads: &BTreeMap<String, Specs>) -> Result<Act, String> {
    let words: Vec<&str> = what.split_whitespace().collect();
    Ok(match words.as_slice() {
        ["explain", name] => Act::Explain((*name).into()),
        ["status"] => Act::Status,
        ["daemon", "dies", "for", time] => {
            Act::Deed(Deed::DaemonDies { after: usize::MAX, away: duration(time)? })
        }
        ["everything", "is", "killed"] => Act::Deed(Deed::AnchorDies),
        ["host", "tells", event @ ..] => {
            let event = HostEvent::parse(&event.join(" ")).ok_or("no such event of a host")?;
            Act::Deed(Deed::Host(event))
        }
        ["host", "sleeps", "for", time] => Act::Deed(Deed::Suspend(duration(time)?)),
        ["clock", step] => {
            let (sign, time) = step.split_at(1);
            let ms = i64::try_from(duration(time)?.as_millis()).map_err(|_| "too far")?;
            Act::Deed(Deed::ClockStep(if sign == "-" { -ms } else { ms }))
        }
        ["outside", "is", "gone"] => Act::Deed(Deed::OutsideGone(true)),
        ["outside", "is", "back"] => Act::Deed(Deed::OutsideGone(false)),
        ["all", "checks", "fail"] => Act::Deed(Deed::ChecksFail(true)),
        ["all", "checks", "may", "pass"] => Act::Deed(Deed::ChecksFail(false)),
        ["host", "is", "starved"] => Act::Deed(Deed::Starved(true)),
        ["host", "is", "well"] => Act::Deed(Deed::Starved(false)),
        ["disk", "is", "full"] => Act::Deed(Deed::DiskFull(true)),
        ["program", "of", name, "changes"] => Act::Deed(Deed::ProgramChanges(ServiceId::new(*name, 1))),
        ["reload", file] => {
            let specs = reloads.get(*file).ok_or("no such file in the folder")?;
            Act::Deed(Deed::Reload(specs.clone()))
        }
        [by, rest @ ..] if by.ends_with(':') => {
            let by = By(by.trim_end_matches(':').into());
            Act::Deed(Deed::Command(by, command(rest)?))
        }
        _ => return Err("nobody knows how to do that".into()),
    })
}

fn command(words: &[&str]) -> Result<Command, String> {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    Ok(match words {
        ["start", "--ignore-dependencies", rest @ ..] => {
            Command::Start { services: names(rest), ignore_dependencies: true }
        }
        ["start", rest @ ..] => Command::Start { services: names(rest), ignore_dependencies: false },
        ["stop", "--with-dependents", rest @ ..] => {
            Command::Stop { services: names(rest), with_dependents: true }
        }
        ["stop", rest @ ..] => Command::Stop { services: names(rest), with_dependents: false },
        ["restart", rest @ ..] => Command::Restart { services: names(rest) },
        ["pause", "--freeze", "--stop-after", time, rest @ ..] => {
            Command::Pause { services: names(rest), freeze: true, stop_after: Some(duration(time)?) }
        }
        ["pause", "--freeze", rest @ ..] => {
            Command::Pause { services: names(rest), freeze: true, stop_after: None }
        }
        ["pause", rest @ ..] => Command::Pause { services: names(rest), freeze: false, stop_after: None },
        ["resume", rest @ ..] => Command::Resume { services: names(rest) },
        ["enable", rest @ ..] => Command::Enable { services: names(rest) },
        ["disable", rest @ ..] => Command::Disable { services: names(rest) },
        ["scale", target] => {
            let (service, n) = target.split_once('=').ok_or("`scale SERVICE=N`")?;
            Command::Scale { service: service.into(), instances: n.parse().map_err(|_| "`scale SERVICE=N`")? }
        }
        ["shutdown"] => Command::Shutdown,
        _ => return Err("there is no such command".into()),
    })
}

fn behaviour(text: &str) -> Result<Behaviour, String> {
    let mut b = Behaviour::default();
    for clause in text.split(", ") {
        if let Some(text) = clause.strip_prefix("cannot be started: ") {
            b.refused = Some((SpawnErrorKind::Permanent, text.into()));
            continue;
        }
        if let Some(text) = clause.strip_prefix("answers a request to stop with ") {
            b.asked = Asked::Refused(format!("answered {text}"));
            continue;
        }
        if let Some(text) = clause.strip_prefix("is refused: ") {
            b.refused = Some((SpawnErrorKind::Transient, text.into()));
            continue;
        }
        let words: Vec<&str> = clause.split_whitespace().collect();
        match words.as_slice() {
            ["runs"] => {}
            ["exits", code, "after", time] => {
                let code = code.parse().map_err(|_| "`exits CODE after TIME`")?;
                b.ends = Some((duration(time)?, ExitStatus::Code(code)));
            }
            ["killed", "by", signal, "after", time] => {
                let signal = signal.parse().map_err(|_| "`killed by NUMBER after TIME`")?;
                let status = ExitStatus::Signal { signal, core_dumped: false, out_of_memory: false };
                b.ends = Some((duration(time)?, status));
            }
            ["runs", "out", "of", "memory", "after", time] => {
                let status = ExitStatus::Signal { signal: 9, core_dumped: false, out_of_memory: true };
                b.ends = Some((duration(time)?, status));
            }
            ["ready", "after", time] => b.ready_in = Some(duration(time)?),
            ["sick", "from", from, "to", to] => b.sick = Some((duration(from)?, duration(to)?)),
            ["never", "ready"] => b.ready_in = None,
            ["ignores", "signals"] => b.obeys_in = None,
            ["never", "answers", "a", "request"] => b.asked = Asked::Silence,
            ["has", "no", "console"] => b.deaf_to.push(CTRL_C),
            ["has", "no", "window"] => b.deaf_to.push(CLOSE),
            ["stops", "after", time] => b.obeys_in = Some(duration(time)?),
            ["cannot", "be", "killed", "for", time] => b.unkillable = duration(time)?,
            ["leaves", "children", "for", time] => b.leaves = Some(duration(time)?),
            ["uses", memory] => b.uses = Some((megabytes(memory)?, 0)),
            ["uses", memory, "and", more, "a", "minute", "more"] => {
                b.uses = Some((megabytes(memory)?, megabytes(more)?));
            }
            ["has", threads, "threads", "and", more, "a", "minute", "more"] => {
                let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number"));
                b.threads = Some((number(threads)?, number(more)?));
            }
            ["gives", "no", "life", "signs"] => b.pings = None,
            ["falls", "silent", "after", time] => b.silent = Some((duration(time)?, Duration::MAX)),
            ["silent", "from", from, "to", to] => b.silent = Some((duration(from)?, duration(to)?)),
            _ => return Err(format!("nobody knows how to play `{clause}`")),
        }
    }
    Ok(b)
}

/// `200MB`.
fn megabytes(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("MB").and_then(|n| n.parse::<u64>().ok());
    number.map(|n| n * 1_000_000).ok_or_else(|| format!("`{text}` is no number of MB"))
}

/// `300ms`, `2s`, `10m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or("a duration has a unit")?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no duration"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        "h" => Ok(Duration::from_secs(3600 * number)),
        _ => Err(format!("`{text}` is no duration")),
    }
}
