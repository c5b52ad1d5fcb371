//! The shutdown in phases: stop the intake, let what is in flight end, close the database, then the cache. Each phase has a
//! name, a place in the order, and a time; one that hangs is named and left behind.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::dispatch::panic_text;
use crate::failure::Failure;
use crate::token::Stop;

/// What is to be done at the end. Clones are the same list, so that each part of a program may add its own.
///
/// ```
/// use std::time::{Duration, Instant};
/// use keepwell_service::{Cause, Shutdown, Stop};
///
/// let shutdown = Shutdown::new();
/// shutdown.phase("close the database", 20, Duration::from_secs(5), |_| Ok(()));
/// shutdown.phase("stop the intake", 10, Duration::from_secs(1), |_| Ok(()));
/// let stop = Stop { cause: Cause::Own, deadline: Instant::now() + Duration::from_secs(10) };
/// let ended = shutdown.run(stop);
/// let names: Vec<&str> = ended.phases().iter().map(|phase| phase.name.as_str()).collect();
/// assert_eq!(names, ["stop the intake", "close the database"]);
/// ```
#[derive(Clone, Default)]
pub struct Shutdown(Arc<Mutex<Vec<Phase>>>);

type Work = Box<dyn FnOnce(&PhaseStep) -> Result<(), Failure> + Send>;

struct Phase {
    name: String,
    order: u32,
    within: Duration,
    work: Work,
}

/// What a phase is given while it runs.
pub struct PhaseStep {
    deadline: Instant,
    step: Step,
}

type Step = Arc<dyn Fn(Duration) + Send + Sync>;

impl PhaseStep {
    /// When this phase is given up.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time that is left to this phase.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A piece of it was done, and the next will be within `next_within`: the manager sees that it goes on. For phases that
    /// take longer than 20 s, since some of the manager's clients take one that shows nothing for so long to hang.
    pub fn step(&self, next_within: Duration) {
        (self.step)(next_within);
    }
}

/// How the phases have ended.
#[derive(Debug)]
pub struct Ended {
    phases: Vec<PhaseEnd>,
}

/// How one phase has ended.
#[derive(Debug)]
pub struct PhaseEnd {
    /// Its name.
    pub name: String,
    /// How long it took, or was waited for.
    pub took: Duration,
    /// How.
    pub outcome: Outcome,
}

/// How a phase has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// With these words, a panic's among them.
    Failed(String),
    /// It did not end in its time; its thread was left behind, and ends with the process.
    Hung,
    /// No time was left for it, so it did not begin.
    NotBegun,
}

