//! What an answer must hold, and what a request says.

use super::*;

fn asking(address: SocketAddr, ask: HttpAsk) -> Check {
    Check::http(HttpAsk { url: format!("http://{address}/"), ..ask }).unwrap()
}

async fn answering_with(body: &str) -> SocketAddr {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    answering(Box::leak(answer.into_boxed_str())).await
}

#[test]
fn a_pattern_may_be_asked_for_in_a_small_body_and_in_a_large_one() {
    run(async {
        let pattern = |p: &str| HttpAsk { pattern: Some(p.to_owned()), ..HttpAsk::default() };
        for pad in [0, 100 << 10] {
            let address = answering_with(&format!("{}\nworkers: 12\n", "x".repeat(pad))).await;
            let good = asking(address, pattern("(?m)^workers: [1-9][0-9]*$"));
            assert_eq!(attempt(&good, LONG).await, Outcome::Pass);
            let bad = attempt(&asking(address, pattern("workers: 0")), LONG).await;
            assert_eq!(failed(&bad), "answered 200 OK, and nothing in it matches `workers: 0`");
        }
    });
}

#[test]
fn values_in_json_may_be_asked_for() {
    run(async {
        let json = |pointer: &str, value| {
            let json = vec![(pointer.into(), value)];
            HttpAsk { json, ..HttpAsk::default() }
        };
        let text = |text: &str| JsonValue::Text(text.into());
        let body = r#"{"status":"degraded","db":[{"up":true,"errors":0}],"a/b":{"~":1.5}}"#;
        let address = answering_with(body).await;
        for (pointer, value, outcome) in [
            ("/status", text("degraded"), None),
            ("/db/0/up", JsonValue::Bool(true), None),
            ("/db/0/errors", JsonValue::Number(0), None),
            ("/status", text("ok"), Some("and \"/status\" is \"degraded\", not \"ok\"")),
            ("/db/0/up", JsonValue::Bool(false), Some("and \"/db/0/up\" is true, not false")),
            ("/db/0/up", text("true"), Some("and \"/db/0/up\" is true, not \"true\"")),
            ("/a~1b/~0", JsonValue::Number(1), Some("and \"/a~1b/~0\" is 1.5, not 1")),
            ("/db/1/up", JsonValue::Bool(true), Some("without \"/db/1/up\"")),
        ] {
            let answered = attempt(&asking(address, json(pointer, value)), LONG).await;
            let expected = outcome.map(|words| format!("answered 200 OK, {words}"));
            match expected {
                None => assert_eq!(answered, Outcome::Pass, "{pointer}"),
                Some(words) => assert_eq!(failed(&answered), words),
            }
        }
        let plain = answering_with("ok").await;
        let answered = attempt(&asking(plain, json("/status", text("ok"))), LONG).await;
        assert_eq!(failed(&answered), "answered 200 OK, but not in JSON");
        let huge =
            answering_with(&format!("{{\"status\":\"ok\",\"pad\":\"{}\"}}", "x".repeat(300 << 10))).await;
        let answered = attempt(&asking(huge, json("/status", text("ok"))), LONG).await;
        assert_eq!(failed(&answered), "answered 200 OK, in more than 256 KiB, which are not read");
    });
}

#[test]
fn a_body_is_sent_with_its_length_and_nothing_prints_what_is_secret() {
    run(async {
        let (heard, mut requests) = mpsc::channel(1);
        let address = serve("127.0.0.1:0", move |mut stream| {
            let heard = heard.clone();
            async move {
                let mut asked = Vec::new();
                while !asked.ends_with(b"}") {
                    assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0, "it ended early");
                }
                heard.send(String::from_utf8(asked).unwrap()).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let check = asking(
            address,
            HttpAsk {
                method: Method::Post,
                headers: vec![("Authorization".to_owned(), Secret::new("Bearer s3cret"))],
                send: Some(Secret::new("{\"key\":\"abc\"}")),
                ..HttpAsk::default()
            },
        );
        let shown = format!("{check:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("abc"), "{shown}");
        assert_eq!(attempt(&check, LONG).await, Outcome::Pass);
        let head = requests.recv().await.unwrap();
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-length: 13\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: Bearer s3cret\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n{\"key\":\"abc\"}"), "{head}");
    });
}
