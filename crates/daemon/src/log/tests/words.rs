//! What is read back: tails, times, lines that mean ready.

use std::thread;

use keepwell_core::{RunId, Wall};
use keepwell_os::clock;
use regex_lite::Regex;

use super::*;
use crate::log::Sign;

fn texts(lines: &[keepwell_sdk::wire::LogLine]) -> Vec<&str> {
    lines.iter().map(|l| l.line.as_str()).collect()
}

#[test]
fn the_last_lines_come_from_several_files_if_need_be() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 1000, 50));
    for n in 0..200 {
        writeln!(write, "line {n}").unwrap();
    }
    bench.flush(1);
    assert!(files(&bench.path("web.log")).len() > 1);
    let hub = bench.hub();
    assert_eq!(texts(&hub.tail(1, Some(2), None)), ["line 198", "line 199"]);
    let all = hub.tail(1, Some(200), None);
    assert_eq!((all.len(), all[0].line.as_str()), (200, "line 0"));
    assert_eq!(hub.tail(1, None, None), all);
    assert_eq!(hub.tail(1, Some(500), None), all);
    assert!(hub.tail(1, Some(0), None).is_empty() && hub.tail(9, None, None).is_empty());
    for n in 1..200 {
        assert_eq!(hub.tail(1, Some(n), None), all[200 - n..], "{n}");
    }
    assert!(all.iter().all(|l| l.service == "s1" && l.stream == "out" && !l.partial && !l.note));
}

#[test]
fn a_large_answer_is_cut_to_its_newest_part() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 4 << 20, 50));
    write.write_all(&numbered(0, 300_000)).unwrap();
    bench.flush(1);
    let lines = bench.hub().tail(1, None, None);
    let bytes: usize = lines.iter().map(|l| l.line.len() + 1).sum();
    let limit = usize::try_from(crate::log::TAIL_LIMIT).unwrap();
    assert!(bytes <= limit && bytes > limit - 1000, "{bytes}");
    assert!(lines.last().unwrap().line.starts_with("299999 "));
}

#[test]
fn since_finds_the_second() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 600, 50));
    let (mut times, mut written) = (Vec::new(), Wall(0));
    for n in 0..3 {
        times.push(clock::wall());
        for m in 0..20 {
            writeln!(write, "{n} {m}").unwrap();
        }
        bench.flush(1);
        written = clock::wall();
        thread::sleep(Duration::from_millis(1500));
    }
    let hub = bench.hub();
    let since = |at: Wall| hub.tail(1, None, Some(at)).len();
    assert_eq!(since(Wall(times[0].0 - 5000)), 60);
    assert_eq!(since(times[1]), 40);
    assert_eq!(since(Wall(times[2].0 - 100)), 20);
    assert_eq!(since(Wall(written.0 + 1200)), 0);
    assert_eq!(texts(&hub.tail(1, Some(1), Some(times[0]))), ["2 19"]);
    // Without the index all of a file that was written since then is given.
    for file in files(&bench.path("web.log")) {
        let _ = fs::remove_file(format!("{}.idx", file.display()));
    }
    assert!(since(times[1]) >= 40);
}

#[test]
fn several_services_come_in_the_order_of_time() {
    let bench = Bench::new();
    let (mut a, _a) = bench.open(1, bench.spec("a.log", 0, 0));
    let (mut b, _b) = bench.open(2, bench.spec("b.log", 0, 0));
    a.write_all(b"first\n").unwrap();
    bench.flush(1);
    thread::sleep(Duration::from_millis(1100));
    b.write_all(b"second\n").unwrap();
    bench.flush(2);
    thread::sleep(Duration::from_millis(1100));
    a.write_all(b"third\n").unwrap();
    bench.flush(1);
    assert_eq!(texts(&bench.hub().tail_many(&[1, 2], None, None)), ["first", "second", "third"]);
    assert_eq!(texts(&bench.hub().tail_many(&[2, 1], Some(1), None)), ["second", "third"]);
}

