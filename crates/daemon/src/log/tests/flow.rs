//! What goes through, and where it is cut.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use keepwell_os::AsHandle;

use keepwell_core::RunId;

use super::*;
use crate::log::WINDOW;

#[test]
fn a_flood_is_all_there_in_order_and_cut_at_lines() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("logs/web.log", 10 << 20, 100));
    let flood = numbered(0, 2_800_000);
    assert!(flood.len() > 150 << 20);
    thread::scope(|scope| {
        scope.spawn(|| flood.chunks(61_111).for_each(|piece| write.write_all(piece).unwrap()));
    });
    bench.flush(1);
    let files = files(&bench.path("logs/web.log"));
    assert!(files.len() > 15, "{}", files.len());
    for file in &files[1..] {
        let text = fs::read(file).unwrap();
        // A line whose beginning was in the file already ends there.
        assert!(text.len() < (10 << 20) + 130 && text.len() > (10 << 20) - 200, "{}", text.len());
        assert_eq!(text.last(), Some(&b'\n'));
    }
    assert!(whole(&files[0]) == flood);
    assert!(bench.news.all().is_empty());
}

#[test]
fn single_lines_rotate_exactly_too() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 4096, 1000));
    let text = numbered(0, 3000);
    for line in text.split_inclusive(|b| *b == b'\n') {
        let (a, b) = line.split_at(line.len() / 2);
        write.write_all(a).unwrap();
        write.write_all(b).unwrap();
    }
    bench.flush(1);
    let files = files(&bench.path("web.log"));
    assert!(files.len() > 40);
    for file in &files[1..] {
        let text = fs::read(file).unwrap();
        // A line whose beginning was in the file already ends there.
        assert!(text.len() < 4096 + 130 && text.ends_with(b"\n"), "{}", text.len());
    }
    assert_numbered(&whole(&files[0]), 0, 3000);
}

#[test]
fn only_so_many_files_are_kept_each_with_its_index() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 10_000, 3));
    write.write_all(&numbered(0, 5000)).unwrap();
    bench.flush(1);
    assert_eq!(files(&bench.path("web.log")).len(), 4);
    let index = |n: &str| bench.path(&format!("web.log{n}.idx")).exists();
    // The newest record waits for a second.
    let begin = Instant::now();
    while !index("") && begin.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(index("") && index(".1") && index(".3") && !index(".4"));
    bench.hub().change(1, bench.spec("web.log", 10_000, 1));
    bench.flush(1);
    write.write_all(&numbered(5000, 6000)).unwrap();
    bench.flush(1);
    assert_eq!(files(&bench.path("web.log")).len(), 2);
    assert!(!index(".2"));
    bench.hub().change(1, bench.spec("web.log", 10_000, 0));
    bench.flush(1);
    write.write_all(&numbered(6000, 7000)).unwrap();
    bench.flush(1);
    assert_eq!(files(&bench.path("web.log")).len(), 1);
    let rest = whole(&bench.path("web.log"));
    assert!(!rest.is_empty() && numbered(6000, 7000).ends_with(&rest));
}

#[test]
fn a_stream_without_newlines_is_cut_by_size_and_loses_nothing() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 10 << 20, 100));
    let piece: Vec<u8> = (0..1 << 20).map(|i: u32| b'a' + (i % 25).to_le_bytes()[0]).collect();
    for _ in 0..64 {
        write.write_all(&piece).unwrap();
    }
    bench.flush(1);
    let files = files(&bench.path("web.log"));
    assert_eq!(files.len(), 7);
    for file in &files[1..] {
        assert_eq!(fs::metadata(file).unwrap().len(), (10 << 20) + WINDOW as u64);
    }
    assert!(whole(&files[0]) == piece.repeat(64));
}

