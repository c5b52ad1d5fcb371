//! A daemon that goes, and the next that goes on.

use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use keepwell_os::AsHandle;

use super::*;

#[test]
fn the_next_hub_goes_on_where_the_last_was() {
    let mut bench = Bench::new();
    let (read, write) = pipe::pipe().unwrap();
    let mut write = File::from(write);
    let path = bench.path("web.log");
    let total = many(600_000);
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let text = numbered(0, total);
            text.chunks(5003).for_each(|piece| write.write_all(piece).unwrap());
            write
        });
        while !writer.is_finished() {
            bench.hub = None;
            bench.start();
            let spec = bench.spec("web.log", 1 << 20, 1000);
            bench.hub().open(1, "web".to_owned(), spec, read.try_clone().unwrap(), None);
            thread::sleep(Duration::from_millis(7));
        }
        writer.join().unwrap();
    });
    bench.flush(1);
    assert!(files(&path).len() as u64 > many(20));
    assert_numbered(&whole(&path), 0, total);
}

const CHILD: &str = "KEEPWELL_TEST_LOG_FOLDER";

/// The life that the next test ends again and again: the same test in another process.
fn live_until_killed(folder: PathBuf) {
    let hub = LogHub::start(&folder.join("runs"), |_| ()).unwrap();
    let file = folder.join("web.log");
    let spec = LogSpec { file, error_file: None, rotate_size: 1 << 20, keep: 100_000 };
    let read = std::io::stdin().as_handle().try_clone_to_owned().unwrap();
    hub.open(1, "web".to_owned(), spec, read, None);
    thread::sleep(LONG);
}

#[test]
fn kill_minus_nine_under_flood_loses_and_doubles_nothing() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return live_until_killed(PathBuf::from(folder));
    }
    let bench = Bench::new();
    let (read, write) = pipe::pipe().unwrap();
    let mut write = File::from(write);
    let path = bench.path("web.log");
    let over = AtomicBool::new(false);
    let mut survived = 0;
    let total = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut n = 0;
            while !over.load(Relaxed) {
                write.write_all(&numbered(n, n + 2000)).unwrap();
                n += 2000;
                thread::sleep(Duration::from_micros(500));
            }
            n
        });
        for n in 0..many(40) {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "log::tests::rebirth::kill_minus_nine_under_flood_loses_and_doubles_nothing",
                ])
                .env(CHILD, bench.dir.path())
                .stdin(Stdio::from(read.try_clone().unwrap()))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            // A life begins with what it moves, and is ended soon after.
            let before = length(&path);
            eventually("something is moved", || length(&path) > before);
            thread::sleep(Duration::from_millis(n % 7 * 5));
            survived += u32::from(child.try_wait().unwrap().is_some());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        over.store(true, Relaxed);
        let spec = bench.spec("web.log", 1 << 20, 100_000);
        bench.hub().open(1, "web".to_owned(), spec, read.try_clone().unwrap(), None);
        writer.join().unwrap()
    });
    bench.flush(1);
    assert_eq!(survived, 0);
    assert_numbered(&whole(&path), 0, total);
}

/// Of all files of a log.
fn length(log: &Path) -> u64 {
    // One may get another name meanwhile.
    files(log).iter().filter_map(|f| fs::metadata(f).ok()).map(|m| m.len()).sum()
}

#[test]
fn what_the_anchor_drained_comes_first() {
    let bench = Bench::new();
    let (read, write) = pipe::pipe().unwrap();
    let mut write = File::from(write);
    write.write_all(b"in the pipe\n").unwrap();
    bench.hub().prepend(1, 0, b"drained 1\ndra".to_vec(), 0);
    bench.hub().prepend(1, 0, b"ined 2\nhalf a li".to_vec(), 77);
    bench.hub().open(1, "web".to_owned(), bench.spec("web.log", 0, 0), read, None);
    bench.flush(1);
    let text = String::from_utf8(whole(&bench.path("web.log"))).unwrap();
    let note = "[keepwell] 77 bytes of output were dropped here: no daemon was there to write it";
    assert_eq!(text, format!("drained 1\ndrained 2\nhalf a li\n{note}\nin the pipe\n"));
    let lines = bench.hub().tail(1, None, None);
    assert_eq!(lines.iter().map(|l| l.note).collect::<Vec<_>>(), [false, false, false, true, false]);
}
