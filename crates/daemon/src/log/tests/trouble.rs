//! Disks that are full, and files that are none.

use keepwell_core::RunId;

use super::*;
use crate::log::RING;

fn told(news: &News, words: &str) {
    news.wait_for(|n| matches!(n, LogNews::Told { text, .. } if text.contains(words)));
}

/// Puts a device that is always full at `path`.
fn link_to_full(path: &Path) {
    assert!(Command::new("ln").args(["-s", "/dev/full"]).arg(path).status().unwrap().success());
}

/// `/dev/full` under the log's name refuses every byte; a file there again takes them.
#[test]
fn a_full_disk_keeps_then_counts_and_never_blocks() {
    let bench = Bench::new();
    let path = bench.path("web.log");
    link_to_full(&path);
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 0, 0));
    let text = numbered(0, 40_000);
    assert!(text.len() > 2 * RING);
    write.write_all(&text).unwrap();
    bench.flush(1);
    told(&bench.news, "no space left on device; it is kept in memory");
    bench.hub().change(1, bench.spec("real.log", 0, 0));
    bench.flush(1);
    write.write_all(b"and on\n").unwrap();
    bench.flush(1);
    let log = whole(&bench.path("real.log"));
    assert!(log[..RING] == text[..RING]);
    let rest = String::from_utf8(log[RING..].to_vec()).unwrap();
    let dropped = text.len() - RING;
    assert!(
        rest.trim_start()
            .starts_with(&format!("[keepwell] {dropped} bytes of output were dropped here: no space"))
    );
    assert!(rest.ends_with("\nand on\n"), "{rest}");
}

/// A small file system of its own, where the host lets us have one.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Option<Small> {
        fs::create_dir(&at).unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output().ok()?;
        mounted.status.success().then_some(Small(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_gets_room_again_has_every_byte_or_its_count() {
    let bench = Bench::new();
    let Some(small) = Small::mount(bench.path("small"), "1m") else {
        eprintln!("no file system can be mounted here; the same is tested with /dev/full");
        return;
    };
    fs::write(small.0.join("ballast"), vec![0; 700 << 10]).unwrap();
    let (mut write, _held) = bench.open(1, bench.spec("small/web.log", 0, 0));
    let (mut other, _other) = bench.open(2, bench.spec("other.log", 0, 0));
    // Fits into the ring: nothing may be lost.
    let text = numbered(0, 10_000);
    write.write_all(&text).unwrap();
    bench.flush(1);
    told(&bench.news, "no space left");
    other.write_all(b"nothing of this concerns me\n").unwrap();
    bench.flush(2);
    assert_eq!(whole(&bench.path("other.log")), b"nothing of this concerns me\n");
    fs::remove_file(small.0.join("ballast")).unwrap();
    told(&bench.news, "is written to");
    write.write_all(&numbered(10_000, 10_010)).unwrap();
    bench.flush(1);
    assert_numbered(&whole(&small.0.join("web.log")), 0, 10_010);
    let levels: Vec<Level> = bench.news.told().into_iter().map(|(level, _)| level).collect();
    assert_eq!(levels, [Level::Warn, Level::Info]);
    assert!(bench.news.told()[1].1.ends_with("nothing was lost"));
}

#[test]
fn what_did_not_fit_into_the_ring_is_counted_exactly() {
    let bench = Bench::new();
    let Some(small) = Small::mount(bench.path("small"), "8m") else { return };
    fs::write(small.0.join("ballast"), vec![0; 7 << 20]).unwrap();
    let (mut write, _held) = bench.open(1, bench.spec("small/web.log", 0, 0));
    let text = numbered(0, 60_000);
    write.write_all(&text).unwrap();
    bench.flush(1);
    fs::remove_file(small.0.join("ballast")).unwrap();
    told(&bench.news, "bytes were dropped");
    write.write_all(b"on\n").unwrap();
    bench.flush(1);
    let log = whole(&small.0.join("web.log"));
    let kept = log.iter().zip(&text).take_while(|(a, b)| a == b).count();
    let rest = String::from_utf8(log[kept..].to_vec()).unwrap();
    let count: usize = rest.trim_start().split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(kept + count, text.len(), "{rest}");
    assert!(kept >= RING && rest.ends_with("\non\n"));
    assert_eq!(bench.news.told()[1].0, Level::Warn);
}

/// What was removed must be let go of, or its room would never come back.
#[test]
fn a_log_that_is_removed_from_a_full_disk_makes_room() {
    let bench = Bench::new();
    let Some(small) = Small::mount(bench.path("small"), "1m") else { return };
    let (mut write, _held) = bench.open(1, bench.spec("small/web.log", 0, 0));
    let text = numbered(0, 20_000);
    write.write_all(&text).unwrap();
    bench.flush(1);
    told(&bench.news, "no space left");
    let before = fs::read(small.0.join("web.log")).unwrap();
    fs::remove_file(small.0.join("web.log")).unwrap();
    told(&bench.news, "nothing was lost");
    write.write_all(b"on\n").unwrap();
    bench.flush(1);
    let after = whole(&small.0.join("web.log"));
    assert!(before.len() > 500_000 && after.ends_with(b"\non\n"));
    assert_numbered(&[&before, &after[..after.len() - 3]].concat(), 0, 20_000);
}

#[test]
fn a_log_that_is_emptied_on_a_full_disk_goes_on_at_its_new_end() {
    let bench = Bench::new();
    let Some(small) = Small::mount(bench.path("small"), "1m") else { return };
    let (mut write, _held) = bench.open(1, bench.spec("small/web.log", 0, 0));
    write.write_all(&numbered(0, 20_000)).unwrap();
    bench.flush(1);
    told(&bench.news, "no space left");
    let before = fs::read(small.0.join("web.log")).unwrap();
    File::create(small.0.join("web.log")).unwrap();
    told(&bench.news, "nothing was lost");
    bench.flush(1);
    assert_numbered(&[before, whole(&small.0.join("web.log"))].concat(), 0, 20_000);
}

/// The same where no file system can be mounted.
#[test]
fn a_retry_finds_what_has_the_name_now() {
    let bench = Bench::new();
    let path = bench.path("web.log");
    link_to_full(&path);
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 0, 0));
    write.write_all(b"of the first\n").unwrap();
    bench.flush(1);
    bench.hub().run_started(1, RunId(1));
    write.write_all(b"of the second\n").unwrap();
    bench.hub().run_ended(1, RunId(1));
    write.write_all(b"of a hook\n").unwrap();
    bench.flush(1);
    told(&bench.news, "no space left");
    assert!(bench.hub().last_words(1, 9).is_empty());
    fs::remove_file(&path).unwrap();
    told(&bench.news, "nothing was lost");
    assert_eq!(whole(&path), b"of the first\nof the second\nof a hook\n");
    assert_eq!(bench.hub().last_words(1, 9), ["of the second"]);
}

