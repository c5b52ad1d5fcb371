//! Steps of a stop that are no signals: requests to a real server, real commands, and all that may go wrong with them.

use keepwell_e2e::{Guardian, free_port, sys, wait_some};
use keepwell_sdk::wire::Event;

/// Longer than any test: a step that is waited for to its end fails the test.
const LONG: &str = "1h";

fn told(events: &[Event], service: &str) -> Vec<String> {
    let of = |e: &&Event| e.service.as_deref() == Some(service);
    events.iter().filter(of).map(|e| e.text.clone()).collect()
}

/// Stops a service and gives what was told of it until it was down.
fn stop(g: &Guardian, service: &str) -> Vec<String> {
    g.cli(&["stop", service]).good();
    let down = |all: &[Event]| {
        let of = |e: &&Event| e.service.as_deref() == Some(service);
        all.iter().rfind(of).is_some_and(|e| e.state.as_deref() == Some("stopped"))
    };
    told(&g.wait_events("the end", down), service)
}

fn has(lines: &[String], text: &str) {
    assert!(lines.iter().any(|l| l.contains(text)), "`{text}` is not in {lines:#?}");
}

fn has_not(lines: &[String], text: &str) {
    assert!(!lines.iter().any(|l| l.contains(text)), "`{text}` is in {lines:#?}");
}

/// Running, and listening.
fn server(port: u16, stop: &str) -> Guardian {
    let g = Guardian::up(&format!(
        "[services.a]\ncommand = 'CHILD http {port}'\nready = {{ tcp = '127.0.0.1:{port}', period = '100ms' }}\nenv = {{ TOKEN = 's3cret' }}\nstop = {stop}\n"
    ));
    g.wait_state("a", &["ready"]);
    g
}

#[test]
fn a_request_is_heard_and_no_secret_of_it_is_told() {
    let port = free_port();
    let request = format!("{{ http = 'http://127.0.0.1:{port}/quit?token=${{TOKEN}}', wait = '{LONG}' }}");
    let g = server(port, &format!("[{request}, {{ signal = 'TERM', wait = '{LONG}' }}]"));
    let lines = stop(&g, "a");
    has(&lines, &format!("stop step 1: HTTP POST http://127.0.0.1:{port}/quit"));
    has(&lines, "exit code 7");
    has_not(&lines, "stop step 2");
    has_not(&lines, "token");
    assert!(g.log("a").contains("POST /quit?token=s3cret"), "{}", g.log("a"));
    let explained = g.cli(&["explain", "a"]).good();
    explained.says(&[&format!("HTTP POST http://127.0.0.1:{port}/quit: worked")]);
    let own = g.read(".keepwell/keepwell.log");
    assert!(own.contains("/quit") && !own.contains("s3cret") && !own.contains("token"), "{own}");
    g.cli(&["down"]).good();
}

#[test]
fn a_program_that_is_gone_before_it_answers_was_asked_all_the_same() {
    let port = free_port();
    let g = server(port, &format!("[{{ http = 'http://127.0.0.1:{port}/drop', wait = '{LONG}' }}]"));
    let lines = stop(&g, "a");
    has(&lines, "exit code 7");
    has_not(&lines, "failed");
    g.cli(&["down"]).good();
}

#[test]
fn what_fails_gives_way_to_the_next_step_at_once() {
    let (port, closed) = (free_port(), free_port());
    let ladder =
        |step: &str| format!("[{{ {step}, wait = '{LONG}' }}, {{ signal = 'TERM', wait = '{LONG}' }}]");
    let cases = [
        ("refused", format!("http = 'http://127.0.0.1:{closed}/quit'"), "connection refused by 127.0.0.1:"),
        ("bad", format!("http = 'http://127.0.0.1:{port}/no'"), "answered 500 Internal Server Error"),
        ("missing", "command = ['./no-such-program', 's3cret']".to_owned(), "no-such-program"),
        ("code", "command = ['sh', '-c', 'exit 3', 's3cret']".to_owned(), "exit code 3"),
    ];
    let mut config =
        format!("[services.server]\ncommand = 'CHILD http {port}'\nready = 'tcp://127.0.0.1:{port}'\n");
    for (name, step, _) in &cases {
        let ladder = ladder(step);
        config += &format!("[services.{name}]\ncommand = 'CHILD hang'\nstop = {ladder}\n");
    }
    let g = Guardian::up(&config);
    g.wait_state("server", &["ready"]);
    for (name, _, reason) in &cases {
        let lines = stop(&g, name);
        let failed = lines.iter().find(|l| l.contains("stop step 1 failed")).expect("it is told");
        assert!(failed.contains(reason), "{failed}");
        has(&lines, "stop step 2: SIGTERM to the main process");
        has(&lines, "killed by SIGTERM");
        has_not(&lines, "s3cret");
        g.cli(&["explain", name]).good().says(&[reason, "SIGTERM to the main process: worked"]);
    }
    g.cli(&["down"]).good();
}

