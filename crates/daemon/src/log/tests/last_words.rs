//! What a run said before it ended, whatever came after.

use std::path::Path;

use keepwell_core::RunId;

use super::*;

fn begins(bench: &Bench, run: u64) {
    bench.hub().run_started(1, RunId(run));
}

fn ends(bench: &Bench, run: u64) {
    bench.hub().run_ended(1, RunId(run));
}

fn words(bench: &Bench) -> Vec<String> {
    // A machine that has much else to do may take longer than the asker waits.
    assert!(bench.hub().settle(LONG));
    bench.hub().last_words(1, 5)
}

#[test]
fn they_are_the_process_s_own() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 0, 0));
    begins(&bench, 1);
    bench.hub().prepend(1, 0, b"early\n".to_vec(), 5);
    write.write_all(b"panic: \xff bad\n\xc3\xa4rger without end").unwrap();
    ends(&bench, 1);
    assert_eq!(bench.hub().last_words(1, 2), ["panic: \u{fffd} bad", "ärger without end"]);
    assert_eq!(words(&bench), ["early", "panic: \u{fffd} bad", "ärger without end"]);
    begins(&bench, 2);
    write.write_all("ä".repeat(5000).as_bytes()).unwrap();
    ends(&bench, 2);
    let last = words(&bench).remove(0);
    assert_eq!(last.chars().count(), 1002);
    assert!(last.ends_with(" …"));
}

#[test]
fn they_are_of_the_last_run_that_ended_while_hooks_and_the_next_attempt_write_on() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 100, 50));
    write.write_all(b"of no run\n").unwrap();
    begins(&bench, 1);
    writeln!(write, "of run 1").unwrap();
    assert!(words(&bench).is_empty(), "nothing has ended yet");
    for n in 1..100 {
        ends(&bench, n);
        writeln!(write, "of a hook").unwrap();
        assert_eq!(words(&bench), [format!("of run {n}")]);
        begins(&bench, n + 1);
        writeln!(write, "of run {}", n + 1).unwrap();
        assert_eq!(words(&bench), [format!("of run {n}")]);
        bench.flush(1);
        assert_eq!(words(&bench), [format!("of run {n}")]);
    }
    for n in 0..30 {
        writeln!(write, "line {n} of a run that rotates").unwrap();
    }
    ends(&bench, 100);
    writeln!(write, "its child that lives on").unwrap();
    ends(&bench, 100);
    for n in 0..30 {
        writeln!(write, "line {n} of a long post_stop hook").unwrap();
    }
    bench.flush(1);
    let all = bench.hub().last_words(1, 100);
    assert_eq!((all.len(), all[0].as_str(), all[31].as_str()), (32, "of run 100", "its child that lives on"));
    begins(&bench, 101);
    ends(&bench, 100);
    ends(&bench, 101);
    assert!(words(&bench).is_empty(), "it said nothing");
}

#[test]
fn a_run_that_wrote_past_the_file_before_its_marks_were_set_keeps_its_words() {
    let bench = Bench::new();
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 200, 8));
    for n in 0..50 {
        begins(&bench, n);
        for line in 0..20 {
            writeln!(write, "run {n} line {line}").unwrap();
        }
        ends(&bench, n);
        for _ in 0..20 {
            writeln!(write, "of a hook").unwrap();
        }
        assert!(bench.hub().settle(LONG));
        let all = bench.hub().last_words(1, 100);
        let expected: Vec<String> = (0..20).map(|line| format!("run {n} line {line}")).collect();
        assert_eq!(all, expected, "{:?}", bench.news.told());
    }
}

