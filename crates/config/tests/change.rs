//! What has changed between two configurations, and what it takes.

use keepwell_config::{Class, Config, Context, Source, diff, load};

fn config(text: &str) -> Config {
    let cx = Context {
        base: "/srv".into(),
        state_dir: "/state".into(),
        env: [("T".to_owned(), "t".to_owned())].into(),
        ..Context::default()
    };
    load(&[Source { path: "keepwell.toml".into(), text: text.to_owned() }], &cx)
        .unwrap_or_else(|e| panic!("{e}"))
}

fn shown(old: &str, new: &str) -> String {
    let line = |c: keepwell_config::Change| {
        format!("{} {}: {} → {} ({:?})\n", c.service, c.key, c.old, c.new, c.class)
    };
    diff(&config(old), &config(new)).into_iter().map(line).collect()
}

#[test]
fn changes_are_told_key_by_key() {
    let old = r#"
        [keepwell]
        log_level = "info"
        [services.gone]
        command = "x"
        [services.same]
        command = "x"
        [services.web]
        command = "x"
        env = { PORT = "1", PASSWORD = "s3cret", T = { from = "T" } }
        restart = { max_delay = "60s", limit = { max = 5 } }
        ready = { tcp = "a:1" }
        depends_on = ["same"]
        stop = [{ signal = "TERM" }]
    "#;
    let new = r#"
        [keepwell]
        log_level = "debug"
        max_parallel_starts = 4
        [services.fresh]
        command = "x"
        [services.same]
        command = ["x"]
        [services.web]
        command = "x y"
        env = { PORT = "2", PASSWORD = "t0psecret", T = "x" }
        restart = { max_delay = "2m", limit = "off", exit_codes = { fatal = [3] } }
        ready = "notify"
        depends_on = { same = { condition = "started", bind = true } }
        stop = [{ signal = "INT", wait = "5s", to = "tree" }]
        limits = { memory = "256MB", core = "unlimited" }
        umask = "022"
        capabilities = ["chown"]
        instances = 2
        hooks = { pre_start = "y" }
        log = { rotate = { keep = 9 } }
    "#;
    insta::assert_snapshot!(shown(old, new));
    assert_eq!(shown(old, old), "");
}

#[test]
fn the_fingerprint_changes_with_what_only_a_restart_applies() {
    let of = |extra: &str| {
        config(&format!("[services.a]\ncommand = \"x\"\n{extra}")).specs.services["a"].fingerprint
    };
    let plain = of("");
    let live = [
        "description = \"d\"",
        "tags = [\"t\"]",
        "enabled = false",
        "instances = 3",
        "restart = \"never\"",
        "stop = []",
        "ready = { tcp = \"a:1\" }",
        "hooks = { pre_start = \"y\" }",
        "log = { rotate = { keep = 1 } }",
    ];
    for key in live {
        assert_eq!(of(key), plain, "{key} is applied live");
    }
    let restart = [
        "cwd = \"/\"",
        "env = { A = \"1\" }",
        "env = { A = \"2\" }",
        "env = { A = { from = \"T\" } }",
        "env = { B = \"1\" }",
        "env_file = \"f\"",
        "clear_env = true",
        "user = \"kim\"",
        "user = 5",
        "group = 5",
        "umask = \"022\"",
        "nice = 1",
        "affinity = \"0\"",
        "oom_score_adj = 1",
        "limits = { nofile = 1 }",
        "limits = { tasks = 1 }",
        "no_new_privileges = true",
        "capabilities = []",
        "kind = \"oneshot\"",
        "shell = true",
        "ready = \"notify\"",
        "ready = { notify = true, watchdog = \"5s\" }",
        "live = \"heartbeat\"",
        "live = { heartbeat = true, period = \"1s\", lost_after = \"15s\" }",
        "live = { heartbeat = true, period = \"5s\", lost_after = \"16s\" }",
        "log = { file = \"f\" }",
        "log = { stderr_file = \"f\" }",
    ];
    let mut all: Vec<u64> = restart.iter().map(|key| of(key)).chain([plain]).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), restart.len() + 1, "each of them differs from the plain one and from the others");
}

/// Fingerprints are kept by anchors across versions of the daemon: another value here restarts every service of every
/// host at its next upgrade.
#[test]
fn the_fingerprint_is_the_same_in_every_version() {
    let text = "[services.a]\ncommand = \"x y\"\nenv = { A = \"1\" }\nlimits = { memory = \"1GB\" }\nuser = \"kim\"\n";
    assert_eq!(format!("{:016x}", config(text).specs.services["a"].fingerprint), "27282a20f758b792");
}

#[test]
fn classes_are_ordered_by_what_they_take() {
    assert!(Class::Live < Class::Restart);
}
