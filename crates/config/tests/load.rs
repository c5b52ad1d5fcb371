//! What good configurations become.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use keepwell_config::{
    Account, Bound, Command, Config, Context, CpuShare, HttpExpect, HttpRequest, LogLevel, Method, Ready,
    ResolvedReady, Severity, Source, WhenDaemonGone, load,
};
use keepwell_core::ServiceSpec;
use keepwell_core::guard::Figure;
use keepwell_core::spec::{
    Condition, Dependency, ExitCodes, Healing, Hook, Kind, Limit, OnCrashLoop, Policy, Probe, Purpose,
    Readiness, RestartPolicy, StopAction, StopStep, To,
};

/// Two folders, as this system separates them.
fn path() -> String {
    let joined = std::env::join_paths(["/usr/bin", "/bin"]).expect("no folder holds a separator");
    joined.into_string().expect("text")
}

fn context() -> Context {
    let path = path();
    let env =
        [("PATH", path.as_str()), ("HOME", "/home/kim"), ("TOKEN", "s3cret"), ("NOTIFY_SOCKET", "/run/x")];
    Context {
        base: "/srv/app".into(),
        state_dir: "/srv/app/.keepwell".into(),
        env: env.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
        ..Context::default()
    }
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.to_owned() }
}

fn good(text: &str) -> Config {
    load(&[source("keepwell.toml", text)], &context()).unwrap_or_else(|e| panic!("{e}"))
}

fn bad(sources: &[Source]) -> String {
    load(sources, &context()).expect_err("it should be rejected").render(false, false)
}

