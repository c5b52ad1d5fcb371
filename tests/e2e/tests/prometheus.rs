//! A real Prometheus from Debian's packages. `cargo xtask test prometheus` fetches it and names its folder in
//! KEEPWELL_PROMETHEUS; other runs are without the feature that these tests need.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use keepwell_e2e::{Guardian, free_port, http, wait_some, wait_until};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/prometheus-rules.yml");
const RULES_TEST: &str = include_str!("../prometheus/rules-test.yml");

fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("KEEPWELL_PROMETHEUS").expect("cargo xtask test prometheus sets it");
    Path::new(&folder).join(name)
}

fn promtool(arguments: &[&str], input: &str) {
    let mut tool = Command::new(program("promtool"));
    let mut child = tool.args(arguments).stdin(Stdio::piped()).spawn().expect("promtool starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    assert!(child.wait().expect("it ends").success(), "promtool {arguments:?}");
}

/// A server that ends with the test.
struct Server(Child);

impl Server {
    fn start(name: &str, arguments: &[String], log: &Path) -> Server {
        let log = File::create(log).expect("a log");
        let mut command = Command::new(program(name));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        Server(command.spawn().expect("it starts"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The values that a query gives just now.
fn query(port: u16, expression: &str) -> Vec<(serde_json::Value, String)> {
    let encoded: String = expression.bytes().map(|b| format!("%{b:02X}")).collect();
    let Some((200, body)) = http::get(port, &format!("/api/v1/query?query={encoded}")) else { return vec![] };
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let found = answer["data"]["result"].as_array().expect("an array").iter();
    found.map(|r| (r["metric"].clone(), r["value"][1].as_str().expect("a value").to_owned())).collect()
}

#[test]
fn the_rules_are_good_and_fire_when_they_should() {
    promtool(&["check", "rules", RULES], "");
    let folder = tempfile::tempdir().unwrap();
    let test = folder.path().join("test.yml");
    std::fs::write(&test, RULES_TEST.replace("RULES", RULES)).unwrap();
    promtool(&["test", "rules", test.to_str().unwrap()], "");
}

#[test]
fn a_real_prometheus_scrapes_a_real_guardian() {
    let (port, prometheus) = (free_port(), free_port());
    let mut g = Guardian::new(&format!(
        "[keepwell]\nhttp = '127.0.0.1:{port}'\n\
         [services.web]\ncommand = 'CHILD hang'\n\
         live = {{ exec = ['true'], period = '200ms' }}\nguards = [{{ when = 'memory > 800MB', then = 'alert' }}]\n\
         [services.bad]\ncommand = 'CHILD exit 3'\nrestart = {{ delay = '100ms' }}\n"
    ));
    g.start(&[]);
    g.wait_for("a restart", |all| all.iter().any(|s| s.name == "bad" && s.restarts > 1));
    g.wait_state("web", &["running"]);
    let page = wait_some("the page", || http::get(port, "/metrics").filter(|(code, _)| *code == 200));
    promtool(&["check", "metrics"], &page.1);

    g.write(
        "prometheus.yml",
        &format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{RULES}']\n\
             scrape_configs:\n- job_name: keepwell\n  static_configs: [{{ targets: ['127.0.0.1:{port}'] }}]\n"
        ),
    );
    let flag = |name: &str, value: String| format!("--{name}={value}");
    let arguments = [
        flag("config.file", g.path("prometheus.yml").display().to_string()),
        flag("storage.tsdb.path", g.path("tsdb").display().to_string()),
        flag("web.listen-address", format!("127.0.0.1:{prometheus}")),
    ];
    let server = Server::start("prometheus", &arguments, &g.path("prometheus.log"));
    wait_until("what it asks is answered in its own form", || !query(prometheus, "up == 1").is_empty());
    let one = |expression: &str| {
        wait_some(expression, || query(prometheus, expression).into_iter().next()).1.parse::<f64>().unwrap()
    };
    assert_eq!(one("keepwell_service_ready{service='web'}"), 1.0);
    assert_eq!(one("sum(keepwell_service_state{service='web'})"), 1.0);
    assert!(one("keepwell_service_memory_bytes{service='web'}") > 0.0);
    assert!(one("keepwell_service_restarts_total{service='bad'} > 0") > 1.0);
    assert!(one("keepwell_service_exits_total{service='bad',class='retry',code='3'} > 0") > 1.0);
    assert!(one("keepwell_probe_duration_seconds_count{service='web',purpose='live'} > 0") > 0.0);
    let slowest =
        "histogram_quantile(0.99, rate(keepwell_probe_duration_seconds_bucket{service='web'}[30s])) > 0";
    assert!(one(slowest) < 5.0);
    assert!(one("time() - keepwell_service_state_changed_timestamp_seconds{service='web'}") < 600.0);
    assert_eq!(one("keepwell_service_guard_tripped{service='web'}"), 0.0);
    // A counter that Prometheus knows as one.
    let (_, kinds) = wait_some("metadata", || {
        // OpenMetrics names a counter without its ending.
        let path = "/api/v1/metadata?metric=keepwell_service_restarts";
        http::get(prometheus, path).filter(|(_, body)| body.contains("counter"))
    });
    assert!(kinds.contains("Restarts by keepwell itself"), "{kinds}");
    // The rules are those of the example, and can be asked.
    wait_until("each rule to be evaluated well", || {
        let Some((200, body)) = http::get(prometheus, "/api/v1/rules") else { return false };
        body.matches("\"health\":\"ok\"").count() >= 9
    });
    drop(server);
    g.end();
}

#[test]
fn a_real_alertmanager_hears_of_an_incident_and_of_its_end() {
    let port = free_port();
    let mut g = Guardian::new(&format!(
        "[keepwell]\nnotify = [{{ webhook = 'http://127.0.0.1:{port}/api/v2/alerts', format = 'alertmanager' }}]\n\
         [services.web]\ncommand = ['sh', '-c', 'test -e well && exec sleep 1000; exit 3']\n\
         restart = {{ delay = '200ms', max_delay = '200ms', reset_after = '500ms' }}\n"
    ));
    g.write("alertmanager.yml", "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n");
    let arguments = [
        format!("--config.file={}", g.path("alertmanager.yml").display()),
        format!("--storage.path={}", g.path("alerts").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
    ];
    let server = Server::start("prometheus-alertmanager", &arguments, &g.path("alertmanager.log"));
    wait_until("Alertmanager", || http::get(port, "/-/ready").is_some_and(|(code, _)| code == 200));
    g.start(&[]);
    let alerts = || -> Vec<serde_json::Value> {
        let answer = http::get(port, "/api/v2/alerts").filter(|(code, _)| *code == 200);
        answer.map(|(_, body)| serde_json::from_str(&body).expect("JSON")).unwrap_or_default()
    };
    let incident = |a: &serde_json::Value| {
        a["labels"]["alertname"] == "KeepwellIncident" && a["labels"]["service"] == "web"
    };
    let found = wait_some("the incident", || alerts().into_iter().find(incident));
    assert_eq!(found["labels"]["severity"], "warning");
    assert_eq!(found["status"]["state"], "active");
    assert!(found["annotations"]["summary"].as_str().is_some_and(|s| s.contains("exit code 3")), "{found}");
    g.write("well", "");
    // Alertmanager shows only what is not resolved.
    wait_until("its end", || !alerts().iter().any(incident));
    drop(server);
    g.end();
}
