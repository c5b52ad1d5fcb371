//! gdb, as evidence asks it: stacks and core dumps of what is about to be ended.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use keepwell_e2e::{Guardian, sys};

use crate::guardian;

/// Works until its file is gone. `how`: what is looked at then.
fn sick(how: &str, command: &str) -> Guardian {
    let mut g = guardian(&format!(
        "[healing]\nevidence = {{ {how} }}\n\
         [services.sick]\ncommand = '{command}'\nstop = []\nrestart = {{ delay = '100ms' }}\n\
         live = {{ exec = ['test', '-e', 'fine'], period = '100ms' }}\n"
    ));
    g.write("fine", "");
    g.start(&[]);
    g.wait_answering();
    g
}

/// The evidence of the first run, once it is ended.
fn evidence(g: &Guardian) -> String {
    fs::remove_file(g.path("fine")).expect("it was written");
    let text = g.evidence();
    g.write("fine", "");
    text
}

fn dumps(g: &Guardian) -> Vec<PathBuf> {
    let all = fs::read_dir(g.state("evidence")).expect("it was taken");
    all.flatten().map(|e| e.path()).filter(|p| p.extension().is_none_or(|e| e != "txt")).collect()
}

#[test]
fn it_says_where_all_threads_are_and_writes_a_dump_that_it_can_read() {
    let g = sick("timeout = '1m', stacks = true, dump = true", "CHILD leak 8000000");
    g.wait_log("sick", "holding 7 MiB");
    let first = g.pid("sick");
    let text = evidence(&g);
    for part in [&format!("== stacks of process {first}"), "Thread 1 ", "#0 ", "== dump\n1-sick-run1.dmp"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    let dumps = dumps(&g);
    let [dump] = dumps.as_slice() else { panic!("{dumps:?}") };
    assert_eq!(sys::mode(dump).expect("it is there") & 0o777, 0o600);
    assert!(fs::metadata(dump).expect("it is there").len() > 7 << 20);
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx", "-ex", "bt", "-c"]).arg(dump).arg(keepwell_e2e::testchild());
    let said = g.with_env(&mut gdb).output().expect("gdb runs");
    let said = String::from_utf8_lossy(&said.stdout);
    assert!(said.contains("#0 ") && said.contains("testchild::leak"), "{said}");
    g.end();
}

#[test]
fn gdb_writes_no_more_than_is_kept_and_leaves_no_piece() {
    // The one holds so much, the other only might: gdb writes what is mapped.
    for (command, said, why) in [
        ("CHILD leak 60000000", "holding 57 MiB", "none: the process holds "),
        (
            "CHILD reserve 400000000",
            "reserved 400000000",
            "none: it has more than the 33 MB that a dump may have",
        ),
    ] {
        let g = sick("timeout = '1m', dump = true, keep_size = '32MiB'", command);
        g.wait_log("sick", said);
        let text = evidence(&g);
        assert!(text.contains(&format!("== dump\n{why}")), "{text}");
        assert_eq!(dumps(&g), Vec::<PathBuf>::new());
        g.wait_for("another run", |all| all[0].restarts >= 1 && all[0].state == "running");
        g.end();
    }
}
