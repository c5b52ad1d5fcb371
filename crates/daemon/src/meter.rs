//! What services use of the host, read on another thread: a thousand services are some five thousand small files of the
//! kernel, and neither a restart nor another question waits for them.

mod folders;
mod samples;

use std::collections::BTreeMap;
use std::sync::Arc;

use keepwell_config::Profile;
use keepwell_core::Mono;
use keepwell_os::tree::{Batch, TreeDir, TreeRoot, of_process};
use keepwell_os::{Measure, Measures, Members, clock};
use keepwell_sdk::wire;

use crate::errands::Errands;
use crate::evidence::Case;
use crate::figures::Figures;
use crate::message::{EngineHandle, Message, Reply};

pub use samples::{Places, Wanted};

/// Questions that may wait for the figures; who asks beyond them is answered without.
pub const WAITING: usize = 16;

/// A tree to be measured.
pub struct Look {
    /// Which.
    pub tree: Arc<TreeDir>,
    /// Its main process, which tells one run from the next.
    pub main_pid: u32,
    /// Its number with the anchor.
    pub slot: u32,
    /// What the anchor said of it, where it had to be asked.
    pub members: Option<Members>,
}

/// What to look at, and who wants to know.
pub struct Question {
    /// One an instance; `None`: nothing of it runs.
    pub looks: Vec<Option<Look>>,
    /// Who.
    pub asked: Asked,
}

/// See [`Question::asked`].
pub enum Asked {
    /// States that lack only their figures.
    Status {
        /// One a look.
        lines: Vec<wire::Status>,
        /// It is about every instance there is.
        all: bool,
        /// The way back.
        reply: Reply<Vec<wire::Status>>,
    },
    /// The engine, for its guards.
    Usage {
        /// One a look.
        runs: Vec<Wanted>,
        /// What it may cost.
        profile: Profile,
        /// The way back.
        engine: EngineHandle,
    },
    /// The one who takes evidence, who looks for himself; only who is in the tree is asked for.
    Evidence(Box<Case>),
    /// Monitoring, which wants to know it all.
    Figures {
        /// Its services are one a look.
        figures: Box<Figures>,
        /// The way back.
        reply: Reply<Box<Figures>>,
    },
}

impl Asked {
    /// There are more questions than answers.
    pub fn without_figures(self) {
        match self {
            // The states are what matters; who went away does not need them.
            Asked::Status { lines, reply, .. } => drop(reply.send(Ok(lines))),
            // The engine asks again.
            Asked::Usage { .. } => {}
            // The core goes on without when the time is over.
            Asked::Evidence(_) => {}
            Asked::Figures { figures, reply } => drop(reply.send(Ok(figures))),
        }
    }
}

/// Where questions are answered.
pub struct Meter(Errands<Question>);

impl Meter {
    /// Of what lives in these trees.
    #[must_use]
    pub fn new(trees: Arc<TreeRoot>) -> Self {
        let (mut last, mut samples) = (Samples::new(), samples::Samples::default());
        Self(Errands::new("meter", WAITING, move |Question { looks, asked }| match asked {
            Asked::Status { lines, all, reply } => measure(&trees, &mut last, looks, lines, all, reply),
            Asked::Usage { runs, profile, engine } => {
                // All at once: a thousand messages would find no room. Where there is none at all it asks again.
                let taken = samples.take(&trees, runs, looks, profile);
                let _ = engine.send(Message::Usage(taken));
            }
            // The engine gives these to the one who takes evidence.
            Asked::Evidence(_) => {}
            Asked::Figures { mut figures, reply } => {
                fill_in(&trees, &looks, &mut figures);
                // Who went away does not need them.
                let _ = reply.send(Ok(figures));
            }
        }))
    }

    /// Answers with the figures, soon.
    pub fn answer(&self, question: Question) {
        if let Err(q) = self.0.give(question) {
            q.asked.without_figures();
        }
    }
}

/// The processor time that a run had used, and when.
struct Sample {
    main_pid: u32,
    at: Mono,
    cpu_usec: u64,
}

type Samples = BTreeMap<(String, u16), Sample>;

