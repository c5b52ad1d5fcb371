//! The router over real sockets and over in-memory streams, with an engine that answers from a script.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use keepwell_core::{Command, Wall};
use keepwell_os::local::{self, Peer};
use keepwell_os::wait::Waiter;
use keepwell_sdk::client::{self, Client, EventQuery, LogQuery};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

mod seen;

use super::*;
use crate::convert;

/// Two slots with a few lines; a follower also gets one that comes later.
struct Output;

fn line(slot: u32, text: &str) -> wire::LogLine {
    wire::LogLine {
        service: format!("s{slot}"),
        stream: "out".into(),
        line: text.into(),
        ..wire::LogLine::default()
    }
}

impl LogSource for Output {
    fn tail(&self, slots: &[u32], lines: Option<usize>, since: Option<Wall>) -> Vec<wire::LogLine> {
        let from = if since.is_some() { 250 } else { 0 };
        let all = |slot: &u32| (from..300).map(|n| line(*slot, &format!("line {n}"))).collect::<Vec<_>>();
        let last = |all: Vec<_>| all[all.len().saturating_sub(lines.unwrap_or(usize::MAX))..].to_vec();
        slots.iter().map(all).flat_map(last).collect()
    }

    fn follow(
        &self,
        slots: Vec<u32>,
        lines: Option<usize>,
        since: Option<Wall>,
    ) -> mpsc::Receiver<wire::LogLine> {
        let (sender, receiver) = mpsc::channel(4);
        let mut all = self.tail(&slots, lines, since);
        all.push(line(slots[0], "new"));
        tokio::spawn(async move {
            for l in all {
                if sender.send(l).await.is_err() {
                    return;
                }
            }
            pending::<()>().await;
        });
        receiver
    }

    fn last_words(&self, slot: u32, n: usize) -> Vec<String> {
        self.tail(&[slot], Some(n), None).into_iter().map(|l| l.line).collect()
    }
}

/// Answers until the door closes.
fn engine_thread(inbox: Receiver<Message>) {
    thread::spawn(move || {
        while let Ok(message) = inbox.recv() {
            answer(message);
        }
    });
}

