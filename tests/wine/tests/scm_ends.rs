//! keepwell under Wine's real service control manager: how programs end, how daemons and anchors end, and what the manager
//! is told of it.

use std::time::Duration;

use keepwell_wine::{Prefix, Service, needs_wine, wait_some, wait_until};

/// `ERROR_SERVICE_SPECIFIC_ERROR`.
const SPECIFIC: u32 = 1066;

fn ends_with(config: &str, exit: u32, own_exit: u32) {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::installed(&prefix, "shop", config);
    service.sc("start", &[]);
    let end = service.wait_state("STOPPED");
    assert_eq!((end.exit, end.own_exit), (exit, own_exit), "{}", service.traces());
    prefix.assert_nothing_left(Duration::from_secs(2));
}

#[test]
fn the_exit_code_of_the_only_program_is_the_services() {
    ends_with("[services.a]\ncommand = 'CHILD exit 23 --after 1500'\nrestart = 'never'\n", SPECIFIC, 23);
}

#[test]
fn a_program_that_ends_well_and_is_not_restarted_ends_it_well() {
    ends_with("[services.a]\ncommand = 'CHILD exit 0 --after 1500'\nrestart = 'on-failure'\n", 0, 0);
}

#[test]
fn a_program_whose_code_is_fatal_ends_it() {
    let exits = "restart = { exit_codes = { fatal = [7] } }";
    ends_with(&format!("[services.a]\ncommand = 'CHILD exit 7 --after 1500'\n{exits}\n"), SPECIFIC, 7);
}

#[test]
fn one_that_gives_up_on_a_loop_of_crashes_ends_it() {
    let restart =
        "restart = { delay = '10ms', limit = { max = 2, window = '1m' }, on_crash_loop = 'give_up' }";
    ends_with(&format!("[services.a]\ncommand = 'CHILD exit 9'\n{restart}\n"), SPECIFIC, 9);
}

#[test]
fn of_two_programs_that_failed_neither_gives_its_code() {
    let one = |name: &str| format!("[services.{name}]\ncommand = 'CHILD exit 23'\nrestart = 'never'\n");
    ends_with(&(one("a") + &one("b")), SPECIFIC, 1);
}

#[test]
fn an_access_violation_is_a_failure_with_its_number() {
    ends_with("[services.a]\ncommand = 'CHILD crash'\nrestart = 'never'\n", SPECIFIC, 0xC000_0005);
}

#[test]
fn a_configuration_with_an_error_is_refused_with_its_line() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::installed(&prefix, "shop", "[services.a]\ncomand = 'CHILD hang'\n");
    service.sc("start", &[]);
    let end = service.wait_state("STOPPED");
    assert_eq!((end.exit, end.own_exit), (SPECIFIC, 2), "{}", service.traces());
    let words = service.wait_file("anchor.log", "comand");
    assert!(words.contains("keepwell.toml:2") && words.contains("command"), "{words}");
    // Mended, it starts.
    service.write("keepwell.toml", "[services.a]\ncommand = 'CHILD tick ticks'\n");
    service.start();
    service.wait_log("a", "tick 3");
    service.stop();
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::installed(&prefix, "shop", "");
    std::fs::remove_file(service.folder().join("keepwell.toml")).expect("own folder");
    service.sc("start", &[]);
    let end = service.wait_state("STOPPED");
    assert_eq!((end.exit, end.own_exit), (SPECIFIC, 2), "{}", service.traces());
    service.wait_file("anchor.log", "keepwell.toml");
}

#[test]
fn a_program_that_is_missing_is_waited_for() {
    needs_wine!();
    let prefix = Prefix::new();
    let config = "[services.a]\ncommand = ['./late.exe', 'tick', 'ticks']\n";
    let mut service = Service::running(&prefix, "shop", config);
    service.reach();
    service.wait_for("a failed start", |all| all[0].exits.len() == 1 && all[0].pid.is_none());
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    std::fs::copy(keepwell_wine::child(), service.folder().join("late.exe")).expect("own folder");
    service.wait_log("a", "tick 3");
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_program_that_ends_at_once_is_restarted_and_the_service_runs_on() {
    needs_wine!();
    let prefix = Prefix::new();
    let mut service = Service::running(
        &prefix,
        "shop",
        "[services.a]\ncommand = 'CHILD exit 3'\nrestart = { delay = '50ms' }\n",
    );
    service.reach();
    service.wait_for("restarts", |all| all[0].restarts >= 3);
    assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    let end = service.stop();
    assert_eq!((end.exit, end.own_exit), (0, 0), "a stop that was asked for is no failure");
}

#[test]
fn a_stop_during_a_backoff_does_not_wait_for_it() {
    needs_wine!();
    let prefix = Prefix::new();
    let config = "[services.a]\ncommand = 'CHILD exit 3'\nrestart = { delay = '10m', max_delay = '10m' }\n\
                  [services.b]\ncommand = 'CHILD hang'\n";
    let mut service = Service::running(&prefix, "shop", config);
    service.reach();
    service.wait_for("a backs off", |all| all.iter().any(|s| s.name == "a" && s.state == "backing_off"));
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn grandchildren_end_with_the_service() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, "shop", "[services.a]\ncommand = 'CHILD grandchildren left'\n");
    wait_until("both grandchildren", || service.read("left").lines().count() >= 2);
    service.stop();
    assert_eq!(prefix.children(), []);
}