impl Shutdown {
    /// Nothing is to be done yet.
    #[must_use]
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Adds a phase. Phases run in the order of their numbers; those with the same number run side by side. Each has a thread
    /// of its own, on which it may block; in a tokio program `Handle::block_on` there.
    ///
    /// `within` counts from the phase's begin, and the deadline of the whole stop holds beside it.
    pub fn phase(
        &self,
        name: impl Into<String>,
        order: u32,
        within: Duration,
        work: impl FnOnce(&PhaseStep) -> Result<(), Failure> + Send + 'static,
    ) {
        let phase = Phase { name: name.into(), order, within, work: Box::new(work) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(phase);
    }

    /// Runs the phases without telling a manager: [`crate::Stopping::run`] is the usual way.
    pub fn run(&self, stop: Stop) -> Ended {
        self.run_telling(stop, Arc::new(|_| {}), &|_| {})
    }

    /// `step` tells the manager of progress, `tell` says what has gone wrong, when it does.
    pub(crate) fn run_telling(&self, stop: Stop, step: Step, tell: &dyn Fn(&str)) -> Ended {
        let mut phases = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        phases.sort_by_key(|phase| phase.order);
        let mut ended = Vec::new();
        let mut phases = phases.into_iter().peekable();
        while let Some(order) = phases.peek().map(|phase| phase.order) {
            let mut group = Vec::new();
            while let Some(phase) = phases.next_if(|phase| phase.order == order) {
                group.push(phase);
            }
            for end in run_group(group, stop, &step, tell) {
                if let Outcome::Failed(_) | Outcome::NotBegun = end.outcome {
                    tell(&end.to_string());
                }
                ended.push(end);
            }
        }
        Ended { phases: ended }
    }
}

/// A phase of the present group.
struct Going {
    name: String,
    begun: Instant,
    deadline: Instant,
    end: Option<(Duration, Outcome)>,
}

fn run_group(group: Vec<Phase>, stop: Stop, step: &Step, tell: &dyn Fn(&str)) -> Vec<PhaseEnd> {
    let begun = Instant::now();
    // One message for each phase at most.
    let (sender, ends) = mpsc::sync_channel(group.len());
    let mut going: Vec<Going> = Vec::new();
    let longest = group.iter().map(|phase| phase.within).max().unwrap_or_default();
    step(longest.min(stop.deadline.saturating_duration_since(begun)));
    for (index, phase) in group.into_iter().enumerate() {
        let deadline = (begun + phase.within).min(stop.deadline);
        let mut this = Going { name: phase.name, begun, deadline, end: None };
        if deadline <= begun {
            this.end = Some((Duration::ZERO, Outcome::NotBegun));
        } else {
            let (sender, given) = (sender.clone(), PhaseStep { deadline, step: step.clone() });
            let work = phase.work;
            let run = move || {
                let _ = sender.send((index, outcome(work, &given)));
            };
            if let Err(error) = thread::Builder::new().name(this.name.clone()).spawn(run) {
                let text = format!("no thread could be started for it: {error}");
                this.end = Some((Duration::ZERO, Outcome::Failed(text)));
            }
        }
        going.push(this);
    }
    loop {
        let now = Instant::now();
        for this in going.iter_mut().filter(|this| this.end.is_none() && this.deadline <= now) {
            this.end = Some((now - this.begun, Outcome::Hung));
            tell(&format!("{} hangs: it did not end within {:.1?}", this.name, this.deadline - this.begun));
        }
        let left = || going.iter().filter(|this| this.end.is_none()).map(|this| this.deadline);
        let (Some(next), Some(last)) = (left().min(), left().max()) else {
            break;
        };
        match ends.recv_timeout(next - now) {
            Ok((index, outcome)) => {
                let this = &mut going[index];
                // One that was given up may end after all; what was told of it stands.
                this.end.get_or_insert((this.begun.elapsed(), outcome));
                if going.iter().any(|this| this.end.is_none()) {
                    step(last - now);
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    let end = |this: Going| {
        let (took, outcome) = this.end.unwrap_or((Duration::ZERO, Outcome::NotBegun));
        PhaseEnd { name: this.name, took, outcome }
    };
    going.into_iter().map(end).collect()
}

fn outcome(work: Work, given: &PhaseStep) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| work(given))) {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(failure)) => Outcome::Failed(failure.to_string()),
        Err(panic) => Outcome::Failed(format!("it panicked: {}", panic_text(panic.as_ref()))),
    }
}

impl Ended {
    /// All phases, in the order in which they have run.
    #[must_use]
    pub fn phases(&self) -> &[PhaseEnd] {
        &self.phases
    }

    /// A failure that names every phase that did not end as it should.
    ///
    /// # Errors
    /// When there is one.
    pub fn check(&self) -> Result<(), Failure> {
        let bad = self.phases.iter().filter(|phase| phase.outcome != Outcome::Done);
        let texts: Vec<String> = bad.map(ToString::to_string).collect();
        if texts.is_empty() { Ok(()) } else { Err(Failure::new(texts.join("; "))) }
    }
}

impl fmt::Display for PhaseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Done => write!(f, "{}: done in {:.1?}", self.name, self.took),
            Outcome::Failed(text) => write!(f, "{}: {text}", self.name),
            Outcome::Hung => write!(f, "{}: did not end within {:.1?}", self.name, self.took),
            Outcome::NotBegun => write!(f, "{}: did not begin, since no time was left", self.name),
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_list().entries(phases.iter().map(|phase| (phase.order, &phase.name))).finish()
    }
}

