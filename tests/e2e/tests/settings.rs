//! What a service can say of its process: who it is, what it may, where it stands, what it knows.

use keepwell_e2e::{Guardian, sys, wait_some};

fn status_of(pid: u32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_process_is_what_its_service_says() {
    if !sys::is_root() {
        eprintln!("skipped: only root may make a process another user's");
        return;
    }
    let g = Guardian::new(
        r#"
        [services.a]
        command = "CHILD hang"
        user = "nobody"
        group = "daemon"
        umask = "027"
        nice = 5
        oom_score_adj = 300
        no_new_privileges = true
        capabilities = ["net_bind_service"]
        limits = { nofile = 123, core = "0B" }
        cwd = "inside"
        "#,
    );
    std::fs::create_dir(g.path("inside")).unwrap();
    g.cli(&["up", "--detach"]).good();
    let pid = g.service("a").pid.unwrap();
    assert_eq!(status_of(pid, "Uid"), "65534 65534 65534 65534");
    assert_eq!(status_of(pid, "Gid"), "1 1 1 1");
    assert_eq!(status_of(pid, "Umask"), "0027");
    assert_eq!(status_of(pid, "NoNewPrivs"), "1");
    // CAP_NET_BIND_SERVICE is number 10 (capability.h).
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_of(pid, set), "0000000000000400", "{set}");
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("5"), "nice");
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "300");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|l| l.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((limit("Max open files").as_str(), limit("Max core file size").as_str()), ("123 123", "0 0"));
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), g.path("inside"));
    g.cli(&["down"]).good();
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let mut g = Guardian::new(
        r#"
        [defaults]
        env = { SHARED = "all", MINE = "default" }
        [services.a]
        command = "CHILD print-env"
        env = { MINE = "own", TAKEN = { from = "OUTER" }, BOTH = "${MINE}-${instance}" }
        env_file = "vars.env"
        [services.bare]
        command = "CHILD print-env"
        clear_env = true
        "#,
    );
    g.write("vars.env", "# a comment\nFROM_FILE=file\nMINE=file\nexport QUOTED=\"two words\"\n");
    g.set_env("OUTER", "outside");
    g.set_env("NOTIFY_SOCKET", "/not/for/children");
    g.start(&[]);
    g.wait_answering();
    let log = g.wait_log("a", "end of environment");
    for line in ["SHARED=all", "MINE=own", "TAKEN=outside", "BOTH=own-1", "FROM_FILE=file", "OUTER=outside"] {
        assert!(log.lines().any(|l| l == line), "`{line}` is not in:\n{log}");
    }
    assert!(!log.contains("NOTIFY_SOCKET"), "{log}");
    let bare = g.wait_log("bare", "end of environment");
    assert!(!bare.contains("OUTER=") && bare.contains("PATH="), "{bare}");
    g.end();
}

#[test]
fn a_program_of_a_user_who_is_not_there_is_refused_in_words() {
    let g = Guardian::new("[services.a]\ncommand = 'CHILD hang'\nuser = 'no-such-user'\n");
    let answer = g.cli(&["check"]);
    assert_ne!(answer.code, 0);
    answer.says(&["no-such-user"]);
}

#[test]
fn a_deep_folder_is_no_trouble() {
    let g = Guardian::new("");
    let deep = g.path(&["folder-with-a-long-name"; 8].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    let child = keepwell_e2e::testchild().display();
    let config = format!("[services.a]\ncommand = '{child} notify READY=1'\nready = 'notify'\n");
    std::fs::write(deep.join("keepwell.toml"), config).unwrap();
    let run = |args: &[&str]| {
        let done = g.command(args).current_dir(&deep).output().unwrap();
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.success(), "{args:?}: {text}");
        text
    };
    run(&["up", "--detach"]);
    assert!(run(&["status", "--json"]).contains("\"ready\""));
    run(&["down"]);
    g.assert_nothing_left(std::time::Duration::ZERO);
}

#[test]
fn a_pause_may_end_in_a_stop() {
    let g = Guardian::up("[services.a]\ncommand = 'CHILD hang'\n");
    let pid = g.wait_state("a", &["running"]).pid.unwrap();
    let help = g.cli(&["pause", "--help"]).good().out;
    let option = ["--stop-after", "--for"].into_iter().find(|o| help.contains(o));
    let option = option.unwrap_or_else(|| panic!("no option for it:\n{help}"));
    g.cli(&["pause", "a", option, "500ms"]).good();
    assert!(sys::exists(pid), "a pause alone ends nothing");
    wait_some("its end", || (!sys::exists(pid)).then_some(()));
    g.end();
}
