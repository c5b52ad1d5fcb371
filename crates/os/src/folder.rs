//! What a folder takes of its disk.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::system::files::{Extent, extent};

/// Beyond this many files a folder is too large to be looked at again and again.
const MOST: usize = 10_000_000;

/// What all files in a folder and below it take of its disk, in bytes: one with several names counts once, links are not
/// followed, other file systems are left out, and what may not be looked at counts nothing. It takes as long as there are
/// files.
///
/// # Errors
/// When the folder cannot be read, or has more than ten million files.
pub fn disk_use(folder: &Path) -> io::Result<u64> {
    let Extent { bytes, device, .. } = extent(&fs::metadata(folder)?);
    let (mut sum, mut files, mut seen) = (bytes, 0_usize, BTreeSet::new());
    let mut open = vec![fs::read_dir(folder)?];
    while let Some(entries) = open.last_mut() {
        let Some(entry) = entries.next() else {
            open.pop();
            continue;
        };
        files += 1;
        if files > MOST {
            return Err(io::Error::other("there are too many files"));
        }
        let Some((entry, metadata)) = entry.ok().and_then(|e| e.metadata().ok().map(|m| (e, m))) else {
            continue;
        };
        let extent = extent(&metadata);
        if extent.device != device || extent.shared.is_some_and(|file| !seen.insert(file)) {
            continue;
        }
        sum = sum.saturating_add(extent.bytes);
        if metadata.is_dir() {
            open.extend(fs::read_dir(entry.path()));
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_takes_what_is_in_it_and_below() {
        let dir = tempfile::tempdir().unwrap();
        let empty = disk_use(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/one"), vec![1; 300_000]).unwrap();
        let one = disk_use(dir.path()).unwrap() - empty;
        assert!((300_000..400_000).contains(&one), "{one}");
        assert!(disk_use(&dir.path().join("none")).is_err());
    }
}
