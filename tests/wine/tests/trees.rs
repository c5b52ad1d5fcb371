//! Trees: what they use, how they are limited, which step of a stop ends them, and what hooks leave behind.

use std::time::{Duration, Instant};

use keepwell_wine::{Guardian, needs_wine, wait_some, wait_until};

#[test]
fn status_tells_what_a_whole_tree_uses() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD grandchildren left'\nlimits = { memory = '512MB', tasks = 20 }\n\
         [services.b]\ncommand = 'CHILD hang'\n",
    );
    wait_until("both grandchildren", || g.read("left").lines().count() >= 2);
    let all = g.cli(&["status", "--json"]).good().json();
    let memory = |at: usize| all[at]["memory_bytes"].as_u64().unwrap_or_default();
    assert!(memory(1) > 0 && memory(0) > memory(1), "{all}");
    assert_eq!(all[0]["containment"], "job");
    // Wine's jobs hold no limits, and that is said.
    assert!(all[0]["limits"][0].as_str().is_some_and(|l| l.starts_with("memory: ")), "{all}");
    let again = g.cli(&["status", "--json"]).good().json();
    assert!(again[0]["cpu_percent"].is_number(), "{again}");
    g.end();
}

#[test]
fn explain_says_which_step_of_a_stop_worked() {
    needs_wine!();
    let g = Guardian::up(
        "[services.trap]\ncommand = 'CHILD trap-ctrl 0 --after 100'\n[services.deaf]\ncommand = 'CHILD ignore-ctrl'\n\
         stop = [{ signal = 'INT', wait = '300ms' }, { signal = 'CLOSE', wait = '60s' }]\n",
    );
    g.wait_log("trap", "waiting for Ctrl");
    g.wait_log("deaf", "nothing moves me");
    g.cli(&["stop", "trap"]).good();
    g.cli(&["explain", "trap"]).good().says(&["Ctrl+C to the main process: worked"]);
    let start = Instant::now();
    g.cli(&["stop", "deaf"]).good();
    assert!(start.elapsed() < Duration::from_secs(50), "a step that reaches nobody was waited for");
    g.cli(&["explain", "deaf"]).good().says(&[
        "Ctrl+C to the main process: not enough in",
        "WM_CLOSE to the whole tree: failed: it has no window",
        "kill of the whole tree: worked",
    ]);
    assert!(g.events().iter().any(|e| e.kind == "stop_step_failed"));
    g.end();
}

#[test]
fn what_a_hook_leaves_behind_ends_with_the_service() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD hang'\nhooks = { pre_start = 'CHILD grandchildren left --exit 0' }\n",
    );
    g.wait_for("it runs", |all| all[0].pid.is_some());
    // The main process, and the two that the hook left.
    assert_eq!(g.prefix().children().len(), 3);
    g.cli(&["stop", "a"]).good();
    assert_eq!(g.prefix().children(), []);
    g.end();
}

#[test]
fn a_tree_is_bound_to_processors() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = 'CHILD print-processors'\naffinity = '0,63'\n\
         [services.b]\ncommand = 'CHILD print-processors'\naffinity = '1000'\n",
    );
    let log = wait_some("both to say it", || {
        Some(g.log("a")).filter(|log| log.matches("processors 0x").count() == 2)
    });
    assert_eq!(log.matches("processors 0x1\n").count(), 2, "{log}");
    let b = g.wait_state("b", &["backing_off", "crash_looping", "gave_up"]);
    assert!(b.reason.contains("it cannot be bound to its processors"), "{}", b.reason);
    g.end();
}
