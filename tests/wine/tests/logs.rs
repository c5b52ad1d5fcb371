//! Capture, rotation and following of output.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use keepwell_wine::{Guardian, needs_wine, read_lossy, wait_some};

/// Every log file of a service, oldest first.
fn files(g: &Guardian, service: &str) -> Vec<PathBuf> {
    let number = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_prefix(&format!("{service}.log"))?;
        if name.is_empty() { Some(0) } else { name.strip_prefix('.')?.parse::<u32>().ok() }
    };
    let folder = fs::read_dir(g.state("logs")).expect("own folder");
    let mut all: Vec<_> = folder.flatten().filter_map(|e| Some((number(&e.path())?, e.path()))).collect();
    all.sort();
    all.into_iter().rev().map(|(_, path)| path).collect()
}

fn whole(g: &Guardian, service: &str) -> String {
    files(g, service).iter().map(|p| read_lossy(p)).collect()
}

#[test]
fn a_flood_is_captured_whole_and_rotated_by_size_and_count() {
    needs_wine!();
    const BYTES: usize = 12_000_000 / 120 * 120;
    let g = Guardian::up(&format!(
        "[services.all]\ncommand = 'CHILD flood {BYTES}'\nlog = {{ rotate = {{ size = '1MB', keep = 100 }} }}\n\
         [services.few]\ncommand = 'CHILD flood {BYTES}'\nlog = {{ rotate = {{ size = '1MB', keep = 3 }} }}\n"
    ));
    let last = format!("{:012} ", BYTES / 120 - 1);
    g.wait_log("all", &last);
    g.wait_log("few", &last);
    let text = whole(&g, "all");
    assert_eq!(text.len(), BYTES);
    for (n, line) in text.lines().enumerate() {
        assert!(line.starts_with(&format!("{n:012} ")) && line.len() == 119, "line {n} is {line}");
    }
    for path in files(&g, "all").iter().chain(&files(&g, "few")) {
        let size = fs::metadata(path).expect("it was there").len();
        // A line ends where it began.
        assert!(size < 1_000_000 + 120, "{} has {size} bytes", path.display());
    }
    assert_eq!(files(&g, "few").len(), 4);
    g.end();
}

#[test]
fn a_service_that_ends_at_once_keeps_its_last_words() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD flood 1200 --exit 3'\nrestart = 'never'\n[services.b]\ncommand = 'CHILD hang'\n",
    );
    g.wait_for("the end of a", |all| all.iter().any(|s| s.name == "a" && !s.exits.is_empty()));
    g.wait_log("a", "000000000009 ");
    g.cli(&["explain", "a"]).good().says(&["000000000009"]);
    g.end();
}

#[test]
fn following_shows_what_comes_through_a_rotation() {
    needs_wine!();
    let mut g = Guardian::new(
        "[services.a]\ncommand = 'CHILD work w --bursts 1000000 --lines 20 --every 10'\n\
         log = { rotate = { size = '64KiB', keep = 50 } }\n",
    );
    fs::create_dir(g.path("w")).expect("own folder");
    g.start(&["--quiet"]);
    g.wait_answering();
    g.wait_log("a", "line 3 ");
    let mut follow = g
        .command(&["logs", "-f", "-n", "1", "a"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("wine can be started");
    let mut lines = BufReader::new(follow.stdout.take().expect("it is piped")).lines();
    let number = |line: &str| line.split("line ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    let first = wait_some("a line", || number(&lines.next()?.ok()?));
    // 64 KiB hold some 2,700 lines.
    for n in 1..6000 {
        let line = lines.next().expect("it goes on").expect("text");
        assert_eq!(number(&line), Some(first + n), "{line}");
    }
    assert!(files(&g, "a").len() > 2);
    let _ = follow.kill();
    let _ = follow.wait();
    g.end();
}