#[test]
fn a_file_that_is_truncated_removed_or_changed_takes_its_words_along() {
    let bench = Bench::new();
    let path = bench.path("web.log");
    let (mut write, _held) = bench.open(1, bench.spec("web.log", 0, 3));
    begins(&bench, 1);
    writeln!(write, "gone").unwrap();
    ends(&bench, 1);
    assert_eq!(words(&bench), ["gone"]);
    begins(&bench, 2);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    writeln!(write, "after").unwrap();
    bench.flush(1);
    assert!(words(&bench).is_empty());
    ends(&bench, 2);
    assert_eq!(words(&bench), ["after"]);
    begins(&bench, 3);
    bench.hub().change(1, bench.spec("other.log", 0, 3));
    writeln!(write, "elsewhere").unwrap();
    bench.flush(1);
    assert!(words(&bench).is_empty(), "the old file is left alone");
    ends(&bench, 3);
    assert_eq!(words(&bench), ["elsewhere"]);
    bench.hub().change(1, bench.spec("third.log", 0, 3));
    writeln!(write, "of a hook").unwrap();
    begins(&bench, 4);
    assert!(words(&bench).is_empty());
}

/// Another hub on the same pipe, as a reborn daemon has it.
fn reborn(bench: &mut Bench, held: &Handle, rotate_size: u64) {
    bench.hub = None;
    bench.start();
    let spec = bench.spec("web.log", rotate_size, 50);
    bench.hub().open(1, "s1".to_owned(), spec, held.try_clone().unwrap(), None);
}

#[test]
fn a_reborn_daemon_knows_them() {
    for rotate_size in [0, 150] {
        let mut bench = Bench::new();
        let (mut write, held) = bench.open(1, bench.spec("web.log", rotate_size, 50));
        for n in 1..20 {
            begins(&bench, n);
            writeln!(write, "first of {n}\nlast of {n}").unwrap();
            let own = [format!("first of {n}"), format!("last of {n}")];
            if n % 3 == 0 {
                // It ends while no daemon is there.
                reborn(&mut bench, &held, rotate_size);
            }
            if n % 4 == 0 {
                bench.hub().run_adopted(1, RunId(n));
            }
            ends(&bench, n);
            writeln!(write, "of a hook\nof a hook\nof a hook\nof a hook\nof a hook").unwrap();
            assert_eq!(words(&bench), own);
            reborn(&mut bench, &held, rotate_size);
            assert_eq!(words(&bench), own);
            begins(&bench, n + 1);
            writeln!(write, "of the next").unwrap();
            reborn(&mut bench, &held, rotate_size);
            bench.hub().run_adopted(1, RunId(n + 1));
            assert_eq!(words(&bench), own);
            ends(&bench, n + 1);
        }
    }
}

#[test]
fn marks_that_a_kill_kept_from_being_set_cost_words_and_mix_no_runs() {
    let mut bench = Bench::new();
    let (mut write, held) = bench.open(1, bench.spec("web.log", 0, 0));
    begins(&bench, 1);
    writeln!(write, "of run 1").unwrap();
    bench.flush(1);
    reborn(&mut bench, &held, 0);
    // That run 1 ended and run 2 began is what the killed one did not come to mark.
    writeln!(write, "of run 2").unwrap();
    bench.hub().run_adopted(1, RunId(2));
    ends(&bench, 2);
    assert!(words(&bench).is_empty());
    begins(&bench, 3);
    writeln!(write, "of run 3").unwrap();
    bench.flush(1);
    reborn(&mut bench, &held, 0);
    // Nor that run 3 ended.
    begins(&bench, 4);
    assert_eq!(words(&bench), ["of run 3"]);
    damage(&bench.path("runs"));
    reborn(&mut bench, &held, 0);
    assert!(words(&bench).is_empty());
}

fn damage(runs: &Path) {
    let length = usize::try_from(fs::metadata(runs).unwrap().len()).unwrap();
    fs::write(runs, vec![0xff; length]).unwrap();
}

#[test]
fn a_slot_that_was_closed_leaves_nothing_to_another_of_its_number() {
    let bench = Bench::new();
    let (mut write, held) = bench.open(1, bench.spec("web.log", 0, 0));
    begins(&bench, 1);
    writeln!(write, "of the old").unwrap();
    ends(&bench, 1);
    assert_eq!(words(&bench), ["of the old"]);
    bench.hub().close(1);
    bench.hub().open(1, "s1".to_owned(), bench.spec("web.log", 0, 0), held, None);
    assert!(words(&bench).is_empty());
}