#[test]
fn any_bytes_pass_as_they_are() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 5000, 100));
    let bytes: Vec<u8> =
        (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    write.write_all(&bytes).unwrap();
    bench.flush(1);
    assert!(whole(&bench.path("web.log")) == bytes);
    let lines = bench.hub().tail(1, Some(3), None);
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_flooder_harms_nobody_and_its_pipe_grows() {
    let bench = Bench::new();
    let (mut flooder, held) = bench.open(1, bench.spec("flood.log", 10 << 20, 2));
    let (mut quiet, _) = bench.open(2, bench.spec("quiet.log", 10 << 20, 2));
    let grows = pipe::set_capacity(held.as_handle(), 64 << 10).is_ok();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stops = Stops(&stop);
        scope.spawn(|| {
            let piece = numbered(0, 3000);
            while !stop.load(Relaxed) {
                flooder.write_all(&piece).unwrap();
            }
        });
        for n in 0..50 {
            let began = Instant::now();
            writeln!(quiet, "line {n}").unwrap();
            eventually("the line", || {
                fs::read(bench.path("quiet.log"))
                    .unwrap_or_default()
                    .ends_with(format!("line {n}\n").as_bytes())
            });
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        }
        if grows {
            eventually("a larger pipe", || pipe::capacity(held.as_handle()).unwrap() >= 1 << 20);
        }
    });
    eventually("a small pipe", || pipe::capacity(held.as_handle()).unwrap() == 64 << 10);
}

/// Also when the test fails: else its threads would be waited for in vain.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn two_pipes_go_to_two_files_or_to_one() {
    let bench = Bench::new();
    let ((out, to_out), (err, to_err)) = (pipe::pipe().unwrap(), pipe::pipe().unwrap());
    let (mut to_out, mut to_err) = (File::from(to_out), File::from(to_err));
    let spec = LogSpec { error_file: Some(bench.path("err.log")), ..bench.spec("out.log", 0, 0) };
    bench.hub().open(1, "web".to_owned(), spec, out, Some(err));
    to_out.write_all(b"out 1\n").unwrap();
    to_err.write_all(b"err 1\n").unwrap();
    bench.flush(1);
    assert_eq!(whole(&bench.path("out.log")), b"out 1\n");
    assert_eq!(whole(&bench.path("err.log")), b"err 1\n");
    let streams: Vec<String> = bench.hub().tail(1, None, None).into_iter().map(|l| l.stream).collect();
    assert_eq!(streams, ["out", "err"]);
    bench.hub().change(1, bench.spec("both.log", 0, 0));
    bench.flush(1);
    to_err.write_all(b"err 2\n").unwrap();
    bench.flush(1);
    to_out.write_all(b"out 2\n").unwrap();
    bench.flush(1);
    assert_eq!(whole(&bench.path("both.log")), b"err 2\nout 2\n");
}

#[test]
fn closing_takes_what_is_there_and_lets_go() {
    let bench = Bench::new();
    let (mut write, held) = bench.open(1, bench.spec("web.log", 0, 0));
    let (_, other) = bench.open(2, bench.spec("other.log", 0, 0));
    write.write_all(&numbered(0, 300)).unwrap();
    bench.hub().close(1);
    assert!(bench.hub().settle(LONG));
    drop(other);
    assert_numbered(&whole(&bench.path("web.log")), 0, 300);
    write.write_all(b"for whoever comes next\n").unwrap();
    bench.flush(1);
    assert_eq!(pipe::available(held.as_handle()).unwrap(), 23);
}

#[test]
fn what_was_asked_is_done_even_if_the_path_ends_right_after() {
    let mut bench = Bench::new();
    let writers: Vec<_> = (0..50).map(|n| bench.open(n, bench.spec(&format!("{n}.log"), 0, 0))).collect();
    for (n, (mut write, _)) in (0..50).zip(writers) {
        writeln!(write, "last words of {n}").unwrap();
        bench.hub().close(n);
    }
    bench.hub = None;
    for n in 0..50 {
        assert_eq!(whole(&bench.path(&format!("{n}.log"))), format!("last words of {n}\n").as_bytes());
    }
}

