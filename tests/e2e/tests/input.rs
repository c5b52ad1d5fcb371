//! Bad input: what, where, what instead; nothing that runs is touched; exit code 2.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use keepwell_e2e::{Guardian, sys};

const GOOD: &str = "[services.a]\ncommand = 'CHILD hang'\n";

/// Each bad configuration, and what must be said about it. The place is line and column of the file.
const BAD: &[(&str, &str, &[&str])] = &[
    (
        "an unknown key",
        "[services.a]\ncommand = 'CHILD hang'\nrestrat = 'always'\n",
        &["restrat", "restart", ":3:1"],
    ),
    ("an unknown table", "[service.a]\ncommand = 'CHILD hang'\n", &["service", "services", ":1:"]),
    ("a wrong type", "[services.a]\ncommand = 5\n", &["command", ":2:11"]),
    (
        "a cycle",
        "[services.a]\ncommand = 'CHILD hang'\ndepends_on = ['b']\n[services.b]\ncommand = 'CHILD hang'\ndepends_on = ['a']\n",
        &["a → b → a"],
    ),
    ("no command", "[services.a]\nenv = {}\n", &["command", ":1:"]),
    (
        "a bad duration",
        "[services.a]\ncommand = 'CHILD hang'\nrestart = { delay = '5 bananas' }\n",
        &["5 bananas", ":3:"],
    ),
    ("a bare number", "[services.a]\ncommand = 'CHILD hang'\nrestart = { delay = 5 }\n", &["5", ":3:"]),
    (
        "one name twice",
        "[services.a]\ncommand = 'CHILD hang'\n[services.a]\ncommand = 'CHILD hang'\n",
        &["a", ":3:"],
    ),
    (
        "a missing dependency",
        "[services.a]\ncommand = 'CHILD hang'\ndepends_on = ['bd']\n[services.db]\ncommand = 'CHILD hang'\n",
        &["bd", "db", ":3:"],
    ),
    ("broken text", "[services.a\ncommand = 'CHILD hang'\n", &[":1:"]),
    (
        "one log of many",
        "[services.a]\ncommand = 'CHILD hang'\ninstances = 2\nlog = { file = 'a.log' }\n",
        &["${instance}", ":4:"],
    ),
    (
        "a bad signal",
        "[services.a]\ncommand = 'CHILD hang'\nstop = [{ signal = 'TREM', wait = '1s' }]\n",
        &["TREM", "TERM", ":3:"],
    ),
];

#[test]
fn nothing_starts_from_a_bad_file() {
    for (what, text, words) in BAD {
        let g = Guardian::new(text);
        let answer = g.cli(&["up"]).with_code(2);
        for word in *words {
            assert!(answer.all().contains(word), "{what}: `{word}` is not in:\n{}", answer.all());
        }
        assert!(answer.all().contains("keepwell.toml"), "{what}: no file is named:\n{}", answer.all());
        assert!(!answer.all().contains("panicked"), "{what}:\n{}", answer.all());
        assert_ne!(g.cli(&["check"]).code, 0, "{what}: `check` takes it");
        assert_eq!(g.processes(), [], "{what}");
    }
}

#[test]
fn nothing_that_runs_is_touched_by_a_bad_file() {
    let g = Guardian::up(GOOD);
    let pid = g.wait_state("a", &["running"]).pid;
    for (what, text, words) in BAD {
        g.write("keepwell.toml", text);
        let answer = g.cli(&["reload"]).with_code(2);
        for word in *words {
            assert!(answer.all().contains(word), "{what}: `{word}` is not in:\n{}", answer.all());
        }
        assert_eq!(g.service("a").pid, pid, "{what}");
    }
    // A daemon that is replaced meanwhile goes on with what was accepted.
    let daemon = g.daemon();
    assert!(sys::kill(daemon, sys::SIGKILL));
    keepwell_e2e::wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    assert_eq!(g.service("a").pid, pid);
    g.end();
}

