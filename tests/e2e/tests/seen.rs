//! `[keepwell] http`: readiness for load balancers, health, metrics.

use std::net::TcpStream;
use std::process::{Command, Stdio};

use keepwell_e2e::http::{self, ask};
use keepwell_e2e::{Guardian, docs, free_port, sys, wait_some, wait_until};

fn get(port: u16, path: &str) -> (u16, String) {
    wait_some(path, || http::get(port, path))
}

/// The value of the sample that begins so.
fn sample(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn wait_sample(port: u16, name: &str, so: impl Fn(f64) -> bool) -> String {
    wait_some(name, || {
        let page = get(port, "/metrics").1;
        sample(&page, name).is_some_and(&so).then_some(page)
    })
}

#[test]
fn readiness_follows_the_service_and_its_check() {
    let port = free_port();
    let mut g = Guardian::new(&format!(
        "[keepwell]\nhttp = '127.0.0.1:{port}'\n\
         [services.web]\ncommand = 'CHILD hang'\n\
         ready = {{ exec = ['test', '-e', 'gate'], period = '50ms', failure_threshold = 2 }}\n\
         [services.job]\nkind = 'oneshot'\ncommand = 'CHILD exit 0'\n"
    ));
    g.start(&[]);
    assert_eq!(get(port, "/ready/web").0, 503);
    assert!(get(port, "/ready/web").1.contains("web is starting"));
    g.write("gate", "");
    wait_until("ready", || get(port, "/ready/web").0 == 200);
    assert_eq!(ask(port, "HEAD", "/ready/web"), Some((200, String::new())));
    wait_until("a oneshot that ended well", || get(port, "/ready/job").0 == 200);
    std::fs::remove_file(g.path("gate")).unwrap();
    wait_until("not ready any more", || get(port, "/ready/web").0 == 503);
    assert_eq!(get(port, "/ready/nobody").0, 404);

    // keepwell itself is well all the same, and so is the next daemon.
    let (code, health) = get(port, "/health");
    assert!(code == 200 && health.contains("\"services\":2"), "{health}");
    let daemon = g.daemon();
    assert!(sys::kill(daemon, 9));
    wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    g.write("gate", "");
    wait_until("ready again", || get(port, "/ready/web").0 == 200);
    wait_sample(port, "keepwell_daemon_restarts_total", |n| n == 1.0);
    g.end();
}

#[test]
fn what_happens_is_counted_and_what_is_used_is_measured() {
    let port = free_port();
    let g = Guardian::up(&format!(
        "[keepwell]\nhttp = '127.0.0.1:{port}'\n\
         [services.web]\ncommand = 'CHILD hang'\n\
         live = {{ exec = ['sh', '-c', 'exit $$(cat verdict 2>/dev/null || echo 0)'], period = '50ms', failure_threshold = 1000 }}\n\
         [services.bad]\ncommand = 'CHILD exit 3'\nrestart = {{ delay = '50ms' }}\n"
    ));
    let page = wait_sample(
        port,
        r#"keepwell_service_exits_total{service="bad",class="retry",code="3",expected="false"}"#,
        |n| n >= 2.0,
    );
    assert!(sample(&page, r#"keepwell_service_restarts_total{service="bad"}"#) >= Some(1.0), "{page}");
    g.wait_state("web", &["running"]);
    let page = wait_sample(
        port,
        r#"keepwell_probe_results_total{service="web",purpose="live",probe="exec sh",result="pass"}"#,
        |n| n >= 2.0,
    );
    let probe = r#"{service="web",purpose="live",probe="exec sh""#;
    assert!(sample(&page, &format!("keepwell_probe_duration_seconds_sum{probe}}}")) > Some(0.0), "{page}");
    let all = sample(&page, &format!("keepwell_probe_duration_seconds_count{probe}}}"));
    assert_eq!(sample(&page, &format!("keepwell_probe_duration_seconds_bucket{probe},le=\"+Inf\"}}")), all);
    for name in ["memory_bytes", "processes", "threads", "open_descriptors"] {
        let value = sample(&page, &format!("keepwell_service_{name}{{service=\"web\"}}"));
        assert!(value > Some(0.0), "{name}: {value:?}");
    }
    assert_eq!(sample(&page, r#"keepwell_service_state{service="web",state="running"}"#), Some(1.0));
    assert_eq!(sample(&page, r#"keepwell_service_state{service="web",state="ready"}"#), Some(0.0));
    for process in ["anchor", "daemon"] {
        let memory = format!("keepwell_process_resident_memory_bytes{{process=\"{process}\"}}");
        assert!(sample(&page, &memory) > Some(100_000.0), "{page}");
    }
    g.write("verdict", "2");
    wait_sample(
        port,
        r#"keepwell_probe_results_total{service="web",purpose="live",probe="exec sh",result="unknown"}"#,
        |n| n >= 1.0,
    );
    g.end();
}

#[test]
fn a_reload_moves_it_and_a_taken_port_ends_nothing() {
    let (first, second) = (free_port(), free_port());
    let config = |http: &str| format!("{http}[services.web]\ncommand = 'CHILD hang'\n");
    let at = |port: u16| format!("[keepwell]\nhttp = '127.0.0.1:{port}'\n");
    let taken = std::net::TcpListener::bind(("127.0.0.1", first)).unwrap();
    let g = Guardian::up(&config(&at(first)));
    g.wait_events("that the port is taken", |all| {
        let text = format!("http://127.0.0.1:{first} cannot be served");
        all.iter().any(|e| e.kind == "told" && e.text.contains(&text) && e.text.contains("again"))
    });
    g.wait_state("web", &["running"]);
    let pid = g.pid("web");
    drop(taken);
    assert_eq!(get(first, "/health").0, 200);

    g.write("keepwell.toml", &g.read("keepwell.toml").replace(&first.to_string(), &second.to_string()));
    g.cli(&["reload"]).good();
    assert_eq!(get(second, "/health").0, 200);
    wait_until("the old address to be given up", || TcpStream::connect(("127.0.0.1", first)).is_err());

    g.write("keepwell.toml", &g.read("keepwell.toml").replace(&at(second), ""));
    g.cli(&["reload"]).good();
    wait_until("nothing to be served", || TcpStream::connect(("127.0.0.1", second)).is_err());
    assert_eq!(g.pid("web"), pid, "nothing was restarted");

    g.write("keepwell.toml", &format!("[keepwell]\nhttp = '0.0.0.0:{first}'\n{}", g.read("keepwell.toml")));
    g.cli(&["reload"]).with_code(2).says(&["it is for this host alone"]);
    g.end();
}

#[test]
fn the_script_of_the_documentation_goes_on_when_all_is_ready_and_says_what_is_not() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: curl is missing, which the script uses");
        return;
    }
    let port = free_port();
    let mut g = Guardian::new(&format!(
        "[keepwell]\nhttp = '127.0.0.1:{port}'\n\
         [services.db]\ncommand = 'CHILD hang'\n\
         [services.web]\ncommand = 'CHILD hang'\n\
         ready = {{ exec = ['test', '-e', 'gate'], period = '50ms' }}\n"
    ));
    g.write("wait-ready.sh", &docs::block("http", "wait-ready.sh ADDRESS SECONDS SERVICE..."));
    let folder = g.dir().to_owned();
    let script = |seconds: &str| {
        let mut script = Command::new("sh");
        script.arg("wait-ready.sh").arg(format!("127.0.0.1:{port}")).args([seconds, "db", "web"]);
        script.current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        script
    };
    // It begins before there is anybody to ask.
    let waiting = script("60").spawn().expect("sh is there");
    g.start(&[]);
    wait_until("db to be ready", || get(port, "/ready/db").0 == 200);
    let said = script("0").output().expect("sh is there");
    let words = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{words}");
    assert!(words.starts_with("web is not ready after 0 s: web is starting"), "{words}");
    g.write("gate", "");
    let said = waiting.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "db is ready\nweb is ready\n");
    assert!(said.status.success(), "{said:?}");
    g.end();
}
