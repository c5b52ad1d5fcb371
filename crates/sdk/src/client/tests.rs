use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// What the server does with each connection, in order; then nobody listens any more. `None` breaks off without an answer.
fn scripted(answers: &[Option<&str>]) -> (Client, Arc<Mutex<Vec<String>>>) {
    let answers: VecDeque<_> = answers.iter().map(|a| a.map(str::to_owned)).collect();
    let (answers, asked) = (Arc::new(Mutex::new(answers)), Arc::new(Mutex::new(Vec::new())));
    let heard = Arc::clone(&asked);
    let client = Client::new(move || {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let answer = answers.lock().unwrap().pop_front();
        let heard = Arc::clone(&heard);
        async move {
            let Some(answer) = answer else { return Err(io::ErrorKind::ConnectionRefused.into()) };
            tokio::spawn(serve(theirs, answer, heard));
            Ok(ours)
        }
    });
    (client, asked)
}

async fn serve(mut io: DuplexStream, answer: Option<String>, heard: Arc<Mutex<Vec<String>>>) {
    let mut bytes = vec![0; 1 << 16];
    let n = io.read(&mut bytes).await.unwrap();
    let head = String::from_utf8_lossy(&bytes[..n]).into_owned();
    heard.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
    if let Some(answer) = answer {
        io.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn refused(code: &str) -> String {
    let body = format!("{{\"code\":\"{code}\",\"message\":\"no\",\"hint\":\"because\"}}");
    format!("HTTP/1.1 409 Conflict\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn stream(blocks: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{blocks}")
}

fn event(seq: u64) -> String {
    format!("id: {seq}\nevent: told\ndata: {{\"seq\":{seq},\"text\":\"fact {seq}\"}}\n\n")
}

#[tokio::test]
async fn answers_are_read_and_unknown_fields_are_not_in_the_way() {
    let (client, asked) = scripted(&[
        Some(&ok(r#"{"version":"9.9","of_a_later_version":[1]}"#)),
        Some(&ok(r#"[{"name":"web","instance":2,"state":"ready"}]"#)),
        Some(&ok(r#"{"level":"debug"}"#)),
    ]);
    assert_eq!(client.info().await.unwrap().version, "9.9");
    assert_eq!(client.services(&["web".into(), "a b@2".into()]).await.unwrap()[0].id(), "web@2");
    assert_eq!(client.log_level("debug").await.unwrap(), "debug");
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0], "GET /v1/info HTTP/1.1");
    assert_eq!(asked[1], "GET /v1/services?name=web&name=a%20b%402 HTTP/1.1");
    assert_eq!(asked[2], "POST /v1/log-level HTTP/1.1");
}

#[tokio::test]
async fn nobody_there_is_its_own_error() {
    let (client, _) = scripted(&[]);
    assert!(matches!(client.info().await, Err(Error::NotRunning(_))));
    let denied = Client::new(|| async { Err::<DuplexStream, _>(io::ErrorKind::PermissionDenied.into()) });
    assert!(matches!(denied.info().await, Err(Error::Unreachable(_))));
}

#[tokio::test]
async fn a_refusal_is_told_as_it_was_said() {
    let (client, _) = scripted(&[Some(&refused("not_running"))]);
    let Err(Error::Refused(problem)) = client.reload(true).await else { panic!("not refused") };
    assert_eq!((problem.code.as_str(), problem.hint.as_deref()), ("not_running", Some("because")));
}

#[tokio::test(start_paused = true)]
async fn questions_are_asked_again_and_commands_are_not() {
    let (client, asked) = scripted(&[None, Some(&refused("busy")), Some(&ok("{}"))]);
    assert!(client.info().await.is_ok());
    assert_eq!(asked.lock().unwrap().len(), 3);

    let (client, asked) = scripted(&[None, Some(&ok("{}"))]);
    assert!(matches!(client.command(&wire::CommandRequest::default()).await, Err(Error::Broken(_))));
    assert_eq!(asked.lock().unwrap().len(), 1);

    let (client, _) = scripted(&[Some(&ok("not json")), Some(&ok("not json")), Some(&ok("not json"))]);
    assert!(matches!(client.info().await, Err(Error::Broken(_))));
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_behind_what_it_had_and_ends_with_the_guardian() {
    let first = stream(&format!("id: 4\n\n{}{}id: 7\ndata: {{\"cut\":", event(5), event(6)));
    let second = stream(&event(7));
    let (client, asked) = scripted(&[Some(&first), None, Some(&refused("busy")), Some(&second)]);
    let query =
        EventQuery { since: Some("2026-07-01T00:00:00Z".into()), limit: Some(3), ..EventQuery::default() };
    let mut events = client.events_follow(query).await.unwrap();
    let mut seen = Vec::new();
    while let Some(e) = events.next().await.unwrap() {
        seen.push(e.seq);
    }
    assert_eq!(seen, [5, 6, 7]);
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0], "GET /v1/events?since=2026-07-01T00%3A00%3A00Z&limit=3&follow=true HTTP/1.1");
    assert_eq!(asked[3], "GET /v1/events?after=6&follow=true HTTP/1.1");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_broke_before_its_first_event_knows_its_position() {
    let (client, asked) = scripted(&[Some(&stream("id: 4\n\n")), Some(&stream(&event(5)))]);
    let mut events = client.events_follow(EventQuery::default()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().seq, 5);
    assert_eq!(asked.lock().unwrap()[1], "GET /v1/events?after=4&follow=true HTTP/1.1");
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_go_on_with_the_next_guardian() {
    let by =
        |pid: u32, answer: String| answer.replacen("\r\n", &format!("\r\nkeepwell-guardian: {pid}\r\n"), 1);
    let answers =
        [by(7, stream(&event(5))), by(7, stream(&event(6))), by(8, stream(&event(7))), by(8, ok("{}"))];
    let (client, asked) = scripted(&answers.each_ref().map(|a| Some(a.as_str())));
    let mut events = client.events_follow(EventQuery::default()).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().seq, 5);
    assert_eq!(events.next().await.unwrap().unwrap().seq, 6);
    assert!(events.next().await.unwrap().is_none());
    assert_eq!(asked.lock().unwrap().len(), 3);
    // Who is not bound takes any answer.
    assert!(client.info().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_a_stream() {
    let (client, _) = scripted(&[Some(&stream(&event(5))), Some(&refused("forbidden"))]);
    let mut events = client.events_follow(EventQuery::default()).await.unwrap();
    assert!(events.next().await.unwrap().is_some());
    assert!(matches!(events.next().await, Err(Error::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn lines_are_not_shown_twice() {
    let line = "event: line\ndata: {\"service\":\"web\",\"line\":\"hello\"}\n\n";
    let (client, asked) = scripted(&[Some(&stream(line)), Some(&stream(line))]);
    let query = LogQuery { services: vec!["web".into()], lines: Some(5), since: None };
    let mut lines = client.logs_follow(query).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().line, "hello");
    assert_eq!(lines.next().await.unwrap().unwrap().service, "web");
    assert!(lines.next().await.unwrap().is_none());
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0], "GET /v1/logs?service=web&lines=5&follow=true HTTP/1.1");
    assert_eq!(asked[1], "GET /v1/logs?service=web&lines=0&follow=true HTTP/1.1");
}