#[test]
fn a_path_that_can_hold_no_log_is_refused_in_words_and_blocks_nobody() {
    let bench = Bench::new();
    let path = bench.path("odd");
    match SYSTEM {
        System::Unix => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
        System::Windows => fs::create_dir(&path).unwrap(),
    }
    let (mut write, _held) = bench.open(1, bench.spec("odd", 0, 0));
    write.write_all(&numbered(0, 30_000)).unwrap();
    bench.flush(1);
    told(&bench.news, "odd: it is neither a regular file nor a character device");
    assert!(bench.hub().tail(1, None, None).is_empty());
    bench.hub().close(1);
    told(&bench.news, "bytes of its output were lost");
}

#[test]
fn dev_null_takes_all_and_its_lines_are_seen() {
    let bench = Bench::new();
    let file = PathBuf::from(match SYSTEM {
        System::Unix => "/dev/null",
        System::Windows => r"\\.\NUL",
    });
    let spec = LogSpec { file: file.clone(), error_file: None, rotate_size: 100, keep: 3 };
    let (mut write, held) = bench.open(1, spec);
    write.write_all(&numbered(0, 10_000)).unwrap();
    bench.flush(1);
    assert_eq!(pipe::available(keepwell_os::AsHandle::as_handle(&held)).unwrap(), 0);
    bench.hub().watch_line(1, RunId(5), regex_lite::Regex::new("^ready$").unwrap());
    write.write_all(b"ready\n").unwrap();
    bench.news.wait_for(|n| *n == LogNews::Matched { run: RunId(5) });
    assert!(bench.hub().tail(1, None, None).is_empty());
    let beside = |ending: &str| PathBuf::from(format!("{}{ending}", file.display())).exists();
    assert!(!beside(".idx") && !beside(".1"));
    assert!(bench.news.told().is_empty());
}

#[test]
fn a_missing_folder_is_made_and_one_that_cannot_be_is_told() {
    let bench = Bench::new();
    fs::write(bench.path("file"), "").unwrap();
    let (mut write, _held) = bench.open(1, bench.spec("file/below/web.log", 0, 0));
    write.write_all(b"kept\n").unwrap();
    told(&bench.news, "cannot be written to");
    fs::remove_file(bench.path("file")).unwrap();
    told(&bench.news, "nothing was lost");
    bench.flush(1);
    assert_eq!(whole(&bench.path("file/below/web.log")), b"kept\n");
}
