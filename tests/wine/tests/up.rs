//! `up` and its ends, dependencies, what cannot be started, `run`.

use std::time::{Duration, Instant};

use keepwell_wine::{Guardian, needs_wine, wait_until};

/// A database that is ready when its file is there, and two layers above it.
const LAYERS: &str = r#"
[services.db]
command = "CHILD record db.ready"
ready = { file = "db.ready", period = "200ms" }

[services.api]
command = "CHILD hang"
depends_on = { db = "ready" }
ready = { delay = "10ms" }

[services.web]
command = "CHILD hang"
depends_on = { api = "ready" }
"#;

fn order(g: &Guardian, kind: &str) -> Vec<String> {
    g.events().into_iter().filter(|e| e.kind == kind).filter_map(|e| e.service).collect()
}

#[test]
fn services_start_in_the_order_of_dependencies_and_stop_in_reverse() {
    needs_wine!();
    let mut g = Guardian::up(LAYERS);
    g.wait_for("all up", |all| all.iter().all(|s| ["ready", "running"].contains(&s.state.as_str())));
    wait_until("three starts to be told", || order(&g, "started").len() >= 3);
    assert_eq!(order(&g, "started"), ["db", "api", "web"]);
    assert_eq!(g.prefix().children().len(), 3);
    g.cli(&["down"]).good();
    assert_eq!(g.wait_exit(), 0);
    g.assert_nothing_left(Duration::ZERO);
    g.cli(&["status"]).with_code(3);
    // The order of the stop is in the store, which the next daemon reads.
    g.start(&["--quiet"]);
    g.wait_answering();
    let mut exits = order(&g, "exited");
    exits.truncate(3);
    assert_eq!(exits, ["web", "api", "db"]);
    g.end();
}

#[test]
fn detach_gives_the_prompt_back_when_all_is_ready_and_down_ends_it() {
    needs_wine!();
    let g = Guardian::new(LAYERS);
    g.cli(&["up", "--detach"]).good();
    let all = g.cli(&["status", "--json"]).good().json();
    let states: Vec<_> = all.as_array().expect("a list").iter().map(|s| s["state"].clone()).collect();
    assert!(states.iter().all(|s| s == "ready" || s == "running"), "{states:?}");
    g.cli(&["down"]).good();
    g.assert_nothing_left(Duration::ZERO);
}

#[test]
fn detach_names_what_is_not_ready_and_leaves_it_running() {
    needs_wine!();
    let g = Guardian::new(
        "[services.good]\ncommand = 'CHILD hang'\n\
         [services.never]\ncommand = 'CHILD hang'\nready = { file = 'never', timeout = '1h' }\n",
    );
    g.cli(&["up", "--detach", "--timeout", "3s"]).with_code(4).says(&["never"]);
    assert_eq!(g.prefix().children().len(), 2);
    g.cli(&["down"]).good();
    g.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_second_guardian_on_the_same_folder_is_refused_with_the_pid_of_the_first() {
    needs_wine!();
    let mut g = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n");
    let pid = g.pid("a");
    let anchor = g.info().expect("it answers").anchor_pid.to_string();
    g.cli(&["up"]).with_code(1).says(&["runs already", &anchor]);
    assert_eq!(g.pid("a"), pid);
    assert!(!g.has_ended());
    g.end();
}

#[test]
fn a_missing_program_is_told_and_started_as_soon_as_it_is_there() {
    needs_wine!();
    let g = Guardian::up(
        "[services.a]\ncommand = './late.cmd'\nrestart = { delay = '1h', max_delay = '1h' }\n\
         [services.gone]\ncommand = 'C:/no/such/program.exe'\nrestart = 'never'\n",
    );
    g.wait_for("two failed starts", |all| all.iter().all(|s| !s.exits.is_empty() && s.pid.is_none()));
    g.cli(&["explain", "gone"]).good().says(&["not found", "program.exe"]);
    g.write("late.new", "@CHILD hang\r\n");
    std::fs::rename(g.path("late.new"), g.path("late.cmd")).expect("own folder");
    g.wait_state("a", &["running"]);
    g.end();
}

#[test]
fn run_guards_one_program_and_ends_with_its_code() {
    needs_wine!();
    let g = Guardian::new("");
    g.write("child", "CHILD");
    let child = g.read("child");
    let start = Instant::now();
    g.cli(&["run", "--", &child, "exit", "7"]).with_code(7);
    g.cli(&["run", "--", &child, "exit", "0"]).good();
    g.cli(&["run", "--", r"C:\no\such\program.exe"]).says(&["program.exe"]);
    // Restarted until it ends well: the second time its mark is there.
    g.write("twice.cmd", "@if exist tried exit 0\r\n@echo x> tried\r\n@exit 3\r\n");
    g.cli(&["run", "--restart", "on-failure", "--", "./twice.cmd"]).good();
    assert!(g.path("tried").exists());
    g.assert_nothing_left(Duration::from_secs(2));
    // Who shows the output has 30 s for the rest of it; nobody reads slowly here.
    assert!(start.elapsed() < Duration::from_secs(60), "the ends were waited for");
}

#[test]
fn up_ends_by_itself_when_nothing_is_left_to_guard() {
    needs_wine!();
    let mut g = Guardian::new("[services.a]\nkind = 'oneshot'\ncommand = 'CHILD exit 0'\n");
    g.start(&[]);
    assert_eq!(g.wait_exit(), 0, "{}", g.traces());
    g.write("keepwell.toml", "[services.b]\nkind = 'oneshot'\ncommand = 'CHILD exit 7'\n");
    g.start(&[]);
    assert_eq!(g.wait_exit(), 1, "{}", g.traces());
    assert!(g.read("up.out").contains('b'), "{}", g.traces());
    g.assert_nothing_left(Duration::ZERO);
}

#[test]
fn a_windows_that_is_too_old_is_refused_and_told_why() {
    needs_wine!();
    let g = Guardian::new("[services.a]\ncommand = ['CHILD', 'hang']\n");
    g.prefix().run("winecfg", &["-v", "win2008r2"]).good();
    let why = [
        "keepwell needs Windows 10 or Windows Server 2016, and this is Windows Server 2008 R2 (6.1, build 7601)",
    ];
    g.cli(&["up"]).with_code(1).says(&why);
    g.cli(&["up", "--detach"]).with_code(1).says(&why);
    g.cli(&["run", "--", "cmd", "/c", "exit"]).with_code(1).says(&why);
    g.cli(&["service", "install"]).with_code(1).says(&why);
    assert!(!g.prefix().run("sc", &["query", "keepwell"]).out.contains("STATE"));
    g.prefix().run("winecfg", &["-v", "win10"]).good();
    g.cli(&["run", "--", "cmd", "/c", "exit"]).good();
}
