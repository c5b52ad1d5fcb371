//! keepwell under Wine's real service control manager: start, stop, query, removal, as `sc`, `net` and `reg` see it.

use std::time::{Duration, Instant};

use keepwell_wine::{Prefix, Service, needs_wine, wait_until};

const HANG: &str = "[services.web]\ncommand = 'CHILD tick ticks'\n";

#[test]
fn it_is_installed_started_queried_stopped_and_deleted() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::installed(&prefix, "shop", HANG);
    assert_eq!(service.query().expect("it is installed").state, "STOPPED");
    service.sc("start", &[]).good();
    let running = service.wait_state("RUNNING");
    assert_eq!((running.exit, running.checkpoint, running.hint), (0, 0, 0));
    service.wait_log("web", "tick 3");
    let stopped = service.stop();
    assert_eq!((stopped.exit, stopped.own_exit), (0, 0));
    prefix.assert_nothing_left(Duration::ZERO);
    service.sc("delete", &[]).good();
    assert_eq!(service.query(), None);
}

#[test]
fn net_starts_and_stops_it_and_says_so() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::installed(&prefix, "shop", HANG);
    prefix.run("net", &["start", "shop"]).good().says(&["started successfully"]);
    service.wait_state("RUNNING");
    prefix.run("net", &["stop", "shop"]).good().says(&["stopped successfully"]);
    service.wait_state("STOPPED");
    prefix.assert_nothing_left(Duration::from_secs(1));
}

#[test]
fn what_the_manager_has_written_down_is_what_was_asked_for() {
    needs_wine!();
    let prefix = Prefix::new();
    let more = ["start=", "demand", "DisplayName=", "The \"best\" shop"];
    let service = Service::installed_with(&prefix, "shop", HANG, &more);
    let key = r"HKLM\SYSTEM\CurrentControlSet\Services\shop";
    let answer = prefix.run("reg", &["query", key]).good();
    answer.says(&[&service.command_line(&[]), "The \"best\" shop", "Start    REG_DWORD    0x3"]);
    service.sc("description", &["Sells things"]).good();
    prefix.run("reg", &["query", key, "/v", "Description"]).good().says(&["Sells things"]);
    // Wine's manager takes recovery actions and writes them nowhere.
    service.sc("failure", &["reset=", "86400", "actions=", "restart/5000"]).good();
}

#[test]
fn a_second_start_and_a_second_stop_are_refused_by_number() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, "shop", HANG);
    assert_ne!(service.sc("start", &[]).code, 0);
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    assert_eq!(prefix.processes().iter().filter(|p| p.command.contains("internal service")).count(), 1);
    service.stop();
    assert_ne!(service.sc("stop", &[]).code, 0);
    assert_eq!(service.query().expect("it is installed").state, "STOPPED");
}

#[test]
fn a_restart_goes_on_where_the_last_one_ended() {
    needs_wine!();
    let prefix = Prefix::new();
    let mut service = Service::running(
        &prefix,
        "shop",
        "[services.a]\ncommand = 'CHILD hang'\n[services.b]\ncommand = 'CHILD hang'\n",
    );
    service.reach();
    let first = service.pid("a");
    service.cli(&["stop", "b"]).good();
    service.stop();
    service.start();
    let second = service.pid("a");
    assert_ne!(first, second);
    service.wait_for("b stays stopped", |all| {
        all.iter().any(|s| s.name == "b" && s.state == "stopped" && !s.desired_up)
    });
}

#[test]
fn a_service_installed_twice_is_refused_and_the_first_one_stays() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, "shop", HANG);
    let again = service.sc("create", &["binPath=", "C:\\other.exe"]);
    assert_ne!(again.code, 0);
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    service.stop();
}

#[test]
fn deleted_while_it_runs_it_is_gone_when_it_has_stopped() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, "shop", HANG);
    service.sc("delete", &[]).good();
    service.wait_log("web", "tick 3");
    service.sc("stop", &[]);
    wait_until("it is gone", || service.query().is_none_or(|q| q.state == "STOPPED"));
    prefix.assert_nothing_left(Duration::from_secs(5));
    wait_until("its name is free", || service.query().is_none());
}

#[test]
fn the_command_line_tool_finds_it_and_ends_it() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, "shop", HANG);
    service.wait_log("web", "tick 3");
    service.cli(&["status"]).good().says(&["web", "running"]);
    service.cli(&["down"]).good();
    let stopped = service.wait_state("STOPPED");
    assert_eq!((stopped.exit, stopped.own_exit), (0, 0));
    prefix.assert_nothing_left(Duration::from_secs(1));
}

#[test]
fn its_command_line_at_a_console_is_a_guardian_in_the_foreground() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::prepared(&prefix, "shop", HANG);
    let config = r"C:\ProgramData\keepwell\shop\keepwell.toml";
    let mut command = prefix.keepwell(&["internal", "service", "--name", "shop", "--config", config]);
    let mut child = prefix.start(&mut command, "foreground");
    service.wait_log("web", "tick 3");
    service.cli(&["down"]).good();
    wait_until("its end", || child.try_wait().is_ok_and(|s| s.is_some_and(|s| s.success())));
    prefix.assert_nothing_left(Duration::from_secs(1));
}

#[test]
fn the_folder_of_one_that_runs_is_nobody_elses() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, "shop", HANG);
    let config = r"C:\ProgramData\keepwell\shop\keepwell.toml";
    let answer = service.cli(&["up", "--file", config]).with_code(1);
    answer.says(&["runs already"]);
    service.stop();
}

#[test]
fn a_long_stop_is_told_step_by_step() {
    needs_wine!();
    let prefix = Prefix::new();
    let config = "[services.web]\ncommand = 'CHILD trap-ctrl 0 --after 25000'\n\
                  stop = [{ signal = 'TERM', wait = '50s' }]\n";
    let service = Service::running(&prefix, "shop", config);
    service.wait_log("web", "waiting for Ctrl");
    let start = Instant::now();
    service.sc("stop", &[]).good();
    let (mut steps, mut hints) = (vec![], vec![]);
    loop {
        let now = service.query().expect("it is installed");
        if now.state == "STOPPED" {
            break;
        }
        assert_eq!(now.state, "STOP_PENDING");
        if steps.last() != Some(&now.checkpoint) {
            steps.push(now.checkpoint);
            hints.push(now.hint);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(25), "{took:?}");
    assert!(steps.len() >= 3 && steps.is_sorted(), "{steps:?}");
    assert!(hints.is_sorted() && hints.iter().all(|hint| *hint >= 20_000), "{hints:?}");
    service.wait_log("web", "bye");
    prefix.assert_nothing_left(Duration::ZERO);
}