#[test]
fn who_ignores_ctrl_c_is_ended_when_its_time_is_over() {
    needs_wine!();
    let prefix = Prefix::new();
    let config =
        "[services.a]\ncommand = 'CHILD ignore-ctrl'\nstop = [{ signal = 'TERM', wait = '500ms' }]\n";
    let service = Service::running(&prefix, "shop", config);
    service.wait_log("a", "nothing moves me");
    service.stop();
    assert_eq!(prefix.children(), []);
}

#[test]
fn a_program_hears_the_stop_and_says_good_bye() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, "shop", "[services.a]\ncommand = 'CHILD trap-ctrl 0'\n");
    service.wait_log("a", "waiting for Ctrl");
    service.stop();
    service.wait_log("a", "bye");
}

#[test]
fn a_stop_while_programs_are_starting_stops_them() {
    needs_wine!();
    let prefix = Prefix::new();
    let config = "[services.slow]\ncommand = 'CHILD hang'\nready = { file = 'never', timeout = '10m' }\n\
                  [services.after]\ncommand = 'CHILD hang'\ndepends_on = { slow = 'ready' }\n";
    let mut service = Service::running(&prefix, "shop", config);
    service.reach();
    service.wait_for("slow is starting", |all| all.iter().any(|s| s.name == "slow" && s.state == "starting"));
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn with_dependents_it_runs_when_all_is_ready_and_not_before() {
    needs_wine!();
    let prefix = Prefix::new();
    let config = "[services.slow]\ncommand = 'CHILD hang'\nready = { file = 'gate', period = '50ms', timeout = '10m' }\n";
    let service = Service::prepared(&prefix, "shop", config);
    let line = service.command_line(&["--running-when", "ready"]);
    service.sc("create", &["binPath=", &line]).good();
    service.sc("start", &[]).good();
    service.wait_file("keepwell.log", "slow is starting");
    let now = service.query().expect("it is installed");
    assert_eq!(now.state, "START_PENDING");
    assert!(now.checkpoint >= 1 && now.hint >= 20_000, "{now:?}");
    // On the way up it takes no stop (1061).
    assert_ne!(service.sc("stop", &[]).code, 0);
    service.write("gate", "");
    service.wait_state("RUNNING");
    service.stop();
}

#[test]
fn a_killed_daemon_is_replaced_and_nobody_outside_notices() {
    needs_wine!();
    let prefix = Prefix::new();
    let mut service = Service::running(&prefix, "shop", "[services.a]\ncommand = 'CHILD tick ticks'\n");
    service.reach();
    let pid = service.pid("a");
    for _ in 0..10 {
        let before = wait_some("an answer", || service.info()).rebirths;
        wait_some("a daemon", || service.daemon()).kill();
        wait_until("the next one", || service.info().is_some_and(|i| i.rebirths > before));
        assert_eq!(service.query().expect("it is installed").state, "RUNNING");
    }
    assert_eq!(service.pid("a"), pid);
    let end = service.stop();
    assert_eq!((end.exit, end.own_exit), (0, 0));
    let ticks: Vec<u64> =
        service.read("ticks").lines().filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect();
    assert!(ticks.iter().enumerate().all(|(n, tick)| n as u64 == *tick), "one process, and no gap");
}

#[test]
fn a_stop_right_after_the_daemon_was_killed_is_carried_out() {
    needs_wine!();
    let prefix = Prefix::new();
    let mut service = Service::running(&prefix, "shop", "[services.a]\ncommand = 'CHILD trap-ctrl 0'\n");
    service.reach();
    service.wait_log("a", "waiting for Ctrl");
    // Kills from outside say nothing against the next daemon, which conducts the stop.
    for _ in 0..4 {
        wait_until("an answer", || service.info().is_some());
        wait_some("a daemon", || service.daemon()).kill();
    }
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
    service.wait_log("a", "bye");
}

#[test]
fn a_killed_anchor_takes_all_with_it() {
    needs_wine!();
    let prefix = Prefix::new();
    let service = Service::running(&prefix, "shop", "[services.a]\ncommand = 'CHILD grandchildren left'\n");
    wait_until("both grandchildren", || service.read("left").lines().count() >= 2);
    service.anchor().expect("it runs").kill();
    prefix.assert_nothing_left(Duration::from_secs(10));
    // Wine's manager does not notice that the process of a service is gone, so the next one is started without it.
    std::fs::remove_file(service.folder().join("left")).expect("own folder");
    let config = r"C:\ProgramData\keepwell\shop\keepwell.toml";
    let mut command = prefix.keepwell(&["internal", "service", "--name", "shop", "--config", config]);
    let mut child = prefix.start(&mut command, "again");
    wait_until("both grandchildren", || service.read("left").lines().count() >= 2);
    service.cli(&["down"]).good();
    wait_until("its end", || child.try_wait().is_ok_and(|s| s.is_some()));
    assert_eq!(prefix.children(), []);
}
