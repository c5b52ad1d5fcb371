//! `notify`: who is told by message, and what happens when a receiver does not take it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use keepwell_e2e::{Guardian, free_port, http, sys, wait_until};
use serde_json::Value;

/// Nothing shows it.
const TOKEN: &str = "t0ken-of-the-hook";

/// Takes messages, and answers the nth as it is told to.
struct Hook {
    port: u16,
    bodies: Arc<Mutex<Vec<Value>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

type Reply = fn(usize) -> Option<&'static str>;

impl Hook {
    fn new(reply: Reply) -> Hook {
        Hook::at(free_port(), reply)
    }

    fn at(port: u16, reply: Reply) -> Hook {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (kept, began) = (Arc::clone(&bodies), Arc::clone(&heads));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, began) = (Arc::clone(&kept), Arc::clone(&began));
                thread::spawn(move || take(stream, &began, &kept, reply));
            }
        });
        Hook { port, bodies, heads }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks/{TOKEN}", self.port)
    }

    fn bodies(&self) -> Vec<Value> {
        self.bodies.lock().expect("nobody panicked").clone()
    }

    fn topics(&self) -> Vec<String> {
        let all = self.bodies();
        let notices = all.iter().flat_map(|b| b["notices"].as_array().cloned().unwrap_or_default());
        notices.map(|n| n["topic"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

fn take(stream: TcpStream, heads: &Mutex<Vec<String>>, kept: &Mutex<Vec<Value>>, reply: Reply) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while reader.read_line(&mut head).is_ok_and(|n| n > 2) {
        let last = head.lines().last().unwrap_or_default().to_lowercase();
        if let Some(n) = last.strip_prefix("content-length:") {
            length = n.trim().parse().expect("a number");
        }
    }
    assert!(head.starts_with(&format!("POST /hooks/{TOKEN}")) || head.starts_with("POST /api"), "{head}");
    heads.lock().expect("nobody panicked").push(head.to_lowercase());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("as long as it says");
    let number = {
        let mut kept = kept.lock().expect("nobody panicked");
        kept.push(serde_json::from_slice(&body).expect("JSON"));
        kept.len()
    };
    match reply(number) {
        Some(answer) => drop(reader.into_inner().write_all(answer.as_bytes())),
        // It hangs until the other end has had enough.
        None => drop(reader.read(&mut [0])),
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn takes_all(_: usize) -> Option<&'static str> {
    Some(OK)
}

/// One that crashes as soon as it runs, and its crash loop.
const BAD: &str = "[services.bad]\ncommand = 'CHILD exit 3'\nrestart = { delay = '10ms', limit = { max = 2, window = '60s' } }\n";

fn hides_the_token(g: &Guardian) {
    let events = serde_json::to_string(&g.events()).expect("plain data");
    for (what, text) in [("events", events), ("keepwell.log", g.traces()), ("up", g.read("up.err"))] {
        assert!(!text.contains(TOKEN), "{what} shows the token:\n{text}");
    }
}

#[test]
fn each_receiver_is_told_in_its_own_words_of_what_it_asked_for() {
    let (all, slack, some) = (Hook::new(takes_all), Hook::new(takes_all), Hook::new(takes_all));
    let g = Guardian::up(&format!(
        "[keepwell]\nnotify = [\n\
         {{ name = 'all', webhook = '{}' }},\n{{ name = 'slack', webhook = '{}', format = 'slack' }},\n\
         {{ webhook = '{}', on = 'gave_up', tags = 'shop' }},\n\
         {{ exec = ['sh', '-c', 'cat > told.tmp && mv told.tmp told.json'] }} ]\n\
         {BAD}[services.good]\ntags = 'shop'\ncommand = 'CHILD exit 1'\nrestart = {{ policy = 'never' }}\n",
        all.url(),
        slack.url(),
        some.url(),
    ));
    wait_until("a crash loop to be told", || all.topics().iter().any(|t| t == "crash_loop"));
    wait_until("the one that was asked for", || some.topics() == ["gave_up"]);
    let first = &all.bodies()[0];
    assert!(
        first["notices"].as_array().is_some_and(|n| n.len() >= 3),
        "what happens together is one: {first}"
    );
    assert!(first["id"].as_str().is_some_and(|id| id.ends_with("-1")), "{first}");
    let bad = first["notices"].as_array().unwrap().iter().find(|n| n["topic"] == "crash_loop").unwrap();
    assert_eq!((&bad["service"], &bad["severity"]), (&"bad".into(), &"critical".into()));
    assert!(bad["incident"].is_u64() && bad["text"].as_str().is_some_and(|t| t.contains("bad")), "{bad}");
    wait_until("slack", || {
        slack.bodies().iter().any(|b| b["text"].as_str().is_some_and(|t| t.contains("[crash_loop] bad")))
    });
    let told: Value = serde_json::from_str(&g.wait_file("told.json", "crash_loop")).unwrap();
    assert_eq!(told["version"], 1);
    hides_the_token(&g);

    // A reload that names a receiver differently, or takes one away, shows no more of it.
    g.write("keepwell.toml", &g.read("keepwell.toml").replace("on = 'gave_up', ", ""));
    let plan = g.cli(&["reload", "--json"]).good();
    assert!(!plan.all().contains(TOKEN), "{}", plan.all());
    g.end();
}

fn has_its_days(n: usize) -> Option<&'static str> {
    match n {
        1 => Some("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"),
        2 => None,
        3 => Some("HTTP/1.1 429 Slow Down\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"),
        _ => Some(OK),
    }
}

#[test]
fn a_receiver_that_fails_hangs_or_asks_for_patience_is_told_in_the_end() {
    let hook = Hook::new(has_its_days);
    let g = Guardian::up(&format!(
        "[keepwell]\nnotify = [{{ name = 'ops', webhook = '{}', on = ['gave_up'], timeout = '500ms' }}]\n\
         [services.bad]\ncommand = 'CHILD exit 1'\nrestart = {{ policy = 'never' }}\n\
         [services.other]\ncommand = 'CHILD hang'\n",
        hook.url()
    ));
    wait_until("four attempts", || hook.bodies().len() >= 4);
    let bodies = hook.bodies();
    assert!(bodies.iter().all(|b| *b == bodies[0]), "the same message with the same number: {bodies:?}");
    let failed =
        g.wait_events("that it failed", |all| all.iter().any(|e| e.text.contains("ops was not told")));
    let failed: Vec<_> = failed.iter().filter(|e| e.text.contains("ops was not told")).collect();
    assert_eq!(failed.len(), 1, "told once");
    assert!(failed[0].text.contains("status 500") && failed[0].text.contains("again"), "{}", failed[0].text);
    // What it has taken does not come again with the next one.
    g.cli(&["stop", "other"]).good();
    assert_eq!(hook.bodies().len(), 4);
    hides_the_token(&g);
    g.end();
}

#[test]
fn what_is_due_survives_the_daemon_and_is_not_said_twice() {
    let (port, metrics) = (free_port(), free_port());
    let g = Guardian::up(&format!(
        "[keepwell]\nhttp = '127.0.0.1:{metrics}'\nnotify = [{{ name = 'ops', webhook = 'http://127.0.0.1:{port}/hooks/{TOKEN}', on = ['gave_up'] }}]\n\
         [services.bad]\ncommand = 'CHILD exit 1'\nrestart = {{ policy = 'never' }}\n\
         [services.other]\ncommand = 'CHILD hang'\n"
    ));
    g.wait_events("that nobody takes it", |all| all.iter().any(|e| e.text.contains("ops was not told")));
    let kill = || {
        let daemon = g.daemon();
        assert!(sys::kill(daemon, 9));
        wait_until("another daemon", || g.info().is_some_and(|i| i.daemon_pid != daemon));
    };
    kill();
    let hook = Hook::at(port, takes_all);
    wait_until("it to arrive", || !hook.bodies().is_empty());
    assert_eq!(hook.topics(), ["gave_up"]);
    assert!(hook.bodies()[0]["id"].as_str().is_some_and(|id| id.ends_with("-1")), "{:?}", hook.bodies());
    wait_until("the engine to have heard of it", || {
        let page = http::get(metrics, "/metrics").map(|(_, page)| page).unwrap_or_default();
        page.contains("keepwell_notify_waiting_notices{receiver=\"ops\"} 0\n")
    });
    kill();
    g.cli(&["notify", "test", "--to", "ops"]).good();
    assert_eq!(hook.topics(), ["gave_up", "test"], "what arrived does not come again");
    g.end();
}

fn refuses(_: usize) -> Option<&'static str> {
    Some("HTTP/1.1 404 Not Found\r\ncontent-length: 34\r\n\r\nno hook at hooks/t0ken-of-the-hook")
}

#[test]
fn a_test_says_what_each_receiver_answered() {
    let (good, bad) = (Hook::new(takes_all), Hook::new(refuses));
    let g = Guardian::up(&format!(
        "[keepwell]\nnotify = [\n{{ name = 'good', webhook = '{}', format = 'wecom' }},\n{{ name = 'bad', webhook = '{}' }},\n\
         {{ exec = ['sh', '-c', 'exit 7'] }}, {{ name = 'nobody', exec = ['./is-not-there'] }} ]\n\
         [services.web]\ncommand = 'CHILD hang'\n",
        good.url(),
        bad.url()
    ));
    g.cli(&["notify", "test", "--to", "good"]).good().says(&["good", "wecom took it: status 200", "ok"]);
    assert!(good.bodies()[0]["text"]["content"].as_str().is_some_and(|t| t.contains("this is a test")));
    let all = g.cli(&["notify", "test"]).with_code(1);
    all.says(&[
        "bad",
        "json did not take it: status 404",
        "no hook at (hidden)",
        "exit code 7",
        "could not be started",
    ]);
    assert!(!all.all().contains(TOKEN), "{}", all.all());
    let json = g.cli(&["notify", "test", "--json"]).with_code(1).json();
    assert_eq!(json.as_array().map(Vec::len), Some(4));
    g.cli(&["notify", "test", "--to", "nowhere"])
        .with_code(2)
        .says(&["there is no receiver `nowhere`", "good"]);
    hides_the_token(&g);
    g.end();
}

#[test]
fn a_secret_is_taken_from_keepwells_own_environment_and_shown_nowhere() {
    let hook = Hook::new(takes_all);
    let mut g = Guardian::new(
        "[keepwell]\nnotify = [{ name = 'ops', webhook = { from = 'KEEPWELL_OPS' }, headers = { Authorization = { from = 'KEEPWELL_AUTH' }, X-Team = 'red' } }]\n\
         [services.web]\ncommand = 'CHILD print-env'\n",
    );
    g.set_env("KEEPWELL_OPS", &hook.url());
    g.set_env("KEEPWELL_AUTH", &format!("Bearer {TOKEN}"));
    g.cli(&["check"]).good();
    g.start(&["--quiet"]);
    g.wait_answering();
    g.cli(&["notify", "test"]).good();
    let head = hook.heads.lock().unwrap()[0].clone();
    let authorization = format!("authorization: bearer {TOKEN}\r\n");
    assert!(head.contains(&authorization) && head.contains("x-team: red\r\n"), "{head}");
    // What begins with KEEPWELL_ is not passed on to services.
    g.wait_log("web", "end of environment");
    assert!(!g.log("web").contains(TOKEN), "{}", g.log("web"));

    // What is not there is told with its place and its name, and nothing changes.
    g.write("keepwell.toml", &g.read("keepwell.toml").replace("'KEEPWELL_AUTH'", "'KEEPWELL_NO_SUCH'"));
    let refused = g.cli(&["reload"]).with_code(2);
    refused.says(&["`KEEPWELL_NO_SUCH` is not set in keepwell's own environment", "keepwell.toml:2:"]);
    assert!(!refused.all().contains(TOKEN), "{}", refused.all());
    g.cli(&["notify", "test"]).good();
    hides_the_token(&g);
    g.end();
}

/// A receiver where nobody listens yet, and a service that gives up at once beside one that goes on.
fn unheard(port: u16) -> Guardian {
    let g = Guardian::up(&format!(
        "[keepwell]\nnotify = [{{ name = 'ops', webhook = 'http://127.0.0.1:{port}/hooks/{TOKEN}', on = ['gave_up'] }}]\n\
         [services.bad]\ncommand = 'CHILD exit 1'\nrestart = {{ policy = 'never' }}\n\
         [services.other]\ncommand = 'CHILD hang'\n"
    ));
    g.wait_events("that nobody takes it", |all| all.iter().any(|e| e.text.contains("ops was not told")));
    g
}

/// The next guardian tells it, once, and as the same message.
fn heard_later(mut g: Guardian, hook: &Hook) {
    g.start(&["--quiet"]);
    g.wait_answering();
    wait_until("it to arrive", || !hook.bodies().is_empty());
    assert!(hook.bodies()[0]["id"].as_str().is_some_and(|id| id.ends_with("-1")), "{:?}", hook.bodies());
    // It gave up again when it was started again, which was said just now.
    g.wait_state("bad", &["gave up", "gave_up"]);
    g.cli(&["notify", "test", "--to", "ops"]).good();
    assert_eq!(hook.topics(), ["gave_up", "test"]);
    g.end();
}

#[test]
fn what_nobody_took_before_the_guardians_end_is_told_after_its_next_start() {
    let port = free_port();
    let mut g = unheard(port);
    g.interrupt();
    assert_eq!(g.wait_exit(), 0);
    assert!(
        g.read(".keepwell/keepwell.log").contains("1 thing could not be told to those who are to be"),
        "{}",
        g.traces()
    );
    let hook = Hook::at(port, takes_all);
    heard_later(g, &hook);
}

#[test]
fn what_nobody_took_is_told_after_the_next_start_also_when_the_whole_guardian_is_killed() {
    let port = free_port();
    let mut g = unheard(port);
    let (anchor, daemon) = (g.anchor(), g.daemon());
    // Neither has time to do anything about the other's end.
    assert!(sys::kill(daemon, 19) && sys::kill(anchor, 9) && sys::kill(daemon, 9));
    g.forget();
    let hook = Hook::at(port, takes_all);
    heard_later(g, &hook);
}

#[test]
fn what_is_due_at_the_guardians_end_is_told_at_once() {
    let hook = Hook::new(takes_all);
    let mut g = Guardian::new(&format!(
        "[keepwell]\nnotify = [{{ name = 'ops', webhook = '{}', on = ['gave_up'] }}]\n\
         [services.job]\nkind = 'oneshot'\ncommand = 'CHILD exit 3'\n",
        hook.url()
    ));
    g.start(&["--quiet"]);
    assert_eq!(g.wait_exit(), 1, "{}", g.traces());
    assert_eq!(hook.topics(), ["gave_up"]);
}

fn hangs(_: usize) -> Option<&'static str> {
    None
}

