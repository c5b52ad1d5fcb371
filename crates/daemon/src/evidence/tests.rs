use super::*;
use keepwell_core::{Mono, Wall};
use keepwell_os::tree::TreeDir;

fn how() -> Evidence {
    Evidence { lines: 20, size: 256 << 10, keep: 3, keep_bytes: 16 << 20, stacks: false, dump: false }
}

fn case(run: u64) -> Case {
    Case {
        run: RunId(run),
        service: "web".into(),
        incident: Some(12),
        at: Now { mono: Mono(5), wall: Wall(1_782_907_200_000) },
        until: Instant::now() + Duration::from_secs(60),
        notes: vec!["it is ended: its live check failed 3 times in a row".into()],
        look: Some(Look {
            tree: Arc::new(TreeDir::default()),
            main_pid: std::process::id(),
            slot: 1,
            members: None,
        }),
        how: how(),
    }
}

fn trees() -> TreeRoot {
    TreeRoot::open(&format!("evidence-{}", std::process::id()))
}

fn log(dir: &Path) -> LogHub {
    LogHub::start(dir, |_| {}).unwrap()
}

#[test]
fn evidence_is_a_private_file_that_says_why_and_what() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let name = take(&folder, &trees(), &log(dir.path()), &case(7)).unwrap();
    assert_eq!(name, "12-web-run7.txt");
    let text = fs::read_to_string(folder.join(&name)).unwrap();
    for part in ["web, run 7, incident 12, 2026-07-01T12:00:00.000Z\n", "== checks", "3 times", "== its tree"]
    {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert!(text.contains(&format!("== process {}", std::process::id())), "{text}");
}

#[test]
fn its_size_and_its_number_have_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let log = log(dir.path());
    for run in 1..=6 {
        take(&folder, &trees(), &log, &case(run)).unwrap();
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    let small = Case { how: Evidence { size: 200, keep_bytes: 1, ..how() }, ..case(9) };
    let name = take(&folder, &trees(), &log, &small).unwrap();
    let text = fs::read_to_string(folder.join(&name)).unwrap();
    assert!(text.len() < 300 && text.ends_with("reached\n"), "{text}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "more bytes than are kept");
}

#[test]
fn what_comes_too_late_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let late = Case { until: Instant::now(), ..case(1) };
    assert!(take(&dir.path().join(FOLDER), &trees(), &log(dir.path()), &late).is_err());
    assert!(!dir.path().join(FOLDER).exists());
}

#[test]
fn the_last_of_a_text_begins_with_a_line() {
    assert_eq!(last_of("one\ntwo\nthree", 100), "one\ntwo\nthree");
    assert_eq!(last_of("one\ntwo\nthree", 7), "three");
    assert_eq!(last_of("a long line alone", 5), "alone");
    assert_eq!(last_of("größe\nx", 4), "x");
}
