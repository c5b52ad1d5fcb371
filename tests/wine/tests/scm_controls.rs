//! Controls of Wine's service control manager that `sc` has no word for, by `winchild control`.

use std::time::Duration;

use keepwell_wine::{Prefix, Service, answer, needs_wine, wait_until};

// winsvc.h.
const PAUSE: u32 = 2;
const CONTINUE: u32 = 3;
const PARAM_CHANGE: u32 = 6;

fn control(prefix: &Prefix, name: &str, number: u32) -> i32 {
    answer(&mut prefix.child(&["control", name, &number.to_string()])).code
}

#[test]
fn paused_it_restarts_nothing_until_it_goes_on() {
    needs_wine!();
    let prefix = Prefix::new();
    let config = "[services.a]\ncommand = 'CHILD record pids'\nrestart = { delay = '50ms' }\n";
    let mut service = Service::running(&prefix, "shop", config);
    service.reach();
    let pid = service.pid("a");
    assert_eq!(control(&prefix, "shop", PAUSE), 0);
    service.wait_state("PAUSED");
    service.wait_for("it is held", |all| all[0].hold.is_some() && all[0].pid == Some(pid));
    let _ = answer(&mut prefix.child(&["kill", &pid.to_string()]));
    service.wait_for("it is gone, and stays so", |all| all[0].pid.is_none() && all[0].state == "paused");
    assert_eq!(service.read("pids").lines().count(), 1);
    assert_eq!(control(&prefix, "shop", CONTINUE), 0);
    service.wait_state("RUNNING");
    assert_ne!(service.pid("a"), pid);
    // A pause is no obstacle to a stop.
    assert_eq!(control(&prefix, "shop", PAUSE), 0);
    service.wait_state("PAUSED");
    service.stop();
    prefix.assert_nothing_left(Duration::ZERO);
}

#[test]
fn changed_parameters_are_a_reload() {
    needs_wine!();
    let prefix = Prefix::new();
    let two = "[services.a]\ncommand = 'CHILD hang'\n[services.b]\ncommand = 'CHILD hang'\n";
    let mut service = Service::running(&prefix, "shop", two);
    service.reach();
    let (a, b) = (service.pid("a"), service.pid("b"));
    service.write("keepwell.toml", &two.replace("services.b]", "services.b]\nenv = { X = 'y' }"));
    assert_eq!(control(&prefix, "shop", PARAM_CHANGE), 0);
    wait_until("b was started anew", || service.pid("b") != b);
    assert_eq!(service.pid("a"), a);
    service.write("keepwell.toml", "[services.a]\nkommand = 'x'\n");
    assert_eq!(control(&prefix, "shop", PARAM_CHANGE), 0);
    service.wait_file("keepwell.log", "configuration refused, nothing was changed");
    assert_eq!(service.pid("a"), a);
    service.stop();
}
