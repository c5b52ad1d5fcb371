//! The ladder of a stop: its steps, what becomes of each, and the kill at its end.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::effect::{Effect, Role};
use crate::event::EventKind;
use crate::id::RunId;
use crate::service::{Asked, Cause, Ending, HookEnd, HookRun, KILL_AGAIN, MainRun, Phase, Stage};
use crate::spec::{StopAction, StopStep, To};
use crate::supervisor::{StepOutcome, StepRecord, Supervisor};
use crate::time::{Human, Mono, Now};
use crate::words;

/// How long the command that emptied the tree may take to see that it did.
const LAST_MOMENT: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Takes step `index` of the ladder, or the first after it that can still reach somebody; the kill comes last.
    pub(crate) fn take_step(&mut self, i: usize, index: usize, now: Now) {
        let Phase::Ending(Ending { main: Some(main), .. }) = self.services[i].s.phase else { return };
        self.end_stop_command(i, now);
        let ladder = self.spec(i).stop.iter().enumerate().skip(index);
        let next = ladder.map(|(at, step)| (at, step.clone())).find_map(|(at, step)| {
            let to = self.reaches(i, main, at, &step)?;
            Some((at, StopStep { to, ..step }))
        });
        let (number, action, stage) = match next {
            Some((at, step)) => {
                let (action, asked) = self.do_step(i, main.run, at, &step);
                (at, action, Stage::Step { index: at, until: now.mono + step.wait, asked })
            }
            None => {
                self.effect(Effect::Kill { run: main.run });
                let stage = Stage::Killed { since: now.mono, again: now.mono + KILL_AGAIN };
                // A reload that was cut off may have made the ladder shorter under way.
                (self.spec(i).stop.len().max(index), "kill of the whole tree".into(), stage)
            }
        };
        self.step_over(i, StepOutcome::NotEnough, now);
        self.note_step(i, &action, now);
        self.tell(now, Some(i), Some(main.run), EventKind::StopStepTaken { step: ordinal(number), action });
        if let Phase::Ending(e) = &mut self.services[i].s.phase {
            e.stage = stage;
        }
        self.advance(i, now);
        self.touch(i);
    }

    /// Who hears a step; `None`: nobody. What a main process left behind heard the signal of the step in which it ended
    /// (`ask_the_rest`); where that was no signal, it hears the next one.
    fn reaches(&self, i: usize, main: MainRun, at: usize, step: &StopStep) -> Option<To> {
        let signal = matches!(step.action, StopAction::Signal(_));
        if !(signal && main.exited && step.to == To::Main) {
            return Some(step.to);
        }
        let before = at.checked_sub(1).and_then(|before| self.spec(i).stop.get(before))?;
        match before.action {
            StopAction::Signal(_) => None,
            StopAction::Http(_) | StopAction::Command(_) => Some(To::Tree),
        }
    }

    /// Begins a step. Returns its words.
    fn do_step(&mut self, i: usize, run: RunId, at: usize, step: &StopStep) -> (String, Asked) {
        match &step.action {
            StopAction::Signal(signal) => {
                self.effect(Effect::Signal { run, signal: *signal, to: step.to });
                (format!("{} to {}", words::signal(*signal), words::target(step.to)), Asked::Done)
            }
            StopAction::Http(asking) => {
                let service = self.services[i].id.clone();
                let (step, id, timeout) = (ordinal(at), asking.id, step.wait);
                self.effect(Effect::AskToStop { run, service, step, id, timeout });
                (asking.words.as_ref().into(), Asked::Open)
            }
            // A hook or the command before it may not have ended yet: `advance` starts it.
            StopAction::Command(asking) => (asking.words.as_ref().into(), Asked::Owed),
        }
    }

    /// Starts the command of the present step.
    pub(crate) fn start_stop_command(&mut self, i: usize, index: usize, now: Now) {
        let Some(StopStep { action: StopAction::Command(asking), .. }) = self.spec(i).stop.get(index) else {
            return;
        };
        let id = asking.id;
        let run = self.new_run(i);
        let s = &mut self.services[i].s;
        if let Phase::Ending(Ending { stage: Stage::Step { asked, .. }, .. }) = &mut s.phase {
            *asked = Asked::Open;
        }
        s.hook = Some(HookRun {
            run,
            role: Role::Stop,
            pid: None,
            started: now.mono,
            // Its step ends it, and that can be made longer.
            until: Mono(u64::MAX),
            ended_by: HookEnd::Itself,
        });
        let service = self.services[i].id.clone();
        self.effect(Effect::RunToStop { run, service, id });
        self.touch(i);
    }

    /// The command was never started: its asker died before. `advance` starts it, if its step is not over.
    pub(crate) fn repeat_stop_command(&mut self, i: usize, now: Now) {
        if let Phase::Ending(Ending { stage: Stage::Step { asked, .. }, .. }) = &mut self.services[i].s.phase
        {
            *asked = Asked::Owed;
        }
        self.touch(i);
        self.advance(i, now);
    }

    /// The step is over, and its command with it.
    fn end_stop_command(&mut self, i: usize, now: Now) {
        let runs = |h: &HookRun| h.role == Role::Stop && h.ended_by == HookEnd::Itself;
        if self.services[i].s.hook.as_ref().is_some_and(runs) {
            self.cancel_hook(i, HookEnd::Cancelled, now);
        }
    }

    /// Remembers a step that is being taken.
    fn note_step(&mut self, i: usize, action: &str, now: Now) {
        let s = &mut self.services[i].s;
        if let Phase::Ending(e) = &mut s.phase {
            e.step_at = now.mono;
        }
        let record = s.last_stop.get_or_insert_with(Box::default);
        record.at = now.wall;
        let (outcome, took) = (StepOutcome::NotEnough, Duration::ZERO);
        record.steps.push(StepRecord { action: action.into(), outcome, took });
    }

    /// What became of the step that was being taken, if one was.
    fn step_over(&mut self, i: usize, outcome: StepOutcome, now: Now) {
        let s = &mut self.services[i].s;
        let Phase::Ending(Ending { stage: Stage::Step { .. } | Stage::Killed { .. }, step_at, .. }) =
            &s.phase
        else {
            return;
        };
        let (took, record) = (now.mono.since(*step_at), s.last_stop.as_mut());
        let Some(record) = record else { return };
        record.at = now.wall;
        if let Some(step) = record.steps.last_mut()
            && step.outcome == StepOutcome::NotEnough
        {
            (step.outcome, step.took) = (outcome, took);
        }
    }

    /// Nothing of the tree is left.
    pub(crate) fn step_worked(&mut self, i: usize, now: Now) {
        // What ended by itself and only left something behind was led down no ladder.
        if !matches!(&self.services[i].s.phase, Phase::Ending(Ending { cause: Cause::Exit(_), .. })) {
            self.step_over(i, StepOutcome::Worked, now);
        }
        let s = &mut self.services[i].s;
        if let (Some(hook), Phase::Ending(e)) = (&mut s.hook, &mut s.phase) {
            if hook.role == Role::Stop && hook.ended_by == HookEnd::Itself {
                hook.until = now.mono + LAST_MOMENT;
            }
            // Nothing is left for a step to reach.
            e.stage = Stage::Hooks;
        }
    }

    /// The present step of a main run that is not over, if it is this one.
    fn step_of(&self, i: usize, run: RunId) -> Option<usize> {
        let Phase::Ending(Ending { main: Some(main), stage: Stage::Step { index, .. }, .. }) =
            &self.services[i].s.phase
        else {
            return None;
        };
        (main.run == run).then_some(*index)
    }

    fn is_request(&self, i: usize, index: usize) -> bool {
        self.spec(i).stop.get(index).is_some_and(|step| matches!(step.action, StopAction::Http(_)))
    }

    /// A step reached nobody, or was refused: waiting would be for nothing.
    fn step_failed(&mut self, i: usize, run: RunId, index: usize, reason: String, now: Now) {
        self.step_over(i, StepOutcome::Failed(reason.clone()), now);
        let step = ordinal(index);
        self.tell(now, Some(i), Some(run), EventKind::StopStepFailed { step, reason });
        self.take_step(i, index + 1, now);
    }

    pub(crate) fn on_signal_failed(&mut self, now: Now, run: RunId, signal: i32, reason: String) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let Some(index) = self.step_of(i, run) else { return };
        let present = self.spec(i).stop.get(index).map(|step| &step.action);
        if present == Some(&StopAction::Signal(signal)) {
            self.step_failed(i, run, index, reason, now);
        }
    }

    pub(crate) fn on_asked_to_stop(&mut self, now: Now, run: RunId, step: u32, outcome: Result<(), String>) {
        let Some(i) = self.runs.get(&run).copied() else { return };
        let Some(index) = self.step_of(i, run).filter(|index| ordinal(*index) == step) else { return };
        if !self.is_request(i, index) {
            return;
        }
        let Phase::Ending(Ending { stage: Stage::Step { asked, .. }, .. }) = &mut self.services[i].s.phase
        else {
            return;
        };
        if core::mem::replace(asked, Asked::Done) != Asked::Open {
            return;
        }
        match outcome {
            Ok(()) => self.touch(i),
            Err(reason) => self.step_failed(i, run, index, reason, now),
        }
    }

    /// The command of a step has ended, or could not be started.
    pub(crate) fn stop_command_over(&mut self, i: usize, failure: Option<String>, now: Now) {
        // Only the command of the present step can have failed: what is ended is never said to.
        if let (
            Some(reason),
            Phase::Ending(Ending { main: Some(main), stage: Stage::Step { index, .. }, .. }),
        ) = (failure, &self.services[i].s.phase)
        {
            let (run, index) = (main.run, *index);
            return self.step_failed(i, run, index, reason, now);
        }
        if let Phase::Ending(Ending { stage: Stage::Step { asked, .. }, .. }) = &mut self.services[i].s.phase
            && *asked == Asked::Open
        {
            *asked = Asked::Done;
        }
        self.touch(i);
        self.advance(i, now);
    }

    /// The time of a step, or of all of them, is over: step `next` follows.
    pub(crate) fn next_step(&mut self, i: usize, next: usize, now: Now) {
        if let Phase::Ending(Ending { main: Some(main), stage, step_at, .. }) = &self.services[i].s.phase
            && let Stage::Step { index, asked, .. } = *stage
        {
            let (run, took) = (main.run, Human(now.mono.since(*step_at)));
            let request =
                matches!(self.spec(i).stop.get(index), Some(StopStep { action: StopAction::Http(_), .. }));
            let reason = match asked {
                Asked::Done => None,
                Asked::Open if request => Some(format!("no answer within {took}")),
                Asked::Open => Some(format!("did not end within {took}")),
                Asked::Owed => Some("what ran before it could not be ended".into()),
            };
            if let Some(reason) = reason {
                self.step_over(i, StepOutcome::Failed(reason.clone()), now);
                let step = ordinal(index);
                self.tell(now, Some(i), Some(run), EventKind::StopStepFailed { step, reason });
            }
        }
        self.take_step(i, next, now);
    }

    /// The main process is gone and has left others behind, whom a signal to it alone has not reached: a shell's child, a
    /// pool of workers. They hear the same signal within the same step, so that they need not wait for the kill.
    pub(crate) fn ask_the_rest(&mut self, i: usize, run: RunId, index: usize, now: Now) {
        let Some(StopStep { action: StopAction::Signal(signal), to, .. }) =
            self.spec(i).stop.get(index).cloned()
        else {
            return;
        };
        if to == To::Tree {
            return;
        }
        self.effect(Effect::Signal { run, signal, to: To::Tree });
        let step = ordinal(index);
        let action = format!("{} to what the main process left behind", words::signal(signal));
        self.tell(now, Some(i), Some(run), EventKind::StopStepTaken { step, action });
    }
}

/// Steps are told from 1.
fn ordinal(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}