#[test]
fn a_command_runs_as_the_service_does_and_the_program_has_its_time() {
    let g = Guardian::up(&format!(
        r#"
        [services.a]
        command = ["sh", "-c", "echo $$$$ > pid; exec CHILD trap-term 7 --after 300"]
        env = {{ TOKEN = "s3cret" }}
        stop = [
            {{ command = ["sh", "-c", "echo $1 and $TOKEN; kill $(cat pid)", "sh", "${{TOKEN}}"], wait = "{LONG}" }},
            {{ signal = "KILL", wait = "{LONG}" }},
        ]
        "#
    ));
    g.wait_file("pid", "\n");
    g.wait_log("a", "waiting for TERM");
    let lines = stop(&g, "a");
    has(&lines, "stop step 1: command sh");
    has(&lines, "exit code 7");
    has_not(&lines, "stop step 2");
    has_not(&lines, "s3cret");
    g.wait_log("a", "s3cret and s3cret");
    g.cli(&["explain", "a"]).good().says(&["command sh: worked"]);
    g.cli(&["down"]).good();
}

#[test]
fn what_hangs_has_its_time_and_is_then_ended() {
    let port = free_port();
    let steps = format!(
        "[{{ http = 'http://127.0.0.1:{port}/hang', wait = '300ms' }}, {{ command = ['sh', '-c', 'trap \"\" TERM; CHILD ignore-term & CHILD ignore-term'], wait = '300ms' }}, {{ signal = 'TERM', wait = '{LONG}' }}]"
    );
    let g = server(port, &steps);
    let lines = stop(&g, "a");
    has(&lines, "stop step 1 failed: no answer within");
    has(&lines, "stop step 2 failed: did not end within");
    has(&lines, "killed by SIGTERM");
    wait_some("the command and its child to be gone", || g.services_running().is_empty().then_some(()));
    g.cli(&["down"]).good();
}

#[test]
fn a_stop_timeout_ends_a_command_too() {
    let g = Guardian::up(&format!(
        "[services.a]\ncommand = 'CHILD ignore-term'\nstop = [{{ command = 'CHILD hang', wait = '{LONG}' }}]\nstop_timeout = '300ms'\n"
    ));
    let lines = stop(&g, "a");
    has(&lines, "stop step 2: kill of the whole tree");
    wait_some("nothing to run", || g.services_running().is_empty().then_some(()));
    g.cli(&["down"]).good();
}

/// Kills the daemon and waits until another answers.
fn replace_daemon(g: &Guardian) {
    let before = g.daemon();
    sys::kill(before, sys::SIGKILL);
    wait_some("another daemon", || g.info().filter(|i| i.daemon_pid != before));
}

#[test]
fn a_daemon_that_is_replaced_amid_a_step_goes_on_with_the_ladder() {
    let port = free_port();
    let steps = format!(
        "[{{ http = 'http://127.0.0.1:{port}/hang', wait = '2s' }}, {{ command = ['sh', '-c', 'echo $$$$ > command; sleep 3600'], wait = '2s' }}, {{ signal = 'TERM', wait = '{LONG}' }}]"
    );
    let g = server(port, &steps);
    g.cli(&["stop", "--no-wait", "a"]).good();
    g.wait_log("a", "POST /hang");
    replace_daemon(&g);
    let command = g.wait_file("command", "\n");
    replace_daemon(&g);
    let lines = stop(&g, "a");
    has(&lines, "stop step 2: command sh");
    has(&lines, "stop step 3: SIGTERM to the main process");
    assert_eq!(g.log("a").matches("POST /hang").count(), 1, "a request is not sent again");
    assert_eq!(g.read("command"), command, "a command is not started again");
    wait_some("nothing to run", || g.services_running().is_empty().then_some(()));
    g.cli(&["explain", "a"]).good().says(&["command sh: ", "SIGTERM to the main process: worked"]);
    g.cli(&["down"]).good();
}

#[test]
fn what_a_reload_takes_away_is_ended_by_its_own_steps_and_hooks() {
    let port = free_port();
    let server = |path: &str, word: &str| {
        format!(
            "[services.a]\ncommand = 'CHILD http {port}'\nready = 'tcp://127.0.0.1:{port}'\nenv = {{ WORD = '{word}' }}\nhooks = {{ pre_stop = ['sh', '-c', 'echo $WORD >> stopped'] }}\nstop = {{ http = 'http://127.0.0.1:{port}/{path}', wait = '{LONG}' }}\n"
        )
    };
    let other = "[services.b]\ncommand = 'CHILD hang'\n";
    let g = Guardian::up(&format!("{}{other}", server("quit?1", "one")));
    g.wait_state("a", &["ready"]);
    g.write("keepwell.toml", &format!("{}{other}", server("quit?2", "two")));
    g.cli(&["reload"]).good();
    g.wait_log("a", "POST /quit?1");
    g.wait_state("a", &["ready"]);
    g.write("keepwell.toml", other);
    g.cli(&["reload"]).good();
    g.wait_for("a to be gone", |all| all.iter().all(|s| s.name != "a"));
    assert!(g.log("a").contains("POST /quit?2"), "{}", g.log("a"));
    assert_eq!(g.read("stopped"), "one\ntwo\n");
    let lines = told(&g.events(), "a");
    has_not(&lines, "failed");
    g.cli(&["down"]).good();
}