#[test]
fn the_end_of_all_writers_is_no_trouble() {
    alone("flow::the_end_of_all_writers_is_no_trouble", || {
        let bench = Bench::new();
        let (mut write, held) = bench.open(1, bench.spec("web.log", 0, 0));
        write.write_all(b"bye").unwrap();
        drop(write);
        eventually("the last words", || whole(&bench.path("web.log")) == b"bye");
        drop(held);
        bench.flush(1);
        // A thread that spins over a dead pipe would use all of this time.
        let before = own::busy();
        thread::sleep(Duration::from_millis(300));
        assert!(own::busy() - before < Duration::from_millis(100));
    });
}

#[test]
fn a_file_that_somebody_takes_away_is_begun_again() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 0, 0));
    let path = bench.path("web.log");
    write.write_all(b"one\n").unwrap();
    bench.flush(1);
    fs::rename(&path, bench.path("moved")).unwrap();
    thread::sleep(Duration::from_millis(1100));
    write.write_all(b"two\n").unwrap();
    bench.flush(1);
    assert_eq!(fs::read(&path).unwrap(), b"two\n");
    assert_eq!(fs::read(bench.path("moved")).unwrap(), b"one\n");
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    thread::sleep(Duration::from_millis(1100));
    write.write_all(b"three\n").unwrap();
    bench.flush(1);
    assert_eq!(fs::read(&path).unwrap(), b"three\n");
}

#[test]
fn a_file_that_is_emptied_between_two_lines_has_no_hole() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 0, 0));
    let path = bench.path("web.log");
    for n in 0..50 {
        writeln!(write, "before {n}").unwrap();
        bench.flush(1);
        bench.hub().run_started(1, RunId(n));
        // It looks at the file just before it moves what is there; what is emptied in between no look can see.
        bench.flush(1);
        File::create(&path).unwrap();
        writeln!(write, "after {n}").unwrap();
        bench.flush(1);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("after {n}\n"));
        bench.hub().run_ended(1, RunId(n));
        assert_eq!(bench.hub().last_words(1, 5), [format!("after {n}")]);
    }
}

#[test]
fn what_is_idle_makes_no_wake_ups() {
    let bench = Bench::new();
    let writers: Vec<_> = (0..100).map(|n| bench.open(n, bench.spec(&format!("{n}.log"), 0, 0))).collect();
    for (mut write, _) in writers.iter().map(|(w, h)| (w.try_clone().unwrap(), h)) {
        writeln!(write, "hello").unwrap();
    }
    (0..100).for_each(|n| bench.flush(n));
    let switches = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|t| t.unwrap().path());
        let log =
            tasks.into_iter().find(|t| fs::read_to_string(t.join("comm")).is_ok_and(|c| c.trim() == "log"));
        let status = fs::read_to_string(log.unwrap().join("status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    // A second after the first lines their time is written down.
    thread::sleep(Duration::from_millis(1500));
    let before = switches();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(), before);
}

#[test]
fn a_slot_uses_two_descriptors_and_gives_them_back() {
    alone("flow::a_slot_uses_two_descriptors_and_gives_them_back", || {
        let bench = Bench::new();
        let before = own::handles();
        let writers: Vec<_> =
            (0..200).map(|n| bench.open(n, bench.spec(&format!("{n}.log"), 10 << 20, 7))).collect();
        for (n, (mut write, _)) in writers.iter().map(|(w, h)| (w.try_clone().unwrap(), h)).enumerate() {
            writeln!(write, "hello {n}").unwrap();
        }
        for n in 0..200 {
            bench.flush(n);
        }
        // The file and the read end here; this test itself holds the write end and a copy of the read end.
        let open = own::handles() - before;
        assert!(open < 200 * 4 + 30, "{open}");
        drop(writers);
        for n in 0..200 {
            bench.hub().close(n);
        }
        bench.flush(0);
        let left = own::handles();
        assert!(left < before + 40, "{left}, and {before} before");
    });
}
