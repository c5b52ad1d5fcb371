//! Who a guardian's control groups belong to. A living guardian holds a shared lock on its folder, the daemon and the anchor
//! each through a copy of one handle, so a folder that can be locked alone has nobody left: a guardian that was killed and
//! whose state folder is gone never comes back for it, and the next start of any other removes it if it is empty.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::root::remove_tree;

/// A folder is made a moment before it is claimed; nobody judges one as young as this.
const YOUNG: Duration = Duration::from_secs(600);

/// Claims a guardian's folder for as long as any copy of the handle is open. `None`: the kernel would not; then somebody
/// else may remove it while it is empty, and what is started in it next fails once.
pub(super) fn claim(folder: &Path) -> Option<File> {
    let dir = File::open(folder).ok()?;
    dir.try_lock_shared().ok()?;
    Some(dir)
}

/// Removes these folders where they are empty, old enough, and nobody's. `beside`: where each may have a namesake, in the
/// hierarchies of version 1.
pub(super) fn sweep(folders: &[PathBuf], beside: &[&Path]) {
    for folder in folders.iter().filter(|folder| is_abandoned(folder)) {
        remove_tree(folder);
        let Some(name) = folder.file_name().filter(|_| !folder.exists()) else { continue };
        for parent in beside {
            remove_tree(&parent.join(name));
        }
        let mut leaf = name.to_owned();
        leaf.push(".self");
        let _ = fs::remove_dir(folder.with_file_name(leaf));
    }
}

fn is_abandoned(folder: &Path) -> bool {
    let Ok(dir) = File::open(folder) else { return false };
    // A clock that was set back makes it younger than it is, and only delays this.
    let age = dir.metadata().and_then(|m| m.modified()).ok().and_then(|made| made.elapsed().ok());
    if age.is_none_or(|age| age < YOUNG) {
        return false;
    }
    match dir.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}