fn unknown(name: &str) -> wire::Problem {
    convert::problem(&keepwell_core::CommandError::UnknownService {
        name: name.into(),
        known: vec!["web".into(), "db".into()],
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the API sends only some of the messages")]
fn answer(message: Message) {
    match message {
        Message::Info { reply } => {
            drop(reply.send(Ok(wire::Info { daemon_pid: 7, ..wire::Info::default() })));
        }
        Message::Services { names, usage, reply } => {
            let all = ["db", "web"].map(|n| wire::Status {
                name: n.into(),
                instance: 1,
                memory_bytes: usage.then_some(4096),
                ..wire::Status::default()
            });
            let answer = match names.iter().find(|n| !["db", "web"].contains(&n.as_str())) {
                Some(n) => Err(unknown(n)),
                None => Ok(all.into_iter().filter(|s| names.is_empty() || names.contains(&s.name)).collect()),
            };
            drop(reply.send(answer));
        }
        Message::Figures { reply } => drop(reply.send(Ok(Box::default()))),
        Message::Health { reply } => {
            drop(reply.send(Ok(crate::figures::Health { stopping: false, services: 2, usable: 1 })));
        }
        Message::Standing { name, reply } => drop(reply.send(seen::standing(&name))),
        Message::Explain { name, reply } => {
            let e = wire::Explanation {
                service: name,
                state: "backing_off".into(),
                exits: vec![wire::Exit::default()],
                ..wire::Explanation::default()
            };
            drop(reply.send(Ok(vec![e])));
        }
        Message::Command { by, command, reply } => {
            let notes = vec![format!("{command:?} by {}", by.0)];
            let refused = matches!(&command, Command::Restart { .. });
            let ok = wire::CommandReply { notes, after_seq: 3, ..wire::CommandReply::default() };
            let no = convert::problem(&keepwell_core::CommandError::ShuttingDown);
            drop(reply.send(if refused { Err(no) } else { Ok(ok) }));
        }
        Message::Reload { dry_run, reply, .. } => {
            let untouched = u32::from(dry_run);
            drop(reply.send(Ok(wire::ReloadReply { untouched, ..wire::ReloadReply::default() })));
        }
        Message::LogSlots { names, reply } => {
            let names = if names.is_empty() { vec!["s1".to_owned(), "s2".to_owned()] } else { names };
            drop(reply.send(Ok(names.into_iter().zip(1..).collect())));
        }
        _ => {}
    }
}

struct World {
    dir: tempfile::TempDir,
    state: Arc<ApiState>,
    events: broadcast::Sender<Arc<wire::Event>>,
}

impl World {
    fn new() -> Self {
        let (sender, inbox) = sync_channel(64);
        engine_thread(inbox);
        Self::with_engine(EngineHandle::new(sender, Waiter::new().unwrap().waker()), 1_024)
    }

    fn with_engine(engine: EngineHandle, behind: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).store;
        let (events, _) = broadcast::channel(behind);
        let state =
            Arc::new(ApiState::new(engine, store, Arc::new(Output), events.clone(), Access::default(), 7));
        Self { dir, state, events }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("keepwell.sock")
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::bind(&self.socket(), local::Access::Everyone).unwrap()
    }

    /// A client of a server that runs as long as the runtime.
    fn client(&self) -> Client {
        tokio::spawn(serve(self.endpoint(), Arc::clone(&self.state)));
        client_of(self.socket())
    }

    fn tell(&self, seq: u64, service: Option<&str>) {
        let event = Arc::new(wire::Event {
            seq,
            at: convert::time(Wall(1_000_000 + i64::try_from(seq).unwrap() * 1_000)),
            service: service.map(str::to_owned),
            kind: "told".into(),
            text: format!("fact {seq}"),
            ..wire::Event::default()
        });
        self.state.store.append(Arc::clone(&event));
        let _ = self.events.send(event);
    }

    /// One request of `peer`; status and body.
    async fn raw(&self, peer: Peer, request: &str) -> (u16, String) {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(connection::serve(theirs, peer, router(Arc::clone(&self.state))));
        ours.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

fn client_of(path: std::path::PathBuf) -> Client {
    Client::new(move || {
        let path = path.clone();
        async move { local::connect(&path).await }
    })
}

fn root() -> Peer {
    Peer::owner()
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

fn refused<T: std::fmt::Debug>(answer: Result<T, client::Error>) -> wire::Problem {
    match answer {
        Err(client::Error::Refused(problem)) => problem,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn questions_and_commands_reach_the_engine_and_come_back() {
    let world = World::new();
    let client = world.client();
    assert_eq!(client.info().await.unwrap().daemon_pid, 7);
    assert_eq!(client.services(&[]).await.unwrap().len(), 2);
    assert_eq!(client.services(&["web".into()]).await.unwrap()[0].name, "web");
    let problem = refused(client.services(&["wbe".into()]).await);
    assert_eq!(
        (problem.code.as_str(), problem.hint.as_deref()),
        ("unknown_service", Some("did you mean `web`?"))
    );
    assert_eq!(client.services(&["web".into()]).await.unwrap()[0].memory_bytes, Some(4096));
    assert_eq!(client.states(&["web".into()]).await.unwrap()[0].memory_bytes, None, "not asked for");
    let explained = client.explain("a b@2").await.unwrap();
    assert_eq!(explained[0].service, "a b@2");
    assert_eq!(explained[0].last_words, ["line 295", "line 296", "line 297", "line 298", "line 299"]);
    let stop =
        wire::CommandRequest { verb: "stop".into(), services: vec!["web".into()], ..Default::default() };
    let reply = client.command(&stop).await.unwrap();
    let me = local::connect(&world.socket()).await.unwrap().peer().unwrap().user_name();
    let want = format!("Stop {{ services: [\"web\"], with_dependents: false }} by {me}");
    assert_eq!((reply.notes, reply.after_seq), (vec![want], 3));
    let restart = wire::CommandRequest { verb: "restart".into(), ..stop };
    assert_eq!(refused(client.command(&restart).await).code, "shutting_down");
    assert_eq!(client.reload(true).await.unwrap().untouched, 1);
    assert_eq!(client.log_level("info").await.unwrap(), "info");
    assert_eq!(refused(client.log_level("loud").await).code, "invalid");
}

#[tokio::test]
async fn output_is_read_and_followed() {
    let world = World::new();
    let client = world.client();
    let texts = |lines: Vec<wire::LogLine>| lines.into_iter().map(|l| l.line).collect::<Vec<_>>();
    let few =
        client.logs(&LogQuery { services: vec!["web".into()], lines: Some(2), since: None }).await.unwrap();
    assert_eq!(texts(few), ["line 298", "line 299"]);
    assert_eq!(client.logs(&LogQuery::default()).await.unwrap().len(), 20);
    let since = Some("2026-07-01T00:00:00Z".to_owned());
    assert_eq!(client.logs(&LogQuery { since, ..LogQuery::default() }).await.unwrap().len(), 100);
    let all = LogQuery { lines: Some(100_000), ..LogQuery::default() };
    assert_eq!(client.logs(&all).await.unwrap().len(), 600);
    let query = LogQuery { services: vec!["web".into()], lines: Some(1), since: None };
    let mut lines = client.logs_follow(query).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().line, "line 299");
    assert_eq!(lines.next().await.unwrap().unwrap().line, "new");
}

#[tokio::test]
async fn wrong_requests_are_told_what_would_be_right() {
    let world = World::new();
    let large = format!("{{\"verb\": \"{}\"}}", "x".repeat(BODY));
    let requests = [
        get("/v1/inof"),
        get("/"),
        post("/v1/info", ""),
        get("/v1/command"),
        get("/v1/info?verbose=1"),
        get("/v1/services?nmae=web"),
        get("/v1/events?after=x"),
        get("/v1/events?after=1&after=2"),
        get("/v1/events?follow=yes"),
        get("/v1/events?since=yesterday"),
        get("/v1/logs?lines=-1"),
        post("/v1/command", "{\"verb\": \"stop\", \"service\": [\"web\"]}"),
        post("/v1/command", "{\"verb\": 3}"),
        post("/v1/command", "[]"),
        post("/v1/command", "{"),
        post("/v1/command", ""),
        post("/v1/command", &large),
        post("/v1/reload", "{\"dryrun\": true}"),
        post("/v1/log-level", "{\"level\": \"loud\"}"),
    ];
    let mut told = Vec::new();
    for request in requests {
        let (status, body) = world.raw(root(), &request).await;
        let p: wire::Problem = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{body}: {e}"));
        let target = request.split(' ').take(2).collect::<Vec<_>>().join(" ");
        told.push(format!(
            "{target}\n  {status} {}: {}\n  {}",
            p.code,
            p.message,
            p.hint.unwrap_or_default()
        ));
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn a_stranger_may_nothing() {
    let world = World::new();
    let (look, act) = (get("/v1/info"), post("/v1/command", "{\"verb\": \"shutdown\"}"));
    // A route that is not there tells a stranger no more than one that is.
    for request in [&look, &act, &get("/v1/nothing")] {
        assert_eq!(world.raw(Peer::stranger(), request).await.0, 403);
    }
    assert_eq!(world.raw(root(), &look).await.0, 200);
    assert_eq!(world.raw(root(), &act).await.0, 200);
    world.state.access.set(&[], &["no such group"]);
    assert_eq!(world.raw(Peer::stranger(), &look).await.0, 403);
}

#[tokio::test]
async fn members_of_a_group_may_what_it_may() {
    let Some((group, member)) = Peer::member() else { return };
    let world = World::new();
    let (look, act) = (get("/v1/info"), post("/v1/command", "{\"verb\": \"shutdown\"}"));
    assert_eq!(world.raw(member.clone(), &look).await.0, 403);
    world.state.access.set(&[], &[group]);
    assert_eq!(world.raw(member.clone(), &look).await.0, 200);
    assert_eq!(world.raw(Peer::stranger(), &look).await.0, 403);
    let (status, body) = world.raw(member.clone(), &act).await;
    assert_eq!(status, 403);
    assert!(body.contains("may not control"), "{body}");
    world.state.access.set(&[group], &[]);
    let (status, body) = world.raw(member.clone(), &act).await;
    assert_eq!(status, 200);
    assert!(body.contains(&format!("by {}", member.user_name())), "{body}");
}

#[tokio::test]
async fn an_engine_that_is_gone_or_full_is_told() {
    let (sender, inbox) = sync_channel(1);
    let world = World::with_engine(EngineHandle::new(sender, Waiter::new().unwrap().waker()), 8);
    let (status, body) = {
        // The first question fills the inbox; nobody answers it.
        let request = get("/v1/info");
        let first = world.raw(root(), &request);
        let second = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            world.raw(root(), &request).await
        };
        tokio::select! { _ = first => panic!("answered by nobody"), answer = second => answer }
    };
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("too much to do"), "{body}");
    drop(inbox);
    let (status, body) = world.raw(root(), &get("/v1/info")).await;
    assert_eq!((status, body.contains("busy")), (503, true));
}

#[tokio::test]
async fn past_events_come_in_pages_that_fit_together() {
    let world = World::new();
    (1..=1_500).for_each(|n| world.tell(n, if n % 2 == 0 { Some("web") } else { None }));
    let client = world.client();
    let seqs = async |q: EventQuery| -> Vec<u64> {
        client.events(&q).await.unwrap().iter().map(|e| e.seq).collect()
    };
    let all = EventQuery { after: Some(0), ..EventQuery::default() };
    assert_eq!(seqs(all.clone()).await, (1..=1_500).collect::<Vec<_>>());
    assert_eq!(seqs(EventQuery::default()).await, (501..=1_500).collect::<Vec<_>>());
    let last = EventQuery { limit: Some(130), ..EventQuery::default() };
    assert_eq!(seqs(last).await, (1_371..=1_500).collect::<Vec<_>>());
    let some = EventQuery { after: Some(10), limit: Some(70), services: vec!["web".into()], since: None };
    assert_eq!(seqs(some).await, (12..=150).step_by(2).collect::<Vec<_>>());
    let since = EventQuery { since: Some(convert::time(Wall(2_490_000))), ..EventQuery::default() };
    assert_eq!(seqs(since).await, (1_490..=1_500).collect::<Vec<_>>());
    assert_eq!(seqs(EventQuery { after: Some(1_500), ..all }).await, [0; 0]);
}

#[tokio::test]
async fn a_follower_gets_the_past_it_asked_for_and_then_the_new() {
    let world = World::new();
    (1..=5).for_each(|n| world.tell(n, Some("web")));
    let client = world.client();
    let mut fresh = client.events_follow(EventQuery::default()).await.unwrap();
    let last_two = EventQuery { limit: Some(2), ..EventQuery::default() };
    let mut last = client.events_follow(last_two).await.unwrap();
    let db = EventQuery { services: vec!["db".into()], after: Some(0), ..EventQuery::default() };
    let mut db = client.events_follow(db).await.unwrap();
    world.tell(6, Some("db"));
    world.tell(7, None);
    world.tell(8, Some("db@2"));
    let take = async |events: &mut client::Events, n: usize| {
        let mut seqs = Vec::new();
        for _ in 0..n {
            seqs.push(events.next().await.unwrap().unwrap().seq);
        }
        seqs
    };
    assert_eq!(take(&mut fresh, 3).await, [6, 7, 8]);
    assert_eq!(take(&mut last, 5).await, [4, 5, 6, 7, 8]);
    assert_eq!(take(&mut db, 2).await, [6, 8]);
}

/// Followers that come at any time, are slower than the events, and have a short queue: each must see every number once.
#[test]
fn no_follower_misses_or_repeats_an_event() {
    let (sender, _inbox) = sync_channel(1);
    let world = Arc::new(World::with_engine(EngineHandle::new(sender, Waiter::new().unwrap().waker()), 16));
    const LAST: u64 = 3_000;
    let teller = Arc::clone(&world);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = world.client();
        let telling = thread::spawn(move || {
            for n in 1..=LAST {
                teller.tell(n, None);
                if n % 16 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let mut followers = Vec::new();
        for n in 0..8 {
            tokio::time::sleep(Duration::from_millis(n * 7)).await;
            let query = EventQuery { after: Some(n), ..EventQuery::default() };
            let mut events = client.events_follow(query).await.unwrap();
            followers.push(tokio::spawn(async move {
                for want in n + 1..=LAST {
                    assert_eq!(events.next().await.unwrap().unwrap().seq, want);
                }
            }));
        }
        for follower in followers {
            follower.await.unwrap();
        }
        telling.join().unwrap();
    });
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_little_and_misses_nothing() {
    let world = World::new();
    let client = world.client();
    let mut stalled = client.events_follow(EventQuery::default()).await.unwrap();
    let mut quick = client.events_follow(EventQuery::default()).await.unwrap();
    for n in 1..=5_000 {
        world.tell(n, None);
        if n % 500 == 0 {
            // The quick one is served while the other takes nothing.
            for want in n - 499..=n {
                assert_eq!(quick.next().await.unwrap().unwrap().seq, want);
            }
        }
    }
    for want in 1..=5_000 {
        assert_eq!(stalled.next().await.unwrap().unwrap().seq, want);
    }
}

#[tokio::test]
async fn an_event_source_goes_on_behind_its_last_id() {
    let world = World::new();
    (1..=4).for_each(|n| world.tell(n, None));
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    tokio::spawn(connection::serve(theirs, root(), router(Arc::clone(&world.state))));
    let request = "GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\nlast-event-id: 2\r\n\r\n";
    ours.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("fact 4") {
        let mut piece = vec![0; 4_096];
        let n = ours.read(&mut piece).await.unwrap();
        answer.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    assert!(answer.contains("content-type: text/event-stream"));
    assert!(answer.contains("id: 2\n\n"));
    assert!(answer.contains("id: 3\nevent: told\ndata: {\"seq\":3,"));
    assert!(!answer.contains("fact 2"));
}

/// The daemon is killed again and again while somebody follows; the anchor keeps the listening socket.
#[test]
fn a_follower_outlives_the_daemon() {
    const LIVES: u64 = 5;
    const EACH: u64 = 40;
    let world = World::new();
    let kept = world.endpoint();
    let told = Arc::new(AtomicBool::new(false));
    let heard = Arc::new(AtomicU64::new(0));
    let socket = world.socket();
    let following = {
        let (told, heard) = (Arc::clone(&told), Arc::clone(&heard));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut events = client_of(socket).events_follow(EventQuery::default()).await.unwrap();
                told.store(true, Ordering::SeqCst);
                for want in 1..=LIVES * EACH {
                    assert_eq!(events.next().await.unwrap().unwrap().seq, want);
                    heard.store(want, Ordering::SeqCst);
                }
                // Then the guardian ends: nobody listens any more, and so does the stream.
                assert!(events.next().await.unwrap().is_none());
            });
        })
    };
    let handle = kept.into_handle();
    for life in 0..LIVES {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let endpoint = Endpoint::from_handle(handle.try_clone().unwrap(), &world.socket());
            tokio::spawn(serve(endpoint, Arc::clone(&world.state)));
            while !told.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for n in life * EACH + 1..=(life + 1) * EACH {
                world.tell(n, None);
                if n % 8 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            // The last one goes when all is heard.
            while life + 1 == LIVES && heard.load(Ordering::SeqCst) < LIVES * EACH {
                assert!(!following.is_finished());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    drop(handle);
    following.join().unwrap();
}

#[tokio::test]
async fn connections_have_a_bound() {
    let world = World::new();
    let client = world.client();
    client.info().await.unwrap();
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(local::connect(&world.socket()).await.unwrap());
    }
    let mut one_more = local::connect(&world.socket()).await.unwrap();
    let mut answer = String::new();
    one_more.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.ends_with(&format!("content-length: {}", body.len())),
        "{head}"
    );
    assert_eq!(serde_json::from_str::<wire::Problem>(body).unwrap().code, "busy");
    open.clear();
    let ends = tokio::time::Instant::now() + Duration::from_secs(10);
    while client.info().await.is_err() {
        assert!(tokio::time::Instant::now() < ends);
    }
}

#[test]
fn the_documentation_names_every_kind_and_every_problem() {
    let text = include_str!("../../../../docs/api.md");
    for (kind, meaning) in convert::KINDS {
        assert!(text.contains(&format!("| `{kind}` | {meaning} |")), "docs/api.md lacks the row of {kind}");
    }
    for (code, status) in failure::STATUS {
        let row = format!("| `{code}` | {} |", status.as_u16());
        assert!(text.contains(&row), "docs/api.md lacks {row}");
    }
    let kinds: BTreeSet<&str> = convert::KINDS.iter().map(|(k, _)| *k).collect();
    let rows =
        text.lines().skip_while(|l| !l.starts_with("| Kind |")).skip(2).take_while(|l| l.starts_with('|'));
    for row in rows {
        let kind = row.split('`').nth(1).unwrap_or_default();
        assert!(kinds.contains(kind), "docs/api.md has a kind that there is not: {kind}");
    }
}