fn spec(config: &Config, name: &str) -> ServiceSpec {
    config.specs.services[name].clone()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_command_alone_has_the_defaults_of_the_design() {
    let config = good("[services.web]\ncommand = \"python3 -m http.server\"\n");
    let spec = ServiceSpec { fingerprint: 0, ..spec(&config, "web") };
    assert_eq!(spec, ServiceSpec::default());
    let web = &config.services["web"];
    assert_eq!(web.command, Command::Words(["python3", "-m", "http.server"].map(Into::into).into()));
    assert_eq!((web.log.rotate.size, web.log.rotate.keep), (100_000_000, 7));
    assert_eq!(config.guardian, keepwell_config::GuardianConfig::default());
    assert_eq!(config.warnings, []);
}

fn plain_probe() -> Probe {
    Probe {
        purpose: Purpose::Live,
        name: String::new(),
        period: secs(5),
        timeout: secs(1),
        initial_delay: Duration::ZERO,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

#[test]
fn every_key_arrives() {
    let config = good(include_str!("good/full.toml"));
    assert_eq!(config.warnings, []);
    let shop = Limit { max: 2, window: secs(300) };
    let healing = Healing {
        limit: Some(Limit { max: 20, window: secs(600) }),
        groups: [("shop".into(), shop)].into(),
        evidence: Some(secs(2)),
    };
    assert_eq!(config.specs.healing, healing);
    let db = spec(&config, "db");
    assert_eq!(db.ready, Readiness::Probe { period: secs(1), timeout: secs(60) });
    let goes_on = Probe {
        purpose: Purpose::Ready,
        name: "tcp [::1]:5432".into(),
        period: secs(1),
        timeout: Duration::from_millis(300),
        failure_threshold: 2,
        ..plain_probe()
    };
    assert_eq!(db.probes, [goes_on]);
    let web = spec(&config, "web");
    assert_eq!(
        ServiceSpec { fingerprint: 0, ..web },
        ServiceSpec {
            wait_for: None,
            kind: Kind::Service,
            enabled: false,
            instances: 2,
            depends_on: vec![
                Dependency {
                    on: "cache".into(),
                    condition: Condition::Started,
                    required: false,
                    bind: false
                },
                Dependency { on: "db".into(), condition: Condition::Ready, required: true, bind: true },
                Dependency {
                    on: "migrate".into(),
                    condition: Condition::Completed,
                    required: true,
                    bind: false
                },
            ],
            ready: Readiness::Probe { period: Duration::from_millis(200), timeout: secs(10) },
            restart: RestartPolicy {
                policy: Policy::OnFailure,
                delay: secs(2),
                max_delay: secs(90),
                jitter: 10,
                reset_after: secs(120),
                limit: Some(Limit { max: 9, window: secs(30) }),
                on_crash_loop: OnCrashLoop::GiveUp,
                exit_codes: ExitCodes {
                    success: vec![0, 3],
                    retry: vec![78],
                    config_error: vec![],
                    fatal: vec![9]
                },
            },
            stop_timeout: Some(secs(120)),
            stop: vec![
                StopStep { action: StopAction::Signal(2), to: To::Main, wait: secs(5) },
                StopStep { action: StopAction::Signal(15), to: To::Tree, wait: secs(10) },
            ],
            hooks: keepwell_core::spec::Hooks {
                pre_start: Some(Hook { timeout: secs(30), may_fail: false }),
                post_start: Some(Hook { timeout: secs(5), may_fail: true }),
                pre_stop: None,
                post_stop: Some(Hook { timeout: secs(30), may_fail: false }),
                ..keepwell_core::spec::Hooks::default()
            },
            watchdog: None,
            heartbeat: None,
            probes: vec![
                Probe {
                    purpose: Purpose::Startup,
                    name: "tcp 127.0.0.1:${PORT}".into(),
                    failure_threshold: 30,
                    ..plain_probe()
                },
                Probe {
                    name: "http 127.0.0.1:${PORT}/live".into(),
                    period: secs(2),
                    timeout: Duration::from_millis(500),
                    initial_delay: secs(3),
                    success_threshold: 2,
                    failure_threshold: 5,
                    ..plain_probe()
                },
                Probe { name: "https localhost:${PORT}/deep".into(), ..plain_probe() },
                Probe { name: "exec ./is-well".into(), ..plain_probe() },
                Probe { name: "grpc https://localhost:5${PORT} shop.Orders".into(), ..plain_probe() },
                Probe { name: "log did \\d+ jobs".into(), ..plain_probe() },
                Probe { name: "no_log OutOfMemory".into(), ..plain_probe() },
                Probe { name: "file run/beat".into(), ..plain_probe() },
            ],
            healing: vec!["shop".into()],
            guards: vec![],
            ceilings: vec![
                (Figure::Memory, 256_000_000),
                (Figure::DescriptorsOfOne, 4096),
                (Figure::Threads, 50)
            ],
            foresee: true,
            escalation: vec![],
            fallback: None,
            fingerprint: 0,
        }
    );
    let web = &config.services["web"];
    assert_eq!(web.description.as_deref(), Some("The shop's front"));
    assert_eq!(web.tags, ["shop", "front"].map(Into::into).into());
    assert_eq!((&web.user, &web.group), (&Some(Account::Name("www-data".into())), &Some(Account::Id(33))));
    assert_eq!((web.umask, web.nice, web.oom_score_adj), (Some(0o027), Some(5), Some(-100)));
    assert_eq!((web.limits.nofile, web.limits.core), (Some(4096), Some(Bound::Unlimited)));
    assert_eq!((web.limits.memory, web.limits.cpu), (Some(256_000_000), Some(CpuShare(1500))));
    assert_eq!(web.limits.tasks, Some(50));
    assert!(web.no_new_privileges && web.clear_env);
    assert_eq!(web.capabilities.as_deref(), Some([10, 12].as_slice()));
    assert_eq!((web.log.rotate.size, web.log.rotate.keep), (10_000_000, 5));
    let shell = spec(&config, "shell");
    assert_eq!(shell.stop, [StopStep { action: StopAction::Signal(15), to: To::Group, wait: secs(10) }]);
    assert_eq!(config.specs.max_parallel_starts, Some(20));
    let guardian = &config.guardian;
    assert_eq!(guardian.operators, ["adm".into()].into());
    assert_eq!(guardian.readers, ["users".into(), "staff".into()].into());
    assert_eq!((guardian.when_daemon_gone, guardian.log_level), (WhenDaemonGone::Block, LogLevel::Debug));
    assert_eq!(guardian.hang_after, secs(20));
    let notify: Vec<String> = guardian.notify.iter().map(ToString::to_string).collect();
    let all =
        "crash_loop gave_up paged incident_opened incident_closed budget_spent leak_foreseen guard_tripped";
    assert_eq!(
        notify,
        [
            format!("ops: slack webhook, on {all}, within 10000 ms"),
            "exec: exec ./page.sh now, on gave_up, of web, with the tag shop, within 3000 ms".to_owned()
        ]
    );
    assert!(!format!("{guardian:?}").contains("s3cret"));
    let about = |name, tags: &[&str]| guardian.notify[1].is_about(name, tags);
    assert!(about("web", &[]) && about("db", &["x", "shop"]) && !about("db", &["x"]) && !about("", &[]));
    assert!(guardian.notify[0].is_about("db", &["x"]) && guardian.notify[0].is_about::<&str>("", &[]));
    assert_eq!(guardian.http, Some("[::1]:9750".parse().unwrap()));
}

#[test]
fn what_an_instance_is_started_with() {
    let config = good(include_str!("good/full.toml"));
    let web = config.services["web"].resolve(2, &context()).unwrap();
    assert_eq!(
        web.argv,
        ["./server", "--name", "web-2", "--port", "8080", "$HOME", "${X:-y}", "$(date)", "$", "${nobody}"]
    );
    assert_eq!(web.cwd, Path::new("/srv/app/web"));
    assert_eq!(web.log.stdout, Path::new("/srv/app/logs/web-2.log"));
    assert_eq!(web.log.stderr.as_deref(), Some(Path::new("/var/log/web-2.err")));
    assert_eq!(web.hooks.pre_start, Some(vec!["./prepare".to_owned(), "web".to_owned()]));
    let ResolvedReady::Http(http) = &web.ready else { panic!("{:?}", web.ready) };
    assert_eq!((http.host.as_str(), http.port, http.path.as_str()), ("127.0.0.1", 8080, "/health?of=web"));
    assert_eq!(
        (http.authority.as_str(), &*http.expect.status),
        ("127.0.0.1:8080", [(200, 204), (301, 301)].as_slice())
    );
    assert_eq!(http.expect.body.as_deref(), Some("ok"));
    let path = format!("/opt/web/bin:{}", path());
    let expected = [
        ("BASE", "http://127.0.0.1:8080"),
        ("HOME", "/home/kim"),
        ("KEEPWELL_INSTANCE", "2"),
        ("KEEPWELL_SERVICE", "web"),
        ("PATH", path.as_str()),
        ("PORT", "8080"),
        ("TOKEN", "s3cret"),
        ("URL", "http://127.0.0.1:8080/web/2"),
    ];
    let expected: BTreeMap<String, String> = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    assert_eq!(web.env, expected);
    assert_eq!(web.candidates(), [Path::new("/srv/app/web/server")]);

    let shell = config.services["shell"].resolve(1, &context()).unwrap();
    assert_eq!(shell.argv, ["/bin/sh", "-c", "cd data && exec ./run \"${X:-shell}\" ${Y:-81}"]);
    assert_eq!(shell.log.stdout, Path::new("/srv/app/.keepwell/logs/shell.log"));
    assert_eq!(shell.env.get("HOME").map(String::as_str), Some("/home/kim"));
    assert!(!shell.env.contains_key("NOTIFY_SOCKET"), "what keepwell itself is told by is not handed on");
    let db = config.services["db"].resolve(1, &context()).unwrap();
    assert_eq!(db.candidates(), ["/usr/bin/postgres", "/bin/postgres"].map(Path::new));
    assert_eq!(db.ready, ResolvedReady::Tcp { host: "::1".to_owned(), port: 5432 });
}

#[test]
fn a_user_brings_home_unless_the_service_says_otherwise() {
    let config = good("[services.a]\ncommand = \"x\"\nuser = \"kim\"\nenv = { USER = \"other\" }\n");
    let mut a = config.services["a"].resolve(1, &context()).unwrap();
    a.adopt_user("kim", "/home/kim2");
    assert_eq!([&a.env["HOME"], &a.env["USER"], &a.env["LOGNAME"]], ["/home/kim2", "other", "kim"]);
}

#[test]
fn short_forms_of_readiness() {
    let ready = |text: &str| {
        let config = good(&format!("[services.a]\ncommand = \"x\"\nready = {text}\n"));
        (spec(&config, "a").ready, config.services["a"].ready.clone(), spec(&config, "a").watchdog)
    };
    let (second, minute) = (secs(1), secs(60));
    let probe = Readiness::Probe { period: second, timeout: minute };
    let told = Readiness::Signalled { timeout: minute };
    assert_eq!(ready("\"none\""), (Readiness::None, Ready::None, None));
    assert_eq!(ready("\"notify\""), (told.clone(), Ready::Notify, None));
    assert_eq!(ready("{ notify = true, watchdog = \"5s\" }"), (told.clone(), Ready::Notify, Some(secs(5))));
    assert_eq!(ready("\"tcp://a:1\""), (probe.clone(), Ready::Tcp("a:1".into()), None));
    assert_eq!(ready("\"unix:run/a.sock\""), (probe.clone(), Ready::Unix("run/a.sock".into()), None));
    assert_eq!(ready("{ file = \"up\" }"), (probe.clone(), Ready::File("up".into()), None));
    assert_eq!(ready("{ delay = \"5s\" }"), (Readiness::Delay(secs(5)), Ready::Delay(secs(5)), None));
    assert_eq!(ready("{ log = '^up \\d$' }"), (told, Ready::Log { pattern: "^up \\d$".into() }, None));
    let exec = Command::Words(["a", "b c"].map(Into::into).into());
    assert_eq!(ready("{ exec = \"a 'b c'\" }"), (probe.clone(), Ready::Exec(exec), None));
    let request = HttpRequest {
        method: Method::Get,
        url: "http://a/".into(),
        headers: Box::default(),
        send: None,
        ca: None,
        identity: None,
    };
    let expect = HttpExpect { status: [(200, 399)].into(), ..HttpExpect::default() };
    let http = Ready::Http(Box::new((request, expect)));
    assert_eq!(ready("\"http://a/\""), (probe, http, None));
}

#[test]
fn forms_of_liveness() {
    let beats = |text: &str| {
        let config = good(&format!("[services.a]\ncommand = \"x\"\nlive = {text}\n"));
        config.services["a"].heartbeat.map(|beat| beat.period).zip(spec(&config, "a").heartbeat)
    };
    let default = Some((secs(5), secs(15)));
    assert_eq!(beats("[]"), None);
    assert_eq!(beats("\"heartbeat\""), default);
    assert_eq!(beats("{ heartbeat = true }"), default);
    assert_eq!(beats("[{ heartbeat = true, period = \"5s\", lost_after = \"15s\" }]"), default);
    assert_eq!(beats("{ heartbeat = true, period = \"2s\" }"), Some((secs(2), secs(6))));
    assert_eq!(beats("{ heartbeat = true, lost_after = \"9s\" }"), Some((secs(3), secs(9))));
    assert_eq!(beats("{ heartbeat = true, period = \"4s\", lost_after = \"4s\" }"), Some((secs(4), secs(4))));
    let config = good(
        "[defaults]\nlive = { heartbeat = true, period = \"1s\" }\n[services.a]\ncommand = \"x\"\n\
         [services.b]\ncommand = \"x\"\nlive = []\n[services.c]\ncommand = \"x\"\nlive = [{ tcp = \"a:1\" }, { heartbeat = true, lost_after = \"2s\" }]\n",
    );
    let lost_after = ["a", "b", "c"].map(|name| spec(&config, name).heartbeat);
    assert_eq!(lost_after, [Some(secs(3)), None, Some(secs(2))]);
}

#[test]
fn defaults_lie_under_each_service_key_by_key() {
    let config = good(
        r#"
        [defaults]
        restart = { delay = "3s", limit = { max = 7 }, policy = "always" }
        env = { A = "1", B = "2" }
        limits = { nofile = 100, tasks = 10 }
        ready = { tcp = "127.0.0.1:${B}", timeout = "5s" }
        log = { file = "logs/${service}.log", rotate = { size = "1MB" } }
        user = "kim"
        [services.plain]
        command = "x"
        [services.own]
        command = "x"
        restart = { delay = "4s", limit = { window = "10s" } }
        env = { B = "3" }
        limits = { tasks = 20 }
        ready = { http = "http://127.0.0.1/" }
        log = { rotate = { keep = 1 } }
        user = 5
        [services.once]
        command = "x"
        kind = "oneshot"
        ready = "none"
        restart = { limit = "off" }
        [services.slow]
        command = "x"
        restart = { delay = "5m" }
        ready = { timeout = "9s" }
        "#,
    );
    let plain = spec(&config, "plain");
    assert_eq!(plain.restart.delay, secs(3));
    assert_eq!(plain.restart.limit, Some(Limit { max: 7, window: secs(60) }));
    assert_eq!(plain.ready, Readiness::Probe { period: secs(1), timeout: secs(5) });
    let own = spec(&config, "own");
    assert_eq!(own.restart.delay, secs(4));
    assert_eq!(own.restart.limit, Some(Limit { max: 7, window: secs(10) }));
    assert_eq!(own.ready, Readiness::Probe { period: secs(1), timeout: secs(5) });
    let own = &config.services["own"];
    let env = &own.resolve(1, &context()).unwrap().env;
    assert_eq!((env["A"].as_str(), env["B"].as_str()), ("1", "3"));
    assert_eq!((own.limits.nofile, own.limits.tasks), (Some(100), Some(20)));
    assert!(matches!(own.ready, Ready::Http { .. }));
    assert_eq!((own.log.rotate.size, own.log.rotate.keep), (1_000_000, 1));
    assert_eq!(own.user, Some(Account::Id(5)));
    let once = spec(&config, "once");
    assert_eq!(
        once.restart.policy,
        Policy::Never,
        "what runs for ever is restarted always, a oneshot is not"
    );
    assert_eq!(once.restart.limit, None);
    let slow = spec(&config, "slow");
    assert_eq!((slow.restart.delay, slow.restart.max_delay), (secs(300), secs(300)));
    assert_eq!(slow.ready, Readiness::Probe { period: secs(1), timeout: secs(9) });
}

#[test]
fn files_of_a_folder_are_one_configuration() {
    let main = source(
        "keepwell.toml",
        "[defaults]\nnice = 3\n[services.a]\ncommand = \"x\"\ndepends_on = [\"b\"]\n",
    );
    let b = source("keepwell.d/b.toml", "[services.b]\ncommand = \"x\"\n");
    let config = load(&[main.clone(), b.clone()], &context()).unwrap();
    assert_eq!(config.services["b"].nice, Some(3));
    let again = source(
        "keepwell.d/c.toml",
        "[services.c]\ncommand = 5\n[services.b]\ncommand = \"y\"\n[defaults]\nnice = 4\n",
    );
    insta::assert_snapshot!(bad(&[main, b, again]));
}

#[test]
fn a_file_that_cannot_be_parsed_makes_no_names_missing() {
    let main = source("keepwell.toml", "[services.a]\ncommand = \"x\"\ndepends_on = [\"b\"]\nnice = 99\n");
    let b = source("keepwell.d/b.toml", "[services.b\ncommand = \"x\"\n");
    insta::assert_snapshot!(bad(&[main, b]));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let config = good(
        r#"
[keepwell]
notify = [{ exec = "a", services = ["a", "of"], tags = "shop" }]
[services.a]
command = "cat x | grep y"
cwd = "$HOME/x"
depends_on = ["off"]
[services.off]
command = "x"
enabled = false
"#,
    );
    assert!(config.warnings.iter().all(|w| w.severity == Severity::Warning));
    insta::assert_snapshot!(keepwell_config::Diagnostics(config.warnings).render(false, false));
}

#[test]
fn findings_are_data_too() {
    let errors =
        load(&[source("k.toml", "[services.a]\ncommand = \"x\"\nnice = 99\n")], &context()).unwrap_err();
    insta::assert_snapshot!(serde_json::to_string_pretty(&errors).unwrap());
}

#[test]
fn colours_and_plain_ascii() {
    let errors =
        load(&[source("k.toml", "[services.a]\ncommand = \"x\"\nnice = 99\n")], &context()).unwrap_err();
    insta::assert_snapshot!(errors.render(true, true).replace('\x1b', "ESC"));
}

#[test]
fn nothing_prints_a_secret() {
    let config =
        good("[services.a]\ncommand = \"x ${P}\"\nenv = { P = \"s3cret\", T = { from = \"TOKEN\" } }\n");
    let resolved = config.services["a"].resolve(1, &context()).unwrap();
    let printed = format!("{config:?} {resolved:?} {:?}", context());
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn a_service_takes_little_memory() {
    let size = size_of::<keepwell_config::ServiceConfig>();
    assert!(size <= 656, "{size} bytes");
}

#[test]
fn forms_of_waiting() {
    use keepwell_core::spec::{AfterWait, WaitFor};
    let wait = |text: &str| {
        let config = good(&format!("[services.a]\ncommand = \"x\"\nwait_for = {text}\n"));
        let spec = spec(&config, "a").wait_for?;
        let built = config.services["a"].wait_for.as_ref().expect("both halves or none");
        assert_eq!(spec.names.len(), built.on.len());
        assert_eq!(matches!(spec.then, AfterWait::Run { .. }), built.run.is_some());
        Some(spec)
    };
    let of = |names: &[&str], timeout, then| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Some(WaitFor { names, timeout: Some(timeout), then })
    };
    assert_eq!(wait("[]"), None);
    assert_eq!(wait("\"tcp://db:5432\""), of(&["tcp db:5432"], secs(300), AfterWait::Fail));
    let all = "[\"https://a/x?key=secret\", \"unix:a.sock\", \"file:/f\", \"mount:/m\", \"service:w32time\"]";
    let names = ["https a/x", "unix a.sock", "file /f", "mount /m", "service w32time"];
    assert_eq!(wait(all), of(&names, secs(300), AfterWait::Fail));
    let anyway = "{ on = \"mount:/m\", timeout = \"2s\", after = \"start_anyway\" }";
    assert_eq!(wait(anyway), of(&["mount /m"], secs(2), AfterWait::StartAnyway));
    let run = AfterWait::Run { timeout: secs(30) };
    assert_eq!(wait("{ on = \"mount:/m\", run = [\"./y\"] }"), of(&["mount /m"], secs(300), run));
    let run = AfterWait::Run { timeout: secs(5) };
    let written = "{ on = \"mount:/m\", run = { command = \"./y\", timeout = \"5s\" } }";
    assert_eq!(wait(written), of(&["mount /m"], secs(300), run));
}
