//! A thousand services of a user without rights, and the first process of a container.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keepwell_e2e::{Guardian, binary, sys, wait_some, wait_some_within, wait_until};

#[test]
fn a_thousand_services_of_an_unprivileged_user() {
    let mut config = String::from("[defaults]\nstop = [{ signal = 'TERM', wait = '60s' }]\n");
    for n in 0..1000 {
        config.push_str(&format!("[services.s{n}]\ncommand = 'CHILD hang'\n"));
    }
    let mut g = Guardian::unprivileged(&config);
    g.start(&["--quiet"]);
    let minute = Duration::from_secs(60);
    wait_some_within("all to run", minute, || {
        g.status().filter(|all| all.len() == 1000 && all.iter().all(|s| s.state == "running"))
    });
    let before: Vec<_> = g.status().unwrap().iter().map(|s| s.pid).collect();
    for _ in 0..3 {
        let daemon = g.daemon();
        sys::kill(daemon, sys::SIGKILL);
        wait_some("another daemon", || g.info().filter(|i| i.daemon_pid != daemon));
    }
    let after: Vec<_> = g.status().unwrap().iter().map(|s| s.pid).collect();
    assert_eq!(before, after);
    assert_eq!(g.services_running().len(), 1000);
    let start = Instant::now();
    let shown = g.cli(&["status", "--json"]).good().json();
    assert_eq!(shown.as_array().map(Vec::len), Some(1000));
    assert!(start.elapsed() < Duration::from_secs(10), "status took {:?}", start.elapsed());
    g.interrupt();
    assert_eq!(wait_some_within("the end", minute, || g.has_ended().then(|| g.wait_exit())), 0);
    g.assert_nothing_left(Duration::ZERO);
}

/// As the first process of a container keepwell reaps whatever comes to it, and SIGTERM is an ordered stop.
#[test]
fn the_first_process_of_a_container() {
    if !sys::is_root() || !Command::new("unshare").arg("--version").output().is_ok_and(|o| o.status.success())
    {
        eprintln!("skipped: needs root and unshare(1)");
        return;
    }
    let g = Guardian::new(
        "[services.a]\ncommand = 'CHILD trap-term 0'\n\
         [services.orphans]\nshell = true\ncommand = 'while :; do sh -c \"sleep 0.05 & exit\"; sleep 0.02; done'\n",
    );
    let keepwell = binary().display().to_string();
    let plain = g.command(&["up"]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", &keepwell, "up"]);
    command.envs(plain.get_envs().filter_map(|(n, v)| Some((n, v?)))).current_dir(g.dir());
    let out = std::fs::File::create(g.path("up.out")).unwrap();
    let mut outer =
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
    g.wait_log("a", "waiting for TERM");
    let info = wait_some("an answer", || g.info());
    assert_eq!(info.anchor_pid, 1);
    let first = wait_some("the anchor's pid out here", || {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", outer.id())).ok()?;
        children.split_whitespace().next()?.parse::<u32>().ok()
    });
    // Orphans come all the time; the dead among them must not stay.
    std::thread::sleep(Duration::from_secs(1));
    wait_until("few dead processes", || zombies(first) <= 2);
    assert!(sys::kill(first, sys::SIGTERM));
    let status = wait_some("the end", || outer.try_wait().unwrap());
    assert_eq!(sys::shell_code(status), 0, "{}", g.traces());
    assert!(g.log("a").contains("bye"));
    g.assert_nothing_left(Duration::from_secs(2));
}

/// Dead children of a process that nobody has reaped.
fn zombies(parent: u32) -> usize {
    let stats = std::fs::read_dir("/proc").expect("/proc").flatten();
    let stats = stats.filter_map(|e| std::fs::read_to_string(e.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
            fields.first() == Some(&"Z") && fields.get(1) == Some(&parent.to_string().as_str())
        })
        .count()
}
