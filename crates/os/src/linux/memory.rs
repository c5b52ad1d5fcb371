//! The allocator's habits. A guardian is small and lives long, so what it no longer uses goes back to the host.
#![expect(unsafe_code, reason = "mallopt, malloc_trim and madvise have no safe form in the standard library")]

use std::fs;

/// One arena for all threads (mallopt(3), `M_ARENA_MAX`): the default of eight a processor keeps a share of free memory
/// for each thread that ever allocated. To be called before there are threads. Does nothing where the C library has no
/// such setting.
pub fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: two numbers; a value that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory back to the host (malloc_trim(3)); takes about a millisecond for ten megabytes. Lets go of the
/// program's text too.
pub fn give_back() {
    let_go_of_text();
    #[cfg(target_env = "gnu")]
    // SAFETY: one number; free memory stays usable.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the pages of program text that this process has mapped (madvise(2), `MADV_DONTNEED`). Most of them were needed
/// to start, or for a burst. They stay in the host's page cache as long as it has room, and come back with a minor fault
/// when they are used; those that are not are the host's to take.
pub fn let_go_of_text() {
    for (from, to) in text(&fs::read_to_string("/proc/self/maps").unwrap_or_default()) {
        // SAFETY: the range is one mapping of a file, just read from the kernel. Text is never written, so what is let go
        // of is read again from the file with the same content.
        unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(from), to - from, libc::MADV_DONTNEED) };
    }
}

/// The executable mappings of files in a text of proc_pid_maps(5).
fn text(maps: &str) -> impl Iterator<Item = (usize, usize)> {
    maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, may) = (fields.next()?, fields.next()?);
        // The kernel's own code in every process has no file.
        let inode = fields.nth(2)?;
        let (from, to) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        (may == "r-xp" && inode != "0").then_some((address(from)?, address(to)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_of_files_is_let_go_of() {
        let maps = "\
5581c0000000-5581c0100000 r--p 00000000 fe:00 77   /usr/bin/keepwell
5581c0100000-5581c0500000 r-xp 00100000 fe:00 77   /usr/bin/keepwell
5581c0600000-5581c0700000 rw-p 00600000 fe:00 77   /usr/bin/keepwell
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0    [vdso]
";
        assert_eq!(text(maps).collect::<Vec<_>>(), [(0x5581_c010_0000, 0x5581_c050_0000)]);
    }

    #[test]
    fn a_process_goes_on_after_it_has_let_go_of_its_text() {
        let own = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(text(&own).count() > 0, "this program's text was not found in:\n{own}");
        let words: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        give_back();
        assert_eq!(words.iter().map(|w| w.parse::<u64>().unwrap()).sum::<u64>(), 499_500);
    }
}
