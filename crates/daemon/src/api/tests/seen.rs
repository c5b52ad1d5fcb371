//! What is served to this host.

use keepwell_core::ServiceId;
use keepwell_core::seen::Standing;

use super::*;

pub(super) fn standing(name: &str) -> Result<Vec<Standing>, wire::Problem> {
    let one = |id: &str, usable, words: &str| Standing {
        id: ServiceId::new(id, 1),
        usable,
        words: words.to_owned(),
    };
    match name {
        "db" => Ok(vec![one("db", true, "db is ready")]),
        "web" => Ok(vec![one("web", true, "web is ready"), one("web", false, "web@2 is backing off")]),
        other => Err(unknown(other)),
    }
}

/// One request; the whole answer.
async fn ask(world: &World, request: &str) -> String {
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    tokio::spawn(connection::serve_router(theirs, super::super::seen::router(Arc::clone(&world.state))));
    ours.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(world: &World, path: &str) -> (u16, String) {
    request(world, "GET", path, "localhost:9750").await
}

async fn request(world: &World, method: &str, path: &str, host: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = ask(world, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    assert!(head.contains("cross-origin-resource-policy: same-origin"), "{head}");
    assert!(!head.contains("access-control"), "no page of another origin may read it: {head}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn load_balancers_hear_whether_all_instances_can_be_used() {
    let world = World::new();
    assert_eq!(get(&world, "/ready/db").await, (200, "ready\n".into()));
    assert_eq!(get(&world, "/ready/web").await, (503, "web@2 is backing off\n".into()));
    let (code, text) = get(&world, "/ready/nobody").await;
    assert_eq!(code, 404);
    assert!(text.contains("nobody"), "{text}");
    assert_eq!(request(&world, "HEAD", "/ready/db", "localhost").await, (200, String::new()));
    assert_eq!(request(&world, "HEAD", "/ready/web", "localhost").await, (503, String::new()));
}

#[tokio::test]
async fn health_is_keepwells_own() {
    let world = World::new();
    let (code, text) = get(&world, "/health").await;
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &body["status"], &body["services"], &body["ready"]),
        (200, &"ok".into(), &2.into(), &1.into())
    );
}

#[tokio::test]
async fn an_engine_that_takes_nothing_is_not_healthy() {
    let (sender, inbox) = sync_channel(1);
    drop(inbox);
    let world = World::with_engine(EngineHandle::new(sender, Waiter::new().unwrap().waker()), 8);
    let (code, text) = get(&world, "/health").await;
    assert_eq!(code, 503);
    assert!(text.contains("\"busy\""), "{text}");
    assert_eq!(get(&world, "/ready/db").await.0, 503);
    assert_eq!(get(&world, "/metrics").await.0, 503);
}

#[tokio::test]
async fn names_that_were_made_to_mean_this_host_are_refused() {
    let world = World::new();
    for host in ["evil.example:9750", "192.168.1.7:9750", "localhost.evil.example"] {
        for path in ["/health", "/ready/db", "/metrics", "/"] {
            let (code, body) = request(&world, "GET", path, host).await;
            assert_eq!(code, 403, "{host} {path}");
            assert!(!body.contains("keepwell_build_info"));
        }
    }
    assert_eq!(request(&world, "GET", "/ready/db", "[::1]:9750").await.0, 200);
    let without = ask(&world, "GET /ready/db HTTP/1.0\r\n\r\n").await;
    assert!(without.starts_with("HTTP/1.0 200"), "{without}");
}

#[tokio::test]
async fn it_only_tells() {
    let world = World::new();
    for path in ["/health", "/ready/db", "/metrics"] {
        assert_eq!(request(&world, "POST", path, "localhost").await.0, 405, "{path}");
    }
    assert_eq!(get(&world, "/v1/info").await.0, 404, "the API is on the socket");
}

#[tokio::test]
async fn the_page_comes_in_the_form_that_was_asked_for() {
    let world = World::new();
    let plain = ask(&world, "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{plain}");
    assert!(plain.contains("keepwell_build_info{"), "{plain}");
    assert!(!plain.contains("# EOF"));
    let accept = "accept: application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1";
    let open = ask(
        &world,
        &format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\n{accept}\r\nconnection: close\r\n\r\n"),
    )
    .await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.ends_with("# EOF\n"), "{open}");
}
