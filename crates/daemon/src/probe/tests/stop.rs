//! Requests that ask a program to stop.

use super::*;

async fn asked(method: Method, url: &str) -> Result<(), String> {
    StopRequest::new(HttpAsk { url: url.to_owned(), method, ..HttpAsk::default() }).unwrap().send(LONG).await
}

#[test]
fn the_status_says_whether_it_will_stop() {
    run(async {
        for (answer, outcome) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Ok(())),
            ("HTTP/1.1 202 Accepted\r\n\r\n", Ok(())),
            ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", Err("answered 302 Found")),
            ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", Err("answered 403 Forbidden")),
            ("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", Err("answered 500 Internal Server Error")),
            // It is gone before it says so.
            ("", Ok(())),
            ("HTTP/1.1 20", Ok(())),
        ] {
            let address = answering(answer).await;
            let outcome = outcome.map_err(ToOwned::to_owned);
            assert_eq!(asked(Method::Post, &format!("http://{address}/stop")).await, outcome, "{answer}");
        }
    });
}

#[test]
fn the_method_and_the_query_are_sent_and_what_fails_does_not_tell_them() {
    run(async {
        let (heard, mut requests) = mpsc::channel(1);
        let address = serve("127.0.0.1:0", move |mut stream| {
            let heard = heard.clone();
            async move {
                heard.send(read_head(&mut stream).await).await.unwrap();
                stream.write_all(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        })
        .await;
        let refused = asked(Method::Put, &format!("http://{address}/stop?token=s3cret")).await.unwrap_err();
        let head = requests.recv().await.unwrap().to_lowercase();
        assert!(head.starts_with("put /stop?token=s3cret http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ncontent-length: 0\r\n"), "{head}");
        assert_eq!(refused, "answered 401 Unauthorized");

        let (_held, port) = closed_port();
        let nobody = asked(Method::Post, &format!("http://127.0.0.1:{port}/stop?token=s3cret")).await;
        assert_eq!(nobody, Err(format!("connection refused by 127.0.0.1:{port}")));
    });
}

#[test]
fn an_answer_reaches_the_engine_and_silence_does_not() {
    let runtime = background();
    let (engine, inbox, _waiter) = engine(4);
    let prober = Prober::new(runtime.handle.clone(), engine);
    let (ended, mut given_up) = mpsc::channel(1);
    let silent = runtime.handle.block_on(serve("127.0.0.1:0", move |mut stream| {
        let ended = ended.clone();
        async move {
            read_head(&mut stream).await;
            while stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
            ended.send(()).await.unwrap();
        }
    }));
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let good = runtime.handle.block_on(answering(good));
    let request = |address| {
        let (url, method) = (format!("http://{address}/stop"), Method::Post);
        StopRequest::new(HttpAsk { url, method, ..HttpAsk::default() }).unwrap()
    };
    prober.ask_to_stop(RunId(1), 1, request(silent), SHORT);
    runtime.handle.block_on(given_up.recv()).unwrap();
    assert!(inbox.try_recv().is_err(), "the core's own clock says that its step is over");
    prober.ask_to_stop(RunId(1), 2, request(good), LONG);
    let Message::Input(Input::AskedToStop { run, step, outcome }) = inbox.recv_timeout(LONG).unwrap() else {
        panic!("another message");
    };
    assert_eq!((run, step, outcome), (RunId(1), 2, Ok(())));
}
