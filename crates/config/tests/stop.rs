//! Steps of the stop ladder that are no signals.

use keepwell_config::{Config, Context, Method, ResolvedStop, Secret, Source, diff, load};
use keepwell_core::spec::StopAction;

fn read(stop: &str) -> Config {
    let env = [("TOKEN".to_owned(), "s3cret".to_owned())].into();
    let cx = Context { base: "/srv".into(), state_dir: "/state".into(), env, ..Context::default() };
    let text = format!(
        "[services.a]\ncommand = 'a'\nenv = {{ PORT = '80${{instance}}0', TOKEN = {{ from = 'TOKEN' }} }}\nstop = {stop}\n"
    );
    load(&[Source { path: "keepwell.toml".into(), text }], &cx).expect("a good file")
}

fn resolved(config: &Config) -> Vec<ResolvedStop> {
    let cx = Context { env: [("TOKEN".to_owned(), "s3cret".to_owned())].into(), ..Context::default() };
    config.services["a"].resolve(1, &cx).expect("it resolves").stop.into_values().collect()
}

fn words(config: &Config) -> Vec<String> {
    let words = config.specs.services["a"].stop.iter().map(|step| match &step.action {
        StopAction::Http(asking) | StopAction::Command(asking) => asking.words.to_string(),
        StopAction::Signal(n) => format!("signal {n}"),
    });
    words.collect()
}

#[test]
fn a_request_is_posted_unless_another_method_is_written_and_its_names_are_filled_in() {
    let config = read("[{ http = 'http://127.0.0.1:${PORT}/stop?token=${TOKEN}#x', wait = '3s' }]");
    let all = resolved(&config);
    let [ResolvedStop::Http(target)] = all.as_slice() else {
        panic!("one request");
    };
    assert_eq!(target.method, Method::Post);
    assert_eq!((target.port, target.path.as_str()), (8010, "/stop?token=s3cret"));
    assert_eq!(words(&config), ["HTTP POST http://127.0.0.1:${PORT}/stop"], "nothing secret is told");
    let config = read("{ http = 'http://localhost/stop', method = 'PUT' }");
    let all = resolved(&config);
    let [ResolvedStop::Http(target)] = all.as_slice() else { panic!("one request") };
    assert_eq!(target.method, Method::Put);
}

#[test]
fn a_request_carries_headers_and_a_body_that_nobody_sees_and_may_go_over_tls() {
    let text = |secret: &str| {
        format!(
            "[{{ http = 'https://localhost/stop', method = 'PUT', headers = {{ Authorization = 'Bearer ${{TOKEN}}' }}, \
             send = '{secret}', ca = 'ca.pem', certificate = 'own.pem', key = 'own.key' }}]"
        )
    };
    let config = read(&text("be so kind"));
    let all = resolved(&config);
    let [ResolvedStop::Http(target)] = all.as_slice() else { panic!("one request") };
    assert!(target.https && target.port == 443);
    assert_eq!(target.headers, [("Authorization".to_owned(), Secret::new("Bearer s3cret"))]);
    assert_eq!(target.send.as_ref().map(Secret::expose), Some("be so kind"));
    assert_eq!(target.ca.as_deref(), Some(std::path::Path::new("ca.pem")));
    let shown = format!("{config:?} {target:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("be so"), "{shown}");
    let changes = keepwell_config::diff(&config, &read(&text("go")));
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert!(change.key == "stop" && !change.new.contains("go\""), "{change:?}");
}

#[test]
fn of_a_command_only_its_program_is_told() {
    let config = read("[{ command = ['./quit', '--token', '${TOKEN}'] }, { command = './quit now' }, {}]");
    assert_eq!(words(&config), ["command ./quit", "command ./quit", "signal 15"]);
    let argvs: Vec<_> = resolved(&config)
        .into_iter()
        .map(|stop| match stop {
            ResolvedStop::Command(argv) => argv,
            ResolvedStop::Http(..) => panic!("no request"),
        })
        .collect();
    assert!(argvs.contains(&vec!["./quit".into(), "--token".into(), "s3cret".into()]), "{argvs:?}");
}

#[test]
fn a_change_of_an_argument_alone_is_a_live_change_of_the_ladder() {
    let (old, new) = (read("{ command = ['quit', 'a'] }"), read("{ command = ['quit', 'b'] }"));
    assert_ne!(old.specs.services["a"], new.specs.services["a"], "the core sees another step");
    assert_eq!(old.specs.services["a"].fingerprint, new.specs.services["a"].fingerprint);
    let changes = diff(&old, &new);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].new, "[{ command = [\"quit\", \"b\"], wait = \"10s\" }]");
}