#[test]
fn a_receiver_that_hangs_delays_the_guardians_end_for_moments_only() {
    let hook = Hook::new(hangs);
    let mut g = Guardian::up(&format!(
        "[keepwell]\nnotify = [\n\
         {{ name = 'ops', webhook = '{}', on = ['gave_up'], timeout = '1m' }},\n\
         {{ name = 'page', exec = ['sh', '-c', 'echo > paged; sleep 4712'], on = ['gave_up'], timeout = '1m' }} ]\n\
         [services.bad]\ncommand = 'CHILD exit 1'\nrestart = {{ policy = 'never' }}\n\
         [services.other]\ncommand = 'CHILD hang'\n",
        hook.url()
    ));
    wait_until("both attempts", || !hook.bodies().is_empty() && g.path("paged").exists());
    // Waits for half a minute only.
    g.interrupt();
    assert_eq!(g.wait_exit(), 0);
    assert!(g.traces().contains("2 things could not be told to those who are to be"), "{}", g.traces());
    g.assert_nothing_left(Duration::ZERO);
}

#[test]
fn what_a_program_that_is_told_starts_ends_with_it() {
    let g = Guardian::up(
        "[keepwell]\nnotify = [\n\
         { name = 'slow', exec = ['sh', '-c', 'setsid -f sleep 4711; echo > slow; sleep 4711'], on = ['gave_up'], timeout = '1s' },\n\
         { name = 'quick', exec = ['sh', '-c', 'setsid -f sleep 4711; echo > quick'], on = ['gave_up'] } ]\n\
         [services.bad]\ncommand = 'CHILD exit 1'\nrestart = { policy = 'never' }\n\
         [services.other]\ncommand = 'CHILD hang'\n",
    );
    wait_until("both to be told", || g.path("slow").exists() && g.path("quick").exists());
    g.wait_events("the timeout", |all| {
        all.iter().any(|e| e.text.contains("slow was not told: it did not end within 1 s"))
    });
    // Between two attempts nothing of the one that is made again and again is there.
    wait_until("nothing of them to be left", || g.processes().iter().all(|(_, c)| !c.contains("sleep 4711")));
    g.end();
}
