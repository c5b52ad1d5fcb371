//! `[keepwell] http` and `notify`: what monitoring and people are told.

use std::net::{TcpListener, TcpStream};

use keepwell_wine::http::{Hook, get};
use keepwell_wine::{Guardian, free_port, needs_wine, wait_some, wait_until};
use serde_json::Value;

/// The value of the sample that begins so.
fn sample(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn wait_page(port: u16, what: &str, so: impl Fn(&str) -> bool) -> String {
    wait_some(what, || get(port, "/metrics").map(|(_, page)| page).filter(|page| so(page)))
}

fn is_ready(port: u16, service: &str) -> bool {
    get(port, &format!("/ready/{service}")).is_some_and(|(code, _)| code == 200)
}

#[test]
fn readiness_health_and_figures_of_real_programs_are_served() {
    needs_wine!();
    let (own, web) = (free_port(), free_port());
    let mut g = Guardian::new(&format!(
        "[keepwell]\nhttp = '127.0.0.1:{own}'\n\
         [services.web]\ncommand = 'CHILD http {web} --gate gate'\nstop = []\n\
         ready = {{ http = 'http://127.0.0.1:{web}/ready', period = '200ms', timeout = '10s', failure_threshold = 2 }}\n\
         [services.big]\ncommand = 'CHILD leak 64000000'\nstop = []\n\
         [services.bad]\ncommand = 'CHILD exit 3'\nrestart = {{ delay = '100ms' }}\n"
    ));
    g.start(&["--quiet"]);
    g.wait_answering();
    let (code, why) = wait_some("an answer", || get(own, "/ready/web"));
    assert!(code == 503 && why.starts_with("web is "), "{code} {why}");
    g.write("gate", "");
    wait_until("web to be ready", || is_ready(own, "web"));
    assert_eq!(get(own, "/ready/nobody").map(|(code, _)| code), Some(404));
    let (code, health) = get(own, "/health").expect("it answers");
    assert!(code == 200 && health.contains("\"services\":3"), "{code} {health}");

    g.wait_log("big", "holding ");
    let ended = r#"keepwell_service_exits_total{service="bad",class="retry",code="3",expected="false"}"#;
    let page = wait_page(own, "two ends and what is used", |page| {
        let used = sample(page, "keepwell_service_memory_bytes{service=\"big\"}") >= Some(6e7);
        used && sample(page, ended) >= Some(2.0)
    });
    let of = |name: &str| sample(&page, &format!("keepwell_{name}"));
    for name in ["threads", "memory_bytes", "log_bytes_total"] {
        let value = of(&format!("service_{name}{{service=\"web\"}}"));
        assert!(value > Some(0.0), "{name}: {value:?}\n{page}");
    }
    // Wine counts no handles.
    assert!(of("service_open_descriptors{service=\"web\"}").is_some(), "{page}");
    // Under Wine the host of its console is one.
    assert!(matches!(of("service_processes{service=\"web\"}"), Some(1.0..=2.0)), "{page}");
    assert!(of("service_memory_bytes{service=\"big\"}") < Some(1e9), "{page}");
    assert_eq!(of(r#"service_state{service="web",state="ready"}"#), Some(1.0), "{page}");
    assert!(of(r#"service_restarts_total{service="bad"}"#) >= Some(1.0), "{page}");
    assert!(
        page.contains("keepwell_probe_duration_seconds_count{service=\"web\",purpose=\"ready\""),
        "{page}"
    );
    for process in ["anchor", "daemon"] {
        for name in ["resident_memory_bytes", "threads"] {
            let value = of(&format!("process_{name}{{process=\"{process}\"}}"));
            assert!(value > Some(0.0), "{name} of the {process}: {value:?}\n{page}");
        }
    }
    g.end();
}

#[test]
fn a_port_that_is_taken_is_told_and_tried_again_until_it_is_free() {
    needs_wine!();
    let port = free_port();
    let mut g = Guardian::new(&format!(
        "[keepwell]\nhttp = '127.0.0.1:{port}'\n[services.web]\ncommand = 'CHILD hang'\nstop = []\n"
    ));
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    g.start(&["--quiet"]);
    g.wait_answering();
    let says =
        |text: &str, words: &str| text.contains(&format!("http://127.0.0.1:{port}")) && text.contains(words);
    g.wait_events("that it is taken", |all| all.iter().any(|e| says(&e.text, "cannot be served")));
    g.wait_state("web", &["running"]);
    let pid = g.pid("web");
    drop(taken);
    wait_until("it to be served", || is_ready(port, "web"));
    g.wait_events("that it is served", |all| all.iter().any(|e| says(&e.text, "is served now")));

    g.write("keepwell.toml", &g.read("keepwell.toml").replace(&format!("http = '127.0.0.1:{port}'"), ""));
    g.cli(&["reload"]).good();
    wait_until("nothing to be served", || TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(g.pid("web"), pid, "nothing was restarted");
    g.end();
}

#[test]
fn people_are_told_by_a_webhook_and_by_a_program() {
    needs_wine!();
    let hook = Hook::refusing(1);
    let mut g = Guardian::new(&format!(
        "[keepwell]\nnotify = [\n\
         {{ name = 'ops', webhook = 'http://127.0.0.1:{}/hooks/t0ken', on = 'gave_up', timeout = '30s' }},\n\
         {{ name = 'page', exec = ['CHILD', 'take', 'told.json'], on = 'gave_up', timeout = '1m' }},\n\
         {{ name = 'nobody', exec = ['./is-not-there.exe'], on = 'leak_foreseen' }} ]\n\
         [services.bad]\ncommand = 'CHILD exit 1'\nrestart = {{ policy = 'never' }}\n\
         [services.web]\ncommand = 'CHILD hang'\nstop = []\n",
        hook.port()
    ));
    g.start(&["--quiet"]);
    g.wait_answering();
    // Refused once, and told again.
    wait_until("two attempts", || hook.bodies().len() >= 2);
    let all = hook.bodies();
    assert_eq!(all[0], all[1]);
    assert_eq!(
        (&all[0]["notices"][0]["topic"], &all[0]["notices"][0]["service"]),
        (&"gave_up".into(), &"bad".into())
    );
    let told: Value = serde_json::from_str(&g.wait_file("told.json", "gave_up")).expect("JSON");
    assert_eq!((&told["notices"][0]["service"], &told["version"]), (&"bad".into(), &1.into()));

    g.cli(&["notify", "test", "--to", "ops"]).good().says(&["json took it: status 200"]);
    assert_eq!(hook.bodies().last().map(|b| b["notices"][0]["topic"].clone()), Some("test".into()));
    let all = g.cli(&["notify", "test"]).with_code(1);
    all.says(&["exec took it: exit code 0", "could not be started"]);
    assert!(!all.all().contains("t0ken"), "{}", all.all());
    assert!(g.read("told.json").contains("\"test\""), "{}", g.read("told.json"));
    assert!(!g.traces().contains("t0ken"), "{}", g.traces());
    g.end();
}

#[test]
fn what_a_program_that_is_told_starts_ends_with_it() {
    needs_wine!();
    let mut g = Guardian::new(
        "[keepwell]\nnotify = [{ name = 'page', exec = ['CHILD', 'grandchildren', 'pids'], on = 'gave_up', timeout = '10s' }]\n\
         [services.bad]\ncommand = 'CHILD exit 1'\nrestart = { policy = 'never' }\n\
         [services.web]\ncommand = 'CHILD hang'\nstop = []\n",
    );
    g.start(&["--quiet"]);
    g.wait_answering();
    wait_until("two generations", || g.read("pids").lines().count() >= 2);
    let own = |command: &str| command.contains("grandchildren") || command.contains("record");
    let left = || g.prefix().children().into_iter().filter(|p| own(&p.command)).count();
    g.wait_events("the timeout", |all| all.iter().any(|e| e.text.contains("did not end within 10 s")));
    // Between two attempts nothing of the one that is made again and again is there.
    wait_until("nothing of it to be left", || left() == 0);
    g.end();
}