#[test]
fn files_that_cannot_be_read() {
    let g = Guardian::new(GOOD);
    g.cli(&["up", "-f", "no-such-file.toml"]).with_code(2).says(&["no-such-file.toml"]);
    g.cli(&["check", "no-such-file.toml"]).with_code(2).says(&["no-such-file.toml"]);
    std::fs::create_dir(g.path("empty")).unwrap();
    g.cli(&["up", "-f", "empty"]).with_code(2).says(&["empty"]);

    let g = Guardian::unprivileged(GOOD);
    sys::set_mode(&g.path("keepwell.toml"), 0o000).unwrap();
    g.cli(&["up"]).with_code(2).says(&["keepwell.toml", "ermission denied"]);

    let empty = tempfile_folder();
    let g = Guardian::new(GOOD);
    let none = g.command(&["up"]).current_dir(empty.path()).output().unwrap();
    assert_eq!(none.status.code(), Some(2), "{}", String::from_utf8_lossy(&none.stderr));
    assert!(String::from_utf8_lossy(&none.stderr).contains("keepwell.toml"));
}

fn tempfile_folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_missing_program_is_named_with_its_place() {
    let g = Guardian::new("[services.a]\ncommand = '/no/such/program --flag'\n");
    let answer = g.cli(&["check"]);
    assert_ne!(answer.code, 0);
    answer.says(&["/no/such/program", ":2:"]);
}

#[test]
fn a_port_in_use_shows_in_what_the_program_said() {
    let port = keepwell_e2e::free_port();
    let held = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let g = Guardian::up(&format!("[services.a]\ncommand = 'CHILD http {port}'\n"));
    g.wait_for("a crash", |all| !all[0].exits.is_empty());
    g.cli(&["explain", "a"]).good().says(&["in use"]);
    drop(held);
    g.end();
}

#[test]
fn a_port_that_a_stranger_holds_is_told_before_and_after_the_service_fails_on_it() {
    let port = keepwell_e2e::free_port();
    let held = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let config = format!(
        "[services.a]\ncommand = 'CHILD http {port}'\nready = {{ tcp = '127.0.0.1:{port}' }}\nrestart = {{ delay = '1m' }}\n"
    );
    let mut g = Guardian::new(&config);
    let holder = format!("(pid {})", std::process::id());
    g.cli(&["check"]).good().says(&["warning", &port.to_string(), &holder, "keepwell.toml:3:"]);
    g.start(&[]);
    g.wait_answering();
    // The stranger may have answered its check.
    g.wait_state("a", &["backing_off", "crash_looping"]);
    assert!(g.read("up.err").contains(&holder), "{}", g.traces());
    let said = g.cli(&["explain", "a"]).good().out;
    assert!(said.contains(&holder), "{said}");
    drop(held);
    g.cli(&["start", "a"]).good();
    // Now it is the service itself.
    let answer = g.cli(&["check"]).good();
    assert!(!answer.all().contains("warning"), "{}", answer.all());
    assert!(!g.cli(&["explain", "a"]).good().out.contains("is held by"));
    g.end();
}

#[test]
fn a_file_in_the_place_of_the_socket_is_refused_and_left_alone() {
    let g = Guardian::new(GOOD);
    std::fs::create_dir_all(g.state("")).unwrap();
    std::fs::write(g.state("keepwell.sock"), "mine").unwrap();
    g.cli(&["up"]).with_code(2).says(&["keepwell.sock", "not a socket", "--state"]);
    assert_eq!(std::fs::read_to_string(g.state("keepwell.sock")).unwrap(), "mine");
    std::fs::remove_file(g.state("keepwell.sock")).unwrap();

    let foreign = sys::hold_socket(&g.state("keepwell.sock")).unwrap();
    g.cli(&["up", "--detach"]).with_code(2).says(&["keepwell.sock", "another process answers"]);
    assert!(g.state("keepwell.sock").exists());
    drop(foreign);
    // One that nobody listens on is only left over.
    g.cli(&["up", "--detach"]).good();
    g.cli(&["down"]).good();
}

#[test]
fn a_secret_in_a_bad_line_is_not_repeated() {
    let g = Guardian::new("[services.a]\ncommand = 'CHILD hang'\nenv = { TOKEN = 'hunter2', OTHER = 5 }\n");
    let answer = g.cli(&["check"]);
    assert_ne!(answer.code, 0);
    assert!(!answer.all().contains("hunter2"), "{}", answer.all());
}
