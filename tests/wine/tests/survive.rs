//! Whatever dies of keepwell itself, no process, no exit and no line is lost or doubled.

use std::time::Duration;

use keepwell_wine::{Guardian, Process, needs_wine, wait_some, wait_until};

/// How often the daemon is killed: 50 times unless `KEEPWELL_KILLS` says otherwise.
fn kills() -> u32 {
    std::env::var("KEEPWELL_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

/// Those that write a line now and then and end again and again, and one that floods.
const WORKERS: usize = 3;
const ALL: usize = WORKERS + 1;

fn load() -> String {
    let mut config = String::from(
        "[defaults]\nrestart = { delay = '0s', limit = 'off' }\nlog = { rotate = { size = '4GB' } }\n\
         stop = [{ signal = 'TERM', wait = '1m' }]\n",
    );
    for n in 0..WORKERS {
        config.push_str(&format!("[services.w{n}]\ncommand = 'CHILD work w{n}'\n"));
    }
    let flood = "--bursts 1000000000 --lines 40 --every 1";
    config.push_str(&format!("[services.w{WORKERS}]\ncommand = 'CHILD work w{WORKERS} {flood}'\n"));
    config
}

fn begins(g: &Guardian, n: usize) -> usize {
    g.read(&format!("w{n}/runs")).lines().filter(|l| l.starts_with("begin")).count()
}

#[test]
fn a_killed_daemon_costs_nothing() {
    needs_wine!();
    let mut g = Guardian::new(&load());
    for n in 0..ALL {
        std::fs::create_dir(g.path(&format!("w{n}"))).expect("own folder");
    }
    g.start(&["--quiet"]);
    g.wait_answering();
    wait_until("every service to run", || (0..ALL).all(|n| begins(&g, n) >= 1));
    for n in 0..kills() {
        // Most kills hit a daemon that works, some one in the middle of its boot; the anchor backs off from those.
        if n % 8 != 0 {
            wait_until("an answer", || g.info().is_some());
        }
        std::thread::sleep(Duration::from_millis(u64::from(n * 37 % 40)));
        if n % 10 == 5 {
            // As Windows' own means do it.
            let daemon = wait_some("a daemon", || g.info()).daemon_pid.to_string();
            assert!(g.prefix().child(&["kill", &daemon]).status().is_ok());
        } else {
            let daemon = wait_some("a daemon", || g.daemon());
            daemon.kill();
            wait_until("its end", || g.daemon().is_none_or(|d: Process| d.pid != daemon.pid));
        }
    }
    wait_until("an answer", || g.info().is_some());
    let before: Vec<_> = (0..WORKERS).map(|n| begins(&g, n)).collect();
    wait_until("every worker to go on", || (0..WORKERS).all(|n| begins(&g, n) >= before[n] + 2));
    let rebirths = g.info().expect("it answers").rebirths;
    assert!(rebirths >= kills() / 2, "only {rebirths} daemons");

    g.cli(&["down"]).good();
    assert_eq!(g.wait_exit(), 0, "{}", g.traces());
    g.assert_nothing_left(Duration::ZERO);
    let mut faults = Vec::new();
    for n in 0..ALL {
        faults.extend(faults_of_runs(&g, n));
        faults.extend(faults_of_lines(&g, n));
    }
    let lines = g.log(&format!("w{WORKERS}")).lines().count();
    eprintln!("{} kills, {rebirths} daemons, {lines} lines of the flood", kills());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));

    // No exit status was lost: what each process left with is what the store tells of it.
    g.write("keepwell.toml", "[services.idle]\ncommand = 'CHILD hang'\n");
    g.start(&["--quiet"]);
    g.wait_answering();
    let faults: Vec<_> = (0..WORKERS).filter_map(|n| fault_of_exits(&g, n)).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    g.end();
}

/// Never two at once, every begin has its end.
fn faults_of_runs(g: &Guardian, n: usize) -> Vec<String> {
    let (mut running, mut faults) = (None::<String>, Vec::new());
    for line in g.read(&format!("w{n}/runs")).lines() {
        let words: Vec<_> = line.split(' ').collect();
        let fits = match (words[0], &running) {
            ("begin", None) => true,
            ("end", Some(pid)) => pid == words[1],
            _ => false,
        };
        if !fits {
            faults.push(format!("w{n}: `{line}` while {running:?} ran"));
        }
        running = (words[0] == "begin").then(|| words[1].to_owned());
    }
    if let Some(pid) = running {
        faults.push(format!("w{n}: process {pid} never ended by itself"));
    }
    faults
}

/// Every line once, in order, whole.
fn faults_of_lines(g: &Guardian, n: usize) -> Vec<String> {
    let written: usize = g.read(&format!("w{n}/next")).parse().unwrap_or(0);
    let log = g.log(&format!("w{n}"));
    let mut faults = Vec::new();
    for (i, line) in log.lines().enumerate() {
        if !line.starts_with(&format!("line {i} of run ")) || !line.ends_with(&format!(" of w{n}")) {
            faults.push(format!("w{n}: line {i} of the log is `{line}`"));
            break;
        }
    }
    let kept = log.lines().count();
    if kept != written {
        faults.push(format!("w{n}: {written} lines were written, {kept} are kept"));
    }
    faults
}

/// The exits that are told are those that happened, each once and with its code.
fn fault_of_exits(g: &Guardian, n: usize) -> Option<String> {
    let service = format!("w{n}");
    let happened: Vec<i32> = g
        .read(&format!("w{n}/runs"))
        .lines()
        .filter(|l| l.starts_with("end"))
        .filter_map(|l| l.rsplit(' ').next()?.parse().ok())
        .collect();
    let told: Vec<i32> = g
        .events()
        .into_iter()
        .filter(|e| e.service.as_ref() == Some(&service))
        .filter_map(|e| e.exit?.code)
        .collect();
    (told != happened).then(|| format!("{service}: exits {happened:?} happened, {told:?} are told"))
}