impl fmt::Debug for PhaseStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhaseStep").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::token::Cause;

    fn stop(within: Duration) -> Stop {
        Stop { cause: Cause::Stop, deadline: Instant::now() + within }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn phases_run_in_their_order_whatever_the_order_of_their_adding() {
        let (shutdown, order) = (Shutdown::new(), Arc::new(Mutex::new(Vec::new())));
        for number in [30, 10, 20] {
            let order = order.clone();
            shutdown.phase(format!("phase {number}"), number, LONG, move |_| {
                order.lock().unwrap().push(number);
                Ok(())
            });
        }
        let ended = shutdown.run(stop(LONG));
        assert_eq!(*order.lock().unwrap(), [10, 20, 30]);
        ended.check().unwrap();
        assert!(shutdown.run(stop(LONG)).phases().is_empty(), "each runs once");
    }

    #[test]
    fn phases_of_the_same_number_run_side_by_side() {
        let (shutdown, both) = (Shutdown::new(), Arc::new(Barrier::new(2)));
        for name in ["a", "b"] {
            let both = both.clone();
            shutdown.phase(name, 1, LONG, move |_| {
                both.wait();
                Ok(())
            });
        }
        shutdown.run(stop(LONG)).check().unwrap();
    }

    #[test]
    fn a_phase_that_hangs_is_named_and_the_next_one_runs() {
        let shutdown = Shutdown::new();
        let (_keep, never) = mpsc::channel::<()>();
        shutdown.phase("database", 1, Duration::from_millis(30), move |_| {
            let _ = never.recv();
            Ok(())
        });
        shutdown.phase("cache", 2, LONG, |_| Ok(()));
        let told = Mutex::new(Vec::new());
        let ended = shutdown.run_telling(stop(LONG), Arc::new(|_| {}), &|text| {
            told.lock().unwrap().push(text.to_owned());
        });
        assert_eq!(ended.phases()[0].outcome, Outcome::Hung);
        assert_eq!(ended.phases()[1].outcome, Outcome::Done);
        assert_eq!(*told.lock().unwrap(), ["database hangs: it did not end within 30.0ms"]);
        assert!(ended.check().unwrap_err().to_string().starts_with("database: did not end within"));
    }

    #[test]
    fn a_phase_that_fails_or_panics_is_told_and_the_rest_runs() {
        let shutdown = Shutdown::new();
        shutdown.phase("flush", 1, LONG, |_| Err(Failure::new("the disk is full")));
        shutdown.phase("close", 2, LONG, |_| panic!("twice closed"));
        let text = shutdown.run(stop(LONG)).check().unwrap_err().to_string();
        assert_eq!(text, "flush: the disk is full; close: it panicked: twice closed");
    }

    #[test]
    fn the_deadline_of_the_whole_holds_for_each_phase() {
        let shutdown = Shutdown::new();
        let (_keep, never) = mpsc::channel::<()>();
        shutdown.phase("first", 1, LONG, move |_| {
            let _ = never.recv();
            Ok(())
        });
        shutdown.phase("second", 2, LONG, |_| Ok(()));
        let ended = shutdown.run(stop(Duration::from_millis(30)));
        let outcomes: Vec<&Outcome> = ended.phases().iter().map(|phase| &phase.outcome).collect();
        assert_eq!(outcomes, [&Outcome::Hung, &Outcome::NotBegun]);
    }

    #[test]
    fn each_begin_and_each_end_is_a_step_and_so_is_what_a_phase_says() {
        let (shutdown, steps) = (Shutdown::new(), Arc::new(Mutex::new(Vec::new())));
        shutdown.phase("drain", 1, LONG, |phase| {
            phase.step(Duration::from_secs(7));
            Ok(())
        });
        shutdown.phase("close", 2, Duration::from_secs(5), |_| Ok(()));
        let counted = steps.clone();
        let step = move |next: Duration| counted.lock().unwrap().push(next.as_secs_f64().round());
        shutdown.run_telling(stop(LONG), Arc::new(step), &|_| {});
        assert_eq!(*steps.lock().unwrap(), [60.0, 7.0, 5.0]);
    }
}