fn measure(
    trees: &TreeRoot,
    last: &mut Samples,
    looks: Vec<Option<Look>>,
    mut lines: Vec<wire::Status>,
    all: bool,
    reply: Reply<Vec<wire::Status>>,
) {
    let (mut samples, batch) = (Samples::new(), Batch::default());
    for (line, look) in lines.iter_mut().zip(looks) {
        let Some(look) = look else { continue };
        let both = Measures::of(&[Measure::Memory, Measure::Cpu]);
        let used = trees.usage(&look.tree, Some(look.main_pid), look.members.as_ref(), both, &batch);
        line.memory_bytes = used.memory_bytes;
        let Some(cpu_usec) = used.cpu_usec else { continue };
        let sample = Sample { main_pid: look.main_pid, at: clock::mono(), cpu_usec };
        let key = (line.name.clone(), line.instance);
        line.cpu_percent = last.get(&key).and_then(|before| percent(before, &sample));
        samples.insert(key, sample);
    }
    // So instances that are gone are forgotten.
    if all {
        last.clear();
    }
    last.append(&mut samples);
    let _ = reply.send(Ok(lines));
}

fn fill_in(trees: &TreeRoot, looks: &[Option<Look>], figures: &mut Figures) {
    let wanted = [Measure::Memory, Measure::Cpu, Measure::Descriptors, Measure::Threads, Measure::Processes];
    let (wanted, batch) = (Measures::of(&wanted), Batch::default());
    for (service, look) in figures.services.iter_mut().zip(looks) {
        let Some(look) = look else { continue };
        service.usage = trees.usage(&look.tree, Some(look.main_pid), look.members.as_ref(), wanted, &batch);
    }
    let own = [("anchor", figures.own.anchor_pid), ("daemon", std::process::id())];
    figures.own.processes = own.map(|(name, pid)| (name, of_process(pid)));
}

/// Share of one processor since the last look at the same run, to a tenth.
fn percent(before: &Sample, after: &Sample) -> Option<f64> {
    if before.main_pid != after.main_pid {
        return None;
    }
    let usec = per_second((before.at, before.cpu_usec), (after.at, after.cpu_usec))?;
    // Tenths of a percent are exact enough in a float.
    Some((usec as f64 / 1000.0).round() / 10.0)
}

/// How much a count has grown, a second.
fn per_second(before: (Mono, u64), after: (Mono, u64)) -> Option<u64> {
    let passed = after.0.since(before.0).as_micros();
    if passed == 0 {
        return None;
    }
    let grown = u128::from(after.1.saturating_sub(before.1));
    u64::try_from(grown * 1_000_000 / passed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(main_pid: u32, seconds: u64, cpu_usec: u64) -> Sample {
        Sample { main_pid, at: Mono(seconds * 1_000_000_000), cpu_usec }
    }

    #[test]
    fn percent_is_of_one_processor_and_of_one_run() {
        let before = sample(7, 10, 1_000_000);
        assert_eq!(percent(&before, &sample(7, 12, 1_500_000)), Some(25.0));
        assert_eq!(percent(&before, &sample(7, 12, 5_000_000)), Some(200.0));
        assert_eq!(percent(&before, &sample(7, 13, 1_000_500)), Some(0.0));
        assert_eq!(percent(&before, &sample(8, 12, 1_500_000)), None, "another run");
        assert_eq!(percent(&before, &sample(7, 10, 1_000_000)), None, "no time has passed");
    }

    #[test]
    fn figures_come_with_the_answer_and_what_is_gone_is_forgotten() {
        let trees = TreeRoot::open(&format!("meter-{}", std::process::id()));
        let pid = std::process::id();
        let mut last = Samples::new();
        last.insert(("gone".into(), 1), sample(1, 0, 0));
        let mut ask = |all| {
            let (reply, mut answer) = tokio::sync::oneshot::channel();
            let lines = vec![wire::Status { name: "web".into(), instance: 1, ..wire::Status::default() }];
            let looks = vec![Some(Look {
                tree: Arc::new(TreeDir::default()),
                main_pid: pid,
                slot: 1,
                members: None,
            })];
            measure(&trees, &mut last, looks, lines, all, reply);
            let lines = answer.try_recv().unwrap().unwrap();
            (lines[0].clone(), last.keys().map(|(name, _)| name.clone()).collect::<Vec<_>>())
        };
        let (first, known) = ask(false);
        assert_eq!(first.cpu_percent, None, "nothing to compare with");
        assert_eq!(known, ["gone", "web"]);
        let (second, known) = ask(true);
        assert!(second.cpu_percent.is_some(), "{second:?}");
        assert_eq!(known, ["web"]);
        trees.close();
    }
}
