//! Where a file ends, and what becomes of it then.

use std::io;
use std::path::Path;

use keepwell_os::files;

use super::WINDOW;
use super::index;
use super::shared::SinkShared;

/// Where in `window`, the next bytes, the file ends; none if all of them go into it. `left` of them fit, `beyond` bytes
/// are in it already that did not fit, and `whole` says whether what is in it ends with a line.
pub(super) fn cut(window: &[u8], left: usize, beyond: u64, whole: impl FnOnce() -> bool) -> Option<usize> {
    if window.len() <= left {
        return None;
    }
    if let Some(end) = window[..left].iter().rposition(|b| *b == b'\n') {
        return Some(end + 1);
    }
    if whole() {
        return Some(0);
    }
    // The line at the end has begun in this file and ends in it too, unless it is too long.
    if let Some(end) = window[left..].iter().position(|b| *b == b'\n') {
        return Some(left + end + 1);
    }
    let beyond = beyond + (window.len() - left) as u64;
    (beyond >= WINDOW as u64).then_some(window.len())
}

/// `file` → `file.1` → … → `file.keep`, each with its index. From the oldest on, so that a kill in between only leaves a
/// gap, which the next rotation fills.
pub(super) fn shift(shared: &SinkShared, keep: u32) -> io::Result<()> {
    let keep = u64::from(keep);
    let last = (1..keep).find(|n| !shared.aside(*n).exists()).unwrap_or(keep);
    for n in (0..last).rev() {
        let (from, to) = (shared.aside(n), shared.aside(n + 1));
        match files::replace(&from, &to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
            Ok(()) => rename_index(&from, &to),
        }
    }
    if keep == 0 {
        match files::remove(&shared.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            // Somebody else was first.
            Err(_) | Ok(()) => {}
        }
        let _ = files::remove(&index::path_of(&shared.path));
    }
    // Left over from a time when more were kept.
    let mut beyond = keep + 1;
    while files::remove(&shared.aside(beyond)).is_ok() {
        let _ = files::remove(&index::path_of(&shared.aside(beyond)));
        beyond += 1;
    }
    Ok(())
}

fn rename_index(from: &Path, to: &Path) {
    let (from, to) = (index::path_of(from), index::path_of(to));
    if files::replace(&from, &to).is_err() {
        // Without one of its own the file must not get that of its predecessor.
        let _ = files::remove(&to);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_move_up_into_a_gap_and_the_last_goes() {
        let dir = tempfile::tempdir().unwrap();
        let shared = SinkShared::new(dir.path().join("web.log"), 3);
        let write = |n: u64, text: &str| fs::write(shared.aside(n), text).unwrap();
        let read = |n: u64| fs::read_to_string(shared.aside(n)).unwrap_or_default();
        for (n, text) in [(0, "new"), (1, "one"), (3, "three"), (4, "four"), (5, "five"), (7, "seven")] {
            write(n, text);
        }
        shift(&shared, 3).unwrap();
        assert_eq!([0, 1, 2, 3, 4, 5, 7].map(read), ["", "new", "one", "three", "", "", "seven"]);
        write(0, "newer");
        shift(&shared, 3).unwrap();
        assert_eq!([0, 1, 2, 3].map(read), ["", "newer", "new", "one"]);
        write(0, "newest");
        shift(&shared, 0).unwrap();
        assert_eq!([0, 1, 2, 3, 7].map(read), ["", "", "", "", "seven"]);
    }

    fn cut_at(window: &str, left: usize, whole: bool) -> Option<usize> {
        cut(window.as_bytes(), left, 0, || whole)
    }

    #[test]
    fn a_file_ends_with_the_last_line_that_fits() {
        assert_eq!(cut_at("one\ntwo\nthree\n", 10, false), Some(8));
        assert_eq!(cut_at("one\ntwo\nthree\n", 8, false), Some(8));
        assert_eq!(cut_at("one\ntwo\n", 8, false), None);
    }

    #[test]
    fn a_line_that_does_not_fit_goes_where_it_began() {
        assert_eq!(cut_at("three\nfour\n", 3, true), Some(0));
        assert_eq!(cut_at("three\nfour\n", 3, false), Some(6));
        assert_eq!(cut_at("three\nfour\n", 0, false), Some(6));
        assert_eq!(cut_at("three", 3, false), None);
    }

    #[test]
    fn only_a_line_without_end_is_cut() {
        let long = vec![b'x'; WINDOW + 5];
        assert_eq!(cut(&long[..WINDOW], 5, 0, || false), None);
        assert_eq!(cut(&long, 5, 0, || false), Some(WINDOW + 5));
        assert_eq!(cut(&long[..10], 0, WINDOW as u64 - 10, || false), Some(10));
    }
}