#[test]
fn two_files_give_so_many_lines_in_all() {
    let bench = Bench::new();
    let (out, write) = pipe::pipe().unwrap();
    let (err, write_err) = pipe::pipe().unwrap();
    let spec = LogSpec { error_file: Some(bench.path("web.err")), ..bench.spec("web.log", 0, 0) };
    bench.hub().open(1, "web".to_owned(), spec, out, Some(err));
    let (mut write, mut write_err) = (File::from(write), File::from(write_err));
    let long = "x".repeat(100_000);
    writeln!(write, "o1\no2\no3").unwrap();
    bench.flush(1);
    thread::sleep(Duration::from_millis(1100));
    writeln!(write_err, "e1\ne2\n{long}").unwrap();
    bench.flush(1);
    thread::sleep(Duration::from_millis(1100));
    writeln!(write, "o4").unwrap();
    bench.flush(1);
    let hub = bench.hub();
    let begins = |lines: &[keepwell_sdk::wire::LogLine]| -> Vec<String> {
        lines.iter().map(|l| l.line.chars().take(2).collect()).collect()
    };
    let all = ["o1", "o2", "o3", "e1", "e2", "xx", "xx", "o4"];
    assert_eq!(begins(&hub.tail(1, None, None)), all);
    for (lines, from) in [(1, 7), (2, 5), (3, 4), (4, 3), (5, 2), (7, 0), (9, 0)] {
        assert_eq!(begins(&hub.tail(1, Some(lines), None)), all[from..], "{lines}");
    }
    assert!(hub.tail(1, Some(0), None).is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut followed = Vec::new();
    runtime.block_on(async {
        let mut lines = hub.follow(vec![1], Some(3), None);
        bench.hub().close(1);
        while let Some(line) = lines.recv().await {
            followed.push(line);
        }
    });
    assert_eq!(begins(&followed), all[4..]);
}

fn matched(bench: &Bench, run: u64) -> bool {
    bench.news.all().contains(&LogNews::Matched { run: RunId(run) })
}

#[test]
fn a_line_that_means_ready_is_told_once_and_only_if_it_is_new() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 500, 100));
    let pattern = || Regex::new("^listening on port [0-9]+$").unwrap();
    write.write_all(b"listening on port 1\n").unwrap();
    bench.hub().watch_line(1, RunId(7), pattern());
    bench.flush(1);
    assert!(!matched(&bench, 7));
    write.write_all(&numbered(0, 100)).unwrap();
    write.write_all(b"listening on ").unwrap();
    bench.flush(1);
    assert!(!matched(&bench, 7));
    write.write_all(b"port 80\nlistening on port 81\n").unwrap();
    bench.news.wait_for(|n| *n == LogNews::Matched { run: RunId(7) });
    bench.hub().watch_line(1, RunId(8), pattern());
    bench.hub().unwatch_line(RunId(8));
    write.write_all(b"listening on port 82\n").unwrap();
    bench.flush(1);
    assert!(!matched(&bench, 8));
    assert_eq!(bench.news.all().len(), 1);
}

#[test]
fn a_line_that_a_check_looks_for_leaves_a_trace_each_time() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 500, 100));
    let now = || keepwell_os::clock::now().mono;
    let sign = Arc::new(Sign::new(now()));
    bench.hub().watch_sign(1, RunId(7), Regex::new("^did [0-9]+ jobs$").unwrap(), Arc::clone(&sign));
    write.write_all(b"did no jobs\n").unwrap();
    bench.flush(1);
    assert_eq!(sign.age(now()), None);
    // The time of a line is that of the turn that reads it, which may have begun a little before the line was written.
    let came = || {
        let now = now();
        Some(sign.watched(now) - sign.age(now)?)
    };
    let mut last = None;
    for n in 0..3 {
        let begin = std::time::Instant::now();
        while came() <= last {
            assert!(begin.elapsed().as_secs() < 30, "line {n} leaves no trace");
            write.write_all(format!("did {n} jobs\n").as_bytes()).unwrap();
            bench.flush(1);
        }
        last = came();
    }
    assert!(bench.news.all().is_empty());
    bench.hub().unwatch_line(RunId(7));
    write.write_all(b"did 9 jobs\n").unwrap();
    bench.flush(1);
    assert_eq!(Arc::strong_count(&sign), 1, "nobody watches any more");
}

#[test]
fn a_line_in_the_pipe_at_the_call_is_another_run_s() {
    let bench = Bench::new();
    // While the hub is kept busy by a flood, the old line is likely to be in the pipe still.
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 0, 0));
    for n in 0..200 {
        write.write_all(b"ready\n").unwrap();
        bench.hub().watch_line(1, RunId(n), Regex::new("ready").unwrap());
        bench.flush(1);
        assert!(!matched(&bench, n), "{n}");
        bench.hub().unwatch_line(RunId(n));
    }
}

#[test]
fn a_ready_line_in_a_flood_is_found() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 1 << 20, 2));
    bench.hub().watch_line(1, RunId(7), Regex::new("^needle 77$").unwrap());
    write.write_all(&numbered(0, 100_000)).unwrap();
    write.write_all(b"needle 77\n").unwrap();
    write.write_all(&numbered(0, 100_000)).unwrap();
    bench.news.wait_for(|n| *n == LogNews::Matched { run: RunId(7) });
}
