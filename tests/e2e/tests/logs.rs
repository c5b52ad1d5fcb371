//! Capture, rotation and following of output.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use keepwell_e2e::{Guardian, wait_some, wait_until};

/// Every log file of a service, oldest first, joined.
fn whole(g: &Guardian, name: &str) -> String {
    let mut files: Vec<_> = std::fs::read_dir(g.state("logs"))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| is_log(p, name))
        .collect();
    files.sort_by_key(|p| std::fs::metadata(p).unwrap().modified().unwrap());
    files.iter().map(|p| keepwell_e2e::read_lossy(p)).collect()
}

/// Beside each file stands an index of its lines' times.
fn is_log(path: &std::path::Path, service: &str) -> bool {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    name.starts_with(&format!("{service}.log")) && !name.ends_with(".idx")
}

#[test]
fn a_flood_is_captured_whole_and_rotated_by_size_and_count() {
    let g = Guardian::up(
        r#"
        [services.all]
        command = "CHILD flood 20000000"
        log = { rotate = { size = "1MB", keep = 100 } }
        [services.few]
        command = "CHILD flood 20000000"
        log = { rotate = { size = "1MB", keep = 3 } }
        "#,
    );
    let last = format!("{:012} ", 20_000_000 / 120 - 1);
    g.wait_log("all", &last);
    g.wait_log("few", &last);
    let text = whole(&g, "all");
    assert_eq!(text.len(), 20_000_000 / 120 * 120);
    for (n, line) in text.lines().enumerate() {
        assert!(line.starts_with(&format!("{n:012} ")) && line.len() == 119, "line {n} is {line}");
    }
    let mut sizes = Vec::new();
    for file in std::fs::read_dir(g.state("logs")).unwrap().flatten() {
        if is_log(&file.path(), "few") {
            sizes.push(file.metadata().unwrap().len());
        }
    }
    assert_eq!(sizes.len(), 4, "{sizes:?}");
    assert!(sizes.iter().all(|s| *s <= 1_000_000 + 65_536), "{sizes:?}");
    // A file ends with a whole line.
    assert!(whole(&g, "few").lines().all(|l| l.len() == 119));
    g.end();
}

#[test]
fn errors_may_have_a_file_of_their_own_anywhere() {
    let g = Guardian::up(
        r#"
        [services.a]
        shell = true
        command = "echo to out; echo to err >&2; sleep 1000"
        log = { file = "mine/${service}.log", stderr_file = "mine/err.log" }
        [services.b]
        shell = true
        command = "echo to out; echo to err >&2; sleep 1000"
        "#,
    );
    g.wait_file("mine/a.log", "to out");
    g.wait_file("mine/err.log", "to err");
    assert!(!g.read("mine/a.log").contains("to err"));
    wait_until("both in one", || g.log("b") == "to out\nto err\n");
    g.end();
}

#[test]
fn logs_shows_the_last_lines_and_follows() {
    let g = Guardian::up(
        r#"
        [services.a]
        shell = true
        command = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; while ! test -e gate; do sleep 0.05; done; echo line new; sleep 1000"
        [services.b]
        command = "CHILD say other"
        "#,
    );
    g.wait_log("a", "line 12\n");
    g.wait_log("b", "other\n");
    let last = g.cli(&["logs", "-n", "2", "a"]).good().out;
    assert!(last.contains("line 12") && last.contains("line 11") && !last.contains("line 10"), "{last}");
    assert!(g.cli(&["logs"]).good().out.contains("other"));
    let recent = g.cli(&["logs", "--since", "10m", "a"]).good().out;
    assert!(recent.contains("line 1\n") || recent.contains("line 2"), "{recent}");

    let mut follow = g.command(&["logs", "-f", "-n", "1", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    wait_some("the last line", || lines.next()?.ok().filter(|l| l.contains("line 12")));
    g.write("gate", "");
    wait_some("the new line", || lines.next()?.ok().filter(|l| l.contains("line new")));
    follow.kill().unwrap();
    follow.wait().unwrap();
    for line in g.cli(&["logs", "--json", "a"]).good().out.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["service"], "a");
    }
    g.end();
}

#[test]
fn what_a_program_says_at_its_end_is_there_and_explained() {
    let g = Guardian::up(
        "[services.a]\nshell = true\ncommand = 'echo before; printf \"no newline at the end\"; exit 3'\nrestart = 'never'\n\
         [services.b]\ncommand = 'CHILD hang'\n",
    );
    g.wait_log("a", "no newline at the end");
    g.wait_for("its end", |all| all.iter().any(|s| s.name == "a" && !s.exits.is_empty()));
    g.cli(&["explain", "a"]).good().says(&["no newline at the end"]);
    g.end();
}

#[test]
fn explain_quotes_the_run_that_ended_while_the_next_attempt_runs_and_by_a_reborn_daemon() {
    let g = Guardian::up(
        r#"
        [services.web]
        command = "echo run >> runs; if [ $(wc -l < runs) -le 2 ]; then echo dying; exit 3; fi; echo alive; exec CHILD hang"
        shell = true
        restart = { delay = "0s" }
        hooks = { pre_start = ["echo", "of a hook"], post_stop = ["echo", "of another hook"] }
        "#,
    );
    g.wait_log("web", "alive");
    let words = |g: &Guardian| {
        let all = g.cli(&["explain", "web", "--json"]).good().json();
        all[0]["last_words"].as_array().unwrap().clone()
    };
    assert_eq!(words(&g), ["dying"]);
    assert!(g.cli(&["explain", "web"]).good().out.contains("last words  dying"));
    let daemon = g.daemon();
    assert!(keepwell_e2e::sys::kill(daemon, keepwell_e2e::sys::SIGKILL));
    wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    assert_eq!(words(&g), ["dying"]);
    g.cli(&["stop", "web"]).good();
    assert_eq!(words(&g), ["alive"]);
    g.end();
}
