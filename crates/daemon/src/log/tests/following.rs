//! Following as it grows.

use std::thread;

use keepwell_sdk::wire::LogLine;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::*;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn next(lines: &mut Receiver<LogLine>) -> Option<LogLine> {
    timeout(LONG, lines.recv()).await.expect("a line in time")
}

#[test]
fn the_last_lines_and_then_what_comes() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 100, 10));
    for n in 0..30 {
        writeln!(write, "old {n}").unwrap();
    }
    bench.flush(1);
    runtime().block_on(async {
        let mut lines = bench.hub().follow(vec![1], Some(2), None);
        let mut fresh = bench.hub().follow(vec![1], Some(0), None);
        let mut all = bench.hub().follow(vec![1], None, None);
        for n in 0..30 {
            writeln!(write, "new {n}").unwrap();
            bench.hub().flush(1).await.unwrap();
        }
        assert_eq!(next(&mut lines).await.unwrap().line, "old 28");
        assert_eq!(next(&mut lines).await.unwrap().line, "old 29");
        for n in 0..30 {
            assert_eq!(next(&mut lines).await.unwrap().line, format!("new {n}"));
            assert_eq!(next(&mut fresh).await.unwrap().line, format!("new {n}"));
        }
        assert_eq!(next(&mut all).await.unwrap().line, "old 0");
        bench.hub().close(1);
        assert!(next(&mut lines).await.is_none());
    });
}

#[test]
fn a_follower_across_rotations_under_load_misses_and_doubles_nothing() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 200_000, 100_000));
    let total = many(200_000);
    let writer = thread::spawn(move || {
        let text = numbered(0, total);
        text.chunks(7001).for_each(|piece| write.write_all(piece).unwrap());
        write
    });
    let text = runtime().block_on(async {
        let mut lines = bench.hub().follow(vec![1], None, None);
        let mut text = Vec::new();
        for _ in 0..total {
            text.extend(next(&mut lines).await.unwrap().line.into_bytes());
            text.push(b'\n');
        }
        text
    });
    writer.join().unwrap();
    assert_numbered(&text, 0, total);
    assert!(files(&bench.path("web.log")).len() as u64 > many(50));
}

#[test]
fn a_slow_follower_slows_nobody_and_is_told_what_it_missed() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 100_000, 2));
    runtime().block_on(async {
        let mut lines = bench.hub().follow(vec![1], Some(0), None);
        writeln!(write, "hello").unwrap();
        assert_eq!(next(&mut lines).await.unwrap().line, "hello");
        let text = numbered(0, 50_000);
        for piece in text.chunks(50_000) {
            write.write_all(piece).unwrap();
            tokio::task::yield_now().await;
        }
        bench.hub().flush(1).await.unwrap();
        let (mut notes, mut last) = (0, None);
        while last != Some(49_999) {
            let line = next(&mut lines).await.unwrap();
            if line.note {
                assert!(line.line.contains("removed by rotation"), "{}", line.line);
                notes += 1;
                continue;
            }
            let n: u64 = line.line.split(' ').next().unwrap().parse().unwrap();
            assert!(last.is_none_or(|last| n > last));
            last = Some(n);
        }
        assert!(notes >= 1, "{:?}", bench.news.told());
    });
}

#[test]
fn many_services_are_followed_with_few_descriptors() {
    alone("following::many_services_are_followed_with_few_descriptors", || {
        let bench = Bench::new();
        let mut writers: Vec<_> =
            (0..100).map(|n| bench.open(n, bench.spec(&format!("{n}.log"), 0, 0))).collect();
        runtime().block_on(async {
            let mut lines = bench.hub().follow((0..100).collect(), Some(0), None);
            bench.hub().flush(99).await.unwrap();
            let before = own::handles();
            for round in 0..3 {
                for (n, (write, _)) in writers.iter_mut().enumerate() {
                    writeln!(write, "{n} {round}").unwrap();
                    let line = next(&mut lines).await.unwrap();
                    assert_eq!((line.line, line.service), (format!("{n} {round}"), format!("s{n}")));
                }
            }
            let after = own::handles();
            assert!(after <= before + 20, "{before} {after}");
            (0..100).for_each(|n| bench.hub().close(n));
            assert!(next(&mut lines).await.is_none());
        });
    });
}

#[test]
fn a_log_that_moves_is_followed_to_its_new_place() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("one.log", 0, 0));
    runtime().block_on(async {
        let mut lines = bench.hub().follow(vec![1], Some(0), None);
        write.write_all(b"one\n").unwrap();
        bench.hub().flush(1).await.unwrap();
        fs::write(bench.path("two.log"), "what was there before\n").unwrap();
        bench.hub().change(1, bench.spec("two.log", 0, 0));
        write.write_all(b"two\n").unwrap();
        assert_eq!(next(&mut lines).await.unwrap().line, "one");
        assert_eq!(next(&mut lines).await.unwrap().line, "two");
    });
}

#[test]
fn a_follower_that_leaves_is_forgotten() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 0, 0));
    runtime().block_on(async {
        drop(bench.hub().follow(vec![1], Some(0), None));
        let shared = bench.hub().0.slot(1).unwrap();
        let began = Instant::now();
        while shared.is_followed() {
            assert!(began.elapsed() < LONG);
            write.write_all(b"x\n").unwrap();
            bench.hub().flush(1).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}
