//! How large folders are. A walk through one takes as long as it has files, so it has a thread of its own and is made seldom;
//! between two walks the last one counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keepwell_config::Profile;
use keepwell_core::Mono;
use keepwell_os::{clock, folder};

use crate::errands::Errands;

/// Folders that wait for their walk; one that finds no room waits for the next sample.
const WAITING: usize = 256;
/// A folder that takes long is walked through less often, so that walks never fill more than this part of a thread.
const REST: u32 = 50;

/// All that guards look at.
pub(super) struct Folders {
    known: Arc<Mutex<BTreeMap<PathBuf, Known>>>,
    walks: Errands<PathBuf>,
}

#[derive(Default)]
struct Known {
    /// See [`walk`].
    walked: Option<(Mono, Duration, Option<u64>)>,
    under_way: bool,
    /// It was asked for since the last time that unused ones were forgotten.
    used: bool,
}

impl Default for Folders {
    fn default() -> Self {
        let known: Arc<Mutex<BTreeMap<PathBuf, Known>>> = Arc::default();
        let shared = Arc::clone(&known);
        let walks = Errands::new("folders", WAITING, move |path: PathBuf| {
            let walked = walk(&path);
            if let Some(known) = lock(&shared).get_mut(&path) {
                (known.walked, known.under_way) = (Some(walked), false);
            }
        });
        Self { known, walks }
    }
}

/// When it ended, how long it took, and what it found.
fn walk(path: &Path) -> (Mono, Duration, Option<u64>) {
    let begun = clock::mono();
    let bytes = folder::disk_use(path).ok();
    let ended = clock::mono();
    (ended, ended.since(begun), bytes)
}

impl Folders {
    /// What is known of these; each is looked at again when its time has come, with low overhead by the thread that asks.
    pub(super) fn of(
        &mut self,
        folders: &[(Arc<str>, PathBuf)],
        now: Mono,
        profile: Profile,
    ) -> Vec<(Arc<str>, u64)> {
        // Most guards look at none.
        if folders.is_empty() {
            return Vec::new();
        }
        let mut all = lock(&self.known);
        let found = folders.iter().filter_map(|(name, path)| {
            if !all.contains_key(path) {
                all.insert(path.clone(), Known::default());
            }
            let known = all.get_mut(path)?;
            known.used = true;
            let rests = known.walked.is_some_and(|(at, took, bytes)| {
                // A folder that is not there yet may come at any time, and costs nothing to look for.
                let pause = if bytes.is_some() { profile.dear_every() } else { Duration::ZERO };
                now.since(at) < pause.max(took * REST)
            });
            if !rests && !known.under_way {
                match profile {
                    Profile::Standard => known.under_way = self.walks.give(path.clone()).is_ok(),
                    Profile::LowOverhead => known.walked = Some(walk(path)),
                }
            }
            let bytes = known.walked.and_then(|(_, _, bytes)| bytes)?;
            Some((Arc::clone(name), bytes))
        });
        found.collect()
    }

    /// Those that nobody has asked for since the last time.
    pub(super) fn forget_unused(&mut self) {
        lock(&self.known).retain(|_, known| std::mem::take(&mut known.used) || known.under_way);
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing panics while it is held.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
