//! Places in a tree that no kill has spoilt.
//!
//! Kernels that count the kills of a group (Linux 6.14, seen on 6.18) kill a process at its birth (`CLONE_INTO_CGROUP`) in
//! a group that was ever killed through `cgroup.kill`: they compare that group's count with the one of its parent's group
//! instead of with itself. So after a kill the next process is born in a new group below the tree's: limits, counts and
//! kills of the tree hold for it all the same. Where the kernel has no such fault nothing is made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Of all trees, by the number of their directory.
#[derive(Debug, Default)]
pub struct Fresh {
    /// A child was killed at birth here.
    faulty: bool,
    places: BTreeMap<u64, Place>,
}

#[derive(Debug, Default)]
struct Place {
    number: u32,
    dir: Option<OwnedFd>,
    spent: bool,
}

impl Fresh {
    /// The tree was killed.
    pub fn killed(&mut self, tree: BorrowedFd<'_>) {
        if self.faulty {
            self.spend(tree);
        }
    }

    /// A child was killed at birth in this tree: now it is known.
    pub fn spoilt(&mut self, tree: BorrowedFd<'_>) {
        self.faulty = true;
        self.spend(tree);
    }

    /// Where in this tree the next process is to be born.
    ///
    /// # Errors
    /// When a new place cannot be made.
    pub fn place<'a>(&'a mut self, tree: BorrowedFd<'a>) -> io::Result<BorrowedFd<'a>> {
        if self.places.is_empty() {
            return Ok(tree);
        }
        let Some(place) = number(tree).and_then(|n| self.places.get_mut(&n)) else { return Ok(tree) };
        if place.spent {
            let folder = |number| path(tree).join(format!("run-{number}"));
            // Empty by now, or removed with the tree at the end.
            let _ = fs::remove_dir(folder(place.number));
            place.number += 1;
            match fs::create_dir(folder(place.number)) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            place.dir = Some(File::open(folder(place.number))?.into());
            place.spent = false;
        }
        Ok(place.dir.as_ref().map_or(tree, AsFd::as_fd))
    }

    /// The tree is let go.
    pub fn forget(&mut self, tree: BorrowedFd<'_>) {
        if let Some(number) = number(tree) {
            self.places.remove(&number);
        }
    }

    fn spend(&mut self, tree: BorrowedFd<'_>) {
        if let Some(number) = number(tree) {
            self.places.entry(number).or_default().spent = true;
        }
    }
}

fn path(tree: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()))
}

fn number(tree: BorrowedFd<'_>) -> Option<u64> {
    fs::metadata(path(tree)).map(|m| m.ino()).ok()
}
