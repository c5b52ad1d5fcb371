//! What services with guards use, one sample after the other: rates need the last one, and what is dear to measure is
//! measured seldom.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use keepwell_config::Profile;
use keepwell_core::guard::Usage;
use keepwell_core::{Mono, RunId};
use keepwell_os::tree::{Batch, TreeRoot};
use keepwell_os::{Measure, Measures, clock};

use super::folders::Folders;
use super::{Look, per_second};

/// Folders, as they are written, and where they are.
pub type Places = Arc<[(Arc<str>, PathBuf)]>;

/// A run, and what its guards look at.
pub struct Wanted {
    /// Which.
    pub run: RunId,
    /// Of its processes.
    pub measures: Measures,
    /// And what is in these.
    pub folders: Places,
}

/// What all runs were last.
#[derive(Default)]
pub(super) struct Samples {
    before: BTreeMap<RunId, Before>,
    folders: Folders,
    /// Asked once: a change needs a reboot.
    gui_limits: Option<Option<(u64, u64)>>,
}

/// What one run was last.
struct Before {
    at: Mono,
    cpu_usec: Option<u64>,
    io_bytes: Option<u64>,
    /// And when it was measured.
    pss: Option<(Mono, u64)>,
}

impl Samples {
    /// One sample of each, in their order.
    pub(super) fn take(
        &mut self,
        trees: &TreeRoot,
        runs: Vec<Wanted>,
        looks: Vec<Option<Look>>,
        profile: Profile,
    ) -> Vec<(RunId, Box<Usage>)> {
        let (batch, dear_every) = (Batch::default(), profile.dear_every());
        let gui_limits = *self.gui_limits.get_or_insert_with(|| trees.gui_limits());
        let mut all = BTreeMap::new();
        let mut sample = |(wanted, look): (Wanted, Option<Look>)| {
            let look = look?;
            let before = self.before.get(&wanted.run);
            let now = clock::mono();
            let known_pss = before.and_then(|b| b.pss).filter(|(at, _)| now.since(*at) < dear_every);
            let mut measures = match known_pss {
                Some(_) => wanted.measures.without(Measure::Pss),
                None => wanted.measures,
            };
            if gui_limits.is_some() {
                measures = measures.with(Measure::Gui);
            }
            let used = trees.usage(&look.tree, Some(look.main_pid), look.members.as_ref(), measures, &batch);
            let pss = known_pss.or(used.pss_bytes.map(|bytes| (now, bytes)));
            let rate = |last: fn(&Before) -> Option<u64>, is: Option<u64>| {
                let before = before?;
                per_second((before.at, last(before)?), (now, is?))
            };
            let usage = Usage {
                memory: used.memory_bytes,
                pss: pss.map(|(_, bytes)| bytes),
                // Thousandths of a processor are thousands of its microseconds a second.
                cpu: rate(|b| b.cpu_usec, used.cpu_usec).map(|usec| usec / 1000),
                io: rate(|b| b.io_bytes, used.io_bytes),
                folders: self.folders.of(&wanted.folders, now, profile),
                descriptors: used.descriptors,
                descriptors_of_one: used.descriptors_of_one,
                gdi: used.gdi,
                user: used.user,
                gui_limits,
                threads: used.threads,
                processes: used.processes,
            };
            all.insert(wanted.run, Before { at: now, cpu_usec: used.cpu_usec, io_bytes: used.io_bytes, pss });
            Some((wanted.run, Box::new(usage)))
        };
        let taken = runs.into_iter().zip(looks).filter_map(&mut sample).collect();
        // So runs and folders that are gone are forgotten.
        self.before = all;
        self.folders.forget_unused();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepwell_os::tree::TreeDir;

    fn wanted(measures: &[Measure], folders: &[(Arc<str>, PathBuf)]) -> (Vec<Wanted>, Vec<Option<Look>>) {
        let look =
            Look { tree: Arc::new(TreeDir::default()), main_pid: std::process::id(), slot: 1, members: None };
        let wanted = Wanted { run: RunId(7), measures: Measures::of(measures), folders: folders.into() };
        (vec![wanted], vec![Some(look)])
    }

    #[test]
    fn rates_come_with_the_second_sample_and_folders_when_they_were_walked() {
        let trees = TreeRoot::open(&format!("samples-{}", std::process::id()));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), vec![1; 200_000]).unwrap();
        let folders = [("data".into(), dir.path().to_owned())];
        let mut samples = Samples::default();
        let mut take = |profile| {
            let (runs, looks) = wanted(&[Measure::Cpu], &folders);
            let taken = samples.take(&trees, runs, looks, profile);
            (*taken[0].1).clone()
        };
        let first = take(Profile::Standard);
        assert_eq!((first.cpu, first.memory), (None, None), "nothing to compare with, and not asked for");
        let folder = loop {
            let usage = take(Profile::Standard);
            assert!(usage.cpu.is_some());
            if let [(name, bytes)] = &usage.folders[..] {
                assert_eq!(&**name, "data");
                break *bytes;
            }
        };
        assert!(folder >= 200_000, "{folder}");
        trees.close();
    }

    #[test]
    fn with_low_overhead_the_walk_is_part_of_the_sample() {
        let trees = TreeRoot::open(&format!("low-{}", std::process::id()));
        let dir = tempfile::tempdir().unwrap();
        let (runs, looks) = wanted(&[], &[("data".into(), dir.path().to_owned())]);
        let taken = Samples::default().take(&trees, runs, looks, Profile::LowOverhead);
        assert_eq!(taken[0].1.folders.len(), 1, "{taken:?}");
        trees.close();
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_does_not_run_is_not_measured() {
        let trees = TreeRoot::open(&format!("gone-{}", std::process::id()));
        let mut samples = Samples::default();
        let (runs, looks) = wanted(&[Measure::Memory], &[]);
        assert_eq!(samples.take(&trees, runs, looks, Profile::Standard).len(), 1);
        assert_eq!(samples.before.len(), 1);
        let (runs, _) = wanted(&[Measure::Memory], &[]);
        assert_eq!(samples.take(&trees, runs, vec![None], Profile::Standard), []);
        assert!(samples.before.is_empty());
        trees.close();
    }
}
